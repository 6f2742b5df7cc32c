"""Augmented inverse probability weighting: outcome predictions corrected by weighted residuals; doubly robust."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.overlap import effective_size
from cqox_assets.errors import CatalogError
from cqox_assets.nuisance.models import CLIP, Data, judge_weights, shared_or_own, splits_of, unused_propensity
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import LinearFit, fit_linear, with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.numerics.scores import augmented_contrast, augmented_correction, balancing_weights, inside_support
from cqox_assets.numerics.splits import combined, split_notices, split_table
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_FEWEST_ROWS = 2
_Nuisances = tuple[np.ndarray, np.ndarray, np.ndarray]


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
    se : str
        `influence`: of the score with its models as known, which is right in large samples. `m_estimation`: the
        equations of the models (least squares per arm and logit, not cross-fitted) are stacked with that of the effect.
    """

    cross_fit: bool = True
    outcome_model: Literal["auto", "ols_per_arm"] = "auto"
    propensity: Literal["auto", "logit", "known"] = "auto"
    clip: float | None = None
    se: Literal["influence", "m_estimation"] = "influence"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.se == "m_estimation" and (self.cross_fit or self.trim is not None):
            why = "cross_fit is true" if self.cross_fit else "trim is given"
            raise CatalogError(f"parameter 'se' is m_estimation, but {why}; choose influence, or cross_fit: false")


@dataclass(frozen=True)
class _Fit:
    """One cross-fitting: propensity, its weights, point and influence of the rows that stay."""

    propensity: np.ndarray
    stays: np.ndarray
    clipped: int
    weight: np.ndarray
    point: float
    std_error: float


def run(study: Study, params: AipwParams, context: Context) -> EffectEstimate | Refusal:
    """Fit or fetch the nuisances and average the doubly robust score; with repeats, the median over their folds."""
    estimand, data = SPEC.estimand(params), Data.of(study)
    refusal = _refuse(study, data, params)
    if refusal is not None:
        return refusal
    fits: dict[int, _Fit] = {}
    for seed in range(params.seed, params.seed + (params.repeats if params.cross_fit else 1)):
        for used, nuisances in _nuisances(study, data, params, context, seed).items():
            fit = _score(data, params, estimand, nuisances)
            if isinstance(fit, Refusal):
                return fit
            fits[used] = fit
    return _answer(study, data, params, estimand, fits)


def _refuse(study: Study, data: Data, params: AipwParams) -> Refusal | None:
    if params.propensity == "known":
        refusal = SPEC.refuse_known_propensity(study, "propensity: known", "propensity: auto")
        if refusal is not None:
            return refusal
    columns, fewest = 1 + data.x.shape[1], int(min((data.d == arm).sum() for arm in (0, 1)))
    if not params.cross_fit and fewest <= columns:
        return SPEC.refuse(
            "too_few_rows",
            f"the smaller arm has {fewest} rows, least squares per arm has {columns} columns",
            "map fewer covariates, use cross_fit: true, or deliver more rows",
        )
    return None


def _clip(params: AipwParams) -> float:
    return params.clip if params.clip is not None else (CLIP if params.cross_fit else 0.0)


def _nuisances(study: Study, data: Data, params: AipwParams, context: Context, seed: int) -> dict[int, _Nuisances]:
    """Propensity and predicted outcomes of both arms, by the seed of the folds."""
    if not params.cross_fit:
        e = study.column(Role.PROPENSITY) if params.propensity == "known" else _logit(data)
        return {seed: (e, _least_squares(data, 0), _least_squares(data, 1))}
    need_e, need_m = params.propensity == "auto", params.outcome_model == "auto"
    if need_e or need_m:
        held = shared_or_own(study, params, context, seed=None if params.repeats == 1 else seed, clip=_clip(params))
    else:
        held = pd.DataFrame({"fold": data.content_folds(params.folds, seed)})
    found = {}
    for used, frame in splits_of(held, seed).items():
        if not (need_e and need_m):
            folded = data.folded(frame["fold"].to_numpy(), used)
        if need_e:
            e = frame["propensity"].to_numpy()
        else:
            e = study.column(Role.PROPENSITY) if params.propensity == "known" else folded.probability(data.d, "logit")
        if need_m:
            m0, m1 = frame["outcome_reference"].to_numpy(), frame["outcome_compared"].to_numpy()
        else:
            m0, m1 = (folded.mean(data.y, data.d == arm, "ols") for arm in (0, 1))
        found[used] = e, m0, m1
    return found


def _logit(data: Data) -> np.ndarray:
    return fit_logit(with_constant(data.x), data.d, data.weight).probability


def _least_squares(data: Data, arm: int) -> np.ndarray:
    fit = _outcome_fit(data, arm)
    return np.asarray(with_constant(data.x)[:, fit.kept] @ fit.coef)


def _outcome_fit(data: Data, arm: int) -> LinearFit:
    rows, design = data.d == arm, with_constant(data.x)
    return fit_linear(design[rows], data.y[rows], None if data.weight is None else data.weight[rows])


def _of_models(data: Data, params: AipwParams, estimand: str, raw: np.ndarray) -> np.ndarray:
    """Return what estimating the models adds to the influence; all rows stay."""
    design, clip = with_constant(data.x), _clip(params)
    weight, slope = balancing_weights(data.d, np.clip(raw, clip, 1 - clip), estimand)
    slope = np.where((raw < clip) | (raw > 1 - clip), 0.0, slope)
    logit = None if params.propensity == "known" else fit_logit(design, data.d, data.weight)
    return augmented_correction(
        (_outcome_fit(data, 0), _outcome_fit(data, 1)), logit, (data.d == 0, data.d == 1), design, weight, slope,
        data.sampling, estimand,
    )  # fmt: skip


