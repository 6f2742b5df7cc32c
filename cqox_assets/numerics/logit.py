"""Logistic regression by Newton's method: unpenalised maximum likelihood or ridge, with sampling weights."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import COLLINEAR, Moments, blocks

_FLAT = 1e-9


class SeparationError(CqoxError):
    """The covariates predict the binary variable perfectly, so the likelihood has no maximum."""

    code = "perfect_separation"


@dataclass(frozen=True)
class LogitFit:
    """A fitted logistic regression.

    Parameters
    ----------
    coef : ndarray of shape (k,)
        Of the kept columns.
    probability : ndarray of shape (n,)
        Fitted P(y = 1 | x).
    linear : ndarray of shape (n,)
        Linear predictor.
    bread : ndarray of shape (k, k)
        Inverse of the information matrix.
    design : ndarray of shape (n, k)
    residuals : ndarray of shape (n,)
        Weighted y - probability; times the design they are the scores.
    kept : ndarray of int
        Columns of the passed design that are no linear combination of earlier ones.
    """

    coef: np.ndarray
    probability: np.ndarray
    linear: np.ndarray
    bread: np.ndarray
    design: np.ndarray
    residuals: np.ndarray
    kept: np.ndarray

    def influence(self, direction: np.ndarray | None = None) -> np.ndarray:
        """Return the influence of each row on the coefficients, shape (n, k).

        With a direction of shape (k,), that on the combination of coefficients, shape (n,).
        """
        size = len(self.residuals) * self.residuals
        if direction is not None:
            return np.asarray(size * (self.design @ (self.bread @ direction)))
        influence = self.design @ self.bread
        influence *= size[:, None]
        return np.asarray(influence)

    def predict(self, design: np.ndarray) -> np.ndarray:
        """Return probabilities for new rows of the passed design, shape (m,)."""
        return expit(design[:, self.kept] @ self.coef)


def expit(value: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-value)) without overflow."""
    from scipy.special import expit as special

    return np.asarray(special(value))


def fit_logit(
    design: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    ridge: float = 0.0,
    iterations: int = 60,
    drop_collinear: bool = True,
) -> LogitFit:
    """Fit P(y = 1 | x) = expit(x'b).

    Parameters
    ----------
    design : ndarray of shape (n, k)
        The first column is the constant; it is never penalised.
    outcome : ndarray of shape (n,)
        0 or 1.
    weights : ndarray of shape (n,), optional
    ridge : float
        Penalty 0.5 * ridge * sum of squared standardised slopes; 0 is maximum likelihood.

    Raises
    ------
    SeparationError
        If the likelihood has no maximum.
    """
    weight = np.ones(len(outcome)) if weights is None else weights
    moments = Moments.of(design)
    kept = np.flatnonzero(moments.pivots(COLLINEAR) > COLLINEAR) if drop_collinear else np.arange(design.shape[1])
    x = np.ascontiguousarray(design if len(kept) == design.shape[1] else design[:, kept])
    # Columns are scaled for the Newton steps only: earnings in dollars beside 0/1 flags would be ill-conditioned.
    centre, spread = x.mean(0), moments.only(kept).spread / np.sqrt(len(x)) if moments.constant else x.std(0)
    centre[0] = 0.0
    spread[0] = 0.0 if moments.constant else spread[0]
    scale = np.where(spread > 0, spread, 1.0)
    z = (x - centre) / scale
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 0.0
    coef, information, linear, probability = _newton(z, outcome, weight, penalty, iterations)
    slopes = coef / scale
    slopes[0] = coef[0] / scale[0] - np.dot(coef[1:] / scale[1:], centre[1:])
    if ridge == 0 and _separated(outcome, probability, weight):
        raise SeparationError(
            "the covariates tell the two groups apart perfectly, so a logistic model has no finite fit; "
            "leave out the covariate that decides the group, or merge its levels"
        )
    # Back from the scaled columns: b = T c with T lower-triangular in the constant, so bread transforms alike.
    transform = np.diag(1 / scale)
    transform[0, 1:] = -centre[1:] / scale[1:]
    bread = transform @ np.linalg.inv(information) @ transform.T
    return LogitFit(slopes, probability, linear, bread, x, weight * (outcome - probability), kept)


def _newton(
    z: np.ndarray, outcome: np.ndarray, weight: np.ndarray, penalty: np.ndarray, iterations: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return coefficients, information, linear predictor and probability at the maximum."""
    mean = float(np.clip(np.average(outcome, weights=weight), 1e-6, 1 - 1e-6))
    coef = np.zeros(z.shape[1])
    coef[0] = np.log(mean / (1 - mean)) / z[0, 0]
    linear = z @ coef
    probability, best = _evaluate(linear, outcome, weight, penalty, coef)
    for _ in range(iterations):
        information = _information(z, weight * probability * (1 - probability), penalty)
        information[np.diag_indices_from(information)] += (
            _FLAT * np.trace(information) / len(coef) * (np.linalg.cond(information) > 1e13)
        )
        step = np.linalg.solve(information, z.T @ (weight * (outcome - probability)) - penalty * coef)
        change = z @ step
        for _ in range(30):
            found, value = _evaluate(linear + change, outcome, weight, penalty, coef + step)
            if value >= best - 1e-12 * abs(best):
                break
            step, change = step / 2, change / 2
        coef, best, probability = coef + step, value, found
        linear = z @ coef
        if np.abs(step).max() < 1e-11 * max(1.0, np.abs(coef).max()):
            break
    probability = expit(linear)
    information = _information(z, weight * probability * (1 - probability), penalty)
    information[np.diag_indices_from(information)] += _FLAT * (np.linalg.cond(information) > 1e15)
    return coef, information, linear, probability


def _information(z: np.ndarray, variance: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Return z'Vz + penalty, a block of rows at a time."""
    root, found = np.sqrt(variance), np.diag(penalty)
    for rows in blocks(len(z)):
        part = z[rows] * root[rows, None]
        found += part.T @ part
    return found


def _evaluate(
    linear: np.ndarray, outcome: np.ndarray, weight: np.ndarray, penalty: np.ndarray, coef: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the probabilities, and the penalised log likelihood."""
    tail = np.exp(-np.abs(linear))
    probability = np.where(linear >= 0, 1.0, tail) / (1 + tail)
    soft = np.maximum(linear, 0) + np.log(1 + tail)
    return probability, float(np.dot(weight, outcome * linear - soft) - 0.5 * np.dot(penalty, coef**2))


def _separated(outcome: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> bool:
    counted = weight > 0
    return bool(np.all(np.abs(outcome - probability)[counted] < 1e-6))
