"""Publish the star to Postgres: one transaction per domain, by key, so that BI tools see the old rows or the new ones.

A partition is written when the hash of its card differs from the one that was published. Rows are inserted, updated
where a value differs, and removed where the partition has them no longer; other partitions are not touched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cqox_assets.errors import StorageError
from dagster_deploy.warehouse.rows import Row
from dagster_deploy.warehouse.schema import SCHEMA, hypertable, migrate, name
from dagster_deploy.warehouse.star import BY_NAME, TABLES, Table
from dagster_deploy.warehouse.stored import Warehouse, first_line

VARIABLE = "CQOX_BI_POSTGRES_URL"
_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")
_FORM = "postgresql://user:password@host:5432/database"


@dataclass
class Published:
    """What publishing a domain did."""

    domain: str
    periods: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    inserted: int = 0
    updated: int = 0
    removed: int = 0

    def sentence(self) -> str:
        """Return it in words."""
        return (
            f"{self.domain}: {len(self.periods)} partitions published, {len(self.unchanged)} unchanged; "
            f"{self.inserted} rows inserted, {self.updated} updated, {self.removed} removed"
        )


def checked_url(url: str | None) -> str:
    """Return a database's URL as psycopg2 reads it.

    Raises
    ------
    StorageError
        If it is missing or no URL of a Postgres database; the message never shows its password.
    """
    if not url:
        raise StorageError(f"{VARIABLE} is not set; name the database for BI tools: {_FORM}", code="bad_setting")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in _SCHEMES and bool(parts.path.strip("/")) and (parts.port or 5432) > 0
    except ValueError:  # a port that is no number
        whole = False
    if not whole:
        raise StorageError(f"{VARIABLE} is '{shown(url)}'; expected {_FORM}", code="bad_setting")
    return url.replace("postgresql+psycopg2://", "postgresql://", 1)


def shown(url: str) -> str:
    """Return a URL without its sign-in, which holds a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else scheme.rpartition("@")[2]


class Publisher:
    """A connection to the database of BI tools, with its schema up to date.

    Parameters
    ----------
    url : str or None
        Of a Postgres database.
    timescale : str
        `auto`, `off` or `require`, see `schema.hypertable`.

    Raises
    ------
    StorageError
        If the URL is no good, the server does not let us in, or the schema cannot be made.
    """

    def __init__(self, url: str | None, timescale: str = "auto") -> None:
        import psycopg2

        place = checked_url(url)
        try:
            self._connection = psycopg2.connect(place, connect_timeout=10, application_name="cqox-publish")
        except psycopg2.Error as error:
            raise StorageError(f"{VARIABLE} is '{shown(place)}': {first_line(error)}", code="bad_setting") from error
        try:
            with self._connection, self._connection.cursor() as cursor:
                self.migrated = migrate(cursor)
                self.timescale = hypertable(cursor, timescale)
        except psycopg2.Error as error:
            self.close()
            raise StorageError(f"the schema '{SCHEMA}' cannot be made: {first_line(error)}") from error
        except StorageError:
            self.close()
            raise

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        self._connection.close()

    def publish(self, warehouse: Warehouse, domain: str, everything: bool = False) -> Published:
        """Publish one domain in one transaction.

        Parameters
        ----------
        warehouse : Warehouse
        domain : str
        everything : bool
            Write also the partitions whose card was published already.

        Raises
        ------
        StorageError
            If the database refuses; nothing of the domain was changed then.
        """
        import psycopg2

        done = Published(domain)
        try:
            with self._connection, self._connection.cursor() as cursor:
                # What is read under the lock is what is there now: a slower publisher never puts an older card back.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('cqox'), hashtext(%s))", (domain,))
                cursor.execute(f"SELECT period, document FROM {SCHEMA}.studies WHERE domain = %s", (domain,))
                held = dict(cursor.fetchall())
                for period in warehouse.periods(domain):
                    self._partition(cursor, warehouse, done, period, None if everything else held.get(period))
                history = warehouse.history(domain)
                if history:
                    whole = "domain = %s AND starts_with(period, %s)"
                    _put(cursor, BY_NAME["effect_history"], history, (whole, domain, warehouse.period), done)
        except psycopg2.Error as error:
            raise StorageError(f"{domain} was not published, nothing was changed: {first_line(error)}") from error
        return done

    @staticmethod
    def _partition(cursor: Any, warehouse: Warehouse, done: Published, period: str, held: str | None) -> None:
        domain = done.domain
        if held is not None and held == warehouse.card_hash(domain, period):
            done.unchanged.append(period)
            return
        card = warehouse.card(domain, period)
        if card is None:
            return
        for table in TABLES:
            if table.rows_of is not None:
                _put(cursor, table, table.rows_of(card), ("domain = %s AND period = %s", domain, period), done)
        _put(cursor, BY_NAME["assets"], warehouse.asset_rows(domain, period),
             ("domain = %s AND period = %s", domain, period), done)  # fmt: skip
        done.periods.append(period)


def _put(cursor: Any, table: Table, rows: Iterable[Row], scope: Sequence[str], done: Published) -> None:
    """Make the rows of a scope exactly these: stage them, remove those that are gone, insert or update the others."""
    from psycopg2.extras import Json, execute_values

    place, staged = f"{SCHEMA}.{name(table.name)}", name(f"staged_{table.name}")
    jsons = {column.name for column in table.columns if column.type == "jsonb"}
    columns, key = ", ".join(map(name, table.names)), ", ".join(map(name, table.key))
    values = [
        tuple(Json(value) if item in jsons and value is not None else _clean(value)
              for item, value in zip(table.names, table.values(row), strict=True))
        for row in rows
    ]  # fmt: skip
    cursor.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} (LIKE {place}) ON COMMIT DROP")
    cursor.execute(f"TRUNCATE {staged}")
    execute_values(cursor, f"INSERT INTO {staged} ({columns}) VALUES %s", values, page_size=500)
    same = " AND ".join(f"kept.{name(item)} = gone.{name(item)}" for item in table.key)
    cursor.execute(
        f"DELETE FROM {place} gone WHERE {scope[0]} AND NOT EXISTS (SELECT 1 FROM {staged} kept WHERE {same})",
        tuple(scope[1:]),
    )
    done.removed += cursor.rowcount
    others = [name(item) for item in table.names if item not in table.key]
    new, old = ", ".join(f"excluded.{item}" for item in others), ", ".join(f"held.{item}" for item in others)
    cursor.execute(
        f"INSERT INTO {place} AS held ({columns}) SELECT {columns} FROM {staged} "
        f"ON CONFLICT ({key}) DO UPDATE SET ({', '.join(others)}) = ROW ({new}) "
        f"WHERE ROW ({old}) IS DISTINCT FROM ROW ({new}) RETURNING held.xmax = 0"
    )
    fresh = [bool(row[0]) for row in cursor.fetchall()]
    done.inserted += sum(fresh)
    done.updated += len(fresh) - sum(fresh)


def _clean(value: Any) -> Any:
    """Return a text without the character that Postgres cannot hold."""
    return value.replace("\x00", "") if isinstance(value, str) else value
