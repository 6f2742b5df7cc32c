"""Regressions whose outcome or noise depends on neighbours: maximum likelihood, two stages and moments.

y outcome (n,), x regressors with the constant first (n, k), W neighbours (n, n), A = (I - r W)^-1, G = W A.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import fit_linear, independent_columns
from cqox_assets.numerics.spatial_traces import (
    EDGE,
    Determinant,
    Traces,
    determinant_near,
    log_determinant,
    series_determinant,
    solver,
    traces_of,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_SERIES_BEYOND = 1_000
_EXACT_BELOW = 50_000
_ROUNDING = 1e-20


class SpatialError(CqoxError):
    """A spatial model cannot be fitted to these data; `code` says why."""

    code = "no_spatial_model"


@dataclass(frozen=True)
class SpatialFit:
    """A fitted spatial regression.

    Parameters
    ----------
    model, form : str
        `lag`, `error` or `slx`; `ml`, `2sls`, `gm` or `ols`.
    coef : ndarray of shape (k,)
    rate : float
        rho of the lag, lambda of the error, 0 of `slx`.
    covariance : ndarray of shape (k + 1, k + 1)
        Of the coefficients and the rate.
    innovations : ndarray of shape (n,)
        What is left when the dependence is taken out.
    sigma2 : float
        Innovations' mean square.
    log_likelihood : float or None
    traces : Traces or None
        At the rate of a lag model.
    rate_known : bool
        Whether the rate has a standard error.
    strength : float or None
        F of the instruments of a two-stage fit.
    """

    model: str
    form: str
    coef: np.ndarray
    rate: float
    covariance: np.ndarray
    innovations: np.ndarray
    sigma2: float
    log_likelihood: float | None = None
    traces: Traces | None = None
    rate_known: bool = True
    strength: float | None = None


@dataclass(frozen=True)
class Profile:
    """Sum of squares of the innovations as a function of the rate, and its derivative."""

    n: int
    value: Callable[[float], float]
    slope: Callable[[float], float]


def maximise(profile: Profile, matrix: "csr_matrix", known: Determinant | None = None) -> tuple[float, float]:
    """Return the rate in (-1, 1) that maximises -n/2 ln(ee / n) + ln |I - r W|, and that log-determinant.

    The score is solved on a window in which the log-determinant is a polynomial through its exact values; beyond 50,000
    rows its series by probes is maximised.

    Parameters
    ----------
    profile : Profile
    matrix : csr_matrix of shape (n, n)
    known : Determinant, optional
        A window that is used as it is; the rate is held at its ends.
    """
    from scipy.optimize import brentq, minimize_scalar

    if known is not None:
        return _solved(profile, known, brentq)
    large = matrix.shape[0] > _SERIES_BEYOND
    rough: Callable[[float], float] = (
        series_determinant(matrix) if large else lambda rate: log_determinant(matrix, rate)
    )

    def loss(rate: float) -> float:
        return float(0.5 * profile.n * np.log(profile.value(rate)) - rough(rate))

    found = minimize_scalar(loss, bounds=(-EDGE, EDGE), method="bounded", options={"xatol": 1e-8 if large else 1e-4})
    centre = float(found.x)
    if matrix.shape[0] > _EXACT_BELOW:
        return centre, rough(centre)
    for _ in range(60):
        # The larger the map, the closer the start, and the fewer exact values are needed around it.
        half = min(0.002 if large else 0.02, 0.2 * (1 - abs(centre)) + 1e-4)
        window = determinant_near(matrix, centre, half, 3 if large else 5)
        rate, value = _solved(profile, window, brentq)
        if window.low < rate < window.high or not -EDGE < rate < EDGE:
            return rate, value
        centre = rate
    raise SpatialError(
        "the likelihood has no maximum inside (-1, 1); use form 2sls or gm, or another rule for neighbours",
        code="no_maximum",
    )


def _solved(profile: Profile, window: Determinant, brentq: Callable[..., float]) -> tuple[float, float]:
    def score(rate: float) -> float:
        return -0.5 * profile.n * profile.slope(rate) / profile.value(rate) + window.slope(rate)

    low, high = window.low, window.high
    if score(low) <= 0:
        return low, window(low)
    if score(high) >= 0:
        return high, window(high)
    rate = float(brentq(score, low, high, xtol=1e-13, rtol=1e-13))
    return rate, window(rate)


def check_fit(outcome: np.ndarray, residuals: np.ndarray) -> None:
    """Refuse an outcome that the regressors restate, which leaves no noise to model."""
    spread = outcome - outcome.mean()
    if float(residuals @ residuals) <= _ROUNDING * float(spread @ spread):
        raise SpatialError(
            "the regressors restate the outcome without error, so there is no dependence to model; "
            "leave out the column that restates it",
            code="perfect_fit",
        )


def lag_profile(outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix") -> Profile:
    """Return the profile of y = r W y + x b + e: both sides less their projection on x."""
    basis = np.linalg.qr(x)[0]
    both = np.column_stack([outcome, matrix @ outcome])
    left = both - basis @ (basis.T @ both)
    (a, b), (_, c) = (left.T @ left).tolist()
    return Profile(len(outcome), lambda r: max(a - 2 * r * b + r * r * c, 1e-300), lambda r: 2 * (r * c - b))


def fit_lag_ml(
    outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix", known: Determinant | None = None, *, brief: bool = False
) -> SpatialFit:
    """Fit y = rho W y + x b + e by maximum likelihood; the covariance is the inverse expected information.

    Parameters
    ----------
    known : Determinant, optional
        Log-determinant on a window, if it is already known.
    brief : bool
        Leave out covariance and traces, as in a bootstrap.

    References
    ----------
    Ord (1975, doi:10.1080/01621459.1975.10480272).
    """
    rate, log_det = maximise(lag_profile(outcome, x, matrix), matrix, known)
    target = outcome - rate * (matrix @ outcome)
    fit = fit_linear(x, target, drop_collinear=False)
    n, k = x.shape
    sigma2 = float(fit.residuals @ fit.residuals) / n
    if brief:
        return SpatialFit("lag", "ml", fit.coef, rate, np.zeros((k + 1, k + 1)), fit.residuals, sigma2)
    solve = solver(matrix, rate)
    traces = traces_of(matrix, rate, solve)
    mean = matrix @ solve(x @ fit.coef)
    information = np.zeros((k + 2, k + 2))
    information[:k, :k] = x.T @ x / sigma2
    information[:k, k] = information[k, :k] = x.T @ mean / sigma2
    information[k, k] = traces.gg + traces.cross + float(mean @ mean) / sigma2
    information[k, k + 1] = information[k + 1, k] = traces.g / sigma2
    information[k + 1, k + 1] = n / (2 * sigma2**2)
    covariance = _inverse(information)[: k + 1, : k + 1]
    likelihood = _likelihood(n, sigma2, log_det)
    return SpatialFit("lag", "ml", fit.coef, rate, covariance, fit.residuals, sigma2, likelihood, traces)


def fit_lag_two_stage(
    outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix", instruments: np.ndarray, *, brief: bool = False
) -> SpatialFit:
    """Fit y = rho W y + x b + e by two-stage least squares; the covariance is s2 (Z'PZ)^-1 with s2 = e'e / n.

    Parameters
    ----------
    instruments : ndarray of shape (n, q)
        For W y, beside x itself: x of the neighbours.

    References
    ----------
    Kelejian & Prucha (1998, doi:10.1023/A:1007707430416).
    """
    n, k = x.shape
    every = np.column_stack([x, instruments])
    every = every[:, independent_columns(every)]
    if every.shape[1] <= k:
        raise SpatialError(
            "2sls needs regressors that differ from their neighbours' mean; map covariates, or use form ml",
            code="no_instruments",
        )
    lagged = matrix @ outcome
    basis = np.linalg.qr(every)[0]
    fitted = basis @ (basis.T @ lagged)
    second = fit_linear(np.column_stack([x, fitted]), outcome, drop_collinear=False)
    if len(independent_columns(np.column_stack([x, fitted]))) <= k:
        raise SpatialError(
            "neighbours' regressors do not move neighbours' outcomes, so 2sls has no instrument; use form ml",
            code="irrelevant_instrument",
        )
    rate = float(second.coef[-1])
    innovations = outcome - x @ second.coef[:-1] - rate * lagged
    sigma2 = float(innovations @ innovations) / n
    own = np.linalg.qr(x)[0]
    gone, left = lagged - fitted, lagged - own @ (own.T @ lagged)
    moved = float(left @ left) - float(gone @ gone)
    free = n - every.shape[1]
    strength = moved / (every.shape[1] - k) / max(float(gone @ gone) / free, 1e-300) if free > 0 else None
    if not abs(rate) < 1:
        raise SpatialError(
            f"rho is {rate:.3g}, outside of (-1, 1), so effects would not settle; use form ml, or another rule for "
            "neighbours",
            code="unstable_lag",
        )
    traces = None if brief else traces_of(matrix, rate)
    return SpatialFit(
        "lag", "2sls", second.coef[:-1], rate, second.bread * sigma2, innovations, sigma2, None, traces,
        strength=strength,
    )  # fmt: skip


def error_profile(outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix") -> Profile:
    """Return the profile of y = x b + u, u = r W u + e, from a triangular factor of x, W x, y and W y."""
    k = x.shape[1]
    factor = np.asarray(np.linalg.qr(np.column_stack([x, outcome, matrix @ x, matrix @ outcome]), mode="r"))
    xs, ys, wx, wy = factor[:, :k], factor[:, k], factor[:, k + 1 : 2 * k + 1], factor[:, -1]

    def parts(rate: float) -> tuple[np.ndarray, np.ndarray]:
        coef = np.linalg.lstsq(xs - rate * wx, ys - rate * wy, rcond=None)[0]
        lagged = wy - wx @ coef
        return ys - xs @ coef - rate * lagged, lagged

    def value(rate: float) -> float:
        left = parts(rate)[0]
        return max(float(left @ left), 1e-300)

    def slope(rate: float) -> float:
        left, lagged = parts(rate)
        return -2 * float(left @ lagged)

    return Profile(len(outcome), value, slope)


def fit_error_ml(
    outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix", known: Determinant | None = None, *, brief: bool = False
) -> SpatialFit:
    """Fit y = x b + u, u = lambda W u + e by maximum likelihood; the covariance is the inverse expected information."""
    rate, log_det = maximise(error_profile(outcome, x, matrix), matrix, known)
    found = _filtered(outcome, x, matrix, rate, "ml")
    if brief:
        return found
    (n, k), traces, sigma2 = x.shape, traces_of(matrix, rate), found.sigma2
    block = np.array([[traces.gg + traces.cross, traces.g / sigma2], [traces.g / sigma2, n / (2 * sigma2**2)]])
    covariance = found.covariance.copy()
    covariance[k, k] = _inverse(block)[0, 0]
    return SpatialFit(
        "error", "ml", found.coef, rate, covariance, found.innovations, sigma2, _likelihood(n, sigma2, log_det)
    )


def fit_error_gm(outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix") -> SpatialFit:
    """Fit y = x b + u, u = lambda W u + e by three moments of the least-squares residuals, then weighted least squares.

    Notes
    -----
    E[e'e] / n = s2, E[(We)'(We)] / n = s2 tr(W'W) / n, E[e'We] = 0 with e = u - lambda W u; lambda and s2 minimise the
    sum of squares of the moments. lambda has no standard error here, and none is needed for b.

    References
    ----------
    Kelejian & Prucha (1999, doi:10.1111/1468-2354.00027).
    """
    n = len(outcome)
    u = fit_linear(x, outcome, drop_collinear=False).residuals
    scale = float(np.sqrt(u @ u / n))
    u = u / scale
    w = matrix @ u
    ww = matrix @ w
    spread = float(matrix.multiply(matrix).sum())
    left = np.array(
        [[2 * u @ w, -w @ w, n], [2 * w @ ww, -ww @ ww, spread], [u @ ww + w @ w, -w @ ww, 0.0]]
    ) / n  # fmt: skip
    right = np.array([u @ u, w @ w, u @ w]) / n
    # s2 is linear in the moments: taken out, a polynomial of degree four in lambda is left.
    direction = left[:, 2] / np.linalg.norm(left[:, 2])
    clear = np.eye(3) - np.outer(direction, direction)
    constant, linear, square = -clear @ right, clear @ left[:, 0], clear @ left[:, 1]
    terms = [square @ square, 2 * linear @ square, linear @ linear + 2 * constant @ square, 2 * constant @ linear,
             constant @ constant]  # fmt: skip
    roots = np.roots(np.polyder(np.array(terms)))
    real = np.clip(roots[np.abs(roots.imag) < 1e-8].real, -EDGE, EDGE)
    rate = float(min(real, key=lambda value: np.polyval(terms, value))) if len(real) else 0.0
    return _filtered(outcome, x, matrix, rate, "gm")


def _filtered(outcome: np.ndarray, x: np.ndarray, matrix: "csr_matrix", rate: float, form: str) -> SpatialFit:
    """Return least squares of what is left of y and x when the rate times their neighbours is taken away."""
    n, k = x.shape
    fit = fit_linear(x - rate * (matrix @ x), outcome - rate * (matrix @ outcome), drop_collinear=False)
    sigma2 = float(fit.residuals @ fit.residuals) / n
    covariance = np.zeros((k + 1, k + 1))
    covariance[:k, :k] = fit.bread * sigma2
    return SpatialFit("error", form, fit.coef, rate, covariance, fit.residuals, sigma2, rate_known=form == "ml")


def fit_slx(outcome: np.ndarray, x: np.ndarray) -> SpatialFit:
    """Fit y = x b + e by least squares, x holding the neighbours' regressors as well; the covariance is HC1."""
    fit = fit_linear(x, outcome, drop_collinear=False)
    k = x.shape[1]
    covariance = np.zeros((k + 1, k + 1))
    covariance[:k, :k] = fit.covariance("HC1")
    sigma2 = float(fit.residuals @ fit.residuals) / len(outcome)
    return SpatialFit("slx", "ols", fit.coef, 0.0, covariance, fit.residuals, sigma2, rate_known=False)


def _likelihood(n: int, sigma2: float, log_det: float) -> float:
    return float(-0.5 * n * (np.log(2 * np.pi * sigma2) + 1) + log_det)


def _inverse(information: np.ndarray) -> np.ndarray:
    """Return the inverse of an information matrix, scaled first: its entries may differ by many orders."""
    scale = 1 / np.sqrt(np.maximum(np.diag(information), 1e-300))
    return np.asarray(np.linalg.inv(information * np.outer(scale, scale)) * np.outer(scale, scale))
