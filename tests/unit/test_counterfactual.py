"""Three counterfactual systems: simulated truths, weights and clusters, arms, and studies that do not allow them."""

import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.declaration import Declaration
from cqox_assets.errors import ContractError
from cqox_assets.nuisance.models import Data, fit_nuisance, importance
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.numerics.resample import drawn_residuals
from cqox_assets.numerics.spline import SplineBasis
from cqox_assets.numerics.systems import SYSTEMS, polynomial_basis, potential_means
from cqox_assets.result import Failure, Findings, Nuisance, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.counterfactual import counterfactual_systems, robustness_class
from cqox_assets.synthesis.distributions import weighted_quantiles


def systems_of(design: str, n: int = 2000, seed: int = 3) -> tuple[Findings, dict]:
    study, truth = DESIGNS[design](n, seed)
    return counterfactual_systems(study, shared_nuisance(study)), dict(truth)


@pytest.mark.parametrize(
    "design", ["randomised_trial", "confounded_linear", "weighted_sample", "clustered_trial", "null_effect"]
)
def test_every_system_finds_the_average_effect(design):
    found, truth = systems_of(design)
    (contrast,) = found.content["contrasts"]
    assert [row["system"] for row in contrast["systems"]] == list(SYSTEMS)
    for row in (*contrast["systems"], contrast["consensus"]):
        assert abs(row["estimate"] - truth["ATE"]) < 4 * row["std_error"]
        assert row["low"] < row["estimate"] < row["high"]
    assert contrast["robustness"] in ("high", "moderate")


def test_without_its_weights_the_sample_would_say_something_else():
    study, truth = DESIGNS["weighted_sample"](4000, 3)
    bare = replace(study, roles={role: names for role, names in study.roles.items() if role is not Role.WEIGHT})
    values = [counterfactual_systems(item).content["contrasts"][0]["consensus"]["estimate"] for item in (study, bare)]
    assert abs(values[0] - truth["ATE"]) < 0.12
    assert values[1] > truth["ATE"] + 0.2


def test_clusters_widen_the_interval_and_stay_in_one_fold():
    study, _ = DESIGNS["clustered_trial"](2000, 3)
    bare = replace(study, roles={role: names for role, names in study.roles.items() if role is not Role.CLUSTER})
    errors = [counterfactual_systems(item).content["contrasts"][0]["systems"][0]["std_error"] for item in (study, bare)]
    assert errors[0] > 1.5 * errors[1]


def test_units_have_both_outcomes_and_the_effects_follow_the_truth():
    study, _ = DESIGNS["confounded_smooth"](4000, 5)
    found = counterfactual_systems(study)
    units, frame = found.tables["units"], study.frame
    truth = 1 + 0.5 * frame["x0"] + 0.5 * (frame["x6"] > 0)
    assert list(units["row"]) == list(range(4000))
    for name in SYSTEMS:
        effect = units[f"{name}_compared"] - units[f"{name}_reference"]
        np.testing.assert_allclose(effect, units[f"{name}_effect"], atol=1e-4)
        assert np.corrcoef(effect, truth)[0, 1] > 0.6
    fit = found.tables["fit"].set_index("system")
    assert fit.loc["nonlinear", "r2"] > fit.loc["linear", "r2"] + 0.02  # the truth has squares and a product
    assert fit.loc["linear", "calibration_slope"] == pytest.approx(1, abs=0.05)


