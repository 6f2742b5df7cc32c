"""What can be known about a study before any model: the measures that decide whether it is analysed at all."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from cqox_assets.diagnostics.collinearity import inflation_table, no_inflation
from cqox_assets.diagnostics.structure import (
    arm_table,
    missing_table,
    no_balance,
    raw_balance,
    repeated_share,
    shared_keys,
)
from cqox_assets.errors import MappingError
from cqox_assets.measures import MEASURES, Diagnostic, Status, judge, limits_for, unknown_limits
from cqox_assets.result import diagnostic_from_json, diagnostic_json
from cqox_assets.study import Role, Study

DATA_MEASURES = (
    "rows",
    "arms",
    "rows_per_arm",
    "outcome_levels",
    "treatment_confidence",
    "outcome_confidence",
    "duplicated_unit_periods",
    "missing_share",
    "duplicate_rows",
    "raw_smd",
    "vif",
)
TABLE_CHECK, DECLARED_CHECK = "table_expectations", "declared_blocks"
DATA_CHECKS: tuple[str, ...] = (*DATA_MEASURES, TABLE_CHECK, DECLARED_CHECK)
BLOCKING: frozenset[str] = frozenset(name for name in DATA_CHECKS if MEASURES[name].severity == "block")
_NAMED = 5


@dataclass(frozen=True)
class DataDiagnostics:
    """The data measures of one study, judged by its limits.

    Parameters
    ----------
    fingerprint : str
        Of the study.
    diagnostics : tuple of Diagnostic
        One per name in `DATA_MEASURES`, in that order; `not_run` where it could not be computed.
    tables : mapping of str to DataFrame
        `arms` (treatment, arm, rows, share), `missingness` (column, share), `smd` (arm, covariate, smd) and
        `vif` (covariate, vif).
    notices : tuple of str
        What the reader must know, such as a stated limit that no measure has.
    """

    fingerprint: str
    diagnostics: tuple[Diagnostic, ...]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def diagnostic(self, name: str) -> Diagnostic | None:
        """Return the diagnostic of that name, or None."""
        return next((item for item in self.diagnostics if item.name == name), None)

    @property
    def blocking(self) -> tuple[Diagnostic, ...]:
        """Failed measures that stop the run."""
        return tuple(item for item in self.diagnostics if item.status is Status.FAIL and item.severity == "block")

    def to_json(self) -> dict[str, Any]:
        """Return everything but the tables, as plain values."""
        return {
            "fingerprint": self.fingerprint,
            "diagnostics": [diagnostic_json(item) for item in self.diagnostics],
            "notices": list(self.notices),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any], tables: Mapping[str, pd.DataFrame] | None = None) -> "DataDiagnostics":
        """Rebuild from `to_json` and the tables."""
        return cls(
            fingerprint=row["fingerprint"],
            diagnostics=tuple(diagnostic_from_json(item) for item in row["diagnostics"]),
            tables=dict(tables or {}),
            notices=tuple(row["notices"]),
        )


Judge = Callable[..., Diagnostic]


def diagnose(study: Study) -> DataDiagnostics:
    """Measure and judge a study before any model is fitted.

    A prepared study never raises here: what cannot be computed is `not_run`, with the reason in `detail`.
    """
    fingerprint, study = study.fingerprint, study.studied()
    limits = limits_for(study.declaration.design, study.thresholds)
    verdict = partial(judge, thresholds=limits, severities=study.severities)
    tables = {"arms": arm_table(study), "missingness": missing_table(study)}
    found = [verdict("rows", float(len(study)), detail=_dropped(study))]
    found += _assignment(study, tables["arms"], verdict)
    found += _confidence(study, verdict)
    found += [_unit_periods(study, verdict), _missing(tables["missingness"], verdict)]
    share = repeated_share(study.frame)
    found.append(verdict("duplicate_rows", share, detail=f"{share:.1%} of the rows repeat an earlier row"))
    for measure, table, (column, make) in (
        ("raw_smd", "smd", ("smd", _imbalance)),
        ("vif", "vif", ("vif", _inflation)),
    ):
        tables[table], sentence, applies = make(study)
        worst = None if tables[table].empty else float(tables[table][column].max())
        found.append(replace(verdict(measure, worst, detail=sentence), applies=applies))
    order = {name: rank for rank, name in enumerate(DATA_MEASURES)}
    return DataDiagnostics(
        fingerprint,
        tuple(sorted(found, key=lambda item: order[item.name])),
        tables,
        tuple(unknown_limits(study.thresholds, study.severities)),
    )


def _dropped(study: Study) -> str:
    if not study.dropped:
        return f"{len(study)} rows can be analysed"
    reasons = ", ".join(f"{rows} because of {reason}" for reason, rows in study.dropped.items())
    return f"{len(study)} rows can be analysed; left out were {reasons}"


def _assignment(study: Study, arms: pd.DataFrame, verdict: Judge) -> list[Diagnostic]:
    """Judge arms and outcome levels; repeated treatments count by the column where they are worst."""
    names = study.names(Role.TREATMENT)
    if not names:
        reason = "no column plays the role treatment"
        result = [_not_applicable(verdict, name, reason) for name in ("arms", "rows_per_arm")]
    elif arms.empty:
        result = _continuous(study, names, verdict)
    else:
        filled = arms[arms["rows"] > 0].groupby("treatment")["arm"].nunique()
        smallest = arms.sort_values("rows", kind="stable").iloc[0]
        listed = ", ".join(f"'{arm}' {rows}" for arm, rows in zip(arms["arm"], arms["rows"], strict=True))
        count = int(filled.reindex(arms["treatment"].unique(), fill_value=0).min())
        result = [
            verdict("arms", float(count), detail=f"rows per arm: {listed}"),
            verdict("rows_per_arm", float(smallest["rows"]), detail=f"arm '{smallest['arm']}' is the smallest"),
        ]
    outcomes = study.names(Role.OUTCOME)
    if not outcomes:
        return [*result, verdict("outcome_levels", None, detail="no column plays the role outcome")]
    levels = int(study.frame[outcomes[0]].nunique())
    words = f"'{study.label(outcomes[0])}' has {levels} distinct values"
    return [*result, verdict("outcome_levels", float(levels), detail=words)]


def _continuous(study: Study, names: tuple[str, ...], verdict: Judge) -> list[Diagnostic]:
    """Judge a treatment without arms: its values, and the rows away from the commonest one as its smaller group."""
    levels = min(int(study.frame[name].nunique()) for name in names)
    away = min(len(study) - int(study.frame[name].value_counts().max() or 0) for name in names if len(study))
    return [
        verdict("arms", float(levels), detail=f"the treatment is continuous with {levels} distinct values"),
        verdict(
            "rows_per_arm",
            float(away),
            detail=f"the treatment is continuous; {away} rows differ from its commonest value",
        ),
    ]


def _not_applicable(verdict: Judge, name: str, reason: str) -> Diagnostic:
    """Return a measure about something that the study does not have: not run, and no bad news."""
    return replace(verdict(name, None, detail=reason), applies=False)


def _confidence(study: Study, verdict: Judge) -> list[Diagnostic]:
    """Judge how sure the mapping is; a cohort, a declared cutoff or a declared start also says who is treated."""
    treated_by = {
        Role.TREATMENT: True,
        Role.COHORT: True,
        Role.DOSE: True,
        Role.RUNNING_VARIABLE: study.declaration.cutoff is not None,
        Role.TIME: study.declaration.intervention_time is not None,
    }
    role = next((role for role, tells in treated_by.items() if tells and study.has(role)), Role.TREATMENT)
    result = []
    for measure, source in (("treatment_confidence", role), ("outcome_confidence", Role.OUTCOME)):
        if study.has(source):
            value = float(study.confidence.get(source, 1.0))
            column = ", ".join(study.label(name) for name in study.names(source))
            words = f"'{column}' plays the role {source} with confidence {value:.2f}"
        else:
            value, words = 0.0, f"no column plays the role {source}"
        result.append(verdict(measure, value, detail=words))
    return result


def _unit_periods(study: Study, verdict: Judge) -> Diagnostic:
    name = "duplicated_unit_periods"
    if not study.has(Role.UNIT):
        reason = "no column plays the role unit, so each row counts as a unit of its own"
        return _not_applicable(verdict, name, reason)
    unit = study.name(Role.UNIT)
    if study.has(Role.TIME):
        time = study.name(Role.TIME)
        count = shared_keys(study.frame, [unit, time])
        example = _first_repeated(study.frame, [unit, time]) if count else ""
        return verdict(name, float(count), detail=f"{count} rows share unit and period with another row{example}")
    count = shared_keys(study.frame, [unit])
    if count == 0:
        return verdict(name, 0.0, detail=f"every value of '{study.label(unit)}' appears once")
    words = f"{count} rows share their unit with another row and no column plays the role time"
    if study.has(Role.CLUSTER):
        return _not_applicable(verdict, name, f"{words}; the cluster column accounts for the repeats")
    # Without periods a repeat may be right (visits, purchases), so it warns even where true duplicates block.
    item = verdict(name, float(count), severities={name: "warn"})
    advice = f"map the period as time, or map '{study.label(unit)}' as cluster, in study.yaml"
    return replace(item, detail=f"{words}, so standard errors that take rows as independent are too small; {advice}")


def _first_repeated(frame: pd.DataFrame, columns: list[str]) -> str:
    row = frame.loc[frame.duplicated(subset=columns, keep=False).to_numpy(), columns].iloc[0]
    return " such as " + ", ".join(f"{column}={row[column]}" for column in columns)


def _missing(table: pd.DataFrame, verdict: Judge) -> Diagnostic:
    if table.empty:
        return verdict("missing_share", None, detail="preparation did not record which cells were missing")
    share = float(table["share"].mean())
    worst = table.sort_values("share", ascending=False, kind="stable").iloc[0]
    where = f", most in '{worst['column']}' ({worst['share']:.1%})" if share > 0 else ""
    return verdict("missing_share", share, detail=f"{share:.1%} of the cells were missing{where}")


def _imbalance(study: Study) -> tuple[pd.DataFrame, str, bool]:
    """Return the balance table, the sentence about it and whether there is anything to compare."""
    if len(study.names(Role.TREATMENT)) != 1 or not study.arms:
        return no_balance(), "there is no single treatment column with arms to compare", False
    if not study.has(Role.COVARIATES):
        return no_balance(), "there are no covariates to compare", False
    try:
        table = raw_balance(study)
    except MappingError as error:
        return no_balance(), error.message, True
    if table.empty:
        return table, "no two arms have enough complete rows to compare", True
    worst = table.sort_values("smd", ascending=False, kind="stable").iloc[0]
    size = f"{worst['smd']:.3f}" if math.isfinite(worst["smd"]) else "infinite"
    words = f"the largest is '{worst['covariate']}' in arm '{worst['arm']}', {size}"
    trial = "; in a declared trial imbalance informs and is not judged"
    return table, words + (trial if study.declaration.design == "trial" else ""), True


def _inflation(study: Study) -> tuple[pd.DataFrame, str, bool]:
    """Return the inflation table, the sentence about it and whether there is anything to inflate."""
    if not study.has(Role.COVARIATES):
        return no_inflation(), "there are no covariates", False
    try:
        table = inflation_table(study)
    except MappingError as error:
        return no_inflation(), error.message, True
    if table["vif"].isna().any():
        return table, "covariates have missing values", True
    worst = table.sort_values("vif", ascending=False, kind="stable")
    exact = worst.loc[worst["vif"] == math.inf, "covariate"]
    if len(exact):
        more = f" and {len(exact) - _NAMED} more" if len(exact) > _NAMED else ""
        named = ", ".join(f"'{name}'" for name in exact.head(_NAMED))
        return table, f"{named}{more}: constant or an exact combination of other covariates", True
    return table, f"the largest is '{worst['covariate'].iloc[0]}', {worst['vif'].iloc[0]:.1f}", True
