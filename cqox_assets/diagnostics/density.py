"""Whether the density of a running variable is continuous at the cutoff, or units chose their side."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from cqox_assets.numerics.local_polynomial import FewNearCutoffError, kernel_weights, powers_of

_LEAST = 20


@dataclass(frozen=True)
class DensityTest:
    """Densities on either side of the cutoff and the test that they are equal.

    Parameters
    ----------
    statistic, p_value : float
        Difference over its standard error, right minus left; two-sided p-value.
    left, right : float
        Densities per unit of the running variable.
    h_left, h_right : float
        Bandwidths.
    left_error, right_error : float
        Standard errors of the densities.
    """

    statistic: float
    p_value: float
    left: float
    right: float
    h_left: float
    h_right: float
    left_error: float
    right_error: float


@dataclass(frozen=True)
class _Ranked:
    """Sorted values minus the cutoff with their empirical distribution function; equal values share their last rank."""

    x: np.ndarray
    first: np.ndarray
    cdf: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, mass_points: bool) -> "_Ranked":
        ordered = np.sort(x)
        n = len(ordered)
        places = np.arange(n)
        if not mass_points:
            return cls(ordered, places, places / (n - 1))
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        sizes = np.diff(np.append(starts, n))
        return cls(ordered, np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes) / (n - 1))

    def near(self, right: bool, h: float) -> slice:
        """Return the rows of one side within h of the cutoff."""
        zero = int(np.searchsorted(self.x, 0.0))
        if right:
            return slice(zero, int(np.searchsorted(self.x, h, side="right")))
        return slice(int(np.searchsorted(self.x, -h)), zero)


def _one_side(data: _Ranked, right: bool, h: float, order: int, term: int, kernel: str) -> tuple[float, float]:
    """Return a derivative of the distribution function at the cutoff, coefficient of x^term, and its variance.

    Notes
    -----
    A polynomial of `order` is fitted to the empirical distribution function; leave-one-out influences give the variance
    (Cattaneo, Jansson & Ma 2020, doi:10.1080/01621459.2019.1635480).
    """
    used = data.near(right, h)
    u = data.x[used] / h
    weights = kernel_weights(data.x[used], h, kernel)
    design = powers_of(u, order)
    if np.count_nonzero(np.diff(u[weights > 0])) < order + 1:
        raise FewNearCutoffError(
            f"too few distinct values within {h:.4g} on one side of the cutoff to estimate a density there; "
            "deliver more rows near the cutoff"
        )
    q, r = np.linalg.qr(design * np.sqrt(weights)[:, None])
    row = np.linalg.solve(r, q.T)[term] * np.sqrt(weights) / h**term
    n = len(data.x)
    tail = np.cumsum(row[::-1])[::-1]
    influence = (tail[data.first[used] - used.start] - row) / (n - 1)
    return float(row @ data.cdf[used]), float(influence @ influence)


@cache
def _kernel_constants(order: int, term: int, kernel: str) -> tuple[float, float]:
    """Return bias and variance constant of the coefficient `term` on [0, 1], by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t, w = (nodes + 1) / 2, weights / 2
    design = t[:, None] ** np.arange(order + 1)
    mass = w * kernel_weights(t, 1.0, kernel)
    row = np.linalg.solve(design.T @ (mass[:, None] * design), design.T * mass)[term]
    bias = float(row @ t ** (order + 1))
    powers = np.linalg.solve(design.T @ (mass[:, None] * design), np.eye(order + 1))[term]
    # The variance is the integral of the squared tail of row(t) = K(t) sum of powers t^j.
    inner = (1 - t)[:, None] * t[None, :] + t[:, None]
    values = kernel_weights(inner.ravel(), 1.0, kernel).reshape(inner.shape) * np.polyval(powers[::-1], inner)
    tails = (1 - t) * (values @ w)
    return bias, float(w @ tails**2)


def _hermite(order: int, z: float) -> float:
    return float(np.polynomial.hermite_e.hermeval(z, [0] * order + [1]))


