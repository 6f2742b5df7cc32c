"""Delimited text (CSV, TSV, ...) as batches of texts, in bounded memory."""

import csv
import io
import re
import sys
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv as pacsv

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.dialect import Dialect, sniff, squeeze
from cqox_assets.ingestion.opened import Opened, refuse_duplicates
from cqox_assets.ingestion.sources import Source
from cqox_assets.ingestion.text_stream import Utf8Stream, utf8_chunks

BLOCK = 4 << 20
HEAD_BYTES = 1 << 18
_NAMES = {",": "csv", "\t": "tsv"}


def head_text(source: Source, encoding: str, size: int = HEAD_BYTES) -> tuple[str, bool]:
    """Return the beginning of a text and whether that is all of it."""
    pieces = utf8_chunks(source, encoding)
    head = b""
    complete = True
    for piece in pieces:
        head += piece
        if len(head) > size:
            complete = False
            break
    pieces.close()
    return head[:size].decode("utf-8", "ignore"), complete


def open_delimited(source: Source, encoding: str, quoted: bool) -> Opened:
    """Open a delimited text.

    Parameters
    ----------
    quoted : bool
        Whether a quotation mark occurs anywhere, so that line breaks may stand inside cells.

    Raises
    ------
    IngestionError
        If column names repeat; ragged rows are found when the batches are read.
    """
    dialect = sniff(*head_text(source, encoding))
    refuse_duplicates(source.name, dialect.names)
    return Opened(
        format=_NAMES.get(dialect.delimiter, "delimited"),
        encoding=encoding,
        delimiter=dialect.delimiter,
        batches=lambda: _batches(source, encoding, dialect, quoted),
        blank=frozenset(dialect.names[place] for place in dialect.blank),
        notices=dialect.notices,
    )


def _batches(source: Source, encoding: str, dialect: Dialect, quoted: bool) -> Iterator[pa.RecordBatch]:
    stream = Utf8Stream(source, encoding, dialect.offset, squeeze if dialect.aligned else None)
    places = [str(place) for place in range(len(dialect.names))]
    last: pa.RecordBatch | None = None
    try:
        with stream:
            reader = pacsv.open_csv(
                pa.PythonFile(stream, "r"),
                read_options=pacsv.ReadOptions(column_names=places, block_size=BLOCK, use_threads=False),
                parse_options=pacsv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=quoted),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    check_utf8=False,
                ),
            )
            for batch in reader:
                last = batch if batch.num_rows else last
                yield pa.RecordBatch.from_arrays(batch.columns, names=list(dialect.names))
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return
        raise _diagnose(source, encoding, dialect, str(error)) from error
    if stream.quotes % 2 and last is not None and _ends_inside_quotes(source, encoding, dialect, last):
        raise _unclosed(source)


def _unclosed(source: Source) -> IngestionError:
    return IngestionError(
        f"{source.name} ends inside a quoted cell: a quotation mark is not closed, or the file is cut off; "
        "export it again",
        code="unclosed_quote",
    )


def _ends_inside_quotes(source: Source, encoding: str, dialect: Dialect, last: pa.RecordBatch) -> bool:
    """Whether the odd number of quotation marks comes from a cell that was never closed."""
    row = last.slice(last.num_rows - 1).to_pylist()[0]
    if any("\n" in value or "\r" in value for value in row.values() if value):
        return True
    line = b""
    for piece in utf8_chunks(source, encoding):
        line = re.split(rb"[\r\n]+", (line + piece).rstrip(b"\r\n"))[-1]
    try:
        list(csv.reader([line.decode()], delimiter=dialect.delimiter, strict=True))
    except csv.Error as error:
        return "end of data" in str(error)
    return False


def _diagnose(source: Source, encoding: str, dialect: Dialect, message: str) -> IngestionError:
    """Say which line does not fit, after the fast reader gave up."""
    wanted = len(dialect.names)
    found = _first_ragged(source, encoding, dialect)
    if found is None and "straddling" in message:
        return _unclosed(source)
    if found is None:
        numbers = re.search(r"Expected \d+ columns, got (\d+)", message)
        count = numbers.group(1) if numbers else "another number of"
        return IngestionError(
            f"{source.name} has rows with {count} fields where {wanted} are expected; repair them", code="ragged_rows"
        )
    first, line, count = found
    where = f"line {line}" if first == line else f"lines {first} to {line}"
    hint = "repair the line" if first == line else "repair them, perhaps a quotation mark is not closed"
    return IngestionError(
        f"{source.name}, {where}: found {count} field{'s' * (count != 1)}, expected {wanted} as in the header; {hint}",
        code="ragged_rows",
    )


def _first_ragged(source: Source, encoding: str, dialect: Dialect) -> tuple[int, int, int] | None:
    """Return first line, last line and number of fields of the first record that does not fit."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with Utf8Stream(source, encoding, dialect.offset, squeeze if dialect.aligned else None) as stream:
            text = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8", newline="")
            reader = csv.reader(text, delimiter=dialect.delimiter)
            before = 0
            for fields in reader:
                if fields and len(fields) != len(dialect.names):
                    return dialect.lines + before + 1, dialect.lines + reader.line_num, len(fields)
                before = reader.line_num
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(limit)
    return None
