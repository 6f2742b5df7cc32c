"""Policies of one to three questions, learned before each fold so that the next fold values them honestly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.policy_tree import Tree, learn_trees


@dataclass(frozen=True)
class DeepTree:
    """A policy whose first question leads to one of two trees of depth two; without it, `low` decides for all.

    Parameters
    ----------
    question : (int, float) or None
        Covariate and threshold: `low` decides where covariate <= threshold, `high` elsewhere.
    """

    question: tuple[int, float] | None
    low: Tree
    high: Tree

    def assign(self, x: np.ndarray) -> np.ndarray:
        """Return the arm of each row of covariates (n, p), shape (n,) of int."""
        if self.question is None:
            return self.low.assign(x)
        feature, threshold = self.question
        return np.where(x[:, feature] <= threshold, self.low.assign(x), self.high.assign(x))

    def rows(self, names: Sequence[str], arms: Sequence[str]) -> list[dict[str, object]]:
        """Return one row per leaf: the condition in words and the arm."""
        if self.question is None:
            return self.low.rows(names, arms)
        feature, threshold = self.question
        found: list[dict[str, object]] = []
        for sign, tree in (("<=", self.low), (">", self.high)):
            outer = f"{names[feature]} {sign} {threshold:.6g}"
            found += [
                {**row, "where": outer if row["where"] == "everywhere" else f"{outer} and {row['where']}"}
                for row in tree.rows(names, arms)
            ]
        return found


def learn_policies(x: np.ndarray, gains: np.ndarray, fold: np.ndarray, depth: int) -> tuple[list[DeepTree], DeepTree]:
    """Learn a policy tree before each fold, and one of all rows.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    gains : ndarray of shape (n, A - 1)
        Score of each compared arm less that of the reference arm; larger is better.
    fold : ndarray of int, shape (n,)
        Values 0..K-1.
    depth : int
        1, 2 or 3.

    Returns
    -------
    list of K - 1 DeepTree
        Tree k was learned on folds 0..k, so fold k + 1 values it honestly.
    DeepTree
        Learned on every row.

    Notes
    -----
    Depth one and two are exact over binned covariates (:func:`learn_trees`). Depth three looks two questions ahead: the
    first question of the best tree of depth two, then the best tree of depth two on either side, as the hybrid search
    of Sverdrup, Kanodia, Zhou, Athey & Wager (2020, doi:10.21105/joss.02232); never worse than depth two on the rows
    that it was learned from.
    """
    before, last = learn_trees(x, gains, fold, min(depth, 2))
    if depth < 3:
        return [DeepTree(None, tree, tree) for tree in before], DeepTree(None, last, last)
    deep = [_deepened(tree, x[fold <= k], gains[fold <= k]) for k, tree in enumerate(before)]
    return deep, _deepened(last, x, gains)


def _deepened(tree: Tree, x: np.ndarray, gains: np.ndarray) -> DeepTree:
    """Replace the two halves of a tree of depth two by the best trees of depth two on their rows."""
    feature, threshold = tree.splits[0]
    if not np.isfinite(threshold):
        return DeepTree(None, tree, tree)
    low = x[:, feature] <= threshold
    halves = []
    for side, own in ((low, tree.splits[1]), (~low, tree.splits[2])):
        first, second = tree.arms[:2] if side is low else tree.arms[2:]
        kept = Tree((own, (0, np.inf), (0, np.inf)), (first, first, second, second))
        found = learn_trees(x[side], gains[side], np.zeros(int(side.sum()), dtype=int), 2)[1] if side.any() else kept
        halves.append(max((kept, found), key=lambda item, side=side: _gain(item, x[side], gains[side])))  # type: ignore[misc]
    return DeepTree((feature, threshold), halves[0], halves[1])


def _gain(tree: Tree, x: np.ndarray, gains: np.ndarray) -> float:
    """Return what a tree gains on some rows, rounded so that equal gains stay equal."""
    arm = tree.assign(x)
    chosen = np.take_along_axis(np.column_stack([np.zeros(len(x)), gains]), arm[:, None], axis=1)[:, 0]
    scale = float(np.abs(gains).sum()) or 1.0
    return round(float(chosen.sum()) / scale, 9)


@dataclass(frozen=True)
class HonestValue:
    """What a learned policy brings per unit, by rows that did not teach it.

    Parameters
    ----------
    treated : ndarray of shape (n,)
        What the policies learned before each fold give its rows; 0 in the first fold.
    valued : ndarray of bool, shape (n,)
        Rows that value: all but the first fold.
    final : DeepTree
        Learned on all rows: the one to use.
    """

    treated: np.ndarray
    valued: np.ndarray
    final: DeepTree


def honest_policy(x: np.ndarray, gains: np.ndarray, fold: np.ndarray, depth: int) -> HonestValue:
    """Learn a policy of two arms and say which of its decisions are honest; `gains` has shape (n,)."""
    place = np.unique(fold, return_inverse=True)[1]
    before, final = learn_policies(x, gains[:, None], place, depth)
    treated = np.zeros(len(x), dtype=int)
    for k, tree in enumerate(before, start=1):
        treated[place == k] = tree.assign(x[place == k])
    return HonestValue(treated, place > 0, final)
