"""How nearly the covariates are linear combinations of one another."""

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

# An eigenvalue of a correlation matrix below the first is rounding error; a squared loading below the second as well.
_ZERO_EIGENVALUE = 1e-10
_ZERO_LOADING = 1e-14


def variance_inflation(covariates: np.ndarray) -> np.ndarray:
    """Return the variance inflation factor 1 / (1 - R2) of each column, shape (k,).

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
        Without the constant.

    Returns
    -------
    ndarray of shape (k,)
        At least 1; infinite for a column that is an exact linear combination of others or constant. All are NaN
        when a cell is missing or there are no rows.

    Notes
    -----
    The factors are the diagonal of the inverse correlation matrix (Belsley, Kuh & Welsch 1980,
    doi:10.1002/0471725153). It is summed over eigenvectors, so that an exact dependency among some columns makes their
    factors infinite and leaves those of the other columns as they are.
    """
    if covariates.shape[1] == 0:
        return np.empty(0)
    if len(covariates) == 0 or not np.isfinite(covariates).all():
        return np.full(covariates.shape[1], np.nan)
    centred = covariates - covariates.mean(axis=0)
    scale = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    largest = np.abs(covariates).max(axis=0, initial=0.0)
    varies = scale > 1e-12 * np.sqrt(len(covariates)) * largest
    factors = np.full(covariates.shape[1], np.inf)
    if not varies.any():
        return factors
    scaled = centred[:, varies] / scale[varies]
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    loadings = vectors**2
    exact = values < _ZERO_EIGENVALUE
    finite = loadings[:, ~exact] @ (1 / values[~exact])
    dependent = (loadings[:, exact] > _ZERO_LOADING).any(axis=1)
    factors[varies] = np.where(dependent, np.inf, np.maximum(finite, 1.0))
    return factors


def inflation_table(study: Study) -> pd.DataFrame:
    """Return one row per covariate: `covariate` (label) and `vif`, in the order of the covariates."""
    labels = [study.label(name) for name in study.names(Role.COVARIATES)]
    return pd.DataFrame({"covariate": labels, "vif": variance_inflation(study.matrix())})


def no_inflation() -> pd.DataFrame:
    """Return an inflation table without rows."""
    return pd.DataFrame({"covariate": [], "vif": []}).astype({"covariate": "str", "vif": "float64"})
