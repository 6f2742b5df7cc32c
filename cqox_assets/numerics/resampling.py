"""Resampling weights in blocks, and intervals and p-values from draws."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

_CELLS = 4_000_000


def canonical_order(content: np.ndarray, outcome: np.ndarray, cluster: np.ndarray | None) -> np.ndarray:
    """Return an order of the rows that depends on what they hold, not on how they came, shape (n,).

    Parameters
    ----------
    content : ndarray of shape (n, k)
        Numbers that the units are known by, such as covariates.
    outcome : ndarray of shape (n,)
        Puts rows of equal content in order, by how central it is: shifting, scaling and flipping it changes nothing.
    cluster : ndarray of int, shape (n,), optional
        With clusters the order is theirs.
    """
    rank = np.unique(outcome, return_inverse=True)[1]
    central = np.minimum(rank, rank.max() - rank)
    frame = pd.DataFrame(np.round(content, 12) + 0.0)
    hashed = np.zeros(len(rank)) if not frame.shape[1] else pd.util.hash_pandas_object(frame, index=False).to_numpy()
    if cluster is not None:
        return np.asarray(np.lexsort((rank, central, hashed, cluster)))
    return np.asarray(np.lexsort((rank, central, hashed)))


def resampling_groups(order: np.ndarray, cluster: np.ndarray | None, most: int, seed: int) -> np.ndarray:
    """Assign rows, or whole clusters, to at most about `most` groups that are drawn together, shape (n,) of 0..G-1.

    Units are put into groups at random, so that sums over groups vary as sums over as many units do: the variance of
    the draws has the same expectation, and they cost as much as drawing `most` units.
    """
    unit = np.empty(len(order), dtype=np.int64)
    unit[order] = np.arange(len(order))
    if cluster is not None:
        unit = cluster.astype(np.int64)
    count = int(unit.max()) + 1
    size = -(-count // most)
    if size == 1:
        return unit
    place = np.random.default_rng(seed).permutation(count) // size
    return np.asarray(np.unique(place[unit], return_inverse=True)[1], dtype=np.int64)


def weight_blocks(groups: int, draws: int, seed: int, *, bayesian: bool) -> Iterator[np.ndarray]:
    """Yield blocks of resampling weights, shape (b, G) each, `draws` rows in all.

    How often each of G groups is drawn with replacement (Efron 1979, doi:10.1214/aos/1176344552), or, if `bayesian`,
    G times a Dirichlet(1, ..., 1) draw (Rubin 1981, doi:10.1214/aos/1176345338).
    """
    generator = np.random.default_rng(seed)
    step = max(1, min(draws, _CELLS // groups))
    for start in range(0, draws, step):
        many = min(step, draws - start)
        if bayesian:
            raw = generator.standard_exponential((many, groups))
            yield raw / raw.mean(axis=1, keepdims=True)
            continue
        picked = generator.integers(0, groups, (many, groups)) + groups * np.arange(many)[:, None]
        yield np.bincount(picked.ravel(), minlength=many * groups).reshape(many, groups).astype(float)


@dataclass(frozen=True)
class DrawnEffect:
    """A point and its draws.

    Parameters
    ----------
    estimate : float
    draws : ndarray of shape (B,)
        Without those that could not be estimated.
    std_error : float, optional
        Of the point; needed for the studentised interval together with `errors`.
    errors : ndarray of shape (B,), optional
        Standard error of each draw.
    influence : ndarray, optional
        Influence values or jackknife deviations of the drawn units: their skewness accelerates BCa.
    """

    estimate: float
    draws: np.ndarray
    std_error: float | None = None
    errors: np.ndarray | None = None
    influence: np.ndarray | None = None

    @property
    def spread(self) -> float:
        """Standard deviation of the draws."""
        return float(self.draws.std(ddof=1))

    @property
    def skewness(self) -> float:
        """Third standardised moment of the draws; 0 without spread."""
        centred = self.draws - self.draws.mean()
        size = float(np.sqrt(np.mean(centred**2)))
        return float(np.mean(centred**3) / size**3) if size > 0 else 0.0

    @property
    def kurtosis(self) -> float:
        """Fourth standardised moment of the draws less 3; 0 without spread."""
        centred = self.draws - self.draws.mean()
        size = float(np.mean(centred**2))
        return float(np.mean(centred**4) / size**2 - 3) if size > 0 else 0.0

    @property
    def acceleration(self) -> float:
        """Skewness of the influence over 6 (Efron 1987)."""
        if self.influence is None:
            return 0.0
        values = self.influence - self.influence.mean()
        size = float(np.sum(values**2))
        return float(np.sum(values**3) / (6 * size**1.5)) if size > 0 else 0.0

    def kinds(self) -> list[str]:
        """Intervals that can be made from these draws."""
        return ["percentile", "basic", "normal", "bca", *(["studentised"] if self._ratios() is not None else [])]

    def interval(self, kind: str, level: float) -> tuple[float, float]:
        """Return the ends of an interval.

        Parameters
        ----------
        kind : str
            `percentile`; `basic` (reflected about the estimate); `normal` (bias-corrected); `bca` (Efron 1987,
            doi:10.1080/01621459.1987.10478410); `studentised` (Davison & Hinkley 1997,
            doi:10.1017/CBO9780511802843, section 5.2).
        """
        from scipy.special import ndtri

        tails = np.array([0.5 - level / 2, 0.5 + level / 2])
        if kind == "percentile":
            low, high = np.quantile(self.draws, tails)
        elif kind == "basic":
            high, low = 2 * self.estimate - np.quantile(self.draws, tails)
        elif kind == "normal":
            low, high = 2 * self.estimate - self.draws.mean() + ndtri(tails) * self.spread
        elif kind == "bca":
            low, high = np.quantile(self.draws, self._bca_orders(tails))
        else:
            ratios = self._ratios()
            assert ratios is not None
            assert self.std_error is not None
            high, low = self.estimate - np.quantile(ratios, tails) * self.std_error
        return float(low), float(high)

    def p_value(self, kind: str, null: float) -> float:
        """Return the two-sided p-value that belongs to an interval, never below 2 / (B + 1) where draws are counted."""
        from scipy.special import ndtr, ndtri

        many = len(self.draws)
        if kind == "normal":
            size = self.spread
            return float(2 * ndtr(-abs(2 * self.estimate - self.draws.mean() - null) / size)) if size > 0 else 1.0
        if kind == "studentised":
            ratios = self._ratios()
            assert ratios is not None
            assert self.std_error is not None
            own = (self.estimate - null) / self.std_error
            below, above = float(np.sum(ratios <= own)), float(np.sum(ratios >= own))
        else:
            cut = 2 * self.estimate - null if kind == "basic" else null
            below, above = float(np.sum(self.draws <= cut)), float(np.sum(self.draws >= cut))
        if kind == "bca" and 0 < below < many:
            shift, a = self._bias(), self.acceleration
            step = float(ndtri(below / many)) - shift
            tail = float(ndtr(step / (1 + a * step) - shift)) if 1 + a * step > 0 else 0.5
            return float(min(1.0, max(2 * min(tail, 1 - tail), 2 / (many + 1))))
        return float(min(1.0, 2 * (min(below, above) + 1) / (many + 1)))

    def _bias(self) -> float:
        """Return the normal quantile of the share of draws below the estimate; ties count half."""
        from scipy.special import ndtri

        share = float(np.mean(self.draws < self.estimate) + 0.5 * np.mean(self.draws == self.estimate))
        many = len(self.draws)
        return float(ndtri(np.clip(share, 0.5 / many, 1 - 0.5 / many)))

    def _bca_orders(self, tails: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr, ndtri

        shift, a = self._bias(), self.acceleration
        z = shift + ndtri(tails)
        room = 1 - a * z
        if np.any(room <= 0):  # so skewed that the correction has no meaning
            return tails
        return np.asarray(ndtr(shift + z / room))

    def _ratios(self) -> np.ndarray | None:
        if self.errors is None or self.std_error is None or not self.std_error > 0:
            return None
        sound = np.isfinite(self.errors) & (self.errors > 1e-12 * self.std_error)
        if sound.sum() < 0.9 * len(self.draws):
            return None
        return np.asarray((self.draws[sound] - self.estimate) / self.errors[sound])


def histogram(draws: np.ndarray, most: int = 60) -> pd.DataFrame:
    """Return bins ready to be drawn: `low`, `high`, `count` and `density`, by the Freedman-Diaconis rule."""
    spread = float(np.subtract(*np.quantile(draws, [0.75, 0.25])))
    width = 2 * spread / len(draws) ** (1 / 3)
    reach = float(np.ptp(draws))
    if reach <= 1e-12 * float(np.abs(draws).max()):  # all draws are one number but for rounding
        reach = 0.0
    bins = int(np.clip(math.ceil(reach / width) if width > 0 else 1, 1, most)) if reach > 0 else 1
    if bins == 1:
        middle = float(draws.mean())
        half = reach / 2 or 1e-6 * max(abs(middle), 1e-300)
        count, edges = np.array([len(draws)]), np.array([middle - half, middle + half])
    else:
        count, edges = np.histogram(draws, bins=bins)
    density = count / (count.sum() * np.diff(edges))
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": count.astype(np.int64), "density": density})


def jackknife_groups(units: np.ndarray, most: int, seed: int) -> Sequence[np.ndarray]:
    """Return row masks that leave out one group of units (codes 0..U-1) each, at most `most` groups."""
    count = int(units.max()) + 1
    place = np.random.default_rng(seed).permutation(count) % min(count, most)
    return [place[units] != group for group in range(min(count, most))]
