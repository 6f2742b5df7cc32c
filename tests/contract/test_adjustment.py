"""What the regression and stratification estimators promise beyond the general contract."""

from dataclasses import replace

import numpy as np
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.errors import CatalogError
from cqox_assets.numerics.propensity import weighted_quantiles
from cqox_assets.result import Refusal
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, plus_covariate, replaced, run, small, without

DIFFERENCE, OLS, ADJUSTMENT, STRATA, STANDARDISED = (
    load_estimators()[name]
    for name in ("difference_in_means", "ols", "regression_adjustment", "stratification", "g_computation")
)
REGRESSIONS = pytest.mark.parametrize("spec", [OLS, ADJUSTMENT, STANDARDISED], ids=lambda spec: spec.name)


def test_cuped_keeps_the_effect_and_cuts_the_variance() -> None:
    study = small("randomised_trial", 3000)
    before = study.column(Role.OUTCOME) - study.column(Role.TREATMENT) + np.random.default_rng(1).standard_normal(3000)
    study = study.with_column("before", before, Role.PRE_OUTCOME)
    adjusted, plain = answer(DIFFERENCE, study).effects
    assert plain.at == {"adjustment": "none"}
    assert plain.estimate == pytest.approx(answer(DIFFERENCE, study, cuped="off").estimate)
    assert adjusted.std_error < 0.85 * plain.std_error  # type: ignore[operator]
    assert abs(adjusted.estimate - 1) < 4 * adjusted.std_error  # type: ignore[operator]
    outcome = answer(DIFFERENCE, study)
    assert "CUPED" in outcome.inference
    assert any("reduced the variance by" in notice for notice in outcome.notices)


@REGRESSIONS
def test_collinear_covariate_is_named(spec: object) -> None:
    study = small("confounded_linear")
    outcome = answer(spec, plus_covariate(study, "copied", 2 * study.frame["x3"].to_numpy() + 1))  # type: ignore[arg-type]
    assert any("'copied'" in notice for notice in outcome.notices)
    plain = answer(spec, study)  # type: ignore[arg-type]
    assert outcome.estimate == pytest.approx(plain.estimate, rel=1e-8)
    assert outcome.std_error == pytest.approx(plain.std_error, rel=1e-8)


@REGRESSIONS
def test_too_few_rows_are_said(spec: object) -> None:
    outcome = run(spec, small("confounded_linear").take(np.arange(12)))  # type: ignore[arg-type]
    assert isinstance(outcome, Refusal)
    assert outcome.code == "too_few_rows"
    assert any(character.isdigit() for character in outcome.reason)


def test_column_that_restates_the_treatment_is_named() -> None:
    study = small("confounded_linear")
    outcome = run(OLS, plus_covariate(study, "dose_mg", 50 * study.column(Role.TREATMENT)))
    assert isinstance(outcome, Refusal)
    assert "'dose_mg'" in outcome.reason
    assert "'d'" in outcome.reason


def test_singleton_clusters_equal_hc1() -> None:
    study = small("confounded_linear")
    clustered = replace(
        study, frame=study.frame.assign(c=np.arange(len(study))), roles={**study.roles, Role.CLUSTER: ("c",)}
    )
    for spec in (DIFFERENCE, OLS, ADJUSTMENT):
        assert answer(spec, clustered, se="CR1").std_error == pytest.approx(answer(spec, study, se="HC1").std_error)
        asked = answer(spec, clustered, se="HC1")
        assert any("clusters do not enter" in notice for notice in asked.notices)
    outcome = answer(DIFFERENCE, clustered)
    assert outcome.headline.interval_source == f"t({len(study) - 1})"


def test_continuous_treatment_is_a_slope() -> None:
    study = small("confounded_linear", 2000)
    dose = study.frame["x0"] + np.random.default_rng(4).standard_normal(2000)
    outcome = study.frame["y"] - study.frame["d"] + 2 * dose
    study = replace(study, arms=(), frame=study.frame.assign(d=dose, y=outcome))
    outcome = answer(OLS, study)
    assert outcome.estimand == "slope"
    assert abs(outcome.estimate - 2) < 4 * outcome.std_error  # type: ignore[operator]
    assert isinstance(run(ADJUSTMENT, study), Refusal)


def test_interaction_contrast() -> None:
    study = small("randomised_trial", 4000)  # effect 1 + 0.5 x0
    high = answer(OLS, study, interactions=("x0",), at={"x0": 2.0})
    assert abs(high.estimate - 2) < 4 * high.std_error  # type: ignore[operator]
    mean = answer(OLS, study, interactions=("x0",))
    rows = mean.tables["coefficients"].set_index("term")["estimate"]
    assert mean.estimate == pytest.approx(rows["d"] + rows["d:x0"] * study.frame["x0"].mean())
    with pytest.raises(CatalogError, match="'moon'"):
        run(OLS, study, interactions=("moon",))


def test_leverage_one_falls_back_and_names_the_row() -> None:
    study = small("confounded_linear")
    only = np.zeros(len(study))
    only[np.flatnonzero(study.column(Role.TREATMENT) == 1)[0]] = 1
    only[np.flatnonzero(study.column(Role.TREATMENT) == 0)[:40]] = 1
    outcome = answer(ADJUSTMENT, plus_covariate(study, "rare", only))
    assert "HC1" in outcome.inference
    assert any("leverage one" in notice and "row" in notice for notice in outcome.notices)


def test_effect_on_the_treated_differs_where_the_effect_varies() -> None:
    study, truth = small("confounded_smooth", 4000), 1.379
    for spec in (ADJUSTMENT, STANDARDISED):
        everybody, treated = answer(spec, study), answer(spec, study, estimand="ATT")
        assert treated.estimand == "ATT"
        assert abs(treated.estimate - everybody.estimate) > 0.02
    adjusted, standardised = (answer(spec, study, estimand="ATT").estimate for spec in (ADJUSTMENT, STANDARDISED))
    assert adjusted == pytest.approx(standardised)
    assert abs(adjusted - truth) < 0.5


