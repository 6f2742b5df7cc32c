"""Refines matched sets by covariates: nearest controls or weights by the propensity to be treated now."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cqox_assets.numerics.logit import LogitFit, fit_logit
from cqox_assets.numerics.matched_sets import MatchedSets
from cqox_assets.numerics.unit_history import History

_FLAT = 1e-10
_TIE = 1e-12


def complete_in_window(
    history: History, rows: np.ndarray, columns: np.ndarray, lags: Sequence[int], window: range
) -> np.ndarray:
    """Return whether the lagged covariates are known in every period of a window around each row, shape (m,).

    Parameters
    ----------
    columns : ndarray of shape (n, k)
    lags : sequence of int
    window : range
        Periods relative to the row. Those outside of the panel, or in its first `max(lags)` periods, where nothing
        could be known, do not count.
    """
    first, last = max(lags), int(history.step.max())
    missing = np.isnan(columns).any(axis=1)
    fine = np.ones(len(rows), dtype=bool)
    for shift in range(window.start - max(lags), window.stop - min(lags)):
        needed = np.zeros(len(rows), dtype=bool)
        for back in lags:
            if shift + back in window:
                period = history.step[rows] + shift + back
                needed |= (period >= first) & (period <= last)
        place = history.at(rows, shift)
        fine &= ~needed | ((place >= 0) & ~missing[place])
    return fine


def filled(values: np.ndarray) -> np.ndarray:
    """Return the columns with 0 where a value is missing, and an indicator of each column that has any missing."""
    missing = np.isnan(values)
    return np.column_stack([np.where(missing, 0.0, values), missing[:, missing.any(axis=0)]])


def weigh_by_propensity(sets: MatchedSets, treated: np.ndarray, control: np.ndarray, weight: np.ndarray) -> MatchedSets:
    """Weigh controls by the odds of being treated now, given the covariates.

    Parameters
    ----------
    sets : MatchedSets
    treated, control : ndarray of shapes (m, k), (c, k)
        Covariates of the observations.
    weight : ndarray of shape (m + c,)
        Sampling weights.

    Raises
    ------
    SeparationError
        If the covariates tell treated and control observations apart.
    """
    fit = fit_propensity(treated, control, weight)
    odds = np.exp(np.clip(fit.linear[len(treated) :], -30, 30))
    return replace(sets, base=sets.base * odds, propensity=fit)


def fit_propensity(treated: np.ndarray, control: np.ndarray, weight: np.ndarray) -> LogitFit:
    """Fit the probability to be treated now by a logit over all observations of the sets, the treated ones first."""
    values = np.concatenate([treated, control])
    moves = np.ptp(values, axis=0) > 0 if len(values) else np.zeros(values.shape[1], dtype=bool)
    design = np.column_stack([np.ones(len(values)), values[:, moves]])
    flag = np.repeat([1.0, 0.0], [len(treated), len(control)])
    plain = np.ptp(weight) == 0
    return fit_logit(design, flag, None if plain else weight)


def keep_nearest(sets: MatchedSets, treated: np.ndarray, control: np.ndarray, size: int, metric: str) -> MatchedSets:
    """Keep the `size` nearest controls of each treated observation, equally weighted; ties at the edge stay.

    Parameters
    ----------
    sets : MatchedSets
    treated, control : ndarray of shapes (m, k), (c, k)
        Covariates of the observations.
    size : int
    metric : str
        `diagonal` or `full` (Mahalanobis, by the variances or the covariance of a group's controls) or `plain`.
    """
    sources, targets = [np.empty(0, dtype=int)], [np.empty(0, dtype=int)]
    for members, pool in _by_group(sets):
        own, other = treated[members], control[pool]
        if metric != "plain":
            own, other = _scaled(own, other, metric == "full")
        source, target = _nearest(own, other, min(size, len(pool)))
        sources.append(members[source])
        targets.append(pool[target])
    source, target = np.concatenate(sources), np.concatenate(targets)
    share = sets.base[target]
    total = np.bincount(source, weights=share, minlength=len(sets.treated))
    return replace(sets, source=source, target=target, share=share / total[source])


def _by_group(sets: MatchedSets) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions of the treated and of the control observations of each group."""
    first, second = np.argsort(sets.group, kind="stable"), np.argsort(sets.pool, kind="stable")
    names = np.unique(sets.group)
    ends = [np.searchsorted(values, names, side) for values in (sets.group[first], sets.pool[second])
            for side in ("left", "right")]  # fmt: skip
    for low, high, start, stop in zip(*ends, strict=True):
        yield first[low:high], second[start:stop]


def _scaled(own: np.ndarray, other: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates in which the Mahalanobis distance is Euclidean; directions without spread do not count."""
    if len(other) < 2:
        return own[:, :0], other[:, :0]
    centre = other.mean(axis=0)
    spread = other.std(axis=0, ddof=1)
    moves = spread > _FLAT * np.maximum(np.abs(centre), 1e-300)
    own, other = (own - centre)[:, moves] / spread[moves], (other - centre)[:, moves] / spread[moves]
    if not full or not moves.any():
        return own, other
    # In units of the spreads first, so that directions without spread are found whatever the covariates' units.
    values, axes = np.linalg.eigh(other.T @ other / (len(other) - 1))
    large = values > _FLAT * values[-1]
    turn = axes[:, large] / np.sqrt(values[large])
    return own @ turn, other @ turn


def _nearest(own: np.ndarray, other: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of each row of `own` and its nearest rows of `other`, those tied with the last one included."""
    if own.shape[1] == 0 or size == len(other):
        return np.repeat(np.arange(len(own)), len(other)), np.tile(np.arange(len(other)), len(own))
    from scipy.spatial import cKDTree

    tree = cKDTree(other)
    distance, found = map(np.asarray, tree.query(own, k=size + 1))
    edge = distance[:, size - 1]
    tied = distance[:, size] <= edge * (1 + _TIE) + 1e-300
    source, target = np.repeat(np.arange(len(own))[~tied], size), found[~tied][:, :size].ravel()
    if not tied.any():
        return source, target
    lists = tree.query_ball_point(own[tied], edge[tied] * (1 + _TIE) + 1e-300)
    counts = [len(item) for item in lists]
    more = np.concatenate([np.asarray(item, dtype=int) for item in lists])
    return np.concatenate([source, np.repeat(np.flatnonzero(tied), counts)]), np.concatenate([target, more])
