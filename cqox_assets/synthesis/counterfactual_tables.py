"""Tables of counterfactual systems: fit and calibration by arm, quantiles and densities of outcomes and effects."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.nuisance.models import CLIP, Data
from cqox_assets.synthesis.unit_gains import Contrast

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
BINS = 40
Predicted = Mapping[str, tuple[np.ndarray, np.ndarray]]


def weighted_quantiles(values: np.ndarray, weight: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Return the values at which these shares of the weight lie at or below, shape (len(shares),)."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    place = np.searchsorted(below, np.asarray(shares) * below[-1] * (1 - 1e-12))
    return np.asarray(values[order][np.minimum(place, len(values) - 1)])


def fit_rows(contrast: Contrast, data: Data, predicted: Predicted) -> pd.DataFrame:
    """Return how well each system predicts outcomes that it has not seen, by arm and for both.

    Columns: `contrast`, `system`, `arm`, `rows`, `r2` (against the arm's own mean), `rmse`, `baseline_rmse` (that of
    the mean), `calibration_intercept` and `calibration_slope` of the outcome on its prediction (0 and 1 are
    calibrated; None where all predictions are equal) and `outside`, the share of predictions beyond the observed range.
    """
    rows, labels = [], (contrast.part.arms[0], contrast.arm)
    for name, pair in predicted.items():
        mean = np.empty(len(data.y))
        own = np.where(data.d == 1, pair[1], pair[0])
        for code in (0, 1):
            inside = data.d == code
            mean[inside] = np.average(data.y[inside], weights=data.sampling[inside])
        for arm, inside in ((labels[0], data.d == 0), (labels[1], data.d == 1), ("both", np.ones(len(mean), bool))):
            fit = _fit(data.y[inside], own[inside], mean[inside], data.sampling[inside])
            rows.append({"contrast": contrast.label, "system": name, "arm": arm, "rows": int(inside.sum()), **fit})
    return pd.DataFrame(rows)


def _fit(y: np.ndarray, predicted: np.ndarray, mean: np.ndarray, weight: np.ndarray) -> dict[str, float | None]:
    error, base = (float(np.average((y - guess) ** 2, weights=weight)) for guess in (predicted, mean))
    centre = float(np.average(predicted, weights=weight))
    spread = float(np.average((predicted - centre) ** 2, weights=weight))
    slope = intercept = None
    if spread > 1e-18 * max(centre**2, base, 1e-300):
        slope = float(np.average((predicted - centre) * y, weights=weight)) / spread
        intercept = float(np.average(y, weights=weight)) - slope * centre
    return {
        "r2": 1 - error / base if base > 0 else None, "rmse": error**0.5, "baseline_rmse": base**0.5,
        "calibration_intercept": intercept, "calibration_slope": slope,
        "outside": float(np.average((predicted < y.min()) | (predicted > y.max()), weights=weight)),
    }  # fmt: skip


def _columns(
    contrast: Contrast, data: Data, predicted: Predicted
) -> Iterator[tuple[dict[str, str], np.ndarray, np.ndarray]]:
    """Yield (labels, values, weights) of every distribution.

    `outcome` is what was observed, weighted to the whole population by the inverse of the propensity: the distribution
    of the potential outcome itself. `expected_outcome` and `effect` are predictions given covariates, which vary less
    than outcomes and effects of single units do.
    """
    arms, e = (contrast.part.arms[0], contrast.arm), contrast.held["propensity"].to_numpy().clip(CLIP, 1 - CLIP)
    for code, arm in enumerate(arms):
        inside = data.d == code
        inverse = data.sampling[inside] / (e if code else 1 - e)[inside]
        yield {"quantity": "outcome", "system": "observed", "arm": arm}, data.y[inside], inverse
    for name, pair in predicted.items():
        for arm, values in zip(arms, pair, strict=True):
            yield {"quantity": "expected_outcome", "system": name, "arm": arm}, values, data.sampling
        yield {"quantity": "effect", "system": name, "arm": contrast.label}, pair[1] - pair[0], data.sampling


def quantile_rows(contrast: Contrast, data: Data, predicted: Predicted) -> pd.DataFrame:
    """Return mean, standard deviation, share above 0 and quantiles (`q01` to `q99`) of every distribution."""
    rows = []
    for labels, values, weight in _columns(contrast, data, predicted):
        mean = float(np.average(values, weights=weight))
        row: dict[str, Any] = {"contrast": contrast.label, **labels, "mean": mean}
        row["sd"] = float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
        row["above_zero"] = float(np.average(values > 0, weights=weight))
        found = weighted_quantiles(values, weight, QUANTILES)
        rows.append(
            row | {f"q{share * 100:02.0f}": float(value) for share, value in zip(QUANTILES, found, strict=True)}
        )
    return pd.DataFrame(rows)


def densities(contrast: Contrast, data: Data, predicted: Predicted) -> pd.DataFrame:
    """Return histograms: `quantity`, `system`, `arm`, `left`, `right`, `share` of the weight.

    All distributions of a quantity share their 40 bins, which span the 0.5th to the 99.5th percentile of all of them;
    what lies beyond counts in the outermost bins.
    """
    held = list(_columns(contrast, data, predicted))
    frames = []
    for quantity in ("outcome", "expected_outcome", "effect"):
        own = [item for item in held if item[0]["quantity"] == quantity]
        ends = np.array([weighted_quantiles(values, weight, (0.005, 0.995)) for _, values, weight in own])
        low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
        if not high > low:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, BINS + 1)
        for labels, values, weight in own:
            place = np.clip(((values - low) / (high - low) * BINS).astype(int), 0, BINS - 1)
            share = np.bincount(place, weights=weight, minlength=BINS) / weight.sum()
            frames.append(pd.DataFrame({**labels, "left": edges[:-1], "right": edges[1:], "share": share}))
    return pd.concat(frames, ignore_index=True).assign(contrast=contrast.label)
