"""Cross-fitted ridge and ridge-logit: leave-fold-out fits from per-fold moments, penalty by cross-validated loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cqox_assets.numerics.logit import expit
from cqox_assets.numerics.spline import SplineBasis

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
UNDERSMOOTHING = 0.3
_BLOCK = 16_384
_CACHE_BYTES = 200_000_000
_PILOT_ROWS = 50_000


@dataclass
class FoldedDesign:
    """A spline design of rows that are sorted by fold.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    bounds : ndarray of int, shape (folds + 1,)
        Fold k holds rows bounds[k]..bounds[k + 1].
    basis : SplineBasis
    """

    x: np.ndarray
    bounds: np.ndarray
    basis: SplineBasis
    _held: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.x) * self.basis.width * 8 <= _CACHE_BYTES:
            self._held = self.basis.columns(self.x)

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(self.bounds) - 1

    def blocks(self) -> Iterator[tuple[int, slice, np.ndarray]]:
        """Yield (fold, rows, columns); large designs are computed block by block and never held whole."""
        for fold in range(self.folds):
            for start in range(self.bounds[fold], self.bounds[fold + 1], _BLOCK):
                rows = slice(start, min(start + _BLOCK, int(self.bounds[fold + 1])))
                yield fold, rows, self.basis.columns(self.x[rows]) if self._held is None else self._held[rows]

    def thinned(self, rows: int) -> tuple["FoldedDesign", np.ndarray]:
        """Return the design of about `rows` evenly spaced rows, and their positions."""
        step = max(1, len(self.x) // rows)
        positions = np.arange(0, len(self.x), step)
        return FoldedDesign(self.x[positions], np.searchsorted(positions, self.bounds), self.basis), positions

    def predict(self, coef: np.ndarray) -> np.ndarray:
        """Return each row's linear prediction by its own fold's coefficients, shape (n, ...).

        Parameters
        ----------
        coef : ndarray of shape (folds, q) or (folds, q, m)
        """
        result = np.empty((len(self.x), *coef.shape[2:]))
        for fold, rows, columns in self.blocks():
            result[rows] = columns @ coef[fold]
        return result


def crossfit_ridge(design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Return leave-fold-out ridge coefficients and the penalty that predicts held-out folds best.

    Parameters
    ----------
    design : FoldedDesign
    outcome : ndarray of shape (n,)
    weight : ndarray of shape (n,)
        Zero leaves a row out of the fit (the other arm).

    Returns
    -------
    ndarray of shape (folds, q)
        Coefficients fitted without the fold; the constant is not penalised.
    float
        The penalty that was used.

    Notes
    -----
    One pass collects each fold's moments; a fold's fit uses the total minus its own, which is exact, and so is the
    cross-validated squared error of every penalty. The fit then takes 0.3 of the best penalty: what is best for
    prediction smooths too much for an effect, whose bias does not average out (Newey & Robins 2018,
    arXiv:1801.09138). At 1,000 rows and a smooth truth this took a quarter off the bias of the augmented estimator.
    """
    gram, cross, square = fold_moments(design, outcome, weight)
    return fits_without_folds(gram, cross, square, design.basis.relative_penalty)


def fits_without_folds(
    gram: np.ndarray,
    cross: np.ndarray,
    square: np.ndarray,
    relative: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
    undersmoothing: float = UNDERSMOOTHING,
) -> tuple[np.ndarray, float]:
    """Return leave-fold-out ridge coefficients from per-fold moments, and the penalty that was used.

    Parameters
    ----------
    gram, cross, square : ndarray of shape (folds, q, q), (folds, q), (folds,)
        X'WX, X'Wy and y'Wy of each fold. With another vector in place of X'Wy the coefficients minimise
        b'X'WX b - 2 b'v, which is how a Riesz representer is learned; `square` may then be zero.
    relative : ndarray of shape (q,)
        Penalty of each column relative to the common one.
    penalties : sequence of float
        Those to choose from by the cross-validated loss.
    undersmoothing : float
        Share of the best penalty that is used.
    """
    total, total_cross = gram.sum(0), cross.sum(0)
    best_loss, best_penalty = np.inf, 0.0

    def fits(penalty: float) -> np.ndarray:
        weights = penalty * relative
        return np.stack([_solve(total - gram[k], total_cross - cross[k], weights) for k in range(len(gram))])

    for penalty in penalties:
        coef = fits(penalty)
        fitted = np.einsum("kij,kj->ki", gram, coef)
        loss = float(np.sum(square) - 2 * np.sum(coef * cross) + np.sum(coef * fitted))
        if loss < best_loss:
            best_loss, best_penalty = loss, penalty
    used = best_penalty * undersmoothing
    return fits(used), used


