"""The public functions of ingestion: from delivered files to one typed table."""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.convert import FileScan, Tally, scan_file, unify, write
from cqox_assets.ingestion.delimited import head_text, open_delimited
from cqox_assets.ingestion.encodings import detect_encoding
from cqox_assets.ingestion.excel import open_excel
from cqox_assets.ingestion.formats import markup_error, suffix_notice, unpack
from cqox_assets.ingestion.inbox import readable_name
from cqox_assets.ingestion.json_text import json_kind, open_json, open_json_lines
from cqox_assets.ingestion.notices import file_notices, sentinel_notices, widening_notices
from cqox_assets.ingestion.opened import Opened
from cqox_assets.ingestion.parquet import open_parquet
from cqox_assets.ingestion.sources import DEFAULT_LIMITS, Limits, Source, amount, sha256_of
from cqox_assets.ingestion.table import Table


def read_table(path: str | os.PathLike[str], *, workdir: Path | None = None, limits: Limits = DEFAULT_LIMITS) -> Table:
    """Read a file of any common kind as one typed table.

    Parameters
    ----------
    path : path
        CSV or other delimited text, JSON, JSON lines, Excel or Parquet, plain or in gz or zip; judged by content.
    workdir : Path, optional
        Folder for the typed Parquet file. Without it a temporary folder is used that lives as long as the table.
    limits : Limits, optional
        How large file and archive may be.

    Raises
    ------
    IngestionError
        If the file cannot be read as one table; nothing is left behind.
    """
    file = Path(path)
    home = tempfile.TemporaryDirectory(prefix="cqox-table-") if workdir is None else None
    folder = Path(home.name) if home is not None else Path(workdir or ".")
    try:
        return _convert([file], folder, limits, home, f"{file.stem}.typed.parquet")
    except BaseException:
        if home is not None:
            home.cleanup()
        raise


def read_partition(paths: Sequence[str | os.PathLike[str]], workdir: Path, *, limits: Limits = DEFAULT_LIMITS) -> Table:
    """Read every file of one partition and append them in sorted name order.

    Parameters
    ----------
    paths : sequence of paths
        Files that share their columns; the order of columns may differ.
    workdir : Path
        Folder for the typed Parquet file `table.parquet`.

    Raises
    ------
    IngestionError
        If a file cannot be read, or its columns differ from those of the other files; `path` says which file.
    """
    files = sorted((Path(path) for path in paths), key=lambda file: file.name)
    if not files:
        raise IngestionError("the partition has no files; deliver at least one", code="empty_partition")
    return _convert(files, Path(workdir), limits, None, "table.parquet")


def _convert(
    files: list[Path], folder: Path, limits: Limits, home: "tempfile.TemporaryDirectory[str] | None", target: str
) -> Table:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".reading-", dir=folder) as scratch:
        scans = [_scan(file, Path(scratch), limits) for file in files]
        _refuse_misfits(files, scans)
        scans, repeated = _without_copies(scans)
        schema = unify(scans)
        part = Path(scratch) / "typed.parquet"
        tallies = write(scans, schema, part)
        os.replace(part, folder / target)
    notices = (*repeated, *_notices(scans, schema, tallies))
    return _table(scans, notices, tuple(schema.names), folder / target, home)


def _without_copies(scans: list[FileScan]) -> tuple[list[FileScan], tuple[str, ...]]:
    """Leave out files with the same bytes as an earlier one: sent again under another name, they are no more rows."""
    first: dict[str, FileScan] = {}
    for scan in scans:
        first.setdefault(scan.sha256, scan)
    repeated = [scan for scan in scans if first[scan.sha256] is not scan]
    told = (f"{scan.name} holds the same bytes as {first[scan.sha256].name} and was left out" for scan in repeated)
    return list(first.values()), tuple(told)


def _scan(file: Path, scratch: Path, limits: Limits) -> FileScan:
    name = readable_name(file)
    try:
        if not file.is_file():
            raise IngestionError(f"{name} is not a file; name an existing file", code="missing_file")
        size = file.stat().st_size
        if size > limits.max_file_bytes:
            raise IngestionError(
                f"{name} has {amount(size)}, more than the limit of {amount(limits.max_file_bytes)}; split it",
                code="too_large",
            )
        return scan_file(_open(Source(file, name, limits, size), scratch), name, sha256_of(file))
    except IngestionError as error:
        error.path = file
        raise


