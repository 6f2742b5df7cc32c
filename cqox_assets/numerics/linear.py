"""Weighted least squares with the usual covariance estimators."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CatalogError

COVARIANCES = ("classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1")
_LEVERAGE_ONE = 1e-10
_ROUNDING = 1e-10


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear regression.

    Parameters
    ----------
    coef : ndarray of shape (k,)
    bread : ndarray of shape (k, k)
        Inverse of X'WX.
    design : ndarray of shape (n, k)
    residuals, weights : ndarray of shape (n,)
    kept : ndarray of int
        Columns of the design that was passed in; the others were linear combinations of earlier ones.
    """

    coef: np.ndarray
    bread: np.ndarray
    design: np.ndarray
    residuals: np.ndarray
    weights: np.ndarray
    kept: np.ndarray

    @property
    def df_residual(self) -> int:
        """Rows minus coefficients."""
        return len(self.residuals) - len(self.coef)

    def leverage(self) -> np.ndarray:
        """Return the diagonal of the hat matrix, shape (n,)."""
        return np.asarray(np.einsum("ij,jk,ik->i", self.design, self.bread, self.design, optimize=True) * self.weights)

    def covariance(self, kind: str, cluster: np.ndarray | None = None) -> np.ndarray:
        """Return the covariance of the coefficients, shape (k, k).

        Parameters
        ----------
        kind : str
            One of `COVARIANCES`. HC follows MacKinnon & White (1985, doi:10.1016/0304-4076(85)90158-7), CR1 has the
            factor G/(G-1) (n-1)/(n-k).
        cluster : ndarray of int, shape (n,), optional
            Codes 0..G-1, needed by CR0 and CR1.

        Raises
        ------
        ZeroDivisionError
            HC2 and HC3 with a row of leverage one, where they are not defined.
        """
        n, k = self.design.shape
        scores = self.design * (self.weights * self.residuals)[:, None]
        if kind == "classical":
            return self.bread * float(np.dot(self.weights, self.residuals**2) / (n - k))
        if kind in ("CR0", "CR1"):
            if cluster is None:
                raise CatalogError(f"covariance {kind} needs a cluster column; map the role 'cluster'")
            return self._clustered(scores, cluster, kind)
        if kind not in COVARIANCES:
            raise CatalogError(f"covariance '{kind}' is not known; known are {', '.join(COVARIANCES)}")
        if kind == "HC1":
            scores = scores * np.sqrt(n / (n - k))
        elif kind in ("HC2", "HC3"):
            room = 1 - self.leverage()
            if room.min() < _LEVERAGE_ONE:
                raise ZeroDivisionError(f"{kind} is not defined: row {int(room.argmin())} has leverage one")
            scores = scores / (np.sqrt(room) if kind == "HC2" else room)[:, None]
        return np.asarray(self.bread @ (scores.T @ scores) @ self.bread)

    def _clustered(self, scores: np.ndarray, cluster: np.ndarray, kind: str) -> np.ndarray:
        n, k = self.design.shape
        groups = int(cluster.max()) + 1
        sums = np.column_stack([np.bincount(cluster, weights=scores[:, j], minlength=groups) for j in range(k)])
        factor = groups / (groups - 1) * (n - 1) / (n - k) if kind == "CR1" else 1.0
        return np.asarray(self.bread @ (sums.T @ sums) @ self.bread * factor)

    def influence(self) -> np.ndarray:
        """Return the influence of each row on the coefficients, shape (n, k)."""
        n = len(self.residuals)
        return np.asarray(n * (self.design * (self.weights * self.residuals)[:, None]) @ self.bread)


def independent_columns(design: np.ndarray, tolerance: float = 1e-9) -> np.ndarray:
    """Return the columns that are no linear combination of earlier ones, in their order.

    Uses a sequential Cholesky factor of the scaled Gram matrix, so the first of two equal columns stays. After a
    constant the other columns are centred: a column far from zero (a year, an amount) is not a copy of the constant.
    """
    scale = np.sqrt(np.einsum("ij,ij->j", design, design))
    if len(design) and design[0, 0] != 0 and np.ptp(design[:, 0]) == 0:
        centred = design - design.mean(axis=0)
        centred[:, 0] = design[:, 0]
        spread = np.sqrt(np.einsum("ij,ij->j", centred, centred))
        moves = spread > _ROUNDING * scale
        design, scale = np.where(moves, centred, 0.0), np.where(moves, spread, 0.0)
    scale[scale == 0] = 1.0
    gram = (design / scale).T @ (design / scale)
    kept: list[int] = []
    factor = np.zeros_like(gram)
    for j in range(gram.shape[0]):
        row = np.zeros(len(kept))
        for position, i in enumerate(kept):
            row[position] = (gram[j, i] - row[:position] @ factor[position, :position]) / factor[position, position]
        rest = gram[j, j] - row @ row
        if rest > tolerance:
            position = len(kept)
            factor[position, :position] = row
            factor[position, position] = np.sqrt(rest)
            kept.append(j)
    return np.array(kept, dtype=int)


def fit_linear(
    design: np.ndarray, outcome: np.ndarray, weights: np.ndarray | None = None, *, drop_collinear: bool = True
) -> LinearFit:
    """Fit (weighted) least squares by QR.

    Parameters
    ----------
    design : ndarray of shape (n, k)
        Includes the constant, if there is to be one.
    outcome : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
    drop_collinear : bool
        Leave out columns that are linear combinations of earlier ones; `kept` says which stayed.
    """
    weight = np.ones(len(outcome)) if weights is None else weights
    kept = independent_columns(design) if drop_collinear else np.arange(design.shape[1])
    x = design if len(kept) == design.shape[1] else np.ascontiguousarray(design[:, kept])
    root = np.sqrt(weight)[:, None]
    q, r = np.linalg.qr(x * root if weights is not None else x)
    coef = np.linalg.solve(r, q.T @ (outcome * root[:, 0]))
    inverse = np.linalg.inv(r)
    return LinearFit(coef, inverse @ inverse.T, x, outcome - x @ coef, weight, kept)


def with_constant(*blocks: np.ndarray) -> np.ndarray:
    """Return a design of a constant and the given columns or blocks of columns, shape (n, 1 + k)."""
    return np.column_stack([np.ones(len(blocks[0])), *blocks])


def dropped_names(fit: LinearFit, names: Sequence[str]) -> list[str]:
    """Return the names of the design's columns that the fit left out."""
    stayed = set(fit.kept.tolist())
    return [name for position, name in enumerate(names) if position not in stayed]
