"""Two passes over a file: the first judges every value of every column, the second writes typed Parquet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.columns import ColumnScan, Habits, habits_of, widen
from cqox_assets.ingestion.opened import Opened

SENTINELS = (-9, -99, -999, -9999, -99999, 99, 999, 9999, 99999, 999999)
_GROUP_BYTES = 32 << 20


@dataclass
class FileScan:
    """What the first pass over one file found."""

    name: str
    sha256: str
    opened: Opened
    columns: dict[str, ColumnScan] = field(default_factory=dict)
    rows: int = 0
    trailing: int = 0

    @property
    def habits(self) -> Habits:
        """How the file writes decimals and dates."""
        return habits_of(self.columns.values(), self.opened.delimiter)

    def own_types(self) -> dict[str, pa.DataType | None]:
        """Narrowest type of every column by this file alone; None for a column without values."""
        return {name: column.own_type(self.habits)[0] for name, column in self.columns.items()}


@dataclass
class Tally:
    """Range and counts of suspicious values of one numeric column."""

    counts: dict[int, int] = field(default_factory=dict)
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, values: pa.Array) -> None:
        """Look at one batch of numbers."""
        ends = pc.min_max(values).as_py()
        if ends["min"] is None:
            return
        if ends["min"] > SENTINELS[0] and ends["max"] < 99:
            self.low, self.high = min(self.low, ends["min"]), max(self.high, ends["max"])
            return
        marked = pc.is_in(values, pa.array(SENTINELS, values.type))
        for entry in pc.value_counts(values.filter(marked)).to_pylist():
            self.counts[int(entry["values"])] = self.counts.get(int(entry["values"]), 0) + entry["counts"]
        ends = pc.min_max(values.filter(pc.invert(marked))).as_py()
        if ends["min"] is not None:
            self.low, self.high = min(self.low, ends["min"]), max(self.high, ends["max"])

    def suspicious(self) -> dict[int, int]:
        """Return the values that stand apart from all others, as codes for missing values do."""
        found = {}
        for value, count in self.counts.items():
            below = value < 0 and (self.low >= 0 or value < 3 * self.low)
            above = value >= 999 and count > 1 and self.high < value / 3
            if self.low <= self.high and (below or above):
                found[value] = count
        return found


def scan_file(opened: Opened, name: str, sha256: str) -> FileScan:
    """Judge every value of a file.

    Raises
    ------
    IngestionError
        If the file cannot be read to its end, or holds no value.
    """
    scan = FileScan(name, sha256, opened)
    total = 0
    for batch in opened.batches():
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            scan.columns.setdefault(column, ColumnScan(column)).observe(values)
        filled = _last_filled(batch)
        if filled:
            scan.rows = total + filled
        total += batch.num_rows
    if not scan.rows:
        raise IngestionError(f"{name} has a header but no rows; deliver a file with rows", code="header_only")
    scan.trailing = total - scan.rows
    empty = [column for column in opened.blank if not scan.columns[column].present and not scan.columns[column].words]
    for column in empty:
        del scan.columns[column]
    return scan


def _last_filled(batch: pa.RecordBatch) -> int:
    """Return the number of rows up to the last one that has a value."""
    if not batch.num_rows:
        return 0
    if any(column[-1].is_valid for column in batch.columns):
        return int(batch.num_rows)
    filled = batch.columns[0].is_valid()
    for column in batch.columns[1:]:
        filled = pc.or_(filled, column.is_valid())
    places = pc.indices_nonzero(filled)
    return int(places[-1].as_py()) + 1 if len(places) else 0


def unify(scans: Sequence[FileScan]) -> pa.Schema:
    """Return the schema that holds the rows of all files (same columns) without losing a digit."""
    own = [scan.own_types() for scan in scans]
    fields = []
    for name in scans[0].columns:
        exact = all(scan.columns[name].is_exact(scan.habits) for scan in scans)
        kind = widen([types[name] for types in own], exact)
        fields.append(pa.field(name, pa.float64() if kind is None else kind))
    return pa.schema(fields)


def write(scans: Sequence[FileScan], schema: pa.Schema, path: Path) -> dict[str, Tally]:
    """Write the rows of all files as one Parquet file; returns what was seen of suspicious numbers."""
    tallies = {
        item.name: Tally() for item in schema if pa.types.is_integer(item.type) or pa.types.is_floating(item.type)
    }
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        held: list[pa.RecordBatch] = []
        size = 0
        for scan in scans:
            for batch in _typed(scan, schema):
                for name, tally in tallies.items():
                    tally.add(batch.column(name))
                held.append(batch)
                size += batch.nbytes
                if size > _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(held, schema))
                    held, size = [], 0
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))
    return tallies


def _typed(scan: FileScan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    left = scan.rows
    habits = scan.habits
    for batch in scan.opened.batches():
        batch = batch.slice(0, left)
        left -= batch.num_rows
        if not batch.num_rows:
            continue
        found: Mapping[str, pa.Array] = dict(zip(batch.schema.names, batch.columns, strict=True))
        arrays = [
            scan.columns[item.name].convert(found[item.name], item.type, habits)
            if item.name in found
            else pa.nulls(batch.num_rows, item.type)
            for item in schema
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
