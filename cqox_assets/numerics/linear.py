"""Weighted least squares with the usual covariance estimators."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CatalogError

COVARIANCES = ("classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1")
_LEVERAGE_ONE = 1e-10
_ROUNDING = 1e-10
_BLOCK = 8192  # rows that are worked on at a time: their copies stay in the processor's cache
COLLINEAR = 1e-9
_ORDINARY = 1e60
_WELL_CONDITIONED = 1e-4
_FAR_FROM_ZERO = 1e4


@dataclass(frozen=True)
class Moments:
    """Means and cross products of the columns of a design.

    Parameters
    ----------
    mean : ndarray of shape (k,)
        By which the columns were centred; zeros where the design has no constant first, and for the constant.
    gram : ndarray of shape (k, k)
        X'WX of the centred columns; the constant's products with the others are exactly 0.
    total : float
        Sum of the weights.
    constant : float
        Value of the constant in the first column; 0 without one.
    """

    mean: np.ndarray
    gram: np.ndarray
    total: float
    constant: float

    @classmethod
    def of(cls, design: np.ndarray, weights: np.ndarray | None = None) -> "Moments":
        """Read a design of shape (n, k), a block of rows at a time."""
        n, k = design.shape
        total = float(n if weights is None else weights.sum())
        first = design[0, 0] if n and k else 0.0
        constant = float(first) if n and k and total > 0 and (design[:, 0] == first).all() else 0.0
        mean = np.zeros(k)
        if constant:
            mean = design.mean(axis=0) if weights is None else weights @ design / total
            mean[0] = 0.0
        root = None if weights is None else np.sqrt(weights)
        gram = np.zeros((k, k))
        for rows in blocks(n):
            part = design[rows] - mean
            if root is not None:
                part *= root[rows, None]
            gram += part.T @ part
        if constant:
            gram[0, 1:] = gram[1:, 0] = 0.0
        return cls(mean, gram, total, constant)

    def only(self, kept: np.ndarray) -> "Moments":
        """Return the moments of some of the columns, the constant among them if there is one."""
        return Moments(self.mean[kept], self.gram[np.ix_(kept, kept)], self.total, self.constant)

    @property
    def spread(self) -> np.ndarray:
        """Root of the sum of squares of each centred column; 0 where it is only rounding."""
        spread = np.sqrt(np.diag(self.gram))
        return np.asarray(np.where(spread > _ROUNDING * np.hypot(spread, np.sqrt(self.total) * self.mean), spread, 0.0))

    def pivots(self, tolerance: float = 0.0) -> np.ndarray:
        """Return the share of each column that the earlier ones do not explain; those below `tolerance` are skipped."""
        scale = self.spread
        left = self.gram / np.outer(np.where(scale > 0, scale, 1.0), np.where(scale > 0, scale, 1.0))
        left[scale == 0] = left[:, scale == 0] = 0.0
        found = np.zeros(len(scale))
        for j in range(len(scale)):
            found[j] = left[j, j]
            if found[j] > tolerance:
                row = left[j, j + 1 :] / np.sqrt(found[j])
                left[j + 1 :, j + 1 :] -= np.outer(row, row)
        return found


def blocks(rows: int) -> Iterator[slice]:
    """Yield slices that cover so many rows."""
    return (slice(start, start + _BLOCK) for start in range(0, rows, _BLOCK))


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
        return np.asarray(np.einsum("ij,ij->i", self.design @ self.bread, self.design) * self.weights)

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
        size = self.weights * self.residuals
        if kind == "classical":
            return self.bread * float(np.dot(self.weights, self.residuals**2) / (n - k))
        if kind in ("CR0", "CR1"):
            if cluster is None:
                raise CatalogError(f"covariance {kind} needs a cluster column; map the role 'cluster'")
            return self._clustered(self.design * size[:, None], cluster, kind)
        if kind not in COVARIANCES:
            raise CatalogError(f"covariance '{kind}' is not known; known are {', '.join(COVARIANCES)}")
        if kind in ("HC2", "HC3"):
            room = 1 - self.leverage()
            if room.min() < _LEVERAGE_ONE:
                raise ZeroDivisionError(f"{kind} is not defined: row {int(room.argmin())} has leverage one")
            size = size / (np.sqrt(room) if kind == "HC2" else room)
        meat = np.zeros((k, k))
        for rows in blocks(n):
            scores = self.design[rows] * size[rows, None]
            meat += scores.T @ scores
        return np.asarray(self.bread @ meat @ self.bread) * (n / (n - k) if kind == "HC1" else 1.0)

    def _clustered(self, scores: np.ndarray, cluster: np.ndarray, kind: str) -> np.ndarray:
        n, k = self.design.shape
        groups = int(cluster.max()) + 1
        sums = np.column_stack([np.bincount(cluster, weights=scores[:, j], minlength=groups) for j in range(k)])
        factor = groups / (groups - 1) * (n - 1) / (n - k) if kind == "CR1" else 1.0
        return np.asarray(self.bread @ (sums.T @ sums) @ self.bread * factor)

    def influence(self, direction: np.ndarray | None = None) -> np.ndarray:
        """Return the influence of each row on the coefficients, shape (n, k).

        With a direction of shape (k,), that on the combination of coefficients, shape (n,).
        """
        size = len(self.residuals) * self.weights * self.residuals
        if direction is not None:
            return np.asarray(size * (self.design @ (self.bread @ direction)))
        influence = self.design @ self.bread
        influence *= size[:, None]
        return np.asarray(influence)


def in_range(values: np.ndarray) -> np.ndarray:
    """Return values of shape (n,) or (n, k), columns of extreme size divided by a power of two.

    For quantities that do not depend on the unit of a column: squares of 1e-200 or 1e200 are no floats. Columns of
    ordinary size, and what is not finite, stay as they are; so does the array if all do.
    """
    if not values.size:
        return values
    size = np.maximum(values.max(axis=0), -values.min(axis=0))
    extreme = np.isfinite(size) & (size > 0) & ((size < 1 / _ORDINARY) | (size > _ORDINARY))
    if not extreme.any():
        return values
    return np.asarray(np.ldexp(values, np.where(extreme, -np.frexp(size)[1], 0)))


def independent_columns(design: np.ndarray, tolerance: float = COLLINEAR) -> np.ndarray:
    """Return the columns that are no linear combination of earlier ones, in their order.

    Uses a sequential Cholesky factor of the scaled Gram matrix, so the first of two equal columns stays. After a
    constant the other columns are centred: a column far from zero (a year, an amount) is not a copy of the constant.
    """
    return np.flatnonzero(Moments.of(design).pivots(tolerance) > tolerance)


def fit_linear(
    design: np.ndarray, outcome: np.ndarray, weights: np.ndarray | None = None, *, drop_collinear: bool = True
) -> LinearFit:
    """Fit (weighted) least squares.

    Parameters
    ----------
    design : ndarray of shape (n, k)
        Includes the constant, if there is to be one.
    outcome : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
    drop_collinear : bool
        Leave out columns that are linear combinations of earlier ones; `kept` says which stayed.

    Notes
    -----
    Solved from the moments of the centred, scaled columns with one step of iterative refinement, which is as exact as
    QR where no column is nearly explained by the others; by QR elsewhere.
    """
    weight = np.ones(len(outcome)) if weights is None else weights
    moments = Moments.of(design)
    kept = np.arange(design.shape[1])
    if drop_collinear and weights is not None and not weight.all():
        # Rows without weight identify nothing: a column may be a combination of others among the rows that count.
        kept = np.flatnonzero(Moments.of(design[weight > 0]).pivots(COLLINEAR) > COLLINEAR)
    elif drop_collinear:
        kept = np.flatnonzero(moments.pivots(COLLINEAR) > COLLINEAR)
    x = design if len(kept) == design.shape[1] else np.ascontiguousarray(design[:, kept])
    solved = _solve(x, outcome, weight, moments.only(kept) if weights is None else Moments.of(x, weights))
    if solved is None:
        root = np.sqrt(weight)[:, None]
        q, r = np.linalg.qr(x * root if weights is not None else x)
        inverse = np.linalg.inv(r)
        solved = np.linalg.solve(r, q.T @ (outcome * root[:, 0])), inverse @ inverse.T
    return LinearFit(solved[0], solved[1], x, outcome - x @ solved[0], weight, kept)


def _solve(
    x: np.ndarray, outcome: np.ndarray, weight: np.ndarray, moments: Moments
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return coefficients and bread from the moments of x, or None where they are not exact enough."""
    scale = moments.spread
    far = np.abs(moments.mean) * np.sqrt(moments.total) > _FAR_FROM_ZERO * scale
    if not len(scale) or far.any() or not moments.pivots().min() > _WELL_CONDITIONED:
        return None
    inverse = np.linalg.inv(moments.gram / np.outer(scale, scale)) / np.outer(scale, scale)
    bread = (inverse + inverse.T) / 2
    if moments.constant:  # back from the centred columns: the constant takes up their means
        shift = np.eye(len(scale))
        shift[0] -= moments.mean / moments.constant
        bread = shift @ bread @ shift.T
    centre = float(weight @ outcome / moments.total) if moments.constant else 0.0
    coef = bread @ (x.T @ (weight * (outcome - centre)))
    if moments.constant:
        coef[0] += centre / moments.constant
    return coef + bread @ (x.T @ (weight * (outcome - x @ coef))), bread


def with_constant(*blocks: np.ndarray) -> np.ndarray:
    """Return a design of a constant and the given columns or blocks of columns, shape (n, 1 + k)."""
    return np.column_stack([np.ones(len(blocks[0])), *blocks])


def dropped_names(fit: LinearFit, names: Sequence[str]) -> list[str]:
    """Return the names of the design's columns that the fit left out."""
    stayed = set(fit.kept.tolist())
    return [name for position, name in enumerate(names) if position not in stayed]
