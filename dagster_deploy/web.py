"""Our web server: Dagster's own, with the report store under /reports/ and metrics under /metrics."""

import html
import mimetypes
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from dagster_webserver.webserver import DagsterWebserver
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from upath import UPath

from cqox_resources.settings import Settings
from dagster_deploy.observability.collectors import add_store, process_registry
from dagster_deploy.observability.requests import RequestMeter, RequestMetrics
from dagster_deploy.observability.settings import Observing

# Reports hold names out of users' files: they may run their own scripts, but never with the UI's origin.
REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts allow-downloads",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
# Browsers show no PDF inside a sandbox, and cannot show the others at all: these are saved under their names.
SAVED = {".pdf", ".ipynb", ".tex", ".jsonl", ".csv", ".parquet"}
_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}li{margin:.3rem 0}"


class Webserver(DagsterWebserver):
    """Dagster's web server plus routes for report files and metrics."""

    @cached_property
    def registry(self) -> Any:
        """The metrics of this server; what the store of runs says is among them unless an exporter tells it."""
        registry, settings = process_registry(), Observing.from_env()
        if settings.read_store:
            add_store(registry, self._process_context.instance, settings)
        return registry

    def build_middleware(self) -> list[Middleware]:
        """Count each request, Dagster's own middleware included."""
        return [Middleware(RequestMeter, metrics=RequestMetrics(self.registry)), *super().build_middleware()]

    def build_routes(self) -> list[Any]:
        """Put our routes before Dagster's, whose last one takes every path."""
        ours = [
            Route("/metrics", self.metrics_endpoint),
            Route("/reports", lambda _: RedirectResponse("/reports/")),
            Route("/reports/{path:path}", self.report_endpoint),
        ]
        return [*ours, *super().build_routes()]

    async def metrics_endpoint(self, _: Request) -> Response:
        """Answer Prometheus."""
        return Response(await run_in_threadpool(generate_latest, self.registry), media_type=CONTENT_TYPE_LATEST)

    async def report_endpoint(self, request: Request) -> Response:
        """Serve one report file, or the list of decision cards."""
        root = Settings.from_env().reports
        parts = PurePosixPath(request.path_params["path"]).parts
        if not parts:
            return HTMLResponse(await run_in_threadpool(card_list, root), headers=REPORT_HEADERS)
        content = None if any(part.startswith(".") for part in parts) else await run_in_threadpool(_read, root, parts)
        if content is None:
            return HTMLResponse("<p>There is no such report.</p>", status_code=404, headers=REPORT_HEADERS)
        kind = mimetypes.guess_type(parts[-1])[0] or "application/octet-stream"
        saved = {"Content-Disposition": "attachment"} if PurePosixPath(parts[-1]).suffix in SAVED else {}
        return Response(content, media_type=kind, headers={**REPORT_HEADERS, **saved})


def _read(root: UPath, parts: tuple[str, ...]) -> bytes | None:
    """Return a file below the root, on whatever file system that is; None when there is none."""
    target = root.joinpath(*parts)
    if root.protocol in ("", "file", "local") and not Path(str(target)).resolve().is_relative_to(
        Path(str(root)).resolve()
    ):
        return None
    return target.read_bytes() if target.is_file() else None


def card_list(root: UPath) -> str:
    """Return a page that links every decision card."""
    cards = sorted(root.glob("*/*/decision_card.html"), key=str) if root.is_dir() else []
    rows = []
    for card in cards:
        domain, period = card.parts[-3], card.parts[-2]
        name = html.escape(f"{domain} {period}")
        folder = f"/reports/{html.escape(domain)}/{html.escape(period)}"
        site = f' · <a href="{folder}/index.html">figures</a>' if (card.parent / "index.html").is_file() else ""
        rows.append(f'<li><a href="{folder}/{card.name}">{name}</a>{site}</li>')
    body = f"<ul>{''.join(rows)}</ul>" if rows else "<p>No partition has a decision card yet.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Decision cards</title><style>{_STYLE}</style><h1>Decision cards</h1>{body}</html>"
    )
