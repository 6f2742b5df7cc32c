"""What covariates leave of two variables, and binned means of one over the other."""

import numpy as np
import pandas as pd

from cqox_assets.numerics.linear import fit_linear, with_constant


def partialled(
    x: np.ndarray, y: np.ndarray, covariates: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return x and y net of covariates, moved back to their means, and the slope of y on x given the covariates.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
    covariates : ndarray of shape (n, k)
    weights : ndarray of shape (n,), optional

    Notes
    -----
    The slope equals the coefficient of x in the regression of y on x and the covariates (Frisch & Waugh 1933,
    doi:10.2307/1907330); it is 0 where the covariates determine x.
    """
    design = with_constant(covariates)
    rest_x, rest_y = (fit_linear(design, values, weights).residuals for values in (x, y))
    weight = np.ones(len(x)) if weights is None else weights
    moved = float(weight @ rest_x**2)
    slope = float(weight @ (rest_x * rest_y)) / moved if moved > 1e-12 * max(float(weight @ x**2), 1e-300) else 0.0
    return rest_x + np.average(x, weights=weight), rest_y + np.average(y, weights=weight), slope


def binned_means(x: np.ndarray, y: np.ndarray, bins: int = 20, weights: np.ndarray | None = None) -> pd.DataFrame:
    """Return one row per bin of about equally many rows: mean x, mean y, its standard error and rows.

    Values of x that are equal share a bin; bins of one row have no standard error (NaN).
    """
    weight = np.ones(len(x)) if weights is None else weights
    distinct = np.unique(x)
    if len(distinct) <= bins:
        place = np.searchsorted(distinct, x)
    else:
        edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)))
        place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(place)
    mass = np.bincount(place, weights=weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = (np.bincount(place, weights=weight * values) / mass for values in (x, y))
        scatter = np.bincount(place, weights=(weight * (y - mean_y[place])) ** 2) * count / np.maximum(count - 1, 1)
        error = np.where(count > 1, np.sqrt(scatter) / mass, np.nan)
    kept = mass > 0
    return pd.DataFrame({"x": mean_x, "mean": mean_y, "std_error": error, "rows": count})[kept].reset_index(drop=True)
