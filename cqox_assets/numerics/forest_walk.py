"""Compiled kernels that average the trees of a causal forest at given rows. Imported inside functions only."""

from typing import Any

import numpy as np

from cqox_assets.numerics.compiled import compiled
from cqox_assets.numerics.forest_kernels import MOMENTS

_BLOCK = 64


@compiled
def _leaves(codes: np.ndarray, nodes: np.ndarray, unseen: np.ndarray, tree: int, levels: int, place: np.ndarray) -> Any:
    """Walk one tree per row, level by level so that rows do not wait for one another; `place` receives the leaves."""
    place[: len(codes)] = 0
    for _ in range(levels):
        moved = 0
        for r in range(len(codes)):
            packed = nodes[unseen[r], tree, place[r]]
            after = (packed >> 32) + (codes[r, (packed >> 8) & 0xFFFFFF] > (packed & 0xFF))
            moved |= after ^ place[r]
            place[r] = after
        if moved == 0:
            break


@compiled
def average(codes: np.ndarray, unseen: np.ndarray, forest: Any, theta: np.ndarray, noise: np.ndarray,
            parts: np.ndarray) -> Any:  # fmt: skip
    """Average the trees of the half-samples that did not see a row.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n, p)
    unseen : ndarray of uint8, shape (n, pairs)
        Which half-sample of each pair (0 or 1) a row is not in.
    forest : Trees
        By pair, half-sample and tree.
    theta, noise : ndarray of shape (n,)
        Filled: the effect; the variance of a half-sample's mean that comes from its number of trees.
    parts : ndarray of shape (n, pairs)
        Filled: by how much each half-sample's mean moves the effect, to first order.
    """
    pairs, _, trees = forest.levels.shape
    found = np.empty((pairs, trees, MOMENTS, _BLOCK))
    mean, side, place = np.empty((MOMENTS, _BLOCK)), np.empty(_BLOCK, np.uint8), np.empty(_BLOCK, np.int64)
    curved, level, slope = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for begin in range(0, len(codes), _BLOCK):
        n = min(_BLOCK, len(codes) - begin)
        here = codes[begin : begin + n]
        mean[:] = 0.0
        for k in range(pairs):
            for r in range(n):
                side[r] = unseen[begin + r, k]
            for tree in range(trees):
                levels = max(forest.levels[k, 0, tree], forest.levels[k, 1, tree])
                _leaves(here, forest.nodes[k], side, tree, levels, place)
                for r in range(n):
                    leaf = forest.leaves[k, side[r], tree, place[r]]
                    for m in range(MOMENTS):
                        found[k, tree, m, r] = leaf[m]
                for m in range(MOMENTS):
                    for r in range(n):
                        mean[m, r] += found[k, tree, m, r]
        mean /= pairs * trees
        _solve(mean, n, curved, slope, level)
        for r in range(n):
            theta[begin + r], noise[begin + r] = slope[r], 0.0
        for k in range(pairs):
            _spread(found[k], mean, n, curved, slope, level, noise[begin:], parts[begin:, k])
        for r in range(n):
            noise[begin + r] /= pairs * trees * max(trees - 1, 1)


@compiled
def _solve(mean: np.ndarray, n: int, curved: np.ndarray, slope: np.ndarray, level: np.ndarray) -> Any:
    """Regress y on t by the means of t, y, ty and tt; `curved` is 1 over the variance of t, 0 where there is none."""
    for r in range(n):
        variance = mean[3, r] - mean[0, r] * mean[0, r]
        if variance > 1e-12 * mean[3, r]:
            curved[r] = 1 / variance
            slope[r] = (mean[2, r] - mean[0, r] * mean[1, r]) / variance
            level[r] = mean[1, r] - slope[r] * mean[0, r]
        else:
            curved[r], slope[r], level[r] = 0.0, 0.0, 0.0


@compiled
def _spread(found: np.ndarray, mean: np.ndarray, n: int, curved: np.ndarray, slope: np.ndarray, level: np.ndarray,
            noise: np.ndarray, part: np.ndarray) -> Any:  # fmt: skip
    """Fill by how much the trees of one half-sample move the slope, and add their sum of squares within it."""
    trees = len(found)
    total, squares = np.zeros(_BLOCK), np.zeros(_BLOCK)
    for tree in range(trees):
        for r in range(n):
            apart = found[tree, 1, r] - slope[r] * found[tree, 0, r] - level[r]
            s = found[tree, 2, r] - slope[r] * found[tree, 3, r] - level[r] * found[tree, 0, r] - mean[0, r] * apart
            total[r] += s
            squares[r] += s * s
    for r in range(n):
        part[r] = total[r] / trees * curved[r]
        noise[r] += (squares[r] - total[r] * total[r] / trees) * curved[r] * curved[r]
