"""Partial R2: how much of treatment and outcome a hidden confounder must explain, measured against known covariates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.measures import Status, judge
from cqox_assets.nuisance.models import fit_nuisance
from cqox_assets.numerics.omitted_variables import (
    Coefficient,
    adjusted,
    benchmark_bound,
    benchmark_strengths,
    bias_of,
    fit_coefficient,
    gains,
    residual_parts,
    robustness_of_scale,
    robustness_value,
)
from cqox_assets.result import Effect, EffectEstimate, Estimand, Nuisance, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import confoundable
from cqox_assets.spec import CommonParams, Context, SensitivitySpec
from cqox_assets.study import Role, Study, TreatmentKind

# Estimates of the ATE whose bias under an omitted variable has the form of a doubly robust score.
_SCORED = {"aipw", "double_ml", "dr_learner", "s_learner", "t_learner", "x_learner", "causal_forest"}
_CHECKED = 20
_PREDICTED = ("propensity", "outcome_reference", "outcome_compared")
_MOST_ROWS, _KEPT = 50_000, 8
# What the estimates of one study share: fits without a benchmark, and what benchmarks do to the regression.
_SHORT: dict[tuple[Any, ...], tuple[float, float]] = {}
_LINEAR: dict[tuple[Any, ...], list[dict[str, Any]]] = {}


@dataclass(frozen=True)
class PartialR2Params(CommonParams):
    """Parameters of the partial R2 question.

    Parameters
    ----------
    model : str
        `linear`: the regression of the outcome on treatment and covariates; `cross_fitted`: the doubly robust score of
        the shared nuisance models; `auto`: cross_fitted for the ATE of an estimator that uses them, else linear.
    q : float
        Share of the estimate that is to be explained away.
    benchmark : str, optional
        Covariate that a hidden confounder is compared with; by default the one whose equal would move the estimate
        most.
    strengths : tuple of float
        How many times as strong as the benchmark the confounder is.
    """

    model: Literal["auto", "linear", "cross_fitted"] = "auto"
    q: float = 1.0
    benchmark: str | None = None
    strengths: tuple[float, ...] = (1.0, 2.0, 3.0)


def run(
    study: Study, estimate: EffectEstimate, params: PartialR2Params, context: Context
) -> SensitivityResult | Refusal:
    """Answer for each contrast of the estimate's default effects.

    Notes
    -----
    The robustness value is the share of the residual variance of treatment and outcome alike that a confounder must
    explain to move the estimate (or the end of its interval) to the null. Bounds say what a confounder as strong as a
    known covariate would do (Cinelli & Hazlett 2020, doi:10.1111/rssb.12348; for cross-fitted estimates
    Chernozhukov et al. 2022, doi:10.3386/w30302).
    """
    if estimate.estimand not in SPEC.applies_to or not confoundable(estimate):
        reason = f"the {estimate.estimand} of '{estimate.estimator}' does not rest on unconfounded treatment"
        return _refuse("not_applicable", reason, f"ask about an estimate of {', '.join(SPEC.applies_to)}")
    fingerprint, study = study.fingerprint, study.studied()
    parts = list(study.contrasts()) if study.treatment_kind is not TreatmentKind.CONTINUOUS else [("", study)]
    rows: list[dict[str, Any]] = []
    for arm, part in parts:
        effect = _effect_of(estimate, arm, len(parts) > 1)
        if effect is None:
            continue
        found = _ask(part, estimate, effect, params, context, arm)
        if isinstance(found, Refusal):
            return found
        rows += found
    if not rows:
        return _refuse("unknown_scale", "the estimate has no difference of means to ask about", "estimate a difference")
    head = rows[0]
    of_what = "the estimate" if head["robustness_value_limit"] is None else "the interval's limit"
    return SensitivityResult(
        name=SPEC.name,
        estimator=estimate.estimator,
        estimand=estimate.estimand,
        value=head["value"],
        unit=f"partial R2 with treatment and outcome, of {of_what}",
        status=Status(head["status"]),
        meaning=head["meaning"],
        advice=head["advice"],
        table=pd.DataFrame(rows),
        provenance={"fingerprint": fingerprint},
        implies=head["implies"],
    )


def _refuse(code: str, reason: str, remedy: str) -> Refusal:
    return Refusal(SPEC.name, code, reason, remedy)


def _effect_of(estimate: EffectEstimate, arm: str, several: bool) -> Effect | None:
    for effect in estimate.effects:
        if effect.scale == "difference" and (not several or effect.at.get("arm") == arm):
            return effect
    return None


def _ask(
    study: Study, estimate: EffectEstimate, effect: Effect, params: PartialR2Params, context: Context, arm: str
) -> list[dict[str, Any]] | Refusal:
    """Return the rows of one contrast: the robustness values first, then one per benchmark strength."""
    y, d, x = study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.matrix()
    if len(y) < x.shape[1] + 4:
        return _refuse("too_few_rows", f"{len(y)} rows for {x.shape[1]} covariates", "map fewer covariates")
    weights = study.weights()
    linear = fit_coefficient(y, d, x, weights)
    held = None if context.nuisance is None else context.nuisance.predictions.get(arm or study.arms[-1])
    scored = held is not None and len(held) == len(y) and estimate.estimand == Estimand.ATE
    cross_fitted = params.model == "cross_fitted" or (params.model == "auto" and estimate.estimator in _SCORED)
    if params.model == "cross_fitted" and not scored:
        return _refuse("no_nuisance", "there are no shared nuisance models of this study", "use model: linear")
    if cross_fitted and scored and held is not None:
        e, m0, m1 = (held[name].to_numpy() for name in _PREDICTED)
        parts = residual_parts(y, d, e, (m0, m1))
        scale = math.sqrt(parts[0] * parts[1])
        point, limit, model = *_of_scale(effect, scale, params.q), "cross-fitted"
    else:
        point, limit = robustness_value(linear, params.q), robustness_value(linear, params.q, 1 - params.level)
        model, parts = "linear", None
    key = study.fingerprint, study.arms, params.benchmark, params.strengths, params.level
    if key not in _LINEAR:
        _make_room(_LINEAR)
        _LINEAR[key] = _bounds(study, linear, params, (y, d, x, weights))
    bounds = _LINEAR[key]
    if parts is not None and bounds and context.nuisance is not None and context.left() > 0:
        bounds = _cross_fitted_bounds(study, effect, params, parts, bounds, context.nuisance) or bounds
    judged = judge("robustness_value", limit, thresholds=study.thresholds, severities=study.severities)
    equal = next((row for row in bounds if row["strength"] == 1.0), None)
    # Whether a confounder like the strongest known covariate would overturn it says more than a general limit.
    own = equal is not None and equal["bounds"] == model
    overturned = own and equal is not None and equal["low"] <= 0 <= equal["high"]
    status = Status.WARN if overturned and judged.status is Status.PASS else judged.status
    meaning, advice = _sentences(study, (point, limit, model), equal, status, overturned)
    implies = ""
    if overturned and equal is not None and judged.status is Status.PASS:
        implies = f"A hidden confounder as strong as '{equal['benchmark']}' would overturn the result."
    facts = {"contrast": effect.contrast, "model": model, "status": status.value,
             "value": point if limit is None else limit, "meaning": meaning, "advice": advice, "implies": implies,
             "robustness_value": point, "robustness_value_limit": limit}  # fmt: skip
    base = {"estimate": linear.estimate, "std_error": linear.std_error, "df": linear.df,
            "partial_r2": linear.partial_r2, "benchmark": "", "strength": 0.0, "r2dz_x": 0.0, "r2yz_dx": 0.0,
            "adjusted_estimate": linear.estimate, "low": math.nan, "high": math.nan, "bounds": ""}  # fmt: skip
    return [facts | base | row for row in ({}, *bounds)]


def _of_scale(effect: Effect, scale: float, q: float) -> tuple[float, float | None]:
    point = robustness_of_scale(q * abs(effect.estimate - effect.null), scale)
    if effect.interval is None:
        return point, None
    if effect.interval.covers(effect.null):
        return point, 0.0
    near = min(abs(effect.interval.low - effect.null), abs(effect.interval.high - effect.null))
    return point, robustness_of_scale(near if math.isfinite(near) else 0.0, scale)


def _bounds(study: Study, linear: Coefficient, params: PartialR2Params, data: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return what confounders as strong as the benchmark would do to the linear estimate."""
    y, d, x, weights = data
    names = study.names(Role.COVARIATES)
    strengths = {}
    for column in _candidates(study, params, y, d, x):
        found = benchmark_strengths(y, d, x, [column], weights)
        bound = benchmark_bound(*found, 1.0)
        if bound is not None:
            strengths[column] = (found, abs(linear.estimate - adjusted(linear, bound.r2dz_x, bound.r2yz_dx)[0]))
    if not strengths:
        return []
    worst = max(strengths, key=lambda column: strengths[column][1])
    rows = []
    for strength in params.strengths:
        bound = benchmark_bound(*strengths[worst][0], strength)
        if bound is None:
            continue
        estimate, error = adjusted(linear, bound.r2dz_x, bound.r2yz_dx)
        reach = _t_quantile(params.level, linear.df - 1) * error
        rows.append(
            {"benchmark": study.label(names[worst]), "strength": float(strength), "r2dz_x": bound.r2dz_x,
             "r2yz_dx": bound.r2yz_dx, "adjusted_estimate": estimate, "low": estimate - reach, "high": estimate + reach,
             "bounds": "linear"}
        )  # fmt: skip
    return rows


