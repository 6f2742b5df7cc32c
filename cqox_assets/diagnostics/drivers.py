"""What predicted unit effects depend on: Shapley values of boosted trees that reproduce them."""

from dataclasses import dataclass

import numpy as np

_MOST = 10_000  # units that the trees learn from
_EXPLAINED = 2_000  # units whose Shapley values are computed


@dataclass(frozen=True)
class Drivers:
    """Contributions of covariates to predicted effects.

    Parameters
    ----------
    units : ndarray of int, shape (m,)
        Rows that are explained, evenly spaced through the study.
    contributions : ndarray of shape (m, k)
        Shapley values in units of the effect; with their expectation they add up to the trees' prediction.
    importance : ndarray of shape (k,)
        Mean absolute contribution.
    explained : float
        Share of the variance of the predicted effects that the trees reproduce, on the rows they learned from.
    """

    units: np.ndarray
    contributions: np.ndarray
    importance: np.ndarray
    explained: float


def drivers_of(covariates: np.ndarray, effect: np.ndarray) -> Drivers | None:
    """Explain predicted effects by the covariates, or return None where trees find nothing to split on.

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
    effect : ndarray of shape (n,)

    Notes
    -----
    The exact Shapley values of the trees (TreeSHAP, Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9), as LightGBM
    computes them. They explain what the estimator predicts, not what causes the effect to differ.
    """
    import lightgbm

    rows = np.linspace(0, len(effect) - 1, min(len(effect), _MOST)).astype(int)
    rows = np.unique(rows)
    settings = {
        "objective": "regression", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": max(5, len(rows) // 200),
        "verbosity": -1, "num_threads": 1, "seed": 0, "deterministic": True, "feature_pre_filter": False,
    }  # fmt: skip
    scale = float(effect[rows].std())
    if not scale > 0 or len(rows) < 20:
        return None
    target = (effect[rows] - effect[rows].mean()) / scale
    trees = lightgbm.train(settings, lightgbm.Dataset(covariates[rows], target), num_boost_round=60)
    held = np.unique(np.linspace(0, len(effect) - 1, min(len(effect), _EXPLAINED)).astype(int))
    contributions = np.asarray(trees.predict(covariates[held], pred_contrib=True))[:, :-1] * scale
    importance = np.abs(contributions).mean(axis=0)
    if not importance.max(initial=0.0) > 0:
        return None
    rest = target - np.asarray(trees.predict(covariates[rows]))
    return Drivers(held, contributions, importance, max(0.0, 1 - float(rest.var() / target.var())))
