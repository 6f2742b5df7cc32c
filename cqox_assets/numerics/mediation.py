"""Mean potential outcomes under an arm and the mediators' values of another arm, with gradients: mediation formulas.

Symbols: y outcome, t arm, m mediators, c covariates. The models are m_k = (1, c, t) alpha_k + noise with covariance S
and y (or the probit index of y) = (1, c, t, m, t m) beta. With reach(t) = beta_m + t beta_tm,
E[Y(t, M(s))] = mean over units of L((1, c, t) beta + (mean of m under s)'reach / sqrt(1 + reach'S reach)), where L and
the root belong to the probit; for least squares L is the identity and the root is 1 (Imai, Keele & Tingley 2010,
doi:10.1037/a0020761; the probit's integral over normal mediators is in closed form).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.linear import LinearFit


@dataclass(frozen=True)
class Pathways:
    """Fitted mediator and outcome models.

    Parameters
    ----------
    covariates : ndarray of shape (n, p)
        With the constant as first column.
    alpha : ndarray of shape (K, p + 1)
        Coefficients of each mediator's model; the last one is the treatment's.
    beta : ndarray of shape (p + 1 + 2 K,)
        Constant and covariates, treatment, mediators, products of treatment and mediators (zero without interaction).
    spread : ndarray of shape (K, K)
        Residual covariance of the mediators.
    noise : ndarray of shape (n, K)
        Residuals of the mediators.
    weight : ndarray of shape (n,)
        Of mean one.
    probit : bool
    """

    covariates: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    spread: np.ndarray
    noise: np.ndarray
    weight: np.ndarray
    probit: bool

    @property
    def mediators(self) -> int:
        """Number of mediators, K."""
        return len(self.alpha)


@dataclass(frozen=True)
class Mean:
    """A functional of the models: value, gradient in (alpha, beta) and each unit's own contribution, shape (n,)."""

    value: float
    gradient: np.ndarray
    unit: np.ndarray

    def __sub__(self, other: "Mean") -> "Mean":
        return Mean(self.value - other.value, self.gradient - other.gradient, self.unit - other.unit)

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.value + other.value, self.gradient + other.gradient, self.unit + other.unit)

    def times(self, factor: float) -> "Mean":
        """Return the functional times a number."""
        return Mean(self.value * factor, self.gradient * factor, self.unit * factor)

    def over(self, other: "Mean") -> "Mean":
        """Return the ratio of two functionals, by the delta method."""
        ratio = self.value / other.value
        return Mean(
            ratio,
            (self.gradient - ratio * other.gradient) / other.value,
            (self.unit - ratio * other.unit) / other.value,
        )


def mean_outcome(paths: Pathways, arm: float, under: Sequence[float]) -> Mean:
    """Return E[Y(arm, M(under))].

    Parameters
    ----------
    paths : Pathways
    arm : float
        Treatment that reaches the outcome directly.
    under : sequence of float, K values
        Treatment that each mediator has its value of.
    """
    count, p = paths.mediators, paths.covariates.shape[1]
    level = np.asarray(under, dtype=float)
    baseline = paths.covariates @ paths.alpha[:, :p].T
    mediator = baseline + level * paths.alpha[:, p]
    direct, product = paths.beta[p + 1 : p + 1 + count], paths.beta[p + 1 + count :]
    reach = direct + arm * product
    linear = paths.covariates @ paths.beta[:p] + arm * paths.beta[p] + mediator @ reach
    value, slope, root = _link(linear, reach, paths)
    tilted = paths.weight * slope / root
    n, total = len(linear), tilted.mean()
    middle = paths.covariates.T @ tilted / n
    by_alpha = np.stack([np.append(reach[k] * middle, reach[k] * level[k] * total) for k in range(count)])
    by_reach = mediator.T @ tilted / n
    own = paths.weight * value
    mean = float(own.mean())
    unit = own - paths.weight * mean
    if paths.probit:
        curve = float(np.mean(tilted * linear)) / root**2
        by_reach = by_reach - curve * (paths.spread @ reach)
        noise = paths.noise @ reach
        unit = unit - 0.5 * curve * paths.weight * (noise**2 - float(reach @ paths.spread @ reach))
    by_beta = np.concatenate([middle, [arm * total], by_reach, arm * by_reach])
    return Mean(mean, np.concatenate([by_alpha.ravel(), by_beta]), unit)


def _link(linear: np.ndarray, reach: np.ndarray, paths: Pathways) -> tuple[np.ndarray, np.ndarray, float]:
    if not paths.probit:
        return linear, np.ones(len(linear)), 1.0
    from scipy.special import ndtr

    root = float(np.sqrt(1 + reach @ paths.spread @ reach))
    scaled = linear / root
    return np.asarray(ndtr(scaled)), np.exp(-0.5 * scaled**2) / np.sqrt(2 * np.pi), root


