"""Dates and times written as text."""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from cqox_assets.ingestion.numbers import attempt

STAMP = pa.timestamp("us")
_UTC = pa.timestamp("us", "UTC")
_TIME = r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,6}))?)?(?: ?(?P<p>[AaPp]\.?[Mm]\.?))?)?$"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WORD = (
    r"(?P<w>(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?))\.?"
)
# Form -> pattern; a and b are the day and the month in an order that the values have to prove.
_FORMS = {
    "year-month-day": rf"^(?P<y>\d{{4}})-(?P<m>\d{{1,2}})-(?P<d>\d{{1,2}}){_TIME}",
    "year/month/day": rf"^(?P<y>\d{{4}})/(?P<m>\d{{1,2}})/(?P<d>\d{{1,2}}){_TIME}",
    "year.month.day": rf"^(?P<y>\d{{4}})\.(?P<m>\d{{1,2}})\.(?P<d>\d{{1,2}}){_TIME}",
    "年月日": rf"^(?P<y>\d{{4}})年 ?(?P<m>\d{{1,2}})月 ?(?P<d>\d{{1,2}})日{_TIME}",
    "年月": r"^(?P<y>\d{4})年 ?(?P<m>\d{1,2})月$",
    "year-month": r"^(?P<y>\d{4})-(?P<m>\d{2})$",
    "./.": rf"^(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}})/(?P<y>\d{{4}}){_TIME}",
    ".-.": rf"^(?P<a>\d{{1,2}})-(?P<b>\d{{1,2}})-(?P<y>\d{{4}}){_TIME}",
    "day.month.year": rf"^(?P<d>\d{{1,2}})\.(?P<m>\d{{1,2}})\.(?P<y>\d{{4}}){_TIME}",
    "day.month.yy": r"^(?P<d>\d{2})\.(?P<m>\d{2})\.(?P<s>\d{2})$",
    "day month year": rf"^(?P<d>\d{{1,2}})[ -]{_WORD}[ -](?P<y>\d{{4}}){_TIME}",
    "month day year": rf"^{_WORD} (?P<d>\d{{1,2}}),? (?P<y>\d{{4}}){_TIME}",
}
_COMPILED = {name: re.compile(pattern) for name, pattern in _FORMS.items()}
_EARLIEST = pa.scalar(datetime(1, 1, 1), STAMP)
_LATEST = pa.scalar(datetime(9999, 12, 31, 23, 59, 59), STAMP)


@dataclass
class DateScan:
    """Decides whether all texts of a column are dates of one form."""

    form: str | None = None
    orders: set[str] = field(default_factory=lambda: {"month first", "day first"})

    def accept(self, values: pa.Array) -> bool:
        """Add non-empty texts; False if one of them is no date of the form seen so far."""
        for form, kind in (("iso", STAMP), ("utc", _UTC)):
            if self.form in (None, form) and _cast(values, kind) is not None:
                self.form = form
                return True
        found = _form_of(values[0].as_py())
        if self.form == "iso" and found == "year-month-day":
            self.form = found
        if found is None or self.form not in (None, found):
            return False
        self.form = found
        parts = _parts(values, found)
        if parts is None:
            return False
        self.orders = {order for order in self.orders if _cast(_iso(parts, order), STAMP) is not None}
        return bool(self.orders)

    @property
    def ordered(self) -> bool:
        """Whether the form leaves open which of two numbers is the day."""
        return self.form in ("./.", ".-.")

    def evidence(self) -> str | None:
        """Return the order of day and month that this column proves, or None."""
        return next(iter(self.orders)) if self.ordered and len(self.orders) == 1 else None

    def choose(self, default: str) -> str:
        """Return the order to read the column in, given the order of the file."""
        return self.evidence() or default

    def convert(self, values: pa.Array, target: pa.DataType, order: str) -> pa.Array:
        """Turn texts (nulls stay null) into times; times with an offset are converted to UTC."""
        if self.form == "iso":
            return pc.cast(pc.cast(values, STAMP), target)
        if self.form == "utc":
            return pc.cast(pc.cast(pc.cast(values, _UTC), STAMP), target)
        parts = _parts(values, self.form or "")
        return pc.cast(pc.cast(_iso(parts or {}, order), STAMP), target)


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    times = attempt(values, kind)
    if times is None:
        return None
    ends = pc.min_max(pc.cast(times, STAMP))
    fits = ends["min"].is_valid and ends["min"].value >= _EARLIEST.value and ends["max"].value <= _LATEST.value
    return times if fits else None


def _form_of(value: str) -> str | None:
    text = unicodedata.normalize("NFKC", value).strip()
    return next((name for name, pattern in _COMPILED.items() if pattern.match(text)), None)


def _parts(values: pa.Array, form: str) -> dict[str, pa.Array] | None:
    """Split texts into year, month, day, ... ; None if one does not have the form."""
    if not pc.all(pc.string_is_ascii(values)).as_py():
        values = pc.utf8_normalize(values, "NFKC")
    found = pc.extract_regex(pc.utf8_trim_whitespace(values), _FORMS[form])
    if found.null_count != values.null_count:
        return None
    names = [found.type.field(place).name for place in range(found.type.num_fields)]
    return {name: pc.struct_field(found, name) for name in names}


def _iso(parts: dict[str, pa.Array], order: str) -> pa.Array:
    """Put the parts together as ISO text."""
    day, month = ("b", "a") if order == "month first" else ("a", "b")
    if "w" in parts:
        short = pc.utf8_slice_codeunits(pc.utf8_lower(parts["w"]), 0, 3)
        months = pc.index_in(short, pa.array(_MONTHS))
        month_text = pc.cast(pc.add(months, 1), pa.string())
    else:
        month_text = parts["m"] if "m" in parts else parts[month]
    day_text = parts.get("d", parts.get(day))
    year = parts["y"] if "y" in parts else _century(parts["s"])
    if day_text is None:
        day_text = pc.if_else(pc.is_valid(year), "01", pa.scalar(None, pa.string()))
    date = pc.binary_join_element_wise(year, _two(month_text), _two(day_text), "-")
    if "H" not in parts:
        return date
    fraction = pc.utf8_rpad(parts["f"], 6, "0")
    clock = pc.binary_join_element_wise(_hour(parts), _two(parts["M"]), _two(parts["S"]), ":")
    return pc.binary_join_element_wise(date, " ", clock, ".", fraction, "")


def _two(text: pa.Array) -> pa.Array:
    return pc.utf8_lpad(text, 2, "0")


def _century(short: pa.Array) -> pa.Array:
    recent = pc.less(pc.cast(short, pa.int32()), 70)
    return pc.if_else(
        recent, pc.binary_join_element_wise("20", short, ""), pc.binary_join_element_wise("19", short, "")
    )


def _hour(parts: dict[str, pa.Array]) -> pa.Array:
    """Return the hour of the day; 12 AM is 00 and 1 PM is 13."""
    mark = pc.utf8_lower(pc.utf8_slice_codeunits(parts["p"], 0, 1))
    if not pc.any(pc.not_equal(mark, "")).as_py():
        return _two(parts["H"])
    hour = pc.cast(pc.if_else(pc.equal(parts["H"], ""), "0", parts["H"]), pa.int32())
    half = pc.if_else(pc.equal(hour, 12), 0, hour)
    shifted = pc.if_else(pc.equal(mark, "p"), pc.add(half, 12), pc.if_else(pc.equal(mark, "a"), half, hour))
    return _two(pc.cast(shifted, pa.string()))
