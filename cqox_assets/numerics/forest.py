"""Honest causal forest: unit effects with standard errors from centred treatment and outcome."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cqox_assets.numerics.forest_line import LinearPart
from cqox_assets.numerics.forest_rows import ForestRows
from cqox_assets.numerics.threads import workers_for

if TYPE_CHECKING:
    from cqox_assets.numerics.forest_kernels import Rule, Sample, Trees

_BLOCK = 4096
_DEPTHS = 4


@dataclass(frozen=True)
class ForestSettings:
    """How a forest is grown.

    Parameters
    ----------
    pairs : int
        Pairs of half-samples that exclude one another; a unit's effect is the average over the half of each pair that
        has not seen it.
    trees : int
        Trees per half-sample, at least 2.
    min_leaf : int, optional
        Rows that a leaf must keep, among those that choose the cuts and among those that fill the leaves; see
        :func:`rows_per_leaf`.
    tries : int, optional
        Covariates tried at each cut; min(p, sqrt(p) + 20) by default.
    balance : float
        Least share of a node's rows, and of its treatment variance, on either side of a cut.
    rows : int, optional
        Rows that a tree is grown on; see :func:`rows_per_tree`.
    linear : str
        `auto`: half of the trees grow on what a linear effect leaves over, and the mixture of both kinds with the least
        R-loss is reported; `never`: all trees grow on the outcome itself.
    seed : int
    """

    pairs: int = 50
    trees: int = 4
    min_leaf: int | None = None
    tries: int | None = None
    balance: float = 0.05
    rows: int | None = None
    linear: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class ForestFit:
    """Effects of all units, each by trees that have not seen it.

    Parameters
    ----------
    effect, std_error : ndarray of shape (n,)
        In units of the outcome per unit of treatment.
    splits : ndarray of shape (p,)
        Share of each covariate in the cuts, those of depth k counted 1/(k + 1)^2 times.
    linear_share : float
        Share of the trees that grew on what a linear effect left over, 0 to 1.
    rows_per_tree, rows_per_leaf : int
    """

    effect: np.ndarray
    std_error: np.ndarray
    splits: np.ndarray
    linear_share: float
    rows_per_tree: int
    rows_per_leaf: int


def rows_per_tree(rows: int) -> int:
    """Return how many rows a tree is grown on: a half-sample up to 5,000 rows, then an ever smaller share.

    Half of them choose the cuts, half fill the leaves. 2,500 for 10,000 rows, 11,000 for 100,000, 50,000 for a million.
    """
    return max(min(rows // 2, 2500), int(2500 * (rows / 10_000) ** 0.65) if rows > 10_000 else 0)


def rows_per_leaf(tree_rows: int) -> int:
    """Return the least rows of a leaf: 5, and more in trees of more than 2,500 rows.

    The noise of a leaf falls with its rows, its bias with its share of the tree: large trees can have less of both.
    """
    return max(5, int(5 * (tree_rows / 2500) ** 0.8))


def fit_forest(
    x: np.ndarray,
    t: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    settings: ForestSettings | None = None,
) -> ForestFit:
    """Estimate tau(x) = Cov(y, t | x) / Var(t | x) at every row.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    t, y : ndarray of shape (n,)
        Treatment and outcome less their expectations given x, from models that have not seen the row.
    weight : ndarray of shape (n,), optional
        Sampling weights.
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1; half-samples, trees and leaves are made of whole clusters.
    settings : ForestSettings, optional

    Notes
    -----
    A tree's rows are halved: one half chooses the cuts that lower sum w (y - c - theta t)^2 the most, the other fills
    the leaves (Athey & Imbens 2016, doi:10.1073/pnas.1510489113; Athey, Tibshirani & Wager 2019,
    doi:10.1214/18-AOS1709). tau(x) is the coefficient of y on t among the rows that share leaves with x, each tree
    counting once. Half-samples vary about as much as samples do, so the variance of tau(x) is that between
    half-samples, less what is owed to the number of trees, by its posterior mean under a flat prior on positive values
    (the bags of section 4.1 there). Smooth effects are biased towards their
    neighbourhood's mean, which standard errors do not show; the linear part takes most of that bias away (after
    Friedberg et al. 2021, doi:10.1080/10618600.2020.1831930).
    """
    rows = ForestRows.of(x, t, y, weight, cluster)
    scale = _size_of(rows.y, rows.weight)
    rows.y[:] /= scale
    forest = _Forest.planted(rows, settings or ForestSettings())
    workers = workers_for(len(t))
    _each(forest.grow, range(forest.settings.pairs), workers)
    _each(forest.walk, range(0, len(t), _BLOCK), workers)
    effect, variance, share = forest.mixed()
    depths = np.arange(1, _DEPTHS + 1)[:, None]
    counted = (forest.used.sum(axis=0) / depths**2).sum(axis=0)
    return ForestFit(
        effect=rows.restored(effect * scale),
        std_error=rows.restored(np.sqrt(variance) * scale),
        splits=counted / max(counted.sum(), 1e-300),
        linear_share=share,
        rows_per_tree=forest.rule.rows,
        rows_per_leaf=forest.rule.least,
    )


@dataclass
class _Forest:
    """A forest while it grows.

    Parameters
    ----------
    rows, settings : ForestRows, ForestSettings
    sample, rule : Sample, Rule
        What the kernels draw from and how.
    line : LinearPart or None
        What the trees of the second kind leave out; None if there is one kind of trees.
    kinds : list of Trees
        By pair, half-sample and tree.
    coef : ndarray of shape (pairs, 2, q + 1)
        Linear effect in each half-sample.
    unseen : ndarray of uint8, shape (n, pairs)
        Which half-sample of each pair a row is not in.
    used : ndarray of int, shape (pairs, depths, p)
        Cuts by depth and covariate.
    theta, noise : ndarray of shape (n, kinds)
        Effect; variance of a half-sample's mean that comes from its number of trees.
    between : ndarray of shape (n, kinds, kinds)
        Mean product, over pairs, of how far the half-samples' means lie from the effect.
    """

    rows: ForestRows
    settings: ForestSettings
    sample: "Sample"
    rule: "Rule"
    line: LinearPart | None
    kinds: "list[Trees]"
    coef: np.ndarray
    unseen: np.ndarray
    used: np.ndarray
    theta: np.ndarray
    noise: np.ndarray
    between: np.ndarray

    @classmethod
    def planted(cls, rows: ForestRows, settings: ForestSettings) -> "_Forest":
        """Make room for the trees and for what they say."""
        from cqox_assets.numerics.forest_kernels import Rule

        (n, p), pairs = rows.codes.shape, settings.pairs
        size = settings.rows or rows_per_tree(int((rows.weight > 0).sum()))
        least = settings.min_leaf or rows_per_leaf(size)
        line = LinearPart.of(rows) if settings.linear == "auto" and settings.trees >= 4 else None
        trees = [settings.trees] if line is None else [settings.trees - settings.trees // 2, settings.trees // 2]
        return cls(
            rows, settings, _sample(rows),
            Rule(size, min(p, settings.tries or int(np.sqrt(p)) + 20), least, settings.balance), line,
            [_room((pairs, 2, count), size // (2 * least)) for count in trees],
            np.zeros((pairs, 2, rows.line.shape[1] + 1)), np.zeros((n, pairs), np.uint8),
            np.zeros((pairs, _DEPTHS, p), np.int64), np.zeros((n, len(trees))), np.zeros((n, len(trees))),
            np.zeros((n, len(trees), len(trees))),
        )  # fmt: skip

    def grow(self, pair: int) -> None:
        """Draw a pair of half-samples and grow the trees of both.

        Every part has random numbers of its own, so what one half-sample holds changes nothing in the other.
        """
        from cqox_assets.numerics.forest_kernels import Trees, grow_trees, halve, start_of

        blocks, seed, part = len(self.rows.starts), self.settings.seed % 2**62, 5 * pair
        order = halve(blocks, start_of(seed, part))
        halves = order[: blocks // 2], order[blocks // 2 :]
        inside = np.ones(blocks, np.uint8)
        inside[halves[1]] = 0
        self.unseen[:, pair] = inside[self.rows.block]
        if self.line is not None:
            self.coef[pair] = self.line.fit(halves)
        for g, half in enumerate(halves):
            for place, kind in enumerate(self.kinds):
                coef = self.coef[pair, g] if place else np.zeros(0)
                state, trees = start_of(seed, part + 2 * g + place + 1), Trees(*(array[pair, g] for array in kind))
                grow_trees(self.sample, coef, half, self.rule, state, trees, self.used[pair])

    def walk(self, first: int) -> None:
        """Average the trees at a block of rows; the linear part is added back."""
        from cqox_assets.numerics.forest_walk import average

        here = slice(first, min(first + _BLOCK, len(self.rows.t)))
        unseen, count = self.unseen[here], here.stop - here.start
        parts = np.zeros((len(self.kinds), count, unseen.shape[1]))
        for place, kind in enumerate(self.kinds):
            theta, noise = np.zeros(count), np.zeros(count)
            average(self.rows.codes[here], unseen, kind, theta, noise, parts[place])
            if place:
                line = np.column_stack([np.ones(count), self.rows.line[here]])
                both = [line @ self.coef[:, g].T for g in (0, 1)]
                effect = np.where(unseen == 0, both[0], both[1])
                theta += effect.mean(axis=1)
                parts[place] += effect - effect.mean(axis=1, keepdims=True)
            self.theta[here, place], self.noise[here, place] = theta, noise
        self.between[here] = np.einsum("ark,brk->rab", parts, parts) / unseen.shape[1]

    def mixed(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Return effects, their variance and the share of the second kind: the one with the least R-loss."""
        rows, shares = self.rows, np.ones(1)
        if len(self.kinds) == 2:
            gap = rows.t * (self.theta[:, 1] - self.theta[:, 0])
            size = float(rows.weight @ gap**2)
            left = rows.y - rows.t * self.theta[:, 0]
            second = float(np.clip((rows.weight * gap) @ left / size, 0.0, 1.0)) if size > 0 else 0.0
            shares = np.array([1 - second, second])
        between = np.maximum(self.between @ shares @ shares, 0.0)
        variance = _debiased(between, self.noise @ shares**2, self.settings.pairs)
        return self.theta @ shares, variance, float(shares[1:].sum())


