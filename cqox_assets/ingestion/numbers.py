"""Numbers written as text, in point or comma style, recognised and converted without losing a digit."""

import re
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

EXACT = 2**53  # integers up to here are exact in float64
DIGITS = 17  # significant digits that float64 can tell apart
AFFIXES = ("%", "$", "€", "£", "¥", "円", "USD", "EUR", "JPY", "GBP", "CHF")
_TAIL = r"(?:[eE][+-]?\d+)?$"
_WHOLE = r"(?:0|[1-9]\d*|[1-9]\d{0,2}(?:[%s]\d{3})+)"
_WHOLE_DOT, _WHOLE_COMMA = _WHOLE % ", '", _WHOLE % ". '"
_STYLES = {
    "dot": rf"^[+-]?(?:{_WHOLE_DOT}(?:\.\d*)?|\.\d+){_TAIL}",
    "comma": rf"^[+-]?(?:{_WHOLE_COMMA}(?:,\d*)?|,\d+){_TAIL}",
}
_PEEK = re.compile(r"[+\-−▲△]?\s*\D{0,4}\s*[+-]?[\d.,].*")


@dataclass
class Measure:
    """What the numbers of a column look like when they are read in one style."""

    alive: bool = True
    fraction: bool = False
    digits: int = 0
    low: int = 0
    high: int = 0
    huge: bool = False

    def take(self, values: pa.Array) -> None:
        """Add plain decimal texts ("-12", "1.5e3")."""
        if self.fraction or pc.any(pc.match_substring(values, ".")).as_py():
            self.fraction = True
        elif (whole := attempt(values, pa.int64())) is not None:
            self.span(whole)
            return
        elif pc.any(pc.match_substring_regex(values, "[eEiI]")).as_py():
            self.fraction = True
        lengthy = values.filter(pc.greater_equal(pc.binary_length(values), 16))
        if len(lengthy):
            self.digits = max(self.digits, _significant(lengthy))
            values = lengthy
        elif self.fraction:
            return
        whole = attempt(values.filter(pc.match_substring_regex(values, r"^-?\d+$")), pa.int64())
        if whole is None:
            self.huge = True
        else:
            self.span(whole)

    def span(self, values: pa.Array) -> None:
        """Widen the range of whole numbers."""
        ends = pc.min_max(values).as_py()
        if ends["min"] is not None:
            self.low, self.high = min(self.low, ends["min"]), max(self.high, ends["max"])

    @property
    def exact(self) -> bool:
        """Whether every whole number is exact in float64."""
        return not self.huge and self.low >= -EXACT and self.high <= EXACT

    def kind(self) -> tuple[pa.DataType, str]:
        """Return the type that keeps every digit, and the reason when that is text."""
        if not self.fraction:
            return (pa.string(), "whole numbers beyond 64 bits") if self.huge else (pa.int64(), "")
        if self.digits > DIGITS:
            return pa.string(), f"decimals of more than {DIGITS} digits"
        if not self.exact:
            return pa.string(), "whole numbers beyond 2^53 among decimals"
        return pa.float64(), ""


