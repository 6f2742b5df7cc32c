"""Prometheus collectors: what the store of runs says, and what the process uses."""

import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dagster_deploy.observability.catalogue import BY_NAME, METRICS
from dagster_deploy.observability.settings import Observing
from dagster_deploy.observability.store import Snapshot, StoreReader
from dagster_deploy.observability.totals import labelled

_CGROUP = Path("/sys/fs/cgroup")


class StoreCollector(Collector):
    """Metrics of source `store`.

    Parameters
    ----------
    reader : StoreReader
    late_seconds : float
        After which a partition without an answer is late.
    """

    def __init__(self, reader: StoreReader, late_seconds: float) -> None:
        self._reader = reader
        self._late = late_seconds

    def describe(self) -> list[Metric]:
        """Say nothing, so that registering reads no store."""
        return []

    def collect(self) -> list[Metric]:
        """Read the store and return its metrics."""
        return self._reader.read(lambda snapshot: list(self._families(snapshot)))

    def _families(self, found: Snapshot) -> Iterator[Metric]:
        yield _gauge("cqox_store_up", {(): float(found.up)})
        yield _gauge("cqox_store_read_seconds", {(): found.seconds})
        yield _gauge("cqox_store_unread_runs", {(): found.unread})
        # Half of a backlog would look like runs that all ended just now.
        if found.complete:
            yield from _totals(found)
        if not found.up:
            return
        now = time.time()
        queued = sum(count for (_, status), count in found.active.items() if status == "queued")
        oldest = 0.0 if found.oldest_queued is None else max(0.0, now - found.oldest_queued)
        yield _gauge("cqox_runs_in_progress", found.active)
        yield _gauge("cqox_queue_length", {(): queued})
        yield _gauge("cqox_queue_oldest_seconds", {(): oldest})
        yield _gauge("cqox_daemon_heartbeat_timestamp_seconds", {(name,): at for name, at in found.heartbeats.items()})
        if found.complete:
            yield _gauge("cqox_partitions", found.totals.partitions(now, self._late))
            last = {(domain,): at for domain, at in found.totals.last_success().items()}
            yield _gauge("cqox_domain_last_success_timestamp_seconds", last)


def _totals(found: Snapshot) -> Iterator[Metric]:
    for metric in METRICS:
        if metric.source != "store":
            continue
        if metric.kind == "counter":
            family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
            for labels, value in labelled(found.totals.counts.get(metric.name, {})):
                family.add_metric(labels, value)
            yield family
        elif metric.kind == "histogram":
            spread = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, values in labelled(found.totals.spreads.get(metric.name, {})):
                ends = [*(f"{end}" for end in metric.buckets), "+Inf"]
                spread.add_metric(labels, list(zip(ends, accumulate(values[:-1]), strict=True)), values[-1])
            yield spread


def _gauge(name: str, values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, BY_NAME[name].help, labels=BY_NAME[name].labels)
    for labels, value in values.items():
        family.add_metric(list(labels), value)
    return family


class MemoryCollector(Collector):
    """Memory in use and its limit, of the container if there is one, and the version that runs."""

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        used, limit = memory()
        yield _gauge("cqox_memory_bytes", {(): used})
        yield _gauge("cqox_memory_limit_bytes", {(): limit})
        yield _gauge("cqox_build_info", {(_version(),): 1})


def memory(cgroup: Path = _CGROUP) -> tuple[float, float]:
    """Return bytes in use that cannot be reclaimed, and the limit.

    A container that is bounded is killed by its control group's count, page cache that can be dropped left out; it
    holds the runs that were started in it, too. Anywhere else the process and the machine are what there is.
    """
    machine = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit_file, used_file, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit = _number(cgroup / limit_file)
        used = _number(cgroup / used_file)
        if limit is not None and used is not None and limit <= machine:
            return max(0.0, used - _field((cgroup / used_file).with_name("memory.stat"), cache)), limit
    resident = int(Path("/proc/self/statm").read_text("ascii").split()[1]) if Path("/proc/self/statm").exists() else 0
    return float(resident * os.sysconf("SC_PAGE_SIZE")), machine


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> float:
    try:
        lines = (line.split() for line in path.read_text("ascii").splitlines())
        return next((float(line[1]) for line in lines if line and line[0] == name), 0.0)
    except (OSError, ValueError):
        return 0.0


def _version() -> str:
    try:
        return version("cqox")
    except PackageNotFoundError:
        return "unknown"


def process_registry() -> CollectorRegistry:
    """Return a registry with the metrics of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(MemoryCollector())
    return registry


def add_store(registry: CollectorRegistry, instance: Any, settings: Observing, *, budget_seconds: float = 2.0) -> None:
    """Add the metrics of a Dagster instance's store of runs."""
    reader = StoreReader(instance, budget_seconds=budget_seconds)
    registry.register(StoreCollector(reader, settings.late_seconds))
