"""Logistic regression by Newton's method: unpenalised maximum likelihood or ridge, with sampling weights."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import independent_columns

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
    scores : ndarray of shape (n, k)
        Weighted score of each row.
    kept : ndarray of int
        Columns of the passed design that are no linear combination of earlier ones.
    """

    coef: np.ndarray
    probability: np.ndarray
    linear: np.ndarray
    bread: np.ndarray
    design: np.ndarray
    scores: np.ndarray
    kept: np.ndarray

    def influence(self) -> np.ndarray:
        """Return the influence of each row on the coefficients, shape (n, k)."""
        return np.asarray(len(self.linear) * self.scores @ self.bread)

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
    kept = independent_columns(design) if drop_collinear else np.arange(design.shape[1])
    x = np.ascontiguousarray(design[:, kept])
    # Columns are scaled for the Newton steps only: earnings in dollars beside 0/1 flags would be ill-conditioned.
    centre = np.where(np.arange(x.shape[1]) == 0, 0.0, x.mean(0))
    scale = np.where(x.std(0) > 0, x.std(0), 1.0)
    z = (x - centre) / scale
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 0.0
    coef, information = _newton(z, outcome, weight, penalty, iterations)
    slopes = coef / scale
    slopes[0] = coef[0] / scale[0] - np.dot(coef[1:] / scale[1:], centre[1:])
    linear = z @ coef
    probability = expit(linear)
    if ridge == 0 and _separated(outcome, probability, weight):
        raise SeparationError(
            "the covariates tell the two groups apart perfectly, so a logistic model has no finite fit; "
            "leave out the covariate that decides the group, or merge its levels"
        )
    # Back from the scaled columns: b = T c with T lower-triangular in the constant, so bread transforms alike.
    transform = np.diag(1 / scale)
    transform[0, 1:] = -centre[1:] / scale[1:]
    bread = transform @ np.linalg.inv(information) @ transform.T
    scores = x * (weight * (outcome - probability))[:, None]
    return LogitFit(slopes, probability, linear, bread, x, scores, kept)


def _newton(
    z: np.ndarray, outcome: np.ndarray, weight: np.ndarray, penalty: np.ndarray, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    mean = float(np.clip(np.average(outcome, weights=weight), 1e-6, 1 - 1e-6))
    coef = np.zeros(z.shape[1])
    coef[0] = np.log(mean / (1 - mean)) / z[0, 0]
    information = np.eye(len(coef))
    best = _log_likelihood(z @ coef, outcome, weight, penalty, coef)
    for _ in range(iterations):
        probability = expit(z @ coef)
        variance = weight * probability * (1 - probability)
        information = (z * variance[:, None]).T @ z + np.diag(penalty)
        information[np.diag_indices_from(information)] += (
            _FLAT * np.trace(information) / len(coef) * (np.linalg.cond(information) > 1e13)
        )
        step = np.linalg.solve(information, z.T @ (weight * (outcome - probability)) - penalty * coef)
        for _ in range(30):
            value = _log_likelihood(z @ (coef + step), outcome, weight, penalty, coef + step)
            if value >= best - 1e-12 * abs(best):
                break
            step = step / 2
        coef, best = coef + step, value
        if np.abs(step).max() < 1e-11 * max(1.0, np.abs(coef).max()):
            break
    probability = expit(z @ coef)
    information = (z * (weight * probability * (1 - probability))[:, None]).T @ z + np.diag(penalty)
    information[np.diag_indices_from(information)] += _FLAT * (np.linalg.cond(information) > 1e15)
    return coef, information


def _log_likelihood(
    linear: np.ndarray, outcome: np.ndarray, weight: np.ndarray, penalty: np.ndarray, coef: np.ndarray
) -> float:
    return float(np.dot(weight, outcome * linear - np.logaddexp(0, linear)) - 0.5 * np.dot(penalty, coef**2))


def _separated(outcome: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> bool:
    counted = weight > 0
    return bool(np.all(np.abs(outcome - probability)[counted] < 1e-6))