def _score(data: Data, params: AipwParams, estimand: str, nuisances: _Nuisances) -> _Fit | Refusal:
    raw, m0, m1 = nuisances
    clip, stays = _clip(params), inside_support(raw, params.trim, "bound")
    part, e = data.rows(np.flatnonzero(stays)), np.clip(raw, clip, 1 - clip)[stays]
    if min((part.d == arm).sum() for arm in (0, 1)) < _FEWEST_ROWS:
        return SPEC.refuse(
            "nobody_left",
            f"after trimming at {params.trim} an arm has fewer than {_FEWEST_ROWS} rows",
            "choose a smaller trim, or compare groups that overlap",
        )
    weight = balancing_weights(part.d, e, estimand)[0] * part.sampling
    if not np.isfinite(weight).all():
        return SPEC.refuse(
            "no_overlap",
            "some propensities are 0 or 1, so their weights do not exist",
            "set clip or trim, or leave out the covariate that decides the treatment",
        )
    point, influence = augmented_contrast(part.y, part.d, e, m0[stays], m1[stays], part.sampling, estimand)
    if params.se == "m_estimation":
        influence = influence + _of_models(data, params, estimand, raw)
    cluster = None if part.cluster is None else np.unique(part.cluster, return_inverse=True)[1]
    clipped = int(np.sum(((raw <= clip) | (raw >= 1 - clip)) & stays)) if clip > 0 else 0
    return _Fit(e, stays, clipped, weight, point, influence_std_error(influence, cluster))


def _answer(study: Study, data: Data, params: AipwParams, estimand: str, fits: Mapping[int, _Fit]) -> EffectEstimate:
    splits = split_table(list(fits), [fit.point for fit in fits.values()], [fit.std_error for fit in fits.values()])
    counted = splits.head(params.repeats)
    point, error = combined(counted["estimate"].tolist(), counted["std_error"].tolist())
    shown = fits[int(counted["seed"].iloc[int((counted["estimate"] - point).abs().argmin())])]
    trimmed, treated = int((~shown.stays).sum()), data.d[shown.stays]
    kept = study.take(shown.stays) if trimmed else study
    notices = unused_propensity(study, params.propensity)
    if trimmed:
        notices.append(
            f"{trimmed} rows with a propensity outside [{params.trim:g}, {1 - (params.trim or 0):g}] were "
            "left out; the effect is that of the others"
        )
    if shown.clipped:
        bound = _clip(params)
        notices.append(f"the propensity of {shown.clipped} rows was moved to the bounds {bound:g} and {1 - bound:g}")
    effect = wald(
        point,
        error,
        estimand=estimand,
        contrast=f"{study.arms[1]} - {study.arms[0]}",
        level=params.level,
        df=None if data.cluster is None else float(len(np.unique(data.cluster[shown.stays])) - 1),
    )
    words = "influence function" if params.se == "influence" else "M-estimation, with the estimated models"
    words += ", clustered" if data.cluster is not None else ""
    rows = {"row": np.flatnonzero(shown.stays), "treated": treated.astype(int)}
    return SPEC.estimate(
        kept,
        [effect],
        inference=words + (f", median of {params.repeats} cross-fittings" if len(counted) > 1 else ""),
        diagnostics=judge_weights(kept, treated, shown.propensity, shown.weight),
        tables={
            "weights": pd.DataFrame({**rows, "weight": shown.weight}),
            "propensity": pd.DataFrame({**rows, "propensity": shown.propensity}),
            "splits": splits,
        },
        notices=[*notices, *split_notices(splits)],
        dropped={"trimmed": trimmed} if trimmed else None,
        effective_size=effective_size(shown.weight),
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
    tables=("weights", "propensity", "splits"),
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
    question="What would the arms' mean outcomes be if everyone were treated, or nobody, given the covariates?",
    formula=(
        r"\begin{aligned}"
        r"\hat\tau_{\mathrm{ATE}} &= \frac1n \sum_i \Big[\hat m_1(x_i) - \hat m_0(x_i)"
        r" + \frac{d_i (y_i - \hat m_1(x_i))}{\hat e(x_i)}"
        r" - \frac{(1 - d_i)(y_i - \hat m_0(x_i))}{1 - \hat e(x_i)}\Big] \\"
        r"\hat\tau_{\mathrm{ATT}} &= \frac{1}{n_1} \sum_i \Big[d_i - (1 - d_i) \frac{\hat e(x_i)}{1 - \hat e(x_i)}\Big]"
        r" (y_i - \hat m_0(x_i))"
        r"\end{aligned}"
    ),
    reading=(
        "Right if either the propensity or the outcome models are right; if both are a little wrong, its bias is the "
        "product of their errors. It cannot repair what no covariate shows. Look at overlap and the largest weight: "
        "where nearly everyone with certain covariates is treated, the answer rests on the outcome model there. The "
        "table `splits` says what other folds would have answered; if that is half a standard error, ask for repeats."
    ),
    coverage_rows=4000,
    claim_designs={"confounded_step": (0.35, 0.92)},
    claim_note=(
        "Nominal where the truths are smooth or linear. Where outcome and treatment both jump at unknown places, no "
        "model can say where exactly; both are wrong in the same strips, and the products of these errors do not "
        "average out: a third of a standard error at 2,000 rows, a quarter at 4,000, so that intervals cover slightly "
        "too seldom."
    ),
    example=Example(
        data="data/policy_psid/2025-01/lalonde_psid.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
        params={"estimand": "ATT"},
    ),
)
