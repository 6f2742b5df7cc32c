"""Backup and restore: ``python -m dagster_deploy.production.backup COMMAND``; docs/runbook.md says when to use it."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from dagster_deploy.production.backup import dumps, log
from dagster_deploy.production.backup.expire import expire
from dagster_deploy.production.backup.keep import is_alive, keep
from dagster_deploy.production.backup.places import BackupError, Places, names


def main() -> None:
    """Do what the command line says; exit code 1 with one sentence when it cannot be done."""
    options = _parser().parse_args()
    if options.command == "alive":
        raise SystemExit(0 if is_alive(options.alive) else "no word of the keeper for ten minutes")
    places = Places.from_env(getattr(options, "host", None))
    try:
        for line in _do(options, places):
            print(line, flush=True)
    except BackupError as error:
        raise SystemExit(str(error)) from error


def _do(options: argparse.Namespace, places: Places) -> list[str]:
    match options.command:
        case "dump":
            return [f"dump {dumps.dump(places)} is in {places.store}"]
        case "restore":
            rows = dumps.restore(places, options.name)
            return [f"restored {len(rows)} tables with {sum(rows.values())} rows, all that were dumped"]
        case "base":
            return [f"base backup {log.take_base(places).name} is in {places.store}"]
        case "ship":
            return [f"shipped {len(log.ship(places.store, options.archive))} segments"]
        case "recover":
            if options.archive:  # what the server archived and nobody has shipped yet
                log.ship(places.store, options.archive)
            base = log.recover(places.store, options.into, options.until, options.stopped)
            return [f"{options.into} holds base {base.name}; start Postgres there, and it recovers and opens"]
        case "expire":
            return expire(places, datetime.now(UTC), options.dry_run)
        case "list":
            found = [f"dump {name}" for name in names(places.store / "dumps", ".json")]
            return [
                *found,
                *(f"base {base.name}, any moment since {base.finished}" for base in log.bases(places.store)),
            ]
    keep(places, options.archive, options.alive)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"found '{text}'; expected a moment with its zone: 2026-01-31T14:00:00+00:00")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.production.backup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is")
    commands.add_parser("dump", help="dump the database")
    restore = commands.add_parser("restore", help="put a dump into an empty database and compare the rows")
    restore.add_argument("name", nargs="?", help="of the dump; the newest by default")
    recover = commands.add_parser("recover", help="lay out a data directory that recovers to a moment")
    recover.add_argument("--into", type=Path, required=True, help="the data directory; what is there is moved aside")
    recover.add_argument("--until", type=_moment, help="a moment with its zone; the end of the log by default")
    recover.add_argument("--archive", type=Path, help="ship what is left in the server's archive first")
    recover.add_argument("--stopped", action="store_true", help="no server runs there, whatever postmaster.pid says")
    gone = commands.add_parser("expire", help="remove what is too old")
    gone.add_argument("--dry-run", action="store_true", help="only say what would go")
    base, ship = (
        commands.add_parser("base", help="take a base backup"),
        commands.add_parser("ship", help="ship the log"),
    )
    keeper = commands.add_parser("keep", help="ship the log and take a base a day, beside the server, for ever")
    alive = commands.add_parser("alive", help="whether `keep` did something lately")
    for command in (base, keeper):
        command.add_argument("--host", help="of the server, instead of that of CQOX_POSTGRES_URL")
    for command in (ship, keeper):
        command.add_argument("--archive", type=Path, required=True, help="the folder that archive_command fills")
    for command in (keeper, alive):
        command.add_argument("--alive", type=Path, default=Path("/tmp/alive"), help="file that shows it is at work")
    return parser


if __name__ == "__main__":
    main()
