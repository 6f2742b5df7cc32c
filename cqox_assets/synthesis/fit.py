"""How well a counterfactual system fits: errors on rows that its models never saw, and calibration."""

from typing import Any

import numpy as np

from cqox_assets.nuisance.models import Data

_GROUPS = 10


def fit_row(data: Data, m0: np.ndarray, m1: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Return R2 and root mean squared error by arm and together, and the calibration of outcomes and effects.

    Parameters
    ----------
    data : Data
    m0, m1 : ndarray of shape (n,)
        Cross-fitted predictions under the reference and the compared arm.
    scores : ndarray of shape (n,)
        Doubly robust scores of the effect.

    Notes
    -----
    R2 is 1 - sum of squared errors / sum of squares about the mean of what it speaks of; below 0 the mean would have
    predicted better. Calibration: slope of the outcome on its prediction, and of the doubly robust score on the
    predicted effect; 1 is calibrated, 0 is noise.
    """
    own = np.where(data.d == 1, m1, m0)
    row: dict[str, Any] = {}
    for name, inside in (("", np.ones(len(own), bool)), ("_reference", data.d == 0), ("_compared", data.d == 1)):
        y, weight, error = data.y[inside], data.sampling[inside], (data.y - own)[inside]
        centred = y - np.average(y, weights=weight)
        lost, total = float(weight @ error**2), float(weight @ centred**2)
        row[f"r2{name}"] = 1 - lost / total if total > 0 else None
        row[f"rmse{name}"] = float(np.sqrt(lost / weight.sum()))
    slope, intercept = _line(own, data.y, data.sampling)
    effect, _ = _line(m1 - m0, scores, data.sampling)
    return row | {"calibration_slope": slope, "calibration_intercept": intercept, "effect_calibration_slope": effect}


def calibration_rows(data: Data, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Return one row per tenth of the predictions of the arm that was given, lowest first.

    Keys: `group`, `rows`, `predicted` and `observed` (weighted means) and the standard error of the observed mean.
    """
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, _GROUPS + 1)[1:-1]))
    group, rows = np.searchsorted(edges, predicted, side="left"), []
    for place, value in enumerate(np.unique(group), start=1):
        inside = group == value
        weight, y = data.sampling[inside], data.y[inside]
        if weight.sum() == 0:
            continue
        observed = float(np.average(y, weights=weight))
        error = float(np.sqrt(((weight * (y - observed)) ** 2).sum()) / weight.sum())
        mean = float(np.average(predicted[inside], weights=weight))
        rows.append(
            {"group": place, "rows": int(inside.sum()), "predicted": mean, "observed": observed, "std_error": error}
        )
    return rows


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float | None, float | None]:
    """Slope and intercept of the weighted regression of y on x; None where x does not vary."""
    x_mean, y_mean = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = float(weight @ (x - x_mean) ** 2)
    if spread <= 1e-18 * float(weight @ (y - y_mean) ** 2) or spread == 0:
        return None, None
    slope = float(weight @ ((x - x_mean) * (y - y_mean)) / spread)
    return slope, float(y_mean - slope * x_mean)
