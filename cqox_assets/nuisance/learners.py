"""What the meta-learners share: parameters, models in and out of sample, and the report on predicted unit effects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.uplift import rank_weighted_effect, uplift_table
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.nuisance.econml_engine import OFFERED as ECONML_LEARNERS
from cqox_assets.nuisance.econml_engine import Choice, learner_effects
from cqox_assets.nuisance.models import CLIP, Data, judge_weights, shared_or_own, splits_of
from cqox_assets.numerics.crossfit import Folded
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.sample import collinear_notice
from cqox_assets.numerics.scores import augmented_contrast, balancing_weights
from cqox_assets.numerics.splits import split_notices, split_table
from cqox_assets.numerics.standardise import fit_outcome, standardised_mean
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec
from cqox_assets.study import Role, Study

_GROUPS = 5


@dataclass(frozen=True)
class LearnerParams(CommonParams):
    """Parameters of a meta-learner.

    Parameters
    ----------
    learner : str
        `auto`: the learner named by `nuisance`. `ols`: least squares (per arm, or on all rows for the S-learner);
        `ols_pooled`: 1 + d + X on all rows (S-learner); `logit_per_arm` (T-learner, outcome 0 or 1);
        `random_forest`, `boosting`, `spline`, `stack`.
    learner_params : mapping
        Arguments of scikit-learn's random forest.
    cross_fit : bool
        True: every unit's effect is predicted by models that never saw its fold. False: models fitted to all rows
        (`ols`, `ols_pooled`, `logit_per_arm`, `random_forest`).
    ate : str
        `doubly_robust`: the average of the doubly robust score, whose standard error is honest; `mean_effect`: the mean
        of the predicted effects, with a standard error only for least squares and logit fitted to all rows.
    round_score : int, optional
        Decimals that predicted effects are rounded to before units are ranked.
    engine : str
        `own`; `econml`: its SLearner, TLearner, XLearner or DRLearner predicts the unit effects, from `ols`,
        `random_forest` or `boosting` (LightGBM, which `auto` stands for unless `nuisance` is linear or random_forest).
        The doubly robust score, and so the average, is the same for both.
    """

    learner: Literal["auto", "ols", "ols_pooled", "logit_per_arm", "random_forest", "boosting", "spline", "stack"] = (
        "auto"
    )
    learner_params: Mapping[str, Any] = field(default_factory=dict)
    cross_fit: bool = True
    ate: Literal["doubly_robust", "mean_effect"] = "doubly_robust"
    round_score: int | None = None
    engine: Literal["own", "econml"] = "own"

    @property
    def chosen(self) -> str:
        """Name of the learner, with `auto` and `linear` resolved."""
        name = self.nuisance if self.learner == "auto" else self.learner
        return "ols" if name == "linear" else name


@dataclass(frozen=True)
class Predicted:
    """Predicted effects of all units, and the influence of their mean where it is known."""

    effect: np.ndarray
    influence: np.ndarray | None = None
    notices: tuple[str, ...] = ()


def check_learner(params: LearnerParams, offered: Sequence[str]) -> None:
    """Raise unless the learner is offered and, in sample, can be judged by its fit."""
    if params.learner not in ("auto", *offered):
        raise CatalogError(f"parameter 'learner' is {params.learner}; allowed are auto, {', '.join(offered)}")
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but the effects of all units are asked for; use aipw to trim")
    if params.engine == "econml":
        if params.learner not in ("auto", *ECONML_LEARNERS):
            raise CatalogError(
                f"parameter 'learner' is {params.learner}; engine econml offers auto, {', '.join(ECONML_LEARNERS)}"
            )
        return
    if params.cross_fit and params.learner == "logit_per_arm":
        raise CatalogError("parameter 'learner' is logit_per_arm, which is fitted to all rows; set cross_fit: false")
    if not params.cross_fit and params.chosen not in ("ols", "ols_pooled", "logit_per_arm", "random_forest"):
        raise CatalogError(
            f"parameter 'cross_fit' is false, which {params.chosen} does not offer; choose another learner"
        )


def predict_by_engine(
    spec: EstimatorSpec, study: Study, params: LearnerParams, own: Callable[[], Predicted]
) -> Predicted:
    """Return the effects that the engine of `params` predicts; `own` is called for the platform's."""
    if params.engine == "own":
        return own()
    learner = params.chosen if params.chosen in ECONML_LEARNERS else "boosting"
    choice = Choice(learner, params.learner_params, params.folds if params.cross_fit else 0, params.seed)
    return Predicted(
        learner_effects(spec.name, Data.of(study), choice), notices=(f"unit effects by econml, learner {learner}",)
    )


