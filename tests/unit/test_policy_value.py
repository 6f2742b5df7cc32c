"""What a policy is worth: by hand, against known truths, in every state of the money settings."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Declaration, read_declaration
from cqox_assets.nuisance.models import fit_nuisance
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.result import Failure, Refusal, to_text
from cqox_assets.runner import run_guarded
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import CommonParams, Context
from cqox_assets.study import Role
from cqox_assets.synthesis.money import amount, currency_code
from cqox_assets.synthesis.policy_value import policy_value

MONEY = {"value_per_unit": 100, "cost_per_treatment": 20, "currency": "EUR"}


@cache
def drawn(design="targeted_benefit", n=3000, seed=11):
    study, truth = DESIGNS[design](n, seed)
    return study, truth, shared_nuisance(study)


@cache
def ranked(design="targeted_benefit", n=3000, seed=11, estimator="dr_learner"):
    study, _, nuisance = drawn(design, n, seed)
    return {estimator: run_guarded(load_estimators()[estimator], study, {}, Context(nuisance=nuisance))}


def declared(study, money=None, **facts):
    return replace(study, declaration=read_declaration({"money": money or {}, **facts}))


def in_order():
    """Return units from the largest predicted effect down; equal ones share their scores, as they share treatment."""
    units = ranked()["dr_learner"].tables["unit_effects"].sort_values("effect", ascending=False)
    return units.assign(score=units.groupby("effect")["score"].transform("mean"))


def valued(design="targeted_benefit", money=None, n=3000, study=None, estimates=None, **facts):
    own, _, nuisance = drawn(design, n)
    found = policy_value(
        declared(own if study is None else study, money, **facts),
        ranked(design, n) if estimates is None else estimates,
        nuisance,
    )
    assert found.computed, found.reason
    to_text(found.content)
    return found


def row(found, place=0):
    return found.content["contrasts"][place]


def policies(found):
    return found.tables["policies"].set_index("policy")


def test_everybody_is_worth_the_average_effect_less_the_costs():
    found = valued(money=MONEY)
    score = ranked()["dr_learner"].tables["unit_effects"]["score"].to_numpy()
    everybody = policies(found).loc["everybody"]
    assert everybody["net_benefit"] == pytest.approx((100 * score - 20).sum())
    assert everybody["std_error"] == pytest.approx(100 * np.sqrt(len(score)) * score.std())
    assert everybody["spend"] == pytest.approx(20 * len(score))
    assert row(found)["average_effect"] == pytest.approx(ranked()["dr_learner"].estimate)
    assert row(found)["break_even_effect"] == pytest.approx(0.2)
    assert row(found)["break_even_cost"] == pytest.approx(100 * score.mean())
    assert policies(found).loc["nobody", "net_benefit"] == 0


def test_the_curve_is_the_sum_of_scores_of_those_with_the_largest_predictions():
    found = valued(money=MONEY)
    units = in_order()
    for share in (0.1, 0.5, 0.9):
        first = units.head(round(share * len(units)))
        line = found.tables["curve"].set_index("share").loc[share]
        assert line["net_benefit"] == pytest.approx((100 * first["score"] - 20).sum())
        assert line["predicted"] == pytest.approx((100 * first["effect"] - 20).sum())
        assert line["spend"] == pytest.approx(20 * len(first))


def test_the_best_share_and_its_value_are_the_known_ones():
    """Those with x0 > 0 and x1 > -0.5, 35% of all, gain 1; all others lose 0.6."""
    found = valued(money=MONEY)
    _, truth, _ = drawn()
    share = truth["best"] - 1
    best = row(found)
    assert best["coverage"] == pytest.approx(share, abs=0.05)
    expected = (100 * share - 20 * share) * 3000
    assert abs(best["net_benefit"] - expected) < 4 * best["std_error"]
    assert best["low"] > 0
    assert best["everybody_high"] < 0
    tree = policies(found).loc["tree of depth 2"]
    assert abs(tree["net_benefit"] - expected) < 4 * tree["std_error"]
    leaves = found.tables["tree_leaves"].query("depth == 2 and arm == 'treated'")
    assert leaves["share"].sum() == pytest.approx(share, abs=0.05)
    assert policies(found).loc["tree of depth 1", "net_benefit"] < tree["net_benefit"]


def test_a_budget_stops_the_ranking_and_its_shadow_price_is_what_more_money_would_be_predicted_to_bring():
    budget, step = 6_000.0, 1.0
    found, more = (valued(money={**MONEY, "budget": budget + extra}) for extra in (0.0, step))
    assert row(found)["stopped_by"] == "budget"
    assert row(found)["spend"] == pytest.approx(budget)
    assert row(found)["treated"] == pytest.approx(300)
    units = in_order()
    marginal = units["effect"].iloc[300]
    assert row(found)["shadow_price"] == pytest.approx((100 * marginal - 20) / 20)
    gained = (row(more)["spend"] - row(found)["spend"]) / 20 * (100 * units["score"].iloc[300] - 20)
    assert row(more)["net_benefit"] - row(found)["net_benefit"] == pytest.approx(gained)
    assert policies(found).loc["recommended without the budget", "net_benefit"] > row(found)["net_benefit"]
    assert not policies(found).loc["everybody", "affordable"]
    assert policies(found).loc["recommended", "affordable"]


def test_the_grid_is_the_curve_cut_by_the_budget():
    found = valued(money={**MONEY, "budget": 7_777.0})
    grid, curve = found.tables["grid"], found.tables["curve"].set_index("share")
    assert set(grid["coverage"]) == set(curve.index)
    assert 7_777.0 in set(grid["budget"])
    assert (grid["spend"] <= grid["budget"] + 1e-6).all()
    assert (grid["treated_share"] <= grid["coverage"] + 1e-9).all()
    free = grid[grid["binds"] == "share"]
    assert (free["shadow_price"] == 0).all()
    assert free["net_benefit"].to_numpy() == pytest.approx(curve.loc[free["coverage"], "net_benefit"].to_numpy())
    bound = grid[grid["binds"] == "budget"]
    assert bound["spend"].to_numpy() == pytest.approx(bound["budget"].to_numpy())
    assert grid.groupby("coverage")["budget"].nunique().eq(22).all()


@pytest.mark.parametrize(
    ("money", "kind", "words"),
    [
        ({}, "outcome", ("value_per_unit", "cost_per_treatment")),
        ({"value_per_unit": 100}, "gross", ("cost_per_treatment", "currency")),
        ({"value_per_unit": 100, "currency": "USD"}, "gross", ("cost_per_treatment",)),
        ({"cost_per_treatment": 20, "currency": "USD"}, "outcome", ("value_per_unit", "budget")),
        (MONEY, "net", ("budget",)),
        ({**MONEY, "budget": 100}, "net", ()),
    ],
)
def test_what_is_not_set_is_named_and_nothing_is_invented(money, kind, words):
    found = valued(money=money)
    assert found.content["kind"] == kind
    said = " ".join(found.content["missing"])
    settings = ("value_per_unit", "cost_per_treatment", "budget", "currency")
    assert {name for name in settings if f"money: {name}" in said} == set(words)
    known = "cost_per_treatment" in money
    assert (row(found)["spend"] is not None) == known
    assert (len(found.tables["grid"]) > 0) == known
    assert (row(found)["break_even_effect"] is not None) == (kind == "net")
    if kind == "outcome":
        score = ranked()["dr_learner"].tables["unit_effects"]["score"]
        assert policies(found).loc["everybody", "net_benefit"] == pytest.approx(score.sum())
        assert "units of the outcome" in found.content["sentence"]


def test_without_a_value_a_budget_still_buys_the_most_outcome():
    found = valued(money={"cost_per_treatment": 20, "budget": 2_000})
    assert row(found)["treated"] == pytest.approx(100)
    units = in_order()
    assert row(found)["net_benefit"] == pytest.approx(units["score"].head(100).sum())
    assert row(found)["shadow_price"] == pytest.approx(units["effect"].iloc[100] / 20)


def test_a_treatment_that_costs_nothing_is_given_to_all_who_gain():
    found = valued(money={**MONEY, "cost_per_treatment": 0, "budget": 0})
    assert row(found)["stopped_by"] == "benefit"
    assert row(found)["shadow_price"] == 0
    assert row(found)["break_even_effect"] == 0
    effect = ranked()["dr_learner"].tables["unit_effects"]["effect"]
    assert row(found)["coverage"] == pytest.approx((effect > 0).mean())
    assert any("costs nothing" in notice for notice in found.content["notices"])


def test_no_budget_at_all_pays_for_nobody():
    found = valued(money={**MONEY, "budget": 0})
    assert (row(found)["coverage"], row(found)["net_benefit"]) == (0, 0)
    assert "the budget pays for nobody" in found.content["sentence"]
    assert row(found)["shadow_price"] > 0


def test_an_outcome_of_no_value_pays_for_nobody():
    found = valued(money={**MONEY, "value_per_unit": 0})
    assert row(found)["coverage"] == 0
    assert row(found)["break_even_effect"] is None
    assert "nobody is predicted to bring more than they cost" in found.content["sentence"]


def test_lower_is_better_turns_every_sign_but_those_of_the_outcome():
    study, _, nuisance = drawn()
    turned = study.with_column("y", -study.column(Role.OUTCOME), Role.OUTCOME)
    estimates = {"dr_learner": run_guarded(load_estimators()["dr_learner"], turned, {}, Context())}
    mirrored = policy_value(declared(turned, MONEY, direction="lower_is_better"), estimates, shared_nuisance(turned))
    upright = valued(money=MONEY)
    assert nuisance is not None
    for name in ("coverage", "net_benefit", "low", "high"):
        assert row(mirrored)[name] == pytest.approx(row(upright)[name], rel=1e-6)
    for name in ("break_even_effect", "average_effect"):
        assert row(mirrored)[name] == pytest.approx(-row(upright)[name], rel=1e-6)


def with_costs(n=3000, quote=None):
    """Add costs: 5 + 2 x3 in the reference arm, 30 + 10 x3 more for the treated."""
    study, _, _ = drawn(n=n)
    generator = np.random.default_rng(5)
    x, d = study.matrix(), study.column(Role.TREATMENT)
    spent = 5 + 2 * x[:, 3] + d * (30 + 10 * x[:, 3]) + generator.standard_normal(n)
    return study.with_column("spent", spent if quote is None else quote, Role.COST)


def test_a_cost_column_gives_every_unit_its_own_cost():
    found = valued(money={**MONEY, "budget": 9_000}, study=with_costs())
    assert row(found)["mean_cost"] == pytest.approx(30, abs=0.5)
    assert row(found)["spend"] == pytest.approx(9_000)
    assert row(found)["treated"] > 1.2 * 9_000 / 30  # cheap units are bought first
    assert found.content["cost_per_treatment"] is None
    everybody = policies(found).loc["everybody", "net_benefit"]
    score = ranked()["dr_learner"].tables["unit_effects"]["score"]
    assert everybody == pytest.approx(100 * score.sum() - 30 * 3000, abs=3000)
    assert any("spent" in notice for notice in found.content["notices"])


def test_missing_costs_are_predicted_and_counted():
    spent = with_costs().column(Role.COST)
    spent[::10] = np.nan
    found = valued(money=MONEY, study=with_costs(quote=spent))
    assert row(found)["mean_cost"] == pytest.approx(30, abs=0.5)
    assert any("missing in 300 rows" in notice for notice in found.content["notices"])


def test_treatment_that_saves_costs_is_free_where_a_budget_is_spent():
    study = drawn()[0]
    study = study.with_column("spent", -7.0 * study.column(Role.TREATMENT), Role.COST)
    found = valued(money={**MONEY, "budget": 0}, study=study)
    assert row(found)["coverage"] > 0.2
    assert row(found)["spend"] == 0
    assert any("save costs" in notice for notice in found.content["notices"])


def grouped():
    study, _, _ = drawn()
    names = np.where(study.matrix()[:, 0] > 0, "north", "south").astype(object)
    names[:7] = None
    return study.with_column("region", names, Role.SUBGROUP)


def test_fairness_by_hand():
    found = valued(money=MONEY, study=grouped())
    units = ranked()["dr_learner"].tables["unit_effects"].sort_values("row")
    treated = (100 * units["effect"].to_numpy() > 20).astype(float)
    gain = 100 * units["score"].to_numpy() - 20
    region = grouped().frame["region"].fillna("(missing)").to_numpy()
    table = found.tables["fairness"].set_index("group")
    assert set(table.index) == {"north", "south", "(missing)"}
    for name in table.index:
        inside = region == name
        assert table.loc[name, "treated_share"] == pytest.approx(treated[inside].mean())
        assert table.loc[name, "benefit"] == pytest.approx((treated * gain)[inside].mean())
        assert table.loc[name, "rows"] == inside.sum()
    shares = {name: treated[region == name].mean() for name in table.index}
    gaps = found.tables["fairness_gaps"].set_index("measure")
    assert gaps.loc["treated share", "gap"] == pytest.approx(max(shares.values()) - min(shares.values()))
    assert gaps.loc["treated share", "most"] == max(shares, key=shares.get)
    benefit = gaps.loc["benefit"]
    assert benefit["gap"] == pytest.approx(table["benefit"].max() - table["benefit"].min())
    inside = {name: region == name for name in (benefit["most"], benefit["least"])}
    error = np.sqrt(sum((treated * gain)[rows].var() / rows.sum() for rows in inside.values()))
    assert (benefit["high"] - benefit["low"]) / 2 == pytest.approx(2.394 * error, rel=1e-3)  # three pairs
    assert "By region" in found.content["sentence"]


def test_segments_by_hand():
    found = valued(money=MONEY, study=grouped())
    score = ranked()["dr_learner"].tables["unit_effects"].sort_values("row")["score"].to_numpy()
    table = found.tables["segments"]
    region = table[table["by"] == "region"].set_index("segment")
    inside = grouped().frame["region"].to_numpy() == "north"
    assert region.loc["north", "effect"] == pytest.approx(score[inside].mean())
    assert region.loc["north", "net_benefit"] == pytest.approx(100 * score[inside].mean() - 20)
    assert region.loc["north", "share"] == pytest.approx(inside.mean())
    assert region.loc["(missing)", "recommendation"] == "too few rows"
    assert pd.isna(region.loc["(missing)", "net_benefit"])
    assert region.loc["south", "recommendation"] == "do not treat"
    fifths = table[table["by"] == "predicted effect"]
    assert fifths["share"].to_numpy() == pytest.approx(0.2, abs=0.01)
    assert fifths["recommendation"].iloc[0] == "treat"
    assert fifths["recommendation"].iloc[-1] == "do not treat"
    assert fifths["treated_share"].iloc[0] == 1


def test_several_arms_are_contrasts_with_their_own_ranking():
    found = valued("three_arms", money=MONEY)
    assert [item["contrast"] for item in found.content["contrasts"]] == ["low - none", "high - none"]
    assert found.content["best_contrast"] == "high - none"
    for place, effect in ((0, 0.5), (1, 1.0)):
        own = row(found, place)
        size = (own["everybody_high"] - own["everybody_low"]) / 2 / 1.96
        treated = found.tables["policies"].query("policy == 'everybody'")["treated"].iloc[place]
        assert abs(own["everybody"] - (100 * effect - 20) * treated) < 4 * size
    assert any("whole budget" in notice for notice in found.content["notices"])


def test_weights_and_clusters_are_honoured():
    found = valued("weighted_sample", money=MONEY)
    own = row(found)
    assert abs(own["average_effect"] - 1.0) < 4 * (own["effect_high"] - own["effect_low"]) / 3.92
    assert policies(found).loc["everybody", "treated"] == pytest.approx(3000)
    plain = ranked("clustered_trial")
    clustered = row(valued("clustered_trial", money=MONEY))
    study = drawn("clustered_trial")[0]
    loose = replace(study, roles={role: names for role, names in study.roles.items() if role != Role.CLUSTER})
    narrow = policy_value(declared(loose, MONEY), plain, drawn("clustered_trial")[2]).content["contrasts"][0]
    assert clustered["everybody_high"] - clustered["everybody_low"] > 1.3 * (
        narrow["everybody_high"] - narrow["everybody_low"]
    )


@pytest.mark.parametrize("design", ["null_trial", "randomised_trial"])
def test_intervals_at_every_share_hold_the_truth(design):
    """Over 60 draws 95% intervals for the first half, and for everybody, hold what those chosen really gain."""
    inside = {0.5: 0, 1.0: 0}
    for seed in range(60):
        study, _ = DESIGNS[design](500, seed)
        nuisance = fit_nuisance(study, CommonParams(nuisance="linear"))
        found = policy_value(study, {}, nuisance)
        held, x = nuisance.predictions["treated"], study.matrix()
        effect = 1 + 0.5 * x[:, 0] if design == "randomised_trial" else np.zeros(len(x))
        order = np.argsort(-(held["best_compared"] - held["best_reference"]).to_numpy(), kind="stable")
        curve = found.tables["curve"].set_index("share")
        for share in inside:
            truth = effect[order[: round(share * 500)]].sum()
            inside[share] += curve.loc[share, "low"] <= truth <= curve.loc[share, "high"]
    assert min(inside.values()) >= 51, inside  # fewer happen twice in a thousand times if 95% hold


def test_with_no_estimator_the_shared_models_rank():
    found = valued(estimates={}, money=MONEY)
    assert row(found)["ranked_by"] == "nuisance_models"
    assert any("no estimator gave unit effects" in notice for notice in found.content["notices"])
    refused = {"dr_learner": Refusal("dr_learner", "x", "no", "none"), "x_learner": Failure("x_learner", "bug", "")}
    assert row(valued(estimates=refused, money=MONEY)) == row(found)


def test_effects_that_saw_their_own_outcome_do_not_choose():
    study, _, nuisance = drawn()
    own = run_guarded(
        load_estimators()["dr_learner"], study, {"cross_fit": False, "learner": "random_forest"},
        Context(nuisance=nuisance),
    )  # fmt: skip
    assert row(valued(estimates={"dr_learner": own}, money=MONEY))["ranked_by"] == "nuisance_models"


def test_a_study_that_cannot_be_valued_says_why():
    study, _, nuisance = drawn()
    refusal = Refusal("nuisance_models", "perfect_separation", "the arms do not overlap", "leave out x0")
    found = policy_value(study, {}, refusal)
    assert (found.status, found.reason, found.remedy) == ("not_computed", "the arms do not overlap", "leave out x0")
    continuous = policy_value(replace(study, arms=()), {}, nuisance)
    assert "continuous" in continuous.reason
    alone = study.with_column("one", np.zeros(len(study)), Role.CLUSTER)
    assert "cluster" in policy_value(alone, ranked(), nuisance).reason
    assert "no nuisance models" in policy_value(study, ranked(), None).reason


def test_equal_predictions_for_all_are_one_segment_and_treat_all_or_nobody():
    study, _, nuisance = drawn()
    flat = nuisance.predictions["treated"].assign(best_compared=1.0, best_reference=0.0)
    found = policy_value(declared(study, MONEY), {}, replace(nuisance, predictions={"treated": flat}))
    assert row(found)["coverage"] == 1
    assert len(found.tables["segments"]) == 1
    half = found.tables["curve"].set_index("share").loc[0.5]
    assert half["net_benefit"] == pytest.approx(policies(found).loc["everybody", "net_benefit"] / 2)


def test_a_tree_asks_nothing_where_there_is_nothing_to_ask():
    study, _, nuisance = drawn()
    found = policy_value(replace(study, roles={**study.roles, Role.COVARIATES: ()}), ranked(), nuisance)
    assert not len(found.tables["tree_leaves"])
    assert "tree of depth 1" not in set(found.tables["policies"]["policy"])


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (1794.4, "JPY", "¥1,794"), (-1234.5, "EUR", "-€1,234.50"), (0.005, "USD", "US$0.01"), (12, "CHF", "CHF 12.00"),
        (1234567.89, "EUR", "€1,234,568"), (5.5, "", "5.50"), (1.5, "KWD", "KWD 1.500"), (-0.2, "JPY", "¥0"),
        (float("inf"), "EUR", "∞"), (float("-inf"), "", "-∞"),
    ],
)  # fmt: skip
def test_amounts_are_written_as_the_currency_is(value, currency, text):
    assert amount(value, currency) == text


@pytest.mark.parametrize(("text", "code"), [("円", "JPY"), ("eur", "EUR"), (" $ ", "USD"), (None, ""), ("chf", "CHF")])
def test_currencies_are_known_by_code_or_symbol(text, code):
    assert currency_code(text) == code


def test_yen_have_no_decimals_in_what_is_said():
    found = valued(money={"value_per_unit": 0.25, "cost_per_treatment": 0.03, "currency": "円"})
    assert found.content["currency"] == "JPY"
    assert "¥" in found.content["sentence"]
    assert "." not in found.content["sentence"].split(": ", 1)[1].split("; ", 1)[0]


def test_the_domain_profile_supplies_what_the_declaration_leaves_open():
    from cqox_assets.declaration import Money
    from cqox_assets.mapping.domains import DomainProfile
    from cqox_assets.mapping.prepare import prepare

    study, _, nuisance = drawn()
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x0", "x1", "x2", "x3"]}
    profile = DomainProfile(name="clinic", money=Money(value_per_unit=50, cost_per_treatment=9, currency="EUR"))
    stated = Declaration(money=Money(value_per_unit=100))
    own = prepare(study.frame, roles, declaration=stated, domain=profile)
    found = policy_value(own, {}, shared_nuisance(own))
    assert nuisance is not None
    assert (found.content["value_per_unit"], found.content["cost_per_treatment"]) == (100, 9)
    assert found.content["currency"] == "EUR"


def test_no_shipped_domain_invents_money():
    from cqox_assets.mapping.domains import load_domains

    for profile in load_domains().values():
        assert not profile.money.model_dump(exclude_none=True), profile.name
