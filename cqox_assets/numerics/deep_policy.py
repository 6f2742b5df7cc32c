"""Policy trees of depth three: a first question, and the exact best tree of depth two on either side of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics import policy_tree
from cqox_assets.numerics.policy_tree import Tree

_FIRST_FEATURES = 6
_FIRST_CUTS = 7
_MOST_ROWS = 20_000


@dataclass(frozen=True)
class DeepTree:
    """A first question (feature, threshold) and a tree for either answer; a threshold of infinity asks nothing."""

    first: tuple[int, float]
    low: Tree
    high: Tree

    def assign(self, x: np.ndarray) -> np.ndarray:
        """Return the arm of each row of covariates (n, p), shape (n,) of int."""
        return np.where(x[:, self.first[0]] <= self.first[1], self.low.assign(x), self.high.assign(x))

    def rows(self, names: Sequence[str], arms: Sequence[str]) -> list[dict[str, object]]:
        """Return one row per leaf: the condition in words and the arm."""
        feature, cut = self.first
        if not np.isfinite(cut):
            return self.low.rows(names, arms)
        found: list[dict[str, object]] = []
        for mark, tree in (("<=", self.low), (">", self.high)):
            for row in tree.rows(names, arms):
                rest = "" if row["where"] == "everywhere" else f" and {row['where']}"
                found.append({"where": f"{names[feature]} {mark} {cut:.6g}{rest}", "arm": row["arm"]})
        return found


Rule = Tree | DeepTree


def learn(x: np.ndarray, gains: np.ndarray, fold: np.ndarray, depth: int) -> tuple[list[Rule], Rule]:
    """Learn policy trees as :func:`cqox_assets.numerics.policy_tree.learn_trees` does, of depth 1, 2 or 3.

    Notes
    -----
    A tree of depth three asks first about one of the six covariates whose single split gains most, at one of seven
    quantiles; below, the tree of depth two is the exact best one over these six covariates. Where nothing is gained it
    is the tree of depth two. Of more than 20,000 rows evenly spaced ones are learned from.
    """
    if depth < 3:
        honest, last = policy_tree.learn_trees(x, gains, fold, depth)
        return list(honest), last
    if len(x) > _MOST_ROWS:
        kept = np.lexsort((*x.T[:3], fold))[:: -(-len(x) // _MOST_ROWS)]
        x, gains, fold = x[kept], gains[kept], fold[kept]
    trees = [_deepest(x[fold <= last], gains[fold <= last]) for last in range(int(fold.max()) + 1)]
    return trees[:-1], trees[-1]


def reward(tree: Tree | DeepTree, x: np.ndarray, gains: np.ndarray) -> float:
    """Return the sum of what the tree's arms gain; the reference arm gains nothing."""
    arm = tree.assign(x)
    return float(np.column_stack([np.zeros(len(x)), gains])[np.arange(len(x)), arm].sum())


def _deepest(x: np.ndarray, gains: np.ndarray) -> Tree | DeepTree:
    _, flat = policy_tree.learn_trees(x, gains, np.zeros(len(x), dtype=int), 2)
    best, found = reward(flat, x, gains), flat
    chosen = _first_features(x, gains)
    for feature in chosen:
        column = x[:, feature]
        cuts = np.unique(np.quantile(column, np.arange(1, _FIRST_CUTS + 1) / (_FIRST_CUTS + 1), method="lower"))
        for cut in cuts[cuts < column.max()]:
            low = column <= cut
            sides = [_below(x[rows], gains[rows], chosen) for rows in (low, ~low)]
            won = sum(reward(tree, x[rows], gains[rows]) for tree, rows in zip(sides, (low, ~low), strict=True))
            if won > best * (1 + 1e-9) + 1e-300:
                best, found = won, DeepTree((int(feature), float(cut)), *sides)  # type: ignore[assignment]
    return found


def _below(x: np.ndarray, gains: np.ndarray, chosen: np.ndarray) -> Tree:
    """Return the best tree of depth two over the chosen covariates, in terms of all of them."""
    _, tree = policy_tree.learn_trees(x[:, chosen], gains, np.zeros(len(x), dtype=int), 2)
    splits = [(int(chosen[feature]), cut) if np.isfinite(cut) else (0, np.inf) for feature, cut in tree.splits]
    return Tree((splits[0], splits[1], splits[2]), tree.arms)


def _first_features(x: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return the covariates whose best single split gains most."""
    if x.shape[1] <= _FIRST_FEATURES:
        return np.arange(x.shape[1])
    won = []
    for j in range(x.shape[1]):
        _, stump = policy_tree.learn_trees(x[:, [j]], gains, np.zeros(len(x), dtype=int), 1)
        won.append(reward(stump, x[:, [j]], gains))
    return np.sort(np.argsort(-np.round(np.array(won), 9), kind="stable")[:_FIRST_FEATURES])