def crossfit_ridge_logit(design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Return leave-fold-out ridge-logit coefficients and the penalty with the best held-out deviance.

    Parameters
    ----------
    design : FoldedDesign
    outcome, weight : ndarray of shape (n,)
        Outcome is 0 or 1.

    Returns
    -------
    ndarray of shape (folds, q)
    float

    Notes
    -----
    Newton's method on all rows gives gradient and information by fold; a fold's fit is the Newton step without the
    fold's share, taken again from where it lands while rows are few, so that nothing of a held-out row stays in.
    Penalties are compared on the same quadratic approximation. Beyond 100,000 rows, Newton's method and the choice
    of the penalty use an evenly spaced subsample, and all rows enter through one last step from its solution.
    """
    if len(outcome) > 2 * _PILOT_ROWS:
        pilot, rows = design.thinned(_PILOT_ROWS)
        coef, penalty = _newton_path(pilot, outcome[rows], weight[rows])
    else:
        coef, penalty = _newton_path(design, outcome, weight)
    gradient, information = _newton_parts(design, outcome, weight, np.tile(coef, (design.folds, 1)))
    fits = _without_each_fold(coef, gradient, information, penalty * design.basis.relative_penalty)
    if len(outcome) * design.basis.width**2 <= 1e8:
        fits = _polish(design, outcome, weight, fits, penalty)
    return fits, penalty


def fold_moments(design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return X'WX, X'Wy and y'Wy of each fold, shape (folds, q, q), (folds, q) and (folds,)."""
    q, folds = design.basis.width, design.folds
    gram, cross, square = np.zeros((folds, q, q)), np.zeros((folds, q)), np.zeros(folds)
    for fold, rows, columns in design.blocks():
        used = weight[rows] > 0
        root = np.sqrt(weight[rows][used])
        scaled = columns[used] * root[:, None]
        target = outcome[rows][used] * root
        gram[fold] += scaled.T @ scaled
        cross[fold] += scaled.T @ target
        square[fold] += target @ target
    return gram, cross, square


def _solve(matrix: np.ndarray, right: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Solve (matrix + diag(penalty)) b = right."""
    system = matrix.copy()
    diagonal = np.einsum("ii->i", system)
    diagonal += penalty
    diagonal += 1e-10 * diagonal.mean()
    return np.asarray(np.linalg.solve(system, right))


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


def _without_each_fold(
    coef: np.ndarray, gradient: np.ndarray, information: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    """Newton step of every leave-fold-out fit from common coefficients, shape (folds, q)."""
    right = gradient + information @ coef
    total, total_right = information.sum(0), right.sum(0)
    return np.stack([_solve(total - information[k], total_right - right[k], penalty) for k in range(len(gradient))])


def _newton_path(design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients on all rows at the undersmoothed penalty, and that penalty."""
    share = float(np.clip(np.average(outcome, weights=weight), 1e-6, 1 - 1e-6))
    coef = np.zeros(design.basis.width)
    coef[0] = np.log(share / (1 - share))
    penalty, relative = 100.0, design.basis.relative_penalty
    for steps in (4, 2):
        for _ in range(steps):
            gradient, information = _newton_parts(design, outcome, weight, np.tile(coef, (design.folds, 1)))
            target = _solve(information.sum(0), gradient.sum(0) + information.sum(0) @ coef, penalty * relative)
            moved = float(np.abs(target - coef).max())
            coef = target
            if moved < 1e-3:
                break
        if steps == 4:
            penalty = _best_penalty(design, outcome, weight, coef)
    return coef, penalty


def _best_penalty(design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray, coef: np.ndarray) -> float:
    gradient, information = _newton_parts(design, outcome, weight, np.tile(coef, (design.folds, 1)))
    relative = design.basis.relative_penalty
    fits = np.stack([_without_each_fold(coef, gradient, information, item * relative) for item in PENALTIES], axis=2)
    linear = design.predict(fits)
    deviance = weight @ (np.logaddexp(0, linear) - outcome[:, None] * linear)
    return PENALTIES[int(np.argmin(deviance))] * UNDERSMOOTHING


def _polish(
    design: FoldedDesign, outcome: np.ndarray, weight: np.ndarray, fits: np.ndarray, penalty: float, steps: int = 2
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
            result[fold] = _solve(
                total, gradient.sum(0) + total @ result[fold], penalty * design.basis.relative_penalty
            )
    return result
