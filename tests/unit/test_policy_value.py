"""The worth of policies: simulated truths, money and its absence, fairness and segments by hand, bad input."""

import json
import math
import re
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.decisions.language import in_language
from cqox_assets.decisions.net_benefit import NetBenefit, net_benefit_reasons, net_benefits
from cqox_assets.declaration import Contrast, Declaration, Money
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.result import EffectEstimate, Failure, Findings, Nuisance, Refusal, to_text
from cqox_assets.runner import run_guarded, runner_for
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.simulate.policy_designs import benefit
from cqox_assets.spec import Context
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.policy import policy_value
from cqox_assets.wording import money

YEN = Money(value_per_unit=1000, cost_per_treatment=200, currency="JPY")


def targeted(n=4000, seed=1, **declared) -> Study:
    study, _ = DESIGNS["targeted_benefit"](n, seed)
    return replace(study, declaration=Declaration(**{"direction": "higher_is_better", "money": YEN, **declared}))


def only(found: Findings) -> dict:
    assert found.computed, found.content
    (row,) = found.content["contrasts"]
    return row


def test_net_benefit_of_everybody_and_of_the_best_share_is_the_true_one():
    study = targeted(6000)
    truth = 1000 * benefit(study.frame[["x0", "x1"]].to_numpy()) - 200
    row = only(policy_value(study))
    assert row["treat_all"]["low"] < truth.sum() < row["treat_all"]["high"]
    best = truth[truth > 0].sum()
    assert 0.85 * best < row["optimal"]["net_benefit"] < 1.1 * best
    assert row["optimal"]["coverage"] == pytest.approx((truth > 0).mean(), abs=0.06)
    assert row["treat_all"]["spend"] == 200 * 6000
    units = policy_value(study).tables["units"]
    assert np.average(units["treat"]) == pytest.approx(row["optimal"]["coverage"])
    chosen = float(truth @ units["treat"])
    assert row["optimal"]["low"] < chosen < row["optimal"]["high"]


def test_the_evaluation_does_not_believe_the_ranking():
    """Nobody differs: the treated share cannot be worth more than as many taken at random."""
    covered = 0
    for seed in range(12):
        study, _ = DESIGNS["null_trial"](800, seed)
        found = policy_value(replace(study, declaration=Declaration(direction="higher_is_better")))
        row = found.tables["curve"].set_index("share").loc[0.3]
        covered += bool(row["low"] < 0 < row["high"])
    assert covered >= 10


def test_curve_grid_and_headline_agree():
    study = targeted(money=Money(value_per_unit=1000, cost_per_treatment=200, budget=160_000, currency="JPY"))
    found = policy_value(study)
    row, grid, curve = only(found), found.tables["grid"], found.tables["curve"]
    assert row["budget"]["binding"]
    assert row["optimal"]["coverage"] == pytest.approx(0.2)
    assert row["optimal"]["spend"] == pytest.approx(160_000)
    assert "the budget of ¥160,000 does not cover treating everybody" in row["sentence"]
    assert "everybody brings" not in row["sentence"]
    declared = grid[(grid["budget"] == 160_000) & (grid["coverage"] == 1.0)].iloc[0]
    assert declared["net_benefit"] == pytest.approx(row["optimal"]["net_benefit"])
    assert declared["binding"]
    assert (grid["spend"] <= grid["budget"] * (1 + 1e-9) + 1e-9).all()
    assert grid.groupby("budget")["coverage"].count().eq(21).all()
    whole = curve[curve["share"] == 1.0].iloc[0]
    assert whole["net_benefit"] == pytest.approx(row["treat_all"]["net_benefit"])
    assert curve[curve["share"] == 0.0].iloc[0]["net_benefit"] == 0
    assert row["budget"]["low"] < row["budget"]["shadow_price_estimate"] < row["budget"]["high"]
    assert row["budget"]["shadow_price"] == pytest.approx(4, abs=1.5)  # the next unit gains 1000 for 200


def test_a_budget_for_everybody_does_not_bind():
    row = only(policy_value(targeted(money=Money(value_per_unit=1000, cost_per_treatment=200, budget=1e9))))
    assert row["budget"] | {"binding": False, "shadow_price": 0.0, "affordable_coverage": 1.0} == row["budget"]
    assert "treating everybody brings" in row["sentence"]


