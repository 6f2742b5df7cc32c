"""Probit regression by Fisher scoring, in the form that the covariance estimators of linear models expect."""

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import LinearFit, independent_columns
from cqox_assets.numerics.logit import SeparationError

_FURTHEST = 30.0


class NotBinaryError(CqoxError):
    """A probit was asked for an outcome that is not 0 and 1."""

    code = "outcome_not_binary"


def fit_probit(
    design: np.ndarray, outcome: np.ndarray, weights: np.ndarray | None = None, *, iterations: int = 50
) -> LinearFit:
    """Fit P(y = 1 | x) = Phi(x'b) by maximum likelihood.

    Parameters
    ----------
    design : ndarray of shape (n, k)
        Includes the constant; columns that are linear combinations of earlier ones are left out.
    outcome : ndarray of shape (n,)
        0 or 1.
    weights : ndarray of shape (n,), optional

    Returns
    -------
    LinearFit
        `residuals` are generalised residuals, so that design * weights * residuals are the scores, and `bread` is
        the inverse expected information: its covariances HC0, HC1, CR0 and CR1 are the sandwiches of the probit.

    Raises
    ------
    NotBinaryError
        If the outcome holds another value than 0 and 1.
    SeparationError
        If the likelihood has no maximum.
    """
    wrong = outcome[~np.isin(outcome, (0.0, 1.0))]
    if len(wrong):
        raise NotBinaryError(f"the outcome holds {wrong[0]:g}, a probit needs 0 and 1; use outcome_model ols")
    weight = np.ones(len(outcome)) if weights is None else weights
    kept = independent_columns(design)
    x = np.ascontiguousarray(design[:, kept])
    scale = np.where(x.std(0) > 0, x.std(0), np.abs(x).max(0) + (np.abs(x).max(0) == 0))
    z, coef = x / scale, np.zeros(x.shape[1])
    for _ in range(iterations):
        residual, information = _parts(z, outcome, weight, coef)
        step = np.linalg.lstsq(information, z.T @ (weight * residual), rcond=1e-13)[0]
        coef = coef + step * min(1.0, 4.0 / max(np.abs(z @ step).max(), 1e-12))
        if np.abs(z @ coef).max() > _FURTHEST:
            break
        if np.abs(step).max() < 1e-11 * max(1.0, np.abs(coef).max()):
            break
    residual, information = _parts(z, outcome, weight, coef)
    far = np.abs(z @ coef)[weight > 0]
    if far.max() > _FURTHEST or np.linalg.cond(information) > 1e14:
        raise SeparationError(
            "the mediator, treatment and covariates tell the two outcomes apart perfectly, so a probit has no finite "
            "fit; leave out the covariate that decides the outcome, or use outcome_model ols"
        )
    bread = np.linalg.inv(information) / np.outer(scale, scale)
    return LinearFit(coef / scale, bread, x, residual, weight, kept)


def _parts(z: np.ndarray, outcome: np.ndarray, weight: np.ndarray, coef: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return generalised residuals and the expected information."""
    from scipy.special import log_ndtr

    linear = z @ coef
    log_density = -0.5 * linear**2 - 0.5 * np.log(2 * np.pi)
    above, below = np.exp(log_density - log_ndtr(linear)), np.exp(log_density - log_ndtr(-linear))
    residual = np.where(outcome == 1, above, -below)
    return residual, (z * (weight * above * below)[:, None]).T @ z
