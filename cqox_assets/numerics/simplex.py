"""Weights of donors that add up to one: exact least squares on the simplex, predictor weights, synthetic DiD."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_MANY, _MANY_WITH_RIDGE = 200, 100  # donors
_EXACT, _REPRODUCED = 1e-13, 1e-10


def simplex_weights(
    target: np.ndarray, donors: np.ndarray, ridge: float = 0.0, barred: int | None = None
) -> np.ndarray:
    """Return w >= 0 with sum 1 that minimises |target - donors w|^2 + ridge |w|^2.

    Parameters
    ----------
    target : ndarray of shape (m,)
    donors : ndarray of shape (m, J)
    ridge : float
    barred : int, optional
        A donor that gets no weight.

    Returns
    -------
    ndarray of shape (J,)

    Notes
    -----
    Many donors are taken in by need: those that would lower the misfit join the problem until none is left, and with a
    ridge the smooth dual problem in m + 1 variables is solved by Newton's method. All ways end in the exact solution,
    which is unique with a ridge or outside the donors' convex hull.
    """
    if donors.shape[1] > (_MANY_WITH_RIDGE if ridge > 0 else _MANY):
        found = _by_dual(target, donors, ridge, barred) if ridge > 0 else _by_need(target, donors, barred)
        if found is not None:
            return found
    if barred is not None:
        return np.insert(simplex_weights(target, np.delete(donors, barred, axis=1), ridge), barred, 0.0)
    gap = donors - target[:, None]
    if ridge > 0:
        gap = np.vstack([gap, np.sqrt(ridge) * np.eye(donors.shape[1])])
    return _active_set(gap)


def movable_weight(target: np.ndarray, donors: np.ndarray, weights: np.ndarray) -> float:
    """Return the share of the weights that another solution, with an equally good fit, gives to other donors.

    Parameters
    ----------
    target : ndarray of shape (m,)
    donors : ndarray of shape (m, J)
    weights : ndarray of shape (J,)
        A solution of `simplex_weights` without a ridge.

    Returns
    -------
    float
        0 where the solution is unique, up to 1 where a disjoint set of donors fits as well.

    Notes
    -----
    All solutions have the same fit and weigh only donors whose gradient is the smallest. Among them one linear
    programme finds the solution with the most weight on donors that have none. Donors that have weight and depend on
    one another are found by their null space; the heaviest of them is given as little as possible.
    """
    from scipy.optimize import linprog

    gap = donors - target[:, None]
    size = float(np.abs(gap).max(initial=0.0))
    if size == 0:
        return float(1 - weights.max())
    gap = gap / size
    left = gap @ weights
    slack = gap.T @ left - left @ left
    able = (slack <= 1e-8) | (weights > 0)
    if able.sum() < 2:
        return 0.0
    system = np.vstack([gap[:, able], np.ones(able.sum())])
    fixed, held = np.append(left, 1.0), weights[able]
    asked = [((held == 0) * -1.0, 0.0)]
    used = np.flatnonzero(held)
    _, sizes, axes = np.linalg.svd(system[:, used])
    if (sizes > 1e-9 * sizes[0]).sum() < len(used):
        bound = used[np.abs(axes[-1]) > 1e-6]
        heaviest = bound[held[bound].argmax()]
        asked.append(((np.arange(len(held)) == heaviest) * 1.0, float(held[heaviest])))
    found = [0.0]
    for cost, now in asked:
        answer = linprog(cost, A_eq=system, b_eq=fixed, bounds=(0, 1), method="highs")
        if answer.status == 0:
            found.append(now - float(answer.fun or 0.0))
    return float(np.clip(max(found), 0.0, 1.0))


def _active_set(gap: np.ndarray, polish: bool = True) -> np.ndarray:
    """Return w >= 0 with sum 1 that minimises |gap w|^2.

    Notes
    -----
    Minimising |A v|^2 + (1 - sum v)^2 over v >= 0 gives v proportional to w, because along each direction its minimum
    q / (1 + q) rises with the misfit q. So the active set method of Lawson & Hanson (1995,
    doi:10.1137/1.9781611971217) solves it exactly; the weights on its support are then polished by the
    equality-constrained solution.
    """
    from scipy.optimize import nnls

    scale = np.sqrt((gap**2).sum(axis=0).min())
    scaled = gap / scale if scale > 0 else gap
    rows = np.vstack([scaled, np.ones(gap.shape[1])])
    goal = np.append(np.zeros(len(scaled)), 1.0)
    found, _ = nnls(rows, goal, maxiter=30 * gap.shape[1] + 100)
    weights = found / found.sum()
    support = weights > 0
    polished = _on_support(scaled[:, support]) if polish else None
    if polished is not None:
        weights[support] = polished
    return np.asarray(weights)


def _by_need(target: np.ndarray, donors: np.ndarray, barred: int | None = None) -> np.ndarray | None:
    """Solve without a ridge on few donors at a time; None if that does not end.

    A donor lowers the misfit |r|^2 of r = donors w - target if its own gap has a smaller product with r than r itself.
    """
    step, weights = min(2 * len(target) + 20, donors.shape[1] - 2), np.zeros(donors.shape[1])
    squares = np.einsum("ij,ij->j", donors, donors) - 2 * target @ donors
    near = squares.copy()
    near[[] if barred is None else barred] = np.inf
    chosen = np.argpartition(near, step)[:step]
    size = float(np.sqrt(max(squares.max() + target @ target, 0.0)))
    for _ in range(50):
        found = _active_set(donors[:, chosen] - target[:, None], polish=False)
        rest = donors[:, chosen] @ found - target
        misfit = float(rest @ rest)
        gain = misfit - (rest @ donors - rest @ target)
        gain[chosen] = 0.0
        gain[[] if barred is None else barred] = 0.0
        better = np.flatnonzero(gain > _EXACT * size * np.sqrt(misfit))
        if not len(better) or misfit <= (_REPRODUCED * size) ** 2:
            weights[chosen] = _active_set(donors[:, chosen] - target[:, None])
            return weights
        if len(better) > step:
            better = better[np.argpartition(-gain[better], step)[:step]]
        chosen = np.append(chosen[found > 0], better)
    return None


def _by_dual(target: np.ndarray, donors: np.ndarray, ridge: float, barred: int | None = None) -> np.ndarray | None:
    """Solve with a ridge by Newton's method on the dual; None if it does not converge.

    Notes
    -----
    With gaps a_j the solution is w_j = max(0, level - a_j'u) / ridge where (u, level) minimises the convex function
    |u|^2 / 2 + sum_j max(0, level - a_j'u)^2 / (2 ridge) - level. Its gradient is u - sum a_j w_j and sum w_j - 1.
    """
    gap = donors - target[:, None]
    scale = float(np.sqrt(np.einsum("ij,ij->j", gap, gap).mean()))
    if not scale > 0:
        return None
    columns = np.vstack([-gap / scale, np.ones(gap.shape[1])])
    columns[:, [] if barred is None else barred] = 0.0
    penalty, m = ridge / scale**2, len(gap)
    metric, linear = np.eye(m + 1), np.zeros(m + 1)
    metric[m, m], linear[m] = 0.0, 1.0
    point = np.append(gap.mean(axis=1) / scale, 0.0)
    point[m] = penalty / gap.shape[1] + float(np.mean(-point @ columns))

    def value(at: np.ndarray, height: np.ndarray) -> float:
        return float(at[:m] @ at[:m] / 2 + height @ height / (2 * penalty) - at[m])

    height = np.maximum(point @ columns, 0.0)
    for _ in range(100):
        active = height > 0
        gradient = metric @ point + columns @ height / penalty - linear
        if np.abs(gradient).max() <= 1e-13 * max(1.0, np.abs(point).max()):
            break
        part = columns[:, active]
        curvature = metric + part @ part.T / penalty
        curvature[np.diag_indices(m + 1)] += 1e-14 * np.trace(curvature)
        move, now, share = np.linalg.solve(curvature, -gradient), value(point, height), 1.0
        while share > 1e-8:
            trial = point + share * move
            height = np.maximum(trial @ columns, 0.0)
            if value(trial, height) <= now + 1e-4 * share * float(gradient @ move) + 1e-15 * abs(now):
                break
            share /= 2
        same = np.array_equal(height > 0, active)
        point = trial
        if same and share == 1.0 and np.abs(move).max() <= 1e-9 * max(1.0, np.abs(point).max()):
            break
    else:
        return None
    weights = height / height.sum()
    support = np.flatnonzero(weights > 0)
    # On its support the solution is a linear system of the dual's size; what is left of rounding goes.
    part = columns[:, support]
    exact = np.linalg.lstsq(metric + part @ part.T / penalty, linear, rcond=None)[0]
    polished = exact @ part / penalty
    if polished.min() < 0:
        return None
    weights[support] = polished / polished.sum()
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
    treated: np.ndarray,
    donors: np.ndarray,
    misfit: Callable[[np.ndarray], float],
    evaluations: int,
    barred: int | None = None,
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
    barred : int, optional
        A donor that gets no weight.

    Notes
    -----
    The problem is not convex: Nelder-Mead on log V from equal weights and from one predictor emphasised at a time;
    the best is kept (Abadie, Diamond & Hainmueller 2010, doi:10.1198/jasa.2009.ap08746).
    """
    from scipy.optimize import minimize

    k = len(treated)

    def loss(logs: np.ndarray) -> float:
        root = np.exp(0.5 * (np.clip(logs, -30, 30)))[:, None]
        return misfit(simplex_weights(treated * root[:, 0], donors * root, barred=barred))

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


def drawn_donors(donors: int, wanted: int, seed: int) -> np.ndarray:
    """Return the positions of so many donors, drawn without replacement if there are more, ascending."""
    if donors <= wanted:
        return np.arange(donors)
    return np.sort(np.random.default_rng(seed).choice(donors, wanted, replace=False))


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
