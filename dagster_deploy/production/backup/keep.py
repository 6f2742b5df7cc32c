"""What runs beside a Postgres server: ships its log, takes a base a day, and forgets what is too old."""

import json
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from dagster_deploy.production.backup.expire import expire
from dagster_deploy.production.backup.log import bases, ship, take_base
from dagster_deploy.production.backup.places import BackupError, Places

EVERY_SECONDS = 20.0
BASE_EVERY = timedelta(days=1)
#: Older than this, the file that `keep` touches says that it hangs.
ALIVE_SECONDS = 600.0


def once(places: Places, archive: Path, alive: Path, now: datetime) -> None:
    """Do what is due."""
    alive.touch()
    for name in ship(places.store, archive):
        _say("shipped", segment=name)
    known = bases(places.store)
    if not known or known[-1].usable_from < now - BASE_EVERY:
        _say("base", name=take_base(places, alive.touch).name)
        for path in expire(places, now):
            _say("expired", path=path)
    alive.touch()


def keep(places: Places, archive: Path, alive: Path) -> NoReturn:
    """Do what is due until told to stop; what fails is said and tried again."""
    # The first process of a container has no handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            once(places, archive, alive, datetime.now(UTC))
        except (BackupError, OSError) as error:
            _say("failed", error=str(error))
        except Exception as error:  # a database that is away raises its driver's own errors
            _say("failed", error=f"{type(error).__name__}: {error}")
        time.sleep(EVERY_SECONDS)


def is_alive(alive: Path) -> bool:
    """Whether `keep` did something lately."""
    return alive.exists() and time.time() - alive.stat().st_mtime < ALIVE_SECONDS


def _say(event: str, **facts: str) -> None:
    print(json.dumps({"time": datetime.now(UTC).isoformat(), "event": event, **facts}), flush=True)
