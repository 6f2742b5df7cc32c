"""A run worker that is killed leaves the old results or the new ones, and the next run completes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cqox_assets.results import Results
from cqox_resources import store
from cqox_resources.settings import Settings
from tests.conftest import ROOT
from tests.graph.helpers import card, deliver

KEY = "policy|2025-01"


def start(home: Path) -> "subprocess.Popen[bytes]":
    dagster_home = home / "dagster"
    dagster_home.mkdir(exist_ok=True)
    environment = {**os.environ, "CQOX_HOME": str(home), "DAGSTER_HOME": str(dagster_home)}
    tags = json.dumps({"dagster/partition": KEY})
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "dagster_deploy.definitions",
               "-j", "analyse_partition", "--tags", tags]  # fmt: skip
    log = (home / "worker.log").open("ab")
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def stored(home: Path) -> int:
    return len(list((home / "warehouse").rglob(store.MANIFEST)))


def check_every_result_is_whole(home: Path) -> int:
    """Read every manifest and every part that it names."""
    count = 0
    for manifest in (home / "warehouse").rglob(store.MANIFEST):
        content = json.loads(manifest.read_text("utf-8"))
        json.loads((manifest.parent / content["document"]).read_text("utf-8"))
        frames = store.LazyFrames(store.UPath(manifest.parent), content["frames"])
        for name in frames:
            _ = frames[name]
        count += 1
    return count


@pytest.mark.parametrize("after", [1, 5, 12])
def test_sigkill_in_the_middle_of_a_run(home, after):
    folder = deliver(home, KEY)
    delivered = {path.name: path.read_bytes() for path in folder.iterdir()}
    worker = start(home)
    deadline = time.monotonic() + 240
    while stored(home) < after and worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.poll() is None, (home / "worker.log").read_text("utf-8")[-3000:]
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    assert check_every_result_is_whole(home) >= after
    assert not (home / "reports").exists() or not list((home / "reports").rglob("decision_card.json"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == delivered

    again = start(home)
    assert again.wait(timeout=400) == 0, (home / "worker.log").read_text("utf-8")[-3000:]
    check_every_result_is_whole(home)
    assert card(home, KEY)["verdict"] in ("GO", "CANARY")
    assert Results(Settings.from_env().warehouse).present(KEY).estimates[
        "difference_in_means"
    ].estimate == pytest.approx(1794.342404270271, rel=1e-9)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == delivered
