"""G-estimation: the common effect at which the treatment is unrelated to the outcome without it."""

import numpy as np

from cqox_assets.errors import CqoxError


class NoVariationError(CqoxError):
    """The propensity leaves nothing of the treatment to learn from."""

    code = "no_variation"


def g_estimate(
    outcome: np.ndarray,
    treated: np.ndarray,
    propensity: np.ndarray,
    sampling: np.ndarray,
    model: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[float, np.ndarray]:
    """Return the effect tau with sum w (d - e)(y - tau d) = 0, and its influence function, shape (n,).

    Parameters
    ----------
    outcome, treated, propensity, sampling : ndarray of shape (n,)
        y, d, e = P(d = 1 | x) and sampling weights of mean one.
    model : tuple of ndarray of shape (n, k), optional
        Design of the logit behind e and the influence of each row on its coefficients; without it e is taken as known.

    Raises
    ------
    NoVariationError
        If d - e is zero in every row.

    References
    ----------
    Robins, Mark & Newey (1992, doi:10.2307/2532304).
    """
    left = sampling * (treated - propensity)
    size = float(np.mean(left * treated))
    if abs(size) < 1e-12:
        raise NoVariationError(
            "the propensity equals the treatment in every row, so nothing of it is left to explain the outcome; "
            "leave out the covariate that decides the treatment"
        )
    value = float(np.mean(left * outcome) / size)
    residual = outcome - value * treated
    influence = left * residual / size
    if model is not None:
        design, coefficients = model
        slope = -(sampling * propensity * (1 - propensity) * residual) @ design / len(outcome)
        influence = influence + coefficients @ slope / size
    return value, influence
