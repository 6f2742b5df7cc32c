"""The rule: from evidence to GO, CANARY or HOLD, with every reason and what would flip it."""

import math

from cqox_assets.decisions.evidence import Evidence, Target
from cqox_assets.decisions.net_benefit import net_benefit_reasons
from cqox_assets.decisions.quality import guardrail_reasons, quality_reasons, sensitivity_reasons
from cqox_assets.decisions.verdict import CANARY, GO, HOLD, SEVERITY, Reason, Verdict
from cqox_assets.synthesis._helpers import normal_quantile
from cqox_assets.wording import listed, short, span, with_unit


def decide(evidence: Evidence) -> Verdict:
    """Judge the evidence; a pure function.

    Notes
    -----
    Each finding allows GO, CANARY or HOLD at best, and the verdict is the worst of them, so that more bad news can
    never improve it. GO needs the whole interval beyond `minimum_effect` in the good direction, no gate that warns,
    fails or could not run, guardrails shown to be safe and sensitivity that holds. Failed quality is HOLD however
    good the effect looks. With several contrasts each is judged at a level that keeps the chance of any false GO at
    that of one (Bonferroni), and the verdict is that of the best arm.
    """
    arms = {target.contrast: _target_reason(target, evidence) for target in evidence.targets}
    agreement = {target.contrast: _agreement_reasons(target) for target in evidence.targets}
    quality = quality_reasons(evidence)
    others = [
        *guardrail_reasons(evidence), *sensitivity_reasons(evidence), *net_benefit_reasons(evidence.net_benefits)
    ]  # fmt: skip
    rails = {arm: [*guardrail_reasons(evidence, arm), *net_benefit_reasons(evidence.net_benefits, arm)] for arm in arms}
    asked = {arm: sensitivity_reasons(evidence, arm) for arm in arms}
    by_contrast = {
        arm: _worst([reason, *agreement[arm], *rails[arm], *asked[arm], *quality]) for arm, reason in arms.items()
    }
    verdict = min(by_contrast.values(), key=SEVERITY.__getitem__) if by_contrast else HOLD
    best = next((asked[arm] for arm, own in by_contrast.items() if own == verdict), sensitivity_reasons(evidence))
    nothing = [] if arms else [_nothing(evidence)]
    agreeing = [reason for found in agreement.values() for reason in found]
    reasons = [*quality, *agreeing, *nothing, *arms.values(), *others]
    reasons.sort(key=lambda reason: -SEVERITY[reason.allows])
    return Verdict(
        verdict=verdict,
        reasons=tuple(reasons),
        recommendation=_recommendation(verdict, by_contrast, reasons),
        confidence_level=_confidence(evidence, [*quality, *best], agreeing),
        key_findings=_findings(evidence, reasons),
        by_contrast=by_contrast,
        notices=evidence.notices,
    )


def _worst(reasons: list[Reason]) -> str:
    return max((reason.allows for reason in reasons), key=SEVERITY.__getitem__)


def _nothing(evidence: Evidence) -> Reason:
    said = f": {evidence.counts}" if evidence.counts else ""
    return Reason(
        "target", HOLD, f"Nothing could be estimated for the {evidence.preferred}{said}.",
        "an estimator can answer; follow the remedies of the refusals",
    )  # fmt: skip


def _target_reason(target: Target, evidence: Evidence) -> Reason:
    """Judge one contrast by where its interval lies; in good units, larger is always better."""
    sign = -1.0 if evidence.direction == "lower_is_better" else 1.0
    gain, least, unit = sign * (target.estimate - target.null), evidence.minimum_effect, evidence.unit
    low, high = _bounds(target, sign, len(evidence.targets))
    want = f"the wanted {with_unit(sign * least, unit)}" if least > 0 else "no effect"
    shown, now = with_unit(sign * least + target.null, unit), with_unit(target.estimate, unit)
    head = f"{target.estimand} of {target.contrast}: {now}, {_span(target, sign, low, high, unit)}"
    if high is not None and high < 0:
        return Reason("deterioration", HOLD, f"{head}; the outcome is clearly worse.", "new data reverse the sign")
    if not gain > least:
        flips = f"the estimate moves beyond {shown} (now {now})"
        return Reason("target", HOLD, f"{head}; the estimate is not beyond {want}.", flips)
    if low is None or not low > least:
        flips = _rows_needed(gain, least, low, shown)
        return Reason("target", CANARY, f"{head}; the estimate is beyond {want} but the interval is not.", flips)
    flips = f"more than {with_unit(sign * low + target.null, unit)} is needed for the effect to pay (now {shown})"
    return Reason("target", GO, f"{head}; the whole interval is beyond {want}.", flips)


