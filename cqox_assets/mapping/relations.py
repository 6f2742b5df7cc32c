"""Relations between columns: a treatment that switches at a cutoff, repeated units, names that differ in their year."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.mapping.columns import Kind, as_number, as_text, unwrapped
from cqox_assets.mapping.words import stem, tokens

_SAMPLE = 5_000
_SIDE_ROWS = 10
_SIDE_VALUES = 5


@dataclass(frozen=True)
class Cutoff:
    """A two-valued column that is a step function of a numeric one: it switches at `cutoff` and nowhere else."""

    treatment: str
    running: str
    cutoff: float
    above: str

    @property
    def sentence(self) -> str:
        """The finding in words."""
        return f"cutoff candidate: {self.treatment} is {self.above} exactly when {self.running} >= {self.cutoff:g}"


def find_cutoffs(table: pd.DataFrame, kinds: Mapping[str, Kind], distinct: Mapping[str, int]) -> tuple[Cutoff, ...]:
    """Find every pair of a two-valued and a numeric column where the first is a step function of the second.

    Both sides need at least 10 rows and 5 different values of the numeric column, so that a dose that is zero for
    the untreated is not taken for a running variable. A sample of rows rules pairs out, all rows confirm them.
    """
    steps = [name for name, many in distinct.items() if many == 2 and kinds[name] != Kind.DATE]
    runs = [name for name, many in distinct.items() if many > 2 * _SIDE_VALUES and kinds[name].numeric]
    if not steps or not runs or len(table) < 2 * _SIDE_ROWS:
        return ()
    stride = max(1, len(table) // _SAMPLE)
    head = table.iloc[::stride]
    sample = np.column_stack([as_number(head[name]) for name in runs])
    sample = np.where(np.isfinite(sample), sample, np.nan)
    found = []
    for step in steps:
        codes, _ = pd.factorize(_levels(head[step]))
        likely = _separated(sample, codes)
        if not likely.any():
            continue
        codes, levels = pd.factorize(_levels(table[step]), sort=True)
        for run in np.flatnonzero(likely):
            cutoff = _cutoff(step, runs[run], as_number(table[runs[run]]), np.asarray(codes), levels)
            found += [cutoff] if cutoff is not None else []
    return tuple(found)


def _levels(series: pd.Series) -> pd.Series:
    series = unwrapped(series)
    return as_text(series) if series.dtype == object else series


def _separated(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mark the columns whose values under code 0 and under code 1 do not overlap."""
    ends = []
    for code in (0, 1):
        part = values[codes == code]
        if not len(part):
            return np.ones(values.shape[1], dtype=bool)  # the sample holds one level only: let all rows decide
        low, high = (
            np.where(np.isnan(part), np.inf, part).min(axis=0),
            np.where(np.isnan(part), -np.inf, part).max(axis=0),
        )
        ends.append((low, high))
    (low0, high0), (low1, high1) = ends
    return np.asarray((high0 < low1) | (high1 < low0))


def _cutoff(step: str, run: str, values: np.ndarray, codes: np.ndarray, levels: Iterable[object]) -> Cutoff | None:
    known = np.isfinite(values) & (codes >= 0)
    sides = [values[known & (codes == code)] for code in (0, 1)]
    if any(side.size < _SIDE_ROWS for side in sides):
        return None
    order = (0, 1) if sides[0].max() < sides[1].min() else (1, 0)
    below, above = sides[order[0]], sides[order[1]]
    if not below.max() < above.min() or min(len(np.unique(below)), len(np.unique(above))) < _SIDE_VALUES:
        return None
    return Cutoff(step, run, float(above.min()), str(list(levels)[order[1]]))


def series_of_years(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return, for the latest of a series of names that differ in their year only, the earlier ones in order.

    `re74, re75, re78` is such a series; `x1, x2, x3` is not, nor is `x_50, x_51`: a year has two or four digits, and
    what is measured has a name of more than one letter.
    """
    ordered = yearly_groups(names)
    return {group[-1]: group[:-1] for group in ordered}


def yearly_groups(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of names that differ in their year only, each in time order."""
    groups: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for name in names:
        words, number = stem(name)
        if (
            number is not None
            and len("".join(words)) > 1
            and len(tokens(name)[-1]) in (2, 4)
            and (1900 <= number <= 2100 or 50 <= number <= 99)
        ):
            groups.setdefault(words, []).append((number, name))
    return [tuple(name for _, name in sorted(group)) for group in groups.values() if len(group) > 1]


def repeats(frame: pd.DataFrame, names: list[str]) -> int:
    """Return the number of rows that repeat an earlier row in the given columns; missing values count as values."""
    plain = pd.DataFrame({name: _levels(frame[name]) for name in names})
    return int(plain.duplicated().sum())


def varies_within(frame: pd.DataFrame, column: str, group: str) -> bool:
    """Whether a column has more than one value within at least one group."""
    pairs = pd.DataFrame({"group": _levels(frame[group]), "value": _levels(frame[column])}).dropna().drop_duplicates()
    return bool(pairs["group"].duplicated().any())


def same_partition(frame: pd.DataFrame, first: str, second: str) -> bool:
    """Whether two columns split the rows into the same groups, whatever they call them."""
    pairs = pd.DataFrame({"first": _levels(frame[first]), "second": _levels(frame[second])}).dropna().drop_duplicates()
    return bool(len(pairs)) and len(pairs) == pairs["first"].nunique() == pairs["second"].nunique()
