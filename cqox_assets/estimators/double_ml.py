"""Double machine learning: the effect left after outcome and treatment were predicted from covariates, cross-fitted.

`partialling_out` regresses outcome residuals on treatment residuals; with effects that differ between units it is an
average weighted by the variance of the treatment given covariates. `irm_ate` and `irm_atte` average doubly robust
scores and need no common effect. A variant with unit effects for panels is not offered here: repeated units are
clustered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.nuisance.models import CLIP, Data, judge_weights, shared_or_own, splits_of
from cqox_assets.numerics.folds import index_folds, random_folds
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.scores import augmented_contrast, balancing_weights, inside_support, partialled_out
from cqox_assets.numerics.splits import combined, split_notices, split_table
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec
from cqox_assets.study import Role, Study

_FEWEST_ROWS = 2
_PARTIALLING = "partialling_out"


@dataclass(frozen=True)
class DoubleMlParams(CommonParams):
    """Parameters of double machine learning.

    Parameters
    ----------
    score : str
        `partialling_out`, `irm_ate`, `irm_atte`; `auto`: partialling_out for the ATE, irm_atte for the ATT.
    outcome_learner : str
        `auto`: the learner named by `nuisance`. `ols`: one regression on all rows (of each arm for an irm score);
        `ols_per_arm`; `random_forest`, `gradient_boosting` (scikit-learn), `stack`, `spline`, `boosting`.
    treatment_learner : str
        `auto`: the learner named by `nuisance`. `ols` (linear probability), `logit`, `random_forest`,
        `gradient_boosting`, `stack`, `spline`, `boosting`.
    learner_params : mapping
        Keys `outcome_learner` and `treatment_learner`: arguments of scikit-learn's models.
    folds_by : str
        `content` (hash of the unit's content), `index_mod` (row number modulo folds; depends on the order of rows),
        `random` (a new equal-sized assignment per seed).
    seeds : tuple of int
        One cross-fitting each; by default seed, seed + 1, ... as many as `repeats`. The median estimate is reported
        with standard error median of sqrt(se^2 + (estimate - median)^2).
    se : str
        `HC1` (factor n / (n - 1)) or `influence` (no factor).
    clip : float, optional
        For irm scores, propensities are moved to [clip, 1 - clip]; by default 0.01, none with `logit`.
    trim : float, optional
        Rows with a propensity outside [trim, 1 - trim] are left out of the score.
    """

    score: Literal["auto", "partialling_out", "irm_ate", "irm_atte"] = "auto"
    outcome_learner: Literal[
        "auto", "ols", "ols_per_arm", "random_forest", "gradient_boosting", "stack", "spline", "boosting"
    ] = "auto"
    treatment_learner: Literal[
        "auto", "ols", "logit", "random_forest", "gradient_boosting", "stack", "spline", "boosting"
    ] = "auto"
    learner_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folds_by: Literal["content", "index_mod", "random"] = "content"
    seeds: tuple[int, ...] = ()
    se: Literal["HC1", "influence"] = "HC1"
    clip: float | None = None


@dataclass(frozen=True)
class _Fit:
    """One cross-fitting: point, standard error, propensity as used, rows that stay and rows that were clipped."""

    point: float
    std_error: float
    propensity: np.ndarray
    stays: np.ndarray
    clipped: int


def run(study: Study, params: DoubleMlParams, context: Context) -> EffectEstimate | Refusal:
    """Cross-fit, solve the score, repeat, take the median."""
    score, estimand = _score(params)
    data = Data.of(study)
    seeds = params.seeds or tuple(params.seed + k for k in range(params.repeats))
    fits: dict[int, _Fit] = {}
    for seed in seeds:
        for used, nuisances in _nuisances(study, data, params, context, score, seed).items():
            fit = _fit_once(data, params, score, nuisances)
            if isinstance(fit, Refusal):
                return fit
            fits[used] = fit
    splits = split_table(list(fits), [fit.point for fit in fits.values()], [fit.std_error for fit in fits.values()])
    counted = splits[splits["seed"].isin(seeds)]
    point, error = combined(counted["estimate"].tolist(), counted["std_error"].tolist())
    effect = wald(
        point,
        error,
        estimand=estimand,
        contrast=f"{study.arms[1]} - {study.arms[0]}",
        level=params.level,
        df=None if data.cluster is None else float(data.cluster.max()),
    )
    shown = fits[int(counted["seed"].iloc[int((counted["estimate"] - point).abs().argmin())])]
    return _report(study, data, params, score, effect, shown, splits)


def _score(params: DoubleMlParams) -> tuple[str, str]:
    estimand = SPEC.estimand(params)
    score: str = params.score
    if score == "auto":
        score = _PARTIALLING if estimand == Estimand.ATE else "irm_atte"
    if score == "irm_atte" and params.estimand is None:
        estimand = Estimand.ATT
    if (score == "irm_atte") != (estimand == Estimand.ATT):
        raise CatalogError(f"parameter 'score' is {score}, which does not estimate the {estimand}; choose another")
    return score, estimand


def _fit_once(data: Data, params: DoubleMlParams, score: str, nuisances: tuple[np.ndarray, ...]) -> _Fit | Refusal:
    clip = params.clip if params.clip is not None else (0.0 if params.treatment_learner in ("logit", "ols") else CLIP)
    raw, m0, m1, mean = nuisances
    stays = inside_support(raw, params.trim, "bound")
    d, y, sampling = data.d[stays], data.y[stays], data.sampling[stays]
    if min((d == arm).sum() for arm in (0, 1)) < _FEWEST_ROWS:
        return SPEC.refuse(
            "nobody_left",
            f"after trimming at {params.trim} an arm has fewer than {_FEWEST_ROWS} rows",
            "choose a smaller trim, or compare groups that overlap",
        )
    if score == _PARTIALLING:
        residual = d - raw[stays]
        if np.sum(sampling * residual**2) < 1e-8 * len(d):
            return SPEC.refuse(
                "no_variation",
                "the covariates predict the treatment perfectly, so nothing of it is left to explain the outcome",
                "leave out the covariate that decides the treatment",
            )
        point, influence = partialled_out(y - mean[stays], residual, sampling)
        e, clipped = raw, 0
    else:
        e = np.clip(raw, clip, 1 - clip)
        clipped = int(np.sum(((raw <= clip) | (raw >= 1 - clip)) & stays)) if clip > 0 else 0
        if e.min() <= 0 or e.max() >= 1:
            return SPEC.refuse(
                "no_overlap", "some propensities are 0 or 1, so the score does not exist", "set clip or trim"
            )
        target = Estimand.ATT if score == "irm_atte" else Estimand.ATE
        point, influence = augmented_contrast(y, d, e[stays], m0[stays], m1[stays], sampling, target)
    cluster = None if data.cluster is None else np.unique(data.cluster[stays], return_inverse=True)[1]
    factor = np.sqrt(len(d) / (len(d) - 1)) if params.se == "HC1" and cluster is None else 1.0
    return _Fit(point, factor * influence_std_error(influence, cluster), e, stays, clipped)


def _nuisances(
    study: Study, data: Data, params: DoubleMlParams, context: Context, score: str, seed: int
) -> dict[int, tuple[np.ndarray, ...]]:
    """Propensity, outcome predictions of both arms and of everybody, shape (n,) each, by the seed of the folds."""
    if params.folds_by == "content" and params.outcome_learner == params.treatment_learner == "auto":
        own_seed = None if seed == params.seed else seed
        held = shared_or_own(study, params, context, seed=own_seed, clip=min(CLIP, params.clip or CLIP))
        found: dict[int, tuple[np.ndarray, ...]] = {}
        for used, frame in splits_of(held, seed).items():
            e, m0, m1 = (frame[name].to_numpy() for name in ("propensity", "outcome_reference", "outcome_compared"))
            found[used] = e, m0, m1, e * m1 + (1 - e) * m0
        return found
    folded = data.folded(_folds(data, params, seed), seed)
    outcome, treatment = (
        params.nuisance if name == "auto" else name for name in (params.outcome_learner, params.treatment_learner)
    )
    settings = [params.learner_params.get(name) for name in ("outcome_learner", "treatment_learner")]
    e = folded.probability(data.d, treatment, settings[1])
    if score == _PARTIALLING and params.outcome_learner not in ("auto", "ols_per_arm"):
        mean = folded.mean(data.y, None, outcome, settings[0])
        return {seed: (e, mean, mean, mean)}
    learner = "ols" if outcome == "ols_per_arm" else outcome
    m0, m1 = (folded.means(data.y, data.d == arm, learner, settings[0]).close for arm in (0, 1))
    return {seed: (e, m0, m1, e * m1 + (1 - e) * m0)}


def _folds(data: Data, params: DoubleMlParams, seed: int) -> np.ndarray:
    if params.folds_by == "index_mod":
        return index_folds(len(data.y), params.folds)
    if params.folds_by == "random":
        return random_folds(len(data.y), params.folds, seed, data.cluster)
    return data.content_folds(params.folds, seed)


def _report(
    study: Study, data: Data, params: DoubleMlParams, score: str, effect: Any, fit: _Fit, splits: pd.DataFrame
) -> EffectEstimate:
    stays = fit.stays
    trimmed, treated, e = int((~stays).sum()), data.d[stays], fit.propensity[stays]
    notices = []
    if score == _PARTIALLING:
        notices.append("with effects that differ between units this is a variance-weighted average, not the plain one")
    if trimmed:
        notices.append(
            f"{trimmed} rows with a propensity outside [{params.trim:g}, {1 - (params.trim or 0):g}] were left out"
        )
    if fit.clipped:
        notices.append(f"the propensity of {fit.clipped} rows was moved to the clipping bound")
    target = Estimand.ATT if score == "irm_atte" else Estimand.ATE
    bounded = np.clip(e, CLIP, 1 - CLIP)
    weight = balancing_weights(treated, bounded, target)[0] * data.sampling[stays]
    words = f"{params.se} of the cross-fitted {score} score" + (", clustered" if data.cluster is not None else "")
    repeats = len(params.seeds) or params.repeats
    if repeats > 1:
        words += f", median of {repeats} cross-fittings"
    return SPEC.estimate(
        study if stays.all() else study.take(stays),
        [effect],
        inference=words,
        diagnostics=judge_weights(study, treated, e, weight)[:1],
        tables={
            "propensity": pd.DataFrame({"row": np.flatnonzero(stays), "treated": treated.astype(int), "propensity": e}),
            "splits": splits,
        },
        notices=[*notices, *split_notices(splits)],
        dropped={"trimmed": trimmed} if trimmed else None,
    )


SPEC = EstimatorSpec(
    name="double_ml",
    title="Double machine learning",
    family="machine_learning",
    estimands=(Estimand.ATE, Estimand.ATT),
    shares_nuisance=True,
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT}),
    aliases=("DML", "PLR", "IRM", "TVCE"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "common_effect", "consistency", "no_interference"),
    references=("Chernozhukov et al. 2018, doi:10.1111/ectj.12097", "Robinson 1988, doi:10.2307/1912705"),
    diagnostics=("overlap",),
    tables=("propensity", "splits"),
    truths=("randomised_trial", "confounded_linear", "clustered_trial", "weighted_sample", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=("dml_plr", "dml_irm"),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "covariates are mapped and may act nonlinearly" if study.has(Role.COVARIATES) else "needs covariates",
        0.85,
    ),
    params=DoubleMlParams,
    coverage_rows=4000,
)
