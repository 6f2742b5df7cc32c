"""What the meta-learners promise beyond the general contract, and what ranks units by predicted effects."""

import numpy as np
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.diagnostics.uplift import rank_weighted_effect, uplift_area, uplift_curve
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.result import Refusal
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role
from tests.contract.helpers import SEED, answer, replaced, run, small, without

NAMES = ("s_learner", "t_learner", "x_learner", "dr_learner")
LEARNERS = [load_estimators()[name] for name in NAMES]
each = pytest.mark.parametrize("spec", LEARNERS, ids=lambda spec: spec.name)


def unit_truth(frame) -> np.ndarray:  # type: ignore[no-untyped-def]
    return 1 + 0.5 * frame["x0"].to_numpy() + 0.5 * (frame["x6"].to_numpy() > 0)


@each
def test_unit_effects_find_the_heterogeneity(spec: EstimatorSpec) -> None:
    study = small("confounded_smooth", 4000)
    outcome, truth = answer(spec, study), unit_truth(study.frame)
    effect = outcome.tables["unit_effects"]["effect"].to_numpy()
    assert np.mean((effect - truth) ** 2) < 0.6 * truth.var()
    assert np.corrcoef(effect, truth)[0, 1] > 0.7
    assert 0.6 < outcome.diagnostic("effect_calibration").value < 1.6  # type: ignore[operator, union-attr]
    ranked = outcome.tables["rank_weighted_effects"].set_index("measure")
    assert (ranked["estimate"] > 3 * ranked["std_error"]).all()


@each
def test_the_average_is_that_of_the_doubly_robust_score(spec: EstimatorSpec) -> None:
    study = small("confounded_smooth", 1000)
    outcome = answer(spec, study)
    assert outcome.tables["unit_effects"]["score"].mean() == pytest.approx(outcome.estimate)
    aipw = answer(load_estimators()["aipw"], study)
    assert (outcome.estimate, outcome.std_error) == pytest.approx((aipw.estimate, aipw.std_error))
    table = outcome.tables["calibration"]
    assert table["rows"].sum() == len(study)
    assert table["observed"] @ table["rows"] / len(study) == pytest.approx(outcome.estimate)
    first = outcome.tables["best_linear_predictor"].iloc[0]
    assert first["estimate"] == pytest.approx(outcome.estimate)


@each
@pytest.mark.parametrize("learner", ["ols", "spline", "boosting", "random_forest"])
def test_learners_are_offered(spec: EstimatorSpec, learner: str) -> None:
    sizes = {"learner_params": {"n_estimators": 20}} if learner == "random_forest" else {}
    outcome = answer(spec, small("randomised_trial", 800), learner=learner, nuisance="linear", **sizes)
    assert np.isfinite(outcome.tables["unit_effects"]["effect"]).all()
    if learner == "ols" and spec.name != "s_learner":
        effect = outcome.tables["unit_effects"]["effect"]
        assert np.corrcoef(effect, small("randomised_trial", 800).frame["x0"])[0, 1] > 0.4


@each
def test_fitted_to_all_rows_the_mean_effect_is_standardised(spec: EstimatorSpec) -> None:
    study = small("confounded_linear", 1500)
    outcome = answer(spec, study, cross_fit=False, learner="ols", ate="mean_effect")
    wanted = answer(load_estimators()["ols" if spec.name == "s_learner" else "g_computation"], study)
    if spec.name == "dr_learner":
        assert outcome.std_error is None
        assert "no standard error" in " ".join(outcome.notices)
        return
    assert outcome.estimate == pytest.approx(wanted.estimate)
    assert outcome.std_error == pytest.approx(wanted.std_error, rel=0.02)


def test_logit_per_arm_predicts_probabilities() -> None:
    spec = load_estimators()["t_learner"]
    study = small("randomised_trial", 800)
    binary = replaced(study, Role.OUTCOME, (study.column(Role.OUTCOME) > 0).astype(float))
    values = {"learner": "logit_per_arm", "cross_fit": False}
    outcome = answer(spec, binary, ate="mean_effect", **values)
    standard = answer(load_estimators()["g_computation"], binary, outcome_model="logit_per_arm")
    assert (outcome.estimate, outcome.std_error) == pytest.approx((standard.estimate, standard.std_error))
    refused = run(spec, study, **values)
    assert isinstance(refused, Refusal)
    assert refused.code == "outcome_not_binary"


@each
def test_what_is_not_offered_is_an_error(spec: EstimatorSpec) -> None:
    study = small("randomised_trial")
    with pytest.raises(CatalogError, match="trim"):
        run(spec, study, trim=0.1)
    with pytest.raises(CatalogError, match="cross_fit"):
        run(spec, study, learner="boosting", cross_fit=False)
    if spec.name != "t_learner":
        with pytest.raises(CatalogError, match="logit_per_arm"):
            run(spec, study, learner="logit_per_arm")


