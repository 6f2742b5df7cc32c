"""Write Grafana's dashboards from a few lines each: ``python -m dagster_deploy.observability.dashboards``.

The JSON files beside Prometheus' rules are what Grafana loads; a test compares them with this module.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "production" / "observability" / "grafana" / "dashboards"
_PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
_LOKI = {"type": "loki", "uid": "loki"}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Parameters
    ----------
    queries : sequence of (str, str)
        PromQL (LogQL where `kind` is `logs`) and the legend of its series.
    kind : str
        `timeseries`, `stat`, `bargauge` or `logs`.
    unit : str
        As Grafana names it.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    unit: str = "short"
    meaning: str = ""


def _max_by(labels: str, query: str) -> str:
    """Several processes tell the same of the store of runs: the largest is taken, never the sum."""
    return f"max by ({labels}) ({query})"


def _grown(labels: str, series: str, window: str = "1d") -> str:
    return _max_by(labels, f"increase({series}[{window}])")


def _quantile(q: float, metric: str, by: str) -> str:
    rate = _max_by(f"le, {by}", f"rate({metric}_bucket[1h])")
    return f"histogram_quantile({q}, sum by (le, {by}) ({rate}))"


def _gates(title: str, status: str) -> Panel:
    """Return a panel with the gates of one status, per day."""
    return Panel(title, [(_grown("gate", f'cqox_gates_total{{status="{status}"}}'), "{{gate}}")], "bargauge")


_BURN = [(f"cqox:http_error_ratio:rate{window} / 0.001", window) for window in ("1h", "6h", "3d")]
_REQUESTS = "rate(cqox_http_requests_total[$__rate_interval])"
_BY_ROUTE = "sum by (le, route) (rate(cqox_http_request_seconds_bucket[5m]))"
_LAST_CARD = "max by (domain) (cqox_domain_last_success_timestamp_seconds)"
_ANSWERED = f"sum by (estimator) ({_grown('estimator, status', 'cqox_estimates_total')})"
_REFUSED = _grown("estimator", 'cqox_estimates_total{status="refused"}')
_BUGS = _grown("estimator", 'cqox_estimates_total{status="failed"}')
SERVICE = (
    Panel("Availability, 30 days", [("cqox:http_availability:ratio30d", "")], "stat", "percentunit",
          "Share of requests that were not answered with a 5xx; the objective is 99.9%."),
    Panel("Error budget left", [("cqox:http_error_budget:remaining", "")], "stat", "percentunit",
          "Share of the 0.1% of errors that 30 days allow; below 0 the objective is missed."),
    Panel("Burn rate", _BURN, meaning="1 uses the budget up in exactly 30 days; 14.4 over an hour pages."),
    Panel("Requests", [(f"sum by (route) ({_REQUESTS})", "{{route}}")], unit="reqps"),
    Panel("Errors", [("cqox:http_error_ratio:rate5m", "5xx"), ("vector(0.05)", "alert")], unit="percentunit"),
    Panel("Seconds of requests", [("cqox:http_request_seconds:p50", "p50"), ("cqox:http_request_seconds:p95", "p95"),
                                  ("cqox:http_request_seconds:p99", "p99")], unit="s"),
    Panel("p95 by class", [(f"histogram_quantile(0.95, {_BY_ROUTE})", "{{route}}")], unit="s"),
    Panel("Under way", [("sum by (instance) (cqox_http_requests_in_progress)", "{{instance}}")]),
    Panel("Memory of its limit", [("cqox_memory_bytes / cqox_memory_limit_bytes", "{{job}} {{instance}}")],
          unit="percentunit"),
    Panel("CPU", [("rate(process_cpu_seconds_total[$__rate_interval])", "{{job}} {{instance}}")], unit="percentunit"),
    Panel("Open files", [("process_open_fds", "{{job}} {{instance}}")]),
    Panel("Versions", [("sum by (version) (cqox_build_info)", "{{version}}")]),
)  # fmt: skip
RUNS = (
    Panel("Runs under way", [(_max_by("status", "sum by (instance, status) (cqox_runs_in_progress)"), "{{status}}")]),
    Panel("Queue", [("max(cqox_queue_length)", "waiting")], "stat"),
    Panel("Oldest in the queue", [("max(cqox_queue_oldest_seconds)", "")], "stat", "s"),
    Panel("Runs that ended, per hour", [("cqox:runs:increase1h", "{{job_name}} {{status}}")]),
    Panel("Failed runs", [("cqox:runs_failed:ratio15m", "15 min"), ("vector(0.1)", "alert")], unit="percentunit"),
    Panel("Seconds of runs, p95", [(_quantile(0.95, "cqox_run_seconds", "job_name"), "{{job_name}}")], unit="s"),
    Panel("Seconds from request to start, p95",
          [(_quantile(0.95, "cqox_run_wait_seconds", "job_name"), "{{job_name}}")], unit="s"),
    Panel("Steps per hour", [(_grown("stage, status", "cqox_steps_total", "1h"), "{{stage}} {{status}}")]),
    Panel("Seconds of steps, p95", [(_quantile(0.95, "cqox_step_seconds", "stage"), "{{stage}}")], unit="s"),
    Panel("Partitions", [("sum by (state) (cqox:partitions)", "{{state}}")]),
    Panel("Late partitions by domain", [('cqox:partitions{state="late"} > 0', "{{domain}}")], "bargauge"),
    Panel("Days since a domain's last card",
          [(f"(time() - {_LAST_CARD}) / 86400", "{{domain}}")], "bargauge"),
    Panel("Daemons: seconds since a sign of life",
          [("time() - max by (daemon) (cqox_daemon_heartbeat_timestamp_seconds)", "{{daemon}}")], unit="s"),
    Panel("Reading the store", [("cqox_store_read_seconds", "{{instance}} seconds"),
                                ("cqox_store_unread_runs", "{{instance}} unread runs"),
                                ("cqox_store_up", "{{instance}} up")]),
    Panel("What failed", [('{service_name=~".+"} | level = `error`', "")], "logs"),
)  # fmt: skip
ESTIMATES = (
    Panel("Estimates per hour", [("sum by (status) (cqox:estimates:increase1h)", "{{status}}")]),
    Panel("Bugs of estimators, per day", [(f"{_BUGS} > 0", "{{estimator}}")], "bargauge"),
    Panel("Refusals by code, per day", [(_grown("code", "cqox_refusals_total"), "{{code}}")], "bargauge"),
    Panel("Refused share by estimator, 1 day", [(f"{_REFUSED} / {_ANSWERED}", "{{estimator}}")],
          "bargauge", "percentunit"),
    _gates("Gates that blocked, per day", "blocked"),
    _gates("Gates that failed, per day", "fail"),
    _gates("Gates that warned, per day", "warn"),
    Panel("Seconds by estimator, p50", [(_quantile(0.5, "cqox_estimator_seconds", "estimator"), "{{estimator}}")],
          "bargauge", "s"),
    Panel("Seconds by estimator, p95", [(_quantile(0.95, "cqox_estimator_seconds", "estimator"), "{{estimator}}")],
          "bargauge", "s"),
)  # fmt: skip
DASHBOARDS = {
    "service": ("CQOx: web server and objective", SERVICE),
    "runs": ("CQOx: runs, queue and partitions", RUNS),
    "estimates": ("CQOx: estimates, gates and refusals", ESTIMATES),
}


def dashboard(name: str) -> dict[str, Any]:
    """Return one dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"cqox-{name}",
        "title": title,
        "tags": ["cqox"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["cqox"], "title": "CQOx", "asDropdown": False, "keepTime": True}],
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = _LOKI if panel.kind == "logs" else _PROMETHEUS
    reduced: dict[str, Any] = {"options": {"reduceOptions": {"calcs": ["lastNotNull"]}}}
    if panel.kind == "bargauge":
        reduced["options"] |= {"orientation": "horizontal", "displayMode": "basic"}
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.meaning,
        "type": panel.kind,
        "datasource": source,
        "gridPos": {"x": 8 * (number % 3), "y": 8 * (number // 3), "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        **(reduced if panel.kind in ("stat", "bargauge") else {}),
        "targets": [
            {"refId": chr(65 + index), "datasource": source, "expr": query, "legendFormat": legend or "__auto"}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def rendered(name: str) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(dashboard(name), indent=1) + "\n"


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(rendered(name), "utf-8")


if __name__ == "__main__":
    main()
