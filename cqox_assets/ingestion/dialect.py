"""Delimiter and header of a delimited text, judged from its first records."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cqox_assets.ingestion.missing import is_missing

FIRST = (",", "\t", ";", "|")
SECOND = ("\x01", "^", "~", ":", " ")
RECORDS = 500
_NUMBER = re.compile(r"[+-]?[$€£¥￥]?\s?(\d[\d ., '’]*|[.,]\d+)([eE][+-]?\d+)?\s?[%€円]?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d{2}.*)?|\d{4}年.*")
_WORDS = re.compile(r"\D*[A-Za-z\u0080-\uffff]")
_UNNAMED = re.compile(r"Unnamed: (\d+)(_level_\d+)?|__index_level_(\d+)__")


@dataclass(frozen=True)
class Dialect:
    """How a delimited text is written.

    `names` are the column names, `blank` the positions whose header was empty, `offset` the UTF-8 bytes before the
    first data record, `lines` the lines before it. With `aligned`, runs of blanks
    separate the columns, and `offset` counts after they were squeezed.
    """

    delimiter: str
    names: tuple[str, ...]
    blank: frozenset[int]
    offset: int
    lines: int
    notices: tuple[str, ...]
    aligned: bool = False


def sniff(head: str, complete: bool) -> Dialect:
    """Judge the dialect of a text from its beginning.

    Parameters
    ----------
    head : str
        Beginning of the text, without a byte order mark.
    complete : bool
        Whether `head` is the whole text; otherwise its last record may be cut and is left out.
    """
    delimiter = _delimiter(head, complete)
    aligned = delimiter in (" ", ",") and is_aligned(head, complete)
    if aligned:
        delimiter, head = " ", squeeze(head.encode()).decode()
    records = list(records_of(head, delimiter, complete))
    start, notices = _skip_titles(records)
    row = records[start][0] if start < len(records) else [""]
    body = [fields for fields, _, _ in records[start + 1 :]]
    if has_header(row, body):
        names, blank, remarks = name_columns(row)
        ends = records[start] if records else ([], 0, 0)
    else:
        names, blank = tuple(f"column_{place}" for place in range(1, len(row) + 1)), frozenset[int]()
        remarks = ("the file has no header, so its columns are named column_1, column_2, ...",)
        ends = records[start - 1] if start else ([], 0, 0)
    return Dialect(delimiter, names, blank, ends[1], ends[2], (*notices, *remarks), aligned)


def records_of(text: str, delimiter: str, complete: bool, most: int = RECORDS) -> Iterator[tuple[list[str], int, int]]:
    """Yield (fields, UTF-8 bytes up to its end, lines up to its end) of each non-empty record."""
    consumed = lines = 0
    ready: list[str] = []

    def feed() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            ready.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=delimiter)
    held: tuple[list[str], int, int] | None = None
    found = 0
    try:
        for fields in reader:
            if held is not None:
                yield held
                found += 1
                if found >= most:
                    return
            consumed += sum(len(line.encode()) for line in ready)
            lines += len(ready)
            ready.clear()
            held = (fields, consumed, lines) if fields else None
    except csv.Error:  # a field beyond csv's limit: what was read so far is enough to judge the dialect
        return
    if held is not None and (complete or found == 0):
        yield held


def is_aligned(head: str, complete: bool) -> bool:
    """Whether columns are set apart by runs of blanks: the same number of words on every line, several in a row."""
    lines = [line for line in re.split("[\\r\\n]+", head) if line.strip()]
    lines = lines if complete or len(lines) < 2 else lines[:-1]
    widths = {len(line.split()) for line in lines}
    return (
        '"' not in head
        and "," not in head
        and len(widths) == 1
        and widths.pop() > 1
        and any("  " in line for line in lines)
    )


def squeeze(text: bytes) -> bytes:
    """Reduce runs of blanks to one, and remove them at both ends of whole lines."""
    return re.sub(rb"(?m)^ | $", b"", re.sub(rb"[ \t]+", b" ", text.replace(b"\r\n", b"\n")))


def _delimiter(head: str, complete: bool) -> str:
    """Return the delimiter that splits the records most evenly and leaves the cleanest cells."""
    for tier in (FIRST, SECOND):
        judged = [(_judge(head, mark, complete, tier), -place, mark) for place, mark in enumerate(tier)]
        best = max(judged)
        if best[0][0] > (0.0 if tier == FIRST else 0.99):
            return best[2]
    return ","


def _judge(head: str, mark: str, complete: bool, tier: Sequence[str]) -> tuple[float, float, float]:
    """Return (share of records as wide as the widest common width, purity of cells, width)."""
    if mark not in head:
        return 0.0, 0.0, 0.0
    rows = [fields for fields, _, _ in records_of(head, mark, complete)]
    widths = Counter(len(fields) for fields in rows)
    width, count = max(widths.items(), key=lambda item: (item[1] * (item[0] > 1), item[0]))
    if width < 2:
        return 0.0, 0.0, 0.0
    even = count / len(rows)
    even = 1.0 if even == 1.0 else 0.9 * even * (1.0 if len(rows[0]) == width else 0.8)
    cells = [cell for fields in rows[:200] if len(fields) == width for cell in fields if cell]
    others = [other for other in tier if other != mark]
    dirty = sum(any(other in cell for other in others) and not _NUMBER.fullmatch(cell.strip()) for cell in cells)
    dirty += sum(cell.count('"') % 2 for cell in cells)
    purity = 1 - dirty / max(len(cells), 1)
    return even, round(purity, 2), float(width)


def _skip_titles(records: list[tuple[list[str], int, int]]) -> tuple[int, tuple[str, ...]]:
    """Find the header below comment and title lines; a title has one filled cell where the table has several."""
    start = 0
    while start < len(records) and (records[start][0][0].startswith("#") and len(records) > start + 1):
        if _wordy(records[start][0]) and len(records[start][0]) == len(records[start + 1][0]) > 1:
            break  # "#id,value": the mark belongs to the first name of a header
        start += 1
    widths = Counter(len(fields) for fields, _, _ in records[start:])
    width = max(widths, key=lambda item: (widths[item], item), default=0)
    title = start
    while width > 1 and title < len(records) - 1 and sum(bool(cell.strip()) for cell in records[title][0]) <= 1:
        title += 1
    if title > start and len(records[title][0]) == width and _wordy(records[title][0]):
        start = title
    return start, (f"{start} line(s) above the header were skipped",) if start else ()


def _wordy(fields: list[str]) -> bool:
    return all(_WORDS.match(cell) for cell in fields if cell.strip()) and len(set(fields)) == len(fields)


def valued(cell: str) -> bool:
    """Whether a cell reads as a number or a date."""
    text = cell.strip()
    return bool(_NUMBER.fullmatch(text) or _DATE.fullmatch(text))


def has_header(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether the first record names the columns instead of holding values.

    A record of numbers alone is data. Otherwise a column votes for data when its first cell is a value like the
    cells below it, and for a header when it is a word above values; years and 1, 2, 3 in a header do not vote.
    """
    filled = [cell.strip() for cell in first if cell.strip()]
    if not filled or not any(valued(cell) for cell in filled):
        return True
    if all(valued(cell) or is_missing(cell) for cell in filled):
        return False
    numbers = [cell for cell in filled if valued(cell)]
    if all(re.fullmatch(r"(19|20)\d\d", cell) for cell in numbers) and len(set(numbers)) == len(numbers) > 1:
        return True
    votes = 0
    for place, cell in enumerate(first):
        below = [row[place] for row in body[:100] if place < len(row) and not is_missing(row[place])]
        if below and all(valued(item) for item in below) and cell.strip():
            votes += -1 if valued(cell) or is_missing(cell) else 1
    return votes >= 0


def name_columns(cells: Sequence[str]) -> tuple[tuple[str, ...], frozenset[int], tuple[str, ...]]:
    """Return trimmed names, with `column_3` for a blank third header, the blank positions and notices."""
    names = [
        " ".join(cell.replace("\ufeff", "").split()) if "\n" in cell else cell.strip("\ufeff \t\r\u3000\xa0")
        for cell in cells
    ]
    blank = frozenset(place for place, name in enumerate(names) if not name)
    taken = set(names)
    renamed = []
    for place, name in enumerate(names):
        if not name or _UNNAMED.fullmatch(name):
            fresh = f"column_{place + 1}"
            while fresh in taken:
                fresh += "_"
            taken.add(fresh)
            names[place] = fresh
            renamed.append(fresh)
    if not renamed:
        return tuple(names), blank, ()
    return tuple(names), blank, (f"columns without a name in the header were named {', '.join(renamed)}",)
