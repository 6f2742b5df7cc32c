"""JSON documents and JSON lines."""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.numbers import DIGITS
from cqox_assets.ingestion.opened import Digits, Opened, array_of, refuse_duplicates
from cqox_assets.ingestion.sources import Source, amount
from cqox_assets.ingestion.text_stream import utf8_chunks

BLOCK = 8 << 20
LINE = 64 << 20
_START = re.compile(r"\[\s*([\[{\"\-\dtfn\]]|$)|\{\s*([\"}]|$)")
_LONG = re.compile(rb"[1-9](?:\.?\d){17,}|(?<![\d.])\d{16,}(?![\d.eE])")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_WRAPPERS = ("data", "records", "rows", "results", "items", "values")


def json_kind(head: str, complete: bool, suffix: str) -> str | None:
    """Return `json`, `jsonl` or None for a text that is not JSON, judged by its beginning."""
    start = head.lstrip()
    if not _START.match(start):
        return "json" if suffix == ".json" and "," not in start.split("\n")[0] else None
    if start.startswith("{"):
        line, _, rest = start.partition("\n")
        try:
            json.loads(line)
        except ValueError:
            return "jsonl" if suffix in (".jsonl", ".ndjson") else "json"
        return "jsonl" if rest.strip() or not complete else "json"
    return "json"


def _broken(name: str, where: str, what: str) -> IngestionError:
    return IngestionError(f"{name} is broken JSON, {where}: {what}; export it again", code="broken_json")


def _loads(text: str) -> Any:
    """Parse JSON; numbers that Python would round stay texts, repeated keys are refused."""
    return json.loads(text, parse_float=_decimal, parse_int=_whole, object_pairs_hook=_record)


def _decimal(text: str) -> float | Digits:
    mantissa = re.split("[eE]", text)[0]
    if len(mantissa) <= DIGITS or len(mantissa.replace(".", "").lstrip("-0").rstrip("0")) <= DIGITS:
        return float(text)
    return Digits(text)


def _whole(text: str) -> int | Digits:
    return int(text) if len(text) < 20 else Digits(text)


class _RepeatedKeyError(Exception):
    pass


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = sorted(key for key, _ in pairs)
        raise _RepeatedKeyError(next(one for one, other in pairwise(keys) if one == other))
    return record


def open_json(source: Source, encoding: str) -> Opened:
    """Open a JSON document: a list of records, a mapping of columns, or either under a key such as "data".

    Raises
    ------
    IngestionError
        If it is too large to be read as a whole, broken, or no table.
    """
    size = 0
    pieces = []
    for piece in utf8_chunks(source, encoding):
        size += len(piece)
        if size > source.limits.max_document_bytes:
            raise IngestionError(
                f"{source.name} is a JSON document of more than {amount(source.limits.max_document_bytes)}; "
                "deliver JSON lines (one record per line), CSV or Parquet instead",
                code="too_large",
            )
        pieces.append(piece)
    content = _parsed(source.name, b"".join(pieces).decode(), "")
    columns, notices = _columns(source.name, content)
    refuse_duplicates(source.name, [name.strip() for name in columns])
    batch = pa.RecordBatch.from_arrays(
        [array_of(values) for values in columns.values()], names=[name.strip() for name in columns]
    )
    return Opened("json", encoding, None, lambda: iter([batch]), notices=notices)


def _parsed(name: str, text: str, line: str) -> Any:
    try:
        return _loads(text)
    except json.JSONDecodeError as error:
        raise _broken(name, line or f"line {error.lineno}, column {error.colno}", error.msg) from error
    except _RepeatedKeyError as error:
        raise IngestionError(
            f"{name} has a record with more than one '{error}'; give every column a name of its own",
            code="duplicate_columns",
        ) from error
    except RecursionError as error:
        raise _broken(name, line or "line 1", "it is nested too deeply") from error


def _no_table(name: str, what: str) -> IngestionError:
    return IngestionError(
        f"{name} holds {what}, not a table; wanted is a list of records or a mapping of columns to lists",
        code="no_table",
    )


def _columns(name: str, content: Any) -> tuple[dict[str, list[Any]], tuple[str, ...]]:
    """Find the table in a JSON document and return its columns."""
    if isinstance(content, dict):
        if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):
            return _from_rows(name, content["data"], [str(column) for column in content["columns"]]), ()
        if content and all(isinstance(value, list) for value in content.values()) and not _wrapped(content):
            return _from_lists(name, content), ()
        if content and all(isinstance(value, dict) and value for value in content.values()):
            return _from_mappings(content), ()
        wrapped = _wrapped(content)
        if wrapped is not None:
            columns, notices = _columns(name, content[wrapped])
            return columns, (*notices, f"the table was found under the key '{wrapped}'")
        if content and not any(isinstance(value, list | dict) for value in content.values()):
            return _from_records([content]), ()
        raise _no_table(name, "a JSON object")
    if not isinstance(content, list):
        raise _no_table(name, "a single JSON value")
    if not content:
        raise IngestionError(f"{name} is an empty list; deliver a file with rows", code="header_only")
    if all(isinstance(item, dict) for item in content):
        return _from_records(content), ()
    if all(isinstance(item, list) for item in content) and all(isinstance(cell, str) for cell in content[0]):
        return _from_rows(name, content[1:], content[0]), ()
    raise _no_table(name, "a JSON list whose items are not all records")


