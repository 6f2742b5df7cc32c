"""Whom to treat with limited money: units in the order of what they bring per unit of money, cut by share or budget.

Buying treatments is the knapsack problem; where a unit may be treated in part, taking units in the order of gain per
cost until the budget is spent is optimal (Dantzig 1957, doi:10.1287/opre.5.2.266), and what the last unit of money
brings is the budget's shadow price.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cqox_assets.numerics.inference import influence_std_error

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Cut:
    """Where the ranking stops.

    Parameters
    ----------
    groups : int
        Groups of equal priority that are treated whole.
    part : float
        Share of the next group that is treated, 0 to 1.
    binds : str
        What stopped it: `share`, `budget`, or `best` (nobody further brings more than they cost).
    """

    groups: int
    part: float
    binds: str


@dataclass(frozen=True)
class Ranking:
    """Units in the order in which they are treated.

    Parameters
    ----------
    gain : ndarray of shape (n,)
        Predicted benefit of treating each unit before costs, larger is better.
    cost : ndarray of shape (n,), optional
        Predicted cost of treating each unit in money, none below 0; None where costs are not known.
    weight : ndarray of shape (n,)
        Sampling weights of mean one.
    priced : bool
        Whether gain and cost are both money, so that what a unit brings is gain - cost.

    Notes
    -----
    Units of equal priority are treated in equal parts, so that the order of rows does not matter. Without costs, or
    with one cost for all, the priority is the gain itself.
    """

    gain: np.ndarray
    cost: np.ndarray | None
    weight: np.ndarray
    priced: bool

    @cached_property
    def priority(self) -> np.ndarray:
        """Gain per cost of each unit, or its gain; infinite for gains that cost nothing."""
        if self.cost is None or np.ptp(self.cost) <= _ROUNDING * np.abs(self.cost).max(initial=0.0):
            return self.gain
        free = self.cost <= 0
        with np.errstate(over="ignore"):
            ratio = self.gain / np.where(free, 1.0, self.cost)
        if not free.any():
            return np.asarray(ratio)
        endless = np.where(self.gain > 0, np.inf, np.where(self.gain < 0, -np.inf, 0.0))
        return np.where(free, endless, ratio)

    @cached_property
    def group(self) -> np.ndarray:
        """Place of each unit's group in the order, 0 first, shape (n,)."""
        return np.asarray(np.unique(-self.priority, return_inverse=True)[1])

    @cached_property
    def _sums(self) -> dict[str, np.ndarray]:
        """Weight, predicted gain and cost of each group."""
        cost = np.zeros(len(self.gain)) if self.cost is None else self.cost
        return {
            name: np.bincount(self.group, weights=self.weight * values)
            for name, values in (("size", np.ones(len(self.gain))), ("gain", self.gain), ("cost", cost))
        }

    @property
    def _worth(self) -> np.ndarray:
        """What each group is predicted to bring."""
        return self._sums["gain"] - self._sums["cost"] if self.priced else self._sums["gain"]

    def at_share(self, share: float) -> Cut:
        """Return the cut that treats this share of the population."""
        return self._cut(self._sums["size"], share * float(self._sums["size"].sum()), "share")

    def at_budget(self, budget: float) -> Cut:
        """Return the cut that spends the budget; everybody where it pays for all, or where costs are not known."""
        return self._cut(self._sums["cost"], budget, "budget")

    def best(self, budget: float | None = None) -> Cut:
        """Return the cut with the largest predicted benefit that the budget pays for."""
        bought = np.asarray(np.bincount(self.group, weights=self.weight) > 0)
        pays = (self._worth > 0) | ~bought
        stop = int(np.argmin(pays)) if not pays.all() else len(pays)
        free = Cut(stop, 0.0, "best")
        if budget is None or self.cost is None:
            return free
        bound = self.at_budget(budget)
        return bound if (bound.groups, bound.part) < (free.groups, 0.0) else free

    def both(self, share: float, budget: float) -> Cut:
        """Return whichever of the two cuts stops first."""
        return min(self.at_share(share), self.at_budget(budget), key=lambda cut: (cut.groups, cut.part))

    def treated(self, cut: Cut) -> np.ndarray:
        """Return the part of each unit that is treated, shape (n,), 0 to 1."""
        return np.asarray((self.group < cut.groups) + cut.part * (self.group == cut.groups), dtype=float)

    def predicted(self, cut: Cut) -> float:
        """Return the predicted benefit, the sum over all units."""
        held = self._worth
        part = cut.part * held[cut.groups] if cut.groups < len(held) else 0.0
        return float(held[: cut.groups].sum() + part)

    def shadow_price(self, cut: Cut) -> float:
        """Return what one more unit of money would bring: 0 where the budget is not what stops the cut.

        In money less the unit spent where `priced`, else in units of the gain per unit of money.
        """
        if cut.binds != "budget" or cut.groups >= len(self._worth) or self._sums["cost"][cut.groups] <= 0:
            return 0.0
        return max(0.0, float(self._worth[cut.groups] / self._sums["cost"][cut.groups]))

    def slope(self, cut: Cut) -> tuple[float, float]:
        """Return what one more treated unit, and one more unit of money, bring at the cut.

        One of them is 0: that of the limit that does not bind.
        """
        if cut.binds == "budget":
            held = self._sums["cost"]
            inside = cut.groups < len(held) and held[cut.groups] > 0
            return 0.0, float(self._worth[cut.groups] / held[cut.groups]) if inside else 0.0
        if cut.binds == "share" and cut.groups < len(self._worth) and self._sums["size"][cut.groups] > 0:
            return float(self._worth[cut.groups] / self._sums["size"][cut.groups]), 0.0
        return 0.0, 0.0

    @staticmethod
    def _cut(size: np.ndarray, limit: float, binds: str) -> Cut:
        total = np.cumsum(size)
        room = limit + _ROUNDING * max(float(total[-1]), 1.0)
        whole = int(np.searchsorted(total, room, side="right"))
        if whole == len(total):
            return Cut(whole, 0.0, "all" if binds == "budget" else binds)
        before = total[whole - 1] if whole else 0.0
        part = float(np.clip((limit - before) / size[whole], 0.0, 1.0))
        return Cut(whole, 0.0 if part < _ROUNDING else part, binds)


