"""Policy trees of depth one or two: the exact best one over binned covariates, learned before each fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BINS = 32
_MOST_FEATURES = 12
_MOST_ROWS = 50_000


@dataclass(frozen=True)
class Tree:
    """A policy in at most three questions: root (feature, threshold), one split on either side, an arm per leaf.

    Parameters
    ----------
    splits : tuple of three (int, float)
        Root, left and right: go left where feature <= threshold. A threshold of infinity does not split.
    arms : tuple of four int
        Arms of the leaves: left-left, left-right, right-left, right-right.
    """

    splits: tuple[tuple[int, float], tuple[int, float], tuple[int, float]]
    arms: tuple[int, int, int, int]

    def assign(self, x: np.ndarray) -> np.ndarray:
        """Return the arm of each row of covariates (n, p), shape (n,) of int."""
        left, low, high = (x[:, feature] <= threshold for feature, threshold in self.splits)
        leaf = np.where(left, np.where(low, 0, 1), np.where(high, 2, 3))
        return np.asarray(np.array(self.arms)[leaf])

    def pruned(self) -> "Tree":
        """Return the tree without questions whose answers give the same arm."""
        root, low, high = self.splits
        first, second, third, fourth = self.arms
        low = low if first != second else (0, np.inf)
        high = high if third != fourth else (0, np.inf)
        if len(set(self.arms)) == 1:
            root = (0, np.inf)
        elif not np.isfinite(root[1]):
            third = fourth = second
        return Tree((root, low, high), (first, second, third, fourth))

    def rows(self, names: Sequence[str], arms: Sequence[str]) -> list[dict[str, object]]:
        """Return one row per leaf: the condition in words and the arm; leaves that nothing reaches are left out."""
        root, low, high = self.splits
        found: list[dict[str, object]] = []
        for side, inner, own in ((True, low, self.arms[:2]), (False, high, self.arms[2:])):
            if not side and not np.isfinite(root[1]):
                continue
            outer = _condition(names, root, side)
            for first, arm in zip((True, False), own, strict=True):
                if not first and not np.isfinite(inner[1]):
                    continue
                parts = [part for part in (outer, _condition(names, inner, first)) if part]
                found.append({"where": " and ".join(parts) or "everywhere", "arm": arms[arm]})
        return found


def _condition(names: Sequence[str], split: tuple[int, float], low: bool) -> str:
    feature, threshold = split
    return f"{names[feature]} {'<=' if low else '>'} {threshold:.6g}" if np.isfinite(threshold) else ""


def learn_trees(x: np.ndarray, gains: np.ndarray, fold: np.ndarray, depth: int) -> tuple[list[Tree], Tree]:
    """Learn the policy tree that gains most before each fold, and the one of all rows.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    gains : ndarray of shape (n, A - 1)
        Score of each compared arm minus that of the reference arm; larger is better.
    fold : ndarray of int, shape (n,)
        Values 0..K-1.
    depth : int
        1 or 2.

    Returns
    -------
    list of K - 1 Tree
        Tree k was learned on folds 0..k, so fold k + 1 values it honestly. Learned on all other folds instead, the
        folds' values would depend on one another and their interval be too short where no rule is clearly best.
    Tree
        Learned on every row: the one to use.

    Notes
    -----
    Folds in sequence: Luedtke & van der Laan (2016, doi:10.1214/15-AOS1384). The best tree over thresholds at 31
    quantiles is found exactly (Athey & Wager 2021, doi:10.3982/ECTA15732, search all trees), from sums over pairs of
    binned covariates, O(n p^2). Of more than twelve covariates each tree sees those whose best single split gains most
    among its own rows; of more than 50,000 rows evenly spaced ones in the order of their content are learned from.
    """
    if len(x) > _MOST_ROWS:
        order = np.lexsort((*x.T[:3], fold))
        kept = order[:: -(-len(x) // _MOST_ROWS)]
        x, gains, fold = x[kept], gains[kept], fold[kept]
    edges = [_edges(column) for column in x.T]
    codes = np.column_stack([np.searchsorted(edge, column) for edge, column in zip(edges, x.T, strict=True)])
    folds, features = int(fold.max()) + 1, codes.shape[1]
    single = np.cumsum(_single_sums(codes, gains, fold, folds), axis=0)
    pairs = None
    if depth == 2 and 0 < features <= _MOST_FEATURES:
        pairs = _pair_sums(codes, gains, fold, folds)
        np.cumsum(pairs, axis=0, out=pairs)
    trees = []
    for last in range(folds):
        if depth == 1 or features == 0:
            trees.append(_stump(single[last], edges))
            continue
        chosen = _best_features(single[last])
        if pairs is not None:
            sums = pairs[last]
        else:
            rows = fold <= last
            sums = _pair_sums(codes[rows][:, chosen], gains[rows], np.zeros(int(rows.sum()), dtype=int), 1)[0]
        trees.append(_deep(sums, chosen, edges))
    return trees[:-1], trees[-1]


def _edges(column: np.ndarray) -> np.ndarray:
    """Return at most 31 thresholds; the largest value is none, so that a split always parts rows."""
    values = np.unique(column)
    if len(values) > _BINS:
        values = np.unique(np.quantile(column, np.arange(1, _BINS) / _BINS, method="lower"))
        return np.asarray(values[values < column.max()])
    return np.asarray((values[:-1] + values[1:]) / 2)


def _single_sums(codes: np.ndarray, gains: np.ndarray, fold: np.ndarray, folds: int) -> np.ndarray:
    """Return sums of gains by fold, feature, bin (cumulated) and arm, shape (folds, p, bins, A - 1)."""
    result = np.empty((folds, codes.shape[1], _BINS, gains.shape[1]))
    for j in range(codes.shape[1]):
        place = fold * _BINS + codes[:, j]
        for a in range(gains.shape[1]):
            sums = np.bincount(place, weights=gains[:, a], minlength=folds * _BINS)
            result[:, j, :, a] = sums.reshape(folds, _BINS)
    return np.cumsum(result, axis=2)


def _leaf(sums: np.ndarray) -> np.ndarray:
    """Return what the best arm of a leaf gains; the reference arm gains nothing."""
    return np.asarray(np.maximum(sums.max(axis=-1), 0.0))


def _best_features(single: np.ndarray) -> np.ndarray:
    if single.shape[0] <= _MOST_FEATURES:
        return np.arange(single.shape[0])
    reward = (_leaf(single) + _leaf(single[:, -1:] - single)).max(axis=1)
    return np.sort(np.argsort(-_steady(reward), kind="stable")[:_MOST_FEATURES])


def _steady(reward: np.ndarray) -> np.ndarray:
    """Round so that equal gains stay equal whatever the order of summation."""
    scale = float(np.abs(reward).max()) or 1.0
    return np.asarray(np.round(reward / scale, 9))


def _arm(sums: np.ndarray) -> int:
    best = int(np.argmax(sums))
    return best + 1 if sums[best] > 0 else 0


def _stump(single: np.ndarray, edges: Sequence[np.ndarray]) -> Tree:
    if not single.shape[0] or not any(len(edge) for edge in edges):
        total = single[0, -1] if single.shape[0] else np.zeros(1)
        return Tree(((0, np.inf),) * 3, (_arm(total),) * 4)
    reward = _steady(_leaf(single) + _leaf(single[:, -1:] - single))
    j, b = np.unravel_index(int(np.argmax(reward)), reward.shape)
    left, right = single[j, b], single[j, -1] - single[j, b]
    cut = _cut(edges, int(j), int(b))
    arms = (_arm(left), _arm(left), _arm(right), _arm(right))
    return Tree(((int(j), cut), (0, np.inf), (0, np.inf)), arms).pruned()


def _deep(sums: np.ndarray, chosen: np.ndarray, edges: Sequence[np.ndarray]) -> Tree:
    """Find the best tree of depth two over all pairs of the chosen features and their thresholds."""
    every = sums[:, :, -1:, -1:]
    low = sums[:, :, :, -1:]
    sides = ((sums, low), (sums[:, :, -1:, :] - sums, every - low))
    rewards = [_leaf(near) + _leaf(whole - near) for near, whole in sides]
    scale = float(max(np.abs(reward).max() for reward in rewards)) or 1.0
    p = len(chosen)
    flat = [np.round(reward.transpose(0, 2, 1, 3).reshape(p, _BINS, -1) / scale, 9) for reward in rewards]
    total = np.round(flat[0].max(axis=2) + flat[1].max(axis=2), 8)
    j, b = np.unravel_index(int(np.argmax(total)), total.shape)
    splits, arms = [(int(chosen[j]), _cut(edges, int(chosen[j]), int(b)))], []
    for best, (near, whole) in zip(flat, sides, strict=True):
        k, c = np.unravel_index(int(np.argmax(best[j, b])), (p, _BINS))
        first = near[j, k, b, c]
        splits.append((int(chosen[k]), _cut(edges, int(chosen[k]), int(c))))
        arms += [_arm(first), _arm(whole[j, k, b, 0] - first)]
    return Tree((splits[0], splits[1], splits[2]), (arms[0], arms[1], arms[2], arms[3])).pruned()


def _cut(edges: Sequence[np.ndarray], feature: int, bin_: int) -> float:
    return float(edges[feature][bin_]) if bin_ < len(edges[feature]) else np.inf


def _pair_sums(codes: np.ndarray, gains: np.ndarray, fold: np.ndarray, folds: int) -> np.ndarray:
    """Return sums of gains by fold over x_j <= edge b and x_k <= edge c, shape (folds, p, p, bins, bins, A - 1)."""
    p, arms = codes.shape[1], gains.shape[1]
    result = np.empty((folds, p, p, _BINS, _BINS, arms))
    start, size = fold * _BINS, folds * _BINS * _BINS
    for j in range(p):
        first = (start + codes[:, j]) * _BINS
        for k in range(j, p):
            place = first + codes[:, k]
            for a in range(arms):
                own = np.bincount(place, weights=gains[:, a], minlength=size).reshape(folds, _BINS, _BINS)
                result[:, j, k, :, :, a] = own
                result[:, k, j, :, :, a] = own.transpose(0, 2, 1)
    np.cumsum(result, axis=3, out=result)
    return np.cumsum(result, axis=4, out=result)
