"""The mean effect as a smooth surface over two covariates, with its pointwise error."""

import numpy as np
import pandas as pd

from cqox_assets.numerics.linear import fit_linear, with_constant

_CELLS = 25
_NEAR = 0.12  # of the range of either covariate: where no row is nearer, nothing is said


def effect_surface(
    score: np.ndarray, x: np.ndarray, y: np.ndarray, sampling: np.ndarray, cluster: np.ndarray | None = None
) -> pd.DataFrame:
    """Return one row per cell of a grid: x, y, estimate, std_error; NaN where no row is near.

    Parameters
    ----------
    score : ndarray of shape (n,)
        Doubly robust scores of the effect.
    x, y : ndarray of shape (n,)
        Two covariates; the grid spans their middle 90 %.
    sampling : ndarray of shape (n,)
    cluster : ndarray of int, shape (n,), optional

    Notes
    -----
    Least squares of the scores on a cubic polynomial of both covariates, with robust errors (Semenova & Chernozhukov
    2021, doi:10.1093/ectj/utaa027). With few rows the polynomial is a plane or a quadratic.
    """
    ends = [np.quantile(values, [0.05, 0.95]) for values in (x, y)]
    spans = [max(float(end[1] - end[0]), 1e-300) for end in ends]
    scaled = [(values - end[0]) / span for values, end, span in zip((x, y), ends, spans, strict=True)]
    order = 3 if len(score) >= 1000 else (2 if len(score) >= 200 else 1)
    near = np.all([(value > -0.5) & (value < 1.5) for value in scaled], axis=0)  # far rows would bend the polynomial
    design = _powers(scaled[0][near], scaled[1][near], order)
    fit = fit_linear(design, score[near], None if np.ptp(sampling) == 0 else sampling[near])
    own = None if cluster is None else np.unique(cluster[near], return_inverse=True)[1]
    covariance = fit.covariance("HC1" if own is None else "CR1", own)
    place = np.linspace(0, 1, _CELLS)
    across, along = (part.ravel() for part in np.meshgrid(place, place))
    terms = _powers(across, along, order)[:, fit.kept]
    error = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", terms, covariance, terms), 0.0))
    known = _occupied(scaled[0], scaled[1], across, along)
    return pd.DataFrame(
        {
            "x": ends[0][0] + spans[0] * across, "y": ends[1][0] + spans[1] * along,
            "estimate": np.where(known, terms @ fit.coef, np.nan), "std_error": np.where(known, error, np.nan),
        }
    )  # fmt: skip


def _powers(x: np.ndarray, y: np.ndarray, order: int) -> np.ndarray:
    columns = [x**a * y**b for a in range(order + 1) for b in range(order + 1 - a) if a + b > 0]
    return with_constant(np.column_stack(columns))


def _occupied(x: np.ndarray, y: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return whether a row lies near each cell, from counts on a fine grid."""
    bins = 50
    counts = np.histogram2d(x, y, bins, [[0, 1], [0, 1]])[0] > 0
    centre = (np.argwhere(counts) + 0.5) / bins
    if not len(centre):
        return np.zeros(len(across), dtype=bool)
    gaps = (across[:, None] - centre[:, 0]) ** 2 + (along[:, None] - centre[:, 1]) ** 2
    return np.asarray(gaps.min(axis=1) < _NEAR**2)
