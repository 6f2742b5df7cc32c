"""What double machine learning promises of continuous treatments, of panels and of repeated cross-fitting."""

from dataclasses import replace

import numpy as np
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.unit_effects import (
    LongPanel,
    UnitEffectsError,
    correlated_random_effects,
    first_difference,
    varies_within,
    within,
)
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, numbers, replaced, run, small, without

DML = load_estimators()["double_ml"]
OLS = load_estimators()["ols"]
EFFECTS = ("first_difference", "within", "correlated_random_effects")


def refused(study: Study, **values: object) -> Refusal:
    outcome = run(DML, study, **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.remedy
    return outcome


def test_slope_of_a_continuous_treatment() -> None:
    study = small("linear_dose", 3000)
    outcome = answer(DML, study)
    line = answer(OLS, study)
    assert (outcome.estimand, outcome.headline.contrast) == (line.estimand, line.headline.contrast)
    assert outcome.std_error is not None
    assert abs(outcome.estimate - 0.5) < 3 * outcome.std_error
    assert outcome.std_error < (line.std_error or 0)
    assert "propensity" not in outcome.tables
    overlap = outcome.diagnostic("overlap")
    assert overlap is not None
    assert overlap.status is Status.NOT_RUN
    assert not overlap.applies


def test_linear_learners_are_residual_regression() -> None:
    study = small("linear_dose", 400)
    outcome = answer(DML, study, outcome_learner="ols", treatment_learner="ols", folds_by="index_mod", se="influence")
    x = np.column_stack([np.ones(400), study.matrix()])
    y, d, fold = study.column(Role.OUTCOME), study.column(Role.TREATMENT), np.arange(400) % 5
    u, v = np.empty(400), np.empty(400)
    for k in range(5):
        for target, rest in ((y, u), (d, v)):
            coef = np.linalg.lstsq(x[fold != k], target[fold != k], rcond=None)[0]
            rest[fold == k] = target[fold == k] - x[fold == k] @ coef
    theta = v @ u / (v @ v)
    psi = v * (u - v * theta) / np.mean(v**2)
    assert outcome.estimate == pytest.approx(theta)
    assert outcome.std_error == pytest.approx(np.sqrt(np.mean(psi**2) / 400))
    table = outcome.tables["residuals"].sort_values("row")
    assert np.allclose(table["treatment"], v)
    assert np.allclose(table["outcome"], u)


@pytest.mark.parametrize("learner", ["stack", "linear", "spline", "boosting", "random_forest"])
def test_learners_are_offered(learner: str) -> None:
    sizes = {"n_estimators": 20, "min_samples_leaf": 5}
    values = {"learner_params": {"outcome_learner": sizes, "treatment_learner": sizes}} if "forest" in learner else {}
    outcome = answer(DML, small("linear_dose", 800), nuisance=learner, **values)
    assert abs(outcome.estimate - 0.5) < 0.3


def test_repeats_take_the_median_with_the_spread() -> None:
    study, values = small("linear_dose", 600), {"nuisance": "spline"}
    alone = [answer(DML, study, seed=seed, **values) for seed in range(3)]
    points = np.array([item.estimate for item in alone])
    errors = np.array([item.std_error for item in alone], dtype=float)
    assert len(set(points)) == 3
    together = answer(DML, study, repeats=3, **values)
    assert together.estimate == pytest.approx(np.median(points))
    spread = np.hypot(errors, points - np.median(points))
    assert together.std_error == pytest.approx(np.median(spread))
    assert np.allclose(together.tables["splits"]["estimate"], points)
    assert any("3 assignments of rows to folds" in notice for notice in together.notices)


def test_what_is_about_arms_is_refused_of_a_continuous_treatment() -> None:
    study = small("linear_dose")
    for values in ({"score": "irm_ate"}, {"estimand": "ATT"}):
        outcome = refused(study, **values)
        assert outcome.code == "treatment_kind"
        assert "'d' is continuous" in outcome.reason
    assert refused(small("randomised_trial"), estimand="slope").code == "treatment_kind"
    for values in ({"treatment_learner": "logit"}, {"outcome_learner": "ols_per_arm"}, {"trim": 0.1}):
        with pytest.raises(CatalogError, match=next(iter(values))):
            run(DML, study, **values)
    exact = replaced(study, Role.TREATMENT, study.frame["x0"].to_numpy() * 3 + 1)
    assert refused(exact, nuisance="linear").code == "no_variation"


@pytest.mark.parametrize("effects", EFFECTS)
def test_unit_effects_are_taken_out(effects: str) -> None:
    study = small("dosed_panel", 4000)
    pooled = answer(DML, study, unit_effects="none")
    outcome = answer(DML, study, unit_effects=effects)
    assert outcome.std_error is not None
    assert pooled.std_error is not None
    assert abs(outcome.estimate - 0.5) < 4 * outcome.std_error + (0.05 if effects == "within" else 0)
    assert abs(pooled.estimate - 0.5) > 8 * pooled.std_error
    assert effects.replace("_", " ") in outcome.inference
    assert outcome.sample.clusters == 800
    assert outcome.sample.used == (3200 if effects == "first_difference" else 4000)


def test_the_panel_is_followed_where_its_treatment_changes() -> None:
    study = small("dosed_panel", 1000)
    outcome = answer(DML, study)
    assert "first difference" in outcome.inference
    assert outcome.sample.dropped["first row of its unit"] == 200
    assert "first difference" not in answer(DML, without(study, Role.TIME)).inference
    first = study.frame.groupby("unit")["d"].transform("first").to_numpy()
    assert "first difference" not in answer(DML, replaced(study, Role.TREATMENT, first)).inference


@pytest.mark.parametrize("effects", EFFECTS)
def test_order_and_labels_of_a_panel_do_not_matter(effects: str) -> None:
    study = small("dosed_panel", 600)
    order = np.random.default_rng(1).permutation(len(study))
    named = study.take(order).frame.assign(unit=lambda f: "u" + f["unit"].astype(str))
    other = replace(study, frame=named)
    values = {"unit_effects": effects, "nuisance": "linear", "folds_by": "content"}
    assert numbers(answer(DML, study, **values)) == pytest.approx(numbers(answer(DML, other, **values)), rel=0.3)
    same = replace(study, frame=study.frame.iloc[order].reset_index(drop=True))
    assert numbers(answer(DML, same, **values)) == pytest.approx(numbers(answer(DML, study, **values)), rel=1e-9)


def test_within_is_least_squares_with_unit_dummies() -> None:
    generator = np.random.default_rng(3)
    unit = np.repeat(np.arange(30), 4)
    x, d = generator.standard_normal((120, 1)), generator.standard_normal(120)
    y = d + x[:, 0] + unit + generator.standard_normal(120)
    found = within(LongPanel(x, y, d, unit, None))
    away = np.column_stack([found.treatment, found.features[:, 0]])
    coef = np.linalg.lstsq(away, found.outcome, rcond=None)[0]
    dummies = (unit[:, None] == np.arange(30)) * 1.0
    wanted = np.linalg.lstsq(np.column_stack([d, x, dummies]), y, rcond=None)[0]
    assert coef == pytest.approx(wanted[:2])


def test_transformations_by_hand() -> None:
    unit, time = np.array([1, 0, 0, 1, 2]), np.array([2.0, 2.0, 1.0, 1.0, 1.0])
    x, d = np.array([[4.0], [2.0], [1.0], [3.0], [9.0]]), np.array([8.0, 5.0, 3.0, 7.0, 1.0])
    panel = LongPanel(x, 2 * d, d, unit, time)
    changes = first_difference(panel)
    assert changes.rows.tolist() == [1, 0]
    assert changes.treatment.tolist() == [2.0, 1.0]
    assert changes.features.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert changes.lost == 3
    both = correlated_random_effects(panel)
    assert both.rows.tolist() == [2, 1, 3, 0]
    assert both.features[:, :3].tolist() == [[1, 1.5, 4], [2, 1.5, 4], [3, 3.5, 7.5], [4, 3.5, 7.5]]
    assert varies_within(d, unit)
    assert not varies_within(unit * 1.0, unit)


def test_refusals_of_panels() -> None:
    study = small("dosed_panel", 600)
    assert refused(without(study, Role.TIME), unit_effects="first_difference").code == "missing_role"
    assert refused(without(study, Role.UNIT), unit_effects="within").code == "missing_role"
    twice = study.take(np.r_[np.arange(len(study)), 0])
    again = refused(twice)
    assert again.code == "duplicated_unit_periods"
    lone = study.take(np.arange(0, len(study), 5))
    assert refused(lone, unit_effects="within").code == "no_panel"
    steady = replaced(study, Role.TREATMENT, study.frame.groupby("unit")["d"].transform("first").to_numpy())
    assert refused(steady, unit_effects="within").code == "no_variation"
    split = replace(
        study, frame=study.frame.assign(g=np.arange(len(study)) % 7), roles={**study.roles, Role.CLUSTER: ("g",)}
    )
    assert refused(split).code == "cluster_splits_units"
    assert refused(study, score="irm_ate", unit_effects="within").code == "treatment_kind"
    with pytest.raises(UnitEffectsError):
        first_difference(LongPanel(np.ones((3, 1)), np.arange(3.0), np.arange(3.0), np.arange(3), np.ones(3)))


def test_clusters_of_units_widen_the_interval() -> None:
    study = small("dosed_panel", 2000)
    group = study.frame["unit"].to_numpy() // 20
    coarse = replace(study, frame=study.frame.assign(g=group), roles={**study.roles, Role.CLUSTER: ("g",)})
    assert answer(DML, coarse).sample.clusters == 20
    assert "t(19)" in answer(DML, coarse).headline.interval_source


def test_two_arms_in_a_panel() -> None:
    outcome = answer(DML, small("staggered_panel", 4000))
    assert outcome.estimand == "ATE"
    assert "first difference" in outcome.inference
    assert outcome.std_error is not None
    assert abs(outcome.estimate - 1) < 4 * outcome.std_error


def test_the_bootstrap_draws_units() -> None:
    study = small("dosed_panel", 500)
    drawn = answer(DML, study, inference="bootstrap", draws=30, nuisance="linear")
    analytic = answer(DML, study, nuisance="linear")
    assert "units" in drawn.inference
    assert drawn.std_error == pytest.approx(analytic.std_error, rel=0.6)


def test_it_is_planned_for_doses() -> None:
    ranked = dict(plan_methods(small("linear_dose")).ranked)
    assert "double_ml" in ranked
    assert isinstance(answer(DML, small("linear_dose")), EffectEstimate)
