"""Treating a share of the population in order of predicted gain: who is in, what it costs and what it is worth."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cqox_assets.numerics.inference import influence_std_error, interval_reach

_NO_COST = 1e-12


@dataclass(frozen=True)
class Order:
    """Units in the order in which they would be treated.

    Parameters
    ----------
    gain, cost : ndarray of shape (n,)
        Predicted gain from treating a unit and what it costs, in one unit of measurement. A negative cost (a saving)
        counts as gain. Predictions of a row must not have seen its own outcome.
    weight : ndarray of shape (n,)
        Sampling weights of mean one.
    fold : ndarray of int, shape (n,)
        Values 0..K-1. Units are ordered within their fold, because the models of different folds have different levels.

    Notes
    -----
    The order is by gain per cost, which is best for every budget if a unit may be treated in part (Dantzig 1957,
    doi:10.1287/opre.5.2.266); by gain where all costs are equal or nothing costs anything. Units that are tied are
    treated with the same probability.
    """

    gain: np.ndarray
    cost: np.ndarray
    weight: np.ndarray
    fold: np.ndarray

    @cached_property
    def benefit(self) -> np.ndarray:
        """Gain with savings, shape (n,)."""
        return np.asarray(self.gain + np.maximum(-self.cost, 0.0))

    @cached_property
    def price(self) -> np.ndarray:
        """Cost where it is one, shape (n,)."""
        return np.asarray(np.maximum(self.cost, 0.0))

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Share of the fold's weight before, and up to, each unit and those tied with it, shape (n,) each."""
        size = float(self.price.max(initial=0.0))
        floor = _NO_COST * size if size > 0 else 1.0
        priority = self.benefit / np.maximum(self.price, floor) if np.ptp(self.price) > 0 else self.benefit
        before, after = np.zeros(len(priority)), np.zeros(len(priority))
        for k in range(int(self.fold.max()) + 1):
            rows = np.flatnonzero(self.fold == k)
            total = self.weight[rows].sum()
            if total <= 0:
                before[rows], after[rows] = 0.0, 1.0
                continue
            _, tied = np.unique(-priority[rows], return_inverse=True)
            ends = np.cumsum(np.bincount(tied, weights=self.weight[rows])) / total
            after[rows] = ends[tied]
            before[rows] = np.append(0.0, ends[:-1])[tied]
        return before, after

    def treated(self, share: float) -> np.ndarray:
        """Return the probability that each unit is treated when `share` of the population is, shape (n,)."""
        before, after = self._places
        width = np.maximum(after - before, 1e-15)
        return np.asarray(np.clip((share - before) / width, 0.0, 1.0))

    @cached_property
    def _paths(self) -> list[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
        """Per fold: its share of all weight, nodes, and predicted spend and benefit up to them."""
        _, after = self._places
        found, total = [], self.weight.sum()
        for k in range(int(self.fold.max()) + 1):
            rows = np.flatnonzero(self.fold == k)
            weight = self.weight[rows]
            if weight.sum() <= 0:
                continue
            nodes, tied = np.unique(after[rows], return_inverse=True)
            sums = [
                np.append(0.0, np.cumsum(np.bincount(tied, weights=weight * values[rows]))) / total
                for values in (self.price, self.benefit)
            ]
            found.append((float(weight.sum() / total), np.append(0.0, nodes), *sums))
        return found

    def spend(self, share: float) -> float:
        """Return the predicted spend per unit of the population when `share` of it is treated."""
        return float(sum(np.interp(share, nodes, spent) for _, nodes, spent, _ in self._paths))

    def net(self, share: float) -> float:
        """Return the predicted gain less cost per unit of the population when `share` of it is treated."""
        return float(sum(np.interp(share, nodes, won - spent) for _, nodes, spent, won in self._paths))

    def worthwhile(self) -> float:
        """Return the share of the population whose predicted gain exceeds the cost."""
        return float(np.average(self.benefit > self.price, weights=self.weight))

    def affordable(self, budget: float) -> float:
        """Return the largest share whose predicted spend is within a budget per unit of the population."""
        if self.spend(1.0) <= budget * (1 + 1e-12):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.spend(middle) <= budget else (low, middle)
        return low

    def shadow_price(self, budget: float, step: float) -> float:
        """Return the predicted net gain per further unit of money over the next `step`; 0 if the budget does not bind.

        Parameters
        ----------
        budget, step : float
            Per unit of the population.
        """
        best = self.worthwhile()
        now, then = (min(best, self.affordable(value)) for value in (budget, budget + step))
        more = self.spend(then) - self.spend(now)
        return (self.net(then) - self.net(now)) / more if more > 0 else 0.0


@dataclass(frozen=True)
class Judge:
    """Values policies by scores that did not make the order, with standard errors.

    Parameters
    ----------
    weight : ndarray of shape (n,)
        Sampling weights of mean one.
    cluster : ndarray of int, shape (n,), optional
    """

    weight: np.ndarray
    cluster: np.ndarray | None

    def reach(self, level: float) -> float:
        """Return how many standard errors an interval reaches: Student's quantile where there are clusters."""
        return interval_reach(level, self.cluster)

    def difference(self, score: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
        """Return the standard error of the difference of the means of scores among two groups of units.

        Groups that share clusters vary together, so their own errors do not add up to it.
        """
        influence = np.zeros(len(score))
        for inside, sign in ((first, 1.0), (second, -1.0)):
            size = float(np.mean(self.weight * inside))
            value = float(np.mean(self.weight * inside * score)) / size
            influence += sign * self.weight * inside * (score - value) / size
        return influence_std_error(influence, self.cluster)

    def mean(self, score: np.ndarray) -> tuple[float, float]:
        """Return the weighted mean of scores and its standard error."""
        value = float(np.mean(self.weight * score))
        return value, influence_std_error(self.weight * (score - value), self.cluster)

    def within(self, score: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
        """Return the mean of scores among the units `inside` (weights or mask, shape (n,)) and its standard error."""
        size = float(np.mean(self.weight * inside))
        value = float(np.mean(self.weight * inside * score)) / size
        return value, influence_std_error(self.weight * inside * (score - value) / size, self.cluster)

    def policy(self, score: np.ndarray, treated: np.ndarray, share: float) -> tuple[float, float]:
        """Return the value per unit of the population of treating as `treated` says, and its standard error.

        Notes
        -----
        The value is that of treating as many at random, plus what choosing them adds. Each fold's order was learned
        from the other folds, so what chance did in one fold returns in the order of the others, and the pooled error
        of the second part is too small: where nothing could be gained by choosing, over 60 draws of 1,000 rows, by
        1.2 to 1.4. With two folds its variance would be doubled exactly, and here it is doubled.
        """
        value, error = self.mean(treated * score)
        centred = score - float(np.mean(self.weight * score))
        _, chosen = self.mean((treated - share) * centred)
        return value, float(np.hypot(error, chosen))

    def ratio(self, top: np.ndarray, bottom: np.ndarray) -> tuple[float, float] | None:
        """Return the ratio of two means of scores and its standard error by the delta method; None if bottom is 0."""
        below = float(np.mean(self.weight * bottom))
        if not below > 0:
            return None
        value = float(np.mean(self.weight * top)) / below
        return value, influence_std_error(self.weight * (top - value * bottom) / below, self.cluster)
