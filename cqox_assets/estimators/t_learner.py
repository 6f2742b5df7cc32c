"""T-learner: one outcome model per arm; a unit's effect is the difference of its two predictions."""

import pandas as pd

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
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_OFFERED = ("ols", "logit_per_arm", "random_forest", "boosting", "spline", "stack")


def run(study: Study, params: LearnerParams, context: Context) -> EffectEstimate | Refusal:
    """Predict unit effects as the difference of two outcome models.

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
    tau(x) = m1(x) - m0(x), m_a fitted to the units of arm a (Kuenzel et al. 2019, doi:10.1073/pnas.1804597116).
    """
    check_learner(params, _OFFERED)
    held = nuisances(study, params, context)
    found = predict_by_engine(SPEC, study, params, lambda: _predict(study, params, context, held))
    return report(SPEC, study, params, held, found)


def _predict(study: Study, params: LearnerParams, context: Context, held: pd.DataFrame) -> Predicted:
    data = Data.of(study)
    if not params.cross_fit and params.chosen != "random_forest":
        return parametric(study, "logit_per_arm" if params.chosen == "logit_per_arm" else "ols_per_arm")
    if params.cross_fit:
        reference, compared = outcomes(
            data, shared_folded(study, params, context, held["fold"].to_numpy()), params, held
        )
    else:
        reference, compared = (
            fit_in_sample(data, data.x, data.y, data.d == arm, [data.x], params)[0] for arm in (0, 1)
        )
    return Predicted(compared - reference)


SPEC = EstimatorSpec(
    name="t_learner",
    title="T-learner",
    family="heterogeneity",
    estimands=(Estimand.ATE, Estimand.CATE),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT}),
    aliases=("T-learner",),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=("Kuenzel et al. 2019, doi:10.1073/pnas.1804597116",),
    diagnostics=("overlap", "effect_calibration"),
    tables=("unit_effects", "calibration", "best_linear_predictor", "uplift", "rank_weighted_effects", "splits"),
    truths=("randomised_trial", "confounded_smooth", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=("t_learner", "uplift_qini", "uplift_auuc"),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "predicts each arm by a model of its own, so effects may differ between units"
        if study.has(Role.COVARIATES)
        else "needs covariates",
        0.55,
    ),
    params=LearnerParams,
    shares_nuisance=True,
    question="How much does the effect differ between units, if each arm has a model of its own?",
    formula=(r"\hat\tau(x) = \hat m_1(x) - \hat m_0(x)"),
    reading=(
        "The headline is the average of the doubly robust score, the same for every learner; only the unit "
        "effects are the learner's own. The errors of two models add up, so unit effects vary more than "
        "they should where arms are small; trust it when both arms have many rows. Read unit effects "
        "together with the calibration (slope near 1: differences are as large as predicted; near 0: noise)"
        " and with the rank-weighted effects before ranking anybody."
    ),
    example=Example(
        data="data/education/2025-01/ihdp.csv",
        roles={"outcome": "y_factual", "treatment": "treatment", "covariates": [f"x{j}" for j in range(1, 26)]},
    ),
    coverage_rows=4000,
    headline_of="aipw",
)
