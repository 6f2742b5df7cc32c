"""Reports are served from any file system, and nothing else is."""

import asyncio
from urllib.parse import unquote

import pytest
from starlette.requests import Request
from upath import UPath

from dagster_deploy.web import Webserver, card_list


@pytest.fixture(params=["local", "memory"])
def client(request, tmp_path, monkeypatch):
    root = UPath(tmp_path / "reports") if request.param == "local" else UPath(f"memory://reports-{tmp_path.name}")
    folder = root / "policy" / "2025-01"
    folder.mkdir(parents=True)
    (folder / "decision_card.html").write_text("<p>card</p>")
    (folder / "decision_card.pdf").write_bytes(b"%PDF-")
    (folder / ".hidden").write_text("no")
    (tmp_path / "secret.txt").write_text("secret")
    if request.param == "local":
        (tmp_path / "reports" / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setenv("CQOX_REPORTS", str(root))
    server = Webserver.__new__(Webserver)

    def get(path):
        scope = {"type": "http", "method": "GET", "headers": [], "path_params": {"path": unquote(path)}}
        return asyncio.run(server.report_endpoint(Request(scope)))

    return get


def test_a_report_is_served_in_a_sandbox(client):
    answer = client("policy/2025-01/decision_card.html")
    assert answer.body == b"<p>card</p>"
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts allow-downloads"


def test_what_no_browser_shows_in_a_sandbox_is_saved(client):
    assert client("policy/2025-01/decision_card.pdf").headers["content-disposition"] == "attachment"
    assert "content-disposition" not in client("policy/2025-01/decision_card.html").headers


def test_cards_are_listed(client):
    assert "/reports/policy/2025-01/decision_card.html" in client("").body.decode()


@pytest.mark.parametrize(
    "path",
    ["policy/2025-01/.hidden", "policy/2025-01", "none.html", "%2e%2e/secret.txt", "a/../../secret.txt", "link.txt"],
)
def test_nothing_else_is_served(client, path):
    assert client(path).status_code == 404


def test_an_empty_store_says_so(tmp_path):
    assert "No partition has a decision card yet" in card_list(UPath(tmp_path / "none"))
