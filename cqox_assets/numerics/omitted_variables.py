"""Bias that an omitted variable of a given strength would cause: linear models and cross-fitted estimates."""

import math
from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.linear import fit_linear, with_constant


@dataclass(frozen=True)
class Coefficient:
    """A regression coefficient: estimate and classical standard error in outcome units, residual degrees of freedom."""

    estimate: float
    std_error: float
    df: int

    @property
    def t_value(self) -> float:
        """Estimate over its standard error; infinite where the regression leaves nothing unexplained."""
        if self.std_error == 0:
            return math.copysign(math.inf, self.estimate) if self.estimate else 0.0
        return self.estimate / self.std_error

    @property
    def partial_r2(self) -> float:
        """Share of the residual variance of the outcome that the treatment explains."""
        return 1.0 if math.isinf(self.t_value) else self.t_value**2 / (self.t_value**2 + self.df)

    @property
    def partial_f2(self) -> float:
        """Cohen's partial f^2."""
        return self.t_value**2 / self.df


def fit_coefficient(
    outcome: np.ndarray, treatment: np.ndarray, covariates: np.ndarray, weights: np.ndarray | None = None
) -> Coefficient:
    """Regress the outcome on treatment and covariates by (weighted) least squares.

    Parameters
    ----------
    outcome, treatment : ndarray of shape (n,)
    covariates : ndarray of shape (n, k)
    weights : ndarray of shape (n,), optional
    """
    fit = fit_linear(with_constant(np.column_stack([treatment, covariates])), outcome, weights)
    place = int(np.flatnonzero(fit.kept == 1)[0])
    error = math.sqrt(float(fit.covariance("classical")[place, place]))
    return Coefficient(float(fit.coef[place]), error, fit.df_residual)


def robustness_value(coefficient: Coefficient, q: float = 1.0, alpha: float | None = None) -> float:
    """Return the partial R2 with treatment and outcome alike at which an omitted variable changes the conclusion.

    Parameters
    ----------
    coefficient : Coefficient
    q : float
        Share of the estimate that is explained away.
    alpha : float, optional
        None: the estimate itself is reduced. Else: the effect is no longer significant at this level.

    Notes
    -----
    f = q |t| / sqrt(df), less t*(alpha/2, df - 1) / sqrt(df - 1) with `alpha`; RV = (sqrt(f^4 + 4 f^2) - f^2) / 2,
    in a form that no large f cancels (Cinelli & Hazlett 2020, doi:10.1111/rssb.12348).
    """
    from scipy.special import stdtrit

    f = q * abs(coefficient.t_value) / math.sqrt(coefficient.df)
    if alpha is not None:
        df = coefficient.df - 1
        f -= abs(float(stdtrit(df, alpha / 2))) / math.sqrt(df)
    if f <= 0:
        return 0.0
    return _share(f**2)


@dataclass(frozen=True)
class Bound:
    """The largest partial R2 of a confounder that is `strength` times as strong as a benchmark covariate.

    `r2dz_x` is with the treatment given the covariates, `r2yz_dx` with the outcome given treatment and covariates.
    """

    strength: float
    r2dz_x: float
    r2yz_dx: float


def benchmark_bound(with_treatment: float, with_outcome: float, strength: float) -> Bound | None:
    """Bound a confounder by a benchmark covariate.

    Parameters
    ----------
    with_treatment, with_outcome : float
        Partial R2 of the benchmark with the treatment given the other covariates, and with the outcome given
        treatment and the other covariates.
    strength : float
        How many times as strong as the benchmark the confounder is, for treatment and outcome alike.

    Returns
    -------
    Bound or None
        None where no confounder can be that strong.

    Notes
    -----
    Cinelli & Hazlett (2020), section 4.4; the bound of the outcome is cut at 1.
    """
    if with_treatment >= 1 or with_outcome >= 1:
        return None
    r2dz = strength * with_treatment / (1 - with_treatment)
    shared = strength * with_treatment**2 / ((1 - strength * with_treatment) * (1 - with_treatment))
    if not (r2dz < 1 and 0 <= shared < 1):
        return None
    r2yz = ((math.sqrt(strength) + math.sqrt(shared)) / math.sqrt(1 - shared)) ** 2
    return Bound(strength, r2dz, min(1.0, r2yz * with_outcome / (1 - with_outcome)))


def adjusted(coefficient: Coefficient, r2dz_x: float, r2yz_dx: float) -> tuple[float, float]:
    """Return estimate and standard error had a confounder of these partial R2 been in the model, at its worst.

    Notes
    -----
    |bias| = se sqrt(df r2yz r2dz / (1 - r2dz)); se sqrt((1 - r2yz) / (1 - r2dz) df / (df - 1)). The bias reduces the
    estimate and may turn its sign.
    """
    bias = coefficient.std_error * math.sqrt(coefficient.df * r2yz_dx * r2dz_x / (1 - r2dz_x))
    estimate = math.copysign(abs(coefficient.estimate) - bias, coefficient.estimate)
    if abs(coefficient.estimate) < bias:
        estimate = math.copysign(bias - abs(coefficient.estimate), -coefficient.estimate)
    shrink = math.sqrt((1 - r2yz_dx) / (1 - r2dz_x) * coefficient.df / (coefficient.df - 1))
    return estimate, coefficient.std_error * shrink


