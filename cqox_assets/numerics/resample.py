"""Residuals of some units for others."""

import numpy as np


def drawn_residuals(residual: np.ndarray, weight: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Return `size` residuals, drawn with probabilities by weight and shuffled, shape (size,).

    Draws are evenly spaced over the sorted residuals, so that their distribution, unlike single draws, hardly varies
    and does not depend on the order of rows.

    Parameters
    ----------
    residual, weight : ndarray of shape (m,)
    size : int
    seed : int
        Of the shuffle.
    """
    order = np.argsort(residual, kind="stable")
    below = np.cumsum(weight[order])
    places = np.searchsorted(below, (np.arange(size) + 0.5) / size * below[-1])
    drawn = residual[order][np.minimum(places, len(residual) - 1)]
    return np.asarray(np.random.default_rng(seed).permutation(drawn))
