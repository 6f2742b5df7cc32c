"""Points and influence functions of weighted, augmented and partialled-out contrasts of two arms."""

import numpy as np

from cqox_assets.numerics.linear import LinearFit
from cqox_assets.numerics.logit import LogitFit


def balancing_weights(d: np.ndarray, e: np.ndarray, estimand: str) -> tuple[np.ndarray, np.ndarray]:
    """Return weights that give both arms the target's covariates, and their slope in logit(e), shape (n,) each.

    Parameters
    ----------
    d : ndarray of shape (n,)
        1 in the compared arm, 0 in the reference arm.
    e : ndarray of shape (n,)
        P(d = 1 | x).
    estimand : str
        ATE: 1/e and 1/(1-e). ATT: 1 and e/(1-e). ATO: 1-e and e (Li, Morgan & Zaslavsky 2018,
        doi:10.1080/01621459.2016.1260466).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = e / (1 - e)
        if estimand == "ATE":
            return np.where(d == 1, 1 / e, 1 / (1 - e)), np.where(d == 1, -1 / odds, odds)
        if estimand == "ATT":
            return np.where(d == 1, 1.0, odds), np.where(d == 1, 0.0, odds)
    both = e * (1 - e)
    return np.where(d == 1, 1 - e, e), np.where(d == 1, -both, both)


def hajek_contrast(
    y: np.ndarray, d: np.ndarray, weight: np.ndarray, slope: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Difference of weighted means.

    Parameters
    ----------
    y, d : ndarray of shape (n,)
    weight, slope : ndarray of shape (n,)
        Weights (sampling weights inside) and their derivative in the linear predictor of the propensity.

    Returns
    -------
    float
    ndarray of shape (n,)
        Influence with the weights as known.
    ndarray of shape (n,)
        Multiplier m such that the contrast's derivative in the propensity's coefficients is mean(m x).
    """
    n, one = len(y), d == 1
    result, influence, multiplier = 0.0, np.zeros(n), np.zeros(n)
    for rows, sign in ((one, 1.0), (~one, -1.0)):
        total = weight[rows].sum()
        mean = float(weight[rows] @ y[rows] / total)
        result += sign * mean
        influence[rows] = sign * n * weight[rows] * (y[rows] - mean) / total
        multiplier[rows] = sign * n * slope[rows] * (y[rows] - mean) / total
    return result, influence, multiplier


