"""Augmented inverse probability weighting: outcome predictions corrected by weighted residuals; doubly robust."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.overlap import effective_size
from cqox_assets.nuisance.models import CLIP, Data, judge_weights, shared_or_own, unused_propensity
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.numerics.scores import augmented_contrast, balancing_weights, inside_support
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec
from cqox_assets.study import Role, Study

_FEWEST_ROWS = 2


@dataclass(frozen=True)
class AipwParams(CommonParams):
    """Parameters of augmented inverse probability weighting.

    Parameters
    ----------
    cross_fit : bool
        True: every row is predicted by models that never saw its fold. False: models fitted to all rows.
    outcome_model : str
        `auto`: the learner named by `nuisance` when cross-fitted, else `ols_per_arm`. `ols_per_arm`: least squares
        in each arm.
    propensity : str
        `auto`: the learner named by `nuisance` when cross-fitted, else `logit`. `logit`: unpenalised, main effects.
        `known`: the column of role `propensity`.
    clip : float, optional
        Propensities are moved to [clip, 1 - clip]; by default 0.01 when cross-fitted, none otherwise.
    trim : float, optional
        Rows with a propensity outside [trim, 1 - trim] are left out after the models were fitted; the effect is that
        of the rows that stay.
    """

    cross_fit: bool = True
    outcome_model: Literal["auto", "ols_per_arm"] = "auto"
    propensity: Literal["auto", "logit", "known"] = "auto"
    clip: float | None = None


def run(study: Study, params: AipwParams, context: Context) -> EffectEstimate | Refusal:
    """Fit or fetch the nuisances and average the doubly robust score."""
    estimand, data = SPEC.estimand(params), Data.of(study)
    refusal = _refuse(study, data, params)
    if refusal is not None:
        return refusal
    clip = params.clip if params.clip is not None else (CLIP if params.cross_fit else 0.0)
    raw, m0, m1 = _nuisances(study, data, params, context, clip)
    stays = inside_support(raw, params.trim, "bound")
    notices = unused_propensity(study, params.propensity)
    if not stays.all():
        notices.append(
            f"{int((~stays).sum())} rows with a propensity outside [{params.trim:g}, {1 - (params.trim or 0):g}] were "
            "left out; the effect is that of the others"
        )
        study = study.take(stays)
        data = Data.of(study)
    e = np.clip(raw, clip, 1 - clip)
    clipped = int(np.sum(((raw <= clip) | (raw >= 1 - clip)) & stays)) if clip > 0 else 0
    if clipped:
        notices.append(f"the propensity of {clipped} rows was moved to the bounds {clip:g} and {1 - clip:g}")
    if min((data.d == arm).sum() for arm in (0, 1)) < _FEWEST_ROWS:
        return SPEC.refuse(
            "nobody_left",
            f"after trimming at {params.trim} an arm has fewer than {_FEWEST_ROWS} rows",
            "choose a smaller trim, or compare groups that overlap",
        )
    return _answer(study, data, params, estimand, (e[stays], m0[stays], m1[stays]), stays, notices)


def _refuse(study: Study, data: Data, params: AipwParams) -> Refusal | None:
    if params.propensity == "known" and not study.has(Role.PROPENSITY):
        return SPEC.refuse(
            "missing_role",
            "no column plays the role 'propensity', which propensity: known needs",
            "map it in study.yaml: roles: {propensity: <column>}, or use propensity: auto",
        )
    columns, fewest = 1 + data.x.shape[1], int(min((data.d == arm).sum() for arm in (0, 1)))
    if not params.cross_fit and fewest <= columns:
        return SPEC.refuse(
            "too_few_rows",
            f"the smaller arm has {fewest} rows, least squares per arm has {columns} columns",
            "map fewer covariates, use cross_fit: true, or deliver more rows",
        )
    return None


def _nuisances(
    study: Study, data: Data, params: AipwParams, context: Context, clip: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Propensity and predicted outcomes of both arms, shape (n,) each."""
    if not params.cross_fit:
        e = study.column(Role.PROPENSITY) if params.propensity == "known" else _logit(data)
        return e, _least_squares(data, 0), _least_squares(data, 1)
    need_e, need_m = params.propensity == "auto", params.outcome_model == "auto"
    held = shared_or_own(study, params, context, clip=clip) if need_e or need_m else pd.DataFrame()
    folded = data.folded(data.content_folds(params.folds, params.seed), params.seed)
    if need_e:
        e = held["propensity"].to_numpy()
    else:
        e = study.column(Role.PROPENSITY) if params.propensity == "known" else folded.probability(data.d, "logit")
    if need_m:
        return e, held["outcome_reference"].to_numpy(), held["outcome_compared"].to_numpy()
    return e, folded.mean(data.y, data.d == 0, "ols"), folded.mean(data.y, data.d == 1, "ols")