def test_direction_turns_the_answer_round():
    study = targeted(2000)
    lower = replace(study, frame=study.frame.assign(y=-study.frame["y"]))
    lower = replace(lower, declaration=study.declaration.model_copy(update={"direction": "lower_is_better"}))
    first, second = only(policy_value(study)), only(policy_value(lower))
    assert second["optimal"]["net_benefit"] == pytest.approx(first["optimal"]["net_benefit"], rel=0.02)
    assert second["break_even"]["effect"] == -first["break_even"]["effect"] == pytest.approx(-0.2)
    wrong = replace(lower, declaration=study.declaration)
    assert only(policy_value(wrong))["optimal"]["coverage"] > first["optimal"]["coverage"] + 0.1


@pytest.mark.parametrize(
    ("settings", "measure", "missing"),
    [
        (Money(), "outcome", ["money: value_per_unit", "money: cost_per_treatment (or the role cost)"]),
        (Money(cost_per_treatment=5), "outcome", ["money: value_per_unit"]),
        (Money(value_per_unit=5), "gross_benefit", ["money: cost_per_treatment (or the role cost)", "money: currency"]),
        (Money(value_per_unit=0, cost_per_treatment=5, currency="EUR"), "outcome", ["money: value_per_unit"]),
        (Money(value_per_unit=5, cost_per_treatment=0, currency="EUR"), "net_benefit", []),
        (Money(value_per_unit=-5, cost_per_treatment=1, currency="EUR"), "net_benefit", []),
        (Money(budget=100), "outcome", ["money: value_per_unit", "money: cost_per_treatment (or the role cost)"]),
    ],
)
def test_missing_money_is_named_and_nothing_is_invented(settings, measure, missing):
    found = policy_value(targeted(800, money=settings))
    row = only(found)
    assert found.content["measure"] == measure
    assert found.content["missing"] == missing
    assert all(name in found.content["sentences"][-1] for name in missing)
    assert (len(found.tables["grid"]) > 0) == (measure == "net_benefit" and settings.cost_per_treatment > 0)
    assert (row["break_even"]["effect"] is None) == (measure != "net_benefit")
    json.loads(to_text(found.to_json()))


def test_outcome_units_are_the_effect_times_the_number_of_units():
    study = targeted(1500, money=Money())
    row = only(policy_value(study))
    scores = policy_value(
        replace(
            study,
            declaration=Declaration(direction="higher_is_better", money=Money(value_per_unit=3, cost_per_treatment=0)),
        )
    )
    assert only(scores)["treat_all"]["net_benefit"] == pytest.approx(3 * row["treat_all"]["net_benefit"])
    assert row["treat_all"]["net_benefit"] == pytest.approx(1500 * row["break_even"]["benefit"])


def test_a_zero_cost_pays_from_no_effect_on_and_no_budget_binds():
    row = only(
        policy_value(targeted(800, money=Money(value_per_unit=5, cost_per_treatment=0, budget=0, currency="EUR")))
    )
    assert row["break_even"]["effect"] == 0
    assert not row["budget"]["binding"]


def test_a_budget_without_a_cost_is_said_to_be_unusable():
    found = policy_value(targeted(800, money=Money(value_per_unit=5, budget=100, currency="EUR")))
    assert only(found)["budget"] is None
    assert any("budget cannot be used" in text for text in found.content["notices"])


def test_a_budget_without_a_value_still_limits_the_coverage():
    row = only(policy_value(targeted(800, money=Money(cost_per_treatment=2, budget=160))))
    assert row["budget"]["affordable_coverage"] == pytest.approx(0.1)
    assert row["optimal"]["spend"] == pytest.approx(160)
    assert row["budget"]["shadow_price"] is None  # gains in points cannot be set against money


