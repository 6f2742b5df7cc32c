"""Great Expectations suites over a study's table and over diagnostics, and the one place that runs them."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd

from cqox_assets.errors import ContractError
from cqox_assets.gates.report import Gate, GateReport
from cqox_assets.measures import MEASURES, Diagnostic, Status, judge
from cqox_assets.study import Role, Study

__all__ = ["Gate", "GateReport", "Named", "validate_diagnostics", "validate_named", "validate_table"]

_LARGEST = 1.7e308
_SEVERITY = {"block": "critical", "warn": "warning"}
_RANK = {Status.PASS: 0, Status.NOT_RUN: 1, Status.WARN: 2, Status.FAIL: 3}
_COMPLETE = (Role.COVARIATES, Role.UNIT, Role.TIME, Role.CLUSTER)


@dataclass(frozen=True)
class Expected:
    """One expectation of a suite; `limit` says which limit of the gate it stands for: limit, fail or present."""

    gate: str
    limit: str
    kind: str
    severity: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The expectation as Great Expectations names it, with its arguments."""
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in self.kind).lstrip("_")
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


@dataclass(frozen=True)
class Named:
    """A diagnostic with the name that its gate has and the estimator that it belongs to."""

    name: str
    item: Diagnostic
    estimator: str = ""
    stage: str = "data"


@dataclass(frozen=True)
class _Answer:
    success: bool
    value: float | None


