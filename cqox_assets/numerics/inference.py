"""From a point and an influence function to standard error, interval and p-value: written once, used by all."""

import math
from typing import Any

import numpy as np

from cqox_assets.result import Effect, Interval

_ROUNDING = 1e-13


def influence_std_error(influence: np.ndarray, cluster: np.ndarray | None = None) -> float:
    """Return the standard error of a mean with the given influence values.

    Parameters
    ----------
    influence : ndarray of shape (n,)
        Influence of each unit on the estimate, in units of the estimate; weights are already inside.
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1; influences are summed within clusters, with the factor G / (G - 1).

    Returns
    -------
    float
        sqrt(mean(psi^2) / n), or its clustered form.
    """
    n = len(influence)
    if cluster is None:
        return float(math.sqrt(np.dot(influence, influence)) / n)
    sums = np.bincount(cluster, weights=influence)
    groups = len(sums)
    if groups < 2:
        return 0.0
    return float(math.sqrt(np.dot(sums, sums) * groups / (groups - 1)) / n)


def interval_reach(level: float, cluster: np.ndarray | None = None) -> float:
    """Return how many standard errors an interval reaches to either side.

    Parameters
    ----------
    level : float
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1; then the quantile is Student's with G - 1 degrees of freedom, else the normal one.
    """
    from scipy.special import ndtri, stdtrit

    upper = 0.5 + level / 2
    return float(ndtri(upper) if cluster is None else stdtrit(float(cluster.max()), upper))


def wald(
    estimate: float,
    std_error: float,
    *,
    estimand: str,
    contrast: str,
    level: float = 0.95,
    df: float | None = None,
    **facts: Any,
) -> Effect:
    """Return an effect with a normal (or Student, with `df`) interval and two-sided p-value.

    Parameters
    ----------
    estimate, std_error : float
        In units of the outcome. A standard error of zero but for rounding (a perfect fit) gives an effect without one.
    df : float, optional
        Degrees of freedom; None is the normal distribution.
    **facts
        Further fields of :class:`Effect`, such as `at`, `scale` and `null`.
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    if not (std_error > _ROUNDING * abs(estimate) and math.isfinite(std_error)):
        return Effect(estimand, contrast, estimate, **facts)
    upper = 0.5 + level / 2
    quantile = float(ndtri(upper) if df is None else stdtrit(df, upper))
    ratio = -abs(estimate - facts.get("null", 0.0)) / std_error
    p_value = float(2 * (ndtr(ratio) if df is None else stdtr(df, ratio)))
    source = "normal" if df is None else f"t({df:g})"
    return Effect(
        estimand,
        contrast,
        estimate,
        std_error,
        Interval(estimate - quantile * std_error, estimate + quantile * std_error, level),
        p_value,
        interval_source=source,
        p_source=source,
        **facts,
    )


def draws_effect(
    estimate: float, draws: np.ndarray, *, estimand: str, contrast: str, level: float, **facts: Any
) -> Effect:
    """Return an effect whose percentile interval, standard error and p-value come from resampled estimates.

    The p-value is twice the smaller share of draws on one side of the null, with the finite-draw correction of
    Davison & Hinkley (1997, doi:10.1017/CBO9780511802843); it is reported as of another source than the
    interval, because the two agree only up to the resolution of the draws.
    """
    null = facts.get("null", 0.0)
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    tail = min((draws <= null).sum(), (draws >= null).sum())
    p_value = min(1.0, 2 * (tail + 1) / (len(draws) + 1))
    spread = float(draws.std(ddof=1))
    return Effect(
        estimand,
        contrast,
        estimate,
        spread if spread > 0 else None,
        Interval(float(low), float(high), level),
        float(p_value),
        interval_source="percentile of bootstrap draws",
        p_source="share of bootstrap draws beyond the null",
        **facts,
    )
