"""Polynomials of degree one or two by ridge regression, cross-fitted from per-fold moments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cqox_assets.numerics.crossfit import EmptyFoldError
from cqox_assets.numerics.ridge import fits_without_folds

MOST_PRODUCTS_OF = 16
MOST_ROWS = 200_000
PENALTIES = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 100_000.0)
_BLOCK = 16_384


@dataclass(frozen=True)
class Polynomial:
    """Columns made of covariates: a constant, each covariate and, of degree two, squares and products.

    Parameters
    ----------
    centre, scale : ndarray of shape (p,)
        Covariates are standardised first; a constant one becomes zeros.
    pairs : ndarray of int, shape (m, 2)
        Covariates of each product.
    """

    centre: np.ndarray
    scale: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, importance: np.ndarray) -> "Polynomial":
        """Choose the columns of degree two.

        Parameters
        ----------
        x : ndarray of shape (n, p)
        importance : ndarray of shape (p,)
            Of more than 16 covariates those that matter most are multiplied with one another; the others enter
            linearly. Two-valued covariates have no square of their own.
        """
        spread = x.std(axis=0)
        order = np.argsort(-importance, kind="stable")[:MOST_PRODUCTS_OF]
        chosen = np.sort(order[spread[order] > 0])
        several = {int(j) for j in chosen if len(np.unique(x[:1000, j])) > 2 or len(np.unique(x[:, j])) > 2}
        pairs = [
            (int(j), int(k)) for place, j in enumerate(chosen) for k in chosen[place:] if j != k or int(j) in several
        ]
        return cls(x.mean(axis=0), np.where(spread > 0, spread, 1.0), np.array(pairs, dtype=int).reshape(-1, 2))

    @property
    def main(self) -> int:
        """Number of columns of degree one, the constant included."""
        return 1 + len(self.centre)

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Return the columns of some rows, shape (n, q)."""
        z = (x - self.centre) / self.scale
        return np.column_stack([np.ones(len(x)), z, z[:, self.pairs[:, 0]] * z[:, self.pairs[:, 1]]])


@dataclass(frozen=True)
class Fold:
    """Rows in folds.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    fold : ndarray of int, shape (n,)
        Values 0..K-1.
    weight : ndarray of shape (n,)
    basis : Polynomial
    """

    x: np.ndarray
    fold: np.ndarray
    weight: np.ndarray
    basis: Polynomial

    def blocks(self, step: int = 1) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield fold, rows and their columns; a large design is never held whole."""
        for k in range(int(self.fold.max()) + 1):
            inside = np.flatnonzero(self.fold == k)[::step]
            for start in range(0, len(inside), _BLOCK):
                rows = inside[start : start + _BLOCK]
                yield k, rows, self.basis.columns(self.x[rows])


@dataclass(frozen=True)
class PolynomialFits:
    """Predictions of every row by models that have not seen its fold.

    Parameters
    ----------
    linear, quadratic : ndarray of shape (n, targets)
        Of degree one by least squares, and of degree two by ridge.
    penalties : tuple of float
        Penalty of each quadratic fit, chosen by the error on held-out folds.
    """

    linear: np.ndarray
    quadratic: np.ndarray
    penalties: tuple[float, ...]


def crossfit_polynomials(
    rows: Fold, targets: Sequence[tuple[np.ndarray, np.ndarray]], degree: int = 2
) -> PolynomialFits:
    """Fit polynomials to several targets at once.

    Parameters
    ----------
    rows : Fold
    targets : sequence of (ndarray of shape (n,), ndarray of bool of shape (n,))
        Outcome, and the rows that may be learned from, such as one arm.
    degree : int
        2, or 1 for linear fits alone, which are then given as `quadratic` as well.

    Raises
    ------
    EmptyFoldError
        If the rows of a target lie in one fold.

    Notes
    -----
    One pass collects the moments of each fold; a fold's fit uses the total less its own. Ridge penalises each column by
    its variance, so that a column's units do not matter; the constant is free. Beyond 200,000 rows the moments are
    those of evenly spaced rows. Predictions of degree two stay within the range of the outcomes learned from.
    """
    if degree == 1:
        rows = replace(rows, basis=replace(rows.basis, pairs=rows.basis.pairs[:0]))
    _check(rows, targets)
    folds, q = int(rows.fold.max()) + 1, rows.basis.main + len(rows.basis.pairs)
    moments = [_Moments.empty(folds, q) for _ in targets]
    scales = [_scale(y, used) for y, used in targets]
    for k, inside, columns in rows.blocks(max(1, len(rows.x) // MOST_ROWS)):
        for held, (y, used), (centre, scale) in zip(moments, targets, scales, strict=True):
            weight = rows.weight[inside] * used[inside]
            counted = weight > 0
            held.add(k, columns[counted], (y[inside][counted] - centre) / scale, weight[counted])
    main = rows.basis.main
    straight = [held.fit(slice(main), (0.0,))[0] for held in moments]
    bent = [(found, 0.0) for found in straight] if degree == 1 else [held.fit(slice(q), PENALTIES) for held in moments]
    linear, quadratic = np.empty((len(rows.x), len(targets))), np.empty((len(rows.x), len(targets)))
    for k, inside, columns in rows.blocks():
        for t, (centre, scale) in enumerate(scales):
            linear[inside, t] = columns[:, :main] @ straight[t][k] * scale + centre
            quadratic[inside, t] = columns @ bent[t][0][k] * scale + centre
    for t, (y, used) in enumerate(targets):
        quadratic[:, t] = np.clip(quadratic[:, t], y[used].min(), y[used].max())
    return PolynomialFits(linear, quadratic, tuple(penalty for _, penalty in bent))


def _check(rows: Fold, targets: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    for _, used in targets:
        counted = np.bincount(rows.fold, weights=used & (rows.weight > 0), minlength=int(rows.fold.max()) + 1)
        if counted.sum() - counted.max() < 2:
            raise EmptyFoldError(
                "all rows of an arm lie in one fold, as where it has one cluster, so nothing predicts them; deliver "
                "more rows or clusters of that arm"
            )


def _scale(y: np.ndarray, used: np.ndarray) -> tuple[float, float]:
    """Return mean and spread of the outcomes learned from, so that no penalty depends on the outcome's units."""
    return float(y[used].mean()), float(y[used].std()) or 1.0


@dataclass(frozen=True)
class _Moments:
    """X'WX, X'Wy and y'Wy of each fold: shapes (folds, q, q), (folds, q), (folds,)."""

    gram: np.ndarray
    cross: np.ndarray
    square: np.ndarray

    @classmethod
    def empty(cls, folds: int, q: int) -> "_Moments":
        return cls(np.zeros((folds, q, q)), np.zeros((folds, q)), np.zeros(folds))

    def add(self, k: int, columns: np.ndarray, y: np.ndarray, weight: np.ndarray) -> None:
        scaled = columns * weight[:, None]
        self.gram[k] += columns.T @ scaled
        self.cross[k] += scaled.T @ y
        self.square[k] += float(weight @ (y * y))

    def fit(self, part: slice, penalties: Sequence[float]) -> tuple[np.ndarray, float]:
        """Return coefficients of each leave-fold-out fit on some columns, and the chosen penalty."""
        total = self.gram.sum(axis=0)
        mass = max(float(total[0, 0]), 1e-300)
        mean = total[0] / mass
        relative = np.maximum(np.diag(total) / mass - mean**2, 0.0)[part]
        relative[0] = 0.0
        return fits_without_folds(
            np.ascontiguousarray(self.gram[:, part, part]), self.cross[:, part], self.square, relative, penalties
        )
