"""The star: which tables there are, what each column means, and what identifies a row.

DuckDB and Postgres are both filled from here, so they cannot tell different stories. Every fact carries its partition
(`domain`, `period`) and joins `studies` by it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dagster_deploy.warehouse import rows

VERSION = 1


@dataclass(frozen=True)
class Column:
    """A column: its name, its Postgres type, and what it means. `key` columns identify a row."""

    name: str
    type: str
    comment: str
    key: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the star; `rows_of` gives its rows for one decision card, None where another asset is the source."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    rows_of: Callable[[Mapping[str, Any]], Iterable[rows.Row]] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def key(self) -> list[str]:
        """Names of the columns that identify a row."""
        return [column.name for column in self.columns if column.key]

    def values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return a row's values in the order of the columns."""
        return tuple(row.get(name) for name in self.names)


def _keys(text: str) -> tuple[Column, ...]:
    """Return text columns that identify a row, from lines `name: meaning`."""
    pairs = (line.strip().split(": ", 1) for line in text.strip().splitlines())
    return tuple(Column(name, "text", comment, key=True) for name, comment in pairs)


def _columns(text: str) -> tuple[Column, ...]:
    """Return columns from lines `name type: meaning`."""
    found = []
    for line in text.strip().splitlines():
        head, comment = line.strip().split(": ", 1)
        name, kind = head.split(" ", 1)
        found.append(Column(name, kind, comment))
    return tuple(found)


PARTITION = _keys("""
    domain: Business domain
    period: Calendar month, YYYY-MM
""")
INTERVAL = _columns("""
    low double precision: Lower end of the interval; NULL where it is infinite or there is none
    high double precision: Upper end of the interval; NULL where it is infinite or there is none
    level double precision: Confidence level of the interval; NULL where there is none
    unbounded text: Which ends are infinite: low, high or both; NULL where none is
""")
QUESTION = _keys("""
    estimand: ATE, ATT, LATE, ...
    contrast: Compared arm - reference arm
    scale: difference, log_rate_ratio, ...
    place: Where: time, group, dose, lead, arm or segment, as JSON with sorted keys; empty for the headline
""")


GATE = _columns("""
    measure text: What was measured
    title text: The measure in words
    stage text: data, nuisance, estimates or sensitivity
    estimator text: Estimator that it belongs to; NULL for a gate on the data
    value double precision: What was found; NULL where it was not measured
    threshold double precision: The limit; NULL where none is set
    fail_threshold double precision: The limit beyond which it fails whatever the severity
    limit_words text: The limit in words
    severity text: block stops a run, warn weighs in the verdict
    status text: pass, warn, fail or not_run
    informs boolean: It has nothing to speak about in this study, so it does not weigh
    detail text: What was found, in words
    meaning text: What a missed limit means
    remedy text: What to do about it
""")
ANSWER = _columns("""
    question text: Sensitivity question
    kind text: sensitivity, refusal or failure
    estimator text: Estimator whose answer was questioned; NULL where none is named
    estimand text: Its estimand
    value double precision: What was found; NULL for a refusal or failure
    unit text: Unit of the value
    status text: pass, warn, fail or not_run
    meaning text: What came out
    implies text: What that means for the conclusion
    advice text: What to do
    code text: Code of a refusal
    reason text: Reason of a refusal
    remedy text: Remedy of a refusal
    exception text: What a failure raised
""")
STUDY = _columns("""
    period_start date: First day of the period
    question text: The question that is decided
    design text: trial, observational, panel, ...
    outcome text: Outcome column
    treatment text: Treatment column; several are joined by +
    row_count bigint: Rows of the study
    rows_per_arm jsonb: Rows by arm
    roles jsonb: Columns by role
    unit_of_outcome text: Unit of the outcome
    currency text: Currency of money columns
    preferred_estimand text: Estimand that the decision rests on
    quality_score double precision: 0 to 100; NULL without evidence
    quality_zone text: Zone of the quality score
    fingerprint text: Hash of rows, roles and declaration
    run_id text: Dagster run that wrote the card
    created_at timestamptz: When the card was written
    code_version text: Version of CQOx
    revision text: Commit of the code; NULL where it ran from a wheel
    document text: Hash of the stored card: a partition is published again only when it changes
""")
ESTIMATE = _columns("""
    estimate double precision: Effect, in units of the outcome on its scale
    std_error double precision: Standard error; NULL where the method has none
""")
ESTIMATE_REST = _columns("""
    region jsonb: Pairs of a confidence set that is not one interval
    p_value double precision: Two-sided, against null_value; NULL where the method has none
    null_value double precision: Value of no effect
    headline boolean: The estimator's first effect
    position bigint: Place among the estimator's effects, from 1
    inference text: How uncertainty was found, in words
    interval_source text: Procedure behind the interval
    p_source text: Procedure behind the p-value
    rows_used bigint: Rows that the estimate rests on
    version text: Version of the estimator
    seconds double precision: Seconds that the estimator took
""")
CONSENSUS = _columns("""
    consensus double precision: Consensus of the estimators; NULL where none gives an uncertainty
    std_error double precision: Its standard error
""")
CONSENSUS_REST = _columns("""
    spread double precision: Standard deviation between the estimators
    null_value double precision: Value of no effect
    preferred boolean: The decision rests on it
    agreement text: single, close, moderate or strong_disagreement
    estimators jsonb: Estimators that count
    sentence text: What they say together
""")
RAIL = _columns("""
    direction text: Which direction is better
    margin double precision: How much worse it may get
    estimate double precision: Effect on the guardrail; NULL where it was not measured
    low double precision: Lower end of its interval
    high double precision: Upper end of its interval
    estimator text: Estimator that measured it
    reason text: Why it was not measured
""")
HISTORY_KEY = (
    PARTITION[0],
    Column("period_start", "date", "First day of the period", key=True),
    *_keys("""
    series: Estimand of treatment on outcome: what may be compared over periods
    kind: estimate, or consensus of the card
    estimator: Estimator, or consensus
    contrast: Compared arm - reference arm
    scale: difference, log_rate_ratio, ...
    place: Where: time, group, dose, ... as JSON; empty for the headline
"""),
)
HISTORY = _columns("""
    period text: Calendar month, YYYY-MM
    outcome text: Outcome column
    treatment text: Treatment column
    estimand text: ATE, ATT, LATE, ...
    estimate double precision: Effect
    std_error double precision: Standard error; NULL where there is none
""")
HISTORY_REST = _columns("""
    p_value double precision: Two-sided, against null_value
    null_value double precision: Value of no effect
    row_count bigint: Rows of the study
    verdict text: Verdict of the period
    fingerprint text: Hash of the study
    previous_verdict text: Verdict of the domain's period before
    verdict_change text: Whether and why the verdict changed
    previous_period text: Latest earlier period that answers the same question
    change double precision: Estimate less that of previous_period
    change_std_error double precision: Its standard error; NULL where nothing new was measured
    change_p_value double precision: Two-sided, against no change
""")
ASSET_KEY = _keys("""
    stage: Stage of the graph
    asset: Name of the asset
""")
ASSET = _columns("""
    kind text: Kind of value
    is_current boolean: It belongs to the partition's current study; NULL for what comes before there is one
    fingerprint text: Hash of the study that it belongs to
    run_id text: Dagster run that wrote it
    document text: Hash of the stored document
    frames bigint: Number of Parquet tables
""")