def joint_covariance(
    mediators: Sequence[LinearFit],
    outcome: LinearFit,
    widths: Sequence[int],
    kind: str,
    cluster: np.ndarray | None,
    *,
    probit: bool,
    independent: bool = False,
) -> np.ndarray:
    """Return the covariance of all coefficients, mediators' models first, with zeros for columns that were left out.

    Parameters
    ----------
    mediators : sequence of LinearFit
        All on the same design.
    outcome : LinearFit
    widths : sequence of int
        Columns of each design before collinear ones were left out.
    kind : str
        A covariance of :class:`LinearFit`.
    cluster : ndarray of int, shape (n,), optional
    probit : bool
        Whether the outcome model is a probit; its classical covariance is the inverse information.
    independent : bool
        Whether mediator and outcome models count as uncorrelated within clusters as well.

    Notes
    -----
    Mediator and outcome models have uncorrelated scores where the outcome model is right, because the outcome's noise
    has mean zero given the mediators; within clusters their scores may be correlated, and then that enters.
    """
    fits, starts = [*mediators, outcome], np.concatenate([[0], np.cumsum(widths)])
    result = np.zeros((int(starts[-1]), int(starts[-1])))
    last = len(fits) - 1
    clustered = kind.startswith("CR") and not independent
    for i, one in enumerate(fits):
        for j, other in enumerate(fits):
            if (i == last) != (j == last) and not clustered:
                continue
            if i == j:
                block = one.bread if (probit and i == last and kind == "classical") else one.covariance(kind, cluster)
            else:
                block = _between(one, other, kind, cluster)
            result[np.ix_(starts[i] + one.kept, starts[j] + other.kept)] = block
    return result


def _between(one: LinearFit, other: LinearFit, kind: str, cluster: np.ndarray | None) -> np.ndarray:
    """Covariance between the coefficients of two models."""
    if kind == "classical":
        noise = float(np.dot(one.weights * one.residuals, other.residuals)) / one.df_residual
        return np.asarray(one.bread * noise)
    first, second = (fit.design * (fit.weights * fit.residuals)[:, None] for fit in (one, other))
    n = len(one.residuals)
    if kind.startswith("CR") and cluster is not None:
        groups = int(cluster.max()) + 1
        first, second = (
            np.column_stack([np.bincount(cluster, weights=column, minlength=groups) for column in part.T])
            for part in (first, second)
        )
        sizes = [len(fit.coef) for fit in (one, other)]
        factor = groups / (groups - 1) * (n - 1) / np.sqrt((n - sizes[0]) * (n - sizes[1]))
        return np.asarray(one.bread @ (first.T @ second) @ other.bread * (factor if kind == "CR1" else 1.0))
    middle: np.ndarray | float = 1.0
    if kind == "HC1":
        middle = n / one.df_residual
    elif kind in ("HC2", "HC3"):
        middle = (1 / (1 - one.leverage()) ** (1 if kind == "HC2" else 2))[:, None]
    return np.asarray(one.bread @ ((first * middle).T @ second) @ other.bread)


def expanded(fit: LinearFit, width: int) -> np.ndarray:
    """Return the coefficients with zeros for columns that were left out, shape (width,)."""
    result = np.zeros(width)
    result[fit.kept] = fit.coef
    return result


def simulated_mean(paths: Pathways, theta: np.ndarray, arm: float, under: Sequence[float]) -> np.ndarray:
    """Return E[Y(arm, M(under))] for drawn coefficients.

    Parameters
    ----------
    paths : Pathways
        Its units and residual covariance are kept.
    theta : ndarray of shape (draws, K (p + 1) + p + 1 + 2 K)
        Rows of drawn (alpha, beta).
    arm, under
        As in :func:`mean_outcome`.

    Returns
    -------
    ndarray of shape (draws,)
    """
    count, p = paths.mediators, paths.covariates.shape[1]
    level = np.asarray(under, dtype=float)
    alpha = theta[:, : count * (p + 1)].reshape(len(theta), count, p + 1)
    beta = theta[:, count * (p + 1) :]
    reach = beta[:, p + 1 : p + 1 + count] + arm * beta[:, p + 1 + count :]
    slopes = beta[:, :p] + np.einsum("dk,dkp->dp", reach, alpha[:, :, :p])
    shift = arm * beta[:, p] + np.einsum("dk,dk->d", reach, level * alpha[:, :, p])
    if not paths.probit:
        return np.asarray(slopes @ (paths.weight @ paths.covariates / len(paths.weight)) + shift)
    from scipy.special import ndtr

    root = np.sqrt(1 + np.einsum("dj,jk,dk->d", reach, paths.spread, reach))
    block = max(1, 4_000_000 // len(paths.weight))
    parts = [
        paths.weight @ ndtr((paths.covariates @ slopes[rows].T + shift[rows]) / root[rows]) / len(paths.weight)
        for rows in (slice(start, start + block) for start in range(0, len(theta), block))
    ]
    return np.concatenate(parts)


def drawn_coefficients(centre: np.ndarray, covariance: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Draw coefficients from their normal distribution, shape (draws, k); the covariance may be singular."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(centre + np.random.default_rng(seed).standard_normal((draws, len(centre))) @ root.T)


def confounded_mediation(reach: float, first: np.ndarray, second: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """Return the mediated effect if the noises of mediator and outcome had correlation `rho`, shape of `rho`.

    Parameters
    ----------
    reach : float
        Effect of the treatment on the mediator.
    first, second : ndarray of shape (n,)
        Residuals of the outcome without the mediator, and of the mediator, on treatment and covariates.
    rho : ndarray
        Inside (-1, 1).

    Notes
    -----
    Imai, Keele & Yamamoto (2010, doi:10.1214/10-STS321), theorem 4: reach s1/s2 (r - rho sqrt((1 - r^2)/(1 - rho^2)))
    with r the residuals' correlation; it is zero at rho = r.
    """
    found = float(np.corrcoef(first, second)[0, 1])
    bent = found - rho * np.sqrt((1 - found**2) / (1 - rho**2))
    return np.asarray(reach * first.std() / second.std() * bent)
