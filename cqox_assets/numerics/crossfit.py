"""Cross-fitted regressions by learner name: each row is predicted by models that never saw its fold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.numerics.boosting import bin_covariates, crossfit_boosting
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.numerics.ridge import FoldedDesign, crossfit_ridge
from cqox_assets.numerics.ridge_logit import crossfit_ridge_logit
from cqox_assets.numerics.spline import SplineBasis
from cqox_assets.numerics.threads import threads_for

MEAN_LEARNERS = ("stack", "linear", "ols", "spline", "boosting", "random_forest", "gradient_boosting")
PROBABILITY_LEARNERS = ("stack", "linear", "logit", "ols", "spline", "boosting", "random_forest", "gradient_boosting")
_FOREST = {"n_estimators": 200, "min_samples_leaf": 10, "max_features": 0.5}
_GRID = np.linspace(0, 1, 21)


class EmptyFoldError(CqoxError):
    """A model would have to be fitted to rows that are not there."""

    code = "empty_fold_arm"


class Means(NamedTuple):
    """Predictions of every row, shape (n,): `best` for prediction, `close` with less shrinkage and more noise."""

    best: np.ndarray
    close: np.ndarray


Predict = Callable[[np.ndarray, bool], Means]


@dataclass
class Folded:
    """Rows and folds that several cross-fitted models share.

    Rows are brought into an order that depends on their content alone, so that not even rounding depends on the
    order of the input.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    fold : ndarray of int, shape (n,)
        Values 0..folds-1.
    weight : ndarray of shape (n,), optional
        Sampling weights.
    score : ndarray of shape (p,), optional
        Importance of each covariate for interactions; see :class:`SplineBasis`.
    seed : int
    """

    x: np.ndarray
    fold: np.ndarray
    weight: np.ndarray | None = None
    score: np.ndarray | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        content = pd.util.hash_pandas_object(pd.DataFrame(np.round(self.x, 12) + 0.0), index=False).to_numpy()
        self.order = np.lexsort((content, self.fold)) if self.x.shape[1] else np.argsort(self.fold, kind="stable")
        self.sorted_x = np.ascontiguousarray(self.x[self.order])
        self.bounds = np.searchsorted(self.fold[self.order], np.arange(int(self.fold.max()) + 2))
        self.sorted_weight = np.ones(len(self.x)) if self.weight is None else self.weight[self.order]

    @cached_property
    def design(self) -> FoldedDesign:
        """The spline design, shared by all models."""
        step = max(1, len(self.x) // 50_000)
        return FoldedDesign(self.sorted_x, self.bounds, SplineBasis.fit(self.sorted_x[::step], self.score))

    @cached_property
    def bins(self) -> Any:
        """The covariates in bins for boosting, shared by all models."""
        return bin_covariates(self.sorted_x)

    def mean(
        self,
        outcome: np.ndarray,
        rows: np.ndarray | None = None,
        learner: str = "stack",
        settings: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Predict E[outcome | x] for every row, in input order, shape (n,); arguments as in :meth:`means`."""
        return self.means(outcome, rows, learner, settings, close=False).best

    def means(
        self,
        outcome: np.ndarray,
        rows: np.ndarray | None = None,
        learner: str = "stack",
        settings: Mapping[str, Any] | None = None,
        *,
        close: bool = True,
    ) -> Means:
        """Predict E[outcome | x] for every row, in input order, as well as can be and with less shrinkage.

        Parameters
        ----------
        outcome : ndarray of shape (n,)
        rows : ndarray of bool, shape (n,), optional
            Rows that may be learned from, such as one arm.
        learner : str
            One of `MEAN_LEARNERS`; `linear` and `ols` are least squares.
        settings : mapping, optional
            Arguments of scikit-learn's random forest or gradient boosting.
        close : bool
            Whether the close predictions are wanted; else they are the best ones.

        Raises
        ------
        EmptyFoldError
            If some fold leaves fewer rows than the learner needs.

        Notes
        -----
        Predictions of the flexible learners stay within the range of the outcomes they learned from, so a binary
        outcome is predicted within 0 and 1; least squares is left as it is, as references expect. The stack weighs its
        parts by what predicts best and uses the same weights for the close predictions: undersmoothed parts would be
        weighed for their noise.
        """
        y, used = outcome[self.order], np.ones(len(outcome), bool) if rows is None else rows[self.order]
        self._check_rows(used, self.x.shape[1] + 1 if learner in ("linear", "ols") else 2)
        if self.x.shape[1] == 0:
            learner = "ols"
        weight = np.where(used, self.sorted_weight, 0.0)
        with threads_for(len(y)):
            found = self._fit_mean(y, used, weight, learner, settings)(self.sorted_x, close)
        return Means(*(self._in_input_order(values) for values in found))

    def switched(
        self,
        outcome: np.ndarray,
        column: int,
        learner: str = "stack",
        settings: Mapping[str, Any] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict every row with one covariate set to 0 and to 1, by one model of all rows, shape (n,) each.

        `column` is the covariate's position, other arguments as in :meth:`means`.
        """
        y = outcome[self.order]
        used = np.ones(len(y), dtype=bool)
        self._check_rows(used, self.x.shape[1] + 1 if learner in ("linear", "ols") else 2)
        off, on = self.sorted_x.copy(), self.sorted_x.copy()
        off[:, column], on[:, column] = 0.0, 1.0
        parts = ("spline", "boosting") if learner == "stack" else (learner,)
        with threads_for(len(y)):
            found = []
            for part in parts:
                predict = self._fit_mean(y, used, self.sorted_weight, part, settings)
                found.append([predict(place, False).best for place in (off, on)])
        if learner == "stack":
            first, second = (np.where(self.sorted_x[:, column] == 1, both[1], both[0]) for both in found)
            share = _least_squares_share(y, first, second, self.sorted_weight)
            found = [[share * a + (1 - share) * b for a, b in zip(*found, strict=True)]]
        return self._in_input_order(found[0][0]), self._in_input_order(found[0][1])

    def _in_input_order(self, values: np.ndarray) -> np.ndarray:
        result = np.empty(len(values))
        result[self.order] = values
        return result

    def probability(
        self, treated: np.ndarray, learner: str = "stack", settings: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Predict P(treated = 1 | x) for every row, in input order, shape (n,), unclipped.

        `learner` is one of `PROBABILITY_LEARNERS`: `linear` and `logit` are the unpenalised logit, `ols` the linear
        probability model.

        Raises
        ------
        EmptyFoldError
            If some fold leaves an arm without rows.
        SeparationError
            If the logit has no finite fit.
        """
        d = treated[self.order]
        for arm in (0, 1):
            self._check_rows(d == arm, 1)
        if learner in ("linear", "logit", "ols"):
            self._check_rows(np.ones(len(d), bool), self.x.shape[1] + 1)
        if self.x.shape[1] == 0:
            learner = "ols"
        with threads_for(len(d)):
            if learner == "stack":
                first, second = (self._probability(d, part, None) for part in ("spline", "boosting"))
                share = _likelihood_share(d, first, second, self.sorted_weight)
                predicted = share * first + (1 - share) * second
            else:
                predicted = self._probability(d, learner, settings)
        return self._in_input_order(predicted)

    def _fit_mean(
        self, y: np.ndarray, used: np.ndarray, weight: np.ndarray, learner: str, settings: Mapping[str, Any] | None
    ) -> Predict:
        """Fit, and return what predicts rows (in sorted order) from given covariates of theirs."""
        if learner == "stack":
            parts = [self._fit_mean(y, used, weight, part, None) for part in ("spline", "boosting")]
            own = [part(self.sorted_x, False).best for part in parts]
            share = _least_squares_share(y[used], own[0][used], own[1][used], weight[used])

            def mixed(x: np.ndarray, close: bool) -> Means:
                first, second = (part(x, close) for part in parts)
                return Means(*(share * a + (1 - share) * b for a, b in zip(first, second, strict=True)))

            return mixed
        if learner in ("linear", "ols"):
            return self._per_fold(y, weight, lambda x, y, w: fit_linear(with_constant(x), y, w), _linear_prediction)
        low, high = y[used].min(), y[used].max()
        if learner == "spline":
            predict = self._fit_spline(y, used, weight)
        elif learner == "boosting":
            predict = self._fit_boosting(y, used)
        else:
            model = _sklearn(learner, settings, self.seed, binary=False)
            predict = self._per_fold(y, weight, model, lambda fit, x: fit.predict(x))
        return lambda x, close: Means(*(np.clip(values, low, high) for values in predict(x, close)))

    def _fit_spline(self, y: np.ndarray, used: np.ndarray, weight: np.ndarray) -> Predict:
        # Centred and scaled, the chosen penalty does not depend on the outcome's units.
        centre, scale = y[used].mean(), y[used].std() or 1.0
        fit = crossfit_ridge(self.design, (y - centre) / scale, weight)

        def predict(x: np.ndarray, close: bool) -> Means:
            coef = np.stack([fit.best, fit.close], axis=2) if close else fit.best[:, :, None]
            found = self.design.predict(coef, None if x is self.sorted_x else x) * scale + centre
            return Means(found[:, 0], found[:, -1])

        return predict

    def _fit_boosting(self, y: np.ndarray, used: np.ndarray) -> Predict:
        given = None if self.weight is None else self.sorted_weight
        fit = crossfit_boosting(self.sorted_x, y, given, self.bounds, fitted=used, seed=self.seed, bins=self.bins)
        here: list[np.ndarray] = []  # the refit changes the trees: what they predicted here before is kept

        def predict(x: np.ndarray, close: bool) -> Means:
            if x is not self.sorted_x:
                best = fit.predict(x)
                return Means(best, best)
            if not here:
                here.append(fit.predict(x))
            if close and len(here) == 1:
                here.append(fit.refitted(x).predict(x))
            return Means(here[0], here[-1] if close else here[0])

        return predict

    def _probability(self, d: np.ndarray, learner: str, settings: Mapping[str, Any] | None) -> np.ndarray:
        from cqox_assets.numerics.logit import expit

        weight = self.sorted_weight
        if learner == "spline":
            coef, _ = crossfit_ridge_logit(self.design, d, weight)
            return expit(self.design.predict(coef))
        if learner == "boosting":
            given = None if self.weight is None else weight
            fit = crossfit_boosting(self.sorted_x, d, given, self.bounds, binary=True, seed=self.seed, bins=self.bins)
            return fit.predict(self.sorted_x)
        if learner in ("linear", "logit"):
            predict = self._per_fold(
                d,
                weight,
                lambda x, y, w: fit_logit(with_constant(x), y, w),
                lambda fit, x: fit.predict(with_constant(x)),
            )
        elif learner == "ols":
            predict = self._per_fold(d, weight, lambda x, y, w: fit_linear(with_constant(x), y, w), _linear_prediction)
        else:
            model = _sklearn(learner, settings, self.seed, binary=True)
            predict = self._per_fold(d, weight, model, lambda fit, x: fit.predict_proba(x)[:, 1])
        return predict(self.sorted_x, False).best

    def _per_fold(self, y: np.ndarray, weight: np.ndarray, fit: Any, predict: Any) -> Predict:
        positions, fitted = np.arange(len(y)), []
        for k in range(len(self.bounds) - 1):
            inside = slice(int(self.bounds[k]), int(self.bounds[k + 1]))
            train = np.flatnonzero(((positions < inside.start) | (positions >= inside.stop)) & (weight > 0))
            if inside.start < inside.stop:
                given = None if self.weight is None else weight[train]
                fitted.append((inside, fit(self.sorted_x[train], y[train], given)))

        def predict_all(x: np.ndarray, close: bool) -> Means:
            result = np.empty(len(x))
            for inside, model in fitted:
                result[inside] = predict(model, x[inside])
            return Means(result, result)

        return predict_all

    def _check_rows(self, used: np.ndarray, needed: int) -> None:
        counted = np.add.reduceat(used & (self.sorted_weight > 0), np.minimum(self.bounds[:-1], len(used) - 1))
        counted = np.where(np.diff(self.bounds) > 0, counted, 0)
        least = int(counted.sum() - counted.max())
        if least < needed:
            raise EmptyFoldError(
                f"with {len(self.bounds) - 1} folds a model would be fitted to {least} rows, it needs {needed}; "
                "use fewer folds or fewer covariates, or deliver more rows of the smaller arm"
            )


def _linear_prediction(fit: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(with_constant(x)[:, fit.kept] @ fit.coef)


def _sklearn(learner: str, settings: Mapping[str, Any] | None, seed: int, *, binary: bool) -> Any:
    from sklearn import ensemble

    kind = "Classifier" if binary else "Regressor"
    if learner == "random_forest":
        make, defaults = getattr(ensemble, f"RandomForest{kind}"), {**_FOREST, "n_jobs": 1}
    elif learner == "gradient_boosting":
        make, defaults = getattr(ensemble, f"GradientBoosting{kind}"), {}
    else:
        raise CatalogError(f"learner '{learner}' is not known; known are {', '.join(PROBABILITY_LEARNERS)}")
    try:
        model = make(**{**defaults, "random_state": seed, **(settings or {})})
    except TypeError as error:
        raise CatalogError(f"parameter 'learner_params' does not fit {learner}: {error}") from error
    from sklearn.base import clone

    return lambda x, y, w: clone(model).fit(x, y, sample_weight=w)


def _least_squares_share(y: np.ndarray, first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> float:
    """Share of the first prediction in the mixture with the least squared error, between 0 and 1."""
    gap = first - second
    size = float(weight @ gap**2)
    return float(np.clip((weight * gap) @ (y - second) / size, 0, 1)) if size > 0 else 1.0


def _likelihood_share(d: np.ndarray, first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> float:
    """Share of the first prediction in the mixture with the highest likelihood, on a grid of 0.05."""
    step = max(1, len(d) // 100_000)
    d, first, second, weight = d[::step], first[::step], second[::step], weight[::step]
    chosen = np.where(d == 1, first, 1 - first), np.where(d == 1, second, 1 - second)
    values = [weight @ np.log(np.maximum(v * chosen[0] + (1 - v) * chosen[1], 1e-3)) for v in _GRID]
    return float(_GRID[int(np.argmax(values))])
