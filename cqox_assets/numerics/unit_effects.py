"""Transformations of a panel that take unit effects out of a partially linear model, before it is cross-fitted.

Model: y_it = theta d_it + g(x_it) + a_i + period effect + noise, where a_i may go with d and x (Clarke & Polselli 2025,
doi:10.1093/ectj/utaf011).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError

_MANY_PERIODS = 40
_ROUNDING = 1e-12


class UnitEffectsError(CqoxError):
    """The rows do not allow unit effects; `code` says why."""

    code = "no_panel"


@dataclass(frozen=True)
class Transformed:
    """Rows after the transformation.

    Parameters
    ----------
    rows : ndarray of int, shape (m,)
        Positions in the input, sorted by unit and time.
    features : ndarray of shape (m, p)
        What outcome and treatment are predicted from.
    outcome, treatment : ndarray of shape (m,)
    lost : int
        Input rows that have no transformed row.
    """

    rows: np.ndarray
    features: np.ndarray
    outcome: np.ndarray
    treatment: np.ndarray
    lost: int


@dataclass(frozen=True)
class LongPanel:
    """Columns of a panel, one row per unit and period, in any order.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    y, d : ndarray of shape (n,)
    unit : ndarray of int, shape (n,)
        Codes 0..N-1.
    time : ndarray of shape (n,), optional
    """

    x: np.ndarray
    y: np.ndarray
    d: np.ndarray
    unit: np.ndarray
    time: np.ndarray | None

    def order(self) -> np.ndarray:
        """Return the rows sorted by unit and time."""
        if self.time is None:
            return np.argsort(self.unit, kind="stable")
        return np.lexsort((self.time, self.unit))

    def unit_means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of each row's unit, of columns of shape (n, p)."""
        count = np.bincount(self.unit)
        result = np.empty_like(values)
        for j in range(values.shape[1]):
            result[:, j] = (np.bincount(self.unit, weights=values[:, j]) / count)[self.unit]
        return result

    def period_columns(self) -> np.ndarray:
        """Return period dummies, or time itself where there are more than 40 periods, shape (n, t)."""
        if self.time is None:
            return np.empty((len(self.y), 0))
        periods = np.unique(self.time)
        if len(periods) > _MANY_PERIODS:
            return np.asarray(self.time[:, None] - self.time.mean())
        return np.asarray((self.time[:, None] == periods[1:]) * 1.0)


def first_difference(panel: LongPanel) -> Transformed:
    """Return changes between successive rows of a unit; features are the covariates of both rows.

    E[change of y | x of both] = theta E[change of d | x of both] + g(x now) - g(x before), so any g is allowed.

    Raises
    ------
    UnitEffectsError
        `missing_role` without periods; `duplicated_unit_periods`; `no_panel` if no unit has two rows.
    """
    if panel.time is None:
        raise UnitEffectsError(
            "differences over time need the role 'time'; map it in study.yaml: roles: {time: <column>}, or use "
            "unit_effects: within",
            code="missing_role",
        )
    order = panel.order()
    follows = np.diff(panel.unit[order]) == 0
    _check_pairs(follows)
    if np.any(np.diff(panel.time[order])[follows] == 0):
        raise UnitEffectsError(
            f"{int(np.sum(np.diff(panel.time[order])[follows] == 0))} rows share unit and period with another row; "
            "deliver one row per unit and period",
            code="duplicated_unit_periods",
        )
    now, before = order[1:][follows], order[:-1][follows]
    features = np.column_stack([panel.x[now], panel.x[before], panel.period_columns()[now]])
    return Transformed(
        now, _moving(features), panel.y[now] - panel.y[before], panel.d[now] - panel.d[before],
        len(order) - len(now),
    )  # fmt: skip


def within(panel: LongPanel) -> Transformed:
    """Return deviations from unit means; features are the covariates' deviations and their unit means.

    Exact for a linear g, an approximation otherwise.
    """
    order = _repeated(panel)
    part = _part(panel, order)
    both = np.column_stack([part.y, part.d])
    away = both - part.unit_means(both)
    away[np.abs(away) <= _ROUNDING * np.abs(both).max(axis=0, initial=0.0)] = 0.0
    periods = part.period_columns()
    means = part.unit_means(part.x)
    features = np.column_stack([part.x - means, means, periods - part.unit_means(periods)])
    return Transformed(order, _moving(features), away[:, 0], away[:, 1], len(panel.y) - len(order))


def correlated_random_effects(panel: LongPanel) -> Transformed:
    """Return outcome and treatment as they are; features are covariates and unit means of covariates and treatment.

    Unit effects may go with those means in any way, and with nothing else of the unit (Mundlak 1978,
    doi:10.2307/1913646).
    """
    order = _repeated(panel)
    part = _part(panel, order)
    means = part.unit_means(np.column_stack([part.x, part.d]))
    features = np.column_stack([part.x, means, part.period_columns()])
    return Transformed(order, _moving(features), part.y, part.d, len(panel.y) - len(order))


TRANSFORMATIONS: dict[str, Callable[[LongPanel], Transformed]] = {
    "first_difference": first_difference,
    "within": within,
    "correlated_random_effects": correlated_random_effects,
}


def varies_within(d: np.ndarray, unit: np.ndarray) -> bool:
    """Return whether the treatment of any unit changes."""
    order = np.argsort(unit, kind="stable")
    return bool(np.any((np.diff(unit[order]) == 0) & (np.diff(d[order]) != 0)))


def _repeated(panel: LongPanel) -> np.ndarray:
    """Return the rows of units that have several, sorted by unit and time."""
    order = panel.order()
    kept = order[np.bincount(panel.unit)[panel.unit[order]] > 1]
    _check_pairs(np.ones(len(kept), dtype=bool))
    return np.asarray(kept)


def _part(panel: LongPanel, rows: np.ndarray) -> LongPanel:
    unit = np.unique(panel.unit[rows], return_inverse=True)[1]
    return LongPanel(
        panel.x[rows], panel.y[rows], panel.d[rows], unit, None if panel.time is None else panel.time[rows]
    )


def _check_pairs(pairs: np.ndarray) -> None:
    if not pairs.any():
        raise UnitEffectsError(
            "no unit has more than one row, so unit effects cannot be told from noise; "
            "set unit_effects: none, or deliver several periods per unit"
        )


def _moving(features: np.ndarray) -> np.ndarray:
    """Return the columns that vary and repeat no earlier one: constants of a unit would enter twice."""
    spread = np.ptp(features, axis=0) if len(features) else np.zeros(features.shape[1])
    size = np.abs(features).max(axis=0, initial=0.0)
    varying = features[:, spread > 1e-12 * size]
    _, first = np.unique(varying, axis=1, return_index=True)
    return np.ascontiguousarray(varying[:, np.sort(first)])