@cache
def _engine() -> tuple[Any, str]:
    """Import Great Expectations once per process; return a batch definition for any frame, and its version."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("study").add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("rows"), f"Great Expectations {gx.__version__}"


def _validate(frame: pd.DataFrame, suite: str, expected: Iterable[Expected]) -> dict[tuple[str, str], _Answer]:
    """Validate a frame in one batch and return the answers by gate and limit.

    Raises
    ------
    ContractError
        If an expectation could not be evaluated: a bug, because the suites are built from the frame.
    """
    definition, _ = _engine()
    import great_expectations as gx
    from great_expectations import expectations as kinds

    built = [
        getattr(kinds, item.kind)(
            **item.arguments, severity=item.severity, meta={"gate": item.gate, "limit": item.limit}
        )
        for item in expected
    ]
    if not built:
        return {}
    batch = definition.get_batch({"dataframe": frame})
    outcome = batch.validate(gx.ExpectationSuite(name=suite, expectations=built), result_format="BASIC")
    answers = {}
    for result in outcome.results:
        meta, found = result.expectation_config.meta, result.result
        problem = _exception(result.exception_info)
        if problem:
            raise ContractError(f"gate '{meta['gate']}' could not be evaluated by Great Expectations: {problem}")
        value = found.get("observed_value", found.get("unexpected_count"))
        plain = float(value) if isinstance(value, (int, float)) or hasattr(value, "item") else None
        answers[meta["gate"], meta["limit"]] = _Answer(bool(result.success), plain)
    return answers


def _exception(info: Mapping[str, Any]) -> str:
    """Return the message of the first exception; one per metric or one for the whole expectation."""
    for entry in [info] if "raised_exception" in info else info.values():
        if entry["raised_exception"]:
            return str(entry["exception_message"])
    return ""


def _between(gate: str, limit: str, column: str, direction: str, bound: float, severity: str) -> Expected:
    """Expect a one-row column strictly beyond a bound."""
    bound = max(-_LARGEST, min(_LARGEST, bound))
    if direction == "below":
        arguments = {"column": column, "max_value": bound, "strict_max": True}
        return Expected(gate, limit, "ExpectColumnMaxToBeBetween", severity, arguments)
    arguments = {"column": column, "min_value": bound, "strict_min": True}
    return Expected(gate, limit, "ExpectColumnMinToBeBetween", severity, arguments)


def _expected_of(named: Named) -> list[Expected]:
    """Return the expectations of one diagnostic; one that no measure defines is expected to have passed."""
    item, measure = named.item, MEASURES.get(named.item.name)
    severity = _SEVERITY.get(item.severity, "warning")
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


def _status(named: Named, answers: Mapping[tuple[str, str], _Answer]) -> Status:
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
    return max(status, item.status, key=_RANK.__getitem__)


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
    answers = _validate(pd.DataFrame(columns), suite, (each for group in expected.values() for each in group))
    gates = tuple(_gate(item, _status(item, answers), expected[item.name]) for item in items)
    return GateReport(suite, fingerprint, gates, _engine()[1], notices)


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


def _gate(named: Named, status: Status, expected: list[Expected]) -> Gate:
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
        expectation="; ".join(each.text for each in expected),
        estimator=named.estimator,
        stage=named.stage,
        informs=not item.applies,
    )


def validate_table(study: Study) -> GateReport:
    """Validate the analysis-ready table itself: rows, outcome, treatment, repeated unit-periods, cells, weights.

    Limits and severities are those of the study; only gates whose roles are mapped are listed.
    """
    frame, expected = _table_suite(study)
    answers = _validate(frame, "table", expected)
    gates = []
    for each in expected:
        answer = answers[each.gate, each.limit]
        item = judge(each.gate, answer.value, thresholds=study.thresholds, severities=study.severities)
        detail = MEASURES[each.gate].definition
        if each.gate == "missing_cells" and not answer.success:
            detail = f"missing in {_columns_with_gaps(study)}"
        status = Status.PASS if answer.success else Status.FAIL if item.severity == "block" else Status.WARN
        named = Named(each.gate, Diagnostic(each.gate, item.value, item.threshold, status, detail, item.severity))
        gates.append(_gate(named, status, [each]))
    return GateReport("table", study.fingerprint, tuple(gates), _engine()[1])


def _table_suite(study: Study) -> tuple[pd.DataFrame, list[Expected]]:
    """Return the columns to validate and what is expected of them."""
    rows, columns, expected = len(study), {}, []

    def expect(gate: str, kind: str, **arguments: Any) -> None:
        judged = judge(gate, None, thresholds=study.thresholds, severities=study.severities)
        limit = 0.0 if judged.threshold is None else judged.threshold
        filled = {key: value(limit) if callable(value) else value for key, value in arguments.items()}
        expected.append(Expected(gate, "limit", kind, _SEVERITY[judged.severity], filled))

    def all_but(limit: float) -> float:
        """Share of rows that must hold so that fewer than `limit` do not; half a row guards against rounding."""
        return max(0.0, 1 - (max(math.ceil(limit), 1) - 0.5) / max(rows, 1))

    above = {"min_value": lambda limit: math.floor(limit) + 1}
    expect("rows", "ExpectTableRowCountToBeBetween", **above)
    if study.has(Role.OUTCOME):
        name = study.name(Role.OUTCOME)
        columns[name] = study.frame[name]
        expect("missing_outcome", "ExpectColumnValuesToNotBeNull", column=name, mostly=all_but)
        expect("outcome_levels", "ExpectColumnUniqueValueCountToBeBetween", column=name, **above)
    if len(study.names(Role.TREATMENT)) == 1:
        name = study.name(Role.TREATMENT)
        columns[name] = study.frame[name]
        if study.arms:  # a missing code would be passed over by the expectation, so it becomes an unknown one
            columns[name] = pd.to_numeric(study.frame[name], errors="coerce").fillna(-1.0)
            values = [float(code) for code in range(len(study.arms))]
            expect("unknown_treatment", "ExpectColumnValuesToBeInSet", column=name, value_set=values, mostly=all_but)
        else:
            expect("unknown_treatment", "ExpectColumnValuesToNotBeNull", column=name, mostly=all_but)
        expect("arms", "ExpectColumnUniqueValueCountToBeBetween", column=name, **above)
    if study.has(Role.UNIT) and study.has(Role.TIME):
        keys = [study.name(Role.UNIT), study.name(Role.TIME)]
        columns.update({key: study.frame[key] for key in keys})
        expect("duplicated_unit_periods", "ExpectCompoundColumnsToBeUnique", column_list=keys, mostly=all_but)
    if study.has(Role.WEIGHT):
        name = study.name(Role.WEIGHT)
        columns[name] = pd.to_numeric(study.frame[name], errors="coerce").fillna(-1.0)
        limits = {"min_value": 0.0, "max_value": _LARGEST}
        expect("invalid_weights", "ExpectColumnValuesToBeBetween", column=name, mostly=all_but, **limits)
    complete = [name for role in _COMPLETE for name in study.names(role)]
    if complete:
        gaps = _free_name("missing cells", study.frame.columns)
        columns[gaps] = study.frame[complete].isna().sum(axis=1)
        expect("missing_cells", "ExpectColumnSumToBeBetween", column=gaps, max_value=lambda x: x, strict_max=True)
    return pd.DataFrame(columns, index=study.frame.index), expected


def _free_name(wanted: str, taken: Iterable[str]) -> str:
    held = set(taken)
    while wanted in held:
        wanted += "_"
    return wanted


def _columns_with_gaps(study: Study) -> str:
    complete = [name for role in _COMPLETE for name in study.names(role)]
    gaps = [study.label(name) for name in complete if study.frame[name].isna().any()]
    return ", ".join(f"'{name}'" for name in gaps[:5]) + (f" and {len(gaps) - 5} more" if len(gaps) > 5 else "")
