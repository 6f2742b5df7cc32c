"""DuckDB over a warehouse: the star as tables, and views over the Parquet files that current manifests name.

A table is filled, and the views of a schema are made, when a statement first names them, so opening costs nothing and
an object store is asked only for what is wanted. Files of an object store are read through its fsspec file system: no
extension of DuckDB is needed.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cqox_assets.errors import StorageError
from dagster_deploy.warehouse.star import BY_NAME, TABLES, Table
from dagster_deploy.warehouse.stored import Stored, Warehouse, first_line, in_threads

_TYPES = {"text": "VARCHAR", "double precision": "DOUBLE", "bigint": "BIGINT", "boolean": "BOOLEAN", "date": "DATE",
          "timestamptz": "TIMESTAMP", "jsonb": "JSON"}  # fmt: skip
# Columns that say where a row of a stored table comes from; no column of a user's data begins with `cqox_`.
PLACE = ("cqox_domain", "cqox_period", "cqox_asset", "cqox_frame")


@dataclass(frozen=True)
class Schema:
    """Views over one stage's frames; `view_of` names the view of a result's frame, None where it is not shown."""

    stage: str
    comment: str
    view_of: Callable[[Stored, str], str | None]


SCHEMAS: Mapping[str, Schema] = {
    "raw": Schema(
        "ingestion", "Delivered rows, a view per domain", lambda item, name: _rows_of(item, name, "raw_table")
    ),
    "study": Schema(
        "gates", "Rows of the analysed study, a view per domain", lambda item, name: _rows_of(item, name, "gated_study")
    ),
    "gates": Schema(
        "gates", "Tables of the data diagnostics", lambda item, name: name if item.asset == "data_diagnostics" else None
    ),
    "nuisance": Schema("nuisance", "Cross-fitted predictions by arm", lambda item, name: "predictions"),
    "estimates": Schema(
        "estimates", "Tables of the estimators: cqox_asset names the estimator", lambda item, name: name
    ),
    "sensitivity": Schema(
        "sensitivity", "Tables of the answers: cqox_frame names the estimator", lambda item, name: item.asset
    ),
    "synthesis": Schema("synthesis", "Tables of the summaries", lambda item, name: name),
    "figures": Schema("figures", "What each figure drew", lambda item, name: item.asset),
}


def _rows_of(item: Stored, name: str, asset: str) -> str | None:
    return item.domain if item.asset == asset and name == "rows" else None


class Tables:
    """An in-memory DuckDB over a warehouse.

    Parameters
    ----------
    warehouse : Warehouse
    """

    def __init__(self, warehouse: Warehouse) -> None:
        import duckdb

        # Nothing is fetched from the network: what this needs is in the package.
        settings = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        self._warehouse, self._made = warehouse, set[str]()
        self.connection = duckdb.connect(config=settings)
        # Statements are looked through where nothing exists, so that the names in them come back as they are written.
        self._empty = duckdb.connect(config=settings)
        if warehouse.root.protocol not in ("", "file", "local"):
            self.connection.register_filesystem(warehouse.root.fs)
        for name in SCHEMAS:
            self.connection.execute(f"CREATE SCHEMA {name}")

    def __enter__(self) -> "Tables":
        return self

    def __exit__(self, *_: object) -> None:
        self._empty.close()
        self.connection.close()

    def run(self, text: str) -> Iterator[Any]:
        """Run statements and yield the result of each, as a DuckDB relation or None.

        Raises
        ------
        StorageError
            If a statement cannot be run; the message is DuckDB's.
        """
        import duckdb

        try:
            for statement in self.connection.extract_statements(text):
                self._provide(self._empty.get_table_names(statement.query, qualified=True))
                yield self.connection.sql(statement.query)
        except duckdb.Error as error:
            raise StorageError(str(error).strip()) from error

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Return the rows of the last statement."""
        rows: list[tuple[Any, ...]] = []
        for relation in self.run(text):
            rows = [] if relation is None else relation.fetchall()
        return rows

    def views(self) -> list[tuple[str, str]]:
        """Return every table and view with what it holds; this makes them all."""
        self._provide([table.name for table in TABLES] + [f"{schema}.x" for schema in SCHEMAS])
        said = {table.name: table.comment for table in TABLES}
        found = self.connection.execute(
            "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        return [*said.items(), *((f'{schema}."{name}"', SCHEMAS[schema].comment) for schema, name in found)]

    def _provide(self, names: Iterable[str]) -> None:
        """Make the tables and schemas that are named and were not made yet."""
        for name in names:
            *place, table = name.split(" AS ")[0].replace('"', "").split(".")
            schema = place[-1] if place else "main"
            made = table if schema == "main" else f"{schema}."
            if made in self._made:
                continue
            if schema == "main" and table in BY_NAME:
                self._fill(BY_NAME[table])
            elif schema in SCHEMAS:
                self._make_views(schema)
            self._made.add(made)

    def _fill(self, table: Table) -> None:
        import pyarrow as pa

        rows = [table.values(_plain(row)) for row in self._warehouse.rows(table.name)]
        kinds = {"text": pa.string(), "jsonb": pa.string(), "double precision": pa.float64(), "bigint": pa.int64(),
                 "boolean": pa.bool_(), "date": pa.date32(), "timestamptz": pa.timestamp("us", "UTC")}  # fmt: skip
        columns = list(zip(*rows, strict=True)) or [()] * len(table.columns)
        arrays = [pa.array(values, kinds[column.type]) for values, column in zip(columns, table.columns, strict=True)]
        held = pa.table(arrays, names=table.names)
        self.connection.register("cqox_held", held)
        definitions = ", ".join(
            f'CAST("{column.name}" AS {_TYPES[column.type]}) AS "{column.name}"' for column in table.columns
        )
        self.connection.execute(f"CREATE OR REPLACE TABLE main.{table.name} AS SELECT {definitions} FROM cqox_held")
        self.connection.unregister("cqox_held")
        self.connection.execute(f"COMMENT ON TABLE main.{table.name} IS {quoted(table.comment)}")
        for column in table.columns:
            self.connection.execute(f'COMMENT ON COLUMN main.{table.name}."{column.name}" IS {quoted(column.comment)}')

    def _make_views(self, schema: str) -> None:
        """Make the views of a schema: one over all files of a name, with the place of every row."""
        made = SCHEMAS[schema]
        files: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for item in self._warehouse.of_current_study([made.stage]):
            for name, file in item.frames():
                view = made.view_of(item, name)
                if view is not None:
                    files[view].append((file, item.domain, item.period, item.asset, name))
        flat = [file for group in files.values() for file, *_ in group]
        filled = dict(zip(flat, in_threads(self._has_columns, flat), strict=True))
        for view, group in files.items():
            rows = [row for row in group if filled[row[0]]]
            if rows:
                self.connection.execute(_view(schema, view, rows))
                self.connection.execute(f'COMMENT ON VIEW {schema}."{view}" IS {quoted(made.comment)}')

    def _has_columns(self, file: str) -> bool:
        """Whether a stored table has any; one without columns cannot be read by DuckDB."""
        import pyarrow.parquet as pq

        try:
            with self._warehouse.root.fs.open(file, "rb") as source:
                return len(pq.read_schema(source)) > 0
        except (OSError, ValueError) as error:
            raise StorageError(f"{file} cannot be read: {first_line(error)}; materialize its asset again") from error


def _view(schema: str, name: str, rows: Sequence[Sequence[str]]) -> str:
    """Return the statement that makes a view over files, each with its place."""
    listed = ", ".join(quoted(row[0]) for row in rows)
    places = ", ".join("(" + ", ".join(map(quoted, row)) + ")" for row in rows)
    return (
        f'CREATE OR REPLACE VIEW {schema}."{name}" AS SELECT {", ".join(f"place.{column}" for column in PLACE)}, '
        f"held.* EXCLUDE (cqox_file) FROM read_parquet([{listed}], union_by_name = true, filename = 'cqox_file') held "
        f"JOIN (VALUES {places}) place(cqox_file, {', '.join(PLACE)}) ON held.cqox_file = place.cqox_file"
    )


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with lists and mappings as JSON text."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
        for name, value in row.items()
    }
