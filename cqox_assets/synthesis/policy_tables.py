"""What a policy brings by share treated, by share and budget, and by kind of policy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.numerics.allocation import Cut, Evaluation, Valued
from cqox_assets.numerics.deep_policy import HonestValue, honest_policy
from cqox_assets.numerics.inference import influence_std_error
from cqox_assets.study import Role
from cqox_assets.synthesis.money import Prices
from cqox_assets.synthesis.unit_gains import UnitGains

SHARES = tuple(float(share) for share in np.round(np.linspace(0, 1, 21), 2))
DEPTHS = (1, 2, 3)


@dataclass(frozen=True)
class Case:
    """One contrast with its prices, its ranking and the recommended cut.

    Parameters
    ----------
    gains : UnitGains
    prices : Prices
    evaluation : Evaluation
    chosen : Cut
        The best cut that the budget pays for.
    level : float
        Confidence level of intervals.
    """

    gains: UnitGains
    prices: Prices
    evaluation: Evaluation
    chosen: Cut
    level: float = 0.95

    @classmethod
    def of(cls, gains: UnitGains, prices: Prices) -> "Case":
        """Rank the units and choose the cut."""
        evaluation = gains.evaluation(prices)
        return cls(gains, prices, evaluation, evaluation.ranking.best(prices.budget))

    @property
    def rows(self) -> int:
        """Number of units."""
        return len(self.gains.score)

    @property
    def label(self) -> str:
        """The contrast in words."""
        return self.gains.contrast.label

    def reach(self, level: float | None = None) -> float:
        """Return how many standard errors an interval of this level reaches: Student's with clusters."""
        from scipy.special import ndtri, stdtrit

        upper = 0.5 + (self.level if level is None else level) / 2
        cluster = self.gains.data.cluster
        return float(ndtri(upper) if cluster is None else stdtrit(float(cluster.max()), upper))

    def interval(self, value: float, error: float, level: float | None = None) -> tuple[float, float]:
        """Return the ends of an interval."""
        room = self.reach(level) * error
        return value - room, value + room

    def totals(self, found: Valued) -> dict[str, Any]:
        """Return a cut's net benefit for the study's rows in all, its interval, and its spending."""
        low, high = self.interval(found.value, found.std_error)
        return {
            "share": found.share, "treated": found.share * self.rows, "spend": self.spend(found),
            "net_benefit": found.value * self.rows, "low": low * self.rows, "high": high * self.rows,
            "std_error": found.std_error * self.rows, "per_unit": found.value,
        }  # fmt: skip

    def spend(self, found: Valued) -> float | None:
        """Return planned spending in all, or None where costs are not known."""
        return found.spend * self.rows if self.prices.costs_known else None


def curve_table(case: Case) -> pd.DataFrame:
    """Return one row per share treated, in steps of a twentieth.

    Columns: `contrast`, `share`, `treated`, `spend`, `net_benefit` with `low` and `high` (all rows together, honest),
    `per_unit`, and `predicted`, what the ranking's own predictions promise.
    """
    rows = []
    for share in SHARES:
        cut = case.evaluation.ranking.at_share(share)
        predicted = case.evaluation.ranking.predicted(cut)
        found = {**case.totals(case.evaluation.of(cut)), "share": share}
        rows.append({"contrast": case.label, **found, "predicted": predicted})
    return pd.DataFrame(rows)


def grid_table(case: Case) -> pd.DataFrame:
    """Return net benefit over shares treated and budgets; no rows where costs are not known.

    Columns: `contrast`, `coverage` (the share that may be treated), `budget`, `treated_share` (what both limits allow),
    `spend`, `net_benefit`, `low`, `high`, `binds` (share or budget) and `shadow_price` (what the last unit of money is
    predicted to bring). Budgets go from nothing to what treating everybody costs; a declared one among them is there.
    """
    ranking, rows = case.evaluation.ranking, []
    if ranking.cost is None:
        return pd.DataFrame()
    most = float(np.sum(ranking.weight * ranking.cost))
    budgets = np.linspace(0, most, len(SHARES)) if most > 0 else np.zeros(1)
    if case.prices.budget is not None and 0 < case.prices.budget < most:
        budgets = np.unique(np.append(budgets, case.prices.budget))
    shares = [ranking.at_share(share) for share in SHARES]
    held = {cut: case.totals(case.evaluation.of(cut)) for cut in shares}
    for budget in budgets:
        bound = ranking.at_budget(float(budget))
        held.setdefault(bound, case.totals(case.evaluation.of(bound)))
        price = ranking.shadow_price(bound)
        for share, limit in zip(SHARES, shares, strict=True):
            cut = min(limit, bound, key=lambda item: (item.groups, item.part))
            found = held[cut]
            rows.append(
                {"contrast": case.label, "coverage": share, "budget": float(budget), "treated_share": found["share"],
                 "spend": found["spend"], "net_benefit": found["net_benefit"], "low": found["low"],
                 "high": found["high"], "binds": "budget" if cut is bound else "share",
                 "shadow_price": price if cut is bound else 0.0}
            )  # fmt: skip
    return pd.DataFrame(rows)


