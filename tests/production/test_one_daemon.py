"""One daemon per instance, started again when it dies, and processes that are told apart."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dagster_deploy import serve
from dagster_deploy.daemon import FileLock, PostgresLock
from dagster_deploy.launcher import is_alive, worker_name
from tests.production.servers import Postgres, wait_for


def test_only_one_has_the_lock_of_a_machine(tmp_path):
    first, second = FileLock(tmp_path / "daemon.lock"), FileLock(tmp_path / "daemon.lock")
    assert first.take()
    assert not second.take()
    assert not first.lost()
    del first
    assert second.take(), "it is free when its holder is gone"


def test_only_one_has_the_lock_of_a_database(postgres):
    first, second = PostgresLock(postgres.url), PostgresLock(postgres.url)
    assert first.take()
    assert not second.take()
    postgres.stop("immediate")
    assert not first.lost(), "nobody has it while the database is away"
    assert not second.take()
    postgres.start()
    assert not first.lost(), "it is taken again"
    assert not second.take()


def end_sessions(postgres: Postgres) -> None:
    """End the sessions that hold the lock, and wait until it is free."""
    held = "from pg_locks where locktype = 'advisory'"
    postgres.sql(f"select pg_terminate_backend(pid) {held}")
    wait_for(lambda: not postgres.sql(f"select 1 {held}"), 30)


def test_a_daemon_knows_when_another_took_over(postgres):
    end_sessions(postgres)  # of the test before
    first, second = PostgresLock(postgres.url), PostgresLock(postgres.url)
    assert first.take()
    end_sessions(postgres)
    assert second.take()
    assert first.lost()
    assert not second.lost()


def test_a_dead_daemon_is_started_again(tmp_path, monkeypatch, capfd):
    started = []

    def start(*_: Path) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[-1]

    monkeypatch.setattr(serve, "start_daemon", start)
    stopping = threading.Event()
    keeper = threading.Thread(target=serve.keep_daemon, args=(tmp_path, tmp_path / "log", stopping))
    keeper.start()
    try:
        wait_for(lambda: len(started) == 1, 30)
        started[0].kill()
        wait_for(lambda: len(started) == 2, 30)
    finally:
        stopping.set()
        keeper.join()
    assert "is started again" in capfd.readouterr().out
    assert started[1].wait(30) == -signal.SIGTERM


def test_a_process_is_told_from_a_later_one_with_its_number():
    name = worker_name(os.getpid())
    host, pid, start = name.split(":")
    assert is_alive(name)
    assert not is_alive(f"{host}:{pid}:{start}0")
    assert not is_alive(f"elsewhere:{pid}:{start}")
    assert not is_alive("")
    child = subprocess.Popen([sys.executable, "-c", ""])
    name = worker_name(child.pid)
    wait_for(lambda: not is_alive(name), 30)
    child.wait()
    assert not is_alive(name)


@pytest.mark.parametrize("name", ["host", "host:", "host:x:", f"{os.uname().nodename}:1"])
def test_names_that_are_none(name):
    assert not is_alive(name)
