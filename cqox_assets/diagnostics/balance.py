"""How different the arms' covariates are, before and after an estimator's weights."""

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study


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
    one, zero = treated == 1, treated == 0
    weight = np.ones(len(treated)) if weights is None else weights
    gap = np.average(covariates[one], axis=0, weights=weight[one]) - np.average(
        covariates[zero], axis=0, weights=weight[zero]
    )
    spread = np.sqrt((covariates[one].var(axis=0, ddof=1) + covariates[zero].var(axis=0, ddof=1)) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = gap / spread
    return np.where(spread > 0, ratio, np.where(np.abs(gap) > 1e-12, np.copysign(np.inf, gap), 0.0))


def balance_table(study: Study, weights: np.ndarray | None = None) -> pd.DataFrame:
    """Return one row per covariate: `covariate` (label), `before` and `after` (absolute differences).

    `study` has two arms; without weights `after` equals `before`. Sampling weights count in both columns.
    """
    covariates, treated = study.matrix(), study.column(Role.TREATMENT)
    sampling = study.weights()
    before = np.abs(standardised_differences(covariates, treated, sampling))
    after = before if weights is None else np.abs(standardised_differences(covariates, treated, weights))
    return pd.DataFrame(
        {"covariate": [study.label(name) for name in study.names(Role.COVARIATES)], "before": before, "after": after}
    )


def worst_difference(table: pd.DataFrame, column: str = "after") -> tuple[float | None, str]:
    """Return the largest difference of a balance table and a sentence that names its covariate."""
    if table.empty:
        return None, "there are no covariates to compare"
    row = table.iloc[int(table[column].to_numpy().argmax())]
    return float(row[column]), f"the largest is {row['covariate']} at {row[column]:.3f}"
