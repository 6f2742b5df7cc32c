"""Three kinds of outcome models for both arms, cross-fitted: linear, polynomial of degree two, and a random forest."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cqox_assets.numerics.crossfit import EmptyFoldError, Folded
from cqox_assets.numerics.ridge import FoldedDesign, fits_without_folds, fold_moments
from cqox_assets.numerics.spline import MAIN_EFFECT_PENALTY, SplineBasis
from cqox_assets.numerics.threads import threads_for

SYSTEMS = ("linear", "nonlinear", "machine_learned")
_PENALTIES = (1e-6, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
_ROWS_PER_COLUMN = 3
_PRODUCTS_AMONG = 14
_TREES = 50
_FOREST_ROWS = 50_000
_FOREST = {
    "objective": "regression",
    "boosting": "rf",
    "bagging_freq": 1,
    "bagging_fraction": 0.632,
    "feature_fraction_bynode": 0.5,
    "num_leaves": 63,
    "min_data_in_leaf": 5,
    "max_bin": 63,
    "num_threads": 1,
    "force_col_wise": True,
    "feature_pre_filter": False,
    "deterministic": True,
    "verbose": -1,
}


def potential_means(
    folded: Folded, y: np.ndarray, d: np.ndarray, score: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (system, mean outcome of the reference arm, of the compared arm), shape (n,) each, in input order.

    Parameters
    ----------
    folded : Folded
        Rows in folds; a row is predicted by models that never saw its fold.
    y, d : ndarray of shape (n,)
        Outcome; 1 in the compared arm and 0 in the reference arm.
    score : ndarray of shape (p,)
        Importance of each covariate: products are made of the 14 most important ones.

    Raises
    ------
    EmptyFoldError
        If some fold leaves fewer than two rows of an arm.

    Notes
    -----
    `linear`: least squares per arm; with fewer than three rows per column as much ridge as held-out folds ask for.
    `nonlinear`: ridge regression per arm on covariates, squares and products (cut at four standard deviations), with
    the penalty of the least squared error on held-out folds; predictions stay within the arm's observed range.
    `machine_learned`: a random forest per arm (Breiman 2001, doi:10.1023/A:1010933404324) of 50 trees on bins, each
    fold's forest grown on at most 50,000 rows.
    """
    order = folded.order
    outcome, arm = y[order], d[order]
    for value in (0, 1):
        _check(folded, arm == value)
    with threads_for(len(y)):
        for name, found in _regressions(folded, outcome, arm, score):
            yield name, _in_input_order(folded, found[:, 0]), _in_input_order(folded, found[:, 1])
        forest = [_in_input_order(folded, _forest(folded, outcome, arm == value)) for value in (0, 1)]
    yield "machine_learned", forest[0], forest[1]


def polynomial_basis(x: np.ndarray, score: np.ndarray) -> tuple[SplineBasis, int]:
    """Return a basis of constant, covariates, squares and products, and how many of its columns are linear.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    score : ndarray of shape (p,)
    """
    p = x.shape[1]
    chosen = np.sort(np.argsort(-score, kind="stable")[:_PRODUCTS_AMONG]).tolist()
    # The square of a covariate with two values is that covariate again.
    bent = [(j, j) for j in range(p) if len(np.unique(x[:2000, j])) > 2]
    pairs = (*bent, *((a, b) for place, a in enumerate(chosen) for b in chosen[place + 1 :]))
    centre, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-12 * (1 + np.abs(centre)), scale, 1.0)
    width = 1 + p + len(pairs)
    knots = tuple(np.empty(0) for _ in range(p))
    raw = SplineBasis(centre, scale, knots, pairs, np.zeros(width), np.ones(width)).columns(x)
    mean, spread = raw.mean(0), raw.std(0)
    mean[0], spread[0] = 0.0, 1.0
    return SplineBasis(centre, scale, knots, pairs, mean, np.where(spread > 1e-9, spread, np.inf)), 1 + p


def _regressions(folded: Folded, y: np.ndarray, arm: np.ndarray, score: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (system, predictions of both arms) in sorted order, shape (n, 2).

    The linear columns come first among those of the polynomial, so one pass gives the moments of both.
    """
    basis, linear = polynomial_basis(folded.sorted_x[:: max(1, len(y) // 50_000)], score)
    design = FoldedDesign(folded.sorted_x, folded.bounds, basis)
    bent = np.ones(basis.width)
    bent[0], bent[1:linear] = 0.0, MAIN_EFFECT_PENALTY  # with few rows the polynomial falls back on the straight line
    straight = np.append(0.0, np.ones(linear - 1))
    coef, ends = np.zeros((design.folds, basis.width, 4)), []
    for value in (0, 1):
        inside = arm == value
        centre, scale = y[inside].mean(), y[inside].std() or 1.0
        weight = np.where(inside, folded.sorted_weight, 0.0)
        gram, cross, square = fold_moments(design, (y - centre) / scale, weight)
        for place, relative in ((value, straight), (2 + value, bent)):
            size = len(relative)
            part = gram[:, :size, :size], cross[:, :size], square, relative
            plain = place == value and inside.sum() >= _ROWS_PER_COLUMN * size
            fit, _ = fits_without_folds(*part, penalties=_PENALTIES[:1] if plain else _PENALTIES)
            coef[:, :size, place] = fit * scale
            coef[:, 0, place] += centre
        ends.append((y[inside].min(), y[inside].max()))
    found = design.predict(coef)
    yield "linear", found[:, :2]
    low, high = np.array(ends).T
    yield "nonlinear", np.clip(found[:, 2:], low, high)


def _forest(folded: Folded, y: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return cross-fitted predictions of a random forest of the rows `inside`, in sorted order, shape (n,)."""
    import lightgbm

    centre, scale = y[inside].mean(), y[inside].std() or 1.0
    label, rows, result = (y - centre) / scale, np.flatnonzero(inside & (folded.sorted_weight > 0)), np.empty(len(y))
    settings: dict[str, Any] = {**_FOREST, "seed": folded.seed}
    for k in range(len(folded.bounds) - 1):
        first, last = int(folded.bounds[k]), int(folded.bounds[k + 1])
        if first == last:
            continue
        train = rows[(rows < first) | (rows >= last)]
        train = train[:: max(1, -(-len(train) // _FOREST_ROWS))]
        view = folded.bins.subset(train, params=settings).construct()
        view.set_label(label[train])
        if folded.weight is not None:
            view.set_weight(folded.sorted_weight[train])
        booster = lightgbm.Booster(settings, view)
        for _ in range(_TREES):
            booster.update()
        result[first:last] = booster.predict(folded.sorted_x[first:last], num_threads=1)
    return np.asarray(result * scale + centre)


def _check(folded: Folded, inside: np.ndarray) -> None:
    counted = inside & (folded.sorted_weight > 0)
    for k in range(len(folded.bounds) - 1):
        first, last = int(folded.bounds[k]), int(folded.bounds[k + 1])
        left = int(counted.sum() - counted[first:last].sum())
        if left < 2:
            raise EmptyFoldError(
                f"with {len(folded.bounds) - 1} folds a model would be fitted to {left} rows of one arm, it needs 2; "
                "deliver more rows, or more clusters, of the smaller arm"
            )


def _in_input_order(folded: Folded, values: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.empty(len(values))
    result[folded.order] = values
    return result