@dataclass
class NumberScan:
    """Decides whether all texts of a column are numbers, and in which style."""

    affix: str | None = None
    decorated: bool = False
    separated: bool = False
    styles: dict[str, Measure] = field(default_factory=lambda: {"dot": Measure(), "comma": Measure()})

    def accept(self, values: pa.Array) -> bool:
        """Add non-empty texts; False if one of them is no number of the kind seen so far."""
        whole = None if self.styles["dot"].fraction else _whole(values)
        if whole is not None:
            if self.affix:
                return False
            self.affix = ""
            for measure in self.styles.values():
                measure.span(whole)
            return True
        if self.styles["dot"].alive and not self.affix and _decimal(values):
            self.affix, self.separated = "", True
            self.styles["dot"].take(self._unsigned(values))
            self._try("comma", values)
            return True
        return self._decorated(values)

    def _unsigned(self, values: pa.Array) -> pa.Array:
        if not pc.any(pc.starts_with(values, "+")).as_py():
            return values
        self.decorated = True
        return pc.replace_substring_regex(values, r"^\+", "")

    def _try(self, style: str, values: pa.Array) -> None:
        measure = self.styles[style]
        if measure.alive:
            plain = _plain(values, style)
            fits = pc.all(pc.match_substring_regex(values, _STYLES[style])).as_py()
            measure.alive = bool(fits and pc.all(pc.is_finite(pc.cast(plain, pa.float64()))).as_py())
            if measure.alive:
                measure.take(plain)

    def _decorated(self, values: pa.Array) -> bool:
        if not _PEEK.fullmatch(values[0].as_py().strip()):
            return False
        clean = _tidy(values)
        first = clean[0].as_py()
        affix = next((sign for sign in AFFIXES if sign in first), "")
        if self.affix is not None and affix != self.affix:
            return False
        if affix and not pc.all(pc.equal(pc.count_substring(clean, affix), 1)).as_py():
            return False
        clean = _without(clean, affix)
        for style in self.styles:
            self._try(style, clean)
        if not any(measure.alive for measure in self.styles.values()):
            return False
        self.affix, self.decorated = affix, True
        self.separated = self.separated or bool(pc.any(pc.match_substring_regex(clean, "[.,]")).as_py())
        return True

    def evidence(self) -> str | None:
        """Return the style that this column proves, or None if it could be either."""
        alive = [style for style, measure in self.styles.items() if measure.alive]
        return alive[0] if len(alive) == 1 else None

    def choose(self, default: str) -> str:
        """Return the style to read the column in, given the style of the file."""
        return self.evidence() or default

    def convert(self, values: pa.Array, target: pa.DataType, style: str) -> pa.Array:
        """Turn texts (nulls stay null) into numbers."""
        if self.decorated or (style == "comma" and self.separated):
            values = _plain(_without(_tidy(values), self.affix or ""), style)
        return pc.cast(values, target)


def attempt(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Cast texts, or return None if one does not fit.

    A few values are tried first, because Arrow writes an error message for every value that fails.
    """
    try:
        pc.cast(values.slice(0, 4), kind)
        return pc.cast(values, kind)
    except pa.ArrowInvalid:
        return None


def _whole(values: pa.Array) -> pa.Array | None:
    numbers = attempt(values, pa.int64())
    if numbers is None:
        return None
    padded = pc.or_(
        pc.and_(pc.starts_with(values, "0"), pc.greater(pc.binary_length(values), 1)), pc.starts_with(values, "-0")
    )
    return None if pc.any(padded).as_py() else numbers


def _decimal(values: pa.Array) -> bool:
    numbers = attempt(values, pa.float64())
    if numbers is None:
        return False
    odd = pc.invert(pc.is_finite(numbers))
    if pc.any(odd).as_py():  # "inf" is a number, 1e999 and nan are not
        words = values.filter(odd)
        if not pc.all(pc.match_substring_regex(words, "(?i)^[+-]?inf(inity)?$")).as_py():
            return False
    zero = pc.or_(pc.starts_with(values, "0"), pc.or_(pc.starts_with(values, "-0"), pc.starts_with(values, "+0")))
    return not pc.any(pc.match_substring_regex(values.filter(zero), r"^[+-]?0\d")).as_py()


def _significant(values: pa.Array) -> int:
    """Return the largest number of significant digits among plain decimal texts."""
    mantissa = pc.replace_substring_regex(values, "[eE].*$", "")
    dotted = pc.match_substring(mantissa, ".")
    mantissa = pc.if_else(dotted, pc.utf8_rtrim(mantissa, "0"), mantissa)
    digits = pc.utf8_ltrim(pc.replace_substring_regex(mantissa, "[^0-9]", ""), "0")
    return int(pc.max(pc.binary_length(digits)).as_py() or 0)


def _tidy(values: pa.Array) -> pa.Array:
    """Bring full-width digits, special spaces, apostrophes and minus signs to their plain form."""
    if not pc.all(pc.string_is_ascii(values)).as_py():
        values = pc.utf8_normalize(values, "NFKC")
        values = pc.replace_substring_regex(values, "^[−‐–▲△]", "-")
        values = pc.replace_substring(values, "’", "'")
    return pc.utf8_trim_whitespace(values)


def _without(values: pa.Array, affix: str) -> pa.Array:
    if not affix:
        return values
    sign = re.escape(affix)
    values = pc.replace_substring_regex(values, rf"^([+-]?)\s*{sign}\s*", r"\1")
    return pc.replace_substring_regex(values, rf"\s*{sign}$", "")


def _plain(values: pa.Array, style: str) -> pa.Array:
    """Rewrite numbers of one style as plain decimal texts."""
    values = pc.replace_substring_regex(values, r"^\+|[, ']" if style == "dot" else r"^\+|[. ']", "")
    return values if style == "dot" else pc.replace_substring(values, ",", ".")