TABLES: tuple[Table, ...] = (
    Table("studies", "One row per analysed partition: the dimension that every other table joins by domain and period.",
          (*PARTITION, *STUDY), rows.study),
    Table("estimates", "Every effect of every estimator that answered.",
          (*PARTITION, *_keys("estimator: Estimator"), *QUESTION, *ESTIMATE, *INTERVAL, *ESTIMATE_REST),
          rows.estimates),
    Table("consensus", "What the estimators of one question say together.",
          (*PARTITION, *QUESTION, *CONSENSUS, *INTERVAL, *CONSENSUS_REST), rows.consensus),
    Table("gates", "Every gate and diagnostic of data, nuisance models, estimates and sensitivity, as judged.",
          (*PARTITION, *_keys("gate: Name of the gate"), *GATE), rows.gates),
    Table("refusals", "Estimators that the data do not allow, and what would allow them.",
          (*PARTITION, *_keys("estimator: Estimator"), *_columns("""
            code text: Stable code
            reason text: Why, in a sentence
            remedy text: What to do, in a sentence""")), rows.copied("refusals")),
    Table("failures", "Estimators that broke: bugs.",
          (*PARTITION, *_keys("estimator: Estimator"), *_columns("""
            exception text: What was raised
            run_id text: Dagster run""")), rows.copied("failures")),
    Table("sensitivity", "How wrong an assumption may be before the conclusion changes: every answer.",
          (*PARTITION, *_keys("answer: Question and estimator"), *ANSWER), rows.sensitivity),
    Table("guardrails", "Effects on outcomes that must not get worse than their margin.",
          (*PARTITION, *_keys("""
            name: Guardrail
            contrast: Compared arm - reference arm; empty when the effect speaks for every arm"""), *RAIL),
          rows.copied("guardrails")),
    Table("verdicts", "GO, CANARY or HOLD: of the partition (contrast empty) and of each contrast.",
          (*PARTITION, *_keys("contrast: Empty for the whole partition"), *_columns("""
            verdict text: GO, CANARY or HOLD
            rule_verdict text: What the rule says; differs only where a person has overridden it
            overridden_by text: Who decided otherwise
            override_reason text: Why
            confidence text: high, moderate, low or very low
            recommendation text: What to do, in a sentence""")), rows.verdicts),
    Table("reasons", "Every finding behind a verdict, those that decided first.",
          (*PARTITION, Column("position", "bigint", "Place in the list, from 1", key=True), *_columns("""
            kind text: Kind of evidence
            allows text: Verdict that it allows at best
            sentence text: The finding
            flips_if text: What would change it""")), rows.reasons),
    Table("assets", "Every stored result of a partition, as of its card.", (*PARTITION, *ASSET_KEY, *ASSET)),
    Table("effect_history", "Effects of a domain over its periods; only equal questions are compared.",
          (*HISTORY_KEY, *HISTORY, *INTERVAL, *HISTORY_REST)),
)  # fmt: skip
BY_NAME: Mapping[str, Table] = {table.name: table for table in TABLES}