def _cross_fitted_bounds(
    study: Study,
    effect: Effect,
    params: PartialR2Params,
    parts: tuple[float, float],
    linear: list[dict[str, Any]],
    held: Nuisance,
) -> list[dict[str, Any]]:
    """Return what confounders as strong as the linear model's benchmark would do to the cross-fitted estimate.

    The nuisance models are fitted again without the benchmark; the interval is moved by the bias towards no effect.
    """
    label = linear[0]["benchmark"]
    name = next((name for name in study.names(Role.COVARIATES) if study.label(name) == label), None)
    if name is None or len(study) > _MOST_ROWS or len(study.names(Role.COVARIATES)) < 2:
        return []
    short = _parts_without(study, name, held)
    if short is None:
        return []
    scale, (by_outcome, by_treatment) = math.sqrt(parts[0] * parts[1]), gains(parts, short)
    side, rows = (1.0 if effect.estimate >= effect.null else -1.0), []
    for strength in params.strengths:
        bias = bias_of(scale, min(1.0, strength * by_outcome), strength * by_treatment)
        if bias is None:
            continue
        ends = (effect.interval.low, effect.interval.high) if effect.interval else (math.nan, math.nan)
        rows.append(
            {"benchmark": label, "strength": float(strength), "r2dz_x": strength * by_treatment,
             "r2yz_dx": min(1.0, strength * by_outcome), "adjusted_estimate": effect.estimate - side * bias,
             "low": ends[0] - side * bias, "high": ends[1] - side * bias, "bounds": "cross-fitted"}
        )  # fmt: skip
    return rows


