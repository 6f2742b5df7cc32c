"""Nuisance models and the estimators that use them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Declaration
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.nuisance.models import fit_nuisance
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.logit import expit
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.runner import run_estimator
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import CommonParams, Context, build_params
from cqox_assets.study import Role, Study

NAMES = ("ipw", "aipw", "double_ml")


def run(name, study, context=None, **values):
    spec = load_estimators()[name]
    return run_estimator(spec, study, build_params(spec.params, values), context)


@pytest.fixture(scope="module")
def smooth():
    return DESIGNS["confounded_smooth"](1500, 5)


def test_one_row_per_unit_and_contrast():
    study, _ = DESIGNS["three_arms"](900, 1)
    fitted = fit_nuisance(study)
    assert set(fitted.predictions) == {"low", "high"}
    for arm, part in study.contrasts():
        frame = fitted.predictions[arm]
        names = ["propensity", "outcome_reference", "outcome_compared", "best_reference", "best_compared", "fold"]
        assert list(frame) == [*names, *(f"again_{name}" for name in names)]
        assert not frame["fold"].equals(frame["again_fold"])
        assert len(frame) == len(part)
        assert np.isfinite(frame.to_numpy()).all()
    assert {item.name for item in fitted.diagnostics} == {"overlap", "effective_sample_size", "weight_range"}
    assert any("arm" in item.detail for item in fitted.diagnostics)


def test_stack_predicts_better_than_lines_on_a_smooth_truth(smooth):
    study, _ = smooth
    errors = {}
    for learner in ("stack", "linear"):
        frame = fit_nuisance(study, CommonParams(nuisance=learner)).predictions["treated"]
        seen = np.where(study.column(Role.TREATMENT) == 1, frame["outcome_compared"], frame["outcome_reference"])
        errors[learner] = np.mean((study.column(Role.OUTCOME) - seen) ** 2)
    assert errors["stack"] < 0.85 * errors["linear"]


def test_clusters_share_a_fold():
    study, _ = DESIGNS["clustered_trial"](600, 2)
    fold = fit_nuisance(study, CommonParams(nuisance="linear")).predictions["treated"]["fold"]
    assert fold.groupby(study.frame["cluster"]).nunique().max() == 1


def test_repeated_units_count_as_clusters():
    study, _ = DESIGNS["clustered_trial"](600, 2)
    panel = replace(
        study, roles={**{k: v for k, v in study.roles.items() if k != Role.CLUSTER}, Role.UNIT: ("cluster",)}
    )
    clustered, repeated = run("aipw", study, nuisance="linear"), run("aipw", panel, nuisance="linear")
    assert repeated.std_error == pytest.approx(clustered.std_error)
    assert "clustered" in repeated.inference


def test_no_overlap_is_clipped_counted_and_warned_about():
    study, _ = DESIGNS["no_overlap"](1500, 3)
    fitted = fit_nuisance(study)
    assert fitted.clipped > 50
    assert str(fitted.clipped) in fitted.notices[0]
    propensity = fitted.predictions["treated"]["propensity"]
    assert propensity.between(0.01, 0.99).all()
    assert all(item.status in (Status.WARN, Status.FAIL) for item in fitted.diagnostics)


def test_limits_of_the_study_replace_the_defaults():
    study, _ = DESIGNS["randomised_trial"](400, 3)
    strict = replace(study, thresholds={"overlap": 0.999})
    status = {item.name: item.status for item in fit_nuisance(strict, CommonParams(nuisance="linear")).diagnostics}
    assert status["overlap"] is Status.WARN


@pytest.mark.parametrize("name", ["aipw", "double_ml"])
def test_shared_predictions_give_the_same_numbers_as_own(smooth, name):
    study, _ = smooth
    shared = run(name, study, Context(nuisance=fit_nuisance(study)))
    assert shared.estimate == run(name, study).estimate


@pytest.mark.parametrize("name", NAMES)
def test_the_diagnostics_warn_where_the_estimator_breaks(name):
    study, _ = DESIGNS["no_overlap"](1500, 4)
    answer = run(name, study)
    assert load_estimators()[name].breaks[0] == "no_overlap"
    assert answer.diagnostic("overlap").status in (Status.WARN, Status.FAIL)


@pytest.mark.parametrize("name", NAMES)
def test_three_arms_stay_three(name):
    study, truth = DESIGNS["three_arms"](1500, 4)
    answer = run(name, study)
    assert [effect.at["arm"] for effect in answer.effects] == ["low", "high"]
    for effect in answer.effects:
        assert abs(effect.estimate - truth[f"ATE[{effect.at['arm']}]"]) < 4 * effect.std_error


@pytest.mark.parametrize("name", NAMES)
def test_sampling_weights_move_the_answer_to_the_population(name):
    study, truth = DESIGNS["weighted_sample"](3000, 6)
    answer = run(name, study)
    without = replace(study, roles={k: v for k, v in study.roles.items() if k != Role.WEIGHT})
    assert abs(answer.estimate - truth["ATE"]) < 3.5 * answer.std_error
    assert abs(run(name, without).estimate - 1.3) < 3.5 * answer.std_error


@pytest.mark.parametrize("name", NAMES)
def test_clusters_widen_the_interval(name):
    study, _ = DESIGNS["clustered_trial"](1000, 6)
    alone = replace(study, roles={k: v for k, v in study.roles.items() if k != Role.CLUSTER})
    clustered = run(name, study, nuisance="linear")
    assert clustered.std_error > 1.4 * run(name, alone, nuisance="linear").std_error
    assert clustered.sample.clusters == 100
    assert clustered.headline.interval_source == "t(99)"


def test_m_estimation_equals_the_stacked_sandwich(smooth):
    study, _ = smooth
    x, y, d = with_constant(study.matrix()), study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    answer = run("ipw", study)
    n, k = x.shape
    e = answer.tables["propensity"]["propensity"].to_numpy()
    beta = np.linalg.lstsq(x, np.log(e / (1 - e)), rcond=None)[0]
    w1, w0 = d / e, (1 - d) / (1 - e)
    theta = np.r_[beta, w1 @ y / w1.sum(), w0 @ y / w0.sum()]

    def equations(theta):
        p = expit(x @ theta[:k])
        return np.column_stack([x * (d - p)[:, None], d / p * (y - theta[k]), (1 - d) / (1 - p) * (y - theta[k + 1])])

    step = 1e-5
    shifts = [theta + step * np.eye(k + 2)[j] for j in range(k + 2)]
    bread = np.column_stack([(equations(up).mean(0) - equations(2 * theta - up).mean(0)) / (2 * step) for up in shifts])
    meat = equations(theta).T @ equations(theta) / n
    inverse = np.linalg.inv(bread)
    covariance = inverse @ meat @ inverse.T / n
    contrast = np.r_[np.zeros(k), 1.0, -1.0]
    assert answer.std_error == pytest.approx(np.sqrt(contrast @ covariance @ contrast), rel=1e-4)


def test_hajek_weights_balance_the_logit_covariates_for_the_treated(smooth):
    study, _ = smooth
    answer = run("ipw", study, estimand="ATO")
    assert answer.tables["balance"]["after"].max() < 1e-8  # overlap weights balance means exactly


def test_known_propensity_needs_its_column_and_proper_values(smooth):
    study, _ = smooth
    assert run("ipw", study, propensity="known").code == "missing_role"
    known = study.with_column("p", np.full(len(study), 0.5), Role.PROPENSITY)
    answer = run("ipw", known, propensity="known")
    y, d = study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    assert answer.estimate == pytest.approx(y[d == 1].mean() - y[d == 0].mean())
    bad = study.with_column("p", np.where(d == 1, 1.0, 0.5), Role.PROPENSITY)
    assert run("ipw", bad, propensity="known").code == "bad_propensity"


@pytest.mark.parametrize("rule", ["bound", "quantile"])
def test_trimmed_rows_are_counted(rule):
    study, _ = DESIGNS["no_overlap"](1500, 4)
    answer = run("ipw", study, trim=0.1, trim_rule=rule)
    assert answer.sample.dropped["trimmed"] == 1500 - answer.sample.used > 100
    assert f"{answer.sample.dropped['trimmed']} rows" in answer.notices[0]
    assert len(answer.tables["weights"]) == answer.sample.used


@pytest.mark.parametrize("name", NAMES)
def test_nobody_left_after_trimming_is_refused(name):
    study, _ = DESIGNS["no_overlap"](300, 4)
    steep = study.with_column("d", (study.frame["x0"] > study.frame["x0"].median()).astype(float), Role.TREATMENT)
    answer = run(name, steep, trim=0.49, nuisance="boosting", **({"propensity": "boosting"} if name == "ipw" else {}))
    assert isinstance(answer, Refusal)
    assert answer.code == "nobody_left"


@pytest.mark.parametrize(
    ("name", "values"),
    [("ipw", {}), ("aipw", {"cross_fit": False}), ("double_ml", {"nuisance": "linear"})],
)
def test_perfect_separation_is_refused(name, values):
    study, _ = DESIGNS["randomised_trial"](300, 4)
    decided = study.with_column("d", (study.frame["x0"] > 0).astype(float), Role.TREATMENT)
    answer = run(name, decided, **values)
    assert isinstance(answer, Refusal)
    assert answer.code == "perfect_separation"


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("ipw", {}, "too_few_rows"),
        ("aipw", {"cross_fit": False}, "too_few_rows"),
        ("aipw", {"nuisance": "linear"}, "empty_fold_arm"),
        ("double_ml", {"outcome_learner": "ols", "treatment_learner": "logit"}, "empty_fold_arm"),
    ],
)
def test_fewer_rows_than_columns_are_refused(name, values, code):
    study, _ = DESIGNS["randomised_trial"](12, 4)
    answer = run(name, study, **values)
    assert isinstance(answer, Refusal)
    assert answer.code == code


def test_an_arm_that_a_fold_would_empty_is_refused():
    study, _ = DESIGNS["randomised_trial"](200, 4)
    single = np.zeros(200)
    single[0] = 1
    answer = run("aipw", study.with_column("d", single, Role.TREATMENT))
    assert isinstance(answer, Refusal)
    assert answer.code == "empty_fold_arm"


def test_repeats_report_the_median(smooth):
    study, _ = smooth
    single = [run("double_ml", study, seed=seed, nuisance="linear") for seed in (3, 4, 5)]
    answer = run("double_ml", study, seed=3, repeats=3, nuisance="linear")
    points = np.array([item.estimate for item in single])
    assert answer.estimate == pytest.approx(np.median(points))
    spread = np.hypot([item.std_error for item in single], points - np.median(points))
    assert answer.std_error == pytest.approx(np.median(spread))
    assert run("double_ml", study, seeds=(3, 4, 5), nuisance="linear").estimate == answer.estimate


def test_scores_and_estimands_must_fit(smooth):
    study, _ = smooth
    with pytest.raises(CatalogError, match="score"):
        run("double_ml", study, score="irm_ate", estimand="ATT")
    with pytest.raises(CatalogError, match="m_estimation"):
        run("ipw", study, propensity="stack", se="m_estimation")
    assert run("double_ml", study, score="irm_atte", nuisance="linear").estimand == "ATT"


def test_irm_with_shared_folds_is_cross_fitted_aipw(smooth):
    study, _ = smooth
    irm = run("double_ml", study, score="irm_ate", se="influence")
    assert irm.estimate == pytest.approx(run("aipw", study).estimate)
    assert irm.std_error == pytest.approx(run("aipw", study).std_error)


def test_learner_params_reach_the_learner(smooth):
    study, _ = smooth
    forest = {"outcome_learner": "random_forest", "treatment_learner": "random_forest", "folds_by": "random"}
    sizes = {key: {"n_estimators": 5, "max_depth": 2} for key in ("outcome_learner", "treatment_learner")}
    answer = run("double_ml", study, learner_params=sizes, **forest)
    assert len(np.unique(answer.tables["propensity"]["propensity"])) < 5 * 4**5
    with pytest.raises(CatalogError, match="learner_params"):
        run("double_ml", study, learner_params={"outcome_learner": {"leaves": 3}}, **forest)


@pytest.mark.parametrize("name", NAMES)
def test_answers_do_not_depend_on_row_order_or_units(smooth, name):
    study, _ = smooth
    answer = run(name, study)
    order = np.random.default_rng(0).permutation(len(study))
    assert run(name, study.take(order)).estimate == pytest.approx(answer.estimate, abs=1e-7)
    moved = study.with_column("y", 10 - 3 * study.column(Role.OUTCOME), Role.OUTCOME)
    assert run(name, moved).estimate == pytest.approx(-3 * answer.estimate, abs=1e-4)
    assert run(name, moved).std_error == pytest.approx(3 * answer.std_error, rel=1e-3)


def test_binary_outcomes_stay_probabilities():
    study, _ = DESIGNS["randomised_trial"](600, 1)
    binary = study.with_column("y", (study.column(Role.OUTCOME) > 0.5).astype(float), Role.OUTCOME)
    frame = fit_nuisance(binary).predictions["treated"]
    assert frame[["outcome_reference", "outcome_compared"]].to_numpy().min() >= 0
    assert frame[["outcome_reference", "outcome_compared"]].to_numpy().max() <= 1
    assert isinstance(run("aipw", binary), EffectEstimate)


def test_a_constant_covariate_and_a_copy_do_no_harm():
    study, truth = DESIGNS["confounded_linear"](800, 9)
    frame = study.frame.assign(flat=1.0, twin=study.frame["x0"])
    names = (*study.names(Role.COVARIATES), "flat", "twin")
    padded = Study(frame=frame, roles={**study.roles, Role.COVARIATES: names}, arms=study.arms)
    for name in NAMES:
        answer = run(name, padded)
        assert abs(answer.estimate - truth["ATE"]) < 4 * answer.std_error


def test_declared_parameters_are_those_of_the_table():
    for name in NAMES:
        spec = load_estimators()[name]
        for field in spec.params.__dataclass_fields__:
            assert field in (spec.params.__doc__ + CommonParams.__doc__), f"{name}: {field} is not documented"


def test_nuisances_survive_storage(smooth):
    study, _ = smooth
    held = fit_nuisance(
        replace(study, declaration=Declaration(design="observational")), CommonParams(nuisance="linear")
    )
    again = type(held).from_json(held.to_json(), held.predictions)
    assert again.to_json() == held.to_json()
    assert isinstance(next(iter(again.predictions.values())), pd.DataFrame)


@pytest.mark.parametrize("name", ["aipw", "double_ml", "t_learner"])
def test_the_influence_of_the_folds_is_measured_in_small_studies(smooth, name):
    study, _ = smooth
    answer = run(name, study, Context(nuisance=fit_nuisance(study)))
    splits = answer.tables["splits"]
    assert list(splits["seed"]) == [0, 1]
    assert splits["estimate"][0] == pytest.approx(answer.estimate)
    assert splits["estimate"][1] == pytest.approx(run(name, study, seed=1).estimate)
    apart = abs(splits["estimate"][1] - splits["estimate"][0])
    assert f"{apart:.3g} apart" in " ".join(answer.notices)


@pytest.mark.parametrize("name", ["aipw", "double_ml"])
def test_repeats_are_listed(smooth, name):
    study, _ = smooth
    answer = run(name, study, repeats=3, nuisance="linear", seed=4)
    splits = answer.tables["splits"]
    assert list(splits["seed"]) == [4, 5, 6]
    assert answer.estimate == splits["estimate"].median()
    assert "3 assignments" in " ".join(answer.notices)
    assert "median of 3" in answer.inference


def test_large_studies_are_split_once():
    study, _ = DESIGNS["randomised_trial"](2100, 1)
    shared = fit_nuisance(study, CommonParams(nuisance="linear"))
    assert not any(name.startswith("again_") for name in shared.predictions["treated"])
