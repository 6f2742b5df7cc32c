"""The Great Expectations suite over a study's analysis-ready table."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from cqox_assets.gates.engine import LARGEST, RANK, SEVERITY, Expected, engine, validate
from cqox_assets.gates.report import GateReport, Named, gate_of
from cqox_assets.measures import MEASURES, Diagnostic, Status, judge
from cqox_assets.study import Role, Study

_COMPLETE = (Role.COVARIATES, Role.UNIT, Role.TIME, Role.CLUSTER)


def validate_table(study: Study) -> GateReport:
    """Validate the analysis-ready table itself: rows, outcome, treatment, repeated unit-periods, cells, weights.

    Limits and severities are those of the study; only gates whose roles are mapped are listed.
    """
    fingerprint, study = study.fingerprint, study.studied()
    suite = _table_suite(study)
    answers = validate(suite.frame(), "table", suite.expected)
    gates = []
    for each in suite.expected:
        answer = answers[each.gate, each.limit]
        item = judge(each.gate, answer.value, thresholds=study.thresholds, severities=study.severities)
        detail = MEASURES[each.gate].definition
        if each.gate == "missing_cells" and not answer.success:
            detail = f"missing in {_columns_with_gaps(study)}"
        status = Status.PASS if answer.success else Status.FAIL if item.severity == "block" else Status.WARN
        status = max(status, item.status, key=RANK.__getitem__)  # a limit of no rows at all cannot be asked for
        named = Named(each.gate, Diagnostic(each.gate, item.value, item.threshold, status, detail, item.severity))
        gates.append(gate_of(named, status, [each.text]))
    return GateReport("table", fingerprint, tuple(gates), engine()[1])


class _Suite:
    """The columns to validate and what is expected of them, built role by role."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.columns: dict[str, pd.Series] = {}
        self.expected: list[Expected] = []

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.columns, index=self.study.frame.index)

    def limit(self, gate: str) -> tuple[float, str]:
        """Return the gate's limit and severity in this study."""
        item = judge(gate, None, thresholds=self.study.thresholds, severities=self.study.severities)
        open_end = math.inf if MEASURES[gate].direction == "below" else -math.inf
        return (open_end if item.threshold is None else item.threshold), SEVERITY[item.severity]

    def expect(self, gate: str, kind: str, **arguments: Any) -> None:
        self.expected.append(Expected(gate, "limit", kind, self.limit(gate)[1], arguments))

    def above(self, gate: str, kind: str, **arguments: Any) -> None:
        """Expect a count greater than the gate's limit."""
        bound = max(-LARGEST, min(LARGEST, self.limit(gate)[0]))
        self.expect(gate, kind, min_value=math.floor(bound) + 1, **arguments)

    def rows(self, gate: str, kind: str, **arguments: Any) -> None:
        """Expect fewer bad rows than the gate's limit; half a row guards the share against rounding."""
        bad, rows = min(self.limit(gate)[0], len(self.study) + 1.0), max(len(self.study), 1)
        self.expect(gate, kind, mostly=min(1.0, max(0.0, 1 - (math.ceil(bad) - 0.5) / rows)), **arguments)

    def outcome(self) -> None:
        name = self.study.name(Role.OUTCOME)
        self.columns[name] = self.study.frame[name]
        self.rows("missing_outcome", "ExpectColumnValuesToNotBeNull", column=name)
        self.above("outcome_levels", "ExpectColumnUniqueValueCountToBeBetween", column=name)

    def treatment(self) -> None:
        name = self.study.name(Role.TREATMENT)
        self.columns[name] = self.study.frame[name]
        if self.study.arms:  # a missing code would be passed over by the expectation, so it becomes an unknown one
            self.columns[name] = pd.to_numeric(self.study.frame[name], errors="coerce").fillna(-1.0)
            codes = [float(code) for code in range(len(self.study.arms))]
            self.rows("unknown_treatment", "ExpectColumnValuesToBeInSet", column=name, value_set=codes)
        else:
            self.rows("unknown_treatment", "ExpectColumnValuesToNotBeNull", column=name)
        self.above("arms", "ExpectColumnUniqueValueCountToBeBetween", column=name)

    def unit_periods(self) -> None:
        keys = [self.study.name(Role.UNIT), self.study.name(Role.TIME)]
        self.columns.update({key: self.study.frame[key] for key in keys})
        self.rows("duplicated_unit_periods", "ExpectCompoundColumnsToBeUnique", column_list=keys)

    def weights(self) -> None:
        name = self.study.name(Role.WEIGHT)
        self.columns[name] = pd.to_numeric(self.study.frame[name], errors="coerce").fillna(-1.0)
        limits = {"min_value": 0.0, "max_value": LARGEST}
        self.rows("invalid_weights", "ExpectColumnValuesToBeBetween", column=name, **limits)

    def cells(self, complete: list[str]) -> None:
        gaps, bound = _free_name("missing cells", self.study.frame.columns), self.limit("missing_cells")[0]
        self.columns[gaps] = self.study.frame[complete].isna().sum(axis=1)
        limits = {"max_value": max(-LARGEST, min(LARGEST, bound)), "strict_max": True}
        self.expect("missing_cells", "ExpectColumnSumToBeBetween", column=gaps, **limits)


def _table_suite(study: Study) -> _Suite:
    suite = _Suite(study)
    suite.above("rows", "ExpectTableRowCountToBeBetween")
    if len(study.names(Role.OUTCOME)) == 1:
        suite.outcome()
    if len(study.names(Role.TREATMENT)) == 1:
        suite.treatment()
    if study.has(Role.UNIT) and study.has(Role.TIME):
        suite.unit_periods()
    if study.has(Role.WEIGHT):
        suite.weights()
    complete = [name for role in _COMPLETE for name in study.names(role)]
    if complete:
        suite.cells(complete)
    return suite


def _free_name(wanted: str, taken: Iterable[str]) -> str:
    held = set(taken)
    while wanted in held:
        wanted += "_"
    return wanted


def _columns_with_gaps(study: Study) -> str:
    complete = [name for role in _COMPLETE for name in study.names(role)]
    gaps = [study.label(name) for name in complete if study.frame[name].isna().any()]
    return ", ".join(f"'{name}'" for name in gaps[:5]) + (f" and {len(gaps) - 5} more" if len(gaps) > 5 else "")
