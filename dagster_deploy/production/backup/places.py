"""Where backups are, which database they are of, and the programs that make them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from upath import UPath

_DEBIAN = "/usr/lib/postgresql"
_BLOCK = 1 << 20


class BackupError(Exception):
    """A backup that cannot be made or cannot be trusted; the message says what to do."""


@dataclass(frozen=True)
class Places:
    """A database and the folder or bucket of its backups.

    Parameters
    ----------
    url : str
        `CQOX_POSTGRES_URL`.
    store : UPath
        `CQOX_BACKUPS`: `dumps/`, `base/` and `wal/` are below it.
    host : str, optional
        Connect to this host instead: base backups are taken from the machine that the server is on.
    """

    url: str
    store: UPath
    host: str | None = None

    @classmethod
    def from_env(cls, host: str | None = None) -> "Places":
        """Read the two variables; one message and exit code 2 when they are missing or wrong."""
        from dagster_deploy.production.check import SETTINGS, without_password

        postgres = next(setting for setting in SETTINGS if setting.name == "CQOX_POSTGRES_URL")
        url, backups = os.environ.get(postgres.name) or "", os.environ.get("CQOX_BACKUPS") or ""
        wrong = []
        if not postgres.valid(url, os.environ):
            wrong.append(f"{postgres.name}: found '{without_password(url)}'; expected {postgres.expected}")
        if "://" not in backups and not Path(backups).is_absolute():
            wrong.append(f"CQOX_BACKUPS: found '{backups}'; expected s3://bucket/prefix or an absolute path")
        if wrong:
            print("CQOx cannot work on backups; set these and start it again:", file=sys.stderr)
            print("".join(f"  {sentence}\n" for sentence in wrong), end="", file=sys.stderr, flush=True)
            raise SystemExit(2)
        return cls(url, UPath(backups), host)

    def libpq(self) -> dict[str, str]:
        """Return the environment with which Postgres' programs, and psycopg2, reach the database."""
        from sqlalchemy.engine import make_url

        url = make_url(self.url)
        query = {name: value for name, value in url.query.items() if isinstance(value, str)}
        found = {
            "PGHOST": self.host or url.host or query.get("host"), "PGPORT": str(url.port or 5432),
            "PGUSER": url.username, "PGPASSWORD": url.password, "PGDATABASE": url.database,
            "PGSSLMODE": query.get("sslmode"), "PGSSLROOTCERT": query.get("sslrootcert"), "PGAPPNAME": "cqox-backup",
        }  # fmt: skip
        return {name: str(value) for name, value in found.items() if value}


def program(name: str) -> str:
    """Return the path of one of Postgres' programs: of the path, or the newest that Debian keeps."""
    found = sorted(Path(_DEBIAN).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise BackupError(f"{name} is not installed; on Debian: apt-get install postgresql-client")
    return path


def call(places: Places, name: str, *arguments: str) -> str:
    """Run one of Postgres' programs on the database and return what it says."""
    done = subprocess.run(
        [program(name), *arguments], env={**os.environ, **places.libpq()}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackupError(f"{name} failed: {done.stderr.strip()}")
    return done.stdout


def connect(places: Places):  # type: ignore[no-untyped-def]
    """Return a connection to the database."""
    import psycopg2

    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "dbname",
             "PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert"}  # fmt: skip
    found: Mapping[str, str] = places.libpq()
    return psycopg2.connect(**{names[key]: value for key, value in found.items() if key in names})


def stamp(moment: datetime) -> str:
    """Return a moment as names of backups have it: in UTC, sorted as text as in time."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%S%f")[:-3] + "Z"


def moment(text: str) -> datetime:
    """Return the moment of a name."""
    return datetime.strptime(text[:-1] + "000", "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)


def copy(source: IO[bytes], sink: IO[bytes], seen: Callable[[bytes], object] = lambda _: None) -> None:
    """Copy a stream block by block, each shown to somebody on the way."""
    while block := source.read(_BLOCK):
        seen(block)
        sink.write(block)


def names(folder: UPath, suffix: str) -> list[str]:
    """Return the names in a folder that end so, without the ending, oldest first; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path.name.removesuffix(suffix) for path in folder.iterdir() if path.name.endswith(suffix))