def horvitz_thompson_contrast(
    y: np.ndarray,
    d: np.ndarray,
    e: np.ndarray,
    weight: np.ndarray,
    slope: np.ndarray,
    sampling: np.ndarray,
    estimand: str,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Weighted sum over the size of the target population; arguments and returns as in :func:`hajek_contrast`.

    The size is the sum of h over rows, h = 1 (ATE), d (ATT) or e(1-e) (ATO), with sampling weights.
    """
    sign = np.where(d == 1, 1.0, -1.0)
    tilt = {"ATE": np.ones(len(y)), "ATT": d}.get(estimand, e * (1 - e)) * sampling
    tilt_slope = sampling * e * (1 - e) * (1 - 2 * e) if estimand == "ATO" else np.zeros(len(y))
    size = tilt.mean()
    result = float((sign * weight * y).mean() / size)
    return result, (sign * weight * y - tilt * result) / size, (sign * slope * y - tilt_slope * result) / size


def augmented_contrast(
    y: np.ndarray,
    d: np.ndarray,
    e: np.ndarray,
    m0: np.ndarray,
    m1: np.ndarray,
    sampling: np.ndarray,
    estimand: str,
) -> tuple[float, np.ndarray]:
    """Doubly robust contrast and its influence function, shape (n,).

    Parameters
    ----------
    y, d, e, m0, m1, sampling : ndarray of shape (n,)
        Outcome, arm, propensity, predicted outcomes of the two arms, sampling weights.
    estimand : str
        ATE or ATT.

    Notes
    -----
    ATE: mean of m1 - m0 + d (y-m1)/e - (1-d)(y-m0)/(1-e). ATT: sum of d (y-m0) - (1-d) e/(1-e) (y-m0) over the
    number of treated (Robins, Rotnitzky & Zhao 1994, doi:10.1080/01621459.1994.10476818).
    """
    odds = np.where(d == 1, 0.0, e / np.where(d == 1, 1.0, 1 - e))
    if estimand == "ATT":
        score, size = d * (y - m0) - odds * (y - m0), d
    else:
        score = m1 - m0 + np.where(d == 1, (y - m1) / np.where(d == 1, e, 1.0), -(y - m0) * (1 + odds))
        size = np.ones(len(y))
    total = float((sampling * size).mean())
    result = float((sampling * score).mean() / total)
    return result, sampling * (score - size * result) / total


def augmented_correction(
    outcomes: tuple[LinearFit, LinearFit], propensity: LogitFit | None, arms: tuple[np.ndarray, np.ndarray],
    design: np.ndarray, weight: np.ndarray, slope: np.ndarray, sampling: np.ndarray, estimand: str,
) -> np.ndarray:  # fmt: skip
    """Return what estimating the models adds to the influence of an augmented contrast, shape (n,).

    Parameters
    ----------
    outcomes : (LinearFit, LinearFit)
        Least squares in the reference and in the compared arm.
    propensity : LogitFit or None
        On all rows; None where the propensity is known.
    arms : (ndarray of bool, ndarray of bool), shape (n,) each
        Rows of the reference and of the compared arm.
    design : ndarray of shape (n, k)
        Of the outcome models.
    weight, slope : ndarray of shape (n,)
        As :func:`balancing_weights` returns them; a slope of 0 where the propensity does not move.
    sampling : ndarray of shape (n,)
    estimand : str
        ATE or ATT.

    Notes
    -----
    The derivative of the mean score in each model's coefficients times their influence: the stacked equations of
    models and contrast (Stefanski & Boos 2002, doi:10.1198/000313002753631330). It vanishes in large samples where both
    models are right.
    """
    n, one = len(design), arms[1]
    size = sampling * one if estimand == "ATT" else sampling
    correction, multiplier = np.zeros(n), np.zeros(n)
    for arm, fit, sign in ((0, outcomes[0], -1.0), (1, outcomes[1], 1.0)):
        rows = arms[arm]
        # The score holds the arm's prediction for the target, and loses it for the weighted rows of the arm.
        target = one * 1.0 if estimand == "ATT" else np.ones(n)
        held = sign * (target - weight * rows) * sampling / size.mean()
        gradient = held @ design[:, fit.kept] / n
        correction[rows] += fit.influence(gradient) * n / rows.sum()
        multiplier[rows] = sign * (slope * sampling)[rows] * fit.residuals / size.mean()
    if propensity is None:
        return correction
    return np.asarray(correction + propensity.influence(multiplier @ propensity.design / n))


def partialled_out(u: np.ndarray, v: np.ndarray, sampling: np.ndarray) -> tuple[float, np.ndarray]:
    """Coefficient of outcome residuals u on treatment residuals v without a constant, and its influence function.

    Robinson (1988, doi:10.2307/1912705); the score is orthogonal to the residuals' regressions (Chernozhukov et al.
    2018, doi:10.1111/ectj.12097).
    """
    size = float((sampling * v * v).mean())
    result = float((sampling * v * u).mean() / size)
    return result, sampling * v * (u - v * result) / size


def inside_support(e: np.ndarray, trim: float | None, rule: str) -> np.ndarray:
    """Return which rows stay after trimming, shape (n,) of bool.

    Parameters
    ----------
    e : ndarray of shape (n,)
    trim : float, optional
        None or 0 keeps every row.
    rule : str
        `bound`: trim <= e <= 1 - trim (Crump et al. 2009, doi:10.1093/biomet/asn055). `quantile`: e between its own
        quantiles of order trim and 1 - trim.
    """
    if not trim:
        return np.ones(len(e), dtype=bool)
    low, high = (trim, 1 - trim) if rule == "bound" else np.quantile(e, [trim, 1 - trim])
    return np.asarray((e >= low) & (e <= high))
