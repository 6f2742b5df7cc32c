"""Our web server: Dagster's own, with the report store under /reports/."""

import html
import mimetypes
from pathlib import Path
from typing import Any

from dagster_webserver.webserver import DagsterWebserver
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from cqox_resources.settings import Settings

# Reports hold names out of users' files: they may run their own scripts, but never with the UI's origin.
REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts allow-downloads",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}li{margin:.3rem 0}"


class Webserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's web server plus a route for report files."""

    def build_routes(self) -> list[Any]:
        """Put the report routes before Dagster's, whose last one takes every path."""
        reports = [
            Route("/reports", lambda _: RedirectResponse("/reports/")),
            Route("/reports/{path:path}", self.report_endpoint),
        ]
        return [*reports, *super().build_routes()]

    async def report_endpoint(self, request: Request) -> Response:
        """Serve one report file, or the list of decision cards."""
        root = Path(str(Settings.from_env().reports)).resolve()
        path = (root / request.path_params["path"]).resolve()
        if path == root:
            return HTMLResponse(card_list(root), headers=REPORT_HEADERS)
        if not path.is_relative_to(root) or not path.is_file() or path.name.startswith("."):
            return HTMLResponse("<p>There is no such report.</p>", status_code=404, headers=REPORT_HEADERS)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return FileResponse(path, media_type=kind, headers=REPORT_HEADERS)


def card_list(root: Path) -> str:
    """Return a page that links every decision card."""
    cards = sorted(root.glob("*/*/decision_card.html"), key=lambda path: path.parts)
    rows = []
    for card in cards:
        domain, period = card.parts[-3], card.parts[-2]
        name = html.escape(f"{domain} {period}")
        rows.append(f'<li><a href="/reports/{html.escape(domain)}/{html.escape(period)}/{card.name}">{name}</a></li>')
    body = f"<ul>{''.join(rows)}</ul>" if rows else "<p>No partition has a decision card yet.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Decision cards</title><style>{_STYLE}</style><h1>Decision cards</h1>{body}</html>"
    )
