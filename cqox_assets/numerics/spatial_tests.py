"""Tests of spatial dependence: Moran's I and Lagrange multipliers of least squares, and of what a model leaves over."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cqox_assets.numerics.linear import fit_linear
from cqox_assets.numerics.spatial_models import SpatialFit
from cqox_assets.numerics.spatial_traces import solver

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class SpatialTest:
    """A test by name: the statistic, its p-value and degrees of freedom (0: normal after standardising)."""

    name: str
    statistic: float
    p_value: float
    df: int


def least_squares_tests(outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix") -> dict[str, SpatialTest]:
    """Return Moran's I, LM tests of lag and error, each also robust to the other, and both at once, by name.

    Parameters
    ----------
    outcome : ndarray of shape (n,)
    x : ndarray of shape (n, k)
        Of full rank, the constant first.
    matrix : csr_matrix of shape (n, n)

    Notes
    -----
    With e the least-squares residuals, s2 = e'e / n, T = tr(W'W + WW) and D = (Wxb)'M(Wxb) / s2 + T:
    lm_error = (e'We / s2)^2 / T, lm_lag = (e'Wy / s2)^2 / D.

    References
    ----------
    Anselin, Bera, Florax & Yoon (1996, doi:10.1016/0166-0462(95)02111-6); Cliff & Ord (1981).
    """
    n = len(outcome)
    fit = fit_linear(x, outcome, drop_collinear=False)
    e = fit.residuals
    s2 = float(e @ e) / n
    t = _spread(matrix)
    error, lag = float(e @ (matrix @ e)) / s2, float(e @ (matrix @ outcome)) / s2
    basis = np.linalg.qr(x)[0]
    mean = matrix @ (x @ fit.coef)
    mean = mean - basis @ (basis.T @ mean)
    d = float(mean @ mean) / s2 + t
    found = {
        "moran_i": moran(e, x, matrix),
        "lm_error": _chi2("lm_error", error**2 / t),
        "lm_lag": _chi2("lm_lag", lag**2 / d),
    }
    extra = float(mean @ mean) / s2
    if extra > 1e-12 * t:
        found["robust_lm_error"] = _chi2("robust_lm_error", (error - t / d * lag) ** 2 / (t * (1 - t / d)))
        found["robust_lm_lag"] = _chi2("robust_lm_lag", (lag - error) ** 2 / extra)
        both = found["robust_lm_lag"].statistic + found["lm_error"].statistic
        found["lm_both"] = _chi2("lm_both", both, 2)
    return found


def moran(e: np.ndarray, x: np.ndarray, matrix: "csr_matrix") -> SpatialTest:
    """Return Moran's I of least-squares residuals with a normal p-value from its exact mean and variance."""
    from scipy.special import ndtr

    n, k = x.shape
    scale = n / float(matrix.sum())
    index = scale * float(e @ (matrix @ e)) / float(e @ e)
    basis = np.linalg.qr(x)[0]
    right, left = matrix @ basis, matrix.T @ basis
    small = basis.T @ right
    ww, cross = float(matrix.multiply(matrix.T).sum()), float(matrix.multiply(matrix).sum())
    # Traces of M W and its products, M = I - QQ', need Q'W and WQ only.
    first = float(matrix.diagonal().sum()) - float(np.trace(small))
    mwmw = ww - 2 * float(np.sum(left * right)) + float(np.sum(small * small.T))
    mwmwt = cross - float(np.sum(right**2)) - float(np.sum(left**2)) + float(np.sum(small**2))
    mean = scale * first / (n - k)
    variance = scale**2 * (mwmwt + mwmw + first**2) / ((n - k) * (n - k + 2)) - mean**2
    z = (index - mean) / np.sqrt(variance) if variance > 0 else 0.0
    return SpatialTest("moran_i", index, float(2 * ndtr(-abs(z))), 0)


def remaining_dependence(fit: SpatialFit, matrix: "csr_matrix") -> SpatialTest:
    """Return the Lagrange multiplier test that the innovations of a lag (or SLX) model are not correlated in space.

    Notes
    -----
    e'We / s2 has variance T, less (maximum likelihood) or plus (two stages) g^2 var(rho), g = tr((W + W') G), because
    rho is estimated.

    References
    ----------
    Anselin & Bera (1998); Anselin & Kelejian (1997, doi:10.1177/016001769702000109).
    """
    e = fit.innovations
    statistic = float(e @ (matrix @ e)) / fit.sigma2
    variance = _spread(matrix)
    if fit.model == "lag" and fit.traces is not None:
        g = fit.traces.coupling
        variance += (1 if fit.form == "2sls" else -1) * g**2 * float(fit.covariance[-1, -1])
    return _chi2("remaining_error", statistic**2 / max(variance, 1e-300))


def hausman(outcome: np.ndarray, x: np.ndarray, fit: SpatialFit, matrix: "csr_matrix") -> SpatialTest:
    """Return the test that an error model and least squares agree on the slopes, as they do if it is right.

    References
    ----------
    Pace & LeSage (2008, doi:10.1016/j.econlet.2008.09.003).
    """
    from scipy.special import chdtrc

    plain = fit_linear(x, outcome, drop_collinear=False)
    turned = solver(matrix.T.tocsr(), fit.rate)(x)
    wide = plain.bread @ (turned.T @ turned) @ plain.bread * fit.sigma2
    gap = (plain.coef - fit.coef)[1:]
    scale = 1 / np.sqrt(np.maximum(np.diag(wide)[1:], 1e-300))
    excess = (wide - fit.covariance[:-1, :-1])[1:, 1:] * np.outer(scale, scale)
    values, axes = np.linalg.eigh(excess)
    large = values > 1e-8 * max(float(values.max(initial=0.0)), 1e-12)
    if not large.any():
        return SpatialTest("hausman", 0.0, 1.0, 0)
    turned_gap = axes[:, large].T @ (gap * scale)
    statistic = float(np.sum(turned_gap**2 / values[large]))
    return SpatialTest("hausman", statistic, float(chdtrc(int(large.sum()), statistic)), int(large.sum()))


def _spread(matrix: "csr_matrix") -> float:
    """Return tr(W'W + WW)."""
    return float(matrix.multiply(matrix).sum() + matrix.multiply(matrix.T).sum())


def _chi2(name: str, statistic: float, df: int = 1) -> SpatialTest:
    from scipy.special import chdtrc

    return SpatialTest(name, statistic, float(chdtrc(df, statistic)), df)
