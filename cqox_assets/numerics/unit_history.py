"""The history of every unit of a panel: status, outcome and covariates in this and other periods, gaps included."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from cqox_assets.numerics.panel import Panel, PanelError, unit_weights
from cqox_assets.numerics.panel_timing import read_panel
from cqox_assets.study import Role, Study

_UNKNOWN = 2
_PLACES = 39  # ternary digits that fit into 63 bits


@dataclass(frozen=True)
class History:
    """Rows of a panel sorted by unit and period; rows that lack outcome or treatment are among them.

    Parameters
    ----------
    panel : Panel
        The rows whose treatment is known, as other comparisons over time see them.
    unit, step : ndarray of int, shape (n,)
        Position of the unit in `panel.labels`; periods since the first one, gaps counted.
    outcome : ndarray of shape (n,)
        NaN where missing.
    status : ndarray of int, shape (n,)
        1 treated, 0 untreated, 2 unknown.
    covariates : ndarray of shape (n, k)
        NaN where missing.
    names : tuple of str
        Of the covariates.
    weight : ndarray of shape (N,)
        Sampling weight of each unit, of mean one.
    width : float
        Length of a period, in units of the time column.
    """

    panel: Panel
    unit: np.ndarray
    step: np.ndarray
    outcome: np.ndarray
    status: np.ndarray
    covariates: np.ndarray
    names: tuple[str, ...]
    weight: np.ndarray
    width: float

    @cached_property
    def _key(self) -> np.ndarray:
        return np.asarray(self.unit.astype(np.int64) * self._span + self.step)

    @property
    def _span(self) -> int:
        return int(self.step.max()) + 1

    def at(self, rows: np.ndarray, shift: int) -> np.ndarray:
        """Return the position of the same unit's row `shift` periods later, -1 where there is none."""
        step = self.step[rows] + shift
        wanted = self._key[rows] + shift
        guess = np.clip(rows + shift, 0, len(self.unit) - 1)
        off = self._key[guess] != wanted  # without gaps the row lies where it is guessed
        if off.any():
            guess[off] = np.minimum(np.searchsorted(self._key, wanted[off]), len(self.unit) - 1)
        found = (self._key[guess] == wanted) & (step >= 0) & (step < self._span)
        return np.where(found, guess, -1)

    def outcome_at(self, rows: np.ndarray, shift: int) -> np.ndarray:
        """Return the outcome `shift` periods later, NaN where it is not known."""
        place = self.at(rows, shift)
        return np.where(place >= 0, self.outcome[place], np.nan)

    def status_at(self, rows: np.ndarray, shift: int) -> np.ndarray:
        """Return the status `shift` periods later, 2 where it is not known."""
        place = self.at(rows, shift)
        return np.where(place >= 0, self.status[place], _UNKNOWN)

    def path(self, rows: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a code of the status over the last `lag` periods, equal for equal histories, and whether it is known.

        Histories are read as ternary digits, so finding equal ones takes a sort and no comparison of pairs.
        """
        code, known = np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=bool)
        for back in range(1, lag + 1):
            status = self.status_at(rows, -back)
            known &= status != _UNKNOWN
            code = code * 3 + status
            if back % _PLACES == 0:
                code = np.unique(code, return_inverse=True)[1].astype(np.int64)
        return code, known

    def lagged(self, rows: np.ndarray, columns: np.ndarray, lags: Sequence[int]) -> np.ndarray:
        """Return the columns' values in earlier periods, shape (m, k * len(lags)), by column and then by lag."""
        parts = []
        for back in lags:
            place = self.at(rows, -back)
            parts.append(np.where(place[:, None] >= 0, columns[place], np.nan))
        if not parts:
            return np.empty((len(rows), 0))
        return np.stack(parts, axis=2).reshape(len(rows), -1)


def read_history(study: Study) -> History:
    """Read the history of every unit; rows that preparation set aside in the side table `unobserved` are part of it.

    Parameters
    ----------
    study : Study
        Outcome, unit, time and a treatment or cohort; optional covariates, weight, cluster.

    Raises
    ------
    PanelError
        As :func:`read_panel` does, and if sampling weights vary within units.
    """
    if len(study) and np.ptp(study.column(Role.OUTCOME)) == 0:
        raise PanelError(
            f"outcome '{study.name(Role.OUTCOME)}' is the same in every row; map an outcome that varies",
            code="constant_outcome",
        )
    known, unknown = _with_unobserved(study)
    panel = read_panel(known, reversible=True)
    more = _rows_of_unknown_status(panel, known, unknown)
    unit = np.concatenate([panel.unit, more.unit])
    time = np.concatenate([panel.periods[panel.period], more.time])
    step, width, notice = _steps(time)
    status = np.concatenate([panel.status.astype(int), np.full(len(more.unit), _UNKNOWN)])
    order = np.lexsort((status, step, unit))
    fresh = np.ones(len(order), dtype=bool)  # a unit-period with and without treatment counts once
    fresh[1:] = (np.diff(unit[order]) != 0) | (np.diff(step[order]) != 0)
    order = order[fresh]
    values = np.concatenate([panel.covariates, more.covariates])[order]
    covariates, names = _without_indicators(study, values)
    return History(
        panel=replace(panel, notices=(*panel.notices, *notice)),
        unit=unit[order],
        step=step[order],
        outcome=np.concatenate([panel.outcome, more.outcome])[order],
        status=status[order],
        covariates=covariates,
        names=names,
        weight=unit_weights(panel) if panel.weighted else np.ones(len(panel.labels)),
        width=width,
    )


@dataclass(frozen=True)
class _More:
    unit: np.ndarray
    time: np.ndarray
    outcome: np.ndarray
    covariates: np.ndarray


def _with_unobserved(study: Study) -> tuple[Study, pd.DataFrame]:
    """Return the study with the rows that lack only the outcome, and the rows whose treatment is not known."""
    table = study.tables.get("unobserved")
    used = list(dict.fromkeys(name for names in study.roles.values() for name in names))
    if table is None or not set(table.columns) <= set(used):
        return study, study.frame.iloc[:0]
    telling = table.reindex(columns=used)
    named = study.names(Role.TREATMENT) if not study.has(Role.COHORT) else ()
    lacking = telling[list(named)].isna().any(axis=1).to_numpy()
    frame = pd.concat([study.frame[used], telling.loc[~lacking]], ignore_index=True)
    return replace(study, frame=frame), telling.loc[lacking]


def _rows_of_unknown_status(panel: Panel, study: Study, rows: pd.DataFrame) -> _More:
    place = pd.Index(panel.labels).get_indexer(pd.Index(rows[study.name(Role.UNIT)]))
    rows, place = rows.loc[place >= 0], place[place >= 0]
    part = replace(study, frame=rows)
    time = part.column(Role.TIME)
    inside = np.isfinite(time)
    return _More(place[inside], time[inside], part.column(Role.OUTCOME)[inside], part.matrix()[inside])


def _steps(time: np.ndarray) -> tuple[np.ndarray, float, list[str]]:
    """Return periods since the first one, their length, and a notice if they are not evenly spaced."""
    periods = np.unique(time)
    width = float(np.diff(periods).min())
    exact = (periods - periods[0]) / width
    even = np.round(exact).astype(np.int64)
    if np.allclose(exact, even, rtol=0, atol=1e-6):
        return even[np.searchsorted(periods, time)], width, []
    words = "periods are not evenly spaced, so each one counts as the next after the one before it"
    return np.searchsorted(periods, time), width, [words]


def _without_indicators(study: Study, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the covariates with NaN where preparation imputed a value, and without the columns that mark it."""
    names = list(study.names(Role.COVARIATES))
    marks = [name for name in names if name.endswith(" (missing)")]
    kept = [k for k, name in enumerate(names) if name not in marks]
    found = values.copy()
    for mark in marks:
        origin, label = mark.removesuffix(" (missing)"), study.label(mark)
        missing = values[:, names.index(mark)] == 1
        for k in kept:
            if names[k] == origin or names[k].startswith(f"{origin}=") or f"'{names[k]}'" in label:
                found[missing, k] = np.nan
    return found[:, kept], tuple(names[k] for k in kept)
