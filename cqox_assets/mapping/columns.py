"""Reads the columns of any frame alike: what kind of values they hold, and those values as numbers or words."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import numpy as np
import pandas as pd

from cqox_assets.errors import DataError, MappingError
from cqox_assets.study import Role

Roles = Mapping[Role, tuple[str, ...]]
_DATE_TEXT = re.compile(r"\s*\d{4}\s*[-/.年]\s*\d{1,2}(\s*[-/.月]\s*\d{1,2}\s*日?|\s*月)?([T ]\d{1,2}:.*)?\s*")
ONE_COLUMN = frozenset({Role.OUTCOME, Role.UNIT, Role.TIME, Role.WEIGHT, Role.COHORT})


class Kind(StrEnum):
    """What a column holds, in words that people read."""

    BOOLEAN = "yes/no"
    INTEGER = "whole number"
    NUMBER = "number"
    DATE = "date"
    TEXT = "text"
    EMPTY = "empty"

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers."""
        return self in (Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER)


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with text column names and a fresh index; values are shared, not copied.

    Raises
    ------
    DataError
        If two columns have the same name.
    """
    names = [str(name) for name in frame.columns]
    twice = [name for name, many in pd.Series(names, dtype=object).value_counts().items() if many > 1]
    if twice:
        raise DataError(
            f"column name '{twice[0]}' appears more than once; rename one of the columns", code="column_name_twice"
        )
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a half sentence that points to the nearest known name, or lists what there is."""
    listed = [str(item) for item in known]
    near = difflib.get_close_matches(name, listed, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"there are {', '.join(listed[:20])}" + (" ..." if len(listed) > 20 else "") if listed else "there are none"


def read_roles(roles: Mapping[str, str | Sequence[str] | None], columns: Iterable[str]) -> Roles:
    """Check a mapping of role names to columns.

    A role with None or an empty list is kept with no columns: a person's word that nothing plays it.

    Raises
    ------
    MappingError
        If a role or a column is not known; the message suggests the nearest one.
    """
    known, read = list(columns), {}
    for key, value in roles.items():
        if str(key) not in set(Role):
            raise MappingError(f"role '{key}' is not known; {suggest(str(key), list(Role))}")
        names = () if value is None else (value,) if isinstance(value, str) else tuple(str(name) for name in value)
        for name in names:
            if name not in known:
                raise MappingError(f"role '{key}' names column '{name}', which the table lacks; {suggest(name, known)}")
        if Role(str(key)) in ONE_COLUMN and len(names) > 1:
            raise MappingError(f"role '{key}' takes one column, found {', '.join(names)}; keep one of them")
        read[Role(str(key))] = tuple(dict.fromkeys(names))
    return read


def unwrapped(series: pd.Series) -> pd.Series:
    """Return a categorical column as its values, a period as its start and a time difference in days."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype if not series.cat.categories.empty else object)
    if isinstance(series.dtype, pd.PeriodDtype):
        return pd.Series(series.dt.to_timestamp())
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        return pd.Series(series.dt.total_seconds() / 86_400)
    return series


def _is_date_type(series: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(series.dtype) or str(series.dtype).startswith(("date32", "date64"))


def kind_of(series: pd.Series) -> Kind:
    """Return what the column holds, whatever its storage (numpy, Arrow, nullable, categorical, object)."""
    series = unwrapped(series)
    if len(series) == 0 or bool(series.isna().all()):
        return Kind.EMPTY
    dtype = series.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return Kind.BOOLEAN
    if pd.api.types.is_complex_dtype(dtype):
        return Kind.TEXT
    if pd.api.types.is_numeric_dtype(dtype):
        return Kind.INTEGER if pd.api.types.is_integer_dtype(dtype) or _whole(as_number(series)) else Kind.NUMBER
    if _is_date_type(series):
        return Kind.DATE
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return _kind_of_objects(series)
    return Kind.DATE if _looks_like_dates(series) else Kind.TEXT


def _kind_of_objects(series: pd.Series) -> Kind:
    found = pd.api.types.infer_dtype(series, skipna=True)
    if found == "boolean":
        return Kind.BOOLEAN
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return Kind.INTEGER if _whole(as_number(series)) else Kind.NUMBER
    if found in ("datetime", "datetime64", "date") or (found == "string" and _looks_like_dates(series)):
        return Kind.DATE
    return Kind.TEXT


def _whole(numbers: np.ndarray) -> bool:
    head = numbers[:1000]
    head = head[np.isfinite(head)]
    if np.any(head != np.floor(head)):
        return False
    finite = numbers[np.isfinite(numbers)]
    return bool(finite.size) and bool(np.all(finite == np.floor(finite)))


def _looks_like_dates(series: pd.Series) -> bool:
    seen = series.iloc[:2000].dropna().unique()[:50]
    if not len(seen) or not all(isinstance(item, str) and _DATE_TEXT.fullmatch(item) for item in seen):
        return False
    return bool(pd.isna(as_date(series)).sum() == series.isna().sum())


def as_date(series: pd.Series) -> pd.Series:
    """Return dates without time zone; what is not a date becomes missing."""
    series = unwrapped(series)
    if not _is_date_type(series):
        text = (
            as_text(series)
            .str.replace(r"\s*[年月/.]\s*(?=\d)", "-", regex=True)
            .str.replace(r"[年月日]", "", regex=True)
        )
        series = pd.to_datetime(text, errors="coerce", format="mixed", utc=True)
    else:
        series = pd.to_datetime(series, errors="coerce", utc=True)
    return pd.Series(series.dt.tz_localize(None), index=series.index)


def as_number(series: pd.Series) -> np.ndarray:
    """Return float64 values of shape (n,); what is missing or no number is NaN."""
    series = unwrapped(series)
    if series.dtype == np.float64:
        return series.to_numpy()
    if pd.api.types.is_bool_dtype(series.dtype) or pd.api.types.is_numeric_dtype(series.dtype):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    if _is_date_type(series):
        return days_of(as_date(series))
    return np.asarray(pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan))


def days_of(dates: pd.Series) -> np.ndarray:
    """Return days since 1970-01-01 as float64 of shape (n,); a missing date is NaN."""
    since = (dates - pd.Timestamp(0)) / pd.Timedelta(days=1)
    return np.asarray(since.to_numpy(dtype=np.float64, na_value=np.nan))


def as_text(series: pd.Series) -> pd.Series:
    """Return words, trimmed and in one Unicode form, as an object column; what is missing or blank is None."""
    series = unwrapped(series)
    if _is_date_type(series):
        codes, levels = pd.factorize(as_date(series))
        words = [stamp.date().isoformat() if stamp == stamp.normalize() else stamp.isoformat() for stamp in levels]
    else:
        try:
            codes, raw = pd.factorize(series)
        except TypeError:  # lists, dictionaries and other values that cannot be hashed
            codes, raw = pd.factorize(series.map(str, na_action="ignore").astype(object))
        words = [word_of(item) for item in raw]
    table = np.array([word or None for word in words] + [None], dtype=object)
    return pd.Series(table[codes], index=series.index, dtype=object)


def word_of(value: object) -> str:
    """Return one value as people write it: 1.0 is '1', True is 'true'."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return unicodedata.normalize("NFKC", str(value)).strip()


def distinct_of(series: pd.Series) -> int:
    """Return the number of different values that are not missing."""
    try:
        return int(unwrapped(series).nunique())
    except TypeError:
        return int(as_text(series).nunique())
