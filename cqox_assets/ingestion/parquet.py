"""Parquet files: the types are kept as far as the analysis knows them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.dates import STAMP
from cqox_assets.ingestion.dialect import name_columns
from cqox_assets.ingestion.numbers import DIGITS
from cqox_assets.ingestion.opened import Opened, refuse_duplicates
from cqox_assets.ingestion.sources import Source

_ROWS = 65_536


def open_parquet(source: Source) -> Opened:
    """Open a Parquet file on disk.

    Raises
    ------
    IngestionError
        If it is truncated or damaged, or column names repeat.
    """
    path = source.path
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4))
        tail = stream.read(4)
    if tail != b"PAR1":
        raise IngestionError(
            f"{source.name} is a truncated Parquet file: its end is missing; deliver it again", code="truncated_parquet"
        )
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _damaged(source, error) from error
    names, blank, notices = name_columns([str(name) for name in schema.names])
    refuse_duplicates(source.name, names)
    nested = [name for name, kind in zip(names, schema.types, strict=True) if pa.types.is_nested(kind)]
    zoned = [
        name
        for name, kind in zip(names, schema.types, strict=True)
        if pa.types.is_timestamp(kind) and kind.tz is not None
    ]
    if nested:
        notices = (*notices, f"nested values became JSON texts in {', '.join(nested)}")
    if zoned:
        notices = (*notices, f"times were converted to UTC in {', '.join(zoned)}")
    return Opened(
        "parquet", None, None, lambda: _batches(source, path, names), frozenset(names[i] for i in blank), notices
    )


def _damaged(source: Source, error: BaseException) -> IngestionError:
    reason = str(error).split("\n")[0][:200]
    return IngestionError(
        f"{source.name} is a damaged Parquet file ({reason}); deliver it again", code="damaged_parquet"
    )


def _batches(source: Source, path: Path, names: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                batch.validate(full=True)
                yield pa.RecordBatch.from_arrays([plain(column) for column in batch.columns], names=list(names))
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _damaged(source, error) from error


def plain(values: pa.Array) -> pa.Array:
    """Bring any Arrow array to int64, float64, bool, a timestamp without zone, or text, without losing a digit."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return plain(values.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return values
    if pa.types.is_uint64(kind):
        ends = pc.min_max(values)["max"].as_py()
        return pc.cast(values, pa.int64() if ends is None or ends < 2**63 else pa.string())
    if pa.types.is_integer(kind):
        return pc.cast(values, pa.int64())
    if pa.types.is_floating(kind):
        wide = pc.cast(values, pa.float64())
        return pc.if_else(pc.is_nan(wide), pa.scalar(None, pa.float64()), wide)
    if pa.types.is_decimal(kind):
        return _plain_decimal(values)
    if pa.types.is_timestamp(kind):
        unit = "ns" if kind.unit == "ns" else "us"
        return pc.cast(values, pa.timestamp(unit))
    if pa.types.is_date(kind):
        return pc.cast(pc.cast(values, pa.timestamp("ms")), STAMP)
    if pa.types.is_nested(kind):
        texts = [
            None if item is None else json.dumps(item, default=str, ensure_ascii=False) for item in values.to_pylist()
        ]
        return pa.array(texts, pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        try:
            return pc.cast(pc.cast(values, pa.binary()), pa.string())
        except pa.ArrowInvalid:
            return pa.array([None if item is None else item.hex() for item in values.to_pylist()], pa.string())
    try:
        return pc.cast(values, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return pa.array([None if item is None else str(item) for item in values.to_pylist()], pa.string())


def _plain_decimal(values: pa.Array) -> pa.Array:
    if values.type.precision <= 18 and values.type.scale <= 0:
        return pc.cast(values, pa.int64())
    if values.type.precision <= DIGITS - 2:
        return pc.cast(values, pa.float64())
    return pc.cast(values, pa.string())
