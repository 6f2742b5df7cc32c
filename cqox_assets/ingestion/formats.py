"""What kind of file it is, judged by its content; the suffix is only compared with the answer."""

import zipfile
from pathlib import Path

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.sources import Source, zip_member

_FOREIGN = (
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"ARROW1", "an Arrow or Feather file"),
    (b"FEA1", "a Feather file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"$FL2", "an SPSS file"),
    (b"<stata_dta>", "a Stata file"),
    (b"RDX3", "an R data file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"{\\rtf", "an RTF document"),
    (b"ID3", "an MP3 file"),
    (b"OggS", "an Ogg file"),
)
_OFFICE = {"word/": "a Word document", "ppt/": "a PowerPoint presentation"}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLD_WORKBOOK = (b"\x09\x08", b"\x09\x04", b"\x09\x02")  # BIFF records of Excel 2 to 4 without a container
_SUFFIXES = {
    ".csv": ("delimited",), ".tsv": ("delimited",), ".tab": ("delimited",), ".txt": ("delimited", "jsonl", "json"),
    ".json": ("json", "jsonl"), ".jsonl": ("jsonl", "json"), ".ndjson": ("jsonl", "json"),
    ".xlsx": ("excel",), ".xlsm": ("excel",), ".xls": ("excel",), ".xlsb": ("excel",), ".ods": ("excel",),
    ".parquet": ("parquet",), ".pq": ("parquet",),
}  # fmt: skip
WANTED = "deliver CSV, JSON, JSON lines, Excel or Parquet, plain or in gz or zip"


def unpack(source: Source, folder: Path) -> tuple[Source, str]:
    """Go through the archive layers of a file and tell what the table inside is.

    Returns
    -------
    tuple
        Source of the unpacked bytes and `parquet`, `excel` or `text`.

    Raises
    ------
    IngestionError
        If the file is empty, an unsafe archive, or of a kind that holds no table.
    """
    while True:
        head = source.head()
        if not head:
            raise IngestionError(f"{source.name} is empty; deliver a file with a header and rows", code="empty_file")
        if head[:2] == b"\x1f\x8b":
            source = source.inside("gz")
            continue
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            source = source.on_disk(folder)
            if _office_kind(source) == "excel":
                return source, "excel"
            source = source.inside("zip", zip_member(source))
            continue
        return source, _plain_kind(head, source)


def _office_kind(source: Source) -> str:
    try:
        with zipfile.ZipFile(source.path) as archive:
            names = archive.namelist()
            kind = archive.open("mimetype").read(200) if "mimetype" in names else b""
    except Exception as error:  # zipfile raises many kinds on damaged files: BadZipFile, zlib.error, KeyError, ...
        raise IngestionError(
            f"{source.name} is a damaged zip or Excel file ({error}); deliver it again", code="damaged_archive"
        ) from error
    if any(name.startswith("xl/") for name in names) or b"opendocument.spreadsheet" in kind:
        return "excel"
    if b"opendocument" in kind:
        raise _foreign(source.name, "an OpenDocument file that is no spreadsheet")
    for prefix, words in _OFFICE.items():
        if any(name.startswith(prefix) for name in names):
            raise _foreign(source.name, words)
    return "zip"


def _plain_kind(head: bytes, source: Source) -> str:
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:8] == _OLE or head[:2] in _OLD_WORKBOOK:
        return "excel"
    for magic, words in _FOREIGN:
        if head.startswith(magic):
            raise _foreign(source.name, words)
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        raise _foreign(source.name, "an image, sound or film")
    if head[:2] == b"BM" and b"\x00\x00" in head[:14]:
        raise _foreign(source.name, "a BMP image")
    if head[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise _foreign(source.name, "a Python pickle, which is never opened because it can run code")
    return "text"


def _foreign(name: str, words: str) -> IngestionError:
    return IngestionError(f"{name} is {words}, not a table; {WANTED}", code="unknown_format")


def markup_error(name: str, head: str) -> IngestionError | None:
    """Return the refusal for an HTML page or an XML file, or None for other text."""
    start = head.lstrip("\ufeff \t\r\n").lower()
    while start.startswith("<!--") and "-->" in start:
        start = start.split("-->", 1)[1].lstrip()
    if start.startswith("<?xml") and "<html" not in start[:2000]:
        return _foreign(name, "an XML file")
    tags = ("<!doctype html", "<html", "<head", "<body", "<table", "<meta", "<title", "<?xml")
    # These may also be the name of a column, and then the lines below it are no markup.
    loose = start.startswith(("<script", "<div", "<p>")) and ("\n" not in start or "<" in start.split("\n", 1)[1])
    if loose or start.startswith(tags):
        return IngestionError(
            f"{name} is a web page (HTML), not a table; download the data file itself, perhaps after signing in",
            code="html_page",
        )
    return None


def suffix_notice(name: str, found: str) -> tuple[str, ...]:
    """Return a notice when the suffix promises something else than what was found."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    while suffixes and suffixes[-1] in (".gz", ".zip", ".gzip"):
        suffixes.pop()
    promised = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    kind = found if found in ("json", "jsonl", "excel", "parquet") else "delimited"
    if promised is None or kind in promised:
        return ()
    return (f"the suffix '{suffixes[-1]}' does not match the content, which was read as {found}",)