@dataclass(frozen=True)
class Valued:
    """The honest value of a cut: mean benefit per unit of the population, its error, planned spend, share treated."""

    value: float
    std_error: float
    spend: float
    share: float


@dataclass(frozen=True)
class Evaluation:
    """Doubly robust scores that value any cut of a ranking.

    Parameters
    ----------
    ranking : Ranking
    score : ndarray of shape (n,)
        Score of each unit's benefit, less that of its cost where the ranking is priced.
    cluster : ndarray of int, shape (n,), optional
    """

    ranking: Ranking
    score: np.ndarray
    cluster: np.ndarray | None = None

    def of(self, cut: Cut) -> Valued:
        """Value a cut.

        Notes
        -----
        With t the part of a unit that is treated, g its score and c its predicted cost, the value is mean(w t g). Its
        influence is w (t g - value - m (t - share) - p (t c - spend)), where m and p are what another treated unit or
        unit of money brings at the cut: the cut itself is estimated (as for rank-weighted effects, Yadlowsky et al.
        2025, doi:10.1080/01621459.2024.2393466). Scores and predictions of a unit come from models that have not seen
        it, so choosing by predictions does not flatter the value.
        """
        weight, treated = self.ranking.weight, self.ranking.treated(cut)
        value = float(np.mean(weight * treated * self.score))
        share = float(np.mean(weight * treated))
        unit, money = self.ranking.slope(cut)
        influence = treated * self.score - value - unit * (treated - share)
        spent = np.zeros(len(treated)) if self.ranking.cost is None else treated * self.ranking.cost
        spend = float(np.mean(weight * spent))
        if money:
            influence -= money * (spent - spend)
        return Valued(value, influence_std_error(weight * influence, self.cluster), spend, share)