def benchmark_strengths(
    outcome: np.ndarray,
    treatment: np.ndarray,
    covariates: np.ndarray,
    columns: list[int],
    weights: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the partial R2 of some covariates with the treatment and with the outcome, each given all the others.

    Parameters
    ----------
    outcome, treatment : ndarray of shape (n,)
    covariates : ndarray of shape (n, k)
    columns : list of int
        Columns of the benchmark, one or a group such as the dummies of one variable.
    weights : ndarray of shape (n,), optional
    """
    others = np.delete(covariates, columns, axis=1)
    full_d, part_d = with_constant(covariates), with_constant(others)
    full_y = with_constant(np.column_stack([treatment, covariates]))
    part_y = with_constant(np.column_stack([treatment, others]))
    pairs = ((full_d, part_d, treatment), (full_y, part_y, outcome))
    found = []
    for full, part, response in pairs:
        left, before = (_squares(design, response, weights) for design in (full, part))
        found.append(max(0.0, 1 - left / before) if before > 0 else 0.0)
    return found[0], found[1]


def _squares(design: np.ndarray, response: np.ndarray, weights: np.ndarray | None) -> float:
    fit = fit_linear(design, response, weights)
    return float(np.sum((1.0 if weights is None else weights) * fit.residuals**2))


def residual_scale(
    outcome: np.ndarray, treated: np.ndarray, propensity: np.ndarray, predicted: tuple[np.ndarray, np.ndarray]
) -> float:
    """Return the product of the outcome's residual deviation and the representer's: the scale of the bias of an ATE.

    Parameters
    ----------
    outcome, treated, propensity : ndarray of shape (n,)
    predicted : (ndarray of shape (n,), ndarray of shape (n,))
        Cross-fitted outcomes without and with treatment.

    Notes
    -----
    S^2 = E(y - g(d, x))^2 E(alpha^2), alpha = d / e - (1 - d) / (1 - e). A confounder that explains a share r of the
    residual outcome and of the representer biases the estimate by at most S r / sqrt(1 - r)
    (Chernozhukov, Cinelli, Newey, Sharma & Syrgkanis 2022, doi:10.3386/w30302).
    """
    variance, size = residual_parts(outcome, treated, propensity, predicted)
    return math.sqrt(variance * size)


def residual_parts(
    outcome: np.ndarray, treated: np.ndarray, propensity: np.ndarray, predicted: tuple[np.ndarray, np.ndarray]
) -> tuple[float, float]:
    """Return E(y - g(d, x))^2 and E(alpha^2), see :func:`residual_scale`."""
    residual = outcome - np.where(treated == 1, predicted[1], predicted[0])
    # E(alpha^2) by its debiased form 2 E(m(alpha)) - E(alpha^2), with m(alpha) = 1/e + 1/(1 - e).
    alpha = treated / propensity - (1 - treated) / (1 - propensity)
    size = 2 * np.mean(1 / propensity + 1 / (1 - propensity)) - np.mean(alpha**2)
    return float(np.mean(residual**2)), float(max(size, 0.0))


def gains(full: tuple[float, float], short: tuple[float, float]) -> tuple[float, float]:
    """Return what a covariate adds to the outcome model and to the representer, as a confounder's strengths.

    Parameters
    ----------
    full, short : (float, float)
        :func:`residual_parts` with and without the covariate.

    Notes
    -----
    (s_short^2 - s^2) / s^2 for the outcome and (a^2 - a_short^2) / a_short^2 for the representer, 0 where noise makes
    them negative (Chernozhukov et al. 2022, section 4; doi:10.3386/w30302).
    """
    outcome = max(0.0, (short[0] - full[0]) / full[0]) if full[0] > 0 else 0.0
    representer = max(0.0, (full[1] - short[1]) / short[1]) if short[1] > 0 else 0.0
    return outcome, representer


def bias_of(scale: float, outcome: float, representer: float) -> float | None:
    """Return the largest bias of a cross-fitted estimate by a confounder of the given strengths; None beyond 1."""
    return None if representer >= 1 else scale * math.sqrt(outcome * representer / (1 - representer))


def robustness_of_scale(distance: float, scale: float) -> float:
    """Return the r at which S r / sqrt(1 - r) reaches a distance from the estimate, between 0 and 1."""
    if distance <= 0:
        return 0.0
    if scale <= 0:
        return 1.0
    return _share((distance / scale) ** 2)


def _share(ratio: float) -> float:
    """Return the r with r^2 / (1 - r) = ratio > 0: (sqrt(ratio^2 + 4 ratio) - ratio) / 2, without its cancellation."""
    return 2 / (1 + math.sqrt(1 + 4 / ratio)) if ratio > 0 else 0.0
