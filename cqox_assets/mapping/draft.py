"""Places the columns of a study, one kind of role after another, and notes what was decided."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cqox_assets.mapping.coding import Coding, code_number
from cqox_assets.mapping.columns import Kind, as_number, as_text, unwrapped
from cqox_assets.mapping.encode import Encoded, encode_covariates
from cqox_assets.mapping.profile import outlier_mask
from cqox_assets.mapping.timing import Scale, code_cohort, code_time
from cqox_assets.study import Role

_LABELLED = (Role.UNIT, Role.CLUSTER, Role.STRATUM, Role.SUBGROUP, Role.PAIR)
_CODED = (Role.OUTCOME, Role.TREATMENT, Role.TIME, Role.COHORT, Role.COVARIATES, *_LABELLED)
_LONG_TAILED = (Role.OUTCOME, Role.COVARIATES, Role.PRE_OUTCOME, Role.RUNNING_VARIABLE, Role.MEDIATOR, Role.DOSE)
MISSING = "(missing)"


@dataclass
class Draft:
    """A study under construction; `columns` grows by name, `frame` holds the delivered columns that play a role."""

    frame: pd.DataFrame
    roles: dict[Role, tuple[str, ...]]
    kinds: dict[str, Kind]
    columns: dict[str, object] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    arms: tuple[str, ...] = ()
    unusable: dict[str, str] = field(default_factory=dict)

    def names(self, role: Role) -> tuple[str, ...]:
        """Columns that play the role, possibly none."""
        return self.roles.get(role, ())

    def place(self, name: str, values: object) -> str:
        """Add a column and return its name, changed if another column of different values holds it."""
        while name in self.columns and not np.array_equal(np.asarray(self.columns[name]), np.asarray(values)):
            name += "'"
        self.columns[name] = values
        return name


def place_treatment(draft: Draft, coding: Coding | None) -> None:
    """Place the coded treatment columns and take their arms."""
    if coding is None:
        return
    draft.arms = coding.arms
    for position, name in enumerate(draft.names(Role.TREATMENT)):
        draft.columns[name] = coding.values[:, position]


def place_time(draft: Draft) -> Scale | None:
    """Place time and cohort on one scale and return it, or None without a time column."""
    scale = None
    for name in draft.names(Role.TIME):
        values, scale, notices = code_time(draft.frame[name], draft.kinds[name], name)
        draft.place(name, values)
        draft.notices += notices
        if scale.origin is not None:
            draft.labels[name] = scale.label(name)
    for name in draft.names(Role.COHORT):
        values, notices = code_cohort(draft.frame[name], draft.kinds[name], name, scale)
        draft.roles[Role.COHORT] = (draft.place(name, values),)
        draft.notices += notices
    return scale


def place_number(draft: Draft, role: Role, name: str) -> str:
    """Place a column that a role reads as numbers and return the name that it has in the study."""
    values, notices = code_number(draft.frame[name], draft.kinds[name], name, str(role))
    draft.notices += notices
    return draft.place(name, values)


def place_labelled(draft: Draft) -> None:
    """Place the columns that keep their labels: whole numbers and words stay what they are."""
    for role in _LABELLED:
        placed = []
        for name in draft.names(role):
            series, kind = unwrapped(draft.frame[name]), draft.kinds[name]
            if name in draft.columns:
                placed.append(name)
            elif kind == Kind.INTEGER and _fits(series):
                placed.append(draft.place(name, series.to_numpy(dtype=np.int64)))
            elif kind.numeric and np.isfinite(as_number(series)).all() and not _is_long(series):
                placed.append(draft.place(name, as_number(series)))
            else:
                placed.append(draft.place(name, as_text(series).fillna(MISSING).astype("str")))
        draft.roles[role] = tuple(placed)


def _fits(series: pd.Series) -> bool:
    whole = pd.api.types.is_integer_dtype(series.dtype) and not series.isna().any()
    return bool(whole and (series.empty or series.max() < 2**63))


def _is_long(series: pd.Series) -> bool:
    """Whether a number has more digits than a float holds, so that two ids could become one."""
    return len(series) > 0 and float(np.abs(as_number(series)).max()) > 2**53


def place_covariates(draft: Draft) -> None:
    """Place the encoded covariates and strata; the role lists them in the order of the columns they come from."""
    names = draft.names(Role.COVARIATES)
    strata = [name for name in draft.names(Role.STRATUM) if name not in names]
    if not names and not strata:
        return
    # Assignment may differ between strata, so each is a level of its own even where the column holds numbers.
    kinds = {**draft.kinds, **dict.fromkeys(strata, Kind.TEXT)}
    encoded = encode_covariates(draft.frame, [*names, *strata], kinds)
    if strata:
        draft.notices.append(f"strata of {', '.join(map(repr, strata))} are adjusted for as covariates")
    placed = []
    for name, values in encoded.columns.items():
        own = draft.place(name, values)
        placed.append(own)
        if name in encoded.labels:
            draft.labels.setdefault(own, encoded.labels[name])
    draft.roles[Role.COVARIATES] = tuple(placed)
    draft.notices += encoded.summary()
    draft.unusable = encoded.unusable


def place_numbers(draft: Draft) -> None:
    """Place the columns of every role that is read as numbers; what is also a covariate is already there."""
    for role in Role:
        if role in _CODED:
            continue
        placed: list[str] = []
        for name in draft.names(role):
            if role == Role.INSTRUMENTS and draft.kinds[name] == Kind.TEXT and as_text(draft.frame[name]).nunique() > 2:
                placed += _place_dummies(draft, name)
            elif role == Role.PRE_OUTCOME:
                placed.append(_place_earlier_outcome(draft, name))
            else:
                placed.append(place_number(draft, role, name))
        draft.roles[role] = tuple(placed)


def _place_dummies(draft: Draft, name: str) -> list[str]:
    encoded: Encoded = encode_covariates(draft.frame, [name], draft.kinds)
    draft.notices += encoded.summary()
    draft.labels.update(encoded.labels)
    return [draft.place(column, values) for column, values in encoded.columns.items()]


def _place_earlier_outcome(draft: Draft, name: str) -> str:
    """Place an earlier outcome; missing values become the median, as those of a covariate do."""
    values, notices = code_number(draft.frame[name], draft.kinds[name], name, Role.PRE_OUTCOME)
    draft.notices += notices
    known = values[np.isfinite(values)]
    if known.size and known.size < values.size:
        if name in draft.columns:
            return name
        draft.notices.append(f"pre_outcome '{name}': {values.size - known.size} missing values became the median")
        values = np.where(np.isfinite(values), values, np.median(known))
    return draft.place(name, values)


def note_outliers(draft: Draft) -> None:
    """Say which columns have outliers, and how many; nothing is changed."""
    found = []
    for name in dict.fromkeys(name for role in _LONG_TAILED for name in draft.names(role)):
        values = draft.columns.get(name)
        if (
            isinstance(values, np.ndarray)
            and values.dtype == np.float64
            and draft.kinds.get(name) in (Kind.INTEGER, Kind.NUMBER)
        ):
            many = int(outlier_mask(values).sum())
            found += [f"'{name}' ({many})"] if many else []
    if found:
        draft.notices.append(
            f"values more than 3 interquartile ranges outside the quartiles, kept as they are: {', '.join(found[:12])}"
        )


def ordered(draft: Draft) -> pd.DataFrame:
    """Put delivered columns in their own order, encoded ones after the column that they come from."""
    delivered = list(draft.frame.columns)
    place = {name: position for position, name in enumerate(delivered)}

    def rank(name: str) -> int:
        if name in place:
            return place[name]
        origins = [column for column in delivered if name.startswith(column)]
        return place[max(origins, key=len)] if origins else len(delivered)

    order = sorted(draft.columns, key=rank)
    index = pd.RangeIndex(len(draft.frame))
    return pd.DataFrame({name: draft.columns[name] for name in order}, index=index, columns=order or None, copy=False)
