"""Removes backups that are older than they must be, and never the last one."""

from datetime import datetime, timedelta

from dagster_deploy.production.backup.log import bases
from dagster_deploy.production.backup.places import Places, moment, names

DUMP_DAYS = 30
BASE_DAYS = 14


def expire(places: Places, now: datetime, dry_run: bool = False) -> list[str]:
    """Remove dumps after 30 days, bases after 14, and the log that no base is left to need; return what went."""
    store, gone = places.store, []
    dumps = names(store / "dumps", ".json")
    for name in dumps[:-1]:
        if moment(name) < now - timedelta(days=DUMP_DAYS):
            # The facts go first: what is left of an interruption is no dump any more.
            gone += [f"dumps/{name}.json", f"dumps/{name}.dump"]
    found = bases(store)
    old = [base for base in found[:-1] if base.usable_from < now - timedelta(days=BASE_DAYS)]
    for base in old:
        gone += [f"base/{base.name}.json", f"base/{base.name}.tar.gz"]
    if found:
        first = found[len(old)].start[8:]
        gone += [f"wal/{name}.gz" for name in names(store / "wal", ".gz")
                 if len(name) >= 24 and name[8:24] < first]  # fmt: skip
    if not dry_run:
        for path in gone:
            (store / path).unlink(missing_ok=True)
    return gone