def fit_in_sample(
    data: Data, x: np.ndarray, target: np.ndarray, rows: np.ndarray, at: Sequence[np.ndarray], params: LearnerParams
) -> list[np.ndarray]:
    """Fit one regression to some rows and predict it at each of the given covariates, shape (n,) each."""
    weight = None if data.weight is None else data.weight[rows]
    if params.chosen == "random_forest":
        from sklearn.ensemble import RandomForestRegressor

        settings = {"n_estimators": 200, "min_samples_leaf": 10, "max_features": 0.5, "n_jobs": 1}
        model = RandomForestRegressor(**{**settings, "random_state": params.seed, **params.learner_params})
        model.fit(x[rows], target[rows], sample_weight=weight)
        return [np.asarray(model.predict(place)) for place in at]
    fit = fit_linear(with_constant(x)[rows], target[rows], weight)
    return [np.asarray(with_constant(place)[:, fit.kept] @ fit.coef) for place in at]


def outcomes(data: Data, folded: Folded, params: LearnerParams, held: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return cross-fitted outcome predictions of the reference and the compared arm, shape (n,) each.

    Those of the nuisances unless another learner is asked for; they are the ones that predict best.
    """
    if params.learner == "auto":
        return held["best_reference"].to_numpy(), held["best_compared"].to_numpy()
    m0, m1 = (folded.mean(data.y, data.d == arm, params.chosen, params.learner_params) for arm in (0, 1))
    return m0, m1


def parametric(study: Study, kind: str) -> Predicted:
    """Fit least squares (`ols_per_arm`, `ols_pooled`) or `logit_per_arm` to all rows; the mean's influence is exact."""
    data = Data.of(study)
    pooled = kind == "ols_pooled"
    model = fit_outcome(
        data.x, data.d, data.y, data.weight, kind="ols_pooled_interacted" if pooled else kind, moderators=(),
        names=study.names(Role.COVARIATES),
    )  # fmt: skip
    means = [standardised_mean(model, arm, data.sampling) for arm in (1, 0)]
    effect = model.prediction[1] - model.prediction[0]
    return Predicted(effect, means[0][1] - means[1][1], tuple(collinear_notice(model.dropped)))


def report(
    spec: EstimatorSpec, study: Study, params: LearnerParams, held: pd.DataFrame, found: Predicted
) -> EffectEstimate | Refusal:
    """Average and judge predicted unit effects.

    Parameters
    ----------
    spec : EstimatorSpec
        The entry in whose name the estimate is made.
    study : Study
        Of two arms.
    params : LearnerParams
    held : DataFrame
        Cross-fitted `propensity`, `outcome_reference`, `outcome_compared` of every unit.
    found : Predicted

    Notes
    -----
    Score of unit i: m1 - m0 + d (y - m1)/e - (1 - d)(y - m0)/(1 - e). Its mean is the ATE; its regression on the
    predicted effects says whether they are calibrated (slope 1), and on the covariates what the effect depends on
    (Semenova & Chernozhukov 2021, doi:10.1093/ectj/utaa027).
    """
    data = Data.of(study)
    e, m0, m1 = (held[name].to_numpy() for name in ("propensity", "outcome_reference", "outcome_compared"))
    point, influence = augmented_contrast(data.y, data.d, e, m0, m1, data.sampling, Estimand.ATE)
    score = m1 - m0 + np.where(data.d == 1, (data.y - m1) / e, -(data.y - m0) / (1 - e))
    effect, notices = found.effect, list(found.notices)
    error = influence_std_error(influence, data.cluster)
    words = "influence function of the doubly robust score"
    if params.ate == "mean_effect":
        point, words = float(np.average(effect, weights=data.weight)), "stacked estimating equations"
        error = 0.0 if found.influence is None else influence_std_error(found.influence, data.cluster)
        if found.influence is None:
            words = "none: the mean of predicted effects has no known standard error"
            notices.append("the mean of predicted effects has no standard error; ate: doubly_robust has one")
    headline = wald(
        point, error, estimand=Estimand.ATE, contrast=f"{study.arms[1]} - {study.arms[0]}", level=params.level,
        df=None if data.cluster is None else float(data.cluster.max()),
    )  # fmt: skip
    if not params.cross_fit:
        notices.append("effects were predicted from the rows that the models were fitted to, so ranks look too good")
    ranked = effect if params.round_score is None else np.round(effect, params.round_score)
    units = {"row": np.arange(len(effect)), "treated": data.d.astype(int), "effect": ranked, "score": score}
    splits = _splits(data, held, params)
    calibration = calibration_table(effect, score, data.sampling, data.cluster)
    return spec.estimate(
        study, with_groups(spec, headline, calibration, params),
        inference=words + (", clustered" if data.cluster is not None else ""),
        diagnostics=judge_effects(spec, study, data, e, effect, score),
        tables={
            "unit_effects": pd.DataFrame(units),
            "calibration": calibration,
            **effect_tables(study, data, ranked, score, held["fold"].to_numpy()),
            "splits": splits,
        },
        notices=[*notices, *clipped_notice(e), *split_notices(splits)],
    )  # fmt: skip


def _splits(data: Data, held: pd.DataFrame, params: LearnerParams) -> pd.DataFrame:
    """Return the average effect and its standard error from each assignment of folds that was tried."""
    found = []
    for frame in splits_of(held, params.seed).values():
        e, m0, m1 = (frame[name].to_numpy() for name in ("propensity", "outcome_reference", "outcome_compared"))
        point, influence = augmented_contrast(data.y, data.d, e, m0, m1, data.sampling, Estimand.ATE)
        found.append((point, influence_std_error(influence, data.cluster)))
    points, errors = zip(*found, strict=True)
    return split_table(list(splits_of(held, params.seed)), points, errors)


def clipped_notice(e: np.ndarray) -> list[str]:
    """Return the notice that propensities were moved to their bounds, or nothing."""
    moved = int(np.sum((e <= CLIP) | (e >= 1 - CLIP)))
    return [f"the propensity of {moved} rows was moved to the bounds {CLIP} and {1 - CLIP}"] if moved else []


def judge_effects(
    spec: EstimatorSpec, study: Study, data: Data, e: np.ndarray, effect: np.ndarray, score: np.ndarray
) -> list[Diagnostic]:
    """Judge the overlap that the average rests on, and the calibration of the unit effects."""
    weight = balancing_weights(data.d, e, Estimand.ATE)[0] * data.sampling
    return [judge_weights(study, data.d, e, weight)[0], _calibrated(spec, study, data, effect, score)]


def effect_tables(
    study: Study, data: Data, ranked: np.ndarray, score: np.ndarray, fold: np.ndarray
) -> dict[str, pd.DataFrame]:
    """Return what the effects depend on, and how well they rank units: three tables by name.

    `ranked` and `score` are unit effects and doubly robust scores, shape (n,); ranks are judged within each `fold`.
    """
    return {
        "best_linear_predictor": _linear_predictor(study, data, score),
        "uplift": uplift_table(ranked, data.y, data.d, data.weight),
        "rank_weighted_effects": _ranked(ranked, score, data, fold),
    }


def nuisances(study: Study, params: LearnerParams, context: Context) -> pd.DataFrame:
    """Return the cross-fitted nuisances of the doubly robust score, shared where they are what is asked for."""
    return shared_or_own(study, params, context)


def calibration_table(
    effect: np.ndarray, score: np.ndarray, sampling: np.ndarray, cluster: np.ndarray | None, groups: int = _GROUPS
) -> pd.DataFrame:
    """Return one row per group of units of similar predicted effect, lowest first.

    Columns: `group`, `rows`, `predicted` (mean), `observed` (mean of the doubly robust score) and its `std_error`.
    """
    edges = np.quantile(effect, np.linspace(0, 1, groups + 1)[1:-1])
    group = np.searchsorted(np.unique(edges), effect, side="left")
    rows = []
    for place, value in enumerate(np.unique(group), start=1):
        inside = (group == value) * sampling
        share = inside.mean()
        if share == 0:
            continue
        observed = float((inside * score).mean() / share)
        error = influence_std_error(inside * (score - observed) / share, cluster)
        predicted = float((inside * effect).mean() / share)
        rows.append(
            {"group": place, "rows": int((group == value).sum()), "predicted": predicted, "observed": observed,
             "std_error": error}
        )  # fmt: skip
    return pd.DataFrame(rows)


def with_groups(spec: EstimatorSpec, headline: Effect, calibration: pd.DataFrame, params: CommonParams) -> list[Effect]:
    """Return the average effect and those of the groups of similar predicted effect; which comes first is asked for.

    A group's effect is the mean of its doubly robust scores (Chernozhukov et al. 2025, doi:10.3982/ECTA19303).
    """
    groups = [
        wald(
            float(row["observed"]), float(row["std_error"]), estimand=Estimand.CATE, contrast=headline.contrast,
            level=params.level, at={"group": f"{row['group']:.0f} of {len(calibration)} by predicted effect"},
        )
        for row in calibration.to_dict("records")
    ]  # fmt: skip
    return [*reversed(groups), headline] if spec.estimand(params) == Estimand.CATE else [headline, *reversed(groups)]


def _calibrated(spec: EstimatorSpec, study: Study, data: Data, effect: np.ndarray, score: np.ndarray) -> Diagnostic:
    spread = float(np.sqrt(np.average((effect - effect.mean()) ** 2, weights=data.weight)))
    if spread <= 1e-9 * max(float(np.abs(effect).max()), float(data.y.std()), 1e-300):
        return spec.judge(study, "effect_calibration", None, "all units have the same predicted effect")
    fit = fit_linear(with_constant((effect - effect.mean()) / spread), score, data.weight)
    if len(fit.coef) < 2 or fit.df_residual < 1:
        return spec.judge(study, "effect_calibration", None, "too few rows")
    slope = float(fit.coef[1]) / spread
    words = "slope of the doubly robust score on the predicted effects; 1 is calibrated, 0 is noise"
    return spec.judge(study, "effect_calibration", slope, words)


def _linear_predictor(study: Study, data: Data, score: np.ndarray) -> pd.DataFrame:
    """Return the regression of the score on the covariates: `term`, `estimate`, `std_error`."""
    centred = data.x - np.average(data.x, axis=0, weights=data.weight)
    design, names = with_constant(centred), ["const", *(study.label(name) for name in study.names(Role.COVARIATES))]
    if len(score) <= design.shape[1] + 1:
        design, names = design[:, :1], names[:1]
    fit = fit_linear(design, score, data.weight)
    covariance = fit.covariance("HC1" if data.cluster is None else "CR1", data.cluster)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return pd.DataFrame({"term": [names[j] for j in fit.kept], "estimate": fit.coef, "std_error": errors})


def _ranked(priority: np.ndarray, score: np.ndarray, data: Data, fold: np.ndarray) -> pd.DataFrame:
    """Return rank-weighted average effects, `measure`, `estimate` and `std_error`, averaged over the folds.

    A fold's scores do not depend on its own predictions, but folds depend on one another through the models that they
    train: pooled standard errors were up to 1.8 times too small in simulations. The mean of the folds' standard errors
    bounds that of their mean whatever the dependence.
    """
    rows = []
    for form in ("autoc", "qini"):
        parts = []
        for k in np.unique(fold):
            inside = (fold == k) & (data.sampling > 0)
            if not inside.any():
                continue
            weight = data.sampling[inside]
            cluster = None if data.cluster is None else np.unique(data.cluster[inside], return_inverse=True)[1]
            found = rank_weighted_effect(priority[inside], score[inside], weight / weight.mean(), form, cluster)
            parts.append((weight.sum(), *found))
        share, value, error = np.array(parts).T
        rows.append(
            {
                "measure": form,
                "estimate": float(np.average(value, weights=share)),
                "std_error": float(np.average(error, weights=share)),
            }
        )
    return pd.DataFrame(rows)
