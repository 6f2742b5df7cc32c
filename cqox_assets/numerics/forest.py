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
    from cqox_assets.numerics.forest_kernels import Trees

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
    min_leaf : int
        Rows that a leaf must keep, among those that choose the cuts and among those that fill the leaves.
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
    min_leaf: int = 5
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
    rows_per_tree : int
    """

    effect: np.ndarray
    std_error: np.ndarray
    splits: np.ndarray
    linear_share: float
    rows_per_tree: int


@dataclass
class _Kind:
    """Trees of one kind, and what they say of every row."""

    trees: "Trees"
    coef: np.ndarray
    theta: np.ndarray
    noise: np.ndarray
    parts: np.ndarray


def rows_per_tree(rows: int) -> int:
    """Return how many rows a tree is grown on: all of a half-sample up to 5,000 rows, then ever smaller shares.

    Half of them choose the cuts, half fill the leaves.
    """
    return min(rows // 2, max(2500, int(25 * rows**0.5)))


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
    (little bags: Sexton & Laake 2009, doi:10.1016/j.csda.2008.07.007). Smooth effects are biased towards their
    neighbourhood's mean, which standard errors do not show; the linear part takes most of that bias away (after
    Friedberg et al. 2021, doi:10.1080/10618600.2020.1831930).
    """
    from cqox_assets.numerics.forest_kernels import Rows, Rule, Trees, grow_trees, start_of

    settings = settings or ForestSettings()
    rows = ForestRows.of(x, t, y, weight, cluster)
    scale = _size_of(rows.y, rows.weight)
    rows.y[:] /= scale
    size = settings.rows or rows_per_tree(int((rows.weight > 0).sum()))
    data = Rows(rows.codes, rows.t, rows.y, rows.weight)
    line = LinearPart.of(rows) if settings.linear == "auto" and settings.trees >= 4 else None
    unseen = np.zeros((len(t), settings.pairs), np.uint8)
    used = np.zeros((settings.pairs, _DEPTHS, x.shape[1]), np.int64)
    counts = [settings.trees] if line is None else [settings.trees - settings.trees // 2, settings.trees // 2]
    kinds = [_empty(rows, settings, trees, size, linear=place == 1) for place, trees in enumerate(counts)]
    p = x.shape[1]
    rule = Rule(size, min(p, settings.tries or int(np.sqrt(p)) + 20), settings.min_leaf, settings.balance)

    def grow(pair: int) -> None:
        # Every part has random numbers of its own: what one half-sample holds changes nothing in the other.
        seed, part = settings.seed % 2**62, 5 * pair
        halves = _halves(rows, start_of(seed, part), unseen[:, pair])
        if line is not None:
            kinds[1].coef[pair] = line.fit(halves)
        for g, half in enumerate(halves):
            for place, kind in enumerate(kinds, start=1):
                state, trees = start_of(seed, part + 2 * g + place), Trees(*(array[pair, g] for array in kind.trees))
                grow_trees(
                    data, rows.line, kind.coef[pair, g], half, rows.starts, rows.stops, rule, state, trees, used[pair]
                )

    def walk(first: int) -> None:
        _walk(rows, kinds, unseen, first, min(first + _BLOCK, len(t)))

    workers = workers_for(len(t))
    _each(grow, range(settings.pairs), workers)
    _each(walk, range(0, len(t), _BLOCK), workers)
    effect, variance, share = _mixed(rows, kinds, settings.pairs)
    counted = (used.sum(axis=0) / np.arange(1, _DEPTHS + 1)[:, None] ** 2).sum(axis=0)
    return ForestFit(
        rows.restored(effect * scale),
        rows.restored(np.sqrt(variance) * scale),
        counted / max(counted.sum(), 1e-300),
        share,
        size,
    )


def _size_of(y: np.ndarray, weight: np.ndarray) -> float:
    """Return the root mean square of y, 1 if it is 0; no square overflows."""
    peak = float(np.abs(y).max())
    return peak * float(np.sqrt(np.average((y / peak) ** 2, weights=weight))) or 1.0 if peak > 0 else 1.0


def _empty(rows: ForestRows, settings: ForestSettings, trees: int, size: int, *, linear: bool) -> _Kind:
    from cqox_assets.numerics.forest_kernels import MOMENTS, Trees

    largest = int((rows.stops - rows.starts).max())
    room = 2 * max((size + 2 * largest) // 2 // settings.min_leaf, 1) + 1
    shape, n = (settings.pairs, 2, trees, room), len(rows.t)
    grown = Trees(np.zeros(shape, np.int64), np.zeros((*shape, MOMENTS)), np.zeros(shape[:3], np.int64))
    coef = np.zeros((settings.pairs, 2, rows.line.shape[1] + 1 if linear else 0))
    return _Kind(grown, coef, np.zeros(n), np.zeros(n), np.zeros((n, settings.pairs)))


def _halves(rows: ForestRows, state: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a pair of half-samples of blocks; `unseen` receives the one that each row is not in."""
    from cqox_assets.numerics.forest_kernels import halve

    blocks = len(rows.starts)
    order = halve(blocks, state)
    first, second = order[: blocks // 2], order[blocks // 2 :]
    inside = np.ones(blocks, np.uint8)
    inside[second] = 0
    unseen[:] = inside[rows.block]
    return first, second


def _walk(rows: ForestRows, kinds: list[_Kind], unseen: np.ndarray, first: int, last: int) -> None:
    """Average the trees at some rows; the linear part is added back."""
    from cqox_assets.numerics.forest_walk import average

    here = slice(first, last)
    for kind in kinds:
        average(rows.codes[here], unseen[here], kind.trees, kind.theta[here], kind.noise[here], kind.parts[here])
        if kind.coef.shape[2]:
            line = np.column_stack([np.ones(last - first), rows.line[here]])
            both = [line @ kind.coef[:, g].T for g in (0, 1)]
            effect = np.where(unseen[here] == 0, both[0], both[1])
            kind.theta[here] += effect.mean(axis=1)
            kind.parts[here] += effect - effect.mean(axis=1, keepdims=True)


def _mixed(rows: ForestRows, kinds: list[_Kind], pairs: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return effects, their variance and the share of the second kind."""
    first, share = kinds[0], 0.0
    effect, parts, noise = first.theta, first.parts, first.noise
    if len(kinds) == 2:
        gap = rows.t * (kinds[1].theta - first.theta)
        size = float(rows.weight @ gap**2)
        left = rows.y - rows.t * first.theta
        share = float(np.clip((rows.weight * gap) @ left / size, 0.0, 1.0)) if size > 0 else 0.0
        effect = (1 - share) * first.theta + share * kinds[1].theta
        parts = (1 - share) * first.parts + share * kinds[1].parts
        noise = (1 - share) ** 2 * first.noise + share**2 * kinds[1].noise
    return effect, _variance(np.einsum("ij,ij->i", parts, parts) / pairs, noise, pairs), share


def _variance(between: np.ndarray, noise: np.ndarray, pairs: int) -> np.ndarray:
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