def test_the_cost_column_is_what_treatment_adds_and_beats_the_declared_cost():
    study = targeted(5000, money=Money(value_per_unit=1000, cost_per_treatment=999, currency="EUR"))
    x, rng = study.frame["x3"].to_numpy(), np.random.default_rng(0)
    extra = 200 + 100 * x
    spent = 5000 + 300 * x + extra * study.frame["d"] + rng.normal(0, 50, 5000)
    found = policy_value(study.with_column("spent", spent.to_numpy(), Role.COST))
    row = only(found)
    assert found.content["settings"] | {"cost_column": "spent", "cost_per_treatment": None} == found.content["settings"]
    assert row["break_even"]["mean_cost"] == pytest.approx(200, abs=15)
    predicted = found.tables["units"]["cost"]
    assert np.corrcoef(predicted, extra)[0, 1] > 0.98
    truth = 1000 * benefit(study.frame[["x0", "x1"]].to_numpy()) - extra
    assert row["treat_all"]["low"] < truth.sum() < row["treat_all"]["high"]


def test_a_cost_column_with_holes_is_left_out_and_said():
    study = targeted(800)
    spent = np.where(np.arange(800) == 3, np.nan, 10.0)
    found = policy_value(study.with_column("spent", spent, Role.COST))
    assert found.content["settings"]["cost_per_treatment"] == 200
    assert any("missing values" in text for text in found.content["notices"])


def test_fairness_gap_by_hand():
    study = targeted(3000)
    group = np.where(study.frame["x0"] > 0, "older", "younger")
    found = policy_value(study.with_column("age group", group, Role.SUBGROUP))
    fair, units = only(found)["fairness"], found.tables["units"]
    shares = units["treat"].groupby(group).mean()
    assert fair["treated_share_gap"] == pytest.approx(shares["older"] - shares["younger"])
    assert (fair["most_treated"], fair["least_treated"], fair["column"]) == ("older", "younger", "age group")
    rows = found.tables["fairness"].set_index("group")
    assert fair["benefit_gap"] == pytest.approx(rows.loc["older", "benefit"] - rows.loc["younger", "benefit"])
    truth = 1000 * benefit(study.frame[["x0", "x1"]].to_numpy()) - 200
    given = (truth * units["treat"])[group == "older"].mean()
    assert rows.loc["older", "low"] < given < rows.loc["older", "high"]
    total = (rows["benefit"] * rows["rows"]).sum()
    assert total == pytest.approx(only(found)["optimal"]["net_benefit"])


def test_small_groups_and_no_groups_are_said():
    study = targeted(600)
    assert "subgroup" in only(policy_value(study))["fairness"]["reason"]
    tiny = study.with_column("g", np.where(np.arange(600) < 5, "few", "many"), Role.SUBGROUP)
    found = policy_value(tiny)
    assert only(found)["fairness"]["status"] == "not_computed"
    few = found.tables["segments"].query("segment == 'few'").iloc[0]
    assert few["recommendation"] == "too few rows"
    assert found.tables["fairness"].set_index("group").loc["few", "rows"] == 5


def test_policy_matrix_recommends_by_the_interval():
    found = policy_value(targeted(6000))
    rows = found.tables["segments"].set_index("segment")
    assert rows.loc["fifth 1 (lowest)", "recommendation"] == "do not treat"
    assert rows.loc["fifth 5 (highest)", "recommendation"] == "treat"
    assert rows["share"].sum() == pytest.approx(1)
    assert rows["net_benefit_total"].sum() == pytest.approx(only(found)["treat_all"]["net_benefit"])
    for row in rows.itertuples():
        said = "treat" if row.net_benefit_low > 0 else "do not treat" if row.net_benefit_high < 0 else "test further"
        assert row.recommendation == said


def test_trees_are_valued_on_rows_that_did_not_choose_them():
    study = targeted(6000)
    found = policy_value(study)
    trees = found.tables["trees"].set_index("depth")
    truth = 1000 * benefit(study.frame[["x0", "x1"]].to_numpy()) - 200
    assert list(trees.index) == [1, 2, 3]
    assert trees["recommended"].sum() == 1
    assert trees.loc[2, "low"] < truth[truth > 0].sum() * 1.02
    assert trees.loc[2, "net_benefit"] > trees.loc[1, "net_benefit"]
    assert trees["rows_judged"].max() < 6000
    leaves = found.tables["tree_leaves"].query("depth == 2")
    assert any("x0 >" in where and "x1 >" in where for where in leaves.loc[leaves["treat"], "where"])


