"""What a column is: its type is judged from every one of its values, then each batch is converted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from cqox_assets.ingestion.dates import STAMP, DateScan
from cqox_assets.ingestion.missing import UNLESS, WORDS, opposite_array, word_array
from cqox_assets.ingestion.numbers import EXACT, NumberScan


@dataclass(frozen=True)
class Habits:
    """How a file writes what one column alone leaves open."""

    style: str = "dot"
    order: str = "month first"


class BoolScan:
    """Decides whether all texts of a column are true or false."""

    def accept(self, values: pa.Array) -> bool:
        """Add non-empty texts; False if one is neither."""
        return bool(pc.all(pc.match_substring_regex(values, "(?i)^(true|false)$")).as_py())

    def evidence(self) -> str | None:
        """Nothing is left open."""
        return None

    def convert(self, values: pa.Array) -> pa.Array:
        """Turn texts (nulls stay null) into booleans."""
        return pc.equal(pc.utf8_lower(values), "true")


Scan = NumberScan | BoolScan | DateScan


@dataclass
class ColumnScan:
    """Everything that one pass over a column's values tells about it.

    `present` counts values that are not missing, `words` how often each word for a missing value occurs.
    """

    name: str
    present: int = 0
    words: Counter[str] = field(default_factory=Counter)
    opposites: set[str] = field(default_factory=set)
    is_text: bool = False
    dirty: bool = False
    scan: Scan | None = None
    typed: set[pa.DataType] = field(default_factory=set)
    exact: bool = True

    def observe(self, values: pa.Array) -> None:
        """Look at one batch of the column: texts, or values that already have a type."""
        values = values.drop_null() if values.null_count else values
        if not len(values) or pa.types.is_null(values.type):
            return
        if not pa.types.is_string(values.type):
            self.present += len(values)
            self.typed.add(values.type)
            if pa.types.is_integer(values.type):
                ends = pc.min_max(values).as_py()
                self.exact = self.exact and ends["min"] >= -EXACT and ends["max"] <= EXACT
            return
        if self.is_text:
            self._observe_text(values)
        elif not self.dirty and self._fits(values):
            self.present += len(values)
        else:
            values = self._clean(values)
            self.present += len(values)
            if len(values) and not self._fits(values) and not self._other_kind(values):
                self.scan, self.is_text = None, True
                self.opposites |= set(values.filter(pc.is_in(values, opposite_array())).unique().to_pylist())

    def _fits(self, values: pa.Array) -> bool:
        if self.scan is not None:
            return self.scan.accept(values)
        scan = NumberScan()
        if scan.accept(values):
            self.scan = scan
        return self.scan is not None

    def _other_kind(self, values: pa.Array) -> bool:
        """Try booleans and dates, once, on the first values of the column."""
        if self.scan is not None:
            return False
        for scan in (BoolScan(), DateScan()):
            if scan.accept(values):
                self.scan = scan
                return True
        return False

    def _clean(self, values: pa.Array) -> pa.Array:
        """Trim texts, count words for missing values and take them out."""
        self.dirty = True
        trimmed = pc.utf8_trim_whitespace(values)
        missing = pc.is_in(trimmed, word_array())
        self._count(trimmed.filter(missing))
        return trimmed.filter(pc.invert(missing))

    def _count(self, words: pa.Array) -> None:
        for entry in pc.value_counts(words).to_pylist():
            self.words[entry["values"]] += entry["counts"]

    def _observe_text(self, values: pa.Array) -> None:
        trimmed = pc.utf8_trim_whitespace(values)
        missing = pc.is_in(trimmed, word_array())
        found = trimmed.filter(missing)
        self._count(found)
        self.present += len(values) - len(found)
        opposite = pc.is_in(trimmed, opposite_array())
        if pc.any(opposite).as_py():
            self.opposites |= set(trimmed.filter(opposite).unique().to_pylist())

    def levels(self) -> set[str]:
        """Words that are levels of this text column because their opposite occurs as well (なし beside あり)."""
        return {word for word in self.words if self.opposites & set(UNLESS.get(word, ()))}

    def own_type(self, habits: Habits) -> tuple[pa.DataType | None, str]:
        """Return the narrowest type that keeps every value (None without values), and why numbers became text."""
        kinds = set(self.typed)
        reason = ""
        if isinstance(self.scan, NumberScan):
            kind, reason = self.scan.styles[self.scan.choose(habits.style)].kind()
            kinds.add(kind)
        elif isinstance(self.scan, BoolScan):
            kinds.add(pa.bool_())
        elif isinstance(self.scan, DateScan):
            kinds.add(STAMP)
        elif self.is_text and (self.present or self.levels()):
            kinds.add(pa.string())
        return widen(kinds, self.is_exact(habits)), reason

    def is_exact(self, habits: Habits) -> bool:
        """Whether every whole number of the column is exact in float64."""
        if isinstance(self.scan, NumberScan):
            return self.exact and self.scan.styles[self.scan.choose(habits.style)].exact
        return self.exact

    def convert(self, values: pa.Array, target: pa.DataType, habits: Habits) -> pa.Array:
        """Give one batch of the column its type."""
        if pa.types.is_null(values.type):
            return pa.nulls(len(values), target)
        if not pa.types.is_string(values.type):
            return pc.cast(values, target)
        if self.dirty or self.words:
            values = self._without_words(values, trim=not pa.types.is_string(target))
        if pa.types.is_string(target):
            return values
        if isinstance(self.scan, NumberScan):
            return self.scan.convert(values, target, self.scan.choose(habits.style))
        if isinstance(self.scan, BoolScan):
            return self.scan.convert(values)
        if isinstance(self.scan, DateScan):
            return self.scan.convert(values, target, self.scan.choose(habits.order))
        return pa.nulls(len(values), target)

    def _without_words(self, values: pa.Array, *, trim: bool) -> pa.Array:
        trimmed = pc.utf8_trim_whitespace(values)
        words = (set(self.words) | {""}) - (self.levels() if self.is_text else set())
        missing = pc.is_in(trimmed, pa.array(sorted(words), pa.string()))
        return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed if trim else values)


def widen(kinds: Iterable[pa.DataType | None], exact: bool) -> pa.DataType | None:
    """Return the narrowest type that holds values of all kinds; text where nothing else keeps every digit.

    Parameters
    ----------
    kinds : iterable of DataType or None
        None stands for a column without values.
    exact : bool
        Whether all whole numbers are exact in float64.
    """
    found = {kind for kind in kinds if kind is not None}
    if len(found) <= 1:
        return next(iter(found), None)
    if found == {pa.int64(), pa.float64()} and exact:
        return pa.float64()
    if all(pa.types.is_timestamp(kind) for kind in found):
        return pa.timestamp("ns")
    return pa.string()


def habits_of(columns: Iterable[ColumnScan], delimiter: str | None) -> Habits:
    """Read from the columns that prove it how a file writes decimals and dates."""
    scans = [column.scan for column in columns]
    styles = {scan.evidence() for scan in scans if isinstance(scan, NumberScan) and scan.separated} - {None}
    orders = {scan.evidence() for scan in scans if isinstance(scan, DateScan)} - {None}
    continental = styles == {"comma"} or (not styles and delimiter == ";")
    order = next(iter(orders)) if len(orders) == 1 else ("day first" if continental else "month first")
    return Habits(style="comma" if continental else "dot", order=str(order))


def words_used(column: ColumnScan) -> dict[str, int]:
    """Words of the column that were read as missing values, with their counts."""
    levels = column.levels() if column.is_text else set()
    return {word: count for word, count in column.words.items() if word and word in WORDS and word not in levels}
