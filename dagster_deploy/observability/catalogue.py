"""Every metric that the product exposes: name, labels and meaning; docs/observability.md has its table from here."""

import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal["requests", "process", "store"]

#: Jobs that answer a delivered partition with a decision card.
ANALYSES = ("analyse_partition", "analyse_with_kubernetes", "backfill_effects")
JOBS = (*ANALYSES, "draw_moving_figures", "roll_up")
ENDED = {"SUCCESS": "success", "FAILURE": "failure", "CANCELED": "canceled"}
ACTIVE = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
ANSWERS = ("estimated", "refused", "failed")
_SOURCES = {
    "requests": "counted by each web server",
    "process": "of the process that is scraped",
    "store": "read from the store of runs: the same from every process, also after a restart",
}


@dataclass(frozen=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name : str
        As Prometheus shows it; a counter's ends in `_total`.
    source : str
        `requests`, `process` or `store`.
    """

    name: str
    kind: Kind
    source: Source
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the series that a query may use."""
        return tuple(self.name + end for end in ("_bucket", "_sum", "_count")) if self.buckets else (self.name,)


_REQUEST_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STEP_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
_RUN_SECONDS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0)
_ESTIMATOR_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0)

METRICS: Sequence[Metric] = (
    Metric("cqox_http_requests_total", "counter", "requests", "HTTP requests that were answered.",
           ("route", "method", "code")),
    Metric("cqox_http_request_seconds", "histogram", "requests", "Seconds until a request was answered, by its class.",
           ("route",), _REQUEST_SECONDS),
    Metric("cqox_http_requests_in_progress", "gauge", "requests", "HTTP requests that are being answered."),
    Metric("process_resident_memory_bytes", "gauge", "process", "Resident memory of the process."),
    Metric("process_cpu_seconds_total", "counter", "process", "CPU seconds of the process."),
    Metric("process_open_fds", "gauge", "process", "Open file descriptors of the process."),
    Metric("process_start_time_seconds", "gauge", "process", "When the process started, in Unix seconds."),
    Metric("cqox_memory_bytes", "gauge", "process",
           "Memory in use that cannot be reclaimed: of the container, or of the process where there is none."),
    Metric("cqox_memory_limit_bytes", "gauge", "process", "Memory that the container, or else the machine, has."),
    Metric("cqox_build_info", "gauge", "process", "Always 1; the label says which version runs.", ("version",)),
    Metric("cqox_runs_total", "counter", "store", "Runs that ended: success, failure or canceled.",
           ("job_name", "status")),
    Metric("cqox_runs_in_progress", "gauge", "store", "Runs that have not ended, by where they are.",
           ("job_name", "status")),
    Metric("cqox_run_seconds", "histogram", "store", "Seconds from a run's start to its end.",
           ("job_name",), _RUN_SECONDS),
    Metric("cqox_run_wait_seconds", "histogram", "store", "Seconds from a run's request to its start.",
           ("job_name",), _RUN_SECONDS),
    Metric("cqox_queue_length", "gauge", "store", "Runs that wait in the queue."),
    Metric("cqox_queue_oldest_seconds", "gauge", "store", "Age of the oldest run in the queue; 0 when there is none."),
    Metric("cqox_steps_total", "counter", "store", "Steps of runs that ended: success, failure or skipped.",
           ("stage", "status")),
    Metric("cqox_step_seconds", "histogram", "store", "Seconds of a step that succeeded.", ("stage",), _STEP_SECONDS),
    Metric("cqox_partitions", "gauge", "store",
           "Partitions that were asked for: fresh (answered by a card), waiting (not yet), late (not in time).",
           ("domain", "state")),
    Metric("cqox_domain_last_success_timestamp_seconds", "gauge", "store",
           "When a domain last got a decision card, in Unix seconds.", ("domain",)),
    Metric("cqox_gates_total", "counter", "store",
           "Gates and diagnostics: pass, warn, fail, not_run, or blocked where the run was stopped.",
           ("gate", "status")),
    Metric("cqox_estimates_total", "counter", "store",
           "Answers of estimators: estimated, refused (the data do not allow it) or failed (a bug).",
           ("estimator", "status")),
    Metric("cqox_refusals_total", "counter", "store", "Refusals by their code.", ("code",)),
    Metric("cqox_estimator_seconds", "histogram", "store", "Seconds of an estimator that gave an estimate.",
           ("estimator",), _ESTIMATOR_SECONDS),
    Metric("cqox_daemon_heartbeat_timestamp_seconds", "gauge", "store",
           "When a daemon last gave a sign of life, in Unix seconds.", ("daemon",)),
    Metric("cqox_store_up", "gauge", "store", "1 if the store of runs could be read, 0 if not."),
    Metric("cqox_store_read_seconds", "gauge", "store", "Seconds of the last reading of the store."),
    Metric("cqox_store_unread_runs", "gauge", "store",
           "Ended runs that are not counted yet; above 0 only while a backlog is read."),
)  # fmt: skip
BY_NAME = {metric.name: metric for metric in METRICS}


def estimator_names() -> list[str]:
    """Return the estimators of the catalogue by their files, without importing one."""
    package = find_spec("cqox_assets.estimators")
    places = list(package.submodule_search_locations or ()) if package else []
    names = [module.name for module in pkgutil.iter_modules(places)]
    return [name for name in names if not name.startswith("_") and name != "assets"]


def markdown() -> str:
    """Return the table of metrics for the documentation."""
    return "\n".join(_rows())


def _rows() -> Iterator[str]:
    for source, meaning in _SOURCES.items():
        yield f"**{source.capitalize()}**, {meaning}:\n"
        yield "| metric | kind | labels | meaning |\n|---|---|---|---|"
        for metric in METRICS:
            if metric.source == source:
                labels = ", ".join(f"`{label}`" for label in metric.labels)
                yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"
        yield ""
