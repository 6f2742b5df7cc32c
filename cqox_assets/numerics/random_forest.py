"""Random forests of histogram trees, cross-fitted: each row is predicted by trees that have not seen its fold."""

from typing import Any

import numpy as np

from cqox_assets.numerics.boosting import bin_covariates
from cqox_assets.numerics.crossfit import EmptyFoldError
from cqox_assets.numerics.threads import threads_for

TREES = 40
ROWS_PER_LEAF = 10
MOST_ROWS = 50_000
_BLOCK = 100_000
_SETTINGS: dict[str, Any] = {
    "objective": "regression",
    "boosting": "rf",
    "bagging_freq": 1,
    "bagging_fraction": 0.632,
    "feature_fraction_bynode": 0.7,
    "min_data_in_leaf": ROWS_PER_LEAF,
    "max_bin": 63,
    "num_threads": 1,
    "verbose": -1,
    "deterministic": True,
    "force_col_wise": True,
    "feature_pre_filter": False,
}


def crossfit_forest(
    x: np.ndarray, y: np.ndarray, used: np.ndarray, fold: np.ndarray, weight: np.ndarray | None, seed: int = 0
) -> np.ndarray:
    """Predict E[y | x] for every row, shape (n,).

    Parameters
    ----------
    x : ndarray of shape (n, p)
    y : ndarray of shape (n,)
    used : ndarray of bool, shape (n,)
        Rows that may be learned from, such as one arm; every fold must leave some.
    fold : ndarray of int, shape (n,)
    weight : ndarray of shape (n,), optional
        Sampling weights.
    seed : int

    Notes
    -----
    Breiman (2001, doi:10.1023/A:1010933404324): the mean of trees on bootstrapped rows, seven tenths of the covariates
    tried at each cut; LightGBM grows them on at most 63 bins per covariate. Leaves keep 10 rows; trees have at most 128
    leaves, and up to 512 with more rows. Each fold's trees learn from at most 50,000 evenly spaced rows.
    """
    order = np.lexsort((y, *x.T[:3]))  # by content, so that the order of rows does not change the trees
    held = None if weight is None else weight[order]
    result = np.empty(len(y))
    with threads_for(len(y)):
        result[order] = _by_content(np.ascontiguousarray(x[order]), y[order], used[order], fold[order], held, seed)
    return result


def _by_content(
    x: np.ndarray, y: np.ndarray, used: np.ndarray, fold: np.ndarray, weight: np.ndarray | None, seed: int
) -> np.ndarray:
    counted = used if weight is None else used & (weight > 0)
    result, bins = np.empty(len(y)), bin_covariates(x) if x.shape[1] else None
    for k in range(int(fold.max()) + 1):
        train, inside = np.flatnonzero(counted & (fold != k)), np.flatnonzero(fold == k)
        if not len(train):
            raise EmptyFoldError(f"fold {k + 1} leaves no rows to learn from; deliver more rows of the smaller arm")
        train = train[:: max(1, -(-len(train) // MOST_ROWS))]
        held = None if weight is None else weight[train]
        mean, scale = float(np.average(y[train], weights=held)), float(y[train].std())
        result[inside] = mean
        if bins is None or scale == 0 or len(train) < 2 * ROWS_PER_LEAF:
            continue
        booster = _grow(bins, (y - mean) / scale, train, held, seed)
        for start in range(0, len(inside), _BLOCK):
            rows = inside[start : start + _BLOCK]
            result[rows] = booster.predict(x[rows], num_threads=1) * scale + mean
    return result


def _grow(bins: Any, y: np.ndarray, train: np.ndarray, weight: np.ndarray | None, seed: int) -> Any:
    import lightgbm

    leaves = int(np.clip(len(train) // (4 * ROWS_PER_LEAF), 128, 512))
    settings = {**_SETTINGS, "num_leaves": leaves, "seed": seed}
    view = bins.subset(train, params=settings).construct()
    view.set_label(y[train])
    if weight is not None:
        view.set_weight(weight)
    booster = lightgbm.Booster(settings, view)
    for _ in range(TREES):
        booster.update()
    return booster
