"""Matching one group of units to another: on a sorted score in O(n log n), on points, with or without replacement."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cqox_assets.errors import CqoxError

_CHUNK = 2_000_000
_MANY = 50_000_000
_LEAST_TOLERANCE = 1e-12

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


class MatchingSizeError(CqoxError):
    """A matching method needs more memory than it may take."""

    code = "too_many_rows"


class Matches(ABC):
    """Which targets stand in for each source, and with what weight; the weights of a matched source sum to one.

    Attributes
    ----------
    sources, targets : int
        Group sizes.
    """

    sources: int
    targets: int

    @abstractmethod
    def chunks(self) -> Iterator[Pairs]:
        """Yield (source, target, weight) arrays that together list every pair once."""

    @cached_property
    def count(self) -> np.ndarray:
        """Targets per source, shape (sources,); 0 is unmatched."""
        found = np.zeros(self.sources, dtype=int)
        for source, _, _ in self.chunks():
            found += np.bincount(source, minlength=self.sources)
        return found

    def impute(self, values: np.ndarray) -> np.ndarray:
        """Return each source's weighted mean of its targets' values; NaN where unmatched, shape (sources,)."""
        total = np.zeros(self.sources)
        for source, target, weight in self.chunks():
            total += np.bincount(source, weights=weight * values[target], minlength=self.sources)
        return np.where(self.count > 0, total, np.nan)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Return per target the sum of the weights that it carries, and of their squares, shape (targets,) each."""
        plain, squared = np.zeros(self.targets), np.zeros(self.targets)
        for _, target, weight in self.chunks():
            plain += np.bincount(target, weights=weight, minlength=self.targets)
            squared += np.bincount(target, weights=weight**2, minlength=self.targets)
        return plain, squared


@dataclass(eq=False)
class PairMatches(Matches):
    """Matches as an explicit list of pairs."""

    source: np.ndarray
    target: np.ndarray
    sources: int
    targets: int

    def chunks(self) -> Iterator[Pairs]:
        """Yield the list; each of a source's targets has the same weight."""
        number = np.bincount(self.source, minlength=self.sources)
        yield self.source, self.target, 1.0 / number[self.source]


@dataclass(eq=False)
class RangeMatches(Matches):
    """Matches as ranges of the sorted targets: however many ties there are, the work stays O(n log n).

    Parameters
    ----------
    order : ndarray of int, shape (targets,)
        Targets in ascending order of the score.
    low, high : ndarray of int, shape (sources,)
        Source i is matched to order[low[i]:high[i]], equally weighted.
    """

    order: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __post_init__(self) -> None:
        self.sources, self.targets = len(self.low), len(self.order)

    @cached_property
    def count(self) -> np.ndarray:
        """Targets per source, shape (sources,)."""
        return np.asarray(self.high - self.low)

    def impute(self, values: np.ndarray) -> np.ndarray:
        """Return each source's mean over its range by cumulated sums, shape (sources,)."""
        centre = values.mean()
        ordered = values[self.order]
        total = np.concatenate([[0.0], np.cumsum(ordered - centre)])
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = centre + (total[self.high] - total[self.low]) / self.count
        single = self.count == 1
        mean[single] = ordered[self.low[single]]
        return np.asarray(mean)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the carried weights and squared weights by cumulated differences, shape (targets,) each."""
        matched = self.count > 0
        low, high, share = self.low[matched], self.high[matched], 1.0 / self.count[matched]
        size = self.targets + 1

        def spread(weight: np.ndarray | None) -> np.ndarray:
            steps = np.bincount(low, weights=weight, minlength=size) - np.bincount(high, weights=weight, minlength=size)
            return np.cumsum(steps)[:-1]

        used = spread(None) > 0
        result = np.zeros((2, self.targets))
        result[0, self.order] = np.where(used, spread(share), 0.0)
        result[1, self.order] = np.where(used, spread(share**2), 0.0)
        return result[0], result[1]

    def chunks(self) -> Iterator[Pairs]:
        """Yield pairs in blocks of bounded size."""
        for start, stop in _blocks(self.count):
            source, position = _expand(self.low, self.high, start, stop)
            yield source, self.order[position], 1.0 / self.count[source]


@dataclass(eq=False)
class KernelMatches(RangeMatches):
    """Matches weighted by an Epanechnikov kernel of the distance on the score; O(n * window)."""

    score: np.ndarray
    target_score: np.ndarray
    bandwidth: float

    @cached_property
    def count(self) -> np.ndarray:
        """Targets within the bandwidth per source; 0 where all lie on its edge."""
        return np.where(self._mass > 1e-9, self.high - self.low, 0)

    @cached_property
    def _mass(self) -> np.ndarray:
        mass = np.zeros(self.sources)
        for source, _, weight in self._raw():
            mass += np.bincount(source, weights=weight, minlength=self.sources)
        return mass

    def _raw(self) -> Iterator[Pairs]:
        for start, stop in _blocks(self.high - self.low):
            source, position = _expand(self.low, self.high, start, stop)
            target = self.order[position]
            distance = (self.score[source] - self.target_score[target]) / self.bandwidth
            yield source, target, np.maximum(1 - distance**2, 0.0)

    def chunks(self) -> Iterator[Pairs]:
        """Yield pairs with normalised kernel weights."""
        for source, target, weight in self._raw():
            kept = self._mass[source] > 1e-9
            yield source[kept], target[kept], weight[kept] / self._mass[source[kept]]

    def impute(self, values: np.ndarray) -> np.ndarray:
        """Return each source's kernel mean, shape (sources,)."""
        return Matches.impute(self, values)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Return carried weights and squared weights, shape (targets,) each."""
        return Matches.load(self)


def _blocks(count: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield source ranges that hold about `_CHUNK` pairs each."""
    cumulated = np.cumsum(count)
    start = 0
    while start < len(count):
        before = cumulated[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(cumulated, before + _CHUNK, side="right")))
        yield start, min(stop, len(count))
        start = stop


