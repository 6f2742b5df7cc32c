"""A panel in long form: units, periods, when treatment starts, and which units can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cqox_assets.errors import CqoxError


class PanelError(CqoxError):
    """The rows are no panel in which a comparison over time can be made; `code` says why."""

    code = "no_panel"


@dataclass(frozen=True)
class Panel:
    """Rows of a panel, sorted by unit and period.

    Parameters
    ----------
    labels : ndarray of shape (N,)
        Units, sorted.
    periods : ndarray of float, shape (T,)
        Distinct periods, ascending.
    unit, period : ndarray of int, shape (n,)
        Positions in `labels` and `periods`.
    outcome, status, weight : ndarray of shape (n,)
        Outcome; 1 while treated; sampling weight of mean one.
    covariates : ndarray of shape (n, k)
    cohort : ndarray of float, shape (N,)
        First treated period of each unit; infinite if it is not treated in the window.
    cluster : ndarray of int, shape (N,)
        Codes 0..G-1 of the units' clusters; the units themselves unless a cluster is mapped.
    weighted, clustered : bool
        Whether a weight and a cluster column are mapped.
    """

    labels: np.ndarray
    periods: np.ndarray
    unit: np.ndarray
    period: np.ndarray
    outcome: np.ndarray
    status: np.ndarray
    weight: np.ndarray
    covariates: np.ndarray
    cohort: np.ndarray
    cluster: np.ndarray
    weighted: bool = False
    clustered: bool = False
    notices: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def row_cluster(self) -> np.ndarray:
        """Cluster code of each row, shape (n,)."""
        return np.asarray(self.cluster[self.unit])

    @property
    def balanced(self) -> bool:
        """Whether every unit has a row in every period."""
        return len(self.outcome) == len(self.labels) * len(self.periods)

    def wide(self, values: np.ndarray) -> np.ndarray:
        """Return values of the rows as an array of shape (N, T, ...); only of a balanced panel."""
        return values.reshape(len(self.labels), len(self.periods), *values.shape[1:])

    def keep(self, units: np.ndarray, reason: str) -> "Panel":
        """Return the panel of the units that a boolean mask of shape (N,) keeps, and note what was dropped."""
        rows = units[self.unit]
        lost = int((~rows).sum())
        return replace(
            self,
            labels=self.labels[units],
            unit=(np.cumsum(units) - 1)[self.unit[rows]],
            period=self.period[rows],
            outcome=self.outcome[rows],
            status=self.status[rows],
            weight=self.weight[rows],
            covariates=self.covariates[rows],
            cohort=self.cohort[units],
            cluster=np.unique(self.cluster[units], return_inverse=True)[1],
            dropped={**self.dropped, reason: lost} if lost else self.dropped,
        )

    def noting(self, *notices: str) -> "Panel":
        """Return the panel with more notices."""
        return replace(self, notices=(*self.notices, *notices))


def without_always_treated(panel: Panel) -> Panel:
    """Drop units that are treated in the first period, whose time before treatment is not seen.

    Raises
    ------
    PanelError
        If nobody treated, or nobody to compare with, is left.
    """
    early = panel.cohort <= panel.periods[0]
    if not early.any():
        return panel
    if not np.isfinite(panel.cohort[~early]).any() or len(np.unique(panel.cohort[~early])) < 2:
        raise PanelError(
            f"nobody is left to compare after dropping {int(early.sum())} units that are treated from the start; "
            "deliver earlier periods, or untreated and later treated units",
            code="nobody_left",
        )
    kept = panel.keep(~early, "treated from the start")
    return kept.noting(f"{int(early.sum())} units treated in the first period were dropped: nothing is seen before it")


def complete_units(panel: Panel) -> Panel:
    """Keep the units that are there in every period.

    Raises
    ------
    PanelError
        If fewer than two units, or nobody treated or untreated, are left.
    """
    if panel.balanced:
        return panel
    full = np.bincount(panel.unit, minlength=len(panel.labels)) == len(panel.periods)
    if full.sum() < 2 or len(np.unique(panel.cohort[full])) < 2:
        raise PanelError(
            f"only {int(full.sum())} of {len(full)} units are there in all {len(panel.periods)} periods; "
            "deliver a balanced panel, leave out sparse periods, or use method twfe",
            code="nobody_left",
        )
    kept = panel.keep(full, "unit without a row in every period")
    return kept.noting(f"{int((~full).sum())} units that lack a period were left out")


def unit_weights(panel: Panel) -> np.ndarray:
    """Return the weight of each unit, shape (N,), of mean one.

    Raises
    ------
    PanelError
        If weights vary over time within a unit.
    """
    first = np.flatnonzero(np.diff(panel.unit, prepend=-1))
    own = panel.weight[first]
    if not np.allclose(own[panel.unit], panel.weight, rtol=1e-9, atol=0):
        raise PanelError(
            "sampling weights vary over time within units, but this comparison weighs units; "
            "deliver one weight per unit, or use method twfe",
            code="weights_vary",
        )
    return np.asarray(own / own.mean())


def check_groups(panel: Panel, names: Sequence[str] = ("treated", "untreated")) -> None:
    """Check that treated and untreated units come from at least two clusters each.

    Raises
    ------
    PanelError
        With the number of clusters found.
    """
    treated = np.isfinite(panel.cohort)
    groups = [(treated, names[0])] + ([(~treated, names[1])] if (~treated).any() else [])
    for inside, word in groups:
        if len(np.unique(panel.cluster[inside])) < 2:
            what = "cluster" if panel.clustered else "unit"
            raise PanelError(
                f"all {word} units lie in one {what}, so its own changes cannot be told from an effect; "
                "use synthetic_control for one treated unit, or deliver more",
                code="too_few_clusters",
            )