def test_fit_quality_is_that_of_rows_the_models_never_saw():
    """Noise: in sample a forest would explain most of it; out of fold none."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(400, 5)), columns=list("abcde")).assign(
        d=np.arange(400) % 2.0, y=rng.normal(size=400)
    )
    study = Study(
        frame, {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: tuple("abcde")}, arms=("no", "yes")
    )
    found = counterfactual_systems(study)
    assert (found.tables["fit"]["r2"] < 0.05).all()
    assert (found.tables["fit"]["rmse"] > 0.9).all()


def test_systems_that_differ_are_called_so():
    classes = {name: systems_of(name)[0].content["contrasts"][0] for name in ("randomised_trial", "no_overlap")}
    assert classes["randomised_trial"]["robustness"] == "high"
    assert classes["no_overlap"]["robustness"] == "low"
    assert "find out which of them fits" in classes["no_overlap"]["sentence"]


def test_consensus_spread_and_class_are_what_the_method_says():
    found, _ = systems_of("confounded_step")
    (contrast,) = found.content["contrasts"]
    estimates = [row["estimate"] for row in contrast["systems"]]
    six = [*estimates, *(row["plug_in"] for row in contrast["systems"])]
    assert contrast["range"] == pytest.approx(max(six) - min(six))
    assert contrast["spread"] == pytest.approx(np.std(six, ddof=1))
    assert contrast["robustness"] == robustness_class(contrast["range"] / contrast["outcome_sd"])
    consensus = contrast["consensus"]
    assert min(estimates) <= consensus["estimate"] <= max(estimates)
    assert consensus["std_error"] > max(estimates) - min(estimates)
    assert consensus["high"] - consensus["estimate"] == pytest.approx(1.959964 * consensus["std_error"])


def test_the_consensus_follows_the_system_that_predicts_best_arm_by_arm():
    """Outcomes are in steps, so the forest predicts best; each arm's mixture beats every system on unseen rows."""
    study, _ = DESIGNS["confounded_step"](3000, 3)
    found = counterfactual_systems(study)
    units, y = found.tables["units"], study.column(Role.OUTCOME)
    weights = found.content["contrasts"][0]["consensus"]["weights"]
    for code, (arm, side) in enumerate((("control", "reference"), ("treated", "compared"))):
        own, inside = weights[arm], units["treated"].to_numpy() == code
        assert sum(own.values()) == pytest.approx(1)
        assert own["machine_learned"] > 0.8
        mixed = sum(weight * units[f"{name}_{side}"] for name, weight in own.items())
        errors = {name: ((y - units[f"{name}_{side}"])[inside] ** 2).mean() for name in own}
        assert ((y - mixed)[inside] ** 2).mean() <= min(errors.values()) * (1 + 1e-6)


def test_the_interval_of_the_consensus_holds_the_truth_where_two_systems_have_the_wrong_form():
    inside = 0
    for seed in range(12):
        study, truth = DESIGNS["confounded_step"](800, seed)
        consensus = counterfactual_systems(study).content["contrasts"][0]["consensus"]
        inside += consensus["low"] < truth["ATE"] < consensus["high"]
    assert inside >= 10


@pytest.mark.parametrize(
    ("size", "name"),
    [(0.0, "high"), (0.049, "high"), (0.05, "moderate"), (0.099, "moderate"), (0.1, "low"), (9, "low")],
)
def test_classes_change_at_five_and_ten_hundredths(size, name):
    assert robustness_class(size) == name


def test_three_arms_are_two_contrasts_with_their_own_rows():
    found, truth = systems_of("three_arms", 3000)
    assert [row["arm"] for row in found.content["contrasts"]] == ["low", "high"]
    for row in found.content["contrasts"]:
        assert abs(row["consensus"]["estimate"] - truth[f"ATE[{row['arm']}]"]) < 4 * row["consensus"]["std_error"]
    study, _ = DESIGNS["three_arms"](3000, 3)
    for code, arm in ((1, "low"), (2, "high")):
        part = found.tables["units"].loc[found.tables["units"]["arm"] == arm]
        arms = study.frame["d"].to_numpy()[part["row"]]
        np.testing.assert_array_equal(part["treated"], arms == code)
        assert set(arms) == {0, code}


def test_numbers_do_not_depend_on_the_order_of_rows_and_follow_the_unit():
    study, _ = DESIGNS["confounded_smooth"](800, 5)
    order = np.random.default_rng(1).permutation(800)
    scaled = replace(study, frame=study.frame.assign(y=1000 - 50 * study.frame["y"]))
    first, second, third = (
        counterfactual_systems(item).content["contrasts"][0] for item in (study, study.take(order), scaled)
    )
    for mine, other, big in zip(first["systems"], second["systems"], third["systems"], strict=True):
        assert mine["estimate"] == pytest.approx(other["estimate"], rel=1e-6)
        assert big["estimate"] == pytest.approx(-50 * mine["estimate"], rel=1e-4)
    assert third["range_in_sd"] == pytest.approx(first["range_in_sd"], rel=1e-3)


def test_the_polynomial_is_of_degree_two_and_holds_the_linear_columns_first():
    x = np.random.default_rng(2).normal(size=(200, 3)).clip(-2, 2)
    x[:, 2] = x[:, 2] > 0
    basis, linear = polynomial_basis(x, np.array([1.0, 2.0, 3.0]))
    assert isinstance(basis, SplineBasis)
    assert set(basis.pairs) == {(0, 0), (1, 1), (0, 1), (0, 2), (1, 2)}  # the square of a coin is the coin
    columns = basis.columns(x)
    assert columns.shape == (200, linear + 5)
    target = 2 + x[:, 0] - 3 * x[:, 0] * x[:, 1] + x[:, 1] ** 2
    fitted = columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
    np.testing.assert_allclose(fitted, target, atol=1e-8)