def _parts_without(study: Study, name: str, held: Nuisance) -> tuple[float, float] | None:
    """Return the residual parts of nuisance models without a covariate; estimates of one study share them."""
    key = (study.fingerprint, study.arms, name, held.learner, held.seed, held.folds)
    if key not in _SHORT:
        kept = tuple(column for column in study.names(Role.COVARIATES) if column != name)
        params = CommonParams(nuisance=held.learner, seed=held.seed, folds=held.folds)  # type: ignore[arg-type]
        try:
            found = fit_nuisance(replace(study, roles={**study.roles, Role.COVARIATES: kept}), params)
        except CqoxError:
            return None
        frame = found.predictions[study.arms[-1]]
        e, m0, m1 = (frame[column].to_numpy() for column in _PREDICTED)
        _make_room(_SHORT)
        _SHORT[key] = residual_parts(study.column(Role.OUTCOME), study.column(Role.TREATMENT), e, (m0, m1))
    return _SHORT[key]


def _make_room(held: dict[tuple[Any, ...], Any]) -> None:
    """Forget what was kept longest."""
    while len(held) >= _KEPT:
        held.pop(next(iter(held)))


def _candidates(study: Study, params: PartialR2Params, y: np.ndarray, d: np.ndarray, x: np.ndarray) -> Sequence[int]:
    """Return the columns to benchmark against: the named one, else those most correlated with both."""
    names = study.names(Role.COVARIATES)
    if params.benchmark is not None:
        return [place for place, name in enumerate(names) if params.benchmark in (name, study.label(name))]
    spread = x.std(0)
    z = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    size = np.abs(z.T @ (y - y.mean())) * np.abs(z.T @ (d - d.mean()))
    order = np.argsort(-size, kind="stable")
    return [int(place) for place in order[:_CHECKED] if spread[place] > 0]


def _t_quantile(level: float, df: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + level / 2))


def _sentences(
    study: Study,
    found: tuple[float, float | None, str],
    equal: dict[str, Any] | None,
    status: Status,
    overturned: bool,
) -> tuple[str, str]:
    point, limit, model = found
    end = "there is no interval to ask about" if limit is None else f"and {limit:.1%} to move its interval to no effect"
    meaning = (
        f"A hidden confounder would have to explain {point:.1%} of what is left of treatment and of outcome "
        f"to explain the estimate away, {end} ({model} model)."
    )
    if equal is not None:
        meaning += (
            f" One as strong as '{equal['benchmark']}' would leave {equal['adjusted_estimate']:.4g} "
            f"(interval {equal['low']:.4g} to {equal['high']:.4g}) of the {equal['bounds']} estimate."
        )
    if study.declaration.design == "trial":
        return meaning, "Assignment was random, so this informs about drop-out and broken randomisation only."
    if status is Status.PASS:
        return meaning, "Ask whether any unmeasured cause could be that strong; if none is known, rely on the estimate."
    if limit is None:
        return meaning, "Use an inference that gives an interval, such as inference: bootstrap."
    if limit == 0:
        return meaning, "Gather more rows before asking about hidden confounding: chance alone explains the result."
    if overturned and equal is not None:
        return meaning, f"Look for causes as strong as '{equal['benchmark']}' that are not mapped, and map them."
    return meaning, "Measure and map the likeliest confounders, or run a trial."


SPEC = SensitivitySpec(
    name="partial_r2",
    title="Partial R2 and robustness value",
    question="How much of treatment and outcome must a hidden confounder explain to overturn the result?",
    run=run,
    holds="Only a hidden confounder that explains much of treatment and outcome would overturn the result.",
    breaks="A hidden confounder that explains little of both, or chance alone, would overturn the result.",
    applies_to=("ATE", "ATT", "ATC", "ATO", "slope"),
    informs_in_trial=True,
    reference="Cinelli & Hazlett 2020, doi:10.1111/rssb.12348",
    params=PartialR2Params,
    budget_seconds=2.0,
)
