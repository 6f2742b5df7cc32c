"""Totals of what runs did: counters and histograms that grow run by run and survive a restart as JSON."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_deploy.observability.catalogue import ANALYSES, ANSWERS, BY_NAME, ENDED, JOBS, estimator_names

CARD = ["decisions", "decision_card"]
_STEPS = {"STEP_SUCCESS": "success", "STEP_FAILURE": "failure", "STEP_SKIPPED": "skipped"}


@dataclass(frozen=True)
class EndedRun:
    """What the table of runs says of a run that ended."""

    number: int
    run_id: str
    job: str
    status: str
    partition: str | None
    created: float
    started: float | None
    ended: float | None


@dataclass
class Totals:
    """Counters and histograms by metric and label values, and which partitions were asked for and answered.

    Parameters
    ----------
    counts : dict
        Metric -> JSON list of label values -> value.
    spreads : dict
        Metric -> JSON list of label values -> one count per bucket, one above the last, and the sum.
    asked, answered : dict
        Partition -> Unix seconds of the oldest request without an answer; of the newest decision card.
    """

    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    spreads: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)

    @classmethod
    def fresh(cls) -> "Totals":
        """Return totals with every series that alerts watch at 0: a rate needs a value before the first."""
        totals = cls()
        for job in JOBS:
            for status in ENDED.values():
                totals.add("cqox_runs_total", job, status, by=0)
        for name in estimator_names():
            for status in ANSWERS:
                totals.add("cqox_estimates_total", name, status, by=0)
        return totals

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Totals":
        """Return stored totals; a histogram whose buckets have changed since then starts anew."""
        totals = cls.fresh()
        for metric, series in stored["counts"].items():
            if metric in BY_NAME:
                totals.counts.setdefault(metric, {}).update(series)
        for metric, series in stored["spreads"].items():
            if metric in BY_NAME:
                size = len(BY_NAME[metric].buckets) + 2
                totals.spreads[metric] = {key: values for key, values in series.items() if len(values) == size}
        totals.asked, totals.answered = dict(stored["asked"]), dict(stored["answered"])
        return totals

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"counts": self.counts, "spreads": self.spreads, "asked": self.asked, "answered": self.answered}

    def add(self, metric: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        series, key = self.counts.setdefault(metric, {}), json.dumps(labels)
        series[key] = series.get(key, 0.0) + by

    def observe(self, metric: str, *labels: str, value: float) -> None:
        """Add a value to a histogram."""
        buckets = BY_NAME[metric].buckets
        spread = self.spreads.setdefault(metric, {}).setdefault(json.dumps(labels), [0.0] * (len(buckets) + 2))
        spread[bisect_left(buckets, value)] += 1
        spread[-1] += value

    def ask(self, partition: str | None, job: str, created: float) -> None:
        """Note that a decision card was asked for."""
        if partition and "|" in partition and job in ANALYSES and created > self.answered.get(partition, 0.0):
            self.asked.setdefault(partition, created)

    def count_run(self, run: EndedRun, entries: Iterable[Any]) -> None:
        """Count a run that ended, by its row and the entries of its event log."""
        self.add("cqox_runs_total", run.job, ENDED[run.status])
        if run.started is not None:
            self.observe("cqox_run_wait_seconds", run.job, value=max(0.0, run.started - run.created))
            if run.ended is not None:
                self.observe("cqox_run_seconds", run.job, value=max(0.0, run.ended - run.started))
        self.ask(run.partition, run.job, run.created)
        carded = False
        for entry in entries:
            event = entry.dagster_event
            if event.event_type_value in _STEPS:
                self._count_step(event)
            elif event.event_type_value == "ASSET_MATERIALIZATION":
                carded |= event.asset_key.path == CARD
                self._count_estimate(event)
            elif event.event_type_value == "ASSET_CHECK_EVALUATION":
                self._count_check(event.asset_check_evaluation_data)
        if carded and run.status == "SUCCESS" and run.partition:
            self._answer(run.partition, run.ended or run.created, run.created)

    def _answer(self, partition: str, at: float, created: float) -> None:
        self.answered[partition] = max(at, self.answered.get(partition, 0.0))
        if self.asked.get(partition, at) <= max(at, created):
            self.asked.pop(partition, None)

    def _count_step(self, event: Any) -> None:
        stage = "figures" if event.step_key.startswith("figures_") else event.step_key.partition("__")[0]
        status = _STEPS[event.event_type_value]
        self.add("cqox_steps_total", stage, status)
        if status == "success":
            self.observe("cqox_step_seconds", stage, value=event.step_success_data.duration_ms / 1000)

    def _count_estimate(self, event: Any) -> None:
        path = event.asset_key.path
        if path[0] != "estimates":
            return
        metadata = event.step_materialization_data.materialization.metadata
        status = metadata["status"].value if "status" in metadata else "estimated"
        self.add("cqox_estimates_total", path[-1], status)
        if status == "refused" and "code" in metadata:
            self.add("cqox_refusals_total", metadata["code"].value)
        if status == "estimated" and "seconds" in metadata:
            self.observe("cqox_estimator_seconds", path[-1], value=metadata["seconds"].value)

    def _count_check(self, check: Any) -> None:
        """Count gates and diagnostics, which say their status; checks such as `drawn` have none."""
        if "status" not in check.metadata:
            return
        blocked = not check.passed and check.severity.value == "ERROR"
        self.add("cqox_gates_total", check.check_name, "blocked" if blocked else check.metadata["status"].value)

    def partitions(self, now: float, late_seconds: float) -> dict[tuple[str, str], int]:
        """Return how many partitions are fresh, waiting and late, by domain."""
        found: dict[tuple[str, str], int] = {}
        for partition in {*self.asked, *self.answered}:
            domain = partition.partition("|")[0]
            for state in ("fresh", "waiting", "late"):
                found.setdefault((domain, state), 0)
            found[domain, self._state(partition, now, late_seconds)] += 1
        return found

    def _state(self, partition: str, now: float, late_seconds: float) -> str:
        if partition not in self.asked:
            return "fresh"
        return "late" if now - self.asked[partition] > late_seconds else "waiting"

    def last_success(self) -> dict[str, float]:
        """Return when each domain last got a decision card."""
        newest: dict[str, float] = {}
        for partition, at in self.answered.items():
            domain = partition.partition("|")[0]
            newest[domain] = max(at, newest.get(domain, 0.0))
        return newest


def labelled(series: Mapping[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """Yield label values and value of each series of a metric."""
    for key, value in series.items():
        yield json.loads(key), value
