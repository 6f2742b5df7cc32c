"""How two distributions differ: cumulative shares and the Kolmogorov-Smirnov test."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """The largest distance of two distribution functions.

    Parameters
    ----------
    distance, at : float
        The distance, and the value where it is reached.
    p_value : float
        Two-sided; of a discrete outcome it is conservative.
    """

    distance: float
    at: float
    p_value: float


def compare(one: np.ndarray, other: np.ndarray) -> Comparison:
    """Compare two samples by the two-sample Kolmogorov-Smirnov test (Smirnov 1948, doi:10.1214/aoms/1177730256)."""
    from scipy.stats import ks_2samp

    found = ks_2samp(one, other, method="auto" if max(len(one), len(other)) <= 1000 else "asymp")
    return Comparison(float(found.statistic), float(found.statistic_location), float(found.pvalue))


def cumulative(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the share of values at or below each place, shape (m,)."""
    return np.asarray(np.searchsorted(np.sort(values), places, side="right") / max(len(values), 1))
