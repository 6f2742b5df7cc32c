"""How different the arms' covariates are, before and after an estimator's weights."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cqox_assets.numerics.linear import blocks, in_range
from cqox_assets.study import Role, Study

_ROUNDING = 1e-14


def standardised_differences(
    covariates: np.ndarray, treated: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the difference of weighted means over the unweighted pooled SD, shape (k,).

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
    treated : ndarray of shape (n,)
        1 for the compared arm, 0 for the reference arm.
    weights : ndarray of shape (n,), optional
        Zero leaves a row out.

    Notes
    -----
    The denominator is sqrt((s1^2 + s0^2) / 2) of the unadjusted sample, so that an adjustment cannot look better by
    widening it (Austin 2009, doi:10.1002/sim.3697). A covariate that is constant in both arms has difference 0 if
    the means agree and infinity if they do not.
    """
    plain = np.ones(len(treated)) if weights is None else weights
    return np.asarray(_differences(covariates, treated, [plain])[0])


def _differences(covariates: np.ndarray, treated: np.ndarray, weightings: Sequence[np.ndarray]) -> np.ndarray:
    """Return the differences under each weighting, shape (weightings, k); the pooled SD is found once."""
    covariates = in_range(covariates)
    arms = np.stack([treated == 0, treated == 1]).astype(float)
    rows = arms.sum(axis=1, keepdims=True)
    means = arms @ covariates / rows
    squares, side = np.zeros_like(means), (treated == 1).astype(int)
    for part in blocks(len(treated)):
        deviation = covariates[part] - means[side[part]]
        squares += arms[:, part] @ np.square(deviation, out=deviation)
    deviations = np.sqrt(squares / np.maximum(rows - 1, 1))  # one row alone has no spread of its own
    deviations[deviations <= _ROUNDING * np.abs(means)] = 0.0  # a constant, whose mean is only known up to rounding
    spread = np.sqrt((deviations**2).mean(axis=0))
    found = []
    for weight in weightings:
        shares = arms * weight
        averages = shares @ covariates / shares.sum(axis=1, keepdims=True)
        gap = averages[1] - averages[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = gap / spread
        apart = np.abs(gap) > 1e-12 * np.abs(averages).max(axis=0)
        found.append(np.where(spread > 0, ratio, np.where(apart, np.copysign(np.inf, gap), 0.0)))
    return np.array(found)


def balance_table(study: Study, weights: np.ndarray | None = None) -> pd.DataFrame:
    """Return one row per covariate: `covariate` (label), `before` and `after` (absolute differences).

    `study` has two arms; without weights `after` equals `before`. Sampling weights count in both columns.
    """
    covariates, treated = study.matrix(), study.column(Role.TREATMENT)
    sampling = study.weights()
    plain = np.ones(len(treated)) if sampling is None else sampling
    found = np.abs(_differences(covariates, treated, [plain] if weights is None else [plain, weights]))
    before, after = found[0], found[-1]
    return pd.DataFrame(
        {"covariate": [study.label(name) for name in study.names(Role.COVARIATES)], "before": before, "after": after}
    )


def worst_difference(table: pd.DataFrame, column: str = "after") -> tuple[float | None, str]:
    """Return the largest difference of a balance table and a sentence that names its covariate."""
    if table.empty:
        return None, "there are no covariates to compare"
    row = table.iloc[int(table[column].to_numpy().argmax())]
    return float(row[column]), f"the largest is {row['covariate']} at {row[column]:.3f}"
