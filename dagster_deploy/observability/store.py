"""Reads the store of runs piece by piece: each ended run once, what is under way each time.

A run is found by its number in the table of runs and by its status, never by a clock, so that a pod whose clock is
wrong hides nothing. What was counted is kept in the store itself: a process that starts goes on from there, and nothing
is counted twice or lost when old runs are deleted.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from dagster_deploy.observability.catalogue import ACTIVE, ENDED
from dagster_deploy.observability.totals import EndedRun, Totals

T = TypeVar("T")
KEY = "cqox_metrics"
_FORMAT = 1
#: Runs below the newest that are looked at again: a number is given before its row can be seen.
_OVERLAP = 500
#: Ended runs whose events are read when there are no stored totals; older ones are counted by job and status only.
_HISTORY = 2000
_CHUNK = 200
_SAVE_SECONDS = 30.0
_EVENTS = ("STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED", "ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION")


@dataclass
class Snapshot:
    """What one reading found."""

    up: bool = False
    complete: bool = False
    totals: Totals = field(default_factory=Totals)
    active: dict[tuple[str, str], int] = field(default_factory=dict)
    oldest_queued: float | None = None
    unread: int = 0
    heartbeats: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class StoreReader:
    """Reads the runs of a Dagster instance.

    Parameters
    ----------
    instance : DagsterInstance
        Its run storage must be SQL, as all that come with Dagster are.
    budget_seconds : float
        A reading goes no further into a backlog after this; the rest is for the next one.
    fresh_seconds : float
        A reading younger than this is given again.
    """

    def __init__(self, instance: Any, *, budget_seconds: float = 2.0, fresh_seconds: float = 5.0) -> None:
        self._instance = instance
        self._budget = budget_seconds
        self._fresh = fresh_seconds
        self._lock = threading.Lock()
        self._snapshot = Snapshot()
        self._read_at = -float("inf")
        self._saved_at = -float("inf")
        self._loaded = False
        self._low = 0  # every run up to this number is counted, or in _open
        self._counted: set[int] = set()  # numbers above _low
        self._open: set[int] = set()
        self._changed = False

    def read(self, use: Callable[[Snapshot], T]) -> T:
        """Use what the store says now, or said a few seconds ago; the last known where it does not answer."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._fresh:
                started = time.perf_counter()
                try:
                    self._refresh()
                    self._snapshot.up = True
                except Exception:  # whatever a database raises: a scrape must say that it is away, not fail
                    import logging

                    logging.getLogger("dagster.cqox.metrics").exception("the store of runs could not be read")
                    self._snapshot.up = False
                self._snapshot.seconds = time.perf_counter() - started
                self._read_at = time.monotonic()
            return use(self._snapshot)

    def _refresh(self) -> None:
        if not self._loaded:
            self._load()
        rows = self._rows()
        active = [row for row in rows if row.status in ACTIVE]
        self._note_active(active)
        numbers = {row.id for row in rows}
        left = sorted(self._open - numbers)
        rows += [row for start in range(0, len(left), _CHUNK) for row in self._rows(left[start : start + _CHUNK])]
        ended = sorted((row for row in rows if row.status in ENDED and row.id not in self._counted), key=lambda r: r.id)
        unread = self._count(ended)
        self._open = {row.id for row in active} | set(unread)
        self._low = max([self._low, *(row.id - _OVERLAP for row in rows)])
        self._counted = {number for number in self._counted if number > self._low}
        self._snapshot.unread = len(unread)
        self._snapshot.complete |= not unread
        self._snapshot.heartbeats = {
            name: beat.timestamp for name, beat in self._instance.get_daemon_heartbeats().items()
        }
        self._save()

    def _count(self, ended: Sequence[Any]) -> list[int]:
        """Count runs until the budget is used; return the numbers of those that are left."""
        from dagster import DagsterEventType

        types = {DagsterEventType(name) for name in _EVENTS}
        deadline = time.monotonic() + self._budget
        for done, row in enumerate(ended):
            if done and time.monotonic() > deadline:
                return [other.id for other in ended[done:]]
            entries = self._instance.all_logs(row.run_id, of_type=types)
            self._snapshot.totals.count_run(_run(row), entries)
            self._counted.add(row.id)
            self._changed = True
        return []

    def _note_active(self, active: Sequence[Any]) -> None:
        counts: dict[tuple[str, str], int] = {}
        for row in active:
            key = (row.pipeline_name, row.status.lower())
            counts[key] = counts.get(key, 0) + 1
            self._snapshot.totals.ask(row.partition, row.pipeline_name, _seconds(row.create_timestamp))
        self._snapshot.active = counts
        queued = [_seconds(row.create_timestamp) for row in active if row.status == "QUEUED"]
        self._snapshot.oldest_queued = min(queued, default=None)

    def _rows(self, numbers: Sequence[int] | None = None) -> list[Any]:
        """Return the rows of these runs, or of all that are new or under way."""
        from dagster._core.storage.runs.schema import RunsTable as table
        from sqlalchemy import or_, select

        columns = (table.c.id, table.c.run_id, table.c.pipeline_name, table.c.status, table.c.partition,
                   table.c.create_timestamp, table.c.start_time, table.c.end_time)  # fmt: skip
        wanted = or_(table.c.id > self._low, table.c.status.in_(ACTIVE)) if numbers is None else table.c.id.in_(numbers)
        with self._instance.run_storage.connect() as connection:
            return list(connection.execute(select(*columns).where(wanted)))

    def _load(self) -> None:
        """Go on from the stored totals; without any, from the newest runs and the counts of those before."""
        stored = json.loads(self._instance.run_storage.get_cursor_values({KEY}).get(KEY) or "{}")
        if stored.get("format") == _FORMAT:
            self._snapshot.totals = Totals.from_json(stored["totals"])
            self._low, self._counted, self._open = stored["low"], set(stored["counted"]), set(stored["open"])
        else:
            self._snapshot.totals = Totals.fresh()
            self._low = self._count_history()
        self._loaded = True

    def _count_history(self) -> int:
        from dagster._core.storage.runs.schema import RunsTable as table
        from sqlalchemy import func, select

        with self._instance.run_storage.connect() as connection:
            newest = connection.execute(select(func.max(table.c.id))).scalar() or 0
            below = max(0, newest - _HISTORY)
            ended = (table.c.id <= below, table.c.status.in_(list(ENDED)))
            groups = select(table.c.pipeline_name, table.c.status, func.count()).where(*ended)
            for job, status, number in connection.execute(groups.group_by(table.c.pipeline_name, table.c.status)):
                self._snapshot.totals.add("cqox_runs_total", job, ENDED[status], by=number)
        return below

    def _save(self) -> None:
        """Keep the totals in the store, unless another process has counted further."""
        if not self._changed or time.monotonic() - self._saved_at < _SAVE_SECONDS:
            return
        storage = self._instance.run_storage
        stored = json.loads(storage.get_cursor_values({KEY}).get(KEY) or "{}")
        mine = (self._low, len(self._counted), -len(self._open))
        other = (stored.get("low", -1), len(stored.get("counted", ())), -len(stored.get("open", ())))
        if mine >= other:
            value = {
                "format": _FORMAT, "low": self._low, "counted": sorted(self._counted), "open": sorted(self._open),
                "totals": self._snapshot.totals.to_json(),
            }  # fmt: skip
            storage.set_cursor_values({KEY: json.dumps(value)})
        self._changed, self._saved_at = False, time.monotonic()


def _run(row: Any) -> EndedRun:
    return EndedRun(
        row.id, row.run_id, row.pipeline_name, row.status, row.partition,
        _seconds(row.create_timestamp), row.start_time, row.end_time,
    )  # fmt: skip


def _seconds(naive: datetime) -> float:
    """Return Unix seconds; Dagster stores times without a zone, in UTC."""
    return naive.replace(tzinfo=UTC).timestamp()
