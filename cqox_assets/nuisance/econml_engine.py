"""Unit effects by econml, beside the platform's own fits; econml is imported when it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.nuisance.models import CLIP, Data

OFFERED = ("ols", "random_forest", "boosting")
_FOREST = {"n_estimators": 200, "min_samples_leaf": 10, "max_features": 0.5, "n_jobs": 1}
_BOOSTING = {"n_estimators": 100, "num_leaves": 7, "learning_rate": 0.1, "min_child_samples": 20, "max_bin": 63}


@dataclass(frozen=True)
class Choice:
    """What econml's learners are made of.

    Parameters
    ----------
    learner : str
        `ols`, `random_forest` or `boosting`.
    settings : mapping
        Arguments of the learner.
    folds : int
        0: predictions in sample; else every unit is predicted by models that never saw its fold.
    seed : int
    """

    learner: str
    settings: Mapping[str, Any]
    folds: int
    seed: int


def learner_effects(name: str, data: Data, choice: Choice) -> np.ndarray:
    """Predict unit effects by econml's meta-learner of that name, shape (n,).

    Parameters
    ----------
    name : str
        `s_learner`, `t_learner`, `x_learner` or `dr_learner`.
    data : Data
    choice : Choice

    Raises
    ------
    CqoxError
        If weights are mapped and econml's learner has none; if an arm is empty outside a fold.
    """
    if data.weight is not None and name != "dr_learner":
        raise CqoxError(
            f"econml's {name} takes no sampling weights; use engine: own, or unmap the role 'weight'",
            code="weight_not_supported",
        )
    everything = np.ones(len(data.y), dtype=bool)
    if not choice.folds:
        return _fitted(name, data, choice, everything, everything)
    fold, result = data.content_folds(choice.folds, choice.seed), np.empty(len(data.y))
    for k in np.unique(fold):
        result[fold == k] = _fitted(name, data, choice, fold != k, fold == k)
    return result


def _fitted(name: str, data: Data, choice: Choice, seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
    arms = np.bincount(data.d[seen].astype(int), minlength=2)
    if arms.min() < 2:
        raise CqoxError(
            f"outside a fold an arm has {arms.min()} rows, econml needs 2; use fewer folds or deliver more rows",
            code="empty_fold_arm",
        )
    d = data.d[seen].astype(int)
    model, extra = _learner(name, choice), {}
    if name == "dr_learner" and data.weight is not None:
        extra["sample_weight"] = data.weight[seen]
    model.fit(data.y[seen], d, X=data.x[seen], **extra)
    return np.asarray(model.effect(data.x[asked])).reshape(-1)


def _learner(name: str, choice: Choice) -> Any:
    from econml.dr import DRLearner
    from econml.metalearners import SLearner, TLearner, XLearner

    mean, chance = _model(choice, binary=False), _model(choice, binary=True)
    if name == "s_learner":
        return SLearner(overall_model=mean)
    if name == "t_learner":
        return TLearner(models=mean)
    if name == "x_learner":
        return XLearner(models=mean, propensity_model=chance)
    return DRLearner(
        model_propensity=chance, model_regression=mean, model_final=mean, min_propensity=CLIP, random_state=choice.seed
    )


def _model(choice: Choice, *, binary: bool) -> Any:
    """Return an unfitted scikit-learn model: a regression, or a classifier when `binary`."""
    seed, settings = choice.seed % 2**31, dict(choice.settings)
    try:
        if choice.learner == "ols":
            from sklearn.linear_model import LinearRegression, LogisticRegression

            return LogisticRegression(C=1e6, max_iter=1000) if binary else LinearRegression()
        if choice.learner == "random_forest":
            from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

            forest = RandomForestClassifier if binary else RandomForestRegressor
            return forest(**{**_FOREST, "random_state": seed, **settings})
        if choice.learner == "boosting":
            from lightgbm import LGBMClassifier, LGBMRegressor

            boosting = LGBMClassifier if binary else LGBMRegressor
            return boosting(**_BOOSTING, random_state=seed, deterministic=True, n_jobs=1, verbose=-1)
    except TypeError as error:
        raise CatalogError(f"parameter 'learner_params' does not fit {choice.learner}: {error}") from error
    raise CatalogError(f"engine econml does not offer learner {choice.learner}; allowed are {', '.join(OFFERED)}")


def forest_effects(
    data: Data, t: np.ndarray, y: np.ndarray, trees: int, min_leaf: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grow econml's CausalForestDML on given residuals.

    Parameters
    ----------
    data : Data
    t, y : ndarray of shape (n,)
        Treatment and outcome less their cross-fitted expectations, which replace econml's own nuisance models.
    trees, min_leaf, seed : int

    Returns
    -------
    ndarray of shape (n,)
        Effects by trees that have not seen the unit.
    ndarray of shape (n,)
        Standard errors of all trees' effects.
    ndarray of shape (p,)
        Importance of each covariate.

    Raises
    ------
    CqoxError
        If clusters are mapped: econml's forest draws rows one by one.
    """
    if data.cluster is not None:
        raise CqoxError(
            "econml's forest draws rows, not clusters; use engine: own, or unmap the role 'cluster'",
            code="cluster_not_supported",
        )
    from econml.dml import CausalForestDML

    place = np.arange(len(y), dtype=float)[:, None]
    forest = CausalForestDML(
        model_y=_known(data.y - y), model_t=_known(data.d - t, binary=True), discrete_treatment=True,
        n_estimators=4 * max(-(-trees // 4), 2), min_samples_leaf=min_leaf, min_samples_split=2 * min_leaf, n_jobs=1,
        random_state=seed % 2**31,
    )  # fmt: skip
    forest.fit(data.y, data.d.astype(int), X=data.x, W=place, sample_weight=data.weight)
    effect = np.asarray(forest.model_cate.oob_predict(data.x)).reshape(-1)
    inferred = forest.effect_inference(data.x)
    effect = np.where(np.isfinite(effect), effect, np.asarray(inferred.point_estimate).reshape(-1))
    error = np.nan_to_num(np.asarray(inferred.stderr).reshape(-1), nan=0.0)
    return effect, error, np.asarray(forest.feature_importances_).reshape(-1)


def _known(values: np.ndarray, *, binary: bool = False) -> Any:
    """Return a model that looks its predictions up by the row's number, which is its last input."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    class Known(BaseEstimator):  # type: ignore[misc]
        classes_ = np.array([0, 1])

        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def fit(self, x: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> "Known":
            return self

        def look_up(self, x: np.ndarray) -> np.ndarray:
            return np.asarray(self.values[x[:, -1].astype(int)])

    class KnownMean(RegressorMixin, Known):  # type: ignore[misc]
        def predict(self, x: np.ndarray) -> np.ndarray:
            return self.look_up(x)

    class KnownChance(ClassifierMixin, Known):  # type: ignore[misc]
        def predict(self, x: np.ndarray) -> np.ndarray:
            return (self.look_up(x) > 0.5).astype(int)

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            chance = self.look_up(x)
            return np.column_stack([1 - chance, chance])

    return KnownChance(values) if binary else KnownMean(values)
