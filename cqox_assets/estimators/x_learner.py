"""X-learner: imputed effects of each arm, regressed on covariates and mixed by the propensity."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.nuisance.learners import (
    LearnerParams,
    Predicted,
    check_learner,
    fit_in_sample,
    nuisances,
    outcomes,
    parametric,
    predict_by_engine,
    report,
)
from cqox_assets.nuisance.models import Data, shared_folded
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study


@dataclass(frozen=True)
class XLearnerParams(LearnerParams):
    """Parameters of the X-learner.

    Parameters
    ----------
    propensity : str
        That mixes the two arms' effects: `auto` is estimated (logit where models are fitted to all rows), `known` is
        the column of role `propensity`.
    """

    propensity: Literal["auto", "known"] = "auto"


_OFFERED = ("ols", "random_forest", "boosting", "spline", "stack")


def run(study: Study, params: XLearnerParams, context: Context) -> EffectEstimate | Refusal:
    """Predict unit effects from imputed effects of both arms.

    Parameters
    ----------
    study : Study
        Outcome, two arms, covariates; optional weight, cluster and propensity.
    params : XLearnerParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Headline: the ATE. Tables `unit_effects`, `calibration`, `best_linear_predictor`, `uplift`,
        `rank_weighted_effects` and `splits` (the ATE by the seed of the folds).

    Raises
    ------
    CatalogError
        If the learner is not offered, or `trim` is given.

    Notes
    -----
    Treated units have the imputed effect y - m0(x), controls m1(x) - y; regressed on x they give tau1 and tau0, and
    tau = e tau0 + (1 - e) tau1 (Kuenzel et al. 2019, doi:10.1073/pnas.1804597116). A unit's effect is predicted
    by regressions that never saw its fold, of effects whose imputations never saw the unit that they are for. As in
    any two-stage cross-fitting with one set of folds (Kennedy 2023, doi:10.1214/23-EJS2157), those imputations may
    have seen the predicted unit's outcome; nesting the folds cost ten times as much and predicted no better.
    """
    check_learner(params, _OFFERED)
    if params.propensity == "known":
        refusal = _refuse_propensity(study, params)
        if refusal is not None:
            return refusal
    held = nuisances(study, params, context)
    found = predict_by_engine(SPEC, study, params, lambda: _predict(study, params, context, held))
    return report(SPEC, study, params, held, found)


def _refuse_propensity(study: Study, params: XLearnerParams) -> Refusal | None:
    if params.engine != "own":
        raise CatalogError("parameter 'propensity' is known, but the engine econml estimates its own; choose auto")
    return SPEC.refuse_known_propensity(study, "propensity: known", "propensity: auto")


def _predict(study: Study, params: XLearnerParams, context: Context, held: pd.DataFrame) -> Predicted:
    data = Data.of(study)
    one, zero = data.d == 1, data.d == 0
    if not params.cross_fit:
        m0, m1 = (fit_in_sample(data, data.x, data.y, arm, [data.x], params)[0] for arm in (zero, one))
        tau1 = fit_in_sample(data, data.x, data.y - m0, one, [data.x], params)[0]
        tau0 = fit_in_sample(data, data.x, m1 - data.y, zero, [data.x], params)[0]
        e = _known(study, params)
        if e is None:
            e = fit_logit(with_constant(data.x), data.d, data.weight).probability
        # With least squares imputation changes nothing: the mean effect and its influence are the T-learner's.
        influence = parametric(study, "ols_per_arm").influence if params.chosen == "ols" else None
        return Predicted(e * tau0 + (1 - e) * tau1, influence)
    folded = shared_folded(study, params, context, held["fold"].to_numpy())
    m0, m1 = outcomes(data, folded, params, held)
    imputed = np.where(one, data.y - m0, m1 - data.y)
    tau0, tau1 = (folded.mean(imputed, arm, params.chosen, params.learner_params) for arm in (zero, one))
    known = _known(study, params)
    e = held["propensity"].to_numpy() if known is None else known
    return Predicted(e * tau0 + (1 - e) * tau1)


def _known(study: Study, params: XLearnerParams) -> np.ndarray | None:
    return study.column(Role.PROPENSITY) if params.propensity == "known" else None


SPEC = EstimatorSpec(
    name="x_learner",
    title="X-learner",
    family="heterogeneity",
    estimands=(Estimand.ATE, Estimand.CATE),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT, Role.PROPENSITY}),
    aliases=("X-learner",),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=("Kuenzel et al. 2019, doi:10.1073/pnas.1804597116",),
    diagnostics=("overlap", "effect_calibration"),
    tables=("unit_effects", "calibration", "best_linear_predictor", "uplift", "rank_weighted_effects", "splits"),
    truths=("randomised_trial", "confounded_smooth", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=("x_learner",),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "learns the effect itself and suits arms of unequal size" if study.has(Role.COVARIATES) else "needs covariates",
        0.6,
    ),
    params=XLearnerParams,
    shares_nuisance=True,
    question="How much does the effect differ between units, if arms differ in size?",
    formula=(
        r"\hat\tau(x) = \hat e(x)\, \hat\tau_0(x) + (1 - \hat e(x))\, \hat\tau_1(x), \quad \hat\tau_1 = \hat"
        r" E[y - \hat m_0(x) \mid x, d = 1],\ \hat\tau_0 = \hat E[\hat m_1(x) - y \mid x, d = 0]"
    ),
    reading=(
        "The headline is the average of the doubly robust score, the same for every learner; only the unit "
        "effects are the learner's own. It learns the effect itself, which is often simpler than the "
        "outcomes, and leans on the larger arm where that predicts better. Read unit effects together with "
        "the calibration (slope near 1: differences are as large as predicted; near 0: noise) and with the "
        "rank-weighted effects before ranking anybody."
    ),
    example=Example(
        data="data/education/2025-01/ihdp.csv",
        roles={"outcome": "y_factual", "treatment": "treatment", "covariates": [f"x{j}" for j in range(1, 26)]},
    ),
    coverage_rows=4000,
    headline_of="aipw",
)
