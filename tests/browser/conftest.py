"""The real product on loopback, and a browser looking at it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import DATA, ROOT

ARTIFACTS = ROOT / "tests" / "artifacts"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Return the browser's path: `CHROMIUM` or the first one on the path."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, BROWSERS) if path), None)


@dataclass
class Product:
    """A running product."""

    url: str
    home: Path


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Start web server and daemon on a free port, and stop both afterwards."""
    home = tmp_path_factory.mktemp("product")
    shutil.copytree(DATA / "domains", home / "domains")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "CQOX_HOME": str(home)}
    environment.pop("DAGSTER_HOME", None)
    log = (home / "serve.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster_deploy.serve", "--port", str(port)],
        cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(url + "/server_info"), 120, lambda: (home / "serve.log").read_text("utf-8")[-3000:])
        yield Product(url, home)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    """Whether a page answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition, seconds: float, explain=lambda: "") -> None:
    """Wait until a condition holds; say what was seen when it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.5)
    pytest.fail(f"not within {seconds} s: {explain()}")


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest):
    """A page in a fresh Chromium; a screenshot is kept at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=chromium(), headless=True, args=FLAGS,
            viewport={"width": 1440, "height": 900},
        )  # fmt: skip
        found = context.pages[0]
        found.set_default_timeout(60_000)
        yield found
        ARTIFACTS.mkdir(exist_ok=True)
        found.screenshot(path=ARTIFACTS / f"{re.sub(r'[^a-z_]', '', request.node.name)}.png")
        context.close()
