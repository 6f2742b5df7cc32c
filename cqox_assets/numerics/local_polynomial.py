"""Local polynomial regression on both sides of a cutoff: jumps, their robust bias correction and variances.

The running variable is centred at the cutoff. Responses may have two columns, outcome and treatment, for fuzzy designs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.neighbours import Neighbours

KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    # Kernel on [-1, 1] and the constant of the pilot bandwidth.
    "triangular": (lambda u: 1 - np.abs(u), 2.576),
    "epanechnikov": (lambda u: 0.75 * (1 - u**2), 2.34),
    "uniform": (lambda u: 0.5 * np.ones_like(u), 1.843),
}
VARIANCES = ("nn", "hc0", "hc1", "hc2", "hc3")
_WELL_CONDITIONED = 1e8


class FewNearCutoffError(CqoxError):
    """There are too few distinct values of the running variable near the cutoff."""

    code = "no_observations_near_cutoff"


@dataclass(frozen=True)
class Residuals:
    """How the noise of a row is measured.

    Parameters
    ----------
    kind : str
        `nn`: differences to the nearest neighbours; `hc0` to `hc3`: residuals of the local polynomial, with clusters
        `hc3` those of a fit without the own cluster.
    neighbours : int
        Neighbours of `nn`; ties all enter.
    """

    kind: str = "nn"
    neighbours: int = 3


@dataclass(frozen=True)
class Side:
    """The rows of one side.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Running variable minus the cutoff, ascending.
    responses : ndarray of shape (n, m)
        Outcome, and treatment in a fuzzy design.
    cluster : ndarray of int, shape (n,), optional
    found : dict
        Neighbours by how many are asked for; sides with the same running variable, in whatever units, share it.
    """

    x: np.ndarray
    responses: np.ndarray
    cluster: np.ndarray | None = None
    found: dict[int, Neighbours] = field(default_factory=dict, repr=False, compare=False)

    def scaled(self, x_unit: float, units: np.ndarray) -> "Side":
        """Return the side in other units."""
        return replace(self, x=self.x / x_unit, responses=self.responses / units)

    def neighbours(self, count: int) -> Neighbours:
        """Return the nearest rows of each row, found once."""
        if count not in self.found:
            self.found[count] = Neighbours.of(self.x, count)
        return self.found[count]

    def within(self, bandwidth: float, kernel: str) -> tuple[slice, np.ndarray]:
        """Return the rows with weight under a bandwidth, which follow one another, and their weights."""
        reach = bandwidth * (1 + 1e-9)
        start, stop = np.searchsorted(self.x, [-reach, reach])
        weights = kernel_weights(self.x[start:stop], bandwidth, kernel)
        inside = np.flatnonzero(weights > 0)
        if not len(inside):
            return slice(start, start), weights[:0]
        first, last = int(inside[0]), int(inside[-1]) + 1
        return slice(int(start) + first, int(start) + last), weights[first:last]


@dataclass(frozen=True)
class Local:
    """A weighted polynomial fit on one side.

    Parameters
    ----------
    rows : slice
        Rows of the side that are used.
    design : ndarray of shape (n_used, order + 1)
        Powers of x.
    weights : ndarray of shape (n_used,)
    bread : ndarray of shape (order + 1, order + 1)
        Inverse of X'WX.
    coef : ndarray of shape (order + 1, m)
    """

    rows: slice
    design: np.ndarray
    weights: np.ndarray
    bread: np.ndarray
    coef: np.ndarray

    def linear(self, term: int) -> np.ndarray:
        """Return the weights with which the responses enter a coefficient, shape (n_used,)."""
        return np.asarray((self.design @ self.bread[:, term]) * self.weights)


def kernel_weights(x: np.ndarray, bandwidth: float, kernel: str) -> np.ndarray:
    """Return K(x / h) / h, zero outside [-h, h]."""
    u = x / bandwidth
    return np.asarray(np.where(np.abs(u) <= 1, KERNELS[kernel][0](u), 0.0) / bandwidth)


def fit_local(side: Side, bandwidth: float, order: int, kernel: str, rows: slice | None = None) -> Local:
    """Fit a polynomial of the given order with kernel weights; `rows` may keep rows of weight zero.

    Raises
    ------
    FewNearCutoffError
        If fewer distinct values than coefficients have weight.
    """
    used, inside = side.within(bandwidth, kernel)
    weighted = side.x[used]
    if np.count_nonzero(weighted[1:] != weighted[:-1]) < order:
        raise FewNearCutoffError(
            f"fewer than {order + 1} distinct values of the running variable lie within {bandwidth:.4g} on one side of "
            "the cutoff; widen the bandwidth, lower the order, or deliver rows near the cutoff"
        )
    unit = powers_of(weighted / bandwidth, order)
    y = side.responses[used]
    solved = _solve_scaled(unit, inside, y)
    if solved is None:
        raise FewNearCutoffError(
            f"the running variable has too few distinct values within {bandwidth:.4g} of the cutoff for a polynomial "
            f"of order {order}; widen the bandwidth or lower the order"
        )
    shrink = bandwidth ** -np.arange(order + 1.0)
    coef, bread = shrink[:, None] * solved[0], shrink[:, None] * solved[1] * shrink
    if rows is None:
        return Local(used, powers_of(weighted, order), inside, bread, coef)
    weights = np.zeros(rows.stop - rows.start)
    weights[used.start - rows.start : used.stop - rows.start] = inside
    return Local(rows, powers_of(side.x[rows], order), weights, bread, coef)


def powers_of(x: np.ndarray, order: int) -> np.ndarray:
    """Return 1, x, ..., x^order, shape (n, order + 1)."""
    powers = np.ones((len(x), order + 1))
    for power in range(1, order + 1):
        np.multiply(powers[:, power - 1], x, out=powers[:, power])
    return powers


def _solve_scaled(design: np.ndarray, weights: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return coefficients and bread of powers of values in [-1, 1], None where they are not identified.

    Rows of an orthogonal basis keep the cross products well conditioned; QR is for what is not so even then.
    """
    turn = _orthogonal(design.shape[1] - 1, 1.0 if design[:, 1:2].sum() >= 0 else -1.0)
    basis = design @ turn
    weighted = basis * weights[:, None]
    gram = weighted.T @ basis
    if np.linalg.cond(gram) < _WELL_CONDITIONED:
        inverse = np.linalg.inv(gram)
        coef = inverse @ (weighted.T @ y)
        coef += inverse @ (weighted.T @ (y - basis @ coef))
        return turn @ coef, turn @ inverse @ turn.T
    root = np.sqrt(weights)[:, None]
    q, r = np.linalg.qr(design * root)
    if np.abs(np.diag(r)).min() <= 1e-12 * np.abs(np.diag(r)).max():
        return None
    back = np.linalg.inv(r)
    return back @ (q.T @ (y * root)), back @ back.T


