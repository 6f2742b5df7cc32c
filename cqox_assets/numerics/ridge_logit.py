"""Cross-fitted ridge-logit: Newton's method by fold, with the penalties of the adaptive ridge."""

import numpy as np

from cqox_assets.numerics.logit import expit
from cqox_assets.numerics.ridge import FoldedDesign, adaptive_penalty, solve, without_each_fold

_PILOT_ROWS = 50_000


def crossfit_ridge_logit(
    design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return leave-fold-out adaptive ridge-logit coefficients and their penalties.

    Parameters
    ----------
    design : FoldedDesign
    outcome, weight : ndarray of shape (n,)
        Outcome is 0 or 1.

    Returns
    -------
    ndarray of shape (folds, q)
        Coefficients.
    ndarray of shape (folds, q)
        Penalties.

    Notes
    -----
    Newton's method on all rows gives gradient and information by fold. In the quadratic that they make, penalties are
    chosen and a fold's fit is made as in :func:`crossfit_ridge`: it is the Newton step without the fold's share, taken
    again from where it lands while rows are few, so that nothing of a held-out row stays in. Beyond 100,000 rows,
    Newton's method and the choice of the penalties use an evenly spaced subsample, and all rows enter through one last
    step from its solution.
    """
    if len(outcome) > 2 * _PILOT_ROWS:
        pilot, rows = design.thinned(_PILOT_ROWS)
        coef, penalty = _newton_path(pilot, outcome[rows], weight[rows])
    else:
        coef, penalty = _newton_path(design, outcome, weight)
    gradient, information = _newton_parts(design, outcome, weight, np.tile(coef, (design.folds, 1)))
    fits = without_each_fold(information, gradient + information @ coef, penalty)
    if len(outcome) * design.basis.width**2 <= 1e8:
        fits = _polish(design, outcome, weight, fits, penalty)
    return fits, penalty


def _newton_parts(
    design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray, coef: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and information by fold, each at the fold's own coefficients."""
    q, folds = design.basis.width, design.folds
    gradient, information = np.zeros((folds, q)), np.zeros((folds, q, q))
    for fold, rows, columns in design.blocks():
        probability = expit(columns @ coef[fold])
        gradient[fold] += columns.T @ (weight[rows] * (outcome[rows] - probability))
        scaled = columns * np.sqrt(weight[rows] * probability * (1 - probability))[:, None]
        information[fold] += scaled.T @ scaled
    return gradient, information


def _newton_path(design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients on all rows, and penalties of each fold's fit, shape (folds, q)."""
    share = float(np.clip(np.average(outcome, weights=weight), 1e-6, 1 - 1e-6))
    coef = np.zeros(design.basis.width)
    coef[0] = np.log(share / (1 - share))
    coef = _newton(design, outcome, weight, coef, 100.0 * design.basis.relative_penalty)
    gradient, information = _newton_parts(design, outcome, weight, np.tile(coef, (design.folds, 1)))
    penalty = adaptive_penalty(design.basis, information, gradient + information @ coef)
    return _newton(design, outcome, weight, coef, np.exp(np.log(penalty + 1e-300).mean(0)), 2), penalty


def _newton(
    design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray, coef: np.ndarray, penalty: np.ndarray, steps: int = 4
) -> np.ndarray:
    for _ in range(steps):
        gradient, information = _newton_parts(design, outcome, weight, np.tile(coef, (design.folds, 1)))
        target = solve(information.sum(0), gradient.sum(0) + information.sum(0) @ coef, penalty)
        moved = float(np.abs(target - coef).max())
        coef = target
        if moved < 1e-3:
            break
    return coef


def _polish(
    design: FoldedDesign,
    outcome: np.ndarray,
    weight: np.ndarray,
    fits: np.ndarray,
    penalty: np.ndarray,
    steps: int = 2,
) -> np.ndarray:
    """Take further Newton steps of each leave-fold-out fit on exactly the rows outside its fold."""
    result = fits.copy()
    for fold in range(design.folds):
        outside = weight.copy()
        outside[design.bounds[fold] : design.bounds[fold + 1]] = 0.0
        for _ in range(steps):
            coef = np.tile(result[fold], (design.folds, 1))
            gradient, information = _newton_parts(design, outcome, outside, coef)
            total = information.sum(0)
            result[fold] = solve(total, gradient.sum(0) + total @ result[fold], penalty[fold])
    return result
