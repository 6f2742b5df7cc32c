"""Parallel trend bounds: how far trends may differ after treatment before the conclusion changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.measures import Status, judge
from cqox_assets.numerics.smooth_trends import Smoothness
from cqox_assets.numerics.trend_bounds import EventStudy, RelativeMagnitudes
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.spec import CommonParams, Context, SensitivitySpec
from cqox_assets.study import Study

_MOST = 10.0
_SHARES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
_EVEN = 1e-6


@dataclass(frozen=True)
class TrendParams(CommonParams):
    """Parameters of the parallel trend bounds.

    Parameters
    ----------
    effect : str
        What is bounded: the `average` of the effects from the start of treatment on, or the `first` of them.
    m_bar : tuple of float
        Relative magnitudes: how many times the largest step before treatment the steps after it may be.
    m : tuple of float
        Smoothness: by how much the slope of the difference may change per period, in units of the outcome; by default
        multiples of the largest change of slope before treatment, of the standard error where only one step is seen.
    """

    effect: Literal["average", "first"] = "average"
    m_bar: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0)
    m: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Window:
    """The evenly spaced event times around the reference period, with the estimates at them."""

    study: EventStudy
    before: np.ndarray
    after: np.ndarray
    weights: Mapping[str, np.ndarray]

    def label(self, effect: str) -> str:
        started = self.after[self.after >= 0]
        if effect == "first" or len(started) == 1:
            return f"effect at event time {started[0]:g}"
        return f"mean effect at event times {started[0]:g} to {started[-1]:g}"


def run(study: Study, estimate: EffectEstimate, params: TrendParams, context: Context) -> SensitivityResult | Refusal:
    """Bound the difference in trends after treatment in two ways, and find where the conclusion changes.

    Notes
    -----
    Relative magnitudes: no step of the difference after treatment is larger than M-bar times the largest before;
    intervals by the conditional test with a least favourable first stage. Smoothness: its slope changes by at most M
    per period; fixed-length intervals (Rambachan & Roth 2023, doi:10.1093/restud/rdad018). Intervals rest on the
    normal distribution. Placebo effects of `difference_in_differences` compare a period with the one before unless it
    is told otherwise; the estimator then runs again with one reference period, as the bounds need.
    """
    if "event_study" not in estimate.tables:
        return _refuse("no_event_study", f"{estimate.estimator} gave no effects by time since treatment",
                       "deliver more periods, or ask for method: callaway_santanna or event_study")  # fmt: skip
    again = _one_reference(study, estimate, context)
    window = again if isinstance(again, Refusal) else _window(again)
    if isinstance(window, Refusal):
        return window
    rows: list[dict[str, object]] = []
    broken: dict[str, tuple[float | None, float | None]] = {}
    for effect, weights in window.weights.items():
        relative = RelativeMagnitudes(window.study, weights, params.level, params.seed)
        smooth = Smoothness(window.study, weights, params.level)
        grid = params.m or _grid(window, weights)
        broken[effect] = relative.breakdown(0.0, _MOST), smooth.breakdown(0.0, 10 * max(grid[-1], 1e-12))
        kinds = (("relative_magnitudes", relative.interval, params.m_bar), ("smoothness", smooth.interval, grid))
        for (kind, interval, values), stops in zip(kinds, broken[effect], strict=True):
            for value in values:
                low, high = interval(float(value))
                rows.append({"effect": window.label(effect), "restriction": kind, "m": float(value), "low": low,
                             "high": high, "excludes_no_effect": not low <= 0 <= high, "breakdown": stops})  # fmt: skip
    return _answer(study, estimate, params, window, broken, pd.DataFrame(rows))


def _refuse(code: str, reason: str, remedy: str) -> Refusal:
    return Refusal(SPEC.name, code, reason, remedy)


def _one_reference(study: Study, estimate: EffectEstimate, context: Context) -> EffectEstimate | Refusal:
    """Return the estimate with placebo effects that all compare with one period."""
    given = {name: value for name, value in estimate.provenance.get("params", {}).items() if value is not None}
    if given.get("base_period") != "varying" or "att_gt" not in estimate.tables:
        return estimate
    if context.runner is None:
        return _refuse("no_runner", "nothing can be estimated again here", "ask through cqox.sensitivity")
    changes = {"base_period": "universal", "aggregation": "dynamic"}
    answer = context.runner(estimate.estimator, study, {**given, **changes})
    if isinstance(answer, EffectEstimate):
        return answer
    reason = getattr(answer, "reason", "it failed")
    return _refuse("refits_refused", f"{estimate.estimator} with one reference period: {reason}", "see its notices")


def _window(estimate: EffectEstimate) -> _Window | Refusal:
    """Return the longest run of evenly spaced event times around the reference period."""
    given = estimate.provenance.get("params", {})
    reference = float(given.get("reference_event_time", -1.0))
    if "att_gt" in estimate.tables:
        reference = -1.0 - float(given.get("anticipation") or 0)
    table = estimate.tables["event_study"].sort_values("event_time")
    pairs = estimate.tables["event_study_covariance"]
    covariance = pairs.pivot(index="event_time", columns="other_event_time", values="covariance")
    known = table[table["std_error"].notna()].set_index("event_time")["estimate"].astype(float)
    pooled = given.get("bins") or ()
    known = known[~known.index.isin([float(end) for end in pooled])]
    known = known[known.index != reference]
    times = np.sort(np.append(known.index.to_numpy(dtype=float), reference))
    early, late = _run(times, reference, -1), _run(times, reference, 1)
    if not len(early):
        return _refuse("no_earlier_periods", "no effect before treatment is known, so trends cannot be compared",
                       "deliver at least two periods before treatment starts")  # fmt: skip
    started = late >= 0
    if not started.any():
        return _refuse("uneven_periods", "the periods around the start of treatment are not evenly spaced",
                       "deliver every period around the start of treatment")  # fmt: skip
    order = np.concatenate([early, late])
    first = (np.cumsum(started) == 1) & started
    return _Window(
        EventStudy(known[early].to_numpy(), known[late].to_numpy(), covariance.loc[order, order].to_numpy(dtype=float)),
        early, late, {"average": started / started.sum(), "first": first * 1.0},
    )  # fmt: skip


def _run(times: np.ndarray, reference: float, direction: int) -> np.ndarray:
    """Return the event times on one side that follow one another without a gap, in ascending order."""
    width = np.diff(times).min() if len(times) > 1 else 1.0
    found: list[float] = []
    side = times[times < reference][::-1] if direction < 0 else times[times > reference]
    for step, time in enumerate(side, start=1):
        if abs(time - (reference + direction * step * width)) > _EVEN * max(width, 1.0):
            break
        found.append(float(time))
    return np.array(sorted(found))


def _grid(window: _Window, weights: np.ndarray) -> tuple[float, ...]:
    """Return changes of slope to try: multiples of the largest one before treatment, the reference's zero included."""
    path = np.append(window.study.before, 0.0)
    unit = float(np.abs(np.diff(path, n=2)).max()) if len(path) > 2 else 0.0
    unit = unit or window.study.spread(window.study.target(weights))
    return tuple(share * unit for share in _SHARES)


