"""Run Dagster's daemon, never two of them at once: ``python -m dagster_deploy.daemon -w workspace.yaml``.

Two daemons would evaluate every sensor and start every run twice. A second one waits here, having started nothing, and
takes over when the first is gone: with Postgres on a lock of the database, otherwise on a lock of `DAGSTER_HOME`.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Protocol

_KEY = 7_261_903_114  # of the advisory lock: any number that nobody else takes in this database
_LOOK_SECONDS = 2.0
# A host that vanished does not close its connection; the server has to notice within half a minute.
_KEEPALIVE = "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3"


class Lock(Protocol):
    """What only one process has."""

    def take(self) -> bool:
        """Return whether this process has it now."""
        ...

    def lost(self) -> bool:
        """Return whether another process has it by now."""
        ...


class FileLock:
    """A lock of one machine; the system frees it when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def take(self) -> bool:
        """Return whether this process has it now."""
        try:
            import fcntl
        except ImportError:  # Windows has no such locks
            return True
        self._file = self._file or self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lost(self) -> bool:
        """Return False: it is held as long as the process lives."""
        return False


class PostgresLock:
    """An advisory lock of the database; it lives as long as its session, and a restart of the server frees it."""

    def __init__(self, url: str) -> None:
        import sqlalchemy

        self._engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5}
        )
        self._errors = (sqlalchemy.exc.DBAPIError,)
        self._session: Any = None

    def take(self) -> bool:
        """Return whether this process has it now; False as well while the server does not answer."""
        try:
            session = self._engine.connect()
            session.exec_driver_sql(_KEEPALIVE)
            if session.exec_driver_sql(f"select pg_try_advisory_lock({_KEY})").scalar():
                self._session = session
                return True
            session.close()
        except self._errors:
            self._session = None
        return False

    def lost(self) -> bool:
        """Return whether another session has it, after trying to have it again where the server had gone away."""
        try:
            if self._session is not None:
                self._session.exec_driver_sql("select 1")
                return False
        except self._errors:
            with contextlib.suppress(*self._errors):
                self._session.invalidate()
            self._session = None
        return not self.take() and self._answers()

    def _answers(self) -> bool:
        try:
            with self._engine.connect() as session:
                return bool(session.exec_driver_sql("select 1").scalar())
        except self._errors:
            return False


def lock_of(instance: Any) -> Lock:
    """Return the lock of an instance's daemon."""
    url = getattr(instance.run_storage, "postgres_url", None)
    return PostgresLock(url) if url else FileLock(Path(instance.root_directory) / "daemon.lock")


def wait_for(lock: Lock) -> None:
    """Wait until this process is the only one; say so once if there is another."""
    said = False
    while not lock.take():
        if not said:
            print("another daemon runs for this instance, or its database is away; waiting in reserve", flush=True)
            said = True
        time.sleep(_LOOK_SECONDS)


def _keep(lock: Lock) -> None:
    while True:
        time.sleep(_LOOK_SECONDS)
        if lock.lost():
            print("another daemon has taken over while the database was away; this one ends", file=sys.stderr)
            # At once: a daemon may be killed at any moment and loses nothing, two at work may do things twice.
            os._exit(1)


def main() -> None:
    """Wait for the lock, keep it, and become the daemon; the arguments are those of ``dagster-daemon run``."""
    from dagster import DagsterInstance
    from dagster._daemon.cli import run_command

    with DagsterInstance.get() as instance:
        lock = lock_of(instance)
    wait_for(lock)
    threading.Thread(target=_keep, args=(lock,), daemon=True).start()
    run_command()


if __name__ == "__main__":
    main()
