"""Three systems of potential outcomes: known truths, honest predictions, and what they say when they cannot be made."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.result import to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from cqox_assets.synthesis import counterfactual_systems as module
from cqox_assets.synthesis.counterfactual_systems import counterfactual_systems

SYSTEMS = ("linear", "nonlinear", "machine_learned")


@cache
def drawn(design, n=2000, seed=20240117):
    study, truth = DESIGNS[design](n, seed)
    return study, truth, shared_nuisance(study)


@cache
def found(design, n=2000, seed=20240117):
    study, _, nuisance = drawn(design, n, seed)
    return counterfactual_systems(study, nuisance)


@pytest.mark.parametrize(
    "design",
    ["randomised_trial", "confounded_linear", "confounded_smooth", "confounded_step", "null_effect", "weighted_sample",
     "clustered_trial"],
)  # fmt: skip
def test_every_system_finds_the_known_effect(design):
    _, truth, _ = drawn(design)
    result = found(design)
    for row in result.tables["ates"].itertuples():
        assert abs(row.ate - truth["ATE"]) < 4 * row.std_error, row
        assert row.low < row.ate < row.high
    consensus = result.content["consensus"][0]
    assert consensus["low"] < truth["ATE"] < consensus["high"]
    assert consensus["range"] == pytest.approx(np.ptp(result.tables["ates"]["ate"]))


def test_several_arms_stay_several():
    _, truth, _ = drawn("three_arms")
    rows = found("three_arms").tables["ates"]
    assert list(rows["contrast"].unique()) == ["low - none", "high - none"]
    for arm in ("low", "high"):
        own = rows[rows["contrast"] == f"{arm} - none"]
        assert set(own["system"]) == set(SYSTEMS)
        assert (abs(own["ate"] - truth[f"ATE[{arm}]"]) < 4 * own["std_error"]).all()


def test_weights_say_whom_the_average_is_about():
    study, _, _ = drawn("weighted_sample")
    plain = replace(study, roles={role: names for role, names in study.roles.items() if role != Role.WEIGHT})
    without = counterfactual_systems(plain, shared_nuisance(plain)).content["consensus"][0]["consensus"]
    assert without == pytest.approx(1.3, abs=0.15)
    assert found("weighted_sample").content["consensus"][0]["consensus"] == pytest.approx(1.0, abs=0.15)


def test_clusters_widen_the_interval():
    study, _, _ = drawn("clustered_trial")
    plain = replace(study, roles={role: names for role, names in study.roles.items() if role != Role.CLUSTER})
    narrow = counterfactual_systems(plain, shared_nuisance(plain)).tables["ates"]["std_error"]
    assert (found("clustered_trial").tables["ates"]["std_error"] > 1.3 * narrow).all()


def curved(n=3000, seed=3):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, 3))
    d = (generator.random(n) < 0.5).astype(float)
    y = x[:, 0] ** 2 + 2 * x[:, 1] * x[:, 2] + d + 0.5 * generator.standard_normal(n)
    frame = pd.DataFrame(x, columns=list("abc")).assign(d=d, y=y)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("a", "b", "c")}
    return Study(frame, roles, arms=("no", "yes"))


def test_fit_says_which_system_suits_the_data():
    study = curved()
    result = counterfactual_systems(study, shared_nuisance(study))
    fit = result.tables["fit"].set_index(["system", "arm"])
    assert fit.loc[("linear", "both"), "r2"] < 0.05
    assert fit.loc[("nonlinear", "both"), "r2"] > 0.9
    assert 0.5 < fit.loc[("machine_learned", "both"), "r2"] < fit.loc[("nonlinear", "both"), "r2"]
    assert fit.loc[("nonlinear", "both"), "rmse"] == pytest.approx(0.5, abs=0.05)
    assert fit.loc[("nonlinear", "yes"), "calibration_slope"] == pytest.approx(1, abs=0.05)
    straight = found("confounded_linear").tables["fit"].set_index(["system", "arm"])["r2"]
    assert straight[("linear", "both")] == max(straight[(system, "both")] for system in SYSTEMS)


def test_the_consensus_follows_the_system_that_predicts_best():
    study = curved()
    result = counterfactual_systems(study, shared_nuisance(study))
    weights = (
        result.tables["parameters"].query("parameter == 'weight in the consensus, yes'").set_index("system")["value"]
    )
    assert weights.sum() == pytest.approx(1)
    assert weights["nonlinear"] > 0.9
    ates = result.tables["ates"].set_index("system")
    consensus = result.content["consensus"][0]
    assert abs(consensus["consensus"] - ates.loc["nonlinear", "ate"]) < 0.02
    assert consensus["std_error"] < 0.3 * ates.loc["linear", "std_error"]


def test_fit_numbers_are_those_of_the_predictions():
    result = found("confounded_smooth")
    units, fit = result.tables["unit_counterfactuals"], result.tables["fit"].set_index(["system", "arm"])
    one = units[units["treated"] == 1]
    error = one["observed"] - one["linear_compared"]
    assert fit.loc[("linear", "treated"), "rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    variation = one["observed"] - one["observed"].mean()
    assert fit.loc[("linear", "treated"), "r2"] == pytest.approx(1 - (error**2).sum() / (variation**2).sum())
    slope, intercept = np.polyfit(one["linear_compared"], one["observed"], 1)
    assert fit.loc[("linear", "treated"), "calibration_slope"] == pytest.approx(slope)
    assert fit.loc[("linear", "treated"), "calibration_intercept"] == pytest.approx(intercept)


def test_nobody_is_predicted_from_their_own_outcome():
    study, _, nuisance = drawn("confounded_smooth")
    fold = nuisance.predictions["treated"]["fold"].to_numpy()
    moved = study.with_column("y", study.column(Role.OUTCOME) + 100.0 * (fold == 2), Role.OUTCOME)
    before = found("confounded_smooth").tables["unit_counterfactuals"]
    after = counterfactual_systems(moved, nuisance).tables["unit_counterfactuals"]
    for name in [f"{system}_{arm}" for system in SYSTEMS for arm in ("reference", "compared")]:
        if name.startswith("nonlinear"):
            continue  # its one penalty is chosen by all folds' errors
        assert after.loc[fold == 2, name].to_numpy() == pytest.approx(before.loc[fold == 2, name].to_numpy(), abs=1e-6)
        assert (after.loc[fold != 2, name] - before.loc[fold != 2, name]).abs().median() > 1


def test_neither_units_nor_the_order_of_rows_change_what_is_said():
    study, _, _ = drawn("confounded_smooth")
    scaled = study.with_column("y", 50 + 1000 * study.column(Role.OUTCOME), Role.OUTCOME)
    before, after = found("confounded_smooth"), counterfactual_systems(scaled, shared_nuisance(scaled))
    assert after.tables["ates"]["ate"].to_numpy() == pytest.approx(
        1000 * before.tables["ates"]["ate"].to_numpy(), rel=1e-4
    )
    assert after.content["consensus"][0]["range_in_sd"] == pytest.approx(
        before.content["consensus"][0]["range_in_sd"], abs=1e-4
    )
    turned = study.take(np.arange(len(study))[::-1])
    other = counterfactual_systems(turned, shared_nuisance(turned))
    assert other.tables["ates"]["ate"].to_numpy() == pytest.approx(before.tables["ates"]["ate"].to_numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("width", "expected"), [(0.0, "high"), (0.049, "high"), (0.051, "moderate"), (0.099, "moderate"), (0.101, "low")]
)
def test_the_class_follows_the_range_in_standard_deviations(width, expected):
    study, _, nuisance = drawn("confounded_linear")
    contrast = next(iter(module.contrasts_of(study, nuisance)))
    data = module.Data.of(study)
    data = replace(data, y=(data.y - data.y.mean()) / data.y.std() * 7.0)
    systems = module.Systems(contrast, data, {}, ())
    rows = [{"ate": 1 + 7.0 * value, "plug_in": 1 + 14.0 * value} for value in (0.0, width / 2, width)]
    told = module._agreement(systems, module.Effect("ATE", "treated - control", 1.0, 0.1), rows, "")
    assert told["range_in_sd"] == pytest.approx(width)
    assert told["plug_in_range_in_sd"] == pytest.approx(2 * width)
    assert told["high"] - 1 == pytest.approx(1.96 * np.hypot(0.1, 7.0 * width), rel=1e-4)
    assert told["robustness"] == expected
    assert expected in told["sentence"]


def test_units_know_their_rows_and_systems():
    study, _, _ = drawn("three_arms")
    units = found("three_arms").tables["unit_counterfactuals"]
    shares = found("three_arms").tables["parameters"].set_index(["contrast", "system", "parameter"])["value"]
    for label, code in (("low - none", 1), ("high - none", 2)):
        own = units[units["contrast"] == label]
        assert own["observed"].to_numpy() == pytest.approx(study.column(Role.OUTCOME)[own["row"]])
        assert set(study.column(Role.TREATMENT)[own["row"]]) == {0, code}
        effects = np.column_stack([own[f"{name}_compared"] - own[f"{name}_reference"] for name in SYSTEMS])
        mixed = 0.0
        for arm, side, sign in ((label.split(" - ")[0], "compared", 1), ("none", "reference", -1)):
            for name in SYSTEMS:
                mixed = (
                    mixed + sign * shares.loc[(label, name, f"weight in the consensus, {arm}")] * own[f"{name}_{side}"]
                )
        assert own["effect"].to_numpy() == pytest.approx(mixed.to_numpy())
        assert own["effect_low"].to_numpy() == pytest.approx(effects.min(axis=1))


def test_distributions_add_up_and_find_the_potential_outcomes():
    result = found("confounded_smooth", 4000)
    densities = result.tables["densities"]
    totals = densities.groupby(["quantity", "system", "arm"])["share"].sum()
    assert totals.to_numpy() == pytest.approx(1.0)
    rows = result.tables["quantiles"]
    outcome = rows[rows["quantity"] == "outcome"].set_index("arm")
    # Weighted to the whole population, the means of the arms differ by the ATE, 1.25; as observed by far more.
    assert outcome.loc["treated", "mean"] - outcome.loc["control", "mean"] == pytest.approx(1.25, abs=0.15)
    effects = rows[rows["quantity"] == "effect"].set_index("system")
    assert effects.loc["nonlinear", "mean"] == pytest.approx(
        result.tables["ates"].set_index("system").loc["nonlinear", "plug_in"]
    )
    assert effects.loc["nonlinear", "q05"] < effects.loc["nonlinear", "q50"] < effects.loc["nonlinear", "q95"]


def test_strong_confounding_without_overlap_is_not_called_robust():
    study, _, nuisance = drawn("no_overlap", 1500)
    result = counterfactual_systems(study, nuisance)
    assert result.computed
    assert any("bounds" in notice for notice in result.content["notices"])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda study: replace(study, arms=()), "continuous"),
        (lambda study: replace(study, roles={**study.roles, Role.OUTCOME: ()}), "outcome"),
        (lambda study: replace(study, roles={**study.roles, Role.COVARIATES: ()}), "covariates"),
        (lambda study: replace(study, roles={**study.roles, Role.TREATMENT: ()}, arms=()), "treatment"),
    ],
    ids=["continuous treatment", "no outcome", "no covariates", "no treatment"],
)
def test_a_study_without_the_roles_says_why(change, word):
    study = change(drawn("confounded_linear")[0])
    result = counterfactual_systems(study, shared_nuisance(study))
    assert not result.computed
    assert word in result.reason
    assert result.remedy
    assert not result.tables
    assert result.provenance["fingerprint"] == study.fingerprint


def test_an_arm_of_few_rows_or_one_cluster_says_why():
    study, _, nuisance = drawn("confounded_linear")
    treated = np.flatnonzero(study.column(Role.TREATMENT) == 1)
    few = study.take(np.concatenate([np.flatnonzero(study.column(Role.TREATMENT) == 0), treated[:6]]))
    held = replace(nuisance, predictions={"treated": nuisance.predictions["treated"].iloc[: len(few)]})
    assert "6 rows" in counterfactual_systems(few, held).reason
    alone = study.with_column("one", np.zeros(len(study)), Role.CLUSTER)
    assert "cluster" in counterfactual_systems(alone, nuisance).reason


def test_models_of_another_study_are_not_used():
    study, _, nuisance = drawn("confounded_linear")
    result = counterfactual_systems(study.take(np.arange(1000)), nuisance)
    assert "do not cover" in result.reason


def test_a_failure_of_the_models_is_named():
    from cqox_assets.result import Failure

    result = counterfactual_systems(drawn("confounded_linear")[0], Failure("nuisance_models", "ValueError: x", ""))
    assert "ValueError" in result.reason


@pytest.mark.parametrize("outcome", ["constant", "two values"])
def test_outcomes_that_hardly_vary_give_numbers_that_exist(outcome):
    study, _, _ = drawn("randomised_trial")
    y = study.column(Role.OUTCOME)
    study = study.with_column(
        "y", np.full(len(y), 3.0) if outcome == "constant" else (y > 0).astype(float), Role.OUTCOME
    )
    result = counterfactual_systems(study, shared_nuisance(study))
    assert result.computed, result.reason
    to_text(result.content)
    if outcome == "constant":
        assert result.content["robustness"] == "high"
        assert result.tables["ates"]["ate"].to_numpy() == pytest.approx(0, abs=1e-9)


def test_a_design_that_does_not_rest_on_covariates_is_told():
    study, _, nuisance = drawn("confounded_linear")
    declared = study.declaration.model_copy(update={"design": "cutoff"})
    result = counterfactual_systems(replace(study, declaration=declared), nuisance)
    assert any("cutoff" in notice for notice in result.content["notices"])


def test_ten_thousand_rows_take_less_than_one_and_a_half_seconds_of_processor():
    import time

    study, _, nuisance = drawn("confounded_smooth", 10_000)
    started = time.process_time()
    assert counterfactual_systems(study, nuisance).computed
    assert time.process_time() - started < 1.5


def test_findings_are_stored_and_read_back(tmp_path):
    from upath import UPath

    from cqox_assets.results import _BY_KIND
    from cqox_resources import store

    result = found("three_arms")
    codec = next(codec for codec in _BY_KIND.values() if codec.accepts(result))
    store.save(UPath(tmp_path / "found"), codec.encode(result))
    back = store.load(UPath(tmp_path / "found"), _BY_KIND)
    assert back.content["sentence"] == result.content["sentence"]
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(back.tables[name], table, check_dtype=False, check_categorical=False)
