"""Small boosted trees, cross-fitted: all folds grow in step and stop when their pooled held-out loss does."""

from typing import Any

import numpy as np

from cqox_assets.numerics.threads import ONE_THREAD_BELOW

_TRAIN_ROWS = 50_000
_TREES = 100
_PATIENCE = 10


def crossfit_boosting(
    x: np.ndarray,
    outcome: np.ndarray,
    weight: np.ndarray | None,
    bounds: np.ndarray,
    *,
    fitted: np.ndarray | None = None,
    binary: bool = False,
    seed: int = 0,
    bins: Any = None,
) -> np.ndarray:
    """Predict each row by trees that were grown without its fold.

    Parameters
    ----------
    x : ndarray of shape (n, p)
        Rows sorted by fold.
    outcome : ndarray of shape (n,)
    weight : ndarray of shape (n,), optional
    bounds : ndarray of int, shape (folds + 1,)
        Fold k holds rows bounds[k]..bounds[k + 1].
    fitted : ndarray of bool, shape (n,), optional
        Rows that may be learned from (one arm); every row is predicted.
    binary : bool
        Logistic loss and probabilities; squared loss otherwise.
    seed : int

    Returns
    -------
    ndarray of shape (n,)

    Notes
    -----
    At most 100 trees of 7 leaves with at least 20 rows, rate 0.1, 63 bins; growing stops when the loss on the held-out
    folds together has not improved for 10 trees, and the best number of trees, the same for all folds, is used. A
    fit learns from at most 50,000 rows. One thread below 20,000 rows: two threads on a busy machine were 28 times
    slower (Ke et al. 2017, LightGBM).
    """
    rows = np.arange(len(x)) if fitted is None else np.flatnonzero(fitted)
    fold_of = np.searchsorted(bounds, np.arange(len(x)), side="right") - 1
    parts = [(rows[fold_of[rows] != k], rows[fold_of[rows] == k]) for k in range(len(bounds) - 1)]
    # Labels are single precision inside: unit scale makes the answer free of the outcome's units.
    centre, scale = (0.0, 1.0) if binary else (outcome[rows].mean(), outcome[rows].std() or 1.0)
    label = (outcome - centre) / scale
    settings = {
        **_bin_settings(len(rows)),
        "objective": "binary" if binary else "regression",
        "metric": "binary_logloss" if binary else "l2",
        "num_leaves": 7,
        "learning_rate": 0.1,
        "seed": seed,
        "deterministic": True,
    }
    bins = bin_covariates(x) if bins is None else bins
    boosters, trees = _grow_in_step(bins, label, weight, parts, settings)
    result = np.empty(len(x))
    for k, booster in enumerate(boosters):
        inside = slice(int(bounds[k]), int(bounds[k + 1]))
        if inside.start < inside.stop:
            result[inside] = booster.predict(x[inside], num_iteration=trees, num_threads=1)
    return result * scale + centre


def bin_covariates(x: np.ndarray) -> Any:
    """Return the covariates in at most 63 bins each; every fold's view shares them."""
    import lightgbm

    settings = _bin_settings(len(x))
    return lightgbm.Dataset(x, label=np.zeros(len(x)), params=settings, free_raw_data=False).construct()


def _bin_settings(rows: int) -> dict[str, Any]:
    return {
        "min_data_in_leaf": 20,
        "max_bin": 63,
        "num_threads": 1 if rows < ONE_THREAD_BELOW else 0,
        "force_col_wise": True,
        "feature_pre_filter": False,
        "verbose": -1,
    }


def _grow_in_step(
    bins: Any,
    label: np.ndarray,
    weight: np.ndarray | None,
    parts: list[tuple[np.ndarray, np.ndarray]],
    settings: dict[str, Any],
) -> tuple[list[Any], int]:
    import lightgbm

    boosters, shares = [], []
    for train, held in parts:
        train, held = (part[:: max(1, -(-len(part) // _TRAIN_ROWS))] for part in (train, held))
        booster = lightgbm.Booster(settings, _view(bins, train, label, weight, settings))
        if len(held):
            booster.add_valid(_view(bins, held, label, weight, settings), "held")
        boosters.append(booster)
        shares.append(float(len(held)) if weight is None else float(weight[held].sum()))
    best_loss, best_trees = np.inf, 0
    for tree in range(1, _TREES + 1):
        for booster in boosters:
            booster.update()
        losses = [booster.eval_valid() for booster in boosters]
        loss = sum(share * loss[0][2] for share, loss in zip(shares, losses, strict=True) if loss)
        if loss < best_loss * (1 - 1e-9):
            best_loss, best_trees = loss, tree
        elif tree >= best_trees + _PATIENCE:
            break
    return boosters, max(best_trees, 1)


def _view(bins: Any, rows: np.ndarray, label: np.ndarray, weight: np.ndarray | None, settings: dict[str, Any]) -> Any:
    view = bins.subset(rows, params=settings).construct()
    view.set_label(label[rows])
    if weight is not None:
        view.set_weight(weight[rows])
    return view