def test_unit_effects_of_the_first_ranked_estimator_are_used_and_those_in_sample_are_not():
    from cqox_assets.catalog import load_estimators

    study = targeted(1000)
    held, specs = shared_nuisance(study), load_estimators()
    assert isinstance(held, Nuisance)
    names = ("t_learner", "dr_learner", "g_computation")
    answers = {name: run_guarded(specs[name], study, {}, runner_for(Context(nuisance=held))) for name in names}
    assert all(isinstance(item, EffectEstimate) for item in answers.values())
    for order in (("g_computation", "dr_learner", "t_learner"), ("g_computation", "t_learner", "dr_learner")):
        found = policy_value(study, held, answers, order)
        assert only(found)["effects_from"] == order[1]
        expected = answers[order[1]].tables["unit_effects"]["effect"]
        np.testing.assert_array_equal(found.tables["units"]["effect"], expected)
    seen = run_guarded(
        specs["t_learner"], study, {"cross_fit": False, "learner": "ols"}, runner_for(Context(nuisance=held))
    )
    assert only(policy_value(study, held, {"t_learner": seen}))["effects_from"] == "nuisance_models"


def test_all_estimators_refused_leaves_the_shared_scores():
    refused = {"dr_learner": Refusal("dr_learner", "x", "y", "z"), "t_learner": Failure("t_learner", "E", "")}
    study = targeted(800)
    assert only(policy_value(study, shared_nuisance(study), refused))["effects_from"] == "nuisance_models"


def test_three_arms_are_valued_one_by_one():
    study, _ = DESIGNS["three_arms"](3000, 3)
    declared = Declaration(
        direction="higher_is_better", money=Money(value_per_unit=10, cost_per_treatment=7, currency="EUR")
    )
    found = policy_value(replace(study, declaration=declared))
    low, high = found.content["contrasts"]
    assert (low["arm"], high["arm"]) == ("low", "high")
    assert low["break_even"]["pays"] != "yes"  # 5 of value for 7
    assert high["break_even"]["pays"] == "yes"  # 10 for 7
    assert set(found.tables["curve"]["arm"]) == {"low", "high"}


def test_weights_and_clusters_are_honoured():
    study, truth = DESIGNS["weighted_sample"](4000, 3)
    declared = Declaration(direction="higher_is_better", money=Money(value_per_unit=1, cost_per_treatment=0))
    row = only(policy_value(replace(study, declaration=declared)))
    assert row["treat_all"]["net_benefit"] / 4000 == pytest.approx(truth["ATE"], abs=0.15)
    study, _ = DESIGNS["clustered_trial"](2000, 3)
    bare = replace(study, roles={role: names for role, names in study.roles.items() if role is not Role.CLUSTER})
    errors = [only(policy_value(item))["treat_all"]["std_error"] for item in (study, bare)]
    assert errors[0] > 1.5 * errors[1]


def test_numbers_do_not_depend_on_the_order_of_rows():
    study = targeted(900)
    mixed = study.take(np.random.default_rng(2).permutation(900))
    first, second = only(policy_value(study)), only(policy_value(mixed))
    assert second["optimal"]["net_benefit"] == pytest.approx(first["optimal"]["net_benefit"], rel=1e-6)


