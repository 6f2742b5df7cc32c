"""Validates the data stage and turns the answers into its fixed list of checks."""

from dataclasses import dataclass

from cqox_assets.gates.data import BLOCKING, DATA_CHECKS, DECLARED_CHECK, TABLE_CHECK, DataDiagnostics
from cqox_assets.gates.report import Gate, GateReport, number
from cqox_assets.gates.suite import validate_diagnostics, validate_table
from cqox_assets.measures import Diagnostic, Status, judge
from cqox_assets.study import Study

__all__ = ["BLOCKING", "DATA_CHECKS", "Check", "DataGates", "data_gates"]


@dataclass(frozen=True)
class Check:
    """One declared check of the data stage, ready for the orchestrator.

    `stops` is true where the run must stop: the check is declared as blocking, it failed and it still blocks.
    """

    name: str
    status: Status
    stops: bool
    description: str
    value: float | None = None
    threshold: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it passed; `not_run` did not."""
        return self.status is Status.PASS


@dataclass(frozen=True)
class DataGates:
    """Both reports of the data stage, and one check per name in `DATA_CHECKS`, in that order."""

    table: GateReport
    data: GateReport
    checks: tuple[Check, ...]

    def markdown(self) -> str:
        """Return one page; the gates of the table are shown where one of them did not pass."""
        parts = [self.data.markdown()]
        if _missed(self.table):
            parts += ["#### The prepared table", self.table.markdown()]
        return "\n\n".join(parts)


def data_gates(study: Study, data: DataDiagnostics) -> DataGates:
    """Validate the table and the diagnostics of a study with Great Expectations.

    The status of a check is the one that Great Expectations gives. Severities may be declared, but which checks can
    stop a run is fixed: a measure that the declaration raises to `block` stops it through `declared_blocks`, and one
    that it lowers to `warn` does not stop it.
    """
    table, report = validate_table(study), validate_diagnostics(data.diagnostics, study, notices=data.notices)
    judged = zip(data.diagnostics, report.gates, strict=True)
    checks = [_check(item, gate.status) for item, gate in judged]
    own = (_table_check(table), _declared_check(report))
    return DataGates(table, report, (*checks, *(_check(item, item.status) for item in own)))


def _check(item: Diagnostic, status: Status) -> Check:
    stops = item.name in BLOCKING and status is Status.FAIL and item.severity == "block"
    return Check(item.name, status, stops, item.detail, item.value, item.threshold)


def _missed(report: GateReport) -> tuple[Gate, ...]:
    return report.having(Status.FAIL, Status.WARN, Status.NOT_RUN)


def _listed(gates: tuple[Gate, ...]) -> str:
    return "; ".join(f"{gate.title} {number(gate.value)}, wanted {gate.wanted} ({gate.detail})" for gate in gates)


def _table_check(table: GateReport) -> Diagnostic:
    missed = _missed(table)
    severity = "block" if table.blocking or not missed else "warn"
    words = _listed(missed) or table.headline()
    return judge(TABLE_CHECK, float(len(missed)), severities={TABLE_CHECK: severity}, detail=words)


def _declared_check(report: GateReport) -> Diagnostic:
    raised = tuple(gate for gate in report.blocking if gate.name not in BLOCKING)
    return judge(DECLARED_CHECK, float(len(raised)), detail=_listed(raised) or "no gate declared as blocking failed")
