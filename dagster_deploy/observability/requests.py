"""Counts and times the requests of the web server, by class of route and never by address."""

import json
import logging
import re
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from dagster_deploy.observability.catalogue import BY_NAME
from dagster_deploy.observability.identity import trace_id

_LOG = logging.getLogger("dagster-webserver.access")
_RUN_PAGE = re.compile(r"/runs/([0-9a-f-]{36})\b")
_METHODS = {"GET", "HEAD", "POST", "OPTIONS"}
_CLASSES = {
    "graphql": "graphql", "reports": "reports", "metrics": "metrics", "server_info": "health", "dagit_info": "health",
    "logs": "logs", "notebook": "notebook", "dagit": "notebook", "download_debug": "download",
    "report_asset_materialization": "asset_api", "report_asset_check": "asset_api",
    "report_asset_observation": "asset_api", "_next": "static", "static": "static", "vendor": "static",
}  # fmt: skip


def route_class(path: str) -> str:
    """Return the class of a path: few, whatever is asked for."""
    first = path.lstrip("/").partition("/")[0]
    if first in _CLASSES:
        return _CLASSES[first]
    # Dagster's page takes every other path; what has an ending there is one of its files.
    return "static" if re.search(r"\.[a-z0-9]{2,5}$", first) and path.count("/") == 1 else "ui"


class RequestMetrics:
    """The metrics of source `requests`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # a second series for each of these, which no query reads
        total, seconds, busy = (
            BY_NAME[f"cqox_http_{name}"] for name in ("requests_total", "request_seconds", "requests_in_progress")
        )
        self.total = Counter(total.name, total.help, total.labels, registry=registry)
        self.seconds = Histogram(seconds.name, seconds.help, seconds.labels, buckets=seconds.buckets, registry=registry)
        self.busy = Gauge(busy.name, busy.help, registry=registry)
        for route in sorted({*_CLASSES.values(), "ui"}):  # a rate needs a value before the first
            self.total.labels(route, "GET", "500")
            self.total.labels(route, "GET", "200")


class RequestMeter:
    """ASGI middleware that counts, times and, at JSON logs, writes down each HTTP request."""

    def __init__(self, app: Any, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on; a websocket is no request that ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, code = time.perf_counter(), 500

        async def note(message: Any) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        self._metrics.busy.inc()
        try:
            await self._app(scope, receive, note)
        finally:
            self._metrics.busy.dec()
            self._count(scope, code, time.perf_counter() - started)

    def _count(self, scope: Any, code: int, seconds: float) -> None:
        route = route_class(scope["path"])
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.total.labels(route, method, str(code)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if route not in ("metrics", "health", "static") and _LOG.isEnabledFor(logging.INFO):
            run = _RUN_PAGE.search(scope["path"])
            facts = {"route": route, "method": method, "code": code, "seconds": round(seconds, 4)}
            known = {"run_id": run[1], "trace_id": trace_id(run[1])} if run else {}
            _LOG.info("%s %s %s", method, json.dumps(scope["path"]), code, extra={**facts, **known})
