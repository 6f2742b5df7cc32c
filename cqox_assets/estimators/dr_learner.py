"""DR-learner: the doubly robust score of each unit, regressed on its covariates."""

import numpy as np
import pandas as pd

from cqox_assets.nuisance.learners import (
    LearnerParams,
    Predicted,
    check_learner,
    fit_in_sample,
    nuisances,
    predict_by_engine,
    report,
)
from cqox_assets.nuisance.models import Data, shared_folded
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_OFFERED = ("ols", "random_forest", "boosting", "spline", "stack")


def run(study: Study, params: LearnerParams, context: Context) -> EffectEstimate | Refusal:
    """Predict unit effects by regressing doubly robust scores on covariates.

    Parameters
    ----------
    study : Study
        Outcome, two arms, covariates; optional weight and cluster.
    params : LearnerParams
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
    tau(x) = E[score | x], score = m1 - m0 + d (y - m1)/e - (1 - d)(y - m0)/(1 - e), nuisances cross-fitted; its error
    is a product of the errors of e and m (Kennedy 2023, doi:10.1214/23-EJS2157).
    """
    check_learner(params, _OFFERED)
    held = nuisances(study, params, context)
    found = predict_by_engine(SPEC, study, params, lambda: _predict(study, params, context, held))
    return report(SPEC, study, params, held, found)


def _predict(study: Study, params: LearnerParams, context: Context, held: pd.DataFrame) -> Predicted:
    data = Data.of(study)
    e, m0, m1 = (held[name].to_numpy() for name in ("propensity", "best_reference", "best_compared"))
    score = m1 - m0 + np.where(data.d == 1, (data.y - m1) / e, -(data.y - m0) / (1 - e))
    if params.cross_fit:
        folded = shared_folded(study, params, context, held["fold"].to_numpy())
        effect = folded.mean(score, None, params.chosen, params.learner_params)
    else:
        effect = fit_in_sample(data, data.x, score, np.ones(len(score), dtype=bool), [data.x], params)[0]
    return Predicted(effect)


SPEC = EstimatorSpec(
    name="dr_learner",
    title="DR-learner",
    family="heterogeneity",
    estimands=(Estimand.ATE, Estimand.CATE),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT}),
    aliases=("DR-learner",),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=("Kennedy 2023, doi:10.1214/23-EJS2157",),
    diagnostics=("overlap", "effect_calibration"),
    tables=("unit_effects", "calibration", "best_linear_predictor", "uplift", "rank_weighted_effects", "splits"),
    truths=("randomised_trial", "confounded_smooth", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=(),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "regresses the doubly robust score on covariates, so errors of both models must coincide to matter"
        if study.has(Role.COVARIATES)
        else "needs covariates",
        0.65,
    ),
    params=LearnerParams,
    shares_nuisance=True,
    question="How much does the effect differ between units, if neither model may be trusted alone?",
    formula=(
        r"\hat\tau(x) = \hat E\Big[\hat m_1 - \hat m_0 + \frac{d (y - \hat m_1)}{\hat e} - \frac{(1 - d)(y -"
        r" \hat m_0)}{1 - \hat e} \,\Big|\, x\Big]"
    ),
    reading=(
        "The headline is the average of the doubly robust score, the same for every learner; only the unit "
        "effects are the learner's own. Errors of propensity and outcome models matter only together, but "
        "scores of units with small propensities are noisy: look at overlap before the unit effects. Read "
        "unit effects together with the calibration (slope near 1: differences are as large as predicted; "
        "near 0: noise) and with the rank-weighted effects before ranking anybody."
    ),
    example=Example(
        data="data/education/2025-01/ihdp.csv",
        roles={"outcome": "y_factual", "treatment": "treatment", "covariates": [f"x{j}" for j in range(1, 26)]},
    ),
    coverage_rows=4000,
    headline_of="aipw",
)
