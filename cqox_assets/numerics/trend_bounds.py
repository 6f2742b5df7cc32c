"""Robust intervals of an event study whose difference in trends is bounded by what was seen before treatment."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_DRAWS = 10_000
_GRID = 200
_SHARES = (0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0)  # where a breakdown is looked for before it is refined


@dataclass(frozen=True)
class EventStudy:
    """Event-time effects around a reference period in which the effect is zero by definition.

    Parameters
    ----------
    before : ndarray of shape (P,)
        Placebo effects at -P, ..., -1 periods from the reference period, earliest first.
    after : ndarray of shape (T,)
        Effects at 1, ..., T periods from it.
    covariance : ndarray of shape (P + T, P + T)
        Of `before` and `after` in that order.
    """

    before: np.ndarray
    after: np.ndarray
    covariance: np.ndarray

    @cached_property
    def estimates(self) -> np.ndarray:
        """All effects, shape (P + T,)."""
        return np.concatenate([self.before, self.after])

    @cached_property
    def steps(self) -> np.ndarray:
        """Rows that take first differences before the reference period, shape (P, P + T)."""
        p, size = len(self.before), len(self.estimates)
        rows = np.zeros((p, size))
        rows[np.arange(p), np.arange(p)] = -1.0
        rows[np.arange(p - 1), np.arange(1, p)] = 1.0
        return rows

    def target(self, weights: np.ndarray) -> np.ndarray:
        """Return the row that takes the weighted sum of the effects after, shape (P + T,)."""
        return np.concatenate([np.zeros(len(self.before)), weights])

    def spread(self, row: np.ndarray) -> float:
        """Return the standard error of a combination of the effects."""
        return float(math.sqrt(max(row @ self.covariance @ row, 0.0)))


class RelativeMagnitudes:
    """Trends after the reference period differ by at most M times the largest step of the differences before it.

    Parameters
    ----------
    study : EventStudy
        With at least one effect before.
    weights : ndarray of shape (T,)
        The parameter is their product with the effects after.
    level : float
    seed : int
        Of the draws of the least favourable critical value.

    Notes
    -----
    The restriction is a union over the largest step s and its sign of sets {d : A d <= 0}; each set's moment
    inequalities are tested by the conditional test with a least favourable first stage of a tenth of the size, on the
    moments of the periods after, and the interval is that of the union (Rambachan & Roth 2023,
    doi:10.1093/restud/rdad018; Andrews, Roth & Pakes 2023, doi:10.1093/restud/rdac049). The linear programme of the
    test, min t : y - X tau <= t sigma, has the dual max g'y : g >= 0, X'g = 0, sigma'g = 1. Its vertices are known:
    with G_t the sum of the weights from period t on, the moments weighted by |G| in the one direction or the other,
    and each period's two moments together. The latter are multiples of one number, so two of them are enough, and no
    programme needs to be solved.
    """

    def __init__(self, study: EventStudy, weights: np.ndarray, level: float = 0.95, seed: int = 0) -> None:
        self.weights, self.size = np.asarray(weights, dtype=float), 1 - level
        self._first = self.size / 10
        self._tails = np.cumsum(self.weights[::-1])[::-1]
        self._noise = np.random.default_rng(seed).standard_normal((2, _DRAWS))
        before, after, cov = len(study.before), len(study.after), study.covariance
        changes = np.zeros((after, before + after))  # first differences of the effects after
        place = np.arange(after) + before
        changes[np.arange(after), place] = 1.0
        changes[np.arange(1, after), place[:-1]] = -1.0
        row = study.target(self.weights)
        self._own = np.einsum("ij,jk,ik->i", changes, cov, changes)
        self._steps = [
            _Step(sign, study, row, step, changes @ cov @ step) for step in study.steps for sign in (1.0, -1.0)
        ]
        # The likeliest set first: a value that it does not reject needs no other.
        self._steps.sort(key=lambda item: -item.pair[1])

    def interval(self, m: float) -> tuple[float, float]:
        """Return the robust interval when trends after differ by at most m times the largest step before."""
        low, high = math.inf, -math.inf
        for step in self._steps:
            case = self._case(m, step)
            bounds = case.reach()
            if bounds is None or (low <= bounds[0] and bounds[1] <= high):
                continue
            found = case.accepted(*bounds)
            if found is not None:
                low, high = min(low, found[0]), max(high, found[1])
        return low, high  # the set of the largest estimated step always holds the estimate

    def excludes(self, m: float, value: float) -> bool:
        """Whether the robust interval leaves out a value."""
        return all(bool(self._case(m, step).rejects(np.array([value]))[0]) for step in self._steps)

    def breakdown(self, value: float, most: float) -> float | None:
        """Return the largest m up to which the interval leaves out a value; None if it does not at 0."""
        return breakdown(lambda m: self.excludes(m, value), most)

    def _case(self, m: float, step: "_Step") -> "_Case":
        """Return the moments of one set as combinations of the estimate and the step, whose covariance is known."""
        square = self._own + m**2 * step.covariance[1, 1]
        up, down = (np.sqrt(np.maximum(square - sign * 2 * m * step.shared, 1e-300)) for sign in (1.0, -1.0))
        plus, minus = np.maximum(self._tails, 0), np.maximum(-self._tails, 0)
        reach = m * float(np.abs(self._tails).sum())
        totals = float(plus @ up + minus @ down), float(plus @ down + minus @ up)
        rows = [(1 / totals[0], -reach / totals[0]), (-1 / totals[1], -reach / totals[1])]
        lone = np.count_nonzero(self._tails) == 1
        pairs = (2 * m / (up + down))[~(lone & (self._tails != 0))]
        if m > 0 and len(pairs):
            rows += [(0.0, -float(size)) for size in dict.fromkeys((pairs.max(), pairs.min()))]
        matrix = np.array(rows)
        values, vectors = np.linalg.eigh(step.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        limit = float(np.quantile(((matrix @ root) @ self._noise).max(axis=0), 1 - self._first))
        left = (self.size - self._first) / (1 - self._first)
        return _Case(matrix @ step.pair, matrix[:, 0], matrix @ step.covariance @ matrix.T, limit, left)


class _Step:
    """A step before the reference period that may be the largest: with the estimate, and with the changes after."""

    def __init__(self, sign: float, study: EventStudy, row: np.ndarray, step: np.ndarray, shared: np.ndarray) -> None:
        both = np.vstack([row, sign * step])
        self.pair, self.covariance = both @ study.estimates, both @ study.covariance @ both.T
        self.shared = sign * shared


@dataclass(frozen=True)
class _Case:
    """Moments (V,), what each loses per unit of the parameter, their covariance, and the two critical levels."""

    moments: np.ndarray
    slopes: np.ndarray
    covariance: np.ndarray
    limit: float
    size: float

    def reach(self) -> tuple[float, float] | None:
        """Return the values that the first stage does not reject, or None if it rejects all."""
        fixed = self.slopes == 0
        if np.any(self.moments[fixed] > self.limit):
            return None
        ends = (self.moments[:2] - self.limit) / self.slopes[:2]
        return (float(ends[0]), float(ends[1])) if ends[0] <= ends[1] else None

    def rejects(self, values: np.ndarray) -> np.ndarray:
        """Test each value of the parameter; shape (n,) of bool."""
        moments = self.moments[:, None] - np.outer(self.slopes, values)
        binding = moments.argmax(axis=0)
        largest = moments[binding, np.arange(len(values))]
        out = largest > self.limit
        for b in np.unique(binding):
            here = binding == b
            variance = self.covariance[b, b]
            if variance <= 0:
                out[here] |= largest[here] > 0
                continue
            ratio = self.covariance[:, b] / variance
            rest = moments[:, here] - ratio[:, None] * largest[here]
            gap = 1 - ratio
            below, above = gap > 1e-9, gap < -1e-9
            low = (rest[below] / gap[below, None]).max(axis=0, initial=-np.inf)
            high = (rest[above] / gap[above, None]).min(axis=0, initial=self.limit)
            tail = _upper_share(largest[here], low, high, math.sqrt(variance))
            out[here] |= (largest[here] > 0) & (tail < self.size)
        return np.asarray(out)

    def accepted(self, low: float, high: float) -> tuple[float, float] | None:
        """Return the smallest and largest value that is not rejected, to a thousandth of a percent of the range."""
        grid = np.linspace(low, high, _GRID)
        kept = np.flatnonzero(~self.rejects(grid))
        if len(kept) == 0:
            return None
        ends = []
        for inside, outside in ((kept[0], kept[0] - 1), (kept[-1], kept[-1] + 1)):
            if not 0 <= outside < _GRID:
                ends.append(float(grid[inside]))
                continue
            near, far = grid[inside], grid[outside]
            for _ in range(2):
                fine = np.linspace(near, far, 33)
                first = int(np.flatnonzero(self.rejects(fine[1:]) | (np.arange(32) == 31))[0])
                near, far = fine[first], fine[first + 1]
            ends.append(float(near))
        return ends[0], ends[1]


def _upper_share(value: np.ndarray, low: np.ndarray, high: np.ndarray, spread: float) -> np.ndarray:
    """Return P(Z > value | low <= Z <= high) of a centred normal Z, without losing digits in its tails."""
    from scipy.special import log_ndtr

    def above(end: np.ndarray) -> np.ndarray:
        return np.asarray(log_ndtr(-end / spread))

    base, top, here = above(np.minimum(low, value)), above(np.maximum(high, value)), above(value)
    whole = -np.expm1(np.minimum(top - base, 0.0))
    part = np.exp(here - base) - np.exp(top - base)
    return np.asarray(np.where(whole > 0, np.clip(part, 0, None) / np.where(whole > 0, whole, 1.0), 1.0))


def breakdown(excludes: Callable[[float], bool], most: float) -> float | None:
    """Return the largest m up to which `excludes(m)` holds, to a hundredth of a percent of `most`; None if not at 0.

    Where it holds up to `most`, that is returned.
    """
    if not excludes(0.0):
        return None
    low = 0.0
    for share in _SHARES:
        high = share * most
        if not excludes(high):
            break
        low = high
    else:
        return most
    while high - low > 1e-4 * most:
        middle = (low + high) / 2
        low, high = (middle, high) if excludes(middle) else (low, middle)
    return low