@each
def test_the_plan_wants_covariates(spec: EstimatorSpec) -> None:
    plan = plan_methods(without(small("confounded_linear", 200), Role.COVARIATES))
    assert "covariates" in plan.refused[spec.name]
    names = plan_methods(small("confounded_linear", 200)).names
    assert names.index("aipw") < names.index(spec.name)


def test_uplift_curves_by_hand() -> None:
    score, y = np.array([3.0, 3.0, 2.0, 1.0]), np.array([1.0, 0.0, 1.0, 0.0])
    d = np.array([1.0, 0.0, 0.0, 1.0])
    x, gain = uplift_curve(score, y, d)
    assert x == pytest.approx([0, 2, 3, 4])
    assert gain == pytest.approx([0, 1, 1 - 1 / 2, 1 - 2 / 2])
    value, area = uplift_area(x, gain)
    assert area == pytest.approx(1 + 0.75 + 0.25)
    assert value == pytest.approx(area / 16)
    x, gain = uplift_curve(score, y, d, form="uplift")
    assert gain == pytest.approx([0, 2, (1 - 0.5) * 3, 0])
    doubled = uplift_curve(np.repeat(score, 2), np.repeat(y, 2), np.repeat(d, 2), np.full(8, 0.5))
    assert doubled[1] == pytest.approx(uplift_curve(score, y, d)[1])


@pytest.mark.parametrize("form", ["autoc", "qini"])
def test_rank_weighted_effects_have_honest_standard_errors(form: str) -> None:
    """Score = 1 + s x + noise, priority x: autoc = s E[x (-log U)] = 0.903 s, qini = s / (2 sqrt(pi)) = 0.282 s."""
    found, errors, nulls = [], [], []
    generator = np.random.default_rng(SEED)
    for _ in range(300):
        x = generator.standard_normal(500)
        noise = generator.standard_normal(500)
        value, error = rank_weighted_effect(x, 1 + 0.7 * x + noise, np.ones(500), form)
        found.append(value)
        errors.append(error)
        nulls.append(rank_weighted_effect(x, 1 + noise, np.ones(500), form))
    truth = 0.7 * (0.9032 if form == "autoc" else 0.28209)
    assert np.mean(found) == pytest.approx(truth, abs=0.02)
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)
    rejected = np.mean([abs(value) > 1.96 * error for value, error in nulls])
    assert 0.01 < rejected < 0.1
    tied, _ = rank_weighted_effect(np.zeros(50), generator.standard_normal(50), np.ones(50), form)
    assert tied == pytest.approx(0, abs=0.02)


@each
def test_without_heterogeneity_ranks_promise_nothing(spec: EstimatorSpec) -> None:
    wrong = 0
    for seed in range(SEED, SEED + 6):
        ranked = answer(spec, DESIGNS["null_effect"](1000, seed)[0]).tables["rank_weighted_effects"]
        wrong += int((ranked["estimate"].abs() > 1.96 * ranked["std_error"]).any())
    assert wrong <= 1


@each
def test_group_effects_follow_the_average_or_come_first(spec: EstimatorSpec) -> None:
    study = small("confounded_smooth", 2000)
    average, groups = (answer(spec, study, estimand=name) for name in ("ATE", "CATE"))
    assert [effect.estimand for effect in average.effects] == ["ATE", *["CATE"] * 5]
    assert [effect.estimand for effect in groups.effects] == [*["CATE"] * 5, "ATE"]
    assert groups.effects[0].at == {"group": "5 of 5 by predicted effect"}
    assert groups.effects[:5] == average.effects[1:]
    table = average.tables["calibration"]
    assert [effect.estimate for effect in groups.effects[:5]] == table["observed"].tolist()[::-1]
    assert np.average(table["observed"], weights=table["rows"]) == pytest.approx(average.estimate)


@pytest.mark.parametrize("design", ["randomised_trial", "confounded_smooth", "weighted_sample", "clustered_trial"])
@each
def test_the_headline_is_that_of_the_entry_it_names(spec: EstimatorSpec, design: str) -> None:
    study, other = small(design, 400), load_estimators()[spec.headline_of]
    own, same = answer(spec, study).headline, answer(other, study).headline
    assert (own.estimate, own.std_error, own.p_value) == pytest.approx((same.estimate, same.std_error, same.p_value))
    assert (own.interval.low, own.interval.high) == pytest.approx((same.interval.low, same.interval.high))