def _answer(
    study: Study,
    estimate: EffectEstimate,
    params: TrendParams,
    window: _Window,
    broken: dict[str, tuple[float | None, float | None]],
    table: pd.DataFrame,
) -> SensitivityResult:
    relative, smooth = broken[params.effect]
    judged = judge("trend_breakdown", relative or 0.0, thresholds=study.thresholds, severities=study.severities)
    value = float(window.weights[params.effect] @ window.study.after)
    head = f"The {window.label(params.effect)} is {value:.4g}"
    if relative is None:
        meaning = f"{head}; even had trends been parallel after treatment, its interval would cover no effect."
        advice = "Gather more units or periods before asking about trends: chance alone explains the result."
    else:
        count = len(window.before)
        least = f"{_MOST:g} times or more" if relative >= _MOST else f"{relative:.2f} times"
        slopes = (
            "if its slope changes"
            if smooth is None
            else f"only if its slope changes by more than {smooth:.3g} per period"
        )
        meaning = (
            f"{head}; its interval reaches no effect once the groups' difference may move, per period after treatment, "
            f"{least} as far as the largest of the {count} step{'s' if count > 1 else ''} before; along a straight "
            f"trend, {slopes}."
        )
        advice = (
            "Ask what could have moved the groups apart that fast after treatment; if nothing is known, rely on it."
            if judged.status is Status.PASS
            else "Choose units that moved alike before treatment, or deliver more units and earlier periods."
        )
    return SensitivityResult(
        SPEC.name, estimate.estimator, estimate.estimand, float(relative or 0.0),
        "times the largest step before treatment", judged.status, meaning, advice,
        table.assign(contrast=estimate.headline.contrast), {"fingerprint": study.fingerprint},
    )  # fmt: skip


SPEC = SensitivitySpec(
    name="parallel_trend_bounds",
    title="Parallel trend bounds",
    question="How far may trends differ after treatment before the conclusion changes?",
    run=run,
    holds="Trends would have to part faster than they ever did before treatment to explain the effect away.",
    breaks="Trends that part as they did before treatment, or chance alone, could explain the effect away.",
    applies_to=("difference_in_differences", "panel_matching"),
    reference="Rambachan & Roth 2023, doi:10.1093/restud/rdad018",
    params=TrendParams,
    budget_seconds=2.0,
)
