"""Excel and OpenDocument workbooks: the first sheet that holds a table."""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.dialect import has_header, name_columns
from cqox_assets.ingestion.opened import Opened, array_of, refuse_duplicates, text_of
from cqox_assets.ingestion.sources import CHUNK, Source, amount, check_growth

_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_ROW = re.compile(rb'<row [^>]*?r="(\d+)"')
_CELL = re.compile(rb'r="([A-Z]{1,3})(\d+)"')
_AREA = 100_000_000
Row = list[Any]


def open_excel(source: Source) -> Opened:
    """Open a workbook (xlsx, xlsm, xlsb, xls, ods) on disk.

    Raises
    ------
    IngestionError
        If it is encrypted, damaged, too large to be read as a whole, or has no sheet with a table.
    """
    data = _bytes(source)
    sheets = _sheets(source, data)
    judged = [(name, _table_of(rows)) for name, rows in sheets]
    candidates = [(name, table) for name, table in judged if table is not None and table[1]]
    if not candidates:
        found = next((name for name, table in judged if table is not None), None)
        if found is not None:
            raise IngestionError(
                f"{source.name} has a header but no rows in sheet '{found}'; deliver a file with rows",
                code="header_only",
            )
        raise IngestionError(f"{source.name} has no sheet with a table in it; deliver one table", code="empty_file")
    name, table = next((item for item in candidates if len(item[1][0]) > 1), candidates[0])
    header, body, notices = table
    others = [other for other, _ in sheets if other != name]
    if others:
        notices = (f"sheet '{name}' was read; other sheets were not: {', '.join(others)}", *notices)
    return _opened(source, header, body, notices)


def _opened(source: Source, header: Row, body: list[Row], notices: tuple[str, ...]) -> Opened:
    cells = [text_of(cell) or "" for cell in header]
    shown = [[text_of(cell) or "" for cell in row] for row in body[:100]]
    if has_header(cells, shown):
        names, blank, remarks = name_columns(cells)
    else:
        names, blank = tuple(f"column_{place}" for place in range(1, len(cells) + 1)), frozenset[int]()
        remarks = ("the sheet has no header, so its columns are named column_1, column_2, ...",)
        body = [header, *body]
    refuse_duplicates(source.name, names)
    arrays = [array_of([row[place] for row in body], whole=True) for place in range(len(names))]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(names))
    return Opened(
        "excel", None, None, lambda: iter([batch]), frozenset(names[place] for place in blank), (*notices, *remarks)
    )


def _bytes(source: Source) -> bytes:
    with source.open() as stream:
        data = stream.read(source.limits.max_document_bytes + 1)
    if len(data) > source.limits.max_document_bytes:
        raise _too_large(source)
    if data.startswith(b"\xd0\xcf") and _ENCRYPTED in data:
        raise _locked(source)
    if data.startswith(b"PK"):
        _check_members(source, data)
    return data


def _locked(source: Source) -> IngestionError:
    return IngestionError(f"{source.name} is encrypted; save it without a password", code="encrypted")


def _too_large(source: Source) -> IngestionError:
    return IngestionError(
        f"{source.name} is a workbook of more than {amount(source.limits.max_document_bytes)} when unpacked; "
        "save the sheet as CSV",
        code="too_large",
    )


def _damaged(source: Source, error: BaseException) -> IngestionError:
    return IngestionError(
        f"{source.name} is a damaged Excel file ({error}); save it again in Excel", code="damaged_excel"
    )


def _check_members(source: Source, data: bytes) -> None:
    """Unpack every part once, without keeping it, so that neither a bomb nor a huge empty area gets further."""
    limits = source.limits
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > limits.max_members:
                raise IngestionError(f"{source.name} has {len(members)} parts, too many", code="archive_bomb")
            for member in members:
                if member.flag_bits & 1:
                    raise _locked(source)
                sheet = "worksheets/" in member.filename or member.filename == "content.xml"
                rows = columns = 0
                with archive.open(member) as stream:
                    while piece := stream.read(CHUNK):
                        total += len(piece)
                        check_growth(source.name, len(data), total, limits)
                        if total > limits.max_document_bytes:
                            raise _too_large(source)
                        if sheet:
                            rows, columns = _extent(piece, rows, columns)
                if rows * columns > _AREA:
                    raise _too_large(source)
    except IngestionError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged files: BadZipFile, zlib.error, EOFError, ...
        raise _damaged(source, error) from error


def _extent(piece: bytes, rows: int, columns: int) -> tuple[int, int]:
    """Widen the extent of a sheet by the cells that are named in a piece of its XML."""
    for letters, number in set(_CELL.findall(piece)):
        column = 0
        for letter in letters:
            column = column * 26 + letter - 64
        rows, columns = max(rows, int(number)), max(columns, column)
    for number in _ROW.findall(piece):
        rows = max(rows, int(number))
    for number in re.findall(rb'number-(?:columns|rows)-repeated="(\d{8,})"', piece):
        rows, columns = max(rows, int(number)), max(columns, 100)
    return rows, columns


def _sheets(source: Source, data: bytes) -> list[tuple[str, list[Row]]]:
    """Return the rows of every visible worksheet, in order."""
    import python_calamine as calamine

    try:
        workbook = calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        visible = [
            sheet.name
            for sheet in workbook.sheets_metadata
            if sheet.typ == calamine.SheetTypeEnum.WorkSheet and sheet.visible == calamine.SheetVisibleEnum.Visible
        ]
        names = visible or workbook.sheet_names
        return [(name, workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)) for name in names]
    except calamine.PasswordError as error:
        raise _locked(source) from error
    except (calamine.CalamineError, OSError, ValueError, UnicodeError) as error:
        raise _damaged(source, error) from error
    except BaseException as error:  # a panic of the Rust reader on damaged bytes is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise _damaged(source, error) from error


def _filled(row: Sequence[Any]) -> int:
    return sum(cell is not None and cell != "" and (not isinstance(cell, str) or bool(cell.strip())) for cell in row)


def _table_of(rows: list[Row]) -> tuple[Row, list[Row], tuple[str, ...]] | None:
    """Find header and rows of the table in a sheet; None if the sheet is empty.

    The header is the first row that is filled about as widely as the table; rows above it are titles. Rows at the end
    with a single filled cell, set off by an empty row, are remarks.
    """
    counts = [_filled(row) for row in rows]
    if not any(counts):
        return None
    end = max(place for place, count in enumerate(counts) if count) + 1
    usual = Counter(count for count in counts if count)
    width = max(usual, key=lambda count: (usual[count] * (count > 1), count))
    start = next(place for place, count in enumerate(counts) if count >= max(1, 0.6 * width))
    notices = [f"{start} row(s) above the header were skipped"] if start and any(counts[:start]) else []
    gap = max((place for place in range(start, end) if not counts[place]), default=None)
    if gap is not None and width > 2 and all(count <= 1 for count in counts[gap:end]):
        notices.append(f"{sum(count > 0 for count in counts[gap:end])} row(s) of remarks below the table were skipped")
        end = max(place for place in range(start, gap) if counts[place]) + 1
    table = rows[start:end]
    used = [place for place in range(len(table[0])) if any(_filled([row[place]]) for row in table)]
    body = [
        [row[place] for place in used] for row, count in zip(table[1:], counts[start + 1 : end], strict=True) if count
    ]
    empty = end - start - 1 - len(body)
    if empty:
        notices.append(f"{empty} empty row(s) inside the table were dropped")
    return [table[0][place] for place in used], body, tuple(notices)