@cache
def _orthogonal(order: int, sign: float) -> np.ndarray:
    """Return the coefficients of Legendre's polynomials on [0, sign], shape (order + 1, order + 1), one per column."""
    shifted = np.polynomial.Polynomial([-1.0, 2.0 * sign])
    turn = np.zeros((order + 1, order + 1))
    for degree in range(order + 1):
        found = np.polynomial.Legendre.basis(degree).convert(kind=np.polynomial.Polynomial)(shifted).coef
        turn[: len(found), degree] = found
    return turn


def noise(side: Side, fit: Local, how: Residuals) -> np.ndarray:
    """Return the residuals of a fit's rows, shape (n_used, m)."""
    y = side.responses[fit.rows]
    if how.kind == "nn":
        middle = y.mean(axis=0)  # sums of centred values lose less to rounding
        return side.neighbours(how.neighbours).residuals(y - middle, fit.rows)
    n, k = fit.design.shape
    rest = np.asarray(y - fit.design @ fit.coef)
    if how.kind == "hc3" and side.cluster is not None:
        return _without_own_cluster(fit, rest, side.cluster[fit.rows])
    if how.kind == "hc1":
        return np.asarray(rest * np.sqrt(n / max(n - k, 1)))
    if how.kind in ("hc2", "hc3"):
        leverage = np.einsum("ij,ij->i", fit.design @ fit.bread, fit.design) * fit.weights
        room = np.maximum(1 - leverage, 1e-10)[:, None]
        return np.asarray(rest / (np.sqrt(room) if how.kind == "hc2" else room))
    return rest


