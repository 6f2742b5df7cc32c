"""Codes treatments as arms and words of outcomes as 0 and 1, and says what was decided."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cqox_assets.declaration import Contrast
from cqox_assets.errors import DataError, DeclarationError
from cqox_assets.mapping.columns import Kind, as_number, as_text, suggest
from cqox_assets.mapping.vocabulary import fold, matches, one_of, reference_of

MANY_LEVELS = 10
_ROWS_PER_LEVEL = 5
_STRAY = 0.1
_DIGITS = re.compile(r"(\d+)")
_CODE = re.compile(r"0\d")


@dataclass(frozen=True)
class Coding:
    """Coded columns: values, shape (n, k), NaN where missing or not compared; arms, reference first; notices."""

    values: np.ndarray
    arms: tuple[str, ...] = ()
    left_out: np.ndarray | None = None
    notices: tuple[str, ...] = field(default_factory=tuple)


def code_treatment(
    columns: Sequence[pd.Series], kinds: Sequence[Kind], names: Sequence[str], contrast: Contrast,
    *, continuous: bool = False,
) -> Coding:  # fmt: skip
    """Code one treatment, or several that repeat it in time, as arms 0, 1, ...; a continuous one stays as it is.

    The reference arm is the declared one, else the one that reads like it (control, no, placebo, いいえ, nein, 0), else
    the lowest number or the first in order, with a notice.

    Parameters
    ----------
    columns : sequence of Series
        Treatment columns, each of length n.
    contrast : Contrast
        Declared reference and compared arms; rows of other arms are marked in `left_out`.
    continuous : bool
        Whether the numbers are declared an amount, however few they are; else many distinct numbers are one.

    Raises
    ------
    DeclarationError
        If a declared arm is not among the values, or a continuous treatment holds words or is to have arms.
    """
    numeric = all(kind.numeric or kind == Kind.EMPTY for kind in kinds)
    if continuous:
        _check_continuous(numeric, names, contrast)
    if numeric:
        numbers = np.column_stack([as_number(series) for series in columns])
        if continuous or _is_continuous(numbers):
            return Coding(np.where(np.isfinite(numbers), numbers, np.nan))
    codes, levels = _levels(columns, numeric=all(kind.numeric for kind in kinds))
    label = f"treatment '{', '.join(names)}'"
    arms, chosen = _choose_arms(levels, contrast, label)
    position = np.array([arms.index(level) if level in arms else np.nan for level in levels] + [np.nan])
    values = position[codes]
    left_out = np.any((codes >= 0) & np.isnan(values), axis=1)
    notices = []
    if chosen == "order" and len(arms) > 1:
        notices.append(
            f"{label}: '{arms[0]}' is taken as the reference arm because it comes first; to change it state "
            f"contrast: {{reference: {arms[1]}}} in study.yaml"
        )
    if numeric and len(arms) > 2 and not contrast.compared:
        notices.append(
            f"{label}: its {len(arms)} numbers are taken as arms; if they are an amount, state treatment_kind: "
            "continuous in study.yaml"
        )
    return Coding(values, _readable(arms), left_out if left_out.any() else None, tuple(notices))


def _check_continuous(numeric: bool, names: Sequence[str], contrast: Contrast) -> None:
    listed = ", ".join(f"'{name}'" for name in names)
    if not numeric:
        raise DeclarationError(f"treatment_kind is continuous, but treatment {listed} does not hold numbers")
    if contrast.reference is not None or contrast.compared:
        raise DeclarationError(f"treatment_kind is continuous, so treatment {listed} has no arms for contrast to name")


def _is_continuous(numbers: np.ndarray) -> bool:
    finite = numbers[np.isfinite(numbers)]
    levels = len(np.unique(finite))
    whole = bool(np.all(finite == np.floor(finite)))
    return levels > MANY_LEVELS or (not whole and levels * _ROWS_PER_LEVEL > finite.size)


def _levels(columns: Sequence[pd.Series], *, numeric: bool) -> tuple[np.ndarray, list[str]]:
    """Return codes, shape (n, k), -1 where missing, and the ordered levels; spellings of one word are one level."""
    words = [as_text(series) for series in columns]
    if numeric:  # infinite numbers are no level
        words = [text.where(np.isfinite(as_number(series)), None) for text, series in zip(words, columns, strict=True)]
    counts = pd.concat(words, ignore_index=True).value_counts()
    spelling: dict[str, str] = {}
    for word in counts.index:  # most frequent spelling first
        spelling.setdefault(fold(word), str(word))
    key = (lambda level: float(level)) if numeric and "true" not in spelling and "false" not in spelling else _natural
    levels = sorted(spelling.values(), key=key)
    place = {word: levels.index(spelling[fold(word)]) for word in counts.index}
    table = np.column_stack([text.map(place).fillna(-1).to_numpy(dtype=np.int64) for text in words])
    return table, levels


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in _DIGITS.split(text) if part]


def _choose_arms(levels: list[str], contrast: Contrast, label: str) -> tuple[list[str], str]:
    """Return the arms, reference first, and how the reference was chosen: declared, vocabulary or order."""
    compared = [_find(levels, stated, label) for stated in contrast.compared]
    if contrast.reference is not None:
        reference, how = _find(levels, contrast.reference, label), "declared"
    else:
        known = reference_of(levels)
        rest = compared if len(compared) > 1 else [level for level in levels if level not in compared] or levels
        reference, how = (known, "vocabulary") if known is not None else (rest[0] if rest else "", "order")
    kept = [level for level in levels if not compared or level in compared]
    return [reference, *(level for level in kept if level != reference)] if levels else [], how


def _find(levels: list[str], stated: object, label: str) -> str:
    found = [level for level in levels if matches(level, stated)]
    if not found:
        raise DeclarationError(
            f"contrast names arm '{stated}', which {label} does not have; {suggest(str(stated), levels)}"
        )
    return found[0]


def _readable(arms: Sequence[str]) -> tuple[str, ...]:
    """Name arms that are only coded 0 and 1, or false and true."""
    if set(arms) in ({"0", "1"}, {"false", "true"}):
        return tuple("treated" if arm in ("1", "true") else "control" for arm in arms)
    return tuple(arms)


def code_number(series: pd.Series, kind: Kind, name: str, role: str) -> tuple[np.ndarray, list[str]]:
    """Return a column as float64 of shape (n,), NaN where missing; two words become 0 and 1.

    Raises
    ------
    DataError
        If the column holds words that are no numbers and are not two, or dates for an outcome.
    """
    if kind == Kind.DATE and role == "outcome":
        raise DataError(
            f"column '{name}' holds dates and cannot be the outcome; give a number, such as days until it",
            code="outcome_is_date",
        )
    if kind != Kind.TEXT:
        numbers = as_number(series)
        return np.where(np.isfinite(numbers), numbers, np.nan), []
    words = as_text(series)
    numbers = as_number(words)
    if np.array_equal(np.isfinite(numbers), words.notna().to_numpy()):
        return numbers, [f"{role} '{name}' holds numbers as text; they were read as numbers"]
    spelling = {word: fold(word) for word in words.dropna().unique()}
    levels = sorted({folded: word for word, folded in spelling.items()}.values())
    if len(levels) > 2:
        raise DataError(
            f"column '{name}' cannot be the {role}: it holds words such as {', '.join(map(repr, levels[:4]))}; "
            "give numbers or two values such as yes and no",
            code=f"{role}_not_numeric",
        )
    one, sure = one_of(levels)
    coded = words.map({word: float(one is not None and folded == fold(one)) for word, folded in spelling.items()})
    notice = f"{role} '{name}': '{one}' counts as 1" + (f", '{_other(levels, one)}' as 0" if len(levels) == 2 else "")
    if not sure:
        notice += "; the words do not say which is which, so code the column 0/1 before delivery to change it"
    return coded.to_numpy(dtype=np.float64, na_value=np.nan), [notice] if one is not None else []


def _other(levels: list[str], one: str | None) -> str:
    return next(level for level in levels if level != one)


def numbers_among_words(series: pd.Series, least: int) -> tuple[np.ndarray, list[str]] | None:
    """Return the numbers of a text column, NaN where there is none, and the words that stand among them.

    None where the column holds words: at most `least` different values (codes of groups), numbers in fewer than half
    of the rows, more than one stray word among ten different values, or codes that begin with 0.
    """
    words = as_text(series)
    levels = words.dropna().unique()
    numbers = as_number(pd.Series(levels, dtype=object))
    sound = np.isfinite(numbers)
    if len(levels) <= least or not sound.any() or (~sound).mean() > _STRAY:
        return None
    if any(_CODE.match(str(level)) for level in levels):
        return None
    values = words.map(dict(zip(levels, np.where(sound, numbers, np.nan), strict=True)))
    read = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isfinite(read).sum() * 2 < words.notna().sum():
        return None
    return read, [str(level) for level in levels[~sound]]