def _binary_outcome() -> Study:
    study = small("randomised_trial", 3000)
    return replaced(study, Role.OUTCOME, (study.column(Role.OUTCOME) > 0.5).astype(float))


@pytest.mark.parametrize("model", ["logit_pooled", "logit_per_arm", "ols_per_arm"])
@pytest.mark.parametrize("scale", ["difference", "log_risk_ratio", "log_odds_ratio"])
def test_standardised_scales_agree_with_the_means(model: str, scale: str) -> None:
    outcome = answer(STANDARDISED, _binary_outcome(), outcome_model=model, scale=scale)
    one, zero = outcome.tables["potential_outcomes"]["mean"]
    odds = np.log(one / (1 - one)) - np.log(zero / (1 - zero))
    wanted = {"difference": one - zero, "log_risk_ratio": np.log(one / zero), "log_odds_ratio": odds}[scale]
    assert outcome.estimate == pytest.approx(wanted)
    assert outcome.headline.scale == scale


def test_analytic_and_bootstrap_standard_errors_agree() -> None:
    study = _binary_outcome().take(np.arange(800))
    values = {"outcome_model": "logit_pooled", "scale": "log_odds_ratio"}
    analytic = answer(STANDARDISED, study, **values)
    resampled = answer(STANDARDISED, study, inference="bootstrap", draws=200, **values)
    assert resampled.std_error == pytest.approx(analytic.std_error, rel=0.2)


def test_logit_needs_a_binary_outcome_and_ratios_positive_means() -> None:
    study = small("randomised_trial")
    outcome = run(STANDARDISED, study, outcome_model="logit_pooled")
    assert isinstance(outcome, Refusal)
    assert outcome.code == "outcome_not_binary"
    shifted = replaced(study, Role.OUTCOME, study.column(Role.OUTCOME) - 100)
    outcome = run(STANDARDISED, shifted, scale="log_risk_ratio")
    assert isinstance(outcome, Refusal)
    assert outcome.code == "scale_undefined"


def test_thin_stratum_is_refused_with_a_remedy() -> None:
    outcome = run(STRATA, small("no_overlap", 600))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "empty_stratum"
    assert "fewer strata" in outcome.remedy


def test_strata_table_adds_up_to_the_estimate() -> None:
    study = small("confounded_linear", 3000)
    for estimand in ("ATE", "ATT"):
        outcome = answer(STRATA, study, estimand=estimand)
        table, weights = outcome.tables["strata"], outcome.tables["weights"]
        assert table["share"].sum() == pytest.approx(1)
        assert table["share"] @ table["effect"] == pytest.approx(outcome.estimate)
        y = study.column(Role.OUTCOME)
        one, zero = (weights["treated"] == 1).to_numpy(), (weights["treated"] == 0).to_numpy()
        implied = np.average(y[one], weights=weights["weight"][one]) - np.average(
            y[zero], weights=weights["weight"][zero]
        )
        assert implied == pytest.approx(outcome.estimate)
    trimmed = answer(STRATA, study, trim=0.2)
    assert trimmed.sample.dropped["trimmed"] == len(study) - trimmed.sample.used > 0


def test_weighted_quantiles_reduce_to_type_7() -> None:
    values, shares = np.random.default_rng(5).standard_normal(37), np.array([0.2, 0.4, 0.6, 0.8])
    assert weighted_quantiles(values, shares, np.full(37, 2.0)) == pytest.approx(np.quantile(values, shares))


def test_known_propensity_replaces_the_model() -> None:
    study = small("randomised_trial", 1000)
    known = study.with_column("e", 0.5 + 0.1 * np.tanh(study.frame["x0"].to_numpy()), Role.PROPENSITY)
    outcome = answer(STRATA, known)
    assert "known propensity" in outcome.inference
    wrong = study.with_column("e", np.ones(1000), Role.PROPENSITY)
    refused = run(STRATA, wrong)
    assert isinstance(refused, Refusal)
    assert refused.code == "bad_propensity"


@pytest.mark.parametrize("spec", [DIFFERENCE, OLS, ADJUSTMENT, STANDARDISED], ids=lambda spec: spec.name)
def test_trim_without_a_propensity_is_an_error(spec: object) -> None:
    with pytest.raises(CatalogError, match="trim"):
        run(spec, small("randomised_trial"), trim=0.1)  # type: ignore[arg-type]


def test_without_covariates_the_adjustments_are_the_difference() -> None:
    study = without(small("randomised_trial"), Role.COVARIATES)
    wanted = answer(DIFFERENCE, study).estimate
    for spec in (OLS, ADJUSTMENT, STANDARDISED):
        assert answer(spec, study).estimate == pytest.approx(wanted)


def test_an_arm_that_its_regression_fits_exactly_is_refused() -> None:
    study = small("randomised_trial")
    treated = np.flatnonzero(study.column(Role.TREATMENT) == 1)[:8]
    outcome = run(ADJUSTMENT, study.take(np.concatenate([treated, np.flatnonzero(study.column(Role.TREATMENT) == 0)])))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "too_few_rows"


def test_strata_that_tied_scores_leave_empty_are_none() -> None:
    study = small("confounded_linear")
    coin = replace(study, roles={**study.roles, Role.COVARIATES: ("x8",)})
    assert set(study.frame["x8"]) == {0.0, 1.0}
    strata = answer(STRATA, coin).tables["strata"]
    assert len(strata) == 2
    assert strata["share"].sum() == pytest.approx(1)
