"""Removes what is older than it must be: ``python -m dagster_deploy.production.retention [--dry-run]``.

Log lines of runs after 30 days, notebooks after 90, backups as `backup.expire` says. Runs, their steps, their
materialisations, checks and results stay: they are the history. A notebook can be written again from the stored results
by materialising `decisions/notebook`. Ticks of sensors and schedules are removed by the daemon, as dagster.yaml says.
"""

import argparse
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from upath import UPath

LOG_DAYS = 30
NOTEBOOK_DAYS = 90
_BATCH = 10_000
#: Events that only say how a step went about its work; lines that a program logged have no type at all.
_TALK = (
    "ENGINE_EVENT", "LOGS_CAPTURED", "RESOURCE_INIT_STARTED", "RESOURCE_INIT_SUCCESS", "STEP_WORKER_STARTING",
    "STEP_WORKER_STARTED", "HANDLED_OUTPUT", "LOADED_INPUT", "OBJECT_STORE_OPERATION",
)  # fmt: skip
_OLD = "from event_logs where timestamp < %s and (dagster_event_type is null or dagster_event_type = any(%s))"
_DELETE = f"delete from event_logs where id in (select id {_OLD} order by id limit %s)"
_COUNT = f"select count(*) {_OLD}"


def purge_log_lines(url: str, before: datetime, dry_run: bool = False) -> int:
    """Remove log lines of runs that are older, a batch at a time so that no run waits; return how many."""
    import psycopg2

    gone: int = 0
    limits = (before.astimezone(UTC).replace(tzinfo=None), list(_TALK))
    connection = psycopg2.connect(url.replace("+psycopg2", "", 1), application_name="cqox-retention")
    try:
        with connection.cursor() as cursor:
            if dry_run:
                cursor.execute(_COUNT, limits)
                return int(cursor.fetchone()[0])
            while True:
                cursor.execute(_DELETE, (*limits, _BATCH))
                connection.commit()
                gone += cursor.rowcount
                if cursor.rowcount < _BATCH:
                    return gone
    finally:
        connection.close()


def old_notebooks(reports: UPath, before: datetime) -> Iterator[UPath]:
    """Yield the notebooks of the report store that were written before a moment."""
    if not reports.is_dir():
        return
    for path in reports.glob("*/*/*.ipynb"):
        if path.fs.modified(path.path).astimezone(UTC) < before:
            yield path


def purge_notebooks(reports: UPath, before: datetime, dry_run: bool = False) -> int:
    """Remove notebooks that are older; return how many."""
    found = list(old_notebooks(reports, before))
    for path in [] if dry_run else found:
        path.unlink(missing_ok=True)
    return len(found)


def old_files(folder: Path, before: datetime) -> Iterator[Path]:
    """Yield the files below a folder that were written before a moment."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file() and path.stat().st_mtime < before.timestamp():
            yield path


def purge_captured_output(now: datetime, dry_run: bool = False) -> int:
    """Remove what steps wrote to stdout and stderr, where this instance keeps that in files."""
    folder = Path(os.environ.get("CQOX_HOME") or "/nowhere") / "compute_logs"
    found = list(old_files(folder, now - timedelta(days=LOG_DAYS)))
    for path in [] if dry_run else found:
        path.unlink(missing_ok=True)
    return len(found)


def main() -> None:
    """Remove everything whose time has come, and say how much of each there was."""
    from cqox_resources.settings import Settings
    from dagster_deploy.production.backup.expire import expire
    from dagster_deploy.production.backup.places import Places
    from dagster_deploy.production.check import require

    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.production.retention", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="only say how much would go")
    dry_run = parser.parse_args().dry_run
    require("run", 60)
    now, reports = datetime.now(UTC), Settings.from_env().reports
    lines = purge_log_lines(os.environ["CQOX_POSTGRES_URL"], now - timedelta(days=LOG_DAYS), dry_run)
    notebooks = purge_notebooks(reports, now - timedelta(days=NOTEBOOK_DAYS), dry_run)
    output = purge_captured_output(now, dry_run)
    backups = expire(Places.from_env(), now, dry_run) if os.environ.get("CQOX_BACKUPS") else []
    verb = "would remove" if dry_run else "removed"
    logs = f"{lines} log lines and {output} files of output older than {LOG_DAYS} days"
    print(f"{verb} {logs}, {notebooks} notebooks older than {NOTEBOOK_DAYS} days, {len(backups)} files of old backups")


if __name__ == "__main__":
    main()
