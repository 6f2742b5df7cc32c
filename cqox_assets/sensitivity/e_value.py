"""E-value: how strong a hidden confounder must be to explain the effect away."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status, judge
from cqox_assets.result import Effect, EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import confoundable
from cqox_assets.spec import CommonParams, Context, SensitivitySpec
from cqox_assets.study import Role, Study, TreatmentKind

Triple = tuple[float, float | None, float | None]
_RARE = 0.15  # an outcome rarer than this: odds and hazard ratios are close to risk ratios (VanderWeele & Ding 2017)
_RATIOS = {"log_risk_ratio": "RR", "log_rate_ratio": "RR", "log_odds_ratio": "OR", "log_hazard_ratio": "HR"}
_WORDS = {
    "RR": "risk ratio",
    "OR": "odds ratio",
    "HR": "hazard ratio",
    "SMD": "standardised difference, as an approximate risk ratio",
    "RD": "risk difference, as a risk ratio over the reference arm's risk",
}


def e_value(risk_ratio: float) -> float:
    """Return RR + sqrt(RR (RR - 1)); a ratio below one is inverted first.

    Raises
    ------
    CatalogError
        If the ratio is not positive.
    """
    if not risk_ratio > 0:
        raise CatalogError(f"a risk ratio must be positive, got {risk_ratio}; give it on the natural scale, not as log")
    ratio = max(risk_ratio, 1 / risk_ratio)
    return float(ratio + math.sqrt(ratio * (ratio - 1)))


def e_values(
    measure: str,
    estimate: float,
    lower: float | None = None,
    upper: float | None = None,
    se: float | None = None,
    rare: bool = False,
) -> tuple[float, float | None, Triple]:
    """Return the E-value of an estimate, of its limit nearer to the null, and the risk ratios behind them.

    Parameters
    ----------
    measure : str
        `RR`, `OR`, `HR` (with `rare`), `OR_common`, `HR_common`, `OR_rare`, `HR_rare` or `SMD`.
    estimate, lower, upper : float
        On the natural scale of the measure (a ratio, or a difference in standard deviations of the outcome).
    se : float, optional
        Standard error; used for `SMD` only, whose limits are exp(0.91 d -/+ 1.78 se).
    rare : bool
        Whether the outcome is rarer than 15 percent, so that odds and hazard ratios are read as risk ratios.

    Returns
    -------
    point, limit, ratios : float, float or None, (estimate, lower, upper)
        The limit is 1 when the interval covers the null, and None when the limit is not given.

    Notes
    -----
    A common outcome: RR = sqrt(OR), RR = (1 - 0.5^sqrt(HR)) / (1 - 0.5^sqrt(1/HR)); RR = exp(0.91 d).

    References
    ----------
    VanderWeele & Ding 2017, doi:10.7326/M16-2607.
    """
    if measure == "SMD" and se is not None:
        ratios: Triple = (
            math.exp(0.91 * estimate),
            math.exp(0.91 * estimate - 1.78 * se),
            math.exp(0.91 * estimate + 1.78 * se),
        )
    else:
        ratios = (
            as_risk_ratio(measure, estimate, rare),
            None if lower is None else as_risk_ratio(measure, lower, rare),
            None if upper is None else as_risk_ratio(measure, upper, rare),
        )
    return e_value(ratios[0]), _limit(ratios), ratios


def as_risk_ratio(measure: str, value: float, rare: bool = False) -> float:
    """Return a measure of effect as an (approximate) risk ratio; 0 and infinity stay what they are.

    Raises
    ------
    CatalogError
        If the measure is not known.
    """
    name, _, kind = measure.partition("_")
    rare = kind == "rare" or (rare and kind != "common")
    if name == "SMD":
        return math.exp(min(0.91 * value, 700.0))
    if name == "RR" or (name in ("OR", "HR") and rare):
        return value
    if name == "OR":
        return math.sqrt(value)
    if name == "HR":
        if value <= 0 or math.isinf(value):
            return value
        return -math.expm1(-math.log(2) * math.sqrt(value)) / -math.expm1(-math.log(2) * math.sqrt(1 / value))
    raise CatalogError(
        f"measure '{measure}' is not known; known are RR, OR, HR, SMD and OR_common, HR_common, ..._rare"
    )


def risk_ratio_from_data(outcome: np.ndarray, treated: np.ndarray) -> float:
    """Return mean(y | 1) / mean(y | 0) of a 0/1 outcome, both of shape (n,)."""
    return float(outcome[treated == 1].mean() / outcome[treated == 0].mean())


def _limit(ratios: Triple) -> float | None:
    point, low, high = ratios
    if (low is not None and low <= 1 and point >= 1) or (high is not None and high >= 1 and point <= 1):
        return 1.0
    near = low if point >= 1 else high
    return None if near is None else e_value(near)


def run(study: Study, estimate: EffectEstimate, params: CommonParams, context: Context) -> SensitivityResult | Refusal:
    """Answer for the estimate's headline; the table holds every effect that a confounder could explain away."""
    if estimate.estimand not in SPEC.applies_to or not confoundable(estimate):
        return Refusal(
            SPEC.name, "not_applicable", f"the {estimate.estimand} of '{estimate.estimator}' does not rest on "
            "unconfounded treatment", f"ask for it on an estimate of {', '.join(SPEC.applies_to)}",
        )  # fmt: skip
    fingerprint, study = study.fingerprint, study.studied()
    rows = [row for effect in estimate.effects if (row := _row(study, effect)) is not None]
    if not rows or rows[0]["effect"] != estimate.headline.label:
        return Refusal(
            SPEC.name, "unknown_scale", f"an effect on the scale '{estimate.headline.scale}' has no risk-ratio form",
            "estimate the effect as a difference, a risk ratio, an odds ratio or a hazard ratio",
        )  # fmt: skip
    for row in rows:
        row.update(_judged(study, row))
    head = rows[0]
    known = head["e_value_limit"] is not None
    return SensitivityResult(
        name=SPEC.name,
        estimator=estimate.estimator,
        estimand=estimate.estimand,
        value=head["value"],
        unit="risk ratio, of the interval's limit" if known else "risk ratio, of the estimate",
        status=Status(head["status"]),
        meaning=head["meaning"],
        advice=head["advice"],
        table=pd.DataFrame(rows),
        provenance={"fingerprint": fingerprint},
    )


