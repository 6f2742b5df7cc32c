"""Words that stand for a missing value."""

from functools import cache

import pyarrow as pa

# Always a missing value.
_SURE = (
    "NA", "N/A", "#N/A", "#NA", "N.A.", "<NA>", "NaN", "-NaN", "null", "(null)", "#NULL!", "#DIV/0!", "#VALUE!",
    "#REF!", "missing", "\\N", "欠損", "欠測", "欠損値", "該当なし", "k.A.", "k. A.", "keine Angabe", "NaT",
)  # fmt: skip
# A missing value unless the column also holds the opposite, which makes it a level.
_UNLESS = {
    "なし": ("あり", "有り", "有", "アリ"),
    "無し": ("あり", "有り", "有", "アリ"),
    "ナシ": ("あり", "有り", "有", "アリ"),
    "-": ("+", "++", "±"),
    "－": ("＋", "+"),
    "None": (), "不明": (), ".": (), "..": (), "?": (), "？": (), "--": (), "---": (), "–": (), "—": (),
    "―": (), "ー": (),
}  # fmt: skip


def _cases(words: tuple[str, ...]) -> set[str]:
    return {form for word in words for form in (word, word.lower(), word.upper(), word.capitalize())}


SURE = frozenset(_cases(_SURE))
UNLESS = {form: opposites for word, opposites in _UNLESS.items() for form in _cases((word,))}
OPPOSITES = frozenset(opposite for opposites in UNLESS.values() for opposite in opposites)
WORDS = SURE | UNLESS.keys()


def is_missing(cell: str) -> bool:
    """Whether a cell is empty or a word for a missing value."""
    text = cell.strip()
    return not text or text in WORDS


@cache
def word_array() -> pa.Array:
    """Every word for a missing value, and the empty text, as an Arrow array."""
    return pa.array(sorted(WORDS | {""}), pa.string())


@cache
def opposite_array() -> pa.Array:
    """Values whose presence turns a word into a level."""
    return pa.array(sorted(OPPOSITES), pa.string())
