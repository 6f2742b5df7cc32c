"""Quality, guardrails and sensitivity: what each finding allows the verdict to be at best."""

from cqox_assets.decisions.evidence import Evidence, Gate
from cqox_assets.decisions.verdict import CANARY, GO, HOLD, Reason
from cqox_assets.synthesis.guardrails import GuardrailEffect
from cqox_assets.wording import listed, short, span


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
    if evidence.critique == "reject":
        found.append(Reason("quality", HOLD, "The critique rejects the analysis.", "its objections are answered"))
    if evidence.unadjusted:
        sentence = "Nothing is adjusted for: no covariate is mapped and random assignment is not declared."
        flips = "covariates are mapped in study.yaml, or the study is a trial and says so: design: trial"
        found.append(Reason("quality", CANARY, sentence, flips))
    if evidence.failures:
        sentence = f"{listed(evidence.failures)} failed with a bug, so the answer is not complete."
        flips = "the failed estimators run; the card lists what was raised"
        found.append(Reason("quality", CANARY, sentence, flips))
    return found


def _estimator_gates(gates: list[Gate]) -> list[Reason]:
    failing = [gate for gate in gates if gate.status == "fail"]
    if failing:
        most = 2 * len(failing) >= len(gates)
        who = f"in {len(failing)} of {len(gates)} estimators ({listed([gate.source for gate in failing], 4)})"
        worst = max(failing, key=lambda gate: abs(gate.value or 0.0) if _below(gate) else -abs(gate.value or 0.0))
        return [_gate_reason(worst, HOLD if most else CANARY, who)]
    for status in ("warn", "not_run"):
        some = [gate for gate in gates if gate.status == status]
        if some:
            who = f"in {len(some)} of {len(gates)} estimators ({listed([gate.source for gate in some], 4)})"
            return [_gate_reason(some[0], CANARY, who)]
    return []


def _below(gate: Gate) -> bool:
    return gate.value is not None and gate.threshold is not None and gate.value > gate.threshold


def _gate_reason(gate: Gate, allows: str, who: str = "") -> Reason:
    place = f" {who}" if who else ""
    if gate.value is None:
        sentence = f"{gate.title} could not be computed{place}, and what is not known does not count as passed."
        return Reason("quality", allows, sentence, f"{gate.title.lower()} can be computed and passes")
    limit = "" if gate.threshold is None else f" (limit {short(gate.threshold)})"
    word = "fails" if gate.status == "fail" else "warns"
    meaning = f" {gate.meaning}" if gate.meaning else ""
    wanted = "" if gate.threshold is None else f" {'falls below' if _below(gate) else 'rises above'}"
    remedy = f": {gate.remedy[0].lower()}{gate.remedy[1:].rstrip('.')}" if gate.remedy else ""
    flips = f"{gate.title.lower()}{wanted} {'' if gate.threshold is None else short(gate.threshold)}".strip()
    return Reason(
        "quality", allows, f"{gate.title} {word}{place}: {short(gate.value, 3)}{limit}.{meaning}",
        f"{flips} (now {short(gate.value, 3)}){remedy}",
    )  # fmt: skip


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
    name = f"Guardrail '{rail.name}'" + (f" of {rail.contrast}" if several and rail.contrast else "")
    if rail.estimate is None:
        why = f": {rail.reason}" if rail.reason else ""
        sentence = f"{name} was declared but not measured{why}."
        return Reason("guardrail", CANARY, sentence, f"{name} is measured and is safe")
    sign = -1.0 if rail.direction == "lower_is_better" else 1.0
    ends = [None if end is None else sign * end for end in (rail.low, rail.high)]
    low, high = (ends[0], ends[1]) if sign > 0 else (ends[1], ends[0])
    interval = span(rail.low, rail.high)
    said = f"{name}: effect {short(rail.estimate)} ({interval}), allowed to get worse by {short(rail.margin)}"
    if sign * rail.estimate < -rail.margin or (high is not None and high < -rail.margin):
        return Reason("guardrail", HOLD, f"{said}; it does.", f"{name} gets worse by less than {short(rail.margin)}")
    if low is None or low < -rail.margin:
        return Reason("guardrail", CANARY, f"{said}; its interval does not rule that out.",
                      f"the interval of {name} lies within the margin")  # fmt: skip
    return Reason("guardrail", GO, f"{said}; it is safe.", f"{name} gets worse by more than {short(rail.margin)}")


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
        word = "no longer holds" if allows == GO else "holds"
        advice = "" if allows == GO else f": {question.advice[:1].lower()}{question.advice[1:].rstrip('.')}"
        flips = "" if question.informs else f"{question.title} {word} (now {short(question.value)}){advice}"
        found.append(Reason("sensitivity", GO if question.informs else allows, question.meaning, flips))
    return found
