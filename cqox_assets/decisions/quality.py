"""Quality, guardrails and sensitivity: what each finding allows the verdict to be at best."""

from cqox_assets.decisions.evidence import Evidence, Gate, Question
from cqox_assets.decisions.language import Said, between, entry, known, listing, lowered, say, term
from cqox_assets.decisions.verdict import CANARY, GO, HOLD, Reason
from cqox_assets.synthesis.guardrails import GuardrailEffect
from cqox_assets.wording import short


def quality_reasons(evidence: Evidence) -> list[Reason]:
    """Judge the gates; of an estimator's own gates a majority must fail before the whole answer does."""
    found: list[Reason] = []
    weighing = [gate for gate in evidence.gates if not gate.informs]
    for gate in (item for item in weighing if not item.source):
        allows = {"fail": HOLD, "warn": CANARY, "not_run": CANARY}.get(gate.status)
        if allows:
            found.append(_gate_reason(gate, allows))
    names = dict.fromkeys(gate.name for gate in weighing if gate.source)
    for name in names:
        found += _estimator_gates([gate for gate in weighing if gate.source and gate.name == name])
    if (evidence.critique or "").lower() == "reject":
        sentence = say("critique_says", why=known(evidence.review)) if evidence.review else say("critique_rejects")
        found.append(Reason("quality", HOLD, sentence, say("critique_flips")))
    if evidence.unadjusted:
        found.append(Reason("quality", CANARY, say("unadjusted"), say("unadjusted_flips")))
    if evidence.failures:
        sentence = say("failures", who=listing([entry("estimators", name, name) for name in evidence.failures]))
        found.append(Reason("quality", CANARY, sentence, say("failures_flips")))
    return found


def _estimator_gates(gates: list[Gate]) -> list[Reason]:
    failing = [gate for gate in gates if gate.status == "fail"]
    if failing:
        most = 2 * len(failing) >= len(gates)
        who = _who(failing, gates)
        worst = max(failing, key=lambda gate: abs(gate.value or 0.0) if _below(gate) else -abs(gate.value or 0.0))
        return [_gate_reason(worst, HOLD if most else CANARY, who)]
    for status in ("warn", "not_run"):
        some = [gate for gate in gates if gate.status == status]
        if some:
            return [_gate_reason(some[0], CANARY, _who(some, gates))]
    return []


def _below(gate: Gate) -> bool:
    return gate.value is not None and gate.threshold is not None and gate.value > gate.threshold


def _who(some: list[Gate], gates: list[Gate]) -> Said:
    return say(
        "who",
        some=len(some),
        all=len(gates),
        names=listing([entry("estimators", gate.source, gate.source) for gate in some], 4),
    )


def _gate_reason(gate: Gate, allows: str, who: str = "") -> Reason:
    if gate.value is None:
        flips = say("gate_unknown_flips", title=lowered(gate.title))
        return Reason("quality", allows, say("gate_unknown", title=gate.title, place=who), flips)
    value, meaning = short(gate.value, 3), entry("measures", gate.name, gate.meaning, "meaning")
    sentence = say(
        "gate_fails" if gate.status == "fail" else "gate_warns",
        title=gate.title,
        place=who,
        value=value,
        limit="" if gate.threshold is None else say("gate_limit", limit=short(gate.threshold)),
        meaning=say("gate_meaning", meaning=meaning) if gate.meaning else "",
    )
    remedy = lowered(entry("measures", gate.name, gate.remedy, "remedy"))
    then = say("gate_remedy", remedy=remedy) if remedy else ""
    facts = {"title": lowered(gate.title), "value": value, "remedy": then}
    if gate.threshold is None:
        return Reason("quality", allows, sentence, say("gate_flips", **facts))
    key = "gate_flips_below" if _below(gate) else "gate_flips_above"
    return Reason("quality", allows, sentence, say(key, limit=short(gate.threshold), **facts))


def guardrail_reasons(evidence: Evidence, contrast: str | None = None) -> list[Reason]:
    """Judge each guardrail, or those that concern a contrast: worse than its margin, not ruled out, or safe."""
    contrasts = {target.contrast for target in evidence.targets}
    several = len(contrasts) > 1
    return [
        _guardrail(rail, several=several)
        for rail in evidence.guardrails
        if contrast is None or rail.contrast == contrast or rail.contrast not in contrasts
    ]


def _guardrail(rail: GuardrailEffect, *, several: bool) -> Reason:
    with_arm = several and rail.contrast
    name = say("rail_of", name=rail.name, contrast=rail.contrast) if with_arm else say("rail", name=rail.name)
    if rail.estimate is None:
        why = say("rail_why", reason=rail.reason) if rail.reason else ""
        return Reason(
            "guardrail", CANARY, say("rail_unmeasured", name=name, why=why), say("rail_unmeasured_flips", name=name)
        )
    sign = -1.0 if rail.direction == "lower_is_better" else 1.0
    ends = [None if end is None else sign * end for end in (rail.low, rail.high)]
    low, high = (ends[0], ends[1]) if sign > 0 else (ends[1], ends[0])
    margin, interval = short(rail.margin), between(rail.low, rail.high)
    said = say("rail_said", name=name, estimate=short(rail.estimate), interval=interval, margin=margin)
    if sign * rail.estimate < -rail.margin or (high is not None and high < -rail.margin):
        flips = say("rail_worse_flips", name=name, margin=margin)
        return Reason("guardrail", HOLD, say("rail_worse", said=said), flips)
    if low is None or low < -rail.margin:
        return Reason("guardrail", CANARY, say("rail_open", said=said), say("rail_open_flips", name=name))
    return Reason("guardrail", GO, say("rail_safe", said=said), say("rail_safe_flips", name=name, margin=margin))


def sensitivity_reasons(evidence: Evidence, contrast: str | None = None) -> list[Reason]:
    """Judge the sensitivity questions, or those that concern a contrast.

    A question asked of several estimators about one contrast counts once, at its upper median.
    """
    rank, contrasts = {"pass": 0, "not_run": 1, "warn": 2, "fail": 3}, {target.contrast for target in evidence.targets}
    heard = [
        item
        for item in evidence.questions
        if contrast is None or item.contrast == contrast or item.contrast not in contrasts
    ]
    found = []
    for key in dict.fromkeys((item.name, item.contrast) for item in heard):
        asked = sorted(
            (item for item in heard if (item.name, item.contrast) == key), key=lambda item: rank[item.status]
        )
        question = asked[len(asked) // 2]
        allows = {"fail": HOLD, "warn": CANARY, "not_run": CANARY}.get(question.status, GO)
        found.append(_sensitivity_reason(question, allows))
    if evidence.unasked:
        found.append(Reason("sensitivity", CANARY, say("unasked"), say("unasked_flips")))
    if evidence.untested:
        found.append(Reason("sensitivity", CANARY, say("untested"), say("untested_flips")))
    return found


def _sensitivity_reason(question: Question, allows: str) -> Reason:
    title, value = entry("questions", question.name, question.title or question.name), short(question.value)
    status = term("status", question.status)
    meaning = known(question.meaning)
    sentence = say("asked", english=question.meaning, title=title, status=status, value=value)
    sentence = meaning if meaning.other else sentence  # else only its status and value can be said elsewhere
    if question.informs:
        return Reason("sensitivity", GO, sentence)
    advice = "" if allows == GO else f": {lowered(question.advice)}"
    key = "holds_no_longer" if allows == GO else "holds"
    return Reason("sensitivity", allows, sentence, say(key, title=title, value=value, advice=advice))
