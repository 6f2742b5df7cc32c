"""Weights of donors that add up to one: exact least squares on the simplex, predictor weights, synthetic DiD."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def simplex_weights(target: np.ndarray, donors: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """Return w >= 0 with sum 1 that minimises |target - donors w|^2 + ridge |w|^2.

    Parameters
    ----------
    target : ndarray of shape (m,)
    donors : ndarray of shape (m, J)
    ridge : float

    Returns
    -------
    ndarray of shape (J,)

    Notes
    -----
    With sum w = 1 the misfit is |A w|^2, A = donors - target 1'. Minimising |A v|^2 + (1 - sum v)^2 over v >= 0 gives
    v proportional to w, because along each direction its minimum q / (1 + q) rises with the misfit q. So the active
    set method of Lawson & Hanson (1995, doi:10.1137/1.9781611971217) solves it exactly; the weights on its support
    are then polished by the equality-constrained solution.
    """
    from scipy.optimize import nnls

    gap = donors - target[:, None]
    if ridge > 0:
        gap = np.vstack([gap, np.sqrt(ridge) * np.eye(donors.shape[1])])
    scale = np.sqrt((gap**2).sum(axis=0).min())
    scaled = gap / scale if scale > 0 else gap
    rows = np.vstack([scaled, np.ones(donors.shape[1])])
    goal = np.append(np.zeros(len(scaled)), 1.0)
    found, _ = nnls(rows, goal, maxiter=30 * donors.shape[1] + 100)
    weights = found / found.sum()
    support = weights > 0
    polished = _on_support(scaled[:, support])
    if polished is not None:
        weights[support] = polished
    return np.asarray(weights)


def _on_support(gap: np.ndarray) -> np.ndarray | None:
    """Return the weights of sum 1 that minimise |gap w|^2; None where they are not unique or not positive."""
    if gap.shape[1] == 1:
        return np.ones(1)
    base, rest = gap[:, -1], gap[:, :-1] - gap[:, -1:]
    found, _, rank, _ = np.linalg.lstsq(rest, -base, rcond=1e-10)
    weights = np.append(found, 1 - found.sum())
    return weights if rank == rest.shape[1] and weights.min() >= 0 else None


def nested_importance(
    treated: np.ndarray, donors: np.ndarray, misfit: Callable[[np.ndarray], float], evaluations: int
) -> np.ndarray:
    """Return predictor weights V, sum 1, whose donor weights fit the outcome best.

    Parameters
    ----------
    treated : ndarray of shape (k,)
        Scaled predictors of the treated unit.
    donors : ndarray of shape (k, J)
    misfit : callable
        Donor weights -> mean squared prediction error of the outcome.
    evaluations : int
        Most evaluations per start.

    Notes
    -----
    The problem is not convex: Nelder-Mead on log V from equal weights and from one predictor emphasised at a time;
    the best is kept (Abadie, Diamond & Hainmueller 2010, doi:10.1198/jasa.2009.ap08746).
    """
    from scipy.optimize import minimize

    k = len(treated)

    def loss(logs: np.ndarray) -> float:
        root = np.exp(0.5 * (np.clip(logs, -30, 30)))[:, None]
        return misfit(simplex_weights(treated * root[:, 0], donors * root))

    starts = [np.zeros(k), *(4.0 * np.eye(k))]
    values = [loss(start) for start in starts]
    best, value = starts[int(np.argmin(values))], float(min(values))
    for start in [starts[i] for i in np.argsort(values)[:3]]:
        for _ in range(2):
            found = minimize(loss, start, method="Nelder-Mead", options={"maxfev": evaluations, "adaptive": True,
                             "initial_simplex": start + 1.5 * np.vstack([np.zeros(k), np.eye(k)])})  # fmt: skip
            start = found.x
        if found.fun < value:
            best, value = found.x, float(found.fun)
    importance = np.exp(np.clip(best, -30, 30) - best.max())
    return np.asarray(importance / importance.sum())


@dataclass(frozen=True)
class SyntheticDid:
    """Effect, unit weights of shape (J,) and weights of earlier periods of shape (T0,)."""

    effect: float
    units: np.ndarray
    times: np.ndarray


def synthetic_did(treated: np.ndarray, donors: np.ndarray, before: int, time_ridge: float = 1e-6) -> SyntheticDid:
    """Return the synthetic difference in differences of one treated unit.

    Parameters
    ----------
    treated : ndarray of shape (T,)
    donors : ndarray of shape (J, T)
    before : int
        Periods before treatment.
    time_ridge : float
        Ridge factor of the weights of periods, in standard deviations.

    Notes
    -----
    zeta = (T_post)^(1/4) sd of the donors' first differences before treatment; unit weights have an intercept and
    the ridge zeta^2 T_pre, weights of periods an intercept and the ridge (factor sd)^2 J
    (Arkhangelsky et al. 2021, doi:10.1257/aer.20190159).
    """
    early, late = donors[:, :before], donors[:, before:].mean(axis=1)
    spread = float(np.diff(early, axis=1).std(ddof=1))
    zeta = (donors.shape[1] - before) ** 0.25 * spread
    own = treated[:before]
    units = simplex_weights(own - own.mean(), (early - early.mean(axis=1, keepdims=True)).T, zeta**2 * before)
    times = simplex_weights(late - late.mean(), early - early.mean(axis=0), (time_ridge * spread) ** 2 * len(donors))
    change = treated[before:].mean() - own @ times - units @ (late - early @ times)
    return SyntheticDid(float(change), units, times)
