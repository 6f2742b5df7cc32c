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


def best_trim(propensity: np.ndarray) -> float:
    """Return how far from 0 and 1 a propensity must be kept so that the average effect is estimated most precisely.

    Notes
    -----
    The smallest a for which 1 / (a (1 - a)) <= 2 E[1 / (e (1 - e)) | 1 / (e (1 - e)) <= 1 / (a (1 - a))]; 0 if all
    units should stay (Crump et al. 2009, doi:10.1093/biomet/asn055, corollary 1).
    """
    noise = np.sort(1 / np.clip(propensity * (1 - propensity), 1e-12, None))
    if len(noise) == 0:
        return 0.0
    means = np.cumsum(noise) / np.arange(1, len(noise) + 1)
    if noise[-1] <= 2 * means[-1]:
        return 0.0
    held = np.flatnonzero(noise <= 2 * means)
    limit = 2 * float(means[held[-1]])
    return 0.5 - float(np.sqrt(max(0.25 - 1 / limit, 0.0)))
