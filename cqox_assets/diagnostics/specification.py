"""Whether a linear model bends where the data do, and whether covariates tell who was treated in a trial."""

import numpy as np

from cqox_assets.numerics.linear import LinearFit, in_range, independent_columns

_LEAST_LEFT = 1e-8
_SINGULAR = 1e-12  # where rounding decides what lies along the shortest axis of a correlation matrix


def reset_test(fit: LinearFit, cluster: np.ndarray | None = None) -> tuple[float, str] | None:
    """Return the p-value of Ramsey's test of a linear regression, with a sentence; None where it cannot be made.

    Parameters
    ----------
    fit : LinearFit
    cluster : ndarray of int, shape (n,), optional

    Notes
    -----
    Squares and cubes of the standardised fitted values are added to the regression; the joint test of their
    coefficients is robust to unequal variances (HC3) or to clusters. A saturated model leaves nothing to test.

    References
    ----------
    Ramsey (1969, doi:10.1111/j.2517-6161.1969.tb00796.x).
    """
    # Rows without weight are no observations: they neither count nor tell two terms apart.
    rows = fit.weights > 0
    design, weight = fit.design[rows], fit.weights[rows]
    mean, residuals = in_range(design @ fit.coef), in_range(fit.residuals[rows])
    cluster = None if cluster is None else np.unique(cluster[rows], return_inverse=True)[1]
    centred = mean - np.average(mean, weights=weight)
    spread = float(np.sqrt(np.average(centred**2, weights=weight)))
    if not spread > 1e-12 * float(np.abs(mean).max()):
        return None
    index = centred / spread
    powers = np.column_stack([index**2, index**3])
    bent = powers - design @ (fit.bread @ (design.T @ (weight[:, None] * powers)))
    own, left = (np.average(part**2, axis=0, weights=weight) for part in (powers, bent))
    bent = bent[:, left > _LEAST_LEFT * own]
    bent = bent[:, independent_columns(np.sqrt(weight)[:, None] * bent)] if bent.shape[1] else bent
    n, k = len(weight), design.shape[1] + bent.shape[1]
    if not bent.shape[1] or n <= k:
        return None
    # The Wald statistic of the added terms needs no second fit: they are orthogonal to the others.
    gram = bent.T @ (weight[:, None] * bent)
    slopes = np.linalg.solve(gram, bent.T @ (weight * residuals))
    bread = np.linalg.inv(gram)
    rest, factor = residuals - bent @ slopes, n / (n - k)
    # Cubes have long tails: a row that pulls the curve towards itself has too small a residual (HC3).
    pull = np.einsum("ij,jk,ik->i", bent, bread, bent) * weight
    scores = bent * (weight * rest / np.maximum(1 - pull, _LEAST_LEFT))[:, None]
    if cluster is not None:
        scores = np.column_stack([np.bincount(cluster, weights=column) for column in scores.T])
        factor *= len(scores) / max(len(scores) - 1, 1)
    covariance = bread @ (scores.T @ scores) @ bread * factor
    return _wald(slopes, covariance, "squares and cubes of the fitted values")


def assignment_test(
    covariates: np.ndarray, treated: np.ndarray, cluster: np.ndarray | None = None
) -> tuple[float, str] | None:
    """Return the p-value of the test that covariates do not tell who is treated; None where it cannot be made.

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
    treated : ndarray of shape (n,)
        1 or 0.
    cluster : ndarray of int, shape (n,), optional
        Units that were assigned together.

    Notes
    -----
    The differences of all means at once, against their covariance under random assignment
    (Hansen & Bowers 2008, doi:10.1214/08-STS254).
    """
    covariates = in_range(covariates)
    centred = covariates - covariates.mean(axis=0)
    spread = centred.std(axis=0)
    moving = spread > 1e-12 * np.abs(covariates).max(axis=0, initial=0.0)
    centred = centred[:, moving] / spread[moving]
    centred = centred[:, independent_columns(centred)] if centred.shape[1] else centred
    share = float(treated.mean())
    if not centred.shape[1] or share in (0.0, 1.0):
        return None
    scores = centred * (treated - share)[:, None]
    n = len(treated)
    covariance = centred.T @ centred * share * (1 - share) * n / (n - 1)
    if cluster is not None:
        sums = np.column_stack([np.bincount(cluster, weights=column) for column in scores.T])
        if len(sums) <= 2 * sums.shape[1]:
            return None
        covariance = sums.T @ sums * len(sums) / (len(sums) - 1)
    elif n <= 2 * centred.shape[1]:
        return None
    return _wald(scores.sum(axis=0), covariance, "all covariates together")


def _wald(values: np.ndarray, covariance: np.ndarray, words: str) -> tuple[float, str] | None:
    from scipy.special import chdtrc

    variance = np.diag(covariance)
    if not (variance > 0).all() or not np.isfinite(covariance).all():
        return None
    scale = np.sqrt(variance)
    correlation = covariance / np.outer(scale, scale)
    root, axes = np.linalg.eigh(correlation)
    if root.min() <= _SINGULAR * root.max():
        return None
    statistic = float(np.sum((axes.T @ (values / scale)) ** 2 / root))
    p_value = float(chdtrc(len(values), max(statistic, 0.0)))
    return p_value, f"{words}: chi-squared {statistic:.4g} with {len(values)} degrees of freedom"