def _bounds(target: Target, sign: float, contrasts: int) -> tuple[float | None, float | None]:
    """Return the interval in good units, widened when several arms compete; None is unbounded."""
    wider = normal_quantile(1 - (1 - target.level) / contrasts) / normal_quantile(target.level)
    ends = [
        None if end is None else sign * (target.estimate + wider * (end - target.estimate) - target.null)
        for end in (target.low, target.high)
    ]
    return (ends[0], ends[1]) if sign > 0 else (ends[1], ends[0])


def _span(target: Target, sign: float, low: float | None, high: float | None, unit: str) -> str:
    if low is None and high is None:
        return "without an interval"
    ends = [None if end is None else sign * end + target.null for end in ((low, high) if sign > 0 else (high, low))]
    return f"interval {span(ends[0], ends[1], unit)}"


def _rows_needed(gain: float, least: float, low: float | None, shown: str) -> str:
    if low is None or gain <= low:
        return f"an interval is computed and lies beyond {shown}"
    ratio = (gain - low) / (gain - least)
    times = f"about {math.ceil(10 * ratio**2) / 10:g} times as many rows" if ratio < 10 else "far more rows"
    return f"the interval's nearer limit moves beyond {shown}; at this estimate that takes {times}"


def _agreement_reasons(target: Target) -> list[Reason]:
    if target.agreement == "strong_disagreement":
        sentence = (
            f"The {target.estimators} estimators of the {target.estimand} of {target.contrast} disagree strongly: "
            f"between-estimator SD {short(target.spread)}, {target.same_sign:.0%} on one side of no effect."
        )
        flips = "the estimators agree; find out which assumption separates them"
        return [Reason("quality", HOLD, sentence, flips)]
    if target.estimators > 1 and target.same_sign < 0.75:
        sentence = f"Only {target.same_sign:.0%} of the estimators of {target.contrast} share the consensus's sign."
        return [Reason("quality", CANARY, sentence, "at least 75% of the estimators share one sign")]
    return []


def _recommendation(verdict: str, by_contrast: dict[str, str], reasons: list[Reason]) -> str:
    here = [contrast for contrast, own in by_contrast.items() if own == verdict]
    which = f" for {listed(here)}" if len(by_contrast) > 1 and len(here) < len(by_contrast) else ""
    first = next((reason for reason in reasons if reason.allows == verdict), None)
    because = f" {first.sentence}" if first is not None and verdict != GO else ""
    return {
        GO: f"Roll out{which}, and keep watching the outcome and the guardrails.",
        CANARY: f"Try it on a small share{which} and measure again before a roll-out.{because}",
        HOLD: f"Do not act on this estimate.{because}",
    }[verdict]


def _confidence(evidence: Evidence, common: list[Reason], agreements: list[Reason]) -> str:
    """Say how far the estimate itself can be trusted: high, moderate, low or very low."""
    quality = [*common, *agreements]
    bad = sum(reason.allows == HOLD for reason in quality)
    cautions = sum(reason.allows == CANARY for reason in quality)
    if not evidence.targets or bad > 1:
        return "very low"
    if bad:
        return "low"
    spread_out = any(target.agreement == "moderate" for target in evidence.targets)
    single = all(target.estimators == 1 for target in evidence.targets)
    return "moderate" if cautions or spread_out or single else "high"


def _findings(evidence: Evidence, reasons: list[Reason]) -> tuple[str, ...]:
    found = [reason.sentence for reason in reasons if reason.kind in ("target", "deterioration")]
    for target in evidence.targets:
        if target.estimators > 1:
            found.append(
                f"{target.estimators} estimators of the {target.estimand} of {target.contrast}: "
                f"{target.agreement.replace('_', ' ')}, {target.same_sign:.0%} on the same side of no effect."
            )
    bad = [reason.sentence for reason in reasons if reason.kind == "quality" and reason.allows != GO]
    weighing = [gate for gate in evidence.gates if not gate.informs]
    if not bad and weighing:
        found.append(f"All {len(weighing)} gates that weigh in the verdict pass.")
    found += bad[:4]
    found += [reason.sentence for reason in reasons if reason.kind in ("guardrail", "sensitivity")][:4]
    if evidence.counts:
        found.append(f"{evidence.counts}.")
    return tuple(dict.fromkeys(found))