def _size_of(y: np.ndarray, weight: np.ndarray) -> float:
    """Return the root mean square of y, 1 if it is 0; no square overflows."""
    peak = float(np.abs(y).max())
    return peak * float(np.sqrt(np.average((y / peak) ** 2, weights=weight))) or 1.0 if peak > 0 else 1.0


def _sample(rows: ForestRows) -> "Sample":
    """Return the rows as trees draw them."""
    from cqox_assets.numerics.forest_kernels import Sample

    size = rows.stops - rows.starts
    plain = len(size) == len(rows.t) and bool(size.min() == 1)
    starts, stops = (np.zeros(0, np.int64), np.zeros(0, np.int64)) if plain else (rows.starts, rows.stops)
    facts = np.stack([rows.t, rows.y, rows.weight], axis=1)
    return Sample(rows.codes, facts, rows.line, starts, stops, int(size.max()))


def _room(shape: tuple[int, int, int], leaves: int) -> "Trees":
    """Return room for trees of `shape` (pairs, 2, trees) with about so many leaves each."""
    from cqox_assets.numerics.forest_kernels import MOMENTS, Trees

    nodes = 2 * max(leaves, 1) + 1
    return Trees(np.zeros((*shape, nodes), np.int64), np.zeros((*shape, nodes, MOMENTS)), np.zeros(shape, np.int64))


def _debiased(between: np.ndarray, noise: np.ndarray, pairs: int) -> np.ndarray:
    """Return the posterior mean of between - noise under a flat prior on positive values, shape (n,)."""
    from scipy.special import erfcx

    spread = np.maximum(between, noise) * np.sqrt(2 / pairs)
    safe = np.where(spread > 0, spread, 1.0)
    ratio = (between - noise) / safe
    mills = np.sqrt(2 / np.pi) / erfcx(-ratio / np.sqrt(2))
    return np.where(spread > 0, np.maximum(between - noise + safe * mills, 0.0), 0.0)


def _each(work: Callable[[int], None], items: Iterable[int], workers: int) -> None:
    if workers < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, items))