def _wrapped(content: Mapping[str, Any]) -> str | None:
    """Return the key that holds the table, if exactly one can."""

    def is_table(value: Any) -> bool:
        items = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
        mapping = isinstance(value, dict) and value and all(isinstance(item, list | dict) for item in value.values())
        return bool(items or mapping)

    known = [key for key in _WRAPPERS if is_table(content.get(key))]
    found = known or [key for key, value in content.items() if is_table(value)]
    return found[0] if len(found) == 1 else None


def _from_records(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    return {name: [record.get(name) for record in records] for name in names}


def _from_lists(name: str, content: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    sizes = {column: len(values) for column, values in content.items()}
    longest = max(sizes.values())
    short = next((column for column, size in sizes.items() if size != longest), None)
    if short is not None:
        raise IngestionError(
            f"{name}: column '{short}' has {sizes[short]} values where others have {longest}; make them equally long",
            code="ragged_rows",
        )
    return dict(content)


def _from_mappings(content: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the columns of pandas' default layout: column -> row label -> value."""
    labels: dict[str, None] = {}
    for values in content.values():
        labels.update(dict.fromkeys(values))
    return {name: [values.get(label) for label in labels] for name, values in content.items()}


def _from_rows(name: str, rows: list[Any], header: list[str]) -> dict[str, list[Any]]:
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(header):
            found = len(row) if isinstance(row, list) else 1
            raise IngestionError(
                f"{name}, record {place}: found {found} fields, expected {len(header)}; repair it", code="ragged_rows"
            )
    refuse_duplicates(name, header)
    return {column: [row[place] for row in rows] for place, column in enumerate(header)}


def open_json_lines(source: Source, encoding: str) -> Opened:
    """Open JSON lines: one record per line, read in bounded memory."""
    strings: set[str] = set()
    return Opened("jsonl", encoding, None, lambda: _line_batches(source, encoding, strings))


def _line_batches(source: Source, encoding: str, strings: set[str]) -> Iterator[pa.RecordBatch]:
    for block, first in _blocks(source, encoding):
        batch = _fast(block, strings)
        if batch is None:
            batch = _careful(source.name, block, first)
        names = [name.strip() for name in batch.schema.names]
        refuse_duplicates(source.name, names)
        if batch.num_rows:
            yield pa.RecordBatch.from_arrays(batch.columns, names=names)


def _blocks(source: Source, encoding: str) -> Iterator[tuple[bytes, int]]:
    """Yield (whole lines, number of the first of them)."""
    held: list[bytes] = []
    size, line = 0, 1
    for piece in utf8_chunks(source, encoding):
        held.append(piece)
        size += len(piece)
        if size >= BLOCK:
            cut = piece.rfind(b"\n")
            if cut < 0:
                if size > LINE:
                    raise _broken(source.name, f"line {line}", f"a record is longer than {amount(LINE)}")
                continue
            block = b"".join(held)
            cut += len(block) - len(piece) + 1
            yield block[:cut], line
            line += block.count(b"\n", 0, cut)
            held = [block[cut:]]
            size = len(held[0])
    if size:
        yield b"".join(held), line


def _fast(block: bytes, strings: set[str]) -> pa.RecordBatch | None:
    """Parse a block with Arrow; None if it could lose digits, or is not as regular as Arrow wants it."""
    if b"0" * 16 in block.translate(_ZEROS, b".") and _LONG.search(block):
        return None

    def parse() -> pa.Table:
        wanted = pa.schema([(name, pa.string()) for name in sorted(strings)])
        return pajson.read_json(
            io.BytesIO(block),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pajson.ParseOptions(explicit_schema=wanted, newlines_in_values=False),
        )

    try:
        table = parse()
        dates = {item.name for item in table.schema if pa.types.is_timestamp(item.type)}
        if dates:  # texts that look like dates are judged over the whole column, later
            strings |= dates
            table = parse().select(table.schema.names)
    except pa.ArrowInvalid:
        return None
    plain: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_string, pa.types.is_int64, pa.types.is_float64, pa.types.is_boolean, pa.types.is_null
    )  # fmt: skip
    if not all(any(test(kind) for test in plain) for kind in table.schema.types):
        return None
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else None


def _careful(name: str, block: bytes, first: int) -> pa.RecordBatch:
    """Parse a block line by line."""
    records = []
    for place, line in enumerate(block.split(b"\n"), start=first):
        if line.strip():
            record = _parsed(name, line.decode(), f"line {place}")
            if not isinstance(record, dict):
                raise _broken(name, f"line {place}", "a record in braces is wanted on every line")
            records.append(record)
    columns = _from_records(records)
    return pa.RecordBatch.from_arrays([array_of(values) for values in columns.values()], names=list(columns))