def _judged(study: Study, row: dict[str, Any]) -> dict[str, Any]:
    """Return the answer for one effect: each contrast of several arms is judged by its own."""
    limit = row["e_value_limit"]
    judged = judge("e_value_limit", limit, thresholds=study.thresholds, severities=study.severities)
    meaning, advice = _sentences(study, row, judged.status, judged.threshold)
    value = row["e_value"] if limit is None else limit
    return {"value": value, "status": judged.status.value, "meaning": meaning, "advice": advice}


def _row(study: Study, effect: Effect) -> dict[str, Any] | None:
    """Return one line of the table: the effect as a risk ratio and its two E-values, or None on an unknown scale."""
    measure, triple, se = _on_ratio_scale(study, effect)
    if measure is None:
        return None
    rare = _prevalence(study) < _RARE
    point, limit, ratios = e_values("RR" if measure == "RD" else measure, *triple, se=se, rare=rare)
    if effect.interval is not None and effect.interval.covers(effect.null):
        limit = 1.0  # the interval that people read decides, not its approximation on the ratio scale
    return {
        "effect": effect.label,
        "contrast": effect.contrast,
        "measure": measure,
        "risk_ratio": ratios[0],
        "risk_ratio_low": ratios[1],
        "risk_ratio_high": ratios[2],
        "e_value": point,
        "e_value_limit": limit,
    }


