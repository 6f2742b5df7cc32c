"""The generalised propensity score of Hirano & Imbens: its fit, the curve, and their joint influence."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.dose import DoseData
from cqox_assets.numerics.linear import LinearFit, fit_linear, with_constant
from cqox_assets.numerics.sample import TooFewRowsError

TERMS = ("const", "dose", "dose^2", "gps", "gps^2", "dose*gps")
_DOSE, _SQUARE, _GPS, _GPS_SQUARE, _PRODUCT = range(1, 6)


@dataclass(frozen=True)
class GpsFit:
    """A normal model of the dose given covariates.

    Parameters
    ----------
    fit : LinearFit
        Least squares of the dose, on its working scale, on a constant and the covariates.
    mean : ndarray of shape (n,)
        Predicted dose on the working scale.
    variance : float
    influence : ndarray of shape (n, k + 1)
        Influence of each row on the coefficients and, last, on the variance.
    """

    fit: LinearFit
    mean: np.ndarray
    variance: float
    influence: np.ndarray

    def density(self, place: float | np.ndarray) -> np.ndarray:
        """Return r(place, x_i), the normal density of the working scale without a Jacobian, shape (n,)."""
        gap = place - self.mean
        return np.asarray(np.exp(-0.5 * gap**2 / self.variance) / np.sqrt(2 * np.pi * self.variance))

    def density_slope(self, place: float | np.ndarray, multiplier: np.ndarray) -> np.ndarray:
        """Return the mean of multiplier times the derivative of the density in coefficients and variance."""
        gap = place - self.mean
        inner = multiplier * self.density(place)
        in_mean = self.fit.design.T @ (inner * gap) / self.variance
        in_variance = float(np.sum(inner * (gap**2 / self.variance - 1))) / (2 * self.variance)
        return np.append(in_mean, in_variance) / len(gap)


@dataclass(frozen=True)
class GpsCurve:
    """Mean outcomes at given doses, shape (m,), their influence, shape (n, m), and the outcome model's coefficients.

    `coef` and `std_error` follow `TERMS`; a term that is a linear combination of earlier ones has 0 and no error.
    """

    estimate: np.ndarray
    influence: np.ndarray
    coef: np.ndarray
    std_error: np.ndarray


def fit_gps(data: DoseData, variance: str = "rss_over_n") -> GpsFit:
    """Fit the normal model of the dose.

    Parameters
    ----------
    data : DoseData
    variance : str
        `rss_over_n`, or `rss_over_n_minus_k` with the residual degrees of freedom.

    Raises
    ------
    TooFewRowsError
        If there are no more rows than coefficients.
    """
    design, rows = with_constant(data.x), int((data.sampling > 0).sum())
    fit = fit_linear(design, data.place, data.weight)
    if rows <= len(fit.coef):
        raise TooFewRowsError(
            f"{rows} rows for {len(fit.coef)} coefficients of the dose model; "
            "map fewer covariates or deliver more rows than columns"
        )
    e, w = fit.residuals, fit.weights
    factor = rows / (rows - len(fit.coef)) if variance == "rss_over_n_minus_k" else 1.0
    value = float(w @ e**2 / w.sum()) * factor
    spread = w * (e**2 * factor - value) / w.mean()
    return GpsFit(fit, data.place - e, value, np.column_stack([fit.influence(), spread]))


def gps_curve(data: DoseData, gps: GpsFit, doses: np.ndarray) -> GpsCurve:
    """Return the dose-response curve of the quadratic outcome model.

    Parameters
    ----------
    data : DoseData
    gps : GpsFit
    doses : ndarray of shape (m,)
        In units of the dose.

    Notes
    -----
    With r_i = r(t_i, x_i): y ~ 1 + t + t^2 + r + r^2 + t r, by (weighted) least squares; the curve at t is the mean
    over units of its prediction at (t, r(t, x_i)) (Hirano & Imbens 2004, doi:10.1002/0470090456.ch7). The influence is
    that of the stacked estimating equations of dose model, variance, outcome model and curve, so that standard errors
    count the estimated score.
    """
    unit = float(np.abs(data.dose).max()) or 1.0  # columns of similar size; fitted values do not depend on it
    t, r, y, w = data.dose / unit, gps.density(data.place), data.y, data.sampling
    columns = _columns(t, r)
    fit = fit_linear(columns, y, data.weight)
    coef = np.zeros(len(TERMS))
    coef[fit.kept] = fit.coef
    steep = coef[_GPS] + 2 * coef[_GPS_SQUARE] * r + coef[_PRODUCT] * t
    rest = fit.residuals
    crossed = []
    for j in fit.kept:  # mean derivative of the outcome model's scores in the parameters of the dose model
        slope = np.ones(len(r)) if j == _GPS else 2 * r if j == _GPS_SQUARE else t if j == _PRODUCT else 0.0
        crossed.append(gps.density_slope(data.place, w * (slope * rest - columns[:, j] * steep)))
    bread = fit.bread * len(y)
    outcome_influence = fit.influence() + gps.influence @ np.stack(crossed).T @ bread
    total = w.mean()
    estimate, influence = np.empty(len(doses)), np.empty((len(y), len(doses)))
    for m, dose in enumerate(doses):
        at, place = float(dose) / unit, data.scale.place(np.array([dose]))[0]
        own = gps.density(place)
        moved = _columns(np.full(len(y), at), own)
        predicted = moved @ coef
        estimate[m] = w @ predicted / w.sum()
        gradient = (w @ moved)[fit.kept] / w.sum()
        steep_here = coef[_GPS] + 2 * coef[_GPS_SQUARE] * own + coef[_PRODUCT] * at
        through = gps.density_slope(place, w * steep_here) / total
        influence[:, m] = w * (predicted - estimate[m]) / total
        influence[:, m] += outcome_influence @ gradient + gps.influence @ through
    scale = unit ** -np.array([0.0, 1.0, 2.0, 0.0, 0.0, 1.0])
    error = np.zeros(len(TERMS))
    error[fit.kept] = np.sqrt(np.mean(outcome_influence**2, axis=0) / len(y))
    return GpsCurve(estimate, influence, coef * scale, error * scale)


def _columns(t: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(t)), t, t**2, r, r**2, t * r])