def _logit(data: Data) -> np.ndarray:
    return fit_logit(with_constant(data.x), data.d, data.weight).probability


def _least_squares(data: Data, arm: int) -> np.ndarray:
    rows, design = data.d == arm, with_constant(data.x)
    fit = fit_linear(design[rows], data.y[rows], None if data.weight is None else data.weight[rows])
    return np.asarray(design[:, fit.kept] @ fit.coef)


def _answer(
    study: Study,
    data: Data,
    params: AipwParams,
    estimand: str,
    nuisances: tuple[np.ndarray, np.ndarray, np.ndarray],
    stays: np.ndarray,
    notices: list[str],
) -> EffectEstimate | Refusal:
    e, m0, m1 = nuisances
    weight = balancing_weights(data.d, e, estimand)[0] * data.sampling
    if not np.isfinite(weight).all():
        return SPEC.refuse(
            "no_overlap",
            "some propensities are 0 or 1, so their weights do not exist",
            "set clip or trim, or leave out the covariate that decides the treatment",
        )
    point, influence = augmented_contrast(data.y, data.d, e, m0, m1, data.sampling, estimand)
    effect = wald(
        point,
        influence_std_error(influence, data.cluster),
        estimand=estimand,
        contrast=f"{study.arms[1]} - {study.arms[0]}",
        level=params.level,
        df=None if data.cluster is None else float(data.cluster.max()),
    )
    rows, treated, trimmed = np.flatnonzero(stays), data.d.astype(int), int((~stays).sum())
    return SPEC.estimate(
        study,
        [effect],
        inference="influence function" + (", clustered" if data.cluster is not None else ""),
        diagnostics=judge_weights(study, data.d, e, weight),
        tables={
            "weights": pd.DataFrame({"row": rows, "treated": treated, "weight": weight}),
            "propensity": pd.DataFrame({"row": rows, "treated": treated, "propensity": e}),
        },
        notices=notices,
        dropped={"trimmed": trimmed} if trimmed else None,
        effective_size=effective_size(weight),
    )


SPEC = EstimatorSpec(
    name="aipw",
    title="Augmented inverse probability weighting",
    family="doubly_robust",
    estimands=(Estimand.ATE, Estimand.ATT),
    shares_nuisance=True,
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT, Role.PROPENSITY}),
    aliases=("doubly_robust", "DR"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=(
        "Robins, Rotnitzky & Zhao 1994, doi:10.1080/01621459.1994.10476818",
        "Chernozhukov et al. 2018, doi:10.1111/ectj.12097",
    ),
    diagnostics=("overlap", "effective_sample_size", "weight_range"),
    tables=("weights", "propensity"),
    truths=(
        "randomised_trial",
        "confounded_linear",
        "confounded_smooth",
        "confounded_step",
        "weighted_sample",
        "clustered_trial",
        "three_arms",
        "null_effect",
    ),
    breaks=("no_overlap",),
    oracle=("aipw",),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "doubly robust to either model being wrong" if study.has(Role.COVARIATES) else "needs covariates",
        0.9,
    ),
    params=AipwParams,
)
