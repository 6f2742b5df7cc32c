"""The column profile: what every column of a table holds, what it may be for, and how good the data are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.mapping.columns import Kind, as_number, as_text, distinct_of, kind_of, plain_frame, unwrapped, word_of
from cqox_assets.mapping.relations import Cutoff, find_cutoffs

FENCE = 3.0
FEW = 10
_WEIGHTS = {"completeness": 0.4, "variation": 0.2, "cleanliness": 0.2, "uniqueness": 0.2}
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class ColumnFacts:
    """What one column holds.

    `minimum`, `maximum` and `mean` are None for words; `outliers` is the share of values more than three
    interquartile ranges outside the quartiles; `top` lists the most frequent values with their number of rows.
    """

    name: str
    kind: Kind
    rows: int
    missing: float
    distinct: int
    minimum: float | str | None = None
    maximum: float | str | None = None
    mean: float | None = None
    outliers: float | None = None
    infinite: int = 0
    top: tuple[tuple[str, int], ...] = ()
    id_like: bool = False
    monotone: bool = False
    candidates: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def present(self) -> int:
        """Number of rows with a value."""
        return round(self.rows * (1 - self.missing))

    @property
    def two_valued(self) -> bool:
        """Whether there are exactly two different values."""
        return self.distinct == 2

    @property
    def few_valued(self) -> bool:
        """Whether there are 2 to 10 different values that many rows share: words, or whole numbers."""
        shared = 2 <= self.distinct <= FEW and self.present >= 3 * self.distinct
        return (shared or self.two_valued) and self.kind in (Kind.BOOLEAN, Kind.INTEGER, Kind.TEXT)


@dataclass(frozen=True)
class ColumnProfile:
    """The profile of a table.

    `score` is a number 0 to 100: 100 * (0.4 completeness + 0.2 variation + 0.2 cleanliness + 0.2 uniqueness), where
    completeness is the share of cells with a value, variation the share of columns that are not constant or empty,
    cleanliness one minus the mean share of outliers over numeric columns and uniqueness the share of rows that do not
    repeat an earlier row; `parts` holds the four.
    """

    rows: int
    columns: tuple[ColumnFacts, ...]
    cutoffs: tuple[Cutoff, ...]
    score: float
    parts: Mapping[str, float]

    def __getitem__(self, name: str) -> ColumnFacts:
        return next(facts for facts in self.columns if facts.name == name)

    @property
    def table(self) -> pd.DataFrame:
        """One row per column, for people and for Parquet."""
        rows = [
            {
                "column": facts.name,
                "type": str(facts.kind),
                "missing_share": facts.missing,
                "distinct": facts.distinct,
                "minimum": None if facts.minimum is None else word_of(facts.minimum),
                "maximum": None if facts.maximum is None else word_of(facts.maximum),
                "mean": facts.mean,
                "top_values": ", ".join(f"{value} ({many})" for value, many in facts.top),
                "outlier_share": facts.outliers,
                "candidate_roles": "; ".join(facts.candidates),
                "notes": "; ".join(facts.notes),
            }
            for facts in self.columns
        ]
        names = list(rows[0]) if rows else ["column", "type"]
        numbers = dict.fromkeys({"mean", "outlier_share", "missing_share"} & set(names), "float64")
        return pd.DataFrame(rows, columns=names).astype(numbers)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "columns": [{**asdict(facts), "kind": str(facts.kind)} for facts in self.columns]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ColumnProfile":
        """Rebuild a profile from `to_json`, also after a round trip through JSON text."""
        columns = tuple(
            ColumnFacts(
                **{
                    **facts,
                    "kind": Kind(facts["kind"]),
                    "top": tuple((value, many) for value, many in facts["top"]),
                    "candidates": tuple(facts["candidates"]),
                    "notes": tuple(facts["notes"]),
                }
            )
            for facts in row["columns"]
        )
        cutoffs = tuple(Cutoff(**item) for item in row["cutoffs"])
        return cls(row["rows"], columns, cutoffs, row["score"], dict(row["parts"]))


def profile_columns(frame: pd.DataFrame) -> ColumnProfile:
    """Profile every column of a table.

    Parameters
    ----------
    frame : DataFrame
        Any table; it is not changed.

    Raises
    ------
    MappingError
        If two columns have the same name.
    """
    table = plain_frame(frame)
    facts = [_facts(name, table[name]) for name in table.columns]
    real = [item for item in facts if not item.id_like]
    cutoffs = find_cutoffs(table, {item.name: item.kind for item in real}, {item.name: item.distinct for item in real})
    facts = [_with_notes(item, cutoffs) for item in facts]
    parts = _quality_parts(table, facts)
    score = 100 * sum(weight * parts[name] for name, weight in _WEIGHTS.items())
    return ColumnProfile(len(table), tuple(facts), cutoffs, round(score, 2), parts)


def _facts(name: str, series: pd.Series) -> ColumnFacts:
    kind, rows = kind_of(series), len(series)
    missing = float(series.isna().mean()) if rows else 0.0
    if kind == Kind.EMPTY:
        return ColumnFacts(name, kind, rows, 1.0 if rows else 0.0, 0)
    if kind == Kind.TEXT:
        words = as_text(series)
        counts = words.value_counts()
        return ColumnFacts(
            name, kind, rows, float(words.isna().mean()), len(counts), top=_top(counts), id_like=_is_id(counts, words)
        )
    return _number_facts(name, kind, series, missing)


def _number_facts(name: str, kind: Kind, series: pd.Series, missing: float) -> ColumnFacts:
    numbers = as_number(series)
    finite = numbers[np.isfinite(numbers)]
    distinct = distinct_of(series)
    infinite = int(np.isinf(numbers).sum())
    shared: dict[str, Any] = {"infinite": infinite, "missing": missing, "distinct": distinct, "rows": len(series)}
    if not finite.size:
        return ColumnFacts(name, kind, **shared)
    steps = np.diff(finite[:100_000])
    monotone = distinct > 2 and bool(np.all(steps >= 0)) and bool(np.all(np.diff(finite) >= 0))
    ends: tuple[Any, Any] = (float(finite.min()), float(finite.max()))
    if kind == Kind.DATE:
        ends = tuple((pd.Timestamp(0) + day * _DAY).round("s").isoformat() for day in ends)
    counts = unwrapped(series).value_counts() if distinct <= 30 else None
    return ColumnFacts(
        name,
        kind,
        minimum=ends[0],
        maximum=ends[1],
        mean=None if kind == Kind.DATE else _mean(finite),
        outliers=None if kind == Kind.DATE else float(outlier_mask(finite, distinct).mean()),
        top=() if counts is None else _top(counts),
        id_like=kind == Kind.INTEGER and distinct == len(series) > FEW and (monotone or _dense(finite)),
        monotone=monotone,
        **shared,
    )


def _dense(finite: np.ndarray) -> bool:
    """Whether all-different whole numbers fill their range, as running numbers do and amounts do not."""
    return bool(finite.max() - finite.min() < 2 * finite.size)


def _mean(finite: np.ndarray) -> float | None:
    with np.errstate(over="ignore"):
        mean = float(finite.mean())
    return mean if np.isfinite(mean) else None


def outlier_mask(numbers: np.ndarray, distinct: int | None = None) -> np.ndarray:
    """Mark values more than three interquartile ranges outside the quartiles (Tukey's far-out rule).

    A column of few different values, or whose quartiles coincide, has no outliers: the rule would call every
    rare answer one.
    """
    finite = numbers[np.isfinite(numbers)]
    none: np.ndarray = np.zeros(len(numbers), dtype=bool)
    if (distinct is not None and distinct <= FEW) or finite.size < 4:
        return none
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.percentile(finite, [25, 75])
        spread = high - low
        if not (spread > 0 and np.isfinite(spread)):
            return none
        far = (numbers < low - FENCE * spread) | (numbers > high + FENCE * spread)
        return np.asarray(far & np.isfinite(numbers))


def _top(counts: "pd.Series[int]") -> tuple[tuple[str, int], ...]:
    return tuple((word_of(value)[:60], int(many)) for value, many in counts.head(FEW).items())


def _is_id(counts: "pd.Series[int]", words: pd.Series) -> bool:
    return len(words) > FEW and len(counts) == int(words.notna().sum())


def _with_notes(facts: ColumnFacts, cutoffs: tuple[Cutoff, ...]) -> ColumnFacts:
    notes, roles = [], []
    if facts.kind == Kind.EMPTY:
        notes.append("has no values")
    elif facts.distinct <= 1:
        notes.append("constant")
    if facts.id_like:
        notes.append("id-like: a different value in every row")
        roles.append("unit (one value per row)")
    if facts.monotone and not facts.id_like and facts.distinct > FEW:
        notes.append("never decreases down the rows, as time does")
    if facts.kind == Kind.DATE:
        roles.append("time (dates)")
    if facts.few_valued:
        words = "two values" if facts.two_valued else f"{facts.distinct} values"
        roles.append(f"treatment ({words})")
    if (facts.kind.numeric and facts.distinct > FEW and not facts.id_like) or facts.two_valued:
        roles.append("outcome (two values)" if facts.two_valued else "outcome (numeric)")
    notes += [cutoff.sentence for cutoff in cutoffs if cutoff.running == facts.name]
    if any(cutoff.running == facts.name for cutoff in cutoffs):
        roles.append("running variable (cutoff candidate)")
    if facts.infinite:
        notes.append(f"{facts.infinite} infinite values count as missing")
    if facts.distinct >= 2 and not facts.id_like and facts.kind != Kind.DATE:
        roles.append("covariate")
    return ColumnFacts(**{**_shallow(facts), "candidates": tuple(roles), "notes": tuple(notes)})


def _shallow(facts: ColumnFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in facts.__dataclass_fields__}


def _quality_parts(table: pd.DataFrame, facts: list[ColumnFacts]) -> dict[str, float]:
    if not facts or table.empty:
        return dict.fromkeys(_WEIGHTS, 0.0)
    outliers = [item.outliers for item in facts if item.outliers is not None]
    return {
        "completeness": 1 - float(np.mean([item.missing + item.infinite / item.rows for item in facts])),
        "variation": float(np.mean([item.distinct > 1 for item in facts])),
        "cleanliness": 1 - (float(np.mean(outliers)) if outliers else 0.0),
        "uniqueness": 1 - float(_repeated(table, facts).mean()),
    }


def _repeated(table: pd.DataFrame, facts: list[ColumnFacts]) -> np.ndarray:
    """Mark rows that equal an earlier row in every column."""
    if any(item.id_like for item in facts):
        return np.zeros(len(table), dtype=bool)
    hashed: np.ndarray = np.zeros(len(table), dtype=np.uint64)
    for item in facts:
        values = table[item.name]
        plain = pd.Series(as_number(values)) if item.kind.numeric or item.kind == Kind.DATE else as_text(values)
        hashed = hashed * np.uint64(1_000_003) + pd.util.hash_pandas_object(plain, index=False).to_numpy()
    return np.asarray(pd.Series(hashed).duplicated())
