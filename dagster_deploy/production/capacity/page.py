"""docs/capacity.md from its figures: nothing on the page is typed by hand."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from dagster_deploy.production.capacity.plan import Assumptions, Demand, Limit, Measured, Plan, Run, plan

DEMANDS = (
    Demand(10, 10_000, domains=10), Demand(100, 10_000, domains=100), Demand(1_000, 10_000, domains=1_000),
    Demand(10_000, 3_334, domains=10_000), Demand(334, 100_000, domains=334), Demand(10_000, 10_000, domains=10_000),
)  # fmt: skip
_INTRO = """\
# Capacity

What partitions need, from runs that were measured here, with the arithmetic. Every table is written from
`capacity.json` by `python -m dagster_deploy.production.capacity page`. Measure again with
`python -m tests.production.measure_capacity --json docs/capacity.json` (servers on loopback), or on servers of your own
with `python -m dagster_deploy.production.capacity measure`.

## How it was measured

{machine}.

Each run is a process of its own, with Dagster's storage in Postgres and every result and report in an object store; the
study is simulated (`confounded_smooth`). Postgres, an emulated object store and other work shared the two
cores, so **wall time is inflated and is not used**: the arithmetic rests on CPU seconds, memory, rows, bytes and
requests. CPU seconds include the notebook's kernel, which is a process of its own; peak memory does not.
CPU seconds of a busy machine are somewhat larger than those of an idle one. Few runs were made, too few
for a spread: {runs}.
"""
_ARITHMETIC = """\
## Arithmetic

- Between measured sizes the logarithm of each figure is interpolated over the logarithm of the rows; beyond the largest
  the last slope goes on (an extrapolation), below the smallest the smallest counts.
