"""Processes that are killed in the middle of work: nothing is lost, nothing runs twice."""

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import pytest

from tests.production.faults import record
from tests.production.installation import Installation, installation
from tests.production.servers import Postgres, postgres

ROWS = 60


@pytest.fixture(scope="module", name="plant")
def one_installation(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Code server and daemon that the tests of the module share; each has partitions of its own."""
    with installation(tmp_path_factory.mktemp("plant"), postgres.url) as made:
        yield made


def twice(plant: Installation, *keys: str) -> list[str]:
    """Return a sentence for every partition whose file was run more than once without a failure before."""
    found = []
    for key in keys:
        good = [run for run in plant.runs(key) if run.status is dg.DagsterRunStatus.SUCCESS]
        first = [run for run in plant.runs(key) if run.parent_run_id is None]
        if len(good) != 1 or len(first) != 1:
            found.append(f"{key}: {len(first)} first runs and {len(good)} that ended well")
    return found


def begin(plant: Installation, key: str) -> int:
    """Deliver a file and wait until its run is held in the middle."""
    plant.hold(key)
    plant.deliver(key, ROWS)
    return plant.wait_for_middle(key)


def test_worker_killed(plant):
    key = "policy|2016-01"
    worker = begin(plant, key)
    begun = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    plant.release(key)
    plant.wait_for_end(key)
    assert plant.in_the_middle(key)[-1] != worker
    record("worker_killed", "1 run", plant.lost(key) + twice(plant, key), time.monotonic() - begun)


def test_code_server_killed(plant):
    held, fresh = "policy|2016-02", "policy|2016-03"
    begin(plant, held)
    begun = time.monotonic()
    plant.kill("code")
    plant.deliver(fresh, ROWS)
    plant.release(held)
    plant.wait_for_end(held)
    assert len(plant.runs(held)) == 1, "the run does not live in the code server and goes on without it"
    plant.start("code")
    plant.wait_for_end(fresh)
    record("code_server_killed", "2 runs", plant.lost(held, fresh) + twice(plant, held, fresh),
           time.monotonic() - begun)  # fmt: skip


def test_daemon_killed_with_one_of_its_workers(plant):
    dies, lives, fresh = "policy|2016-04", "policy|2016-05", "policy|2016-06"
    worker = begin(plant, dies)
    begin(plant, lives)
    begun = time.monotonic()
    plant.kill("daemon")
    os.kill(worker, signal.SIGKILL)
    plant.deliver(fresh, ROWS)
    plant.release(dies)
    plant.release(lives)
    plant.start("daemon")
    plant.wait_for_end(dies, lives, fresh)
    assert len(plant.runs(lives)) == 1, "a worker outlives the daemon that started it"
    assert len(plant.runs(dies)) == 2
    record("daemon_killed", "3 runs", plant.lost(dies, lives, fresh) + twice(plant, dies, lives, fresh),
           time.monotonic() - begun)  # fmt: skip


def test_web_server_killed(plant):
    key = "policy|2016-07"
    plant.start("web")
    begin(plant, key)
    begun = time.monotonic()
    plant.kill("web")
    plant.start("web")
    seconds = time.monotonic() - begun
    run_id = plant.runs(key)[0].run_id
    query = f'{{runOrError(runId: "{run_id}") {{... on Run {{status}}}}}}'
    assert plant.ask(query) == {"runOrError": {"status": "STARTED"}}
    plant.release(key)
    plant.wait_for_end(key)
    assert plant.ask(query) == {"runOrError": {"status": "SUCCESS"}}
    plant.kill("web")
    record("web_server_killed", "1 run", plant.lost(key) + twice(plant, key), seconds)


def test_everything_killed(plant):
    key = "policy|2016-08"
    worker = begin(plant, key)
    begun = time.monotonic()
    plant.kill("daemon")
    plant.kill("code")
    os.kill(worker, signal.SIGKILL)
    plant.release(key)
    plant.start("daemon", "code")
    plant.wait_for_end(key)
    record("machine_off", "1 run", plant.lost(key) + twice(plant, key), time.monotonic() - begun)


def test_a_run_is_stopped_by_hand(plant):
    key = "policy|2016-09"
    begin(plant, key)
    run = plant.runs(key)[0]
    assert plant.instance.run_launcher.terminate(run.run_id)
    plant.wait(lambda: plant.runs(key)[0].status is dg.DagsterRunStatus.CANCELED, 60)
    assert len(plant.runs(key)) == 1
    plant.release(key)


def test_poisoned_partition(plant):
    poisoned, others = "policy|2016-10", [f"policy|2017-{month:02}" for month in range(1, 4)]
    plant.control(poisoned, "poison").touch()
    begun = time.monotonic()
    for key in (poisoned, *others):
        plant.deliver(key, ROWS)
    plant.wait_for_end(*others)
    attempts = 1 + plant.instance.run_retries_max_retries

    def given_up() -> bool:
        runs = plant.runs(poisoned)
        return len(runs) == attempts and all(run.status is dg.DagsterRunStatus.FAILURE for run in runs)

    plant.wait(given_up, 120)
    plant.wait(lambda: len(alerts(plant, poisoned)) == attempts, 60)
    seconds = time.monotonic() - begun
    assert len(plant.in_the_middle(poisoned)) == attempts
    assert "signal 9" in alerts(plant, poisoned)[-1]["message"]
    assert plant.control(poisoned, "here").exists()
    lost = plant.lost(*others) + twice(plant, *others)
    record("poisoned", f"1 of {1 + len(others)} partitions, {attempts} attempts", lost, seconds)


def alerts(plant: Installation, key: str) -> list[dict[str, str]]:
    """Return the alerts of a partition."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted((plant.home / "alerts").glob("*.json"))]
    return [item for item in found if item["partition"] == key]


def many(plant: Installation, keys: Sequence[str], files: int, seconds: float) -> float:
    """Deliver files of many partitions in one moment, kill the daemon half-way; return the time to the end."""
    plant.start("daemon2")
    plant.wait(lambda: "waiting in reserve" in Path(plant.home.parent / "daemon2.log").read_text("utf-8"), 60)
    begun = time.monotonic()
    for key in keys:
        for number in range(files):
            plant.deliver(key, ROWS + number, f"data-{number}.csv")

    def half() -> bool:
        done = plant.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        return done - before >= len(keys) // 3

    before = plant.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
    plant.wait(half, seconds)
    plant.kill("daemon")
    plant.wait_for_end(*keys, seconds=seconds)
    recovered = time.monotonic() - begun
    # The first comes back, as its supervisor would have it, and is the one in reserve now.
    plant.start("daemon")
    plant.wait(lambda: Path(plant.home.parent / "daemon.log").read_text("utf-8").count("waiting in reserve") == 1, 60)
    return recovered


def test_two_daemons_and_a_queue(plant):
    keys = [f"policy|2018-{month:02}" for month in range(1, 7)]
    seconds = many(plant, keys, 1, 240)
    lost = plant.lost(*keys) + twice(plant, *keys)
    record("two_daemons", f"{len(keys)} runs", lost, seconds)
    record("queue", f"{len(keys)} runs", lost, seconds)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_queued_runs_of_a_thousand_files(tmp_path):
    keys = [f"{domain}|{year}-{month:02}" for domain in ("policy", "retail") for year in range(2015, 2024)
            for month in range(1, 13)][:200]  # fmt: skip
    with postgres() as server, installation(tmp_path / "plant", server.url) as plant:
        seconds = many(plant, keys, 5, 3000)
        rows = sum(ROWS + number for number in range(5))
        lost = plant.lost(*keys, rows=rows) + twice(plant, *keys)
    record("queue", "200 runs, the daemon killed", lost, seconds)
    record("many_files", "1,000 files of 200 partitions, end to end", lost, seconds)
