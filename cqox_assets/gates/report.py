"""The result of judging a set of gates, as people and programs read it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from cqox_assets.measures import MEASURES, Diagnostic, Status

# `judge` stands in for infinity by this number, because results hold finite numbers only.
_INFINITE = 1e308
_WORST_FIRST = (Status.FAIL, Status.WARN, Status.NOT_RUN, Status.PASS)


@dataclass(frozen=True)
class Gate:
    """One expectation about data or a diagnostic, and how it turned out.

    Parameters
    ----------
    name, measure, title : str
        `rows`, or `ipw: adjusted_smd` for the measure `adjusted_smd` of the estimator `ipw`; the words for people.
    value, threshold, fail_threshold : float or None
        What was found; the limit; the limit beyond which it fails whatever the severity.
    severity, status : str, Status
    detail : str
        What was found, in words.
    meaning, remedy : str
        What a missed limit means and what to do about it.
    expectation : str
        What Great Expectations was asked.
    estimator : str
        Empty for a gate on the data.
    stage : str
        `data`, `nuisance`, `estimates` or `sensitivity`.
    informs : bool
        The gate has nothing to speak about in this study, so it is shown and does not weigh.
    """

    name: str
    measure: str
    title: str
    value: float | None
    threshold: float | None
    fail_threshold: float | None
    severity: str
    status: Status
    detail: str
    meaning: str
    remedy: str
    expectation: str
    estimator: str = ""
    stage: str = "data"
    informs: bool = False

    @property
    def blocks(self) -> bool:
        """Whether this gate stops the run."""
        return self.status is Status.FAIL and self.severity == "block"

    @property
    def wanted(self) -> str:
        """The limit in words."""
        measure = MEASURES.get(self.measure)
        if self.threshold is None or measure is None or measure.direction == "reported":
            return "no limit"
        sign = "<" if measure.direction == "below" else ">"
        return f"{sign} {number(self.threshold)}"


@dataclass(frozen=True)
class Named:
    """A diagnostic with the name that its gate has and the estimator that it belongs to."""

    name: str
    item: Diagnostic
    estimator: str = ""
    stage: str = "data"


@dataclass(frozen=True)
class GateReport:
    """Every gate of one suite.

    Parameters
    ----------
    suite : str
        `table`, `data` or `design`.
    fingerprint : str
        Of the study.
    gates : tuple of Gate
    engine : str
        Name and version of the library that validated.
    notices : tuple of str
    """

    suite: str
    fingerprint: str
    gates: tuple[Gate, ...]
    engine: str = ""
    notices: tuple[str, ...] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the gates as plain values, as the decision card lists them."""
        return [_gate_json(gate) for gate in self.gates]

    def gate(self, name: str) -> Gate | None:
        """Return the gate of that name, or None."""
        return next((gate for gate in self.gates if gate.name == name), None)

    def having(self, *statuses: Status) -> tuple[Gate, ...]:
        """Return the gates with one of the statuses."""
        return tuple(gate for gate in self.gates if gate.status in statuses)

    @property
    def blocking(self) -> tuple[Gate, ...]:
        """Gates that stop the run."""
        return tuple(gate for gate in self.gates if gate.blocks)

    def counts(self) -> dict[str, int]:
        """Return the number of gates by status; every status is present."""
        return {status.value: len(self.having(status)) for status in _WORST_FIRST}

    def frame(self) -> pd.DataFrame:
        """Return one row per gate."""
        return pd.DataFrame(self.rows, columns=list(Gate.__dataclass_fields__))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "suite": self.suite,
            "fingerprint": self.fingerprint,
            "rows": self.rows,
            "engine": self.engine,
            "notices": list(self.notices),
            "counts": self.counts(),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "GateReport":
        """Rebuild a report from `to_json`."""
        gates = tuple(Gate(**{**gate, "status": Status(gate["status"])}) for gate in row["rows"])
        return cls(row["suite"], row["fingerprint"], gates, row["engine"], tuple(row["notices"]))

    def headline(self) -> str:
        """Return one sentence that counts the gates."""
        if not self.gates:
            return "There are no gates to judge."
        count, blocking = self.counts(), len(self.blocking)
        parts = [f"{count['pass']} of {len(self.gates)} gates passed"]
        if count["fail"]:
            blocks = f" ({blocking} of them stop{'s' if blocking == 1 else ''} the run)" if blocking else ""
            parts.append(f"{count['fail']} failed{blocks}")
        if count["warn"]:
            parts.append(f"{count['warn']} warn")
        if count["not_run"]:
            parts.append(f"{count['not_run']} could not be run")
        return ", ".join(parts) + "."

    def markdown(self) -> str:
        """Return a page: what did not pass, what that means and what to do; then what passed."""
        parts = [f"**{self.headline()}**"]
        worst = sorted(self.having(*_WORST_FIRST[:3]), key=lambda gate: _WORST_FIRST.index(gate.status))
        if worst:
            heads = ("Gate", "Status", "Found", "Wanted", "What it means", "What to do")
            parts.append(_table(heads, (_missed_cells(gate) for gate in worst)))
        passed = self.having(Status.PASS)
        if passed:
            cells = ((_heading(gate), number(gate.value), gate.wanted, gate.detail) for gate in passed)
            parts.append(_table(("Passed", "Found", "Wanted", "Detail"), cells))
        parts += [f"- {_cell(notice)}" for notice in self.notices]
        if self.engine:
            parts.append(f"Validated by {self.engine}.")
        return "\n\n".join(parts)


def gate_of(named: Named, status: Status, expectations: Iterable[str]) -> Gate:
    """Describe a judged diagnostic as a gate, in the words of its measure."""
    item, measure = named.item, MEASURES.get(named.item.name)
    detail = item.detail
    if measure is not None and measure.meaning:  # `judge` wraps a missed measure's detail in meaning and remedy
        detail = detail.replace(f"{measure.meaning} ", "").replace(f" {measure.remedy}", "").strip().rstrip(".")
    return Gate(
        name=named.name,
        measure=item.name,
        title=measure.title if measure else item.name.replace("_", " ").capitalize(),
        value=item.value,
        threshold=item.threshold,
        fail_threshold=item.fail_threshold,
        severity=item.severity,
        status=status,
        detail=detail,
        meaning=measure.meaning if measure else "",
        remedy=measure.remedy if measure else "",
        expectation="; ".join(expectations),
        estimator=named.estimator,
        stage=named.stage,
        informs=not item.applies,
    )


def number(value: float | None) -> str:
    """Return a number as people read it."""
    if value is None:
        return "-"
    if abs(value) >= _INFINITE or math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _gate_json(gate: Gate) -> dict[str, Any]:
    return {**asdict(gate), "status": gate.status.value}


def _heading(gate: Gate) -> str:
    return f"{gate.title} ({gate.estimator})" if gate.estimator else gate.title


def _missed_cells(gate: Gate) -> tuple[str, ...]:
    status = "fail, stops the run" if gate.blocks else gate.status.value.replace("_", " ")
    found = f"{number(gate.value)}: {gate.detail}" if gate.value is not None else gate.detail
    if gate.status is Status.NOT_RUN:
        words = (
            "It does not apply to this study." if gate.informs else "It is not known, which does not count as passed."
        )
        return _heading(gate), status, found, gate.wanted, words, ""
    return _heading(gate), status, found, gate.wanted, gate.meaning, gate.remedy


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads)]
    body = [tuple(_cell(cell) for cell in row) for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [*lines, *body])


def _cell(text: str) -> str:
    """Keep a column name with a bar, an angle bracket or a line break from breaking the table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
