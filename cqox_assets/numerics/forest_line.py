"""The linear part of the effect: a ridge R-learner, fitted to each half-sample of a forest."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cqox_assets.numerics.forest_rows import ForestRows

_ROWS = 20_000
_CHOOSING_ROWS = 50_000
_GRID = np.geomspace(1e-3, 1e3, 25)


def choose_penalty(rows: ForestRows) -> float | None:
    """Return the ridge penalty with the least leave-one-out R-loss, per row; None if no linear effect is better.

    The loss is sum w (y - t (a + b'z))^2 with an unpenalised a (Nie & Wager 2021, doi:10.1093/biomet/asaa076).
    """
    step = max(1, len(rows.t) // _CHOOSING_ROWS)
    root = np.sqrt(rows.weight[::step])
    t, y = root * rows.t[::step], root * rows.y[::step]
    size = float(t @ t)
    if size <= 0 or rows.line.shape[1] == 0:
        return None
    slope = t[:, None] * rows.line[::step]
    slope -= t[:, None] * (t @ slope / size)
    left = y - t * (t @ y / size)
    values, vectors = np.linalg.eigh(slope.T @ slope / len(t))
    values = np.maximum(values, 0.0)
    if values.mean() <= 0:
        return None
    turned = slope @ vectors
    weight, leverage = turned.T @ left / len(t), t**2 / size
    best, chosen = float(np.sum((left / np.maximum(1 - leverage, 1e-6)) ** 2)), None
    for penalty in _GRID * values.mean():
        shrunk = 1 / (values + penalty)
        hat = leverage + turned**2 @ shrunk / len(t)
        loss = float(np.sum(((left - turned @ (shrunk * weight)) / np.maximum(1 - hat, 1e-6)) ** 2))
        if loss < best:
            best, chosen = loss, float(penalty)
    return chosen


@dataclass(frozen=True)
class LinearPart:
    """Effects that are linear in the covariates, with a ridge penalty that is chosen once.

    Parameters
    ----------
    rows : ForestRows
    penalty : float
        Per row; the constant is free.
    """

    rows: ForestRows
    penalty: float

    @classmethod
    def of(cls, rows: ForestRows) -> "LinearPart | None":
        """Choose the penalty; None where no linear effect is better than a constant one."""
        penalty = choose_penalty(rows)
        return None if penalty is None else cls(rows, penalty)

    @cached_property
    def total(self) -> np.ndarray:
        """Moments of all rows."""
        return self._moments(np.arange(len(self.rows.starts)))[0]

    def fit(self, halves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Return constant and slopes in the blocks of each half-sample, shape (2, q + 1).

        At most about 20,000 blocks of each are used: beyond, slopes are known far better than what the trees add.
        """
        if len(self.rows.t) > 2 * _ROWS:
            return np.stack([self._solve(*self._moments(half)) for half in halves])
        first, count = self._moments(halves[0])
        counted = int((self.rows.stops - self.rows.starts).sum())
        return np.stack([self._solve(first, count), self._solve(self.total - first, counted - count)])

    def _moments(self, half: np.ndarray) -> tuple[np.ndarray, int]:
        rows, step = self.rows, max(1, len(half) // _ROWS)
        chosen = rows.rows_in(half[::step])[: 2 * _ROWS]
        part = np.column_stack([np.ones(len(chosen)), rows.line[chosen], np.zeros(len(chosen))])
        root = np.sqrt(rows.weight[chosen])
        part *= (root * rows.t[chosen])[:, None]
        part[:, -1] = root * rows.y[chosen]
        return part.T @ part, len(chosen)

    def _solve(self, moments: np.ndarray, count: int) -> np.ndarray:
        normal, target = moments[:-1, :-1].copy(), moments[:-1, -1]
        if not normal[0, 0] > 0:
            return np.zeros(len(target))
        normal[np.diag_indices_from(normal)] += self.penalty * count
        normal[0, 0] -= self.penalty * count
        return np.asarray(np.linalg.solve(normal, target))
