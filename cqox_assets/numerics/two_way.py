"""Regressions of a panel: two groups and two times, unit and period effects, event studies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CatalogError
from cqox_assets.numerics.linear import LinearFit, fit_linear
from cqox_assets.numerics.panel import Panel, PanelError


@dataclass(frozen=True)
class PanelFit:
    """Coefficients of interest and what their covariance needs.

    Parameters
    ----------
    names : tuple of str
        Terms that are kept and of interest.
    positions : ndarray of int
        Their positions in the fit.
    fit : LinearFit
    cluster : ndarray of int, shape (n,)
    columns : int
        Columns that count against the degrees of freedom.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    fit: LinearFit
    cluster: np.ndarray
    columns: int

    @property
    def coef(self) -> np.ndarray:
        """Coefficients of the named terms."""
        return np.asarray(self.fit.coef[self.positions])

    def covariance(self, kind: str) -> np.ndarray:
        """Return the covariance of the named terms (see `LinearFit`); HC2 and HC3 where no effects were swept out.

        Raises
        ------
        CatalogError
            HC2 or HC3 with unit and period effects, whose leverage is not known.
        PanelError
            HC2 or HC3 with a row of leverage one, or too few rows.
        """
        n, own = self.fit.design.shape
        if kind in ("HC2", "HC3"):
            return self._leverage_adjusted(kind)
        raw = {"HC1": "HC0", "CR1": "CR0"}.get(kind, kind)
        covariance = self.fit.covariance(raw, self.cluster)[np.ix_(self.positions, self.positions)]
        if n <= self.columns:
            raise PanelError(f"{n} rows for {self.columns} coefficients; deliver more periods", code="too_few_rows")
        if kind == "classical":
            return np.asarray(covariance * (n - own) / (n - self.columns))
        if kind == "HC1":
            return np.asarray(covariance * n / (n - self.columns))
        if kind == "CR1":
            groups = int(self.cluster.max()) + 1
            return np.asarray(covariance * groups / (groups - 1) * (n - 1) / (n - self.columns))
        return np.asarray(covariance)

    def _leverage_adjusted(self, kind: str) -> np.ndarray:
        if self.columns != self.fit.design.shape[1]:
            raise CatalogError(f"parameter 'se' is {kind}, which needs a regression without unit and period effects")
        try:
            return np.asarray(self.fit.covariance(kind, self.cluster)[np.ix_(self.positions, self.positions)])
        except ZeroDivisionError as error:
            raise PanelError(
                f"{kind} is not defined: a row alone decides a coefficient; use se: HC1", code="leverage_one"
            ) from error


def fit_two_by_two(panel: Panel, names: Sequence[str], *, group: np.ndarray, post: np.ndarray) -> PanelFit:
    """Fit y ~ 1 + group + post + group:post (+ covariates) on all rows; group and post of shape (n,)."""
    design = np.column_stack([np.ones(len(group)), group, post, group * post, panel.covariates])
    fit = fit_linear(design, panel.outcome, panel.weight if panel.weighted else None)
    if 3 not in fit.kept:
        raise PanelError(
            "a group is not seen both before and after treatment starts; deliver both groups in both periods",
            code="no_change_over_time",
        )
    terms = ["const", *names[:2], ":".join(names[:2]), *names[2:]]
    return PanelFit(tuple(terms[k] for k in fit.kept), np.arange(len(fit.kept)), fit, panel.row_cluster, len(fit.kept))


def fit_first_difference(panel: Panel, names: Sequence[str], starts: float, weight: np.ndarray) -> PanelFit:
    """Fit the change of each unit seen before and after on 1 + group (+ covariates of its first period)."""
    seen, change = unit_changes(panel, starts)
    first = np.flatnonzero(np.diff(panel.unit, prepend=-1))[seen]
    group = np.isfinite(panel.cohort[seen]) * 1.0
    design = np.column_stack([np.ones(len(change)), group, panel.covariates[first]])
    if len(change) <= design.shape[1] or np.ptp(group) == 0:
        raise PanelError(
            f"{len(change)} units are seen both before and after; deliver more, of both groups", code="too_few_rows"
        )
    fit = fit_linear(design, change, weight[seen] if panel.weighted else None)
    if 1 not in fit.kept:
        raise PanelError("the treated group is not seen both before and after; deliver both", code="nobody_left")
    terms = ["const", *names]
    cluster = np.unique(panel.cluster[seen], return_inverse=True)[1]
    return PanelFit(tuple(terms[k] for k in fit.kept), np.arange(len(fit.kept)), fit, cluster, len(fit.kept))


