"""The assumption ledger: what the answers rest on, and what the diagnostics say about each point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cqox_assets.measures import MEASURES
from cqox_assets.result import Assumption, EffectEstimate

_WORST = {"fail": 3, "warn": 2, "pass": 1, "not_run": 0}
_STATES = {"fail": "contradicted", "warn": "doubtful", "pass": "supported", "not_run": "untested"}


@dataclass(frozen=True)
class LedgerRow:
    """One assumption: who makes it, and whether the data support it.

    `state` is `supported`, `doubtful`, `contradicted` or `untested`; `evidence` is one sentence.
    """

    name: str
    statement: str
    state: str
    evidence: str
    estimators: tuple[str, ...]


def assumption_ledger(
    answered: Mapping[str, EffectEstimate], gates: Sequence[Mapping[str, Any]], *, trial: bool
) -> tuple[LedgerRow, ...]:
    """Return one row per assumption that any estimate makes; the state is computed from the diagnostics."""
    makers: dict[str, list[str]] = {}
    known: dict[str, Assumption] = {}
    for name, answer in answered.items():
        for item in answer.assumptions:
            makers.setdefault(item.name, []).append(name)
            known[item.name] = item
    return tuple(
        _row(known[name], tuple(names), _found(known[name], answered, names, gates), trial)
        for name, names in makers.items()
    )


def _found(
    assumption: Assumption,
    answered: Mapping[str, EffectEstimate],
    names: Sequence[str],
    gates: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, float | None, str]]:
    """Return (measure, status, value, who) of every diagnostic that speaks to the assumption."""
    wanted = set(assumption.diagnostics)
    own = [
        (item.name, item.status.value, item.value, name)
        for name in names
        for item in answered[name].diagnostics
        if item.name in wanted
    ]
    shared = [
        (str(row["name"]), str(row["status"]), row.get("value"), "the study") for row in gates if row["name"] in wanted
    ]
    return own + shared


def _row(
    assumption: Assumption, names: tuple[str, ...], found: list[tuple[str, str, float | None, str]], trial: bool
) -> LedgerRow:
    if assumption.name == "random_assignment":
        state, evidence = _random_assignment(found, trial)
    elif not found:
        untestable = "Data cannot show this; only knowledge of how they came about can."
        state, evidence = (
            "untested",
            untestable if not assumption.testable else "No diagnostic of this study speaks to it.",
        )
    else:
        worst = max(found, key=lambda item: _WORST[item[1]])
        state = _STATES[worst[1]]
        title = MEASURES[worst[0]].title if worst[0] in MEASURES else worst[0]
        value = "could not be computed" if worst[2] is None else f"is {worst[2]:.3g}"
        evidence = f"{title} {value} for {worst[3]}, the worst of {len(found)}."
    return LedgerRow(assumption.name, assumption.statement, state, evidence, names)


def _random_assignment(found: list[tuple[str, str, float | None, str]], trial: bool) -> tuple[str, str]:
    values = [value for _, _, value, _ in found if value is not None]
    largest = max(values) if values else None
    seen = "" if largest is None else f"; the largest raw imbalance is {largest:.2f} standard deviations"
    if trial:
        return "supported", f"The study is declared a trial{seen}, which informs and does not judge."
    limit = MEASURES["adjusted_smd"].fail_limit or 0.25
    if largest is not None and largest > limit:
        return "contradicted", f"No trial is declared{seen}, more than {limit:g}."
    return "untested", f"No trial is declared{seen}."
