"""What a reviewer finds to say about an analysis: each objection with its topic, how grave it is, and its remedy."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cqox_assets.measures import MEASURES
from cqox_assets.result import EffectEstimate, Failure, Outcome, SensitivityResult
from cqox_assets.study import Role, Study, TreatmentKind
from cqox_assets.synthesis.effect_summary import EffectSummary
from cqox_assets.synthesis.remedies import remedy_for
from cqox_assets.wording import listed, short, span

HUGE = 2.0  # standard deviations of the outcome: an effect that large is more often a wrong unit than a finding
_DATA = frozenset({"data", ""})
# Which questions speak to which assumption; one of them is enough.
_SPEAKS: Mapping[str, tuple[str, ...]] = {
    "unconfoundedness": ("e_value", "partial_r2", "confounding_strength", "rosenbaum_bounds"),
    "parallel_trends": ("parallel_trend_bounds",),
}


@dataclass(frozen=True)
class Objection:
    """One finding of the reviewer.

    Parameters
    ----------
    topic : str
        `data_quality`, `method_fit`, `significance`, `effect_size` or `sensitivity`.
    severity : str
        `note` is for the reader; `concern` speaks against the analysis as it is; `fatal` rejects it.
    remedy : str
        Name of a remedy on the list that answers to it, or empty.
    failing : bool
        Whether a check failed, rather than warned.
    measure : str
        Measure of the check, or empty.
    """

    topic: str
    severity: str
    sentence: str
    remedy: str = ""
    failing: bool = False
    measure: str = ""


def gate_objections(rows: Iterable[Mapping[str, Any]], used: Sequence[str]) -> Iterator[Objection]:
    """Return one objection per measure that warns or fails; one of the estimators' own fails when half of them do.

    Parameters
    ----------
    rows : iterable of mapping
        Gates that weigh.
    used : sequence of str
        Remedies that were carried out already: what they did not cure has no remedy left.
    """
    seen: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for row in rows:
        seen.setdefault((str(row.get("measure") or row["name"]), bool(row.get("estimator"))), []).append(row)
    for (measure, of_estimator), own in seen.items():
        bad = [row for row in own if _status(row) in ("warn", "fail")]
        if not bad:
            continue
        failed = [row for row in bad if _status(row) == "fail"]
        failing = bool(failed) and (not of_estimator or 2 * len(failed) >= len(own))
        worst = (failed or bad)[0]
        remedy = remedy_for(measure)
        name = remedy.name if remedy is not None and remedy.name not in used else ""
        topic = "data_quality" if str(worst.get("stage") or "") in _DATA and not of_estimator else "method_fit"
        known = MEASURES.get(measure)
        title = str(worst.get("title") or (known.title if known else measure.replace("_", " ")))
        who = f" in {len(bad)} of {len(own)} estimators" if of_estimator else ""
        value = "" if worst.get("value") is None else f": {short(float(worst['value']), 3)}"
        meaning = str(worst.get("meaning") or (known.meaning if known else ""))
        sentence = f"{title} {'fails' if failing else 'warns'}{who}{value}. {meaning}".strip()
        yield Objection(topic, "fatal" if failing and not name else "concern", sentence, name, failing, measure)


def _status(row: Mapping[str, Any]) -> str:
    return str(getattr(row["status"], "value", row["status"]))


def reading_objections(study: Study, summary: EffectSummary) -> Iterator[Objection]:
    """Return what to say about the design, the significance and the size of what was found."""
    targets = summary.targets()
    if not targets:
        sentence = f"Nothing could be estimated for the {summary.preferred}: {summary.counts}."
        yield Objection("method_fit", "fatal", sentence, failing=True)
    for row in summary.ledger:
        makers = {name for group in targets for name in group.estimators} & set(row.estimators)
        everybody = all(set(group.estimators) <= set(row.estimators) for group in targets)
        if row.state == "contradicted" and makers:
            sentence = (
                f"The data contradict an assumption of {listed(sorted(makers), 4)}: {row.statement} {row.evidence}"
            )
            # The gates that contradict it are judged as gates; what everybody assumes is said once more in words.
            yield Objection("method_fit", "concern" if everybody else "note", sentence)
    for group in targets:
        if group.agreement == "strong_disagreement":
            yield Objection("method_fit", "concern", group.sentence)
        yield _significance(group.label, group.low, group.high, group.null)
        yield from _size(study, group.label, group.consensus, group.null, group.scale)
    for notice in summary.notices:
        yield Objection("method_fit", "note", notice)


def _significance(label: str, low: float | None, high: float | None, null: float) -> Objection:
    if low is None or high is None:
        return Objection(
            "significance", "note", f"{label}: the interval is not bounded on both sides, so its size is open."
        )
    if low <= null <= high:
        sentence = (
            f"{label}: the interval, {span(low, high)}, covers no effect: one was not shown, nor shown to be absent."
        )
    else:
        sentence = (
            f"{label}: the interval, {span(low, high)}, excludes no effect: chance alone is an unlikely explanation."
        )
    return Objection("significance", "note", sentence)


def _size(study: Study, label: str, value: float | None, null: float, scale: str) -> Iterator[Objection]:
    if value is None or scale != "difference" or not study.has(Role.OUTCOME):
        return
    spread = float(study.column(Role.OUTCOME).std(ddof=1)) if len(study) > 1 else 0.0
    if study.treatment_kind is TreatmentKind.CONTINUOUS:
        unit = float(study.column(Role.TREATMENT).std(ddof=1))
        spread = spread / unit if unit > 0 else 0.0
    if not (spread > 0 and math.isfinite(spread)):
        return
    size = abs(value - null) / spread
    if size > HUGE:
        sentence = (
            f"{label}: {size:.1f} standard deviations of the outcome is implausibly large; check units and coding."
        )
        yield Objection("effect_size", "concern", sentence)
        return
    words = "negligible" if size < 0.05 else "small" if size < 0.35 else "medium" if size < 0.65 else "large"
    yield Objection("effect_size", "note", f"{label}: {size:.2f} standard deviations of the outcome, a {words} effect.")
    least = study.declaration.minimum_effect
    if least and abs(value - null) < abs(least):
        sentence = f"{label}: {short(value)} is smaller than the declared minimum effect {short(abs(least))}."
        yield Objection("effect_size", "note", sentence)


def sensitivity_objections(
    summary: EffectSummary, estimates: Mapping[str, Outcome], sensitivity: Mapping[str, Any]
) -> tuple[Objection, ...]:
    """Return which assumptions that the answer rests on were never put to the question."""
    counted = {name for group in summary.targets() for name in group.estimators}
    assumed = {
        item.name
        for name in counted
        if isinstance(answer := estimates.get(name), EffectEstimate)
        for item in answer.assumptions
    }
    answered = {
        item.name for item in sensitivity.values() if isinstance(item, SensitivityResult) and item.estimator in counted
    }
    found = []
    for assumption, questions in _SPEAKS.items():
        if assumption in assumed and not answered & set(questions):
            sentence = (
                f"Nobody asked how far {assumption.replace('_', ' ')} may fail: {listed(questions)} gave no answer."
            )
            found.append(Objection("sensitivity", "concern", sentence))
    failed = sorted({key for key, item in sensitivity.items() if isinstance(item, Failure)})
    if failed:
        found.append(Objection("sensitivity", "concern", f"{listed(failed, 4)} failed with a bug."))
    if counted and sensitivity and not answered:
        sentence = "No sensitivity question gave an answer about what the decision rests on."
        found.append(Objection("sensitivity", "concern", sentence))
    if answered:
        found.append(Objection("sensitivity", "note", f"{len(answered)} sensitivity questions were answered."))
    return tuple(found)
