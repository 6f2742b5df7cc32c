"""What every reader of a format hands over: batches of texts or typed values that can be read more than once."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.dates import STAMP
from cqox_assets.ingestion.numbers import EXACT


@dataclass(frozen=True)
class Opened:
    """A table inside a file, before its types are known.

    Parameters
    ----------
    format : str
        csv, tsv, delimited, json, jsonl, excel or parquet.
    encoding, delimiter : str or None
        None where the format has none.
    batches : callable
        Starts a fresh pass over the rows. Columns are texts (null for empty), or int64, float64, bool or timestamp.
    blank : frozenset of str
        Columns that had no name in the header; they are dropped if they are empty as well.
    """

    format: str
    encoding: str | None
    delimiter: str | None
    batches: Callable[[], Iterator[pa.RecordBatch]]
    blank: frozenset[str] = frozenset()
    notices: tuple[str, ...] = ()


class Digits(str):
    """A number as it was written, because no binary number holds all its digits."""


def refuse_duplicates(name: str, columns: Sequence[str]) -> None:
    """Refuse a table in which two columns have the same name."""
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise IngestionError(
                f"{name} has more than one column called '{column}'; give every column a name of its own",
                code="duplicate_columns",
            )
        seen.add(column)


def text_of(value: Any) -> str | None:
    """Write one value as text; None for a missing one."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return (
            None if math.isnan(value) else str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)
        )
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def array_of(values: Sequence[Any], *, whole: bool = False) -> pa.Array:
    """Turn the values of one column into an Arrow array without losing a digit.

    Parameters
    ----------
    values : sequence
        None, "" or NaN for missing; otherwise bool, int, float, str, date, datetime, time, timedelta, list or dict.
    whole : bool
        Whether floats without a fraction are whole numbers, as in Excel, which knows only floats.
    """
    kinds = {type(value) for value in values if value is not None and value != ""}
    clean = [None if value == "" else value for value in values] if str in kinds or "" in values else values
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        return pa.array(clean, pa.bool_())
    if kinds <= {int, float}:
        numbers = [value for value in clean if value is not None]
        integral = all(
            isinstance(item, int) or (whole and item.is_integer() and abs(item) <= EXACT) for item in numbers
        )
        if integral and all(-(2**63) <= item < 2**63 for item in numbers):
            return pa.array([None if value is None else int(value) for value in clean], pa.int64())
        if not integral and all(isinstance(item, float) or -EXACT <= item <= EXACT for item in numbers):
            return pa.array(
                [None if value is None or value != value else float(value) for value in clean], pa.float64()
            )
    if kinds <= {date, datetime}:
        moments = [
            value if value is None or isinstance(value, datetime) else datetime(value.year, value.month, value.day)
            for value in clean
        ]
        return pa.array([None if value is None else value.replace(tzinfo=None) for value in moments], STAMP)
    if kinds == {timedelta}:
        return pa.array([None if value is None else value.total_seconds() / 86400 for value in clean], pa.float64())
    return pa.array([text_of(value) for value in values], pa.string())