- Seconds of a partition = CPU of its analysis + CPU of its roll-up + {domain_s:.4f} s per domain (the roll-up reads
  every domain's history for `domain_network`) + 2 starts of a pod. One process does one thing at a time, so this is
  what a pod is busy for; partitions per pod and hour = 3600 / that.
- Pods = partitions a day x seconds / 86,400; at the peak times {peak:g}.
- Transactions a second = (analysis + roll-up) x partitions a day / 86,400 x peak + {idle:.1f} of an idle daemon.
- Cost of an analysis = pod hours x (vCPU + memory) + requests + what it adds to the database for the retention + what
  it adds to the object store for a month.
- A partition is a domain and a month. The demands assume that each domain delivers once a day; a new delivery replaces
  the last one but one, so object storage is an upper bound.

Prices and limits are parameters, not facts (`Assumptions` in `dagster_deploy/production/capacity/plan.py`; use yours):

"""
_CAVEATS = """\
Not measured: a real cluster (pod start, image pull, nodes); a real object store's latency (a run makes its requests one
after the other, so each millisecond more is paid in wall time as often as there are requests, not in CPU); the web
server under load; launches per minute of the daemon; and `analyse_with_kubernetes`: each of its ops is a pod that loads
the definitions again, so add {steps:.0f} x (pod start + {load:.1f} CPU s) to a partition. It is for studies that one
pod does not hold, not for many small ones.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def short(value: float) -> str:
    """Return a number with three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def render(figures: Mapping[str, Any]) -> str:
    """Return the page."""
    measured, assumed = Measured.of(figures), Assumptions()
    plans = [plan(measured, demand, assumed) for demand in DEMANDS]
    held = figures["machine"]
    counts = Counter(row["rows"] for row in figures["runs"] if row["job"] == "analyse_partition")
    runs = ", ".join(f"{count} of {short(rows)} rows" for rows, count in sorted(counts.items()))
    machine = (
        f"{held['date']}, {held['cores']} shared cores ({held['architecture']}), Python {held['python']}, Dagster "
        f"{held['dagster']}, Postgres {held['postgres']}"
    )
    analyses = [row for row in figures["runs"] if row["job"] == "analyse_partition"]
    parts = [
        _INTRO.format(machine=machine, runs=runs),
        "\n## What one run takes\n\n" + _runs(measured),
        "\nWhere the CPU seconds of an analysis go:\n\n" + _stages(analyses),
        "\nRows and bytes that one analysis adds to Postgres (mean; bytes with indexes, in pages of 8 kB):\n\n"
        + _tables(analyses),
        "\nWhat grows with the number of domains, and a tick of the inbox sensor in which nothing is new:\n\n"
        + _growth(figures),
        "\n"
        + _ARITHMETIC.format(domain_s=measured.per_domain_s, peak=DEMANDS[0].peak, idle=measured.idle_transactions),
        _assumptions(assumed),
        "\n## Partitions against pods, and cost\n\n" + _plans(plans),
        "\nOf the cost of one analysis:\n\n" + _costs(plans),
        "\n## What breaks first\n\nUse over what there is; above 1 it has broken. The nearest first.\n\n",
        *(_limits(found) for found in plans),
        "\n" + _CAVEATS.format(steps=analyses[0]["steps"], load=analyses[0]["stages"]["definitions"]),
    ]
    return "".join(parts)


def _runs(measured: Measured) -> str:
    names = {f"analysis of {short(rows)} rows": run for rows, run in measured.analyses.items()}
    return table(
        ("run", "CPU s", "peak MB", "event rows", "rows in Postgres", "MB in Postgres", "transactions", "statements",
         "reads of objects", "writes and lists", "MB written", "MB read", "MB of log"),
        (_run(name, run) for name, run in {**names, "roll-up": measured.roll_up}.items()),
    )  # fmt: skip


def _run(name: str, run: Run) -> list[str]:
    numbers = (run.cpu_s, run.peak_mb, run.event_rows, run.database_rows, run.database_bytes / 1e6, run.transactions,
               run.statements, run.reads, run.writes, run.bytes_sent / 1e6, run.bytes_received / 1e6,
               run.log_bytes / 1e6)  # fmt: skip
    return [name, *map(short, numbers)]


def _stages(analyses: Sequence[Mapping[str, Any]]) -> str:
    sizes = sorted({row["rows"] for row in analyses})
    stages = dict.fromkeys(stage for row in analyses for stage in row["stages"])
    rows = []
    for stage in stages:
        means = []
        for size in sizes:
            values = [row["stages"].get(stage, 0.0) for row in analyses if row["rows"] == size]
            means.append(short(sum(values) / len(values)))
        rows.append([stage, *means])
    return table(("stage", *(f"{short(size)} rows" for size in sizes)), rows)


def _tables(analyses: Sequence[Mapping[str, Any]]) -> str:
    names = sorted({name for row in analyses for name in row["database"]["tables"]})

    def _mean(name: str, key: str) -> float:
        return float(sum(row["database"]["tables"].get(name, {}).get(key, 0) for row in analyses)) / len(analyses)

    rows = [[name, *(short(_mean(name, key)) for key in ("inserted", "updated", "bytes"))] for name in names]
    return table(("table", "rows inserted", "rows updated", "bytes"), rows)


def _growth(figures: Mapping[str, Any]) -> str:
    domains = table(
        ("domains", "CPU s to load the definitions", "schedules", "CPU s of a roll-up", "requests of a roll-up"),
        ([*map(short, map(row.__getitem__, ("domains", "cpu_s", "schedules", "roll_up_cpu_s", "roll_up_requests")))]
         for row in figures["domains"]),
    )  # fmt: skip
    ticks = table(
        ("partitions in the inbox", "CPU s of the first tick", "CPU s of a later tick", "runs asked for again"),
        ([*map(short, map(row.__getitem__, ("partitions", "first_s", "steady_s", "requests")))]
         for row in figures["inbox"]),
    )  # fmt: skip
    return f"{domains}\n{ticks}"


def _assumptions(assumed: Assumptions) -> str:
    said = " ".join((Assumptions.__doc__ or "").split())
    rows = [[item.name, f"{getattr(assumed, item.name):g}"] for item in fields(assumed) if item.name in said]
    return table(("parameter", "default"), rows)


def _plans(plans: Sequence[Plan]) -> str:
    return table(
        ("partitions a day", "rows each", "rows a month", "domains", "partitions per pod and hour", "pods",
         "at the peak", "transactions a second", "Postgres GB kept", "object requests a day", "object GB a month",
         "cost of an analysis"),
        ([short(found.demand.partitions_per_day), short(found.demand.rows), short(found.rows_per_month),
          short(found.demand.domain_count), *map(short, (
              found.partitions_per_pod_hour, found.pods, found.pods_at_peak, found.transactions_per_second,
              found.database_gb_kept, found.requests_per_day, found.object_gb_per_month, found.cost_per_analysis))]
         for found in plans),
    )  # fmt: skip


def _costs(plans: Sequence[Plan]) -> str:
    names = list(plans[0].cost)
    return table(
        ("partitions a day", "rows each", *names),
        ([*map(short, (found.demand.partitions_per_day, found.demand.rows, *map(found.cost.__getitem__, names)))]
         for found in plans),
    )  # fmt: skip


def _limits(found: Plan) -> str:
    title = f"**{short(found.demand.partitions_per_day)} partitions a day of {short(found.demand.rows)} rows**\n\n"
    return title + table(("limit", "used", "there is", "share", "remedy"), map(_limit, found.limits)) + "\n"


def _limit(limit: Limit) -> list[str]:
    used = f"{short(limit.used)} {limit.unit}"
    return [limit.name, used, short(limit.available), short(limit.share), limit.remedy]


def sentence(found: Plan) -> str:
    """Return a plan in words."""
    first = found.limits[0]
    return (
        f"{short(found.demand.partitions_per_day)} partitions a day of {short(found.demand.rows)} rows "
        f"({short(found.rows_per_month)} rows a month): {short(found.pods)} pods, {short(found.pods_at_peak)} "
        f"at the peak, {short(found.transactions_per_second)} transactions a second, {short(found.cost_per_analysis)} "
        f"per analysis. Nearest limit: {first.name}, {short(first.used)} of {short(first.available)} {first.unit}; "
        f"remedy: {first.remedy}."
    )
