"""Contrasts of least-squares fits under many resampling weights at once, from sums of squares and products."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from cqox_assets.numerics.linear import independent_columns

_CHUNK = 65_536
_CELLS = 4_000_000
_LARGEST = 1e10


@dataclass(frozen=True)
class Block:
    """One least-squares fit and what is read from it.

    Parameters
    ----------
    design : ndarray of shape (n, k)
        The constant first.
    rows : ndarray of bool, shape (n,)
        Rows that the fit is made on.
    contrast : ndarray of shape (k,) or (n, k)
        The contribution is contrast'b; of one contrast per row it is the mean over the target.
    """

    design: np.ndarray
    rows: np.ndarray
    contrast: np.ndarray


@dataclass
class LeastSquares:
    """A sum of contrasts of weighted least-squares fits; fulfils `Replicates`.

    Parameters
    ----------
    outcome : ndarray of shape (n,)
    sampling : ndarray of shape (n,)
        Sampling weights; resampling weights multiply them.
    blocks : sequence of Block
    target : ndarray of shape (n,)
        Weight of each row in a mean of contrasts, sampling weights left out.

    Notes
    -----
    For groups g of rows, drawn with weights w_g, the normal equations of a draw are sums of w_g times those of the
    groups, so all draws are one matrix product. Columns are centred and scaled first, which changes no contrast but
    keeps digits.
    """

    outcome: np.ndarray
    sampling: np.ndarray
    blocks: Sequence[Block]
    target: np.ndarray
    estimate: float = field(init=False)

    def __post_init__(self) -> None:
        self._centre = float(np.average(self.outcome, weights=self.sampling))
        self._scaled = [_scaled(block, self.sampling) for block in self.blocks]
        self._held: tuple[np.ndarray, np.ndarray] | None = None
        alone = np.zeros(len(self.outcome), dtype=np.int64)
        self.estimate = float(self.draws(np.ones((1, 1)), alone, errors=False)[0][0])
        self._held = None

    def influence(self, group: np.ndarray) -> np.ndarray:
        """Return the summed influence of the rows of each group on the estimate, shape (G,)."""
        total = self._sums(np.zeros(len(group), dtype=np.int64))
        self._held = None
        coefs = self._coefficients(total)
        mass = float(total[0, 0])
        each = np.zeros(len(group))
        y = self.outcome - self._centre
        for block, (coef, leverage, contrast) in zip(self._scaled, coefs, strict=True):
            z = block.design
            each += block.rows * (z @ leverage[0]) * (y - z @ coef[0])
            if block.contrast.ndim == 2:
                each += self.target * (block.contrast @ coef[0] - float(contrast[0] @ coef[0])) / mass
        return np.bincount(group, weights=self.sampling * each)

    def draws(self, weights: np.ndarray, group: np.ndarray, *, errors: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return estimate and standard error of every draw, shape (B,) each, NaN where a fit is not of full rank.

        The standard error is that of the group sums of influences, each counted as often as it was drawn.
        """
        sums = self._sums(group)
        step = max(1, _CELLS // len(sums))
        values, spreads = [], []
        for start in range(0, len(weights), step):
            own = weights[start : start + step]
            value, back = self._solve(own @ sums)
            values.append(value)
            spreads.append(
                np.sqrt(np.einsum("bg,gb->b", own, (sums @ back) ** 2)) if errors else np.full(len(own), np.nan)
            )
        return np.concatenate(values), np.concatenate(spreads)

    def _sums(self, group: np.ndarray) -> np.ndarray:
        """Return sums of squares and products by group, shape (G, q), kept for the next call with the same groups."""
        if self._held is not None and self._held[0] is group:
            return self._held[1]
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        bounds = [0]
        while bounds[-1] < len(starts):
            rows = starts[bounds[-1]] + _CHUNK
            bounds.append(max(int(np.searchsorted(starts, rows)), bounds[-1] + 1))
        parts = []
        for first, last in pairwise(bounds):
            end = starts[last] if last < len(starts) else len(order)
            rows = order[starts[first] : end]
            parts.append(np.add.reduceat(self._products(rows), starts[first:last] - starts[first], axis=0))
        self._held = (group, np.concatenate(parts))
        return self._held[1]

    def _products(self, rows: np.ndarray) -> np.ndarray:
        """Return what is summed for the given rows, shape (rows, q): target, then per block z z', z y and contrasts."""
        weight, y = self.sampling[rows], self.outcome[rows] - self._centre
        columns = [(weight * self.target[rows])[:, None]]
        for block in self._scaled:
            z, own = block.design[rows], (weight * block.rows[rows])[:, None]
            upper = np.triu_indices(z.shape[1])
            columns += [own * z[:, upper[0]] * z[:, upper[1]], own * z * y[:, None]]
            if block.contrast.ndim == 2:
                columns.append(columns[0] * block.contrast[rows])
        return np.column_stack(columns)

    def _solve(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return estimates from the sums of draws, shape (B,), and what turns sums into influences, shape (q, B)."""
        many, mass = len(total), total[:, 0]
        back = np.zeros((total.shape[1], many))
        value, place = np.zeros(many), 1
        for block, (coef, leverage, contrast) in zip(self._scaled, self._coefficients(total), strict=True):
            k, by_row = block.design.shape[1], block.contrast.ndim == 2
            upper = np.triu_indices(k)
            middle, after = place + len(upper[0]), place + len(upper[0]) + k
            size = np.einsum("bk,bk->b", contrast, coef)
            value = value + size
            products = leverage[:, upper[0]] * coef[:, upper[1]] + leverage[:, upper[1]] * coef[:, upper[0]]
            back[place:middle] = -(products * np.where(upper[0] == upper[1], 0.5, 1.0)).T
            back[middle:after] = leverage.T
            if by_row:
                back[after : after + k] = (coef / mass[:, None]).T
                back[0] -= size / mass
            place = after + (k if by_row else 0)
        return value, back

    def _coefficients(self, total: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return coefficients, M^-1 contrast and contrast of each block for the sums of draws, shape (B, k) each."""
        found, place = [], 1
        for block in self._scaled:
            k = block.design.shape[1]
            upper = np.triu_indices(k)
            middle, after = place + len(upper[0]), place + len(upper[0]) + k
            gram = np.empty((len(total), k, k))
            gram[:, upper[0], upper[1]] = gram[:, upper[1], upper[0]] = total[:, place:middle]
            place = after
            if block.contrast.ndim == 2:
                with np.errstate(divide="ignore", invalid="ignore"):
                    contrast = total[:, after : after + k] / total[:, :1]
                place += k
            else:
                contrast = np.broadcast_to(block.contrast, (len(total), k))
            found.append((*_solved(gram, total[:, middle:after], contrast), contrast))
        return found


def _scaled(block: Block, sampling: np.ndarray) -> Block:
    """Centre and scale the columns after the constant; contrasts are turned so that contrast'b stays."""
    z, weight = block.design, sampling * block.rows
    mean = (weight @ z) / weight.sum()
    spread = np.sqrt(np.maximum((weight @ (z - mean) ** 2) / weight.sum(), 0.0))
    mean, spread = np.where(np.arange(len(mean)) == 0, 0.0, mean), np.where(spread > 0, spread, 1.0)
    spread[0] = 1.0
    contrast = (block.contrast - block.contrast[..., :1] * mean) / spread
    return Block((z - mean) / spread, block.rows, contrast)


def _solved(gram: np.ndarray, moment: np.ndarray, contrast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return M^-1 z'y and M^-1 contrast of every draw, shape (B, k) each; NaN where M is singular but for rounding."""
    scale = np.einsum("bkk->bk", gram)
    root = np.sqrt(np.where(scale > 0, scale, 1.0))
    unit = gram / (root[:, :, None] * root[:, None, :])
    inverse = _inverse(unit)
    # A drawn sample without an arm or a level has an inverse of rounding errors: no sound one is as large.
    sound = np.isfinite(inverse).all(axis=(1, 2)) & (np.abs(np.nan_to_num(inverse)).max(axis=(1, 2)) < _LARGEST)
    sound &= (scale > 0).all(axis=1)
    found = [np.einsum("bij,bj->bi", inverse, side / root) / root for side in (moment, contrast)]
    coef, leverage = (np.where(sound[:, None], side, np.nan) for side in found)
    return coef, leverage


def _inverse(unit: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(np.linalg.inv(unit))
    except np.linalg.LinAlgError:  # one exactly singular draw would stop the others
        exact = np.linalg.eigvalsh(unit)[:, 0] < 1 / _LARGEST
        inverse = np.full(unit.shape, np.nan)
        inverse[~exact] = np.linalg.inv(unit[~exact])
        return inverse


def full_rank(design: np.ndarray, rows: np.ndarray) -> bool:
    """Whether no column of a design is a linear combination of others within the rows."""
    return bool(rows.sum() > design.shape[1] and len(independent_columns(design[rows])) == design.shape[1])


def pooled_contrast(
    design: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None,
    contrast: np.ndarray,
    target: np.ndarray | None = None,
) -> LeastSquares | None:
    """Return replicates of contrast'b of one regression; collinear columns are left out as the regression does.

    Parameters
    ----------
    design : ndarray of shape (n, k)
    outcome : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
        Sampling weights.
    contrast : ndarray of shape (k,) or (n, k)
        One contrast, or one per row, to be averaged over the target by its weights.
    target : ndarray of shape (n,), optional
        Sampling weights left out; all rows by default.
    """
    kept, everybody = independent_columns(design), np.ones(len(outcome), dtype=bool)
    if len(outcome) <= len(kept):
        return None
    sampling = np.ones(len(outcome)) if weights is None else weights
    block = Block(design[:, kept], everybody, contrast[..., kept])
    return LeastSquares(outcome, sampling, [block], np.ones(len(outcome)) if target is None else target)


def per_arm_contrast(
    covariates: np.ndarray,
    treated: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None,
    target: np.ndarray,
) -> LeastSquares | None:
    """Return replicates of the mean difference of two regressions, one per arm, over the target.

    Parameters
    ----------
    covariates : ndarray of shape (n, p)
    treated, outcome, target : ndarray of shape (n,)
        Target weights, sampling weights left out: ones for all units, `treated` for the treated.
    weights : ndarray of shape (n,), optional
        Sampling weights.
    """
    ones = np.ones(len(outcome))
    design = np.column_stack([ones, covariates])
    design = design[:, independent_columns(design)]
    sampling = ones if weights is None else weights
    arms = [(treated == arm, sign) for arm, sign in ((1, 1.0), (0, -1.0))]
    if all(full_rank(design, rows & (sampling > 0)) for rows, _ in arms):
        return LeastSquares(outcome, sampling, [Block(design, rows, sign * design) for rows, sign in arms], target)
    # A covariate that does not vary within an arm keeps its slope from the other: one regression with products.
    products = np.column_stack([design, design * treated[:, None]])
    return pooled_contrast(products, outcome, weights, np.column_stack([np.zeros_like(design), design]), target)
