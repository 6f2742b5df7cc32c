"""What a dose-response curve rests on: balance of the dose, rows near each dose, and how much is extrapolation."""

import numpy as np

_USUAL = 0.99


def dose_correlations(x: np.ndarray, place: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted correlation of each covariate with the dose, shape (k,); 0 for one that does not vary.

    Zhu, Coffman & Ghosh (2015, doi:10.1515/jci-2014-0022).
    """
    share = weight / weight.sum()
    rest, own = x - share @ x, place - share @ place
    both = (share * own) @ rest
    size = np.sqrt((share @ rest**2) * (share @ own**2))
    scale = np.abs(x).max(axis=0, initial=0.0) * np.sqrt(share @ own**2)
    safe = size > 1e-12 * scale
    return np.where(safe, both / np.where(safe, size, 1.0), 0.0)


def extrapolated_share(
    places: np.ndarray, mean: np.ndarray, deviation: np.ndarray, residual: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return, for each place, the share of units for which it lies beyond what units like them received, shape (m,).

    Parameters
    ----------
    places : ndarray of shape (m,)
        Doses on the working scale.
    mean, deviation, residual, weight : ndarray of shape (n,)
        Of the dose given covariates; a place is beyond for a unit if it lies further from the unit's mean, in its
        standard deviations, than 99% of the observed doses do from theirs.
    """
    limit = np.quantile(np.abs(residual), _USUAL) * (1 + 1e-9)
    total = weight.sum()
    return np.array([weight @ (np.abs(place - mean) > limit * deviation) / total for place in places])


def effective_rows(places: np.ndarray, observed: np.ndarray, weight: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return (sum w)^2 / sum w^2 of the rows within the bandwidth of each place, w kernel times weight, shape (m,)."""
    order = np.argsort(observed, kind="stable")
    sorted_places, sorted_weight = observed[order], weight[order]
    result = np.zeros(len(places))
    for m, place in enumerate(places):
        inside = slice(*np.searchsorted(sorted_places, [place - bandwidth, place + bandwidth]))
        near = sorted_weight[inside] * np.maximum(1 - ((sorted_places[inside] - place) / bandwidth) ** 2, 0.0)
        square = float(near @ near)
        result[m] = near.sum() ** 2 / square if square > 0 else 0.0
    return result


def commonest(values: np.ndarray) -> tuple[float, float]:
    """Return the commonest value and its share of the rows."""
    levels, counts = np.unique(values, return_counts=True)
    at = int(counts.argmax())
    return float(levels[at]), float(counts[at] / len(values))