def unit_changes(panel: Panel, starts: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which units are seen before and after `starts`, and their mean after minus their mean before."""
    after = panel.periods[panel.period] >= starts
    sides, units = (~after, after), len(panel.labels)
    count = [np.bincount(panel.unit, weights=side * 1.0, minlength=units) for side in sides]
    totals = [np.bincount(panel.unit, weights=side * panel.outcome, minlength=units) for side in sides]
    seen = (count[0] > 0) & (count[1] > 0)
    return seen, totals[1][seen] / count[1][seen] - totals[0][seen] / count[0][seen]


def placebo_spread(panel: Panel, starts: float) -> float:
    """Return the SD of the effects found when each untreated unit plays the treated one; 0 with fewer than three.

    Arkhangelsky et al. (2021, doi:10.1257/aer.20190159), algorithm 4, for one treated unit.
    """
    seen, change = unit_changes(panel, starts)
    change = change[~np.isfinite(panel.cohort[seen])]
    n = len(change)
    if n < 3:
        return 0.0
    return float(np.std(change - (change.sum() - change) / (n - 1), ddof=0))


def fit_two_way(panel: Panel, terms: np.ndarray, names: Sequence[str], dof: str) -> PanelFit:
    """Fit outcome ~ terms + covariates + unit effects + period effects.

    Parameters
    ----------
    panel : Panel
        Balanced or not.
    terms : ndarray of shape (n, k)
        Regressors of interest, their `names` alike.
    dof : str
        `time_effects_only` counts regressors and periods (unit effects are nested in the clusters); `all_effects`
        counts the unit effects as well.

    Notes
    -----
    Units are demeaned and period dummies kept, which is exact for unbalanced and weighted panels alike.
    """
    count, covariates = len(panel.periods), panel.covariates
    dummies = (panel.period[:, None] == np.arange(1, count)) * 1.0
    raw = np.column_stack([panel.outcome, dummies, covariates, terms])
    within = demeaned(raw, panel.unit, panel.weight)
    fit = fit_linear(_cleaned(within[:, 1:], raw[:, 1:]), within[:, 0], panel.weight if panel.weighted else None)
    start = count - 1 + covariates.shape[1]
    inside = fit.kept >= start
    kept = fit.kept[inside] - start
    used = len(fit.kept) + 1
    columns = used + len(panel.labels) - 1 if dof == "all_effects" else used
    return PanelFit(tuple(names[k] for k in kept), np.flatnonzero(inside), fit, panel.row_cluster, columns)


def _cleaned(within: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Return the demeaned columns, those that hold nothing but rounding (constant within units) set to zero."""
    scale = np.sqrt(np.einsum("ij,ij->j", raw, raw))
    left = np.sqrt(np.einsum("ij,ij->j", within, within))
    return np.where(left > 1e-9 * scale, within, 0.0)


def demeaned(values: np.ndarray, unit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return columns of shape (n, k) minus the weighted mean of their unit."""
    mass = np.bincount(unit, weights=weight)
    means = np.column_stack([np.bincount(unit, weights=weight * column) / mass for column in values.T])
    return np.asarray(values - means[unit])


def event_dummies(panel: Panel, reference: float, bins: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return event times (without the reference) and their dummies, shape (n, m); the never treated have none.

    Event time is period minus first treated period, clipped to `bins`.
    """
    event = panel.periods[panel.period] - panel.cohort[panel.unit]
    if bins is not None:
        event = np.where(np.isfinite(event), np.clip(event, *bins), event)
    times = np.unique(event[np.isfinite(event)])
    times = times[times != reference]
    return times, (event[:, None] == times) * 1.0
