"""Fixed-length intervals of an event study whose difference in trends is smooth."""

import math

import numpy as np

from cqox_assets.numerics.trend_bounds import EventStudy, breakdown

_TINY = 1e-10


class Smoothness:
    """The slope of the difference in trends changes by at most M from one period to the next.

    Parameters
    ----------
    study : EventStudy
        With at least one effect before.
    weights : ndarray of shape (T,)
    level : float

    Notes
    -----
    Fixed-length intervals: a linear combination of the effects plus or minus c, with c the quantile of |N(b / h, 1)|
    times h, b its worst bias and h its standard error, the combination chosen to make c h least (Rambachan & Roth
    2023, section 5; Armstrong & Kolesar 2018, doi:10.3982/ECTA14434). The bias is finite only if a linear trend
    cancels; it is then M times the sum of what each change of slope contributes, so the choice is a convex problem in
    the contributions of the changes before.
    """

    def __init__(self, study: EventStudy, weights: np.ndarray, level: float = 0.95) -> None:
        self.study, self.weights, self.size = study, np.asarray(weights, dtype=float), 1 - level
        p, times = len(study.before), np.arange(1, len(study.after) + 1)
        fixed = sum(abs(float(self.weights @ np.maximum(times - k, 0))) for k in range(len(times)))
        early = np.arange(-p, 0)
        kinks = np.arange(-p + 1, 0)
        design = np.vstack([early, np.maximum(kinks[:, None] - early, 0)]).astype(float)
        inverse = np.linalg.inv(design)  # from (linear trend, changes of slope) to weights of the effects before
        base = np.concatenate([inverse[:, 0] * -float(self.weights @ times), self.weights])
        free = np.vstack([inverse[:, 1:], np.zeros((len(times), p - 1))])
        scaled = study.covariance / max(float(np.trace(study.covariance)), 1e-300)
        kinks_of = lasso_path(free.T @ scaled @ free, free.T @ scaled @ base)
        self._rows = base + kinks_of @ free.T
        self._bias = fixed + np.abs(kinks_of).sum(axis=1)  # worst bias per unit of m
        variance = np.einsum("ij,jk,ik->i", self._rows, study.covariance, self._rows)
        self._spread = np.sqrt(np.maximum(variance, 1e-300))
        self._centre = self._rows @ study.estimates

    def interval(self, m: float) -> tuple[float, float]:
        """Return the fixed-length interval when slopes change by at most m per period."""
        reach = folded_quantile(m * self._bias / self._spread, self.size) * self._spread
        best = int(reach.argmin())
        return float(self._centre[best] - reach[best]), float(self._centre[best] + reach[best])

    def excludes(self, m: float, value: float) -> bool:
        """Whether the interval leaves out a value."""
        low, high = self.interval(m)
        return not low <= value <= high

    def breakdown(self, value: float, most: float) -> float | None:
        """Return the largest m up to which the interval leaves out a value; None if it does not at 0."""
        return breakdown(lambda m: self.excludes(m, value), most)


def lasso_path(gram: np.ndarray, linear: np.ndarray, between: int = 24) -> np.ndarray:
    """Return minimisers of c'Gc / 2 + g'c + penalty |c| from the largest useful penalty down to none.

    Parameters
    ----------
    gram : ndarray of shape (k, k)
    linear : ndarray of shape (k,)
    between : int
        Points per piece; the minimiser is linear in the penalty between the points where a coefficient enters or
        leaves (Efron, Hastie, Johnstone & Tibshirani 2004, doi:10.1214/009053604000000067).

    Returns
    -------
    ndarray of shape (points, k)
        The first is zero.
    """
    k = len(linear)
    current, points = np.zeros(k), [np.zeros(k)]
    penalty = float(np.abs(linear).max()) if k else 0.0
    active = [int(np.abs(linear).argmax())] if penalty > 0 else []
    for _ in range(8 * k):
        if not active or penalty <= 0:
            break
        slope = -(linear + gram @ current)
        sign = np.where(current[active] != 0, np.sign(current[active]), np.sign(slope[active]))
        move = np.zeros(k)
        move[active] = np.linalg.lstsq(gram[np.ix_(active, active)], sign, rcond=None)[0]
        change = gram @ move
        rest = [j for j in range(k) if j not in active]
        steps: list[tuple[float, int]] = [(penalty, -1)]
        for j in rest:
            for up in (1.0, -1.0):
                step = (penalty - up * slope[j]) / (1 - up * change[j]) if abs(1 - up * change[j]) > _TINY else -1.0
                steps += [(step, j)] if step > _TINY * penalty else []
        for j in active:
            step = -current[j] / move[j] if move[j] != 0 else -1.0
            steps += [(step, j)] if step > _TINY * penalty else []
        step, event = min(steps)
        points += [current + step * share * move for share in np.linspace(0, 1, between + 1)[1:]]
        current, penalty = current + step * move, penalty - step
        if event in active:
            current[event] = 0.0
            active.remove(event)
        elif event >= 0:
            active.append(event)
        else:
            break
    return np.array(points)


def folded_quantile(shift: np.ndarray, size: float) -> np.ndarray:
    """Return c with P(|N(shift, 1)| <= c) = 1 - size for shifts of zero or more, shape (n,)."""
    from scipy.special import ndtr, ndtri

    value = shift + np.where(shift > 0, float(ndtri(1 - size)), float(ndtri(1 - size / 2)))
    for _ in range(40):
        gap = ndtr(value - shift) - ndtr(-value - shift) - (1 - size)
        density = np.exp(-((value - shift) ** 2) / 2) + np.exp(-((value + shift) ** 2) / 2)
        change = gap / np.maximum(density / math.sqrt(2 * math.pi), 1e-300)
        value = value - change
        if np.abs(change).max() < 1e-11:
            break
    return np.asarray(value)
