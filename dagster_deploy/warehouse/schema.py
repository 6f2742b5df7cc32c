"""The star's schema in Postgres: created and migrated by whoever publishes; a hypertable where Timescale is there.

All rows can be published again from the warehouse, so a migration never has to carry them: columns that are new are
added, a table whose key or types changed is made anew, and everything is published again.
"""

import hashlib
from typing import Any

from cqox_assets.errors import StorageError
from dagster_deploy.warehouse.star import TABLES, VERSION, Table

SCHEMA = "cqox"
HYPERTABLE = "effect_history"
MODES = ("auto", "off", "require")
_VERSION_TABLE = f"{SCHEMA}.schema_version"


def create_table(table: Table) -> str:
    """Return the statement that creates a table."""
    lines = [f"{name(column.name)} {column.type}{' NOT NULL' if column.key else ''}" for column in table.columns]
    lines.append(f"PRIMARY KEY ({', '.join(map(name, table.key))})")
    # A hypertable may not be referred to and need not refer; its rows come from another asset than the cards.
    if table.name not in ("studies", HYPERTABLE):
        lines.append(f"FOREIGN KEY (domain, period) REFERENCES {SCHEMA}.studies (domain, period) ON DELETE CASCADE")
    return f"CREATE TABLE {SCHEMA}.{name(table.name)} ({', '.join(lines)})"


def comments(table: Table) -> list[str]:
    """Return the statements that say what a table and its columns mean."""
    place = f"{SCHEMA}.{name(table.name)}"
    said = [f"COMMENT ON TABLE {place} IS {literal(table.comment)}"]
    return said + [f"COMMENT ON COLUMN {place}.{name(item.name)} IS {literal(item.comment)}" for item in table.columns]


def digest() -> str:
    """Return a hash of all that the schema says: equal hashes need no migration."""
    text = "\n".join(line for table in TABLES for line in (create_table(table), *comments(table)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def migrate(cursor: Any) -> list[str]:
    """Bring the schema up to date inside the caller's transaction; return what was done, in words.

    Raises
    ------
    StorageError
        If a newer version of CQOx wrote the schema.
    """
    # Two publishers that start at once must not both create; the lock ends with the transaction.
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('cqox'), hashtext('schema'))")
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (_VERSION_TABLE,))
    held = None
    if cursor.fetchone()[0]:
        cursor.execute(f"SELECT version, digest FROM {_VERSION_TABLE}")
        held = cursor.fetchone()
    if held == (VERSION, digest()):
        return []
    if held is not None and held[0] > VERSION:
        raise StorageError(
            f"schema '{SCHEMA}' of the BI database has version {held[0]}, and this version of CQOx writes {VERSION}; "
            "publish with the newer version, or drop the schema to start again"
        )
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    cursor.execute(f"CREATE TABLE IF NOT EXISTS {_VERSION_TABLE} (version integer NOT NULL, digest text NOT NULL)")
    done = [sentence for table in TABLES for sentence in _bring_up(cursor, table)]
    cursor.execute(f"UPDATE {SCHEMA}.studies SET document = NULL")  # so that every partition is published again
    cursor.execute(f"DELETE FROM {_VERSION_TABLE}")
    cursor.execute(f"INSERT INTO {_VERSION_TABLE} VALUES (%s, %s)", (VERSION, digest()))
    return done


def _bring_up(cursor: Any, table: Table) -> list[str]:
    place, done = f"{SCHEMA}.{name(table.name)}", []
    held = _columns(cursor, table.name)
    wanted = {column.name: column.type for column in table.columns}
    if not held:
        cursor.execute(create_table(table))
        done.append(f"created {place}")
    elif _key(cursor, table.name) != set(table.key) or any(
        held.get(each, kind) != kind for each, kind in wanted.items()
    ):
        _make_anew(cursor, table)
        done.append(f"made {place} anew: its key or a type changed")
    else:
        for column in (column for column in table.columns if column.name not in held):
            cursor.execute(f"ALTER TABLE {place} ADD COLUMN {name(column.name)} {column.type}")
            done.append(f"added {place}.{column.name}")
    for statement in comments(table):
        cursor.execute(statement)
    return done


def _make_anew(cursor: Any, table: Table) -> None:
    """Drop and create a table. What refers to `studies` by key is ours and is told again; a user's view is not."""
    import psycopg2

    names = [other.name for other in TABLES[1:]] if table.name == "studies" else []
    try:
        for each in (*names, table.name):
            cursor.execute(f"DROP TABLE IF EXISTS {SCHEMA}.{name(each)}")
    except psycopg2.errors.DependentObjectsStillExist as error:
        raise StorageError(
            f"{SCHEMA}.{table.name} must be made anew and something of yours depends on it "
            f"({str(error.diag.message_detail).splitlines()[0]}); drop that, publish, and create it again"
        ) from error
    cursor.execute(create_table(table))


def _columns(cursor: Any, table: str) -> dict[str, str]:
    cursor.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (f"{SCHEMA}.{name(table)}",),
    )
    return {each: kind.replace("timestamp with time zone", "timestamptz") for each, kind in cursor.fetchall()}


def _key(cursor: Any, table: str) -> set[str]:
    cursor.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
        "WHERE i.indisprimary AND i.indrelid = to_regclass(%s)",
        (f"{SCHEMA}.{name(table)}",),
    )
    return {row[0] for row in cursor.fetchall()}


def hypertable(cursor: Any, mode: str) -> str:
    """Make the effect history a hypertable where Timescale is there; return what it is, in words.

    Parameters
    ----------
    cursor : cursor
        Of the caller's transaction.
    mode : str
        `auto`: if the extension is there; `require`: or an error; `off`: never.

    Raises
    ------
    StorageError
        If it is required and not there.
    """
    place = f"{SCHEMA}.{HYPERTABLE}"
    if mode == "off":
        return f"{place} is a plain table: Timescale was not asked for"
    cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    if cursor.fetchone() is None:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'")
        there = cursor.fetchone() is not None
        why = (
            "the extension timescaledb is on this server but not in this database; an administrator runs "
            "CREATE EXTENSION timescaledb, then publish again"
            if there
            else "the extension timescaledb is not on this server"
        )
        if mode == "require":
            raise StorageError(f"{place} cannot be a hypertable: {why}")
        return f"{place} is a plain table: {why}"
    cursor.execute(
        "SELECT 1 FROM timescaledb_information.hypertables WHERE hypertable_schema = %s AND hypertable_name = %s",
        (SCHEMA, HYPERTABLE),
    )
    if cursor.fetchone() is None:
        cursor.execute(
            "SELECT create_hypertable(%s, 'period_start', chunk_time_interval => INTERVAL '1 year', "
            "migrate_data => true)",
            (place,),
        )
    return f"{place} is a hypertable by period_start, a chunk per year"


def name(text: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
