"""Treatment bridges, and the means of both arms that outcome and treatment bridges give, with influence functions."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.bridge import OutcomeBridge, Proxies

_STEPS, _HALVINGS, _DONE = 100, 40, 1e-9


class NoBridgeError(CqoxError):
    """The equations of a treatment bridge have no solution in this sample."""

    code = "no_treatment_bridge"


@dataclass(frozen=True)
class TreatmentBridge:
    """The treatment bridge of one arm.

    Parameters
    ----------
    value : ndarray of shape (n,)
        1(d = a) q(z, x).
    slope : ndarray of shape (n, k)
        Its derivative in the coefficients.
    influence : ndarray of shape (n, k)
        Influence of each row on the coefficients.
    """

    value: np.ndarray
    slope: np.ndarray
    influence: np.ndarray


def fit_treatment_bridge(data: Proxies, arm: int, form: str) -> TreatmentBridge:
    """Solve mean[weight (1(d = a) q(z, x) - 1) (1, x, w)] = 0.

    Parameters
    ----------
    arm : int
    form : str
        `logistic`: q = 1 + exp(t'(1, x, z)), the form that a logistic treatment model implies (Cui, Pu, Shi, Miao &
        Tchetgen Tchetgen 2024, doi:10.1080/01621459.2023.2191817); `linear`: q = t'(1, x, z).

    Raises
    ------
    NoBridgeError

    Notes
    -----
    With more treatment than outcome proxies the bridge uses their combinations that tell the outcome proxies best (the
    first stage), so that there are as many equations as coefficients; these combinations are taken as known.
    """
    n, inside = data.n, data.d == arm
    base = np.column_stack([np.ones(n), data.x])
    moments = _scaled(np.column_stack([base, data.w]))
    basis = _scaled(np.column_stack([base, _told(data)]))
    weight = data.weight
    if form == "linear":
        matrix = (moments * (weight * inside)[:, None]).T @ basis / n
        coef = _solve(matrix, moments.T @ weight / n)
        q, change = basis @ coef, np.ones(n)
    else:
        coef = _newton(moments, basis, weight, inside)
        change = np.exp(basis @ coef)
        q = 1 + change
        matrix = (moments * (weight * inside * change)[:, None]).T @ basis / n
    value = inside * q
    rows = moments * (weight * (value - 1))[:, None]
    return TreatmentBridge(value, basis * (inside * change)[:, None], -_solve(matrix, rows.T).T)


def _scaled(columns: np.ndarray) -> np.ndarray:
    """Centre and scale all but the constant: the solution is the same, its equations are well conditioned."""
    rest = columns[:, 1:] - columns[:, 1:].mean(axis=0)
    spread = rest.std(axis=0)
    return np.column_stack([columns[:, :1], rest / np.where(spread > 0, spread, 1.0)])


def _told(data: Proxies) -> np.ndarray:
    """Return the treatment proxies, or as many of their combinations as there are outcome proxies."""
    p = data.w.shape[1]
    if data.z.shape[1] == p:
        return data.z
    root = np.sqrt(data.weight)[:, None]
    design = np.column_stack([np.ones(data.n), data.x, data.d, data.z])
    slopes = np.linalg.lstsq(design * root, data.w * root, rcond=None)[0]
    return np.asarray(data.z @ slopes[-data.z.shape[1] :])


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    if np.linalg.cond(matrix) > 1e12:
        raise NoBridgeError(
            "the equations of the treatment bridge are singular, so the outcome proxies do not tell the treatment "
            "proxies; use method outcome_bridge, or map stronger proxies"
        )
    return np.asarray(np.linalg.solve(matrix, right))


def _newton(moments: np.ndarray, basis: np.ndarray, weight: np.ndarray, inside: np.ndarray) -> np.ndarray:
    n, share = len(weight), float(weight @ inside / weight.sum())
    coef = np.zeros(basis.shape[1])
    coef[0] = np.log((1 - share) / share)

    def gap(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(over="ignore", invalid="ignore"):
            change = inside * np.exp(basis @ at)
            return moments.T @ (weight * (inside + change - 1)) / n, change

    value, change = gap(coef)
    for _ in range(_STEPS):
        size = float(np.abs(value).max())
        if size < _DONE:
            return coef
        step = _solve((moments * (weight * change)[:, None]).T @ basis / n, value)
        for _ in range(_HALVINGS):
            tried, moved = gap(coef - step)
            if np.abs(tried).max() < size:
                break
            step = step / 2
        else:
            break
        coef, value, change = coef - step, tried, moved
    raise NoBridgeError(
        "no treatment bridge of logistic form balances the outcome proxies between the arms; use treatment_form: "
        "linear or method: outcome_bridge, or map stronger proxies"
    )


def arm_mean(
    data: Proxies, arm: int, outcome: OutcomeBridge | None, treatment: TreatmentBridge | None, *, pooled: bool
) -> tuple[float, np.ndarray]:
    """Return the mean outcome under an arm by one bridge or both, and its influence, shape (n,).

    Parameters
    ----------
    outcome : OutcomeBridge, optional
        Alone it gives the mean of h; with a treatment bridge the mean of h + 1(d = a) q (y - h), doubly robust.
    treatment : TreatmentBridge, optional
        Alone it gives the mean of 1(d = a) q y.
    pooled : bool
        Whether the outcome bridge has the treatment among its regressors.
    """
    n, weight = data.n, data.weight
    predicted, design = np.zeros(n), np.zeros((n, 0))
    if outcome is not None:
        blocks = [np.ones(n), data.x, *([np.full(n, float(arm))] if pooled else []), data.w]
        design = np.column_stack(blocks)
        predicted = design @ outcome.coef
    used = np.zeros(n) if treatment is None else treatment.value
    unit = weight * ((predicted if outcome is not None else 0.0) + used * (data.y - predicted))
    mean = float(unit.mean())
    influence = unit - mean * weight
    if outcome is not None:
        influence = influence + outcome.influence() @ (((weight * (1 - used)) @ design) / n)
    if treatment is not None:
        influence = influence + treatment.influence @ (((weight * (data.y - predicted)) @ treatment.slope) / n)
    return mean, influence