def _open(source: Source, scratch: Path) -> Opened:
    """Open a file in the format that its content has."""
    source, kind = unpack(source, scratch)
    if kind == "parquet":
        opened = open_parquet(source.on_disk(scratch))
    elif kind == "excel":
        opened = open_excel(source)
    else:
        opened = _open_text(source)
    remark = suffix_notice(source.name, opened.format)
    return Opened(**{**vars(opened), "notices": (*remark, *opened.notices)})


def _open_text(source: Source) -> Opened:
    head = source.head()
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    early = markup_error(source.name, head.decode("utf-16" if wide else "latin-1", "ignore").removeprefix("ï»¿"))
    if early is not None:
        raise early
    encoding, quoted = detect_encoding(source)
    text, complete = head_text(source, encoding)
    markup = markup_error(source.name, text)
    if markup is not None:
        raise markup
    inner = source.layers[-1][1] if source.layers else ""
    suffix = Path(inner or source.name.lower().removesuffix(".gz").removesuffix(".zip")).suffix.lower()
    kind = json_kind(text, complete, suffix)
    if kind == "json":
        return open_json(source, encoding)
    if kind == "jsonl":
        return open_json_lines(source, encoding)
    return open_delimited(source, encoding, quoted)


def _refuse_misfits(files: list[Path], scans: list[FileScan]) -> None:
    """Refuse the first file whose columns differ from those that most files of the partition have."""
    shapes = [frozenset(scan.columns) for scan in scans]
    usual = Counter(shapes).most_common(1)[0][0]
    for file, scan, shape in zip(files, scans, shapes, strict=True):
        if shape == usual:
            continue
        other = scans[shapes.index(usual)].name
        extra = [name for name in scan.columns if name not in usual]
        lacking = [name for name in scans[shapes.index(usual)].columns if name not in shape]
        parts = [f"it lacks {_quoted(lacking)}"] * bool(lacking) + [f"it adds {_quoted(extra)}"] * bool(extra)
        error = IngestionError(
            f"{scan.name} does not fit {other} of the same partition: {' and '.join(parts)}; "
            "make the columns equal or deliver it to a domain of its own",
            code="schema_mismatch",
        )
        error.path = file
        raise error


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:10]) + (", ..." if len(names) > 10 else "")


def _notices(scans: list[FileScan], schema: Any, tallies: dict[str, Tally]) -> tuple[str, ...]:
    several = len(scans) > 1
    found = [f"{scan.name}: {text}" if several else text for scan in scans for text in file_notices(scan)]
    widened = widening_notices(scans, schema) if several else ()
    return (*found, *widened, *sentinel_notices(tallies))


def _table(
    scans: list[FileScan],
    notices: tuple[str, ...],
    columns: tuple[str, ...],
    path: Path,
    home: "tempfile.TemporaryDirectory[str] | None",
) -> Table:
    sources: tuple[dict[str, Any], ...] = tuple(
        {
            "name": scan.name,
            "sha256": scan.sha256,
            "format": scan.opened.format,
            "encoding": scan.opened.encoding,
            "delimiter": scan.opened.delimiter,
            "rows": scan.rows,
        }
        for scan in scans
    )
    formats, encodings, delimiters = (
        {source[key] for source in sources} for key in ("format", "encoding", "delimiter")
    )
    listing = "\n".join(f"{source['name']} {source['sha256']}" for source in sources)
    return Table(
        format=formats.pop() if len(formats) == 1 else "mixed",
        encoding=encodings.pop() if len(encodings) == 1 else None,
        delimiter=delimiters.pop() if len(delimiters) == 1 else None,
        sha256=scans[0].sha256 if len(scans) == 1 else hashlib.sha256(listing.encode()).hexdigest(),
        notices=notices,
        rows=sum(scan.rows for scan in scans),
        columns=columns,
        path=path,
        sources=sources,
        home=home,
    )
