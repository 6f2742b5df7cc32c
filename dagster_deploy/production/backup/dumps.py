"""Logical dumps: every table with its rows, counted in the same snapshot, so that a restore can prove it has all."""

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster_deploy.production.backup.places import BackupError, Places, call, connect, copy, names, stamp

_TABLES = """
select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables
where schemaname not in ('pg_catalog', 'information_schema') and schemaname not like 'pg\\_%' order by 1
"""


def dump(places: Places) -> str:
    """Dump the database and return the dump's name.

    The JSON beside the dump is written last and holds its hash and the rows of each table: a dump without it was
    interrupted, and nobody takes it for one.
    """
    name, folder = stamp(datetime.now(UTC)), places.store / "dumps"
    folder.mkdir(parents=True, exist_ok=True)
    connection = connect(places)
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor, tempfile.TemporaryDirectory(prefix="cqox-dump-") as scratch:
            cursor.execute("select pg_export_snapshot()")
            snapshot, file = cursor.fetchone()[0], Path(scratch) / "dump"
            rows = _rows(cursor)
            call(places, "pg_dump", "--format=custom", "--no-owner", "--no-acl", f"--snapshot={snapshot}",
                 f"--file={file}")  # fmt: skip
            call(places, "pg_restore", "--list", str(file))
            digest = hashlib.sha256()
            with file.open("rb") as source, (folder / f"{name}.dump").open("wb") as sink:
                copy(source, sink, digest.update)
            facts = {"sha256": digest.hexdigest(), "bytes": file.stat().st_size, "rows": rows}
    finally:
        connection.close()
    (folder / f"{name}.json").write_bytes(json.dumps(facts, indent=1).encode())
    return name


def restore(places: Places, name: str | None = None) -> dict[str, int]:
    """Put a dump, the newest by default, into the empty database; return the rows of each table, which were compared.

    Raises
    ------
    BackupError
        If there is no such dump, its bytes are not those that were written, the database is not empty, or what was
        restored is not what was dumped.
    """
    folder = places.store / "dumps"
    known = names(folder, ".json")
    if not known or (name is not None and name not in known):
        raise BackupError(f"no dump '{name or 'at all'}' in {folder}; there are: {', '.join(known) or 'none'}")
    name = name or known[-1]
    facts: dict[str, Any] = json.loads((folder / f"{name}.json").read_bytes())
    present = count(places)
    if present:
        raise BackupError(
            f"the database has {len(present)} tables already, such as {next(iter(present))}; create an empty one and "
            "name it in CQOX_POSTGRES_URL"
        )
    with tempfile.TemporaryDirectory(prefix="cqox-restore-") as scratch:
        file, digest = Path(scratch) / "dump", hashlib.sha256()
        with (folder / f"{name}.dump").open("rb") as source, file.open("wb") as sink:
            copy(source, sink, digest.update)
        if digest.hexdigest() != facts["sha256"]:
            raise BackupError(f"dump {name} is damaged: its hash is not the one that was written; take another one")
        call(places, "pg_restore", "--no-owner", "--no-acl", "--exit-on-error", "--single-transaction",
             f"--dbname={places.libpq()['PGDATABASE']}", str(file))  # fmt: skip
    restored = count(places)
    if restored != facts["rows"]:
        tables = {*restored, *facts["rows"]}
        wrong = [table for table in sorted(tables) if restored.get(table) != facts["rows"].get(table)]
        raise BackupError(f"what was restored of {name} is not what was dumped: {', '.join(wrong)}")
    return restored


def count(places: Places) -> dict[str, int]:
    """Return the rows of each table of the database."""
    connection = connect(places)
    try:
        with connection.cursor() as cursor:
            return _rows(cursor)
    finally:
        connection.close()


def _rows(cursor: Any) -> dict[str, int]:
    cursor.execute(_TABLES)
    tables = [table for (table,) in cursor.fetchall()]
    rows = {}
    for table in tables:
        cursor.execute(f"select count(*) from {table}")  # quoted by Postgres itself
        rows[table] = int(cursor.fetchone()[0])
    return rows
