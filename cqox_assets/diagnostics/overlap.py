"""Whether the arms share the same kind of units, and what weights do to the sample."""

import numpy as np


def overlap_share(propensity: np.ndarray, treated: np.ndarray) -> float:
    """Return the share of units whose propensity lies in the range common to both arms.

    The range goes from the larger of the arms' 1st percentiles to the smaller of their 99th percentiles
    (after Crump et al. 2009, doi:10.1093/biomet/asn055).

    Parameters
    ----------
    propensity, treated : ndarray of shape (n,)
    """
    one, zero = propensity[treated == 1], propensity[treated == 0]
    low = max(np.quantile(one, 0.01), np.quantile(zero, 0.01))
    high = min(np.quantile(one, 0.99), np.quantile(zero, 0.99))
    slack = 1e-12
    return float(np.mean((propensity >= low - slack) & (propensity <= high + slack)))


def effective_share(weights: np.ndarray, treated: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 over n in the arm where it is smallest (Kish 1965), between 0 and 1."""
    shares = []
    for arm in (0, 1):
        weight = weights[(treated == arm) & (weights > 0)]
        shares.append(float(weight.sum() ** 2 / (weight @ weight) / (treated == arm).sum()) if len(weight) else 0.0)
    return min(shares)


def effective_size(weights: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2, in units."""
    return float(weights.sum() ** 2 / (weights @ weights))


def largest_weight(weights: np.ndarray, treated: np.ndarray) -> float:
    """Return the largest weight over the mean weight, in the arm where it is largest."""
    ratios = [weights[treated == arm].max() / weights[treated == arm].mean() for arm in (0, 1)]
    return float(max(ratios))
