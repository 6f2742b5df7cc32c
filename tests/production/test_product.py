"""The whole product on an emulated cluster: its servers started as their containers are, a file in, a card out."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dagster_deploy.samples import deliver
from tests.production.control import Control, cluster_of
from tests.production.kubernetes import ENTRYPOINT, ROOT
from tests.production.servers import Postgres, answers, free_port, stop, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
PARTITION = "policy|2025-01"
_RUNS = "{ runsOrError { ... on Runs { results { jobName status } } } workspaceOrError { __typename } }"


@pytest.fixture
def control(tmp_path: Path, postgres: Postgres, object_store: dict[str, str]) -> Iterator[Control]:
    places = {"CQOX_WAREHOUSE": "s3://cqox/warehouse", "CQOX_REPORTS": "s3://cqox/reports"}
    with cluster_of(tmp_path / "c", postgres.url, {**object_store, **places}, "dagster_deploy.definitions") as made:
        yield made


def test_a_file_becomes_a_card_in_the_object_store(control: Control, tmp_path: Path) -> None:
    ports = {"CQOX_CODE_HOST": "127.0.0.1", "CQOX_CODE_PORT": str(free_port()), "CQOX_PORT": str(free_port())}
    url = f"http://127.0.0.1:{ports['CQOX_PORT']}"
    with ExitStack() as stack:
        for role in ("code-server", "web", "daemon"):
            log = (tmp_path / f"{role}.log").open("wb")
            server = subprocess.Popen(
                [*ENTRYPOINT, role], env={**os.environ, **ports}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            stack.callback(stop, server)
        wait_for(lambda: answers(f"{url}/server_info"), 180, lambda: _logs(tmp_path))
        deliver(tmp_path / "c" / "home", [PARTITION])
        card = f"{url}/reports/policy/2025-01/decision_card.json"
        wait_for(lambda: _get(card) is not None, 1500, lambda: f"{_logs(tmp_path)}; {_graphql(url)}")
        assert json.loads(_get(card) or b"")["verdict"] in ("GO", "CANARY", "HOLD")
        wait_for(lambda: ("roll_up", "SUCCESS") in _graphql(url), 600, lambda: f"{_logs(tmp_path)}; {_graphql(url)}")
        assert _graphql(url) == [("roll_up", "SUCCESS"), ("analyse_partition", "SUCCESS")]
    assert control.cluster.api.refused == []
    for pod in control.cluster.pods.values():
        print(f"{pod.labels['dagster/job']}: {pod.cpu_seconds:.1f} CPU-s, {pod.seconds:.1f} s, {pod.peak_mb:.0f} MB")
    pools = {pool.name: pool.limit for pool in control.instance.event_log_storage.get_pool_limits()}
    assert pools["nuisance_heavy"] == 25


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def _graphql(url: str) -> list[tuple[str, str]]:
    body, headers = json.dumps({"query": _RUNS}).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/graphql", body, headers), timeout=60) as answer:
        found = json.load(answer)["data"]["runsOrError"]["results"]
    return [(run["jobName"], run["status"]) for run in found]


def _logs(folder: Path) -> str:
    return "; ".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in folder.glob("*.log"))
