"""Sentences about how values were read, for people who look at the table."""

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from cqox_assets.ingestion.columns import words_used
from cqox_assets.ingestion.convert import FileScan, Tally
from cqox_assets.ingestion.dates import DateScan
from cqox_assets.ingestion.numbers import NumberScan

_SHOWN = 12


def file_notices(scan: FileScan) -> tuple[str, ...]:
    """Return what there is to say about one file and how its columns were read."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, column in scan.columns.items():
        kind, reason = column.own_type(scan.habits)
        if reason:
            found[f"{reason} were kept as text in"].append(name)
        if kind is None:
            found["no values at all in"].append(name)
        for word, count in sorted(words_used(column).items()):
            found[f"'{word}' was read as a missing value in"].append(f"{name} ({count})")
        for word in sorted(column.levels() if column.is_text else ()):
            found[f"'{word}' was kept as a level, because its opposite occurs as well, in"].append(name)
        if isinstance(column.scan, NumberScan):
            _number_notices(name, column.scan, scan.habits.style, found)
        if isinstance(column.scan, DateScan):
            _date_notices(name, column.scan, scan.habits.order, found)
    trailing = (f"{scan.trailing} empty row(s) at the end were dropped",) if scan.trailing else ()
    dropped = sorted(scan.opened.blank - scan.columns.keys())
    empty = (f"{len(dropped)} empty column(s) without a name were dropped",) if dropped else ()
    return (*scan.opened.notices, *trailing, *empty, *(f"{text} {_listed(names)}" for text, names in found.items()))


def _number_notices(name: str, scan: NumberScan, style: str, found: Mapping[str, list[str]]) -> None:
    if scan.affix:
        found[f"the sign '{scan.affix}' was removed from the numbers in"].append(name)
    chosen = scan.choose(style)
    if chosen == "comma" and scan.separated:
        found["a comma was read as the decimal mark in"].append(name)
    if scan.decorated and scan.separated and scan.evidence() is None:
        reading = "decimal" if chosen == "comma" else "thousands"
        found[f"a comma followed by three digits was read as a {reading} mark, which the values leave open, in"].append(
            name
        )


def _date_notices(name: str, scan: DateScan, order: str, found: Mapping[str, list[str]]) -> None:
    if scan.ordered:
        chosen = scan.choose(order)
        if scan.evidence() is None:
            found[f"day and month are ambiguous; read with the {chosen} (write 2024-01-31 to be certain) in"].append(
                name
            )
        else:
            found[f"dates were read with the {chosen} in"].append(name)
    if scan.form == "utc":
        found["times were converted to UTC in"].append(name)
    if scan.form in ("year-month", "年月"):
        found["months were read as their first day in"].append(name)
    if scan.form == "day.month.yy":
        found["years of two digits were read as 1970 to 2069 in"].append(name)


def sentinel_notices(tallies: Mapping[str, Tally]) -> tuple[str, ...]:
    """Return warnings about numbers that often stand for a missing value; the numbers were kept."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for name, tally in tallies.items():
        for value, count in tally.suspicious().items():
            found[value].append(f"{name} ({count})")
    return tuple(
        f"{value} often stands for a missing value but was kept as a number in {_listed(names)}; "
        "write it as an empty cell if it is one"
        for value, names in sorted(found.items())
    )


def widening_notices(scans: list[FileScan], schema: pa.Schema) -> tuple[str, ...]:
    """Return which columns differ in type between the files of a partition."""
    notices = []
    for item in schema:
        kinds = {scan.name: scan.own_types()[item.name] for scan in scans}
        known = {kind for kind in kinds.values() if kind is not None}
        if len(known) > 1:
            listed = ", ".join(f"{kind} in {name}" for name, kind in list(kinds.items())[:_SHOWN])
            notices.append(f"column '{item.name}' became {item.type}, because it is {listed}")
    return tuple(notices)


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