def _expand(low: np.ndarray, high: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (source, sorted position) of every pair of the sources start..stop-1."""
    count = (high - low)[start:stop]
    source = np.repeat(np.arange(start, stop), count)
    offset = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    return source, low[source] + offset


def nearest_scores(
    source: np.ndarray, target: np.ndarray, ratio: int = 1, *, tolerance: float = 1e-9, radius: float = np.inf
) -> RangeMatches:
    """Match each source to its nearest targets on a score, all ties included, with replacement.

    Parameters
    ----------
    source, target : ndarray of shape (s,), (t,)
        Scores.
    ratio : int
        Nearest targets wanted; fewer if fewer exist or lie within the radius.
    tolerance : float
        Targets whose distance exceeds the ratio-th smallest by no more than this are ties and enter too.
    radius : float
        Largest distance allowed (a caliper).

    Notes
    -----
    The nearest targets are adjacent among the sorted targets, so the ratio-th smallest distance is the best of
    ratio + 1 windows, and the ball of that radius is a range.
    """
    order = np.argsort(target, kind="stable")
    ranked = target[order]
    size, number = len(target), min(ratio, len(target))
    position = np.searchsorted(ranked, source)
    distance = np.full(len(source), np.inf)
    for shift in range(number + 1):
        start = position - number + shift
        fits = (start >= 0) & (start + number <= size)
        start = np.clip(start, 0, size - number)
        reach = np.maximum(np.abs(source - ranked[start]), np.abs(ranked[start + number - 1] - source))
        distance = np.minimum(distance, np.where(fits, reach, np.inf))
    ball = np.minimum(distance + max(tolerance, _LEAST_TOLERANCE), radius)
    return RangeMatches(order, np.searchsorted(ranked, source - ball), np.searchsorted(ranked, source + ball, "right"))


def first_of_ties(matches: RangeMatches, source: np.ndarray, target: np.ndarray, ratio: int) -> PairMatches:
    """Keep, of each source's tied targets, the closest `ratio`, the first in the file where distances are equal."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for who, whom, _ in matches.chunks():
        distance = np.round(np.abs(source[who] - target[whom]), 12)
        order = np.lexsort((whom, distance, who))
        who, whom = who[order], whom[order]
        first = np.searchsorted(who, who)
        near = np.arange(len(who)) - first < ratio
        kept.append((who[near], whom[near]))
    return PairMatches(
        np.concatenate([part[0] for part in kept]), np.concatenate([part[1] for part in kept]), len(source), len(target)
    )


def kernel_scores(source: np.ndarray, target: np.ndarray, bandwidth: float) -> KernelMatches:
    """Match each source to all targets within the bandwidth (Heckman, Ichimura & Todd 1997, doi:10.2307/2971733)."""
    order = np.argsort(target, kind="stable")
    ranked = target[order]
    low = np.searchsorted(ranked, source - bandwidth)
    high = np.searchsorted(ranked, source + bandwidth, "right")
    return KernelMatches(order, low, high, source, target, bandwidth)


def nearest_points(
    source: np.ndarray,
    target: np.ndarray,
    ratio: int = 1,
    *,
    tolerance: float = 1e-9,
    scores: tuple[np.ndarray, np.ndarray, float] | None = None,
) -> PairMatches:
    """Match each source to its nearest targets in space (Euclidean), all ties included, with replacement.

    Parameters
    ----------
    source, target : ndarray of shape (s, k), (t, k)
        Points; whiten them for Mahalanobis distances.
    ratio, tolerance
        As in :func:`nearest_scores`.
    scores : (source score, target score, radius), optional
        Only targets whose score is within the radius are allowed (Rosenbaum & Rubin 1985,
        doi:10.1080/00031305.1985.10479383).

    Raises
    ------
    MatchingSizeError
        If ties make more than 50 million pairs.
    """
    from scipy.spatial import cKDTree

    tree, size = cKDTree(target), len(target)
    wanted = np.full(len(source), min(ratio, size))
    if scores is not None:
        ranked = np.sort(scores[1])
        near = np.searchsorted(ranked, scores[0] + scores[2], "right") - np.searchsorted(ranked, scores[0] - scores[2])
        wanted = np.minimum(wanted, near)
    pending, width = np.flatnonzero(wanted > 0), min(size, ratio + 8)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while len(pending):
        open_sources = []
        step = max(1, _CHUNK // width)
        for rows in np.split(pending, range(step, len(pending), step)):
            distance, index = (np.reshape(part, (len(rows), width)) for part in tree.query(source[rows], k=width))
            allowed = np.ones_like(distance, dtype=bool)
            if scores is not None:
                allowed = np.abs(scores[0][rows][:, None] - scores[1][index]) <= scores[2]
            rank = np.cumsum(allowed, axis=1)
            enough = rank[:, -1] >= wanted[rows]
            last = np.where(enough, np.argmax(rank >= wanted[rows][:, None], axis=1), width - 1)
            ball = distance[np.arange(len(rows)), last] + max(tolerance, _LEAST_TOLERANCE)
            done = (enough & (distance[:, -1] > ball)) | (width == size)
            chosen = allowed & (distance <= ball[:, None]) & done[:, None]
            who, where = np.nonzero(chosen)
            found.append((rows[who], index[who, where]))
            open_sources.append(rows[~done])
        if sum(len(part[0]) for part in found) > _MANY:
            raise MatchingSizeError("covariate ties make more than 50 million pairs; use method nearest on the score")
        pending, width = np.concatenate(open_sources), min(size, width * 4)
    none = np.zeros(0, dtype=int)
    return PairMatches(
        np.concatenate([none, *(part[0] for part in found)]),
        np.concatenate([none, *(part[1] for part in found)]),
        len(source),
        size,
    )


def whiten(points: np.ndarray) -> np.ndarray:
    """Return points whose Euclidean distances are Mahalanobis distances; constant directions drop out."""
    centred = points - points.mean(axis=0)
    spread = centred.std(axis=0)
    scaled = centred[:, spread > 0] / spread[spread > 0]
    values, vectors = np.linalg.eigh(scaled.T @ scaled / max(len(points) - 1, 1))
    kept = values > 1e-9 * values.max(initial=0.0)
    if not kept.any():
        return np.zeros((len(points), 1))
    return np.asarray(scaled @ (vectors[:, kept] / np.sqrt(values[kept])))
