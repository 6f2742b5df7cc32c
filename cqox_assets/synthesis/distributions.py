"""Distributions of potential outcomes and of predicted effects, as quantiles and bins."""

from typing import Any

import numpy as np

from cqox_assets.nuisance.models import Data
from cqox_assets.numerics.resample import drawn_residuals

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 40


def weighted_quantiles(values: np.ndarray, weight: np.ndarray, levels: tuple[float, ...]) -> list[float]:
    """Return the smallest values at which the cumulated weight reaches each level."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    places = np.searchsorted(below, np.array(levels) * below[-1] * (1 - 1e-12))
    return [float(values[order[min(place, len(values) - 1)]]) for place in places]


def arm_distribution(data: Data, arm: int, mean: np.ndarray) -> dict[str, Any]:
    """Return mean, spread and quantiles of the outcome if every unit had one arm.

    Parameters
    ----------
    data : Data
    arm : int
        1 is the compared arm.
    mean : ndarray of shape (n,)
        Predicted outcome of every unit under that arm.

    Notes
    -----
    Units of the arm keep what was observed; the others get their prediction and the residual of a unit of the arm,
    drawn by sampling weight. Of an outcome with two values the distribution is its mean, so quantiles are those of the
    predicted chances.
    """
    own, sampling = data.d == arm, data.sampling
    if len(np.unique(data.y[:1000])) > 2 or len(np.unique(data.y)) > 2:
        drawn = mean + drawn_residuals((data.y - mean)[own], sampling[own], len(mean))
        values, of = np.where(own, data.y, drawn), "outcomes"
    else:
        values, of = mean, "predicted chances"
    centre = float(np.average(values, weights=sampling))
    spread = float(np.sqrt(np.average((values - centre) ** 2, weights=sampling)))
    found = weighted_quantiles(values, sampling, QUANTILES)
    named = {f"q{round(100 * level):02d}": value for level, value in zip(QUANTILES, found, strict=True)}
    return {"of": of, "mean": centre, "sd": spread, **named}


def effect_distribution(effect: np.ndarray, sampling: np.ndarray, sign: float) -> dict[str, Any]:
    """Return mean, spread and quantiles of predicted effects, and the share of units that they are good for.

    Parameters
    ----------
    effect, sampling : ndarray of shape (n,)
    sign : float
        1 where a higher outcome is better, -1 where a lower one is.
    """
    centre = float(np.average(effect, weights=sampling))
    spread = float(np.sqrt(np.average((effect - centre) ** 2, weights=sampling)))
    found = weighted_quantiles(effect, sampling, QUANTILES)
    named = {f"q{round(100 * level):02d}": value for level, value in zip(QUANTILES, found, strict=True)}
    return {
        "mean": centre,
        "sd": spread,
        **named,
        "share_better": float(np.average(sign * effect > 0, weights=sampling)),
    }


def effect_histogram(effect: np.ndarray, sampling: np.ndarray) -> list[dict[str, Any]]:
    """Return `low`, `high` and the `share` of units of at most 40 bins between the 0.5th and 99.5th percentile.

    What lies beyond is counted in the first and last bin; one bin where all effects are equal.
    """
    low, high = weighted_quantiles(effect, sampling, (0.005, 0.995))
    edges = np.linspace(low, high, _BINS + 1)
    if not high > low or not (np.diff(edges) > 0).all():
        return [{"low": low, "high": high, "share": 1.0}]
    place = np.clip(np.searchsorted(edges, effect, side="right") - 1, 0, _BINS - 1)
    share = np.bincount(place, weights=sampling, minlength=_BINS) / sampling.sum()
    return [{"low": float(edges[k]), "high": float(edges[k + 1]), "share": float(share[k])} for k in range(_BINS)]