def policy_table(case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what whole policies bring, and the leaves of the learned trees.

    Notes
    -----
    A tree of each depth is learned from the scores net of costs where both are known, and valued on the fold after
    those that taught it, so its value is honest; the budget does not enter the trees, and `affordable` says whether it
    pays for them. Its leaves are those of the tree of all rows, `share` the part of the population in each.
    """
    rows = [
        {"contrast": case.label, "policy": name, **case.totals(case.evaluation.of(cut))} for name, cut in _cuts(case)
    ]
    leaves = []
    x, part = case.gains.data.x, case.gains.contrast.part
    names = [part.label(name) for name in part.names(Role.COVARIATES)]
    folds = np.unique(case.gains.fold)
    for depth in DEPTHS if x.shape[1] and len(folds) > 1 else ():
        found = honest_policy(x, case.evaluation.score * case.evaluation.ranking.weight, case.gains.fold, depth)
        rows.append({"contrast": case.label, "policy": f"tree of depth {depth}", **_tree_row(case, found)})
        reached = _reached(found, x)
        for leaf, inside in zip(found.final.rows(names, part.arms), reached, strict=True):
            share = float(np.mean(inside * case.evaluation.ranking.weight))
            leaves.append({"contrast": case.label, "depth": depth, **leaf, "share": share})
    table = pd.DataFrame(rows)
    budget = case.prices.budget
    table["affordable"] = [
        None if budget is None or spend is None else bool(spend <= budget * (1 + 1e-9)) for spend in table["spend"]
    ]
    return table, pd.DataFrame(leaves)


def _cuts(case: Case) -> Iterator[tuple[str, Cut]]:
    ranking = case.evaluation.ranking
    yield "nobody", ranking.at_share(0.0)
    yield "everybody", ranking.at_share(1.0)
    yield "recommended", case.chosen
    if case.chosen.binds == "budget":
        yield "recommended without the budget", ranking.best()


def _tree_row(case: Case, found: HonestValue) -> dict[str, Any]:
    """Return the honest value of a tree, from the rows that did not teach it, carried over to all rows."""
    valued, ranking, cluster = found.valued, case.evaluation.ranking, case.gains.data.cluster
    weight = ranking.weight[valued] / ranking.weight[valued].mean()
    gained = found.treated[valued] * case.evaluation.score[valued]
    value = float(np.mean(weight * gained))
    inside = None if cluster is None else np.unique(cluster[valued], return_inverse=True)[1]
    error = influence_std_error(weight * (gained - value), inside)
    spent = 0.0 if ranking.cost is None else float(np.mean(weight * found.treated[valued] * ranking.cost[valued]))
    share = float(np.mean(weight * found.treated[valued]))
    return case.totals(Valued(value, error, spent, share))


def _reached(found: HonestValue, x: np.ndarray) -> list[np.ndarray]:
    """Return which rows reach each leaf, in the order of `rows`: their number of leaves is small."""
    tree = found.final
    sides = [(np.ones(len(x), bool), tree.low)]
    if tree.question is not None:
        low = x[:, tree.question[0]] <= tree.question[1]
        sides = [(low, tree.low), (~low, tree.high)]
    reached = []
    for side, own in sides:
        root, first, second = own.splits
        for left, inner in ((True, first), (False, second)):
            if not left and not np.isfinite(root[1]):
                continue
            outer = side & ((x[:, root[0]] <= root[1]) == left) if np.isfinite(root[1]) else side
            for near in (True, False) if np.isfinite(inner[1]) else (True,):
                cut = ((x[:, inner[0]] <= inner[1]) == near) if np.isfinite(inner[1]) else np.ones(len(x), bool)
                reached.append(outer & cut)
    return reached
