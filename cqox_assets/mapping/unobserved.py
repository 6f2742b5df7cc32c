"""Rows of a panel whose outcome or treatment is missing: the other one is still part of their unit's history."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cqox_assets.mapping.coding import Coding
from cqox_assets.mapping.columns import Kind, as_date, as_number, as_text
from cqox_assets.mapping.draft import Draft
from cqox_assets.mapping.timing import Scale, code_cohort
from cqox_assets.study import Role

UNOBSERVED = "unobserved"


def unobserved_rows(
    draft: Draft, coding: Coding | None, missing: Callable[[str], np.ndarray], needed: Sequence[Role]
) -> pd.DataFrame | None:
    """Return the delivered rows that lack outcome or treatment and nothing else; None of no panel.

    Parameters
    ----------
    draft : Draft
        Before rows are dropped.
    coding : Coding, optional
        Of the treatment column.
    missing : callable
        Column -> where it is missing, boolean of shape (n,).
    needed : sequence of Role
        Roles that a row must have to be analysed.
    """
    one = all(len(draft.names(role)) == 1 for role in (Role.OUTCOME, Role.UNIT, Role.TIME))
    if not one or len(draft.names(Role.TREATMENT)) > 1 or not (draft.names(Role.TREATMENT) or draft.names(Role.COHORT)):
        return None
    silent = np.zeros(len(draft.frame), dtype=bool)
    for name in (*draft.names(Role.OUTCOME), *draft.names(Role.TREATMENT)):
        silent |= missing(name)
    if not silent.any():
        return None
    for role in set(needed) - {Role.OUTCOME, Role.TREATMENT}:
        for name in draft.names(role):
            silent &= ~missing(name)
    if coding is None:
        return draft.frame.loc[silent]
    if coding.left_out is not None:
        silent &= ~coding.left_out
    return draft.frame.loc[silent].assign(**{_CODED: coding.values[silent, 0]})


def place_unobserved(draft: Draft, rows: pd.DataFrame, scale: Scale | None) -> pd.DataFrame:
    """Return the rows in the study's own columns and codes; what is missing is NaN.

    Covariates that were delivered as words have no value here: their levels are those of the analysed rows.
    """
    columns: dict[str, object] = {}
    for role in (Role.UNIT, Role.CLUSTER):
        for name, placed in zip(draft.names(role), _as_delivered(draft, role), strict=True):
            columns[name] = _like(draft.columns[name], rows[placed])
    for name in draft.names(Role.TREATMENT)[:1]:
        columns[name] = rows[_CODED].to_numpy(dtype=np.float64)
    for name in draft.names(Role.TIME):
        columns[name] = _moments(rows[name], draft.kinds[name], scale)
    for name in draft.names(Role.COHORT):
        if name in rows:
            columns[name] = code_cohort(rows[name], draft.kinds[name], name, scale)[0]
    for role in (Role.OUTCOME, Role.WEIGHT, Role.COVARIATES):
        for name in draft.names(role):
            numeric = name in rows and draft.kinds[name].numeric
            columns[name] = as_number(rows[name]) if numeric else np.full(len(rows), np.nan)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


_CODED = "treatment, coded"


def _as_delivered(draft: Draft, role: Role) -> Sequence[str]:
    """Return the delivered names of a role's columns; a placed name may carry an apostrophe more."""
    return [name if name in draft.frame else name.rstrip("'") for name in draft.names(role)]


def _like(placed: object, series: pd.Series) -> object:
    """Return labels in the form that the analysed rows have."""
    dtype = getattr(placed, "dtype", None)
    if dtype == np.int64:
        return series.to_numpy(dtype=np.int64)
    return as_number(series) if dtype == np.float64 else as_text(series).astype("str").reset_index(drop=True)


def _moments(series: pd.Series, kind: Kind, scale: Scale | None) -> np.ndarray:
    """Return times on the scale of the analysed rows; NaN where the scale does not know them."""
    if scale is not None and scale.origin is not None:
        return scale.numbers(as_date(series))
    if scale is not None and scale.words:
        places = {word: float(place) for place, word in enumerate(scale.words)}
        return np.asarray(as_text(series).map(places).to_numpy(dtype=np.float64, na_value=np.nan))
    return as_number(series)