def _bandwidths(data: _Ranked, order: int, kernel: str) -> tuple[float, float]:
    x, n = data.x, len(data.x)
    sigma = float(x.std(ddof=1))
    z = -float(x.mean()) / sigma
    normal = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def pilot(degree: int, term: int, moment: int, rate: float, power: int) -> float:
        bias, variance = _kernel_constants(degree, term, "uniform")
        curve = max(_hermite(moment, z) ** 2 * normal, 1e-300)
        constant = variance * math.factorial(moment + 1) ** 2 / bias**2
        found = sigma * (rate * constant / curve / n) ** (1 / power)
        return float(min(found, 3 * np.abs(x).max()))

    distances = (np.abs(x[x < 0])[::-1], x[x >= 0])
    wide = _at_least(pilot(order + 2, order + 1, order + 2, (2 * order + 1) / 4, 2 * order + 5), distances, order + 3)
    near = _at_least(pilot(order, 1, order, 1 / (2 * order), 2 * order + 1), distances, order + 1)
    constant = _kernel_constants(order, 1, kernel)[0]
    bias, variance = [], []
    for right in (False, True):
        slope = _one_side(data, right, wide, order + 2, order + 1, kernel)[0]
        bias.append(slope * constant * (1 if right else (-1) ** order))
        variance.append(near * _one_side(data, right, near, order, 1, kernel)[1])

    def best(noise: float, squared: float, sides: tuple[np.ndarray, ...]) -> float:
        found = (noise / (2 * order * squared)) ** (1 / (2 * order + 1)) if squared > 0 else math.inf
        return _at_least(min(found, max(own[-1] for own in sides)), sides, order + 1)

    both = [
        best(sum(variance), (bias[1] - bias[0]) ** 2, distances),
        best(sum(variance), (bias[1] + bias[0]) ** 2, distances),
    ]
    h = [sorted([best(variance[k], bias[k] ** 2, (distances[k],)), *both])[1] for k in (0, 1)]
    return h[0], h[1]


def _at_least(h: float, sides: tuple[np.ndarray, ...], extra: int) -> float:
    """Return h, widened until each side has 20 + `extra` rows and as many distinct values, if it has them at all."""
    for own in sides:
        distinct = own[np.append(True, np.diff(own) > 0)]
        h = max(
            h, float(own[min(_LEAST + extra, len(own)) - 1]), float(distinct[min(_LEAST + extra, len(distinct)) - 1])
        )
    return h


def density_test(
    x: np.ndarray,
    order: int = 2,
    kernel: str = "triangular",
    bandwidths: tuple[float, float] | None = None,
    mass_points: bool = True,
    *,
    test_order: int | None = None,
) -> DensityTest:
    """Test that the density of the running variable is continuous at the cutoff.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Running variable minus the cutoff.
    order : int
        The bandwidths are best for a polynomial of this order, and the test uses the next one, so that bias is small.
    test_order : int, optional
        Order of the test's polynomial instead of the next one.
    bandwidths : (float, float), optional
        Left and right; chosen from the data if not given.

    Raises
    ------
    FewNearCutoffError
        If a side has too few distinct values near the cutoff.

    References
    ----------
    Cattaneo, Jansson & Ma (2020, doi:10.1080/01621459.2019.1635480).
    """
    from scipy.special import ndtr

    if min((x < 0).sum(), (x >= 0).sum()) < order + 4:
        raise FewNearCutoffError(
            f"one side of the cutoff has {int(min((x < 0).sum(), (x >= 0).sum()))} rows, too few for a density; "
            "deliver rows on both sides of the cutoff"
        )
    data, degree = _Ranked.of(x, mass_points), order + 1 if test_order is None else test_order
    h_left, h_right = bandwidths or _bandwidths(data, order, kernel)
    left, noise_left = _one_side(data, False, h_left, degree, 1, kernel)
    right, noise_right = _one_side(data, True, h_right, degree, 1, kernel)
    statistic = (right - left) / math.sqrt(max(noise_left + noise_right, 1e-300))
    errors = math.sqrt(noise_left), math.sqrt(noise_right)
    return DensityTest(statistic, float(2 * ndtr(-abs(statistic))), left, right, h_left, h_right, *errors)
