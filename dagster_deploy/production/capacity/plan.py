"""The arithmetic: what a demand needs, from what single runs took.

Every price and every limit that was not measured is a named parameter with a default to be replaced, never a fact.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

_DAY, _MONTH_DAYS = 86_400, 30
_GB = 1e9
# Requests that an object store bills as writing or listing; the others are reading.
_WRITING = (
    "PutObject",
    "ListObjectsV2",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "CopyObject",
)


@dataclass(frozen=True)
class Demand:
    """How much is asked: partitions a day, rows of each; `peak` is the busiest hour over the average one.

    `domains` is how many domains there are: as many as partitions a day where every domain delivers once a day.
    """

    partitions_per_day: float
    rows: float
    peak: float = 3.0
    domains: float | None = None

    @property
    def domain_count(self) -> float:
        """Number of domains."""
        return max(1.0, self.partitions_per_day) if self.domains is None else self.domains


@dataclass(frozen=True)
class Assumptions:
    """Prices and limits to be replaced by your own; none was measured here.

    Parameters
    ----------
    vcpu_hour, memory_gb_hour : float
        Price of a vCPU and of a GB of memory for an hour.
    database_gb_month, object_gb_month : float
        Price of a GB of database disk, and of object storage, for a month.
    reads_per_1000, writes_per_1000 : float
        Price of a thousand requests that read, and that write or list.
    pod_vcpus, pod_memory_gb : float
        What a run's pod asks for.
    start_seconds : float
        From the launch of a pod until its process starts.
    retention_days : float
        How long runs and their events are kept. The nightly retention removes log lines, not the history: until old
        runs are deleted as well, the database grows on.
    concurrent_runs : float
        Limit of the queued run coordinator, max_concurrent_runs of dagster.yaml.
    sensor_runs_per_tick, tick_seconds : float
        Runs that `roll_up_after_success` follows per tick (DAGSTER_RUN_STATUS_SENSOR_PROCESS_LIMIT), and its interval.
    sensor_timeout_seconds : float
        A tick of a sensor that takes longer is stopped (DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS).
    database_transactions : float
        Transactions a second that the database is sized for.
    database_gb : float
        Disk that the database is sized for.
    """

    vcpu_hour: float = 0.04
    memory_gb_hour: float = 0.005
    database_gb_month: float = 0.12
    object_gb_month: float = 0.023
    reads_per_1000: float = 0.0004
    writes_per_1000: float = 0.005
    pod_vcpus: float = 2.0
    pod_memory_gb: float = 4.0
    start_seconds: float = 15.0
    retention_days: float = 30.0
    concurrent_runs: float = 25.0
    sensor_runs_per_tick: float = 5.0
    tick_seconds: float = 10.0
    sensor_timeout_seconds: float = 60.0
    database_transactions: float = 1_000.0
    database_gb: float = 100.0


@dataclass(frozen=True)
class Run:
    """What one run took, the mean of those that were measured."""

    cpu_s: float
    peak_mb: float
    event_rows: float
    database_rows: float
    database_bytes: float
    transactions: float
    statements: float
    reads: float
    writes: float
    bytes_sent: float
    bytes_received: float
    log_bytes: float

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> "Run":
        """Read one run of the file of figures."""
        requests, tables = measured["objects"]["requests"], measured["database"]["tables"]
        writing = sum(count for name, count in requests.items() if name in _WRITING)
        return cls(
            cpu_s=measured["cpu_s"], peak_mb=measured["peak_mb"],
            event_rows=tables.get("event_logs", {}).get("inserted", 0),
            database_rows=sum(row["inserted"] for row in tables.values()),
            database_bytes=sum(row["bytes"] for row in tables.values()),
            transactions=measured["database"]["transactions"], statements=measured["database"]["statements"],
            reads=sum(requests.values()) - writing, writes=writing,
            bytes_sent=measured["objects"]["bytes_sent"], bytes_received=measured["objects"]["bytes_received"],
            log_bytes=measured["log_bytes"],
        )  # fmt: skip

    @classmethod
    def mean(cls, runs: Iterable["Run"]) -> "Run":
        """Return the mean of runs, field by field."""
        held = [vars(run) for run in runs]
        return cls(**{name: fmean(run[name] for run in held) for name in held[0]})


@dataclass(frozen=True)
class Measured:
    """What was measured: analyses by rows, a roll-up and what it takes more per domain, an idle daemon, inbox ticks."""

    analyses: Mapping[float, Run]
    roll_up: Run
    per_domain_s: float = 0.0
    per_domain_reads: float = 0.0
    idle_transactions: float = 0.0
    tick_s_per_partition: float = 0.0
    cursor_bytes_per_partition: float = 0.0

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> "Measured":
        """Read the file of figures."""
        found = [(row["job"], float(row["rows"]), Run.of(row)) for row in figures["runs"]]
        sizes = sorted({rows for _, rows, _ in found})
        analyses = {
            size: Run.mean(run for job, rows, run in found if job == "analyse_partition" and rows == size)
            for size in sizes
        }
        few, many = figures["domains"][0], figures["domains"][-1]
        more = many["domains"] - few["domains"]
        inbox = figures["inbox"][-1]
        return cls(
            analyses=analyses,
            roll_up=Run.mean(run for job, _, run in found if job == "roll_up"),
            per_domain_s=(many["roll_up_cpu_s"] - few["roll_up_cpu_s"]) / more,
            per_domain_reads=(many["roll_up_requests"] - few["roll_up_requests"]) / more,
            idle_transactions=figures["idle"]["transactions"] / figures["idle"]["seconds"],
            tick_s_per_partition=inbox["steady_s"] / inbox["partitions"],
            cursor_bytes_per_partition=inbox["cursor_bytes"] / inbox["partitions"],
        )

    def analysis(self, rows: float) -> Run:
        """Return what an analysis of so many rows takes.

        Between two measured sizes the logarithm of each figure is interpolated over the logarithm of the rows; beyond
        the largest the last slope goes on; below the smallest the smallest counts.
        """
        sizes = sorted(self.analyses)
        if rows <= sizes[0] or len(sizes) == 1:
            return self.analyses[sizes[0]]
        upper = next((k for k, size in enumerate(sizes) if rows <= size), len(sizes) - 1)
        low, high = sizes[upper - 1], sizes[upper]
        share = math.log(rows / low) / math.log(high / low)
        ends = vars(self.analyses[low]), vars(self.analyses[high])
        return Run(**{name: _between(ends[0][name], ends[1][name], share) for name in ends[0]})


def _between(low: float, high: float, share: float) -> float:
    if low <= 0 or high <= 0:
        return low + (high - low) * share
    return math.exp(math.log(low) + (math.log(high) - math.log(low)) * share)


@dataclass(frozen=True)
class Limit:
    """Something that ends: what is used of it at a demand, what there is, and what to do."""

    name: str
    used: float
    available: float
    unit: str
    remedy: str

    @property
    def share(self) -> float:
        """Used over available: above 1 it has broken."""
        return self.used / self.available


@dataclass(frozen=True)
class Plan:
    """What a demand needs."""

    demand: Demand
    rows_per_month: float
    seconds_per_partition: float
    partitions_per_pod_hour: float
    pods: float
    pods_at_peak: float
    peak_gb: float
    database_rows_per_day: float
    database_gb_kept: float
    transactions_per_second: float
    requests_per_day: float
    object_gb_per_month: float
    cost: Mapping[str, float]
    limits: tuple[Limit, ...] = field(default=())

    @property
    def cost_per_analysis(self) -> float:
        """Sum of the costs of one analysis."""
        return sum(self.cost.values())


def plan(measured: Measured, demand: Demand, assumed: Assumptions | None = None) -> Plan:
    """Return what a demand needs.

    Notes
    -----
    seconds of a partition = CPU of its analysis + CPU of its roll-up (which grows with the domains) + two pod starts;
    pods = partitions a day x seconds of a partition / 86,400, at the peak times the peak;
    transactions a second = those of analysis and roll-up x partitions a day / 86,400 x peak + those of an idle daemon;
    cost = pod size x seconds x price + requests x price + what is kept x price of a GB-month.
    """
    given = assumed or Assumptions()
    run, roll, per_day = measured.analysis(demand.rows), measured.roll_up, demand.partitions_per_day
    roll_s = roll.cpu_s + measured.per_domain_s * demand.domain_count
    seconds = run.cpu_s + roll_s + 2 * given.start_seconds
    reads = run.reads + roll.reads + measured.per_domain_reads * demand.domain_count
    writes, kept_bytes = run.writes + roll.writes, run.database_bytes + roll.database_bytes
    pods = per_day * seconds / _DAY
    transactions = (run.transactions + roll.transactions) * per_day / _DAY
    hours, object_bytes = seconds / 3600, run.bytes_sent + roll.bytes_sent
    cost = {
        "pods": hours * (given.pod_vcpus * given.vcpu_hour + given.pod_memory_gb * given.memory_gb_hour),
        "requests": reads / 1000 * given.reads_per_1000 + writes / 1000 * given.writes_per_1000,
        "database": kept_bytes / _GB * given.retention_days / _MONTH_DAYS * given.database_gb_month,
        "objects for a month": object_bytes / _GB * given.object_gb_month,
    }
    found = Plan(
        demand=demand,
        rows_per_month=per_day * _MONTH_DAYS * demand.rows,
        seconds_per_partition=seconds,
        partitions_per_pod_hour=3600 / seconds,
        pods=pods,
        pods_at_peak=pods * demand.peak,
        peak_gb=run.peak_mb * 1024**2 / _GB,
        database_rows_per_day=per_day * (run.database_rows + roll.database_rows),
        database_gb_kept=per_day * given.retention_days * kept_bytes / _GB,
        transactions_per_second=transactions * demand.peak + measured.idle_transactions,
        requests_per_day=per_day * (reads + writes),
        object_gb_per_month=per_day * _MONTH_DAYS * object_bytes / _GB,
        cost=cost,
    )
    return Plan(**{**vars(found), "limits": limits_of(found, measured, given, roll_s)})


def limits_of(found: Plan, measured: Measured, given: Assumptions, roll_s: float) -> tuple[Limit, ...]:
    """Return what could break, the nearest to breaking first."""
    demand, peak = found.demand, found.demand.partitions_per_day * found.demand.peak
    per_tick = given.sensor_runs_per_tick * _DAY / given.tick_seconds
    limits = (
        Limit("runs at once", found.pods_at_peak, given.concurrent_runs, "pods",
              "raise max_concurrent_runs, and the nodes with it"),
        Limit("memory of a run's pod", found.peak_gb, given.pod_memory_gb * 1.073741824, "GB",
              "a larger resource class for the domain, or analyse_with_kubernetes: one pod per op"),
        Limit("sensor of roll-ups", peak, per_tick, "runs a day",
              "DAGSTER_RUN_STATUS_SENSOR_PROCESS_LIMIT=50"),
        Limit("roll-up over all domains", roll_s, measured.analysis(demand.rows).cpu_s, "CPU s, against an analysis",
              "roll effect_history and bi_tables up after each success, domain_network once an hour by a schedule"),
        Limit("tick of the inbox sensor", measured.tick_s_per_partition * demand.domain_count,
              given.sensor_timeout_seconds, "CPU s, with a delivered folder per domain",
              "move analysed folders out of the inbox; one code location per group of domains"),
        Limit("cursor of the inbox sensor",
              measured.cursor_bytes_per_partition * demand.domain_count * _DAY / given.tick_seconds / _GB,
              given.database_gb, "GB of ticks kept for a day, before compression",
              "move analysed folders out of the inbox; a longer interval of inbox_sensor"),
        Limit("transactions of the database", found.transactions_per_second, given.database_transactions, "a second",
              "more cores for Postgres; one Dagster deployment with its own database per group of domains"),
        Limit("disk of the database", found.database_gb_kept, given.database_gb, "GB",
              "a larger disk, or old runs deleted: the nightly retention removes log lines, not the history"),
    )  # fmt: skip
    return tuple(sorted(limits, key=lambda limit: -limit.share))
