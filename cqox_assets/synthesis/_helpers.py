"""Small mathematics that summaries share."""

import math
from collections.abc import Sequence

import numpy as np

from cqox_assets.result import Effect


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the value at which half of the weight lies on either side; between two values, their mean."""
    order = np.argsort(values, kind="stable")
    sorted_values = np.asarray(values, dtype=float)[order]
    below = np.cumsum(np.asarray(weights, dtype=float)[order])
    half = below[-1] / 2
    place = int(np.searchsorted(below, half * (1 - 1e-12)))
    if math.isclose(below[place], half, rel_tol=1e-9) and place + 1 < len(sorted_values):
        return float((sorted_values[place] + sorted_values[place + 1]) / 2)
    return float(sorted_values[place])


def normal_quantile(level: float) -> float:
    """Return z with P(|Z| < z) = level."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def spread_of(effect: Effect) -> float | None:
    """Return an effect's standard error, or the one that its finite interval implies, or None."""
    if effect.std_error is not None:
        return effect.std_error
    if effect.interval is None:
        return None
    width = effect.interval.high - effect.interval.low
    if not (math.isfinite(width) and width > 0):
        return None
    return width / (2 * normal_quantile(effect.interval.level))