def _on_ratio_scale(study: Study, effect: Effect) -> tuple[str | None, Triple, float | None]:
    ends = (effect.interval.low, effect.interval.high) if effect.interval is not None else (None, None)
    if effect.scale in _RATIOS:
        values = [None if value is None else _exp(value) for value in (effect.estimate, *ends)]
        return _RATIOS[effect.scale], (float(values[0] or 0.0), values[1], values[2]), None
    if effect.scale != "difference":
        return None, (effect.estimate, None, None), None
    risks = _risk_ratios(study, effect, ends)
    if risks is not None:
        return "RD", risks, None
    unit = _spread(study, Role.OUTCOME)
    if study.treatment_kind is TreatmentKind.CONTINUOUS:
        unit /= _spread(study, Role.TREATMENT)  # per standard deviation of the treatment, not per unit of it
    scaled = [None if value is None else value / unit for value in (effect.estimate, *ends)]
    se = None if effect.std_error is None else effect.std_error / unit
    return "SMD", (float(scaled[0] or 0.0), scaled[1], scaled[2]), se


def _risk_ratios(study: Study, effect: Effect, ends: Sequence[float | None]) -> Triple | None:
    """Return risk ratios over the reference arm's risk, or None where the outcome is no 0/1 risk."""
    if not study.arms or not _binary(study):
        return None
    outcome, arm, weight = study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.weights()
    here = arm == 0
    if not here.any():
        return None
    base = float(np.average(outcome[here], weights=None if weight is None else weight[here]))
    if not 0 < base < 1 or not 0 < base + effect.estimate <= 1:
        return None
    low, high = (None if end is None else min(max(base + end, 0.0), 1.0) / base for end in ends)
    return (base + effect.estimate) / base, low, high


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _binary(study: Study) -> bool:
    return study.has(Role.OUTCOME) and set(np.unique(study.column(Role.OUTCOME))) == {0.0, 1.0}


def _prevalence(study: Study) -> float:
    return float(study.column(Role.OUTCOME).mean()) if _binary(study) else 1.0


def _spread(study: Study, role: Role) -> float:
    values, weight = study.column(role), study.weights()
    if weight is None:
        return float(values.std(ddof=1))
    centre = np.average(values, weights=weight)
    return float(math.sqrt(np.average((values - centre) ** 2, weights=weight)))


def _sentences(study: Study, row: dict[str, Any], status: Status, threshold: float | None) -> tuple[str, str]:
    point, limit = row["e_value"], row["e_value_limit"]
    basis = f"{row['contrast']}: {_WORDS[row['measure']]} {row['risk_ratio']:.2f}"
    if limit is None:
        tail = "there is no interval, so nothing can be said about its limit"
    elif limit == 1.0:
        tail = "the interval already covers no effect, so no confounder is needed to explain the result"
    else:
        tail = f"{limit:.2f} for each would be enough to move the interval to no effect"
    meaning = (
        f"A hidden confounder would have to be associated with both treatment and outcome by risk ratios of "
        f"{point:.2f} each, beyond the mapped covariates, to explain the estimate away; {tail} ({basis})."
    )
    if study.declaration.design == "trial":
        return meaning, "Assignment was random, so this informs about drop-out and broken randomisation only."
    if status is Status.PASS:
        return (
            meaning,
            f"Ask whether any unmeasured cause could be as strong as {limit:.2f}; if none is known, rely on it.",
        )
    if limit == 1.0:
        return meaning, "Gather more rows before asking about hidden confounding: chance alone explains the result."
    if limit is None:
        return meaning, "Use an inference that gives an interval, such as inference: bootstrap."
    return meaning, (
        f"A confounder of strength {limit:.2f} is easy to imagine (wanted: above {threshold:.2f}); measure and map the "
        "likeliest confounders, or run a trial."
    )


SPEC = SensitivitySpec(
    name="e_value",
    title="E-value",
    question="How strong must a hidden confounder be to explain the effect away?",
    run=run,
    holds="Only a hidden cause stronger than that, of treatment and outcome alike, could explain the effect away.",
    breaks="Chance or a weak hidden cause of treatment and outcome would be enough to explain the effect away.",
    applies_to=("ATE", "ATT", "ATC", "ATO", "CATE", "slope"),
    informs_in_trial=True,
    reference="VanderWeele & Ding 2017, doi:10.7326/M16-2607",
)
