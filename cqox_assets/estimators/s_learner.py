"""S-learner: one outcome model with the treatment among its inputs; a unit's effect is what switching it changes."""

import numpy as np

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
from cqox_assets.nuisance.models import Data, importance
from cqox_assets.numerics.crossfit import Folded
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_OFFERED = ("ols", "ols_pooled", "random_forest", "boosting", "spline", "stack")


def run(study: Study, params: LearnerParams, context: Context) -> EffectEstimate | Refusal:
    """Predict unit effects by switching the treatment in one outcome model.

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
    tau(x) = m(x, 1) - m(x, 0), m fitted to all units (Kuenzel et al. 2019, doi:10.1073/pnas.1804597116). Where the
    treatment matters little it tends to predict no effect.
    """
    check_learner(params, _OFFERED)
    held = nuisances(study, params, context)
    found = predict_by_engine(SPEC, study, params, lambda: _predict(study, params))
    return report(SPEC, study, params, held, found)


def _predict(study: Study, params: LearnerParams) -> Predicted:
    data = Data.of(study)
    if not params.cross_fit and params.chosen != "random_forest":
        return parametric(study, "ols_pooled")
    off, on = (np.column_stack([data.x, np.full(len(data.y), arm)]) for arm in (0.0, 1.0))
    if not params.cross_fit:
        observed = np.column_stack([data.x, data.d])
        rows = np.ones(len(data.y), dtype=bool)
        reference, compared = fit_in_sample(data, observed, data.y, rows, [off, on], params)
        return Predicted(compared - reference)
    fold = data.content_folds(params.folds, params.seed)
    important = np.append(importance(data.x, data.y, data.d), 2.0)  # the treatment is multiplied with covariates
    folded = Folded(np.column_stack([data.x, data.d]), fold, data.weight, important, params.seed)
    learner = "ols" if params.chosen == "ols_pooled" else params.chosen
    reference, compared = folded.switched(data.y, data.x.shape[1], learner, params.learner_params)
    return Predicted(compared - reference)


SPEC = EstimatorSpec(
    name="s_learner",
    title="S-learner",
    family="heterogeneity",
    estimands=(Estimand.ATE, Estimand.CATE),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT}),
    aliases=("S-learner",),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=("Kuenzel et al. 2019, doi:10.1073/pnas.1804597116",),
    diagnostics=("overlap", "effect_calibration"),
    tables=("unit_effects", "calibration", "best_linear_predictor", "uplift", "rank_weighted_effects", "splits"),
    truths=("randomised_trial", "confounded_smooth", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=("s_learner",),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "predicts both arms by one model, so small differences between units are smoothed"
        if study.has(Role.COVARIATES)
        else "needs covariates",
        0.45,
    ),
    params=LearnerParams,
    shares_nuisance=True,
    question="How much does the effect differ between units, if one model predicts both arms?",
    formula=(r"\hat\tau(x) = \hat m(x, 1) - \hat m(x, 0)"),
    reading=(
        "The headline is the average of the doubly robust score, the same for every learner; only the unit "
        "effects are the learner's own. One model that may ignore the treatment shrinks differences between"
        " units towards none: what it shows is likely there, what it does not show may be. Read unit "
        "effects together with the calibration (slope near 1: differences are as large as predicted; near "
        "0: noise) and with the rank-weighted effects before ranking anybody."
    ),
    example=Example(
        data="data/education/2025-01/ihdp.csv",
        roles={"outcome": "y_factual", "treatment": "treatment", "covariates": [f"x{j}" for j in range(1, 26)]},
    ),
    coverage_rows=4000,
    headline_of="aipw",
)
