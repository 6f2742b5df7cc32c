"""The rule: from evidence to GO, CANARY or HOLD, with every reason and what would flip it."""

import math
from dataclasses import replace

from cqox_assets.decisions.evidence import Evidence, Target
from cqox_assets.decisions.language import Said, between, listing, say, term
from cqox_assets.decisions.net_benefit import net_benefit_reasons
from cqox_assets.decisions.quality import guardrail_reasons, quality_reasons, sensitivity_reasons
from cqox_assets.decisions.verdict import CANARY, GO, HOLD, SEVERITY, Reason, Verdict
from cqox_assets.declaration import Override
from cqox_assets.synthesis._helpers import normal_quantile
from cqox_assets.wording import share, short, with_unit


def decide(evidence: Evidence) -> Verdict:
    """Judge the evidence; a pure function.

    Notes
    -----
    Each finding allows GO, CANARY or HOLD at best, and the verdict is the worst of them, so that more bad news can
    never improve it. GO needs the whole interval beyond `minimum_effect` in the good direction, no gate that warns,
    fails or could not run, guardrails shown to be safe and sensitivity that holds; where the answer rests on there
    being no hidden confounder, that includes a placebo outcome, since no other data show how strong one is. Failed
    quality is HOLD however good the effect looks. With several contrasts each is judged at a level that keeps the
    chance of any false GO at that of one (Bonferroni), and the verdict is that of the best arm.
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
    reasons = [*nothing, *quality, *agreeing, *arms.values(), *others]
    reasons.sort(key=lambda reason: -SEVERITY[reason.allows])
    return Verdict(
        verdict=verdict,
        reasons=tuple(reasons),
        recommendation=_recommendation(verdict, by_contrast, reasons, evidence),
        confidence_level=_confidence(evidence, [*quality, *best], agreeing),
        key_findings=_findings(evidence, reasons),
        by_contrast=by_contrast,
        notices=evidence.notices,
    )


def _worst(reasons: list[Reason]) -> str:
    return max((reason.allows for reason in reasons), key=SEVERITY.__getitem__)


def override(found: Verdict, declared: Override | None) -> Verdict:
    """Put a person's declared verdict in the rule's place; the rule's own stays readable beside it.

    The reason is one of the verdict's reasons from then on, and taking the override back is what flips it.
    """
    if declared is None:
        return found
    facts = {"by": declared.by, "verdict": declared.verdict, "rule": found.verdict, "reason": declared.reason}
    kept = {**facts, "rule": found.verdict}
    if declared.verdict == found.verdict:
        return replace(found, override=kept, notices=(say("override_agrees", **facts), *found.notices))
    reason = Reason("override", declared.verdict, say("overridden", **facts), say("override_flips"))
    return replace(
        found,
        verdict=declared.verdict,
        reasons=(reason, *found.reasons),
        recommendation=say(f"override_{declared.verdict.lower()}", **facts),
        key_findings=(reason.sentence, *found.key_findings),
        override=kept,
    )


def _nothing(evidence: Evidence) -> Reason:
    estimand = term("estimand", evidence.preferred)
    key = "nothing_because" if evidence.counts else "nothing"
    sentence = say(key, estimand=estimand, counts=evidence.counts)
    return Reason("target", HOLD, sentence, say("nothing_flips"))


def _target_reason(target: Target, evidence: Evidence) -> Reason:
    """Judge one contrast by where its interval lies; in good units, larger is always better."""
    sign = -1.0 if evidence.direction == "lower_is_better" else 1.0
    gain, least, unit = sign * (target.estimate - target.null), evidence.minimum_effect, evidence.unit
    low, high = _bounds(target, sign, len(evidence.targets))
    want = say("want_effect", least=with_unit(sign * least, unit)) if least > 0 else say("want_any")
    shown, now = with_unit(sign * least + target.null, unit), with_unit(target.estimate, unit)
    estimand, ends = term("estimand", target.estimand), _span(target, sign, low, high, unit)
    head = say("head", estimand=estimand, contrast=target.contrast, now=now, span=ends)
    if high is not None and high < 0:
        return Reason("deterioration", HOLD, say("worse", head=head), say("worse_flips"))
    if not gain > least:
        flips = say("not_beyond_flips", shown=shown, now=now)
        return Reason("target", HOLD, say("not_beyond", head=head, want=want), flips)
    if low is None or not low > least:
        return Reason("target", CANARY, say("straddles", head=head, want=want), _rows_needed(gain, least, low, shown))
    flips = say("beyond_flips", bound=with_unit(sign * low + target.null, unit), shown=shown)
    return Reason("target", GO, say("beyond", head=head, want=want), flips)


def _bounds(target: Target, sign: float, contrasts: int) -> tuple[float | None, float | None]:
    """Return the interval in good units, widened when several arms compete; None is unbounded."""
    wider = normal_quantile(1 - (1 - target.level) / contrasts) / normal_quantile(target.level)
    ends = [
        None if end is None else sign * (target.estimate + wider * (end - target.estimate) - target.null)
        for end in (target.low, target.high)
    ]
    return (ends[0], ends[1]) if sign > 0 else (ends[1], ends[0])


def _span(target: Target, sign: float, low: float | None, high: float | None, unit: str) -> Said:
    if low is None and high is None:
        return say("span_none")
    ends = [None if end is None else sign * end + target.null for end in ((low, high) if sign > 0 else (high, low))]
    return say("span", span=between(ends[0], ends[1], unit))


def _rows_needed(gain: float, least: float, low: float | None, shown: str) -> Said:
    if low is None or gain <= low:
        return say("interval_needed", shown=shown)
    ratio = (gain - low) / (gain - least)
    times = say("times", ratio=f"{math.ceil(10 * ratio**2) / 10:g}") if ratio < 10 else say("far_more_rows")
    return say("rows_needed", shown=shown, times=times)


def _agreement_reasons(target: Target) -> list[Reason]:
    facts = {"contrast": target.contrast, "same": f"{target.same_sign:.0%}"}
    if target.agreement == "strong_disagreement":
        estimand = term("estimand", target.estimand)
        more = {"count": target.estimators, "estimand": estimand, "spread": short(target.spread)}
        return [Reason("quality", HOLD, say("disagree", **facts, **more), say("disagree_flips"))]
    if target.estimators > 1 and target.same_sign < 0.75:
        return [Reason("quality", CANARY, say("few_same_sign", **facts), say("few_same_sign_flips"))]
    return []


def _recommendation(verdict: str, by_contrast: dict[str, str], reasons: list[Reason], evidence: Evidence) -> Said:
    here = [contrast for contrast, own in by_contrast.items() if own == verdict]
    some = len(by_contrast) > 1 and len(here) < len(by_contrast)
    first = next((reason for reason in reasons if reason.allows == verdict), None)
    because = say("because", sentence=first.sentence) if first is not None and verdict != GO else ""
    which = say("which", arms=listing(here)) if some else ""
    limited = [item for item in evidence.net_benefits if item.contrast in here and item.affordable < 1]
    if verdict == GO and len(limited) == len(here) == 1:
        return say("go_within", which=which, share=share(limited[0].coverage))
    return say(verdict.lower(), which=which, because=because)


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
    found += [
        say(
            "agreement_finding",
            count=target.estimators,
            estimand=term("estimand", target.estimand),
            contrast=target.contrast,
            agreement=term("agreement", target.agreement),
            same=f"{target.same_sign:.0%}",
        )
        for target in evidence.targets
        if target.estimators > 1
    ]
    bad = [reason.sentence for reason in reasons if reason.kind == "quality" and reason.allows != GO]
    weighing = [gate for gate in evidence.gates if not gate.informs]
    if not bad and weighing:
        found.append(say("gates_pass", count=len(weighing)))
    found += bad[:4]
    found += [reason.sentence for reason in reasons if reason.kind in ("guardrail", "sensitivity")][:4]
    if evidence.tally:
        found.append(say("full_stop", text=evidence.tally))
    return tuple(dict.fromkeys(found))
