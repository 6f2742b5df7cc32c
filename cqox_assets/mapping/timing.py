"""Puts time on one scale of sortable numbers: period columns, first treated periods and the time of an intervention."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.errors import DataError, DeclarationError
from cqox_assets.mapping.columns import Kind, as_date, as_number, as_text, days_of
from cqox_assets.mapping.vocabulary import fold

_PHASES = (
    {"before", "pre", "baseline", "前", "介入前", "施策前", "事前", "vorher", "vor"},
    {"after", "post", "endline", "follow up", "followup", "後", "介入後", "施策後", "事後", "nachher", "nach"},
)


@dataclass(frozen=True)
class Scale:
    """How moments became numbers: period 1 is the month or day of `origin`; words are numbered in order."""

    unit: str
    origin: pd.Timestamp | None = None
    words: tuple[str, ...] = ()

    def numbers(self, dates: pd.Series) -> np.ndarray:
        """Return the period of each date as float64 of shape (n,), NaN where missing."""
        if self.origin is None:
            raise ValueError("this scale has no dates")
        if self.unit == "month":
            months = (dates.dt.year - self.origin.year) * 12 + dates.dt.month - self.origin.month + 1
            return np.asarray(months.to_numpy(dtype=np.float64, na_value=np.nan))
        return np.asarray(days_of(dates) - days_of(pd.Series([self.origin]))[0] + 1)

    def label(self, name: str) -> str:
        """Return the name of the time column as people read it."""
        if self.origin is None:
            return name
        start = self.origin.strftime("%Y-%m" if self.unit == "month" else "%Y-%m-%d")
        return f"{name} ({self.unit}, 1 = {start})"

    def moment(self, stated: str | int | float, name: str) -> float:
        """Return a stated moment on this scale.

        Raises
        ------
        DeclarationError
            If it is neither a number nor a date nor one of the column's words.
        """
        if isinstance(stated, (int, float)):
            return float(stated)
        words = [fold(word) for word in self.words]
        if fold(stated) in words:
            return float(words.index(fold(stated)))
        try:
            if self.origin is not None:
                return float(self.numbers(as_date(pd.Series([stated], dtype=object)))[0])
            return float(stated) if not _is_date(stated) else float(pd.Timestamp(stated).year)
        except (ValueError, OverflowError):
            wanted = (
                "a date" if self.origin is not None else f"one of {', '.join(self.words[:6])}" if words else "a number"
            )
            raise DeclarationError(
                f"intervention_time is '{stated}', but '{name}' needs {wanted}; correct it in study.yaml"
            ) from None


def _is_date(stated: str) -> bool:
    return "-" in stated.strip()[1:]


def scale_of(series: pd.Series, kind: Kind) -> Scale:
    """Return the scale of a time column: months if all dates are first or last days of months, else days."""
    if kind == Kind.DATE:
        dates = as_date(series).dropna()
        if dates.empty:
            return Scale("day", pd.Timestamp(0))
        ends = dates.dt.is_month_start.all() or dates.dt.is_month_end.all()
        whole = bool(ends) and bool((dates == dates.dt.normalize()).all())
        return Scale("month" if whole else "day", dates.min())
    if kind == Kind.TEXT and not np.isfinite(as_number(series)).any():
        return Scale("step", words=tuple(_ordered(as_text(series).dropna().unique())))
    return Scale("number")


def _ordered(words: np.ndarray) -> list[str]:
    def rank(word: str) -> tuple[int, list[tuple[int, int, str]]]:
        folded = fold(word)
        phase = next((place for place, names in enumerate(_PHASES) if folded in names), 2)
        digits = "".join(sign if sign.isdecimal() else " " for sign in word).split()
        return phase, [*((0, int(part), "") for part in digits), (1, 0, folded)]

    return sorted(words, key=rank)


def code_time(series: pd.Series, kind: Kind, name: str) -> tuple[np.ndarray, Scale, list[str]]:
    """Return a time column as sortable float64 of shape (n,), its scale and what was decided."""
    scale = scale_of(series, kind)
    if scale.origin is not None:
        numbers = scale.numbers(as_date(series))
        return numbers, scale, [f"time '{name}' became {scale.unit}s counted from 1 = {scale.origin.date()}"]
    if scale.words:
        places = {word: float(place) for place, word in enumerate(scale.words)}
        coded = as_text(series).map(places).to_numpy(dtype=np.float64, na_value=np.nan)
        shown = ", ".join(f"{word} = {place}" for place, word in enumerate(scale.words[:6]))
        return coded, scale, [f"time '{name}' was numbered: {shown}"]
    numbers = as_number(series)
    return np.where(np.isfinite(numbers), numbers, np.nan), scale, []


def code_cohort(series: pd.Series, kind: Kind, name: str, scale: Scale | None) -> tuple[np.ndarray, list[str]]:
    """Return first treated periods on the scale of time, 0 where never treated.

    Raises
    ------
    MappingError
        If time holds dates and the cohort numbers: whether 2003 is a year or the 2003rd day cannot be told.
    """
    if kind == Kind.DATE:
        use = scale if scale is not None and scale.origin is not None else scale_of(series, kind)
        numbers = use.numbers(as_date(series))
    elif scale is not None and scale.words and kind == Kind.TEXT:
        numbers = as_text(series).map({word: float(i) for i, word in enumerate(scale.words)}).to_numpy(np.float64)
    else:
        numbers = as_number(series)
    if scale is not None and scale.origin is not None and kind != Kind.DATE and np.any(np.nan_to_num(numbers) != 0):
        first = numbers[np.nan_to_num(numbers) != 0][0]
        raise DataError(
            f"column '{name}' cannot be the cohort: it holds numbers such as {first:g}, which are not on the scale of "
            "time, a column of dates; deliver the first treated period as a date, empty where never treated"
        )
    never = ~np.isfinite(numbers)
    notice = (
        [f"cohort '{name}': {int(never.sum())} rows without a period count as never treated"] if never.any() else []
    )
    return np.where(never, 0.0, numbers), notice