def _without_own_cluster(fit: Local, rest: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the residuals from the fit without the row's own cluster: the cluster jackknife (CR3).

    Notes
    -----
    e_g + X_g (X'WX - X_g'W_g X_g)^-1 X_g'W_g e_g (Bell & McCaffrey 2002); a cluster without which the polynomial is not
    identified keeps its residuals.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    groups, k = int(codes.max()) + 1, fit.design.shape[1]
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(groups))
    unit = np.sqrt(np.diag(fit.bread))  # in these units of the coefficients the solves are well scaled
    design = fit.design * unit
    weighted = design * fit.weights[:, None]
    own = np.add.reduceat((weighted[:, :, None] * design[:, None, :])[order], starts, axis=0)
    sums = np.add.reduceat((weighted[:, :, None] * rest[:, None, :])[order], starts, axis=0)
    others = np.linalg.inv(fit.bread / np.outer(unit, unit)) - own
    identified = np.linalg.svd(others, compute_uv=False)[:, -1] > 1e-9
    others[~identified] = np.eye(k)
    shift = np.linalg.solve(others, sums) * identified[:, None, None]
    return np.asarray(rest + np.einsum("ij,ijm->im", design, shift[codes]))


def spread(side: Side, rows: slice, psi: np.ndarray, columns: int) -> float:
    """Return the sum of squares of scores, summed within clusters with the CR1 factor when clusters are there."""
    if side.cluster is None:
        return float(psi @ psi)
    codes = np.unique(side.cluster[rows], return_inverse=True)[1]
    sums = np.bincount(codes, weights=psi)
    return float(sums @ sums) * cluster_factor(len(psi), len(sums), columns)


def cluster_factor(rows: int, groups: int, columns: int) -> float:
    """Return G / (G - 1) (n - 1) / (n - k)."""
    return groups / max(groups - 1, 1) * (rows - 1) / max(rows - columns, 1)


@dataclass(frozen=True)
class SideJump:
    """One side's limit at the cutoff, by column of the responses.

    Parameters
    ----------
    conventional, corrected : ndarray of shape (m,)
        Limits of the local polynomial, without and with its estimated bias taken off.
    scores, robust_scores : ndarray of shape (n_used, m)
        Contributions of rows to the noise of either.
    rows : slice
    effective : int
        Rows with weight under h.
    """

    conventional: np.ndarray
    corrected: np.ndarray
    scores: np.ndarray
    robust_scores: np.ndarray
    rows: slice
    effective: int


def limit(side: Side, h: float, b: float, order: int, bias_order: int, kernel: str, how: Residuals) -> SideJump:
    """Estimate one side's limit with bandwidth h, and its bias with bandwidth b and a polynomial of `bias_order`.

    Notes
    -----
    The corrected limit is the fit of y - x^(p+1) g, g the coefficient of x^(p+1) in the second polynomial; the robust
    variance counts the noise of g (Calonico, Cattaneo & Titiunik 2014, doi:10.3982/ECTA11757).
    """
    parts = [side.within(bandwidth, kernel)[0] for bandwidth in (h, b)]
    rows = slice(min(part.start for part in parts), max(part.stop for part in parts))
    inner = fit_local(side, h, order, kernel, rows)
    outer = fit_local(side, b, bias_order, kernel, rows)
    weight = inner.linear(0)
    steep = side.x[rows] ** (order + 1)
    bias = float(weight @ steep)
    robust = weight - bias * outer.linear(order + 1)
    corrected = inner.coef[0] - bias * outer.coef[order + 1]
    first = noise(side, inner, how)
    second = first if how.kind == "nn" else noise(side, outer, how)
    effective = int((inner.weights > 0).sum())
    return SideJump(inner.coef[0], corrected, weight[:, None] * first, robust[:, None] * second, rows, effective)
