"""Great Expectations suites over diagnostics: each is judged by the limits and the severity that it carries."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from cqox_assets.errors import ContractError
from cqox_assets.gates.engine import LARGEST, RANK, SEVERITY, Answer, Expected, engine, validate
from cqox_assets.gates.report import Gate, GateReport, Named, gate_of
from cqox_assets.gates.table import validate_table
from cqox_assets.measures import MEASURES, Diagnostic, Status
from cqox_assets.study import Study

__all__ = ["Gate", "GateReport", "Named", "validate_diagnostics", "validate_named", "validate_table"]


def _between(gate: str, limit: str, column: str, direction: str, bound: float, severity: str) -> Expected:
    """Expect a one-row column strictly beyond a bound."""
    bound = max(-LARGEST, min(LARGEST, bound))
    if direction == "below":
        arguments = {"column": column, "max_value": bound, "strict_max": True}
        return Expected(gate, limit, "ExpectColumnMaxToBeBetween", severity, arguments)
    arguments = {"column": column, "min_value": bound, "strict_min": True}
    return Expected(gate, limit, "ExpectColumnMinToBeBetween", severity, arguments)


def _expected_of(named: Named) -> list[Expected]:
    """Return the expectations of one diagnostic; one that no measure defines is expected to have passed."""
    item, measure = named.item, MEASURES.get(named.item.name)
    severity = SEVERITY.get(item.severity, "warning")
    present = Expected(named.name, "present", "ExpectColumnValuesToNotBeNull", severity, {"column": named.name})
    if item.value is None:
        return [present]
    if measure is None:
        arguments = {"column": named.name, "value_set": [Status.PASS.value]}
        return [Expected(named.name, "limit", "ExpectColumnValuesToBeInSet", severity, arguments)]
    result = []
    if measure.direction != "reported":
        for limit, bound, level in (
            ("limit", item.threshold, severity),
            ("fail", item.fail_threshold, "critical"),
        ):
            if bound is not None:
                result.append(_between(named.name, limit, named.name, measure.direction, bound, level))
    return result or [present]


def _status(named: Named, answers: Mapping[tuple[str, str], Answer]) -> Status:
    """Read the status off the answers; the diagnostic's own stands where it is worse or no measure defines it."""
    item = named.item

    def missed(limit: str) -> bool:
        return (named.name, limit) in answers and not answers[named.name, limit].success

    if missed("present"):
        return Status.NOT_RUN
    if item.name not in MEASURES:
        return item.status
    status = Status.PASS
    if missed("limit"):
        status = Status.FAIL if item.severity == "block" else Status.WARN
    if missed("fail"):
        status = Status.FAIL
    return max(status, item.status, key=RANK.__getitem__)


def validate_named(
    named: Iterable[Named], *, suite: str, fingerprint: str = "", notices: tuple[str, ...] = ()
) -> GateReport:
    """Judge diagnostics through one suite over a frame with one column per gate and one row.

    Raises
    ------
    ContractError
        If two gates have the same name.
    """
    items = list(named)
    names = [item.name for item in items]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ContractError(f"gate '{twice}' is listed twice")
    expected = {item.name: _expected_of(item) for item in items}
    columns = {one.name: [_cell(one.item)] for one in items}
    answers = validate(pd.DataFrame(columns), suite, (each for group in expected.values() for each in group))
    gates = tuple(gate_of(item, _status(item, answers), (each.text for each in expected[item.name])) for item in items)
    return GateReport(suite, fingerprint, gates, engine()[1], notices)


def _cell(item: Diagnostic) -> float | str:
    """Return what stands in the frame: the value, or the status of a diagnostic that no measure defines."""
    if item.value is None:
        return math.nan
    return float(item.value) if item.name in MEASURES else item.status.value


def validate_diagnostics(
    diagnostics: Iterable[Diagnostic], study: Study | None = None, *, notices: tuple[str, ...] = ()
) -> GateReport:
    """Judge the data diagnostics by the limits and severities that they carry; a gate is named as its measure."""
    fingerprint = "" if study is None else study.fingerprint
    named = (Named(item.name, item) for item in diagnostics)
    return validate_named(named, suite="data", fingerprint=fingerprint, notices=notices)
