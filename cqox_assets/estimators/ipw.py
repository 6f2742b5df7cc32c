"""Inverse probability weighting: arms weighted to the covariates of everybody, of the treated or of the overlap.

The propensity is estimated by logit unless another model is named; with logit the standard error accounts for it by
stacking its score equations with those of the means. Only `normalise`, `propensity`, `trim` and `se` change a number.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.diagnostics.overlap import effective_size
from cqox_assets.errors import CatalogError
from cqox_assets.nuisance.models import CLIP, Data, judge_weights, unused_propensity
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.logit import LogitFit, fit_logit
from cqox_assets.numerics.scores import balancing_weights, hajek_contrast, horvitz_thompson_contrast, inside_support
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_OVERLAP_LIMIT = 0.9
_FEWEST_ROWS = 2


@dataclass(frozen=True)
class IpwParams(CommonParams):
    """Parameters of inverse probability weighting.

    Parameters
    ----------
    normalise : str
        `hajek`: weights sum to one in each arm; `horvitz_thompson` (or `none`): sums over the size of the target.
    propensity : str
        `logit` (unpenalised, main effects), `known` (the column of role `propensity`), or cross-fitted: `stack`,
        `spline`, `boosting`, `random_forest`.
    trim, trim_rule : float, str
        `bound`: rows with a propensity outside [trim, 1 - trim] are left out; `quantile`: rows outside the
        propensity's own quantiles of order trim and 1 - trim. An estimated propensity is fitted again to the rows
        that stay, and the effect is that of those rows.
    clip : float, optional
        Propensities are moved to [clip, 1 - clip]; by default 0.01 for cross-fitted models, none for the others.
    se : str
        `m_estimation`: logit equations stacked with those of the means (Lunceford & Davidian 2004,
        doi:10.1002/sim.1903), default with logit; of a known propensity only those of the means. `known_weights`: HC0
        of weighted least squares, weights as known. `influence`: influence of the contrast with the propensity as
        known; equals `known_weights` under `hajek`; default otherwise, and then on the safe side for the ATE. `auto`:
        the default.
    """

    normalise: Literal["hajek", "horvitz_thompson", "none"] = "hajek"
    propensity: Literal["logit", "known", "stack", "spline", "boosting", "random_forest"] = "logit"
    trim_rule: Literal["bound", "quantile"] = "bound"
    clip: float | None = None
    se: Literal["auto", "m_estimation", "known_weights", "influence"] = "auto"


@dataclass(frozen=True)
class _Scores:
    """Propensities as used, the logit that they come from, and clipped rows."""

    propensity: np.ndarray
    fit: LogitFit | None
    clipped: np.ndarray


def run(study: Study, params: IpwParams, context: Context) -> EffectEstimate | Refusal:
    """Weight each arm to the target and compare the weighted means."""
    estimand = SPEC.estimand(params)
    if params.se == "m_estimation" and params.propensity not in ("logit", "known"):
        raise CatalogError("parameter 'se' is m_estimation, which needs propensity logit or known; choose influence")
    refusal = _refuse(study, params)
    if refusal is not None:
        return refusal
    scores = _fit(study, params, context)
    stays = inside_support(scores.propensity, params.trim, params.trim_rule)
    part = study
    if not stays.all():
        part = study.take(stays)
        refusal = _refuse(part, params, trimmed=True)
        if refusal is not None:
            return refusal
        if params.propensity == "known":
            scores = _Scores(scores.propensity[stays], None, scores.clipped[stays])
        else:
            scores = _fit(part, params, Context.fresh())
    return _answer(part, params, estimand, scores, stays)


def _refuse(study: Study, params: IpwParams, *, trimmed: bool = False) -> Refusal | None:
    treated = study.column(Role.TREATMENT)
    fewest = int(min((treated == 1).sum(), (treated == 0).sum()))
    if trimmed and fewest < _FEWEST_ROWS:
        return SPEC.refuse(
            "nobody_left",
            f"after trimming at {params.trim} an arm has {fewest} rows left",
            "choose a smaller trim, or compare groups that overlap",
        )
    if params.propensity != "known" and not study.has(Role.COVARIATES):
        return SPEC.refuse(
            "missing_role",
            "no column plays the role 'covariates', which a propensity model needs",
            "map it in study.yaml: roles: {covariates: [<columns>]}, or use propensity: known",
        )
    columns = 1 + len(study.names(Role.COVARIATES))
    if params.propensity == "logit" and len(study) <= columns:
        return SPEC.refuse(
            "too_few_rows",
            f"{len(study)} rows cannot carry a logit with {columns} columns",
            "map fewer covariates or deliver more rows",
        )
    if params.propensity == "known":
        return SPEC.refuse_known_propensity(study, "propensity: known", "propensity: logit")
    return None


def _fit(study: Study, params: IpwParams, context: Context) -> _Scores:
    data = Data.of(study)
    fit = None
    if params.propensity == "logit":
        fit = fit_logit(with_constant(data.x), data.d, data.weight)
        raw = fit.probability
    elif params.propensity == "known":
        raw = study.column(Role.PROPENSITY)
    else:
        held = context.shared(study, params) if params.propensity == params.nuisance else None
        if held is not None:
            raw = held["propensity"].to_numpy()
        else:
            folded = data.folded(data.content_folds(params.folds, params.seed), params.seed)
            raw = folded.probability(data.d, params.propensity)
    clip = params.clip if params.clip is not None else 0.0 if params.propensity in ("logit", "known") else CLIP
    return _Scores(np.clip(raw, clip, 1 - clip), fit, (raw < clip) | (raw > 1 - clip))


def _answer(
    study: Study, params: IpwParams, estimand: str, scores: _Scores, stays: np.ndarray
) -> EffectEstimate | Refusal:
    data, e = Data.of(study), scores.propensity
    rows, trimmed = np.flatnonzero(stays), int((~stays).sum())
    weight, slope = balancing_weights(data.d, e, estimand)
    slope = np.where(scores.clipped, 0.0, slope)
    if not np.isfinite(weight).all() or min(weight[data.d == arm].sum() for arm in (0, 1)) <= 0:
        return SPEC.refuse(
            "no_overlap",
            "some propensities are 0 or 1, so their weights do not exist",
            "trim, clip, or leave out the covariate that decides the treatment",
        )
    weight, slope = weight * data.sampling, slope * data.sampling
    if params.normalise == "hajek":
        point, influence, multiplier = hajek_contrast(data.y, data.d, weight, slope)
    else:
        point, influence, multiplier = horvitz_thompson_contrast(
            data.y, data.d, e, weight, slope, data.sampling, estimand
        )
    words, std_error = _std_error(data, params, scores, influence, multiplier)
    effect = wald(
        point,
        std_error,
        estimand=estimand,
        contrast=f"{study.arms[1]} - {study.arms[0]}",
        level=params.level,
        df=None if data.cluster is None else float(data.cluster.max()),
    )
    balance = balance_table(study, weight)
    worst, which = worst_difference(balance)
    treated = data.d.astype(int)
    return SPEC.estimate(
        study,
        [effect],
        inference=words,
        diagnostics=[
            *judge_weights(study, data.d, e, weight, overlap_limit=_OVERLAP_LIMIT),
            SPEC.judge(study, "adjusted_smd", worst, which),
        ],
        tables={
            "weights": pd.DataFrame({"row": rows, "treated": treated, "weight": weight}),
            "propensity": pd.DataFrame({"row": rows, "treated": treated, "propensity": e}),
            "balance": balance,
        },
        notices=[*_notices(params, scores, trimmed), *unused_propensity(study, params.propensity)],
        dropped={"trimmed": trimmed} if trimmed else None,
        effective_size=effective_size(weight),
    )


def _std_error(
    data: Data, params: IpwParams, scores: _Scores, influence: np.ndarray, multiplier: np.ndarray
) -> tuple[str, float]:
    words = "influence function, propensity as known"
    if scores.fit is not None and params.se in ("auto", "m_estimation"):
        influence = influence + scores.fit.influence(multiplier @ scores.fit.design / len(multiplier))
        words = "M-estimation, with the estimated propensity"
    elif params.se == "known_weights" and params.normalise == "hajek":
        words = "HC0 of weighted least squares, weights as known"
    if data.cluster is not None:
        words += ", clustered"
    return words, influence_std_error(influence, data.cluster)


def _notices(params: IpwParams, scores: _Scores, trimmed: int) -> list[str]:
    notices = []
    if trimmed:
        bounds = f"[{params.trim:g}, {1 - (params.trim or 0):g}]"
        what = f"outside {bounds}" if params.trim_rule == "bound" else f"beyond its quantiles {bounds}"
        notices.append(f"{trimmed} rows with a propensity {what} were left out; the effect is that of the others")
    if scores.clipped.any():
        notices.append(f"the propensity of {int(scores.clipped.sum())} rows was moved to the clipping bound")
    return notices


SPEC = EstimatorSpec(
    name="ipw",
    title="Inverse probability weighting",
    family="weighting",
    estimands=(Estimand.ATE, Estimand.ATT, Estimand.ATO),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT}),
    accepts=frozenset({Role.COVARIATES, Role.WEIGHT, Role.CLUSTER, Role.UNIT, Role.PROPENSITY}),
    aliases=("inverse_propensity_weighting", "IPTW"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "propensity_model", "consistency", "no_interference"),
    references=(
        "Hirano, Imbens & Ridder 2003, doi:10.1111/1468-0262.00442",
        "Lunceford & Davidian 2004, doi:10.1002/sim.1903",
        "Li, Morgan & Zaslavsky 2018, doi:10.1080/01621459.2016.1260466",
    ),
    diagnostics=("overlap", "effective_sample_size", "weight_range", "adjusted_smd"),
    tables=("weights", "propensity", "balance"),
    truths=("randomised_trial", "confounded_linear", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("no_overlap",),
    oracle=("ipw", "propensity_score"),
    applicable=lambda study: (
        study.has(Role.COVARIATES) or study.has(Role.PROPENSITY),
        "covariates are mapped, so treatment can be modelled" if study.has(Role.COVARIATES) else "needs covariates",
        0.7,
    ),
    params=IpwParams,
    question="What would the arms' means be if everyone were weighted to look like the whole population?",
    formula=r"\begin{aligned}"
    r"\hat\tau &= \frac{\sum_i d_i w_i y_i}{\sum_i d_i w_i} - \frac{\sum_i (1 - d_i) w_i y_i}{\sum_i (1 - d_i) w_i},"
    r"\qquad w_i = h_i \Big(\frac{d_i}{\hat e_i} + \frac{1 - d_i}{1 - \hat e_i}\Big) \\"
    r"h_i &= 1 \ (\mathrm{ATE}), \qquad \hat e_i \ (\mathrm{ATT}), \qquad \hat e_i (1 - \hat e_i) \ (\mathrm{ATO}) \\"
    r"\hat\tau_{\mathrm{HT}} &= \frac{\sum_i d_i w_i y_i - \sum_i (1 - d_i) w_i y_i}{\sum_i t_i},"
    r"\qquad t_i = 1,\ d_i,\ \hat e_i (1 - \hat e_i)"
    r"\end{aligned}",
    reading="Everything rests on the model of who is treated. Look at adjusted_smd after weighting, at the effective "
    "sample size and at the largest weight: a few heavy units make the answer theirs. Overlap weights (estimand ATO) "
    "or a trim are remedies, for another population. The weights h say whom the answer is about: all units (ATE), the "
    "treated (ATT), or those who could have had either arm (ATO). normalise: horvitz_thompson (HT) divides the sums by "
    "the size t of that population, so that a shift of the outcome moves the answer; hajek does not.",
    coverage_rows=4000,
    example=Example(
        data="data/policy/2025-01/lalonde_nsw.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