def test_linear_predictions_are_least_squares_without_the_fold():
    study, _ = DESIGNS["confounded_linear"](600, 1)
    data = Data.of(study)
    fold = data.content_folds(5, 0)
    name, m0, m1 = next(iter(potential_means(data.folded(fold), data.y, data.d, importance(data.x, data.y, data.d))))
    assert name == "linear"
    design = np.column_stack([np.ones(600), data.x])
    for arm, predicted in ((0, m0), (1, m1)):
        train, held = (fold != 2) & (data.d == arm), fold == 2
        coef = np.linalg.lstsq(design[train], data.y[train], rcond=None)[0]
        np.testing.assert_allclose(predicted[held], design[held] @ coef, atol=1e-6)


def test_drawn_residuals_keep_their_distribution():
    residual = np.array([-1.0, 0.0, 5.0])
    drawn = drawn_residuals(residual, np.array([1.0, 2.0, 1.0]), 4000)
    assert [np.mean(drawn == value) for value in residual] == [0.25, 0.5, 0.25]


def test_quantiles_are_weighted():
    values, weight = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    assert weighted_quantiles(values, weight, (0.25, 0.5, 0.75, 1.0)) == [1.0, 1.0, 2.0, 3.0]


def bad(change):
    study, _ = DESIGNS["confounded_linear"](300, 2)
    return change(study)


def without(role):
    return lambda study: replace(study, roles={name: held for name, held in study.roles.items() if name is not role})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (without(Role.OUTCOME), "missing_role"),
        (without(Role.COVARIATES), "missing_role"),
        (without(Role.TREATMENT), "treatment_kind"),
        (lambda study: replace(study, arms=()), "treatment_kind"),
        (lambda study: study.take(np.flatnonzero(study.frame["d"] == 0)), "empty_fold_arm"),
        (
            lambda study: study.take(
                np.r_[np.flatnonzero(study.frame["d"] == 0), np.flatnonzero(study.frame["d"] == 1)[:1]]
            ),
            "empty_fold_arm",
        ),
    ],
    ids=["no outcome", "no covariates", "no treatment", "a dose", "one arm", "one treated row"],
)
def test_a_study_that_does_not_allow_it_says_why(change, code):
    found = counterfactual_systems(bad(change))
    assert not found.computed
    assert found.content["code"] == code
    assert found.content["reason"]
    assert found.content["remedy"]
    assert not found.tables


def test_a_constant_outcome_says_so():
    found = counterfactual_systems(bad(lambda study: replace(study, frame=study.frame.assign(y=3.0))))
    assert "same in every row" in found.content["reason"]


def test_a_bug_in_the_nuisance_models_is_said_and_stale_ones_are_not_used():
    study, _ = DESIGNS["confounded_linear"](300, 2)
    assert (
        "report the bug"
        in counterfactual_systems(study, Failure("nuisance_models", "KeyError: 'x'", "")).content["remedy"]
    )
    other = fit_nuisance(study.take(np.arange(200)))
    assert counterfactual_systems(study, other).content["code"] == "nuisance_stale"


def test_no_number_is_infinite_and_a_binary_outcome_keeps_its_range():
    study, _ = DESIGNS["confounded_linear"](500, 2)
    study = replace(study, frame=study.frame.assign(y=(study.frame["y"] > 0).astype(float)))
    found = counterfactual_systems(study)
    json.loads(to_text(found.to_json()))
    assert set(found.tables["outcome_distributions"]["of"]) == {"predicted chances"}
    units = found.tables["units"]
    assert units[["machine_learned_reference", "nonlinear_compared"]].to_numpy().min() >= 0
    for table in found.tables.values():
        assert np.isfinite(table.select_dtypes("number").to_numpy(dtype=float)).all()


def test_another_design_than_unconfoundedness_is_said():
    study, _ = DESIGNS["confounded_linear"](300, 2)
    found = counterfactual_systems(replace(study, declaration=Declaration(design="instrument")))
    assert any("declared design is instrument" in text for text in found.content["notices"])


def test_findings_check_themselves():
    with pytest.raises(ContractError, match="status"):
        Findings({})
    with pytest.raises(ContractError, match="remedy"):
        Findings({"status": "not_computed", "code": "x", "reason": "y"})


def test_ten_thousand_rows_take_less_than_a_second_and_a_half():
    study, _ = DESIGNS["confounded_smooth"](10_000, 5)
    held = shared_nuisance(study)
    assert isinstance(held, Nuisance)
    counterfactual_systems(study.take(np.arange(500)))  # imports
    started = time.process_time()
    assert counterfactual_systems(study, held).computed
    assert time.process_time() - started < 1.5
