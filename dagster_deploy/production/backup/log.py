"""Base backups and the write-ahead log behind them: the database as it was at any moment since the oldest base."""

import gzip
import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from upath import UPath

from dagster_deploy.production.backup.places import BackupError, Places, connect, copy, names, program, stamp

_SEGMENT = re.compile(r"^[0-9A-F]{24}$")
_START = re.compile(rb"START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)")
_CONTROL = """
# Written by `python -m dagster_deploy.production.backup recover`.
restore_command = 'cp "{wal}/%f" "%p"'
recovery_target_action = 'promote'
{until}"""


@dataclass(frozen=True)
class Base:
    """A base backup: its name, the segment that its recovery begins with, and the moment after which it is whole."""

    name: str
    start: str
    finished: str

    @property
    def usable_from(self) -> datetime:
        """The first moment that can be recovered to."""
        return datetime.fromisoformat(self.finished)


def take_base(places: Places, progress: Callable[[], object] = lambda: None) -> Base:
    """Copy the running server's files to the store, with the log that makes them consistent."""
    name, folder = stamp(datetime.now(UTC)), places.store / "base"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.tar.gz"
    command = [program("pg_basebackup"), "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env={**os.environ, **places.libpq()}, stdout=subprocess.PIPE, stderr=said
        )  # fmt: skip
        assert process.stdout is not None
        with target.open("wb") as sink, gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=3) as packed:
            copy(process.stdout, packed, lambda _: progress())  # type: ignore[arg-type]
        if process.wait():
            said.seek(0)
            raise BackupError(f"pg_basebackup failed: {said.read().decode(errors='replace').strip()}")
    connection = connect(places)
    try:
        with connection.cursor() as cursor:
            cursor.execute("select clock_timestamp()")
            finished = cursor.fetchone()[0]
    finally:
        connection.close()
    base = Base(name, _start_of(target), finished.astimezone(UTC).isoformat())
    (folder / f"{name}.json").write_bytes(json.dumps(asdict(base)).encode())
    return base


def bases(store: UPath) -> list[Base]:
    """Return the complete base backups, oldest first."""
    folder = store / "base"
    return [Base(**json.loads((folder / f"{name}.json").read_bytes())) for name in names(folder, ".json")]


def ship(store: UPath, archive: Path) -> list[str]:
    """Move finished segments from the server's archive to the store; return their names."""
    folder, shipped = store / "wal", []
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(archive.iterdir()) if archive.is_dir() else []:
        if path.name.startswith(".") or not path.is_file():
            continue
        target, content = folder / f"{path.name}.gz", gzip.compress(path.read_bytes(), 6, mtime=0)
        if target.exists():
            if gzip.decompress(target.read_bytes()) != gzip.decompress(content):
                raise BackupError(
                    f"{target} is there with other content: two servers ship to one place; give each its CQOX_BACKUPS"
                )
        else:
            _put(target, content)
        path.unlink()
        shipped.append(path.name)
    return shipped


def recover(store: UPath, into: Path, until: datetime | None = None, stopped: bool = False) -> Base:
    """Lay out the files of a server that will recover, when it is started, to a moment or to the end of the log.

    Parameters
    ----------
    store : UPath
        Of the backups.
    into : Path
        The server's data directory. What is there is moved aside, never removed.
    until : datetime, optional
        With its time zone.
    stopped : bool
        The caller knows that no server runs there, whatever `postmaster.pid` says.
    """
    if (into / "postmaster.pid").exists() and not stopped:
        raise BackupError(f"{into}/postmaster.pid is there: stop that server first, or say --stopped if none runs")
    base = _base_for(store, until)
    segments = _segments(store, base)
    now = stamp(datetime.now(UTC))
    if into.exists():
        into.rename(into.with_name(f"{into.name}.before-{now}"))
    into.mkdir(mode=0o700, parents=True)
    with (
        (store / "base" / f"{base.name}.tar.gz").open("rb") as packed,
        tarfile.open(fileobj=packed, mode="r|gz") as archive,
    ):
        archive.extractall(into, filter="data")
    into.chmod(0o700)
    wal = into.with_name(f"{into.name}.wal-{now}")
    wal.mkdir(mode=0o700)
    for name in segments:
        (wal / name).write_bytes(gzip.decompress((store / "wal" / f"{name}.gz").read_bytes()))
    moment = "" if until is None else f"recovery_target_time = '{until.astimezone(UTC).isoformat(sep=' ')}'\n"
    with (into / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write(_CONTROL.format(wal=wal, until=moment))
    (into / "recovery.signal").touch()
    return base


def _base_for(store: UPath, until: datetime | None) -> Base:
    found = bases(store)
    fit = [base for base in found if until is None or base.usable_from <= until]
    if not fit:
        oldest = f"the oldest moment is {found[0].finished}" if found else "there is none"
        raise BackupError(f"no base backup in {store} is older than {until or 'now'}: {oldest}")
    return fit[-1]


def _segments(store: UPath, base: Base) -> list[str]:
    """Return the log since a base, having made sure that nothing is missing in the middle."""
    known = names(store / "wal", ".gz")
    since = [name for name in known if not _SEGMENT.match(name[:24]) or name[8:24] >= base.start[8:]]
    numbers = sorted({_number(name) for name in since if _SEGMENT.match(name)})
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)) if numbers else []
    if missing:
        raise BackupError(f"{len(missing)} segments of the log are missing in {store}/wal, the first one after "
                          f"{_name_before(since, missing[0])}; recover to a moment before it")  # fmt: skip
    return since


def _number(segment: str) -> int:
    """Return the place of a segment in the log, whatever its timeline: 256 segments of 16 MB to a log file."""
    return int(segment[8:16], 16) * 256 + int(segment[16:], 16)


def _name_before(segments: list[str], number: int) -> str:
    return max(name for name in segments if _SEGMENT.match(name) and _number(name) < number)


def _start_of(target: UPath) -> str:
    """Return the segment that a base begins with, as its label says; reading it shows that the archive can be read."""
    with target.open("rb") as packed, tarfile.open(fileobj=packed, mode="r|gz") as archive:
        for member in archive:
            if member.name.lstrip("./") == "backup_label":
                file = archive.extractfile(member)
                found = _START.search(file.read()) if file else None
                if found:
                    return found.group(1).decode()
    raise BackupError(f"{target} has no backup_label; it is no base backup")


def _put(target: UPath, content: bytes) -> None:
    """Write a file in one step: object stores do that by themselves."""
    if target.protocol not in ("", "file", "local"):
        target.write_bytes(content)
        return
    part = Path(str(target)).with_name(f".{target.name}.part")
    part.write_bytes(content)
    part.replace(Path(str(target)))