def test_equal_effects_for_all_treat_all_or_none():
    """Without any difference to be seen, all units are one group."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": np.tile([0.0, 1.0], 200), "d": np.repeat([0.0, 1.0], 200)})
    frame["y"] = 2 * frame["d"] + 0.01 * rng.normal(size=400)
    study = Study(frame, {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x",)}, arms=("no", "yes"))
    study = replace(study, declaration=Declaration(direction="higher_is_better", money=YEN))
    assert only(policy_value(study))["optimal"]["coverage"] == 1.0
    dear = replace(
        study,
        declaration=Declaration(direction="higher_is_better", money=Money(value_per_unit=1, cost_per_treatment=200)),
    )
    row = only(policy_value(dear))
    assert row["optimal"]["coverage"] == 0
    assert row["optimal"]["net_benefit"] == 0
    assert "no unit is predicted to gain" in row["sentence"]


@pytest.mark.parametrize("role", [Role.OUTCOME, Role.COVARIATES, Role.TREATMENT])
def test_a_missing_role_is_a_state_with_a_remedy(role):
    study = targeted(300)
    found = policy_value(replace(study, roles={name: held for name, held in study.roles.items() if name is not role}))
    assert not found.computed
    assert found.content["reason"]
    assert found.content["remedy"]


def test_one_arm_is_a_state_with_a_remedy():
    study = targeted(300)
    found = policy_value(study.take(np.flatnonzero(study.frame["d"] == 0)))
    assert not found.computed
    assert found.content["remedy"]


def test_a_declared_contrast_and_an_instrument_design_do_no_harm():
    study = targeted(500, design="instrument", contrast=Contrast(reference="control"))
    found = policy_value(study)
    assert any("declared design is instrument" in text for text in found.content["notices"])
    assert net_benefits(found.content, "instrument") == ()
    assert len(net_benefits(found.content, None)) == 1


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1234567.8, "JPY", "¥1,234,568"),
        (-0.4, "JPY", "¥0"),
        (999.5, "EUR", "€999.50"),
        (-1234.5, "USD", "-US$1,234"),
        (1e7, "円", "10,000,000円"),
        (12.345, "CHF", "12.35 CHF"),
        (5.0, "", "5.00"),
        (-0.001, "EUR", "€0.00"),
    ],
)
def test_amounts_are_written_as_their_currency_is(amount, currency, text):
    assert money(amount, currency) == text


@pytest.mark.parametrize(
    ("ends", "allows"), [((5.0, 9.0), "GO"), ((-1.0, 9.0), "CANARY"), ((-9.0, -1.0), "HOLD"), ((0.0, 4.0), "CANARY")]
)
def test_money_allows_what_its_interval_says(ends, allows):
    item = NetBenefit("b - a", sum(ends) / 2, *ends, coverage=0.3, best_low=2.0, best=3.0, currency="EUR")
    (reason,) = net_benefit_reasons((item,), "b - a")
    assert reason.allows == allows
    assert net_benefit_reasons((item,), "c - a") == []
    assert allows == "GO" or "treating only the 30%" in reason.flips_if


def test_several_contrasts_widen_the_interval_that_money_is_judged_by():
    close = NetBenefit("b - a", 10.0, 0.2, 19.8, coverage=0.3, best_low=2.0, best=3.0, currency="EUR")
    assert [reason.allows for reason in net_benefit_reasons((close,))] == ["GO"]
    both = net_benefit_reasons((close, replace(close, contrast="c - a")), "b - a")
    assert [reason.allows for reason in both] == ["CANARY"]


@pytest.mark.parametrize(
    ("ends", "coverage", "affordable", "allows", "said"),
    [
        (
            (5.0, 9.0),
            0.3,
            0.3,
            "GO",
            "treating the 30% with the highest predicted gain (b - a) has a net benefit",
        ),
        ((-1.0, 9.0), 0.3, 0.5, "CANARY", "whether it pays is open"),
        ((-9.0, -1.0), 0.3, 0.3, "HOLD", "does not pay"),
        ((0.0, 0.0), 0.0, 0.0, "HOLD", "pays for nobody's treatment"),
        ((0.0, 0.0), 0.0, 0.4, "HOLD", "No unit is predicted to gain more"),
    ],
)
def test_under_a_budget_money_is_about_those_that_it_pays_for(ends, coverage, affordable, allows, said):
    """Treating everybody would pay, and nobody can afford it."""
    item = NetBenefit(
        "b - a", 50.0, 40.0, 60.0, coverage, ends[0], sum(ends) / 2, "EUR", ends[1], budget=10.0, affordable=affordable
    )
    (reason,) = net_benefit_reasons((item,))
    assert reason.allows == allows
    assert said in reason.sentence
    assert "€50" not in reason.sentence
    assert "Treating everybody (" not in reason.sentence
    for text in (reason.sentence, reason.flips_if):
        assert not re.search("[A-Za-z]{4}", in_language(text, "ja").replace("b - a", ""))


def test_findings_under_a_budget_carry_it_to_the_rule():
    money = Money(value_per_unit=1000, cost_per_treatment=200, currency="EUR", budget=2000 * 200 * 0.25)
    found = policy_value(targeted(2000, money=money))
    (item,) = net_benefits(found.content, "trial")
    assert item.affordable == pytest.approx(0.25, abs=0.02)
    assert (item.best_low, item.best_high) == (only(found)["optimal"]["low"], only(found)["optimal"]["high"])
    (reason,) = net_benefit_reasons((item,))
    assert "€100,000 does not cover treating everybody" in reason.sentence


def test_a_budget_of_nothing_is_said_plainly():
    row = only(policy_value(targeted(600, money=Money(value_per_unit=1000, cost_per_treatment=200, budget=0))))
    assert "the budget of 0.00 pays for nobody" in row["sentence"]
    assert "predicted gain brings" not in row["sentence"]


def test_effects_by_segment_keep_their_sign_whichever_way_is_better():
    """A treatment that lowers what should be low has a negative effect, and is worth something."""
    study = targeted(3000)
    lower = replace(study, frame=study.frame.assign(y=-study.frame["y"]))
    lower = replace(lower, declaration=study.declaration.model_copy(update={"direction": "lower_is_better"}))
    for direction, sign in ((study, 1.0), (lower, -1.0)):
        best = policy_value(direction).tables["segments"].set_index("segment").loc["fifth 5 (highest)"]
        assert sign * best["effect"] > 0
        assert best["effect_low"] < best["effect"] < best["effect_high"]
        assert best["net_benefit"] > 0


def test_few_clusters_reach_as_far_as_students_t_says():
    study = targeted(600)
    study = study.with_column("site", np.arange(600) % 6, Role.CLUSTER)
    study = study.with_column("group", np.where(study.frame["x0"] > 0, "older", "younger"), Role.SUBGROUP)
    found = policy_value(study)
    everybody = only(found)["treat_all"]
    assert everybody["high"] - everybody["net_benefit"] == pytest.approx(2.570582 * everybody["std_error"])
    curve = found.tables["curve"]
    assert (curve["high"] - curve["net_benefit"]).to_numpy() == pytest.approx(2.570582 * curve["std_error"].to_numpy())
    trees = found.tables["trees"]
    reach = (trees["high"] - trees["net_benefit"]) / trees["std_error"]
    assert (reach > 2.5).all()


def test_the_gap_between_groups_that_share_clusters_knows_that_they_vary_together():
    """Each site moves both groups alike, so their difference is known far better than either of them."""
    generator, n = np.random.default_rng(2), 1200
    site, group = np.arange(n) // 40, np.where(np.arange(n) % 2 == 0, "older", "younger")
    d = (generator.random(n) < 0.5).astype(float)
    y = d * (5 + 3 * generator.standard_normal(30)[site]) + generator.standard_normal(n)
    frame = pd.DataFrame({"x": generator.standard_normal(n), "d": d, "y": y, "site": site, "group": group})
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x",), Role.CLUSTER: ("site",),
             Role.SUBGROUP: ("group",)}  # fmt: skip
    found = policy_value(Study(frame, roles, arms=("control", "treated")))
    fair, rows = only(found)["fairness"], found.tables["fairness"].set_index("group")
    width = fair["benefit_gap_high"] - fair["benefit_gap_low"]
    assert width < 0.7 * np.hypot(*(rows["high"] - rows["low"]))
    assert fair["benefit_gap_low"] < 0 < fair["benefit_gap_high"]


def test_ten_thousand_rows_are_fast():
    study = targeted(10_000)
    held = shared_nuisance(study)
    policy_value(study.take(np.arange(500)))
    started = time.process_time()
    assert policy_value(study, held).computed
    assert time.process_time() - started < 2


def test_no_table_holds_an_infinity():
    for table in policy_value(targeted(600)).tables.values():
        for value in table.select_dtypes("number").to_numpy(dtype=float).ravel():
            assert not math.isinf(value)
