"""X-learner: imputed effects of each arm, regressed on covariates and mixed by the propensity."""

import numpy as np
import pandas as pd

from cqox_assets.nuisance.learners import (
    LearnerParams,
    Predicted,
    check_learner,
    fit_in_sample,
    nuisances,
    parametric,
    predict_by_engine,
    report,
)
from cqox_assets.nuisance.models import Data
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import Context, EstimatorSpec
from cqox_assets.study import Role, Study

_OFFERED = ("ols", "random_forest", "boosting", "spline", "stack")


def run(study: Study, params: LearnerParams, context: Context) -> EffectEstimate | Refusal:
    """Predict unit effects from imputed effects of both arms.

    Parameters
    ----------
    study : Study
        Outcome, two arms, covariates; optional weight and cluster.
    params : LearnerParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Headline: the ATE. Tables `unit_effects`, `calibration`, `best_linear_predictor`, `uplift` and
        `rank_weighted_effects`.

    Raises
    ------
    CatalogError
        If the learner is not offered, or `trim` is given.

    Notes
    -----
    Treated units have the imputed effect y - m0(x), controls m1(x) - y; regressed on x they give tau1 and tau0, and
    tau = e tau0 + (1 - e) tau1 (Kuenzel et al. 2019, doi:10.1073/pnas.1804597116). Cross-fitting is
    nested: what imputes the effects that a fold's prediction learns from has not seen that fold either.
    """
    check_learner(params, _OFFERED)
    held = nuisances(study, params, context)
    found = predict_by_engine(SPEC, study, params, lambda: _predict(study, params, held))
    return report(SPEC, study, params, held, found)


def _predict(study: Study, params: LearnerParams, held: pd.DataFrame) -> Predicted:
    data = Data.of(study)
    one, zero = data.d == 1, data.d == 0
    if not params.cross_fit:
        m0, m1 = (fit_in_sample(data, data.x, data.y, arm, [data.x], params)[0] for arm in (zero, one))
        tau1 = fit_in_sample(data, data.x, data.y - m0, one, [data.x], params)[0]
        tau0 = fit_in_sample(data, data.x, m1 - data.y, zero, [data.x], params)[0]
        e = fit_logit(with_constant(data.x), data.d, data.weight).probability
        # With least squares imputation changes nothing: the mean effect and its influence are the T-learner's.
        influence = parametric(study, "ols_per_arm").influence if params.chosen == "ols" else None
        return Predicted(e * tau0 + (1 - e) * tau1, influence)
    return Predicted(_nested(data, params, held["propensity"].to_numpy()))


def _nested(data: Data, params: LearnerParams, e: np.ndarray) -> np.ndarray:
    """Predict the effects of every fold by imputations and regressions that never saw it, shape (n,)."""
    fold, result = data.content_folds(params.folds, params.seed), np.empty(len(data.y))
    learner, settings, arms = params.chosen, params.learner_params, (data.d == 0, data.d == 1)
    whole = data.folded(fold, params.seed)
    for k in np.unique(fold):
        inside, outside = fold == k, np.flatnonzero(fold != k)
        part = data.rows(outside)
        folded = part.folded(np.unique(fold[outside], return_inverse=True)[1], params.seed)
        imputed = np.zeros(len(data.y))
        m0, m1 = (folded.mean(part.y, part.d == arm, learner, settings) for arm in (0, 1))
        imputed[outside] = np.where(part.d == 1, part.y - m0, m1 - part.y)
        tau0, tau1 = (whole.mean(imputed, arm & ~inside, learner, settings) for arm in arms)
        result[inside] = (e * tau0 + (1 - e) * tau1)[inside]
    return result


SPEC = EstimatorSpec(
    name="x_learner",
    title="X-learner",
    family="heterogeneity",
    estimands=(Estimand.ATE,),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT}),
    aliases=("X-learner",),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=("Kuenzel et al. 2019, doi:10.1073/pnas.1804597116",),
    diagnostics=("overlap", "effect_calibration"),
    tables=("unit_effects", "calibration", "best_linear_predictor", "uplift", "rank_weighted_effects"),
    truths=("randomised_trial", "confounded_smooth", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=("x_learner",),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "learns the effect itself and suits arms of unequal size" if study.has(Role.COVARIATES) else "needs covariates",
        0.6,
    ),
    params=LearnerParams,
    shares_nuisance=True,
)
