"""The mean outcome as a function of covariates and dose, cross-fitted, with its slope in the dose and its averages."""

from dataclasses import dataclass, replace

import numpy as np

from cqox_assets.numerics.crossfit import Folded
from cqox_assets.numerics.dose import DoseData
from cqox_assets.numerics.ridge import PENALTIES, FoldedDesign, fits_without_folds, fold_moments
from cqox_assets.numerics.spline import SplineBasis

_UNDERSMOOTHING = 0.1
_BOOSTED = ("stack", "boosting")
_CUT = 4.0  # products use columns cut at four standard deviations, as SplineBasis has them


@dataclass(frozen=True)
class Surface:
    """mu(l_i, u) = free_i + common_k(u) + cut(u) moving_i, by a model that never saw fold k of unit i.

    Parameters
    ----------
    fold : ndarray of int, shape (n,)
    own, slope : ndarray of shape (n,)
        mu(l_i, u_i) and its derivative in the dose, in units of the outcome (per unit of dose).
    representer : ndarray of shape (n,)
        Riesz representer of the average slope: E[representer h] = E[dh/ddose] for the functions h of the basis.
    free, moving : ndarray of shape (n,)
    """

    fold: np.ndarray
    own: np.ndarray
    slope: np.ndarray
    representer: np.ndarray
    free: np.ndarray
    moving: np.ndarray
    basis: SplineBasis
    coef: np.ndarray

    def common(self, place: np.ndarray) -> np.ndarray:
        """Return common_k at places on the working scale, shape (folds, m)."""
        columns, _ = _dose_columns(self.basis, place)
        first, pairs = _dose_positions(self.basis), _pair_positions(self.basis)
        raw = (columns - self.basis.mean[first]) / self.basis.spread[first]
        return np.asarray(
            self.coef[:, first] @ raw.T
            - (self.coef[:, pairs] @ _ratio(self.basis.mean, self.basis.spread, pairs))[:, None]
        )

    def cut(self, place: np.ndarray) -> np.ndarray:
        """Return the dose as it enters the products, shape (m,)."""
        return np.asarray(np.clip(_standard(self.basis, place), -_CUT, _CUT))

    def means(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the weighted means of `free` and `moving` of each fold, shape (folds,) each, and the folds' weight."""
        folds = len(self.coef)
        mass = np.bincount(self.fold, weights=weight, minlength=folds)
        safe = np.where(mass > 0, mass, 1.0)
        free, moving = (
            np.bincount(self.fold, weights=weight * item, minlength=folds) / safe for item in (self.free, self.moving)
        )
        return free, moving, mass


def fit_surface(data: DoseData, fold: np.ndarray, score: np.ndarray, learner: str) -> Surface:
    """Fit the surface by cross-fitted ridge.

    Parameters
    ----------
    data : DoseData
    fold : ndarray of int, shape (n,)
    score : ndarray of shape (p,)
        Importance of the covariates; the dose always enters products.
    learner : str
        `linear`: covariates and dose as they are, no penalty. Otherwise hinges of every covariate and of the dose,
        products of the most important covariates and of each of them with the dose, penalty by cross-validation;
        `stack` and `boosting` add boosted trees of the covariates for what that leaves over.

    Notes
    -----
    The representer minimises E[a^2 - 2 da/ddose] over the same basis (Chernozhukov, Newey & Singh 2022,
    doi:10.3982/ECTA18515), from the same moments.
    """
    x = np.column_stack([data.x, data.place])
    folded = Folded(x, fold, data.weight, np.append(score, np.inf))
    order, bounds = folded.order, folded.bounds
    linear = learner == "linear"
    design = FoldedDesign(folded.sorted_x, bounds, _straight(folded.sorted_x)) if linear else folded.design
    basis, weight = design.basis, folded.sorted_weight
    y = data.y[order]
    centre, unit = y.mean(), y.std() or 1.0
    gram, cross, square = fold_moments(design, (y - centre) / unit, weight)
    relative, penalties = basis.relative_penalty, (0.0,) if linear else PENALTIES
    coef, _ = fits_without_folds(gram, cross, square, relative, penalties, _UNDERSMOOTHING)
    steep = data.scale.steepness(data.dose[order])
    target = _slope_moments(basis, folded.sorted_x, bounds, weight * steep)
    # The representer has units of 1 / dose: in units of its own size the choice of the penalty is free of them.
    size = float(np.abs(target).max()) or 1.0
    weights, _ = fits_without_folds(gram, target / size, np.zeros(len(gram)), relative, penalties, _UNDERSMOOTHING)
    own = design.predict(np.stack([coef, weights], axis=2))
    moving = _moving(basis, folded.sorted_x, bounds, coef)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    surface = Surface(
        fold, (own[:, 0] * unit + centre)[back], np.empty(0), (own[:, 1] * size)[back], np.empty(0),
        (moving * unit)[back], basis, coef * unit,
    )  # fmt: skip
    surface = _completed(surface, data)
    if learner not in _BOOSTED:
        return surface
    # Trees of the covariates alone leave the part that moves with the dose, and so every average of it, as it is.
    left = Folded(data.x, fold, data.weight, score).mean(data.y - surface.own, None, "boosting")
    return replace(surface, own=surface.own + left, free=surface.free + left)


def _completed(surface: Surface, data: DoseData) -> Surface:
    """Fill in the slope and the part that is free of the dose, both of which follow from the rest."""
    place = data.place
    columns, slopes = _dose_columns(surface.basis, place)
    first, pairs = _dose_positions(surface.basis), _pair_positions(surface.basis)
    raw = (columns - surface.basis.mean[first]) / surface.basis.spread[first]
    bent = slopes / surface.basis.spread[first]
    mine = surface.coef[surface.fold]
    shift = (surface.coef[:, pairs] @ _ratio(surface.basis.mean, surface.basis.spread, pairs))[surface.fold]
    common = np.einsum("ij,ij->i", raw, mine[:, first]) - shift
    z = _standard(surface.basis, place)
    inside = (np.abs(z) < _CUT) / surface.basis.scale[-1]
    slope = np.einsum("ij,ij->i", bent, mine[:, first]) + inside * surface.moving
    return Surface(
        surface.fold, surface.own, slope * data.scale.steepness(data.dose), surface.representer,
        surface.own - common - surface.cut(place) * surface.moving, surface.moving, surface.basis, surface.coef,
    )  # fmt: skip


def _straight(x: np.ndarray) -> SplineBasis:
    """Return a basis of the constant and the standardised columns."""
    centre, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-12 * np.abs(centre), scale, np.inf)
    none, width = tuple(np.empty(0) for _ in centre), 1 + x.shape[1]
    return SplineBasis(centre, scale, none, (), np.zeros(width), np.ones(width))


def _standard(basis: SplineBasis, place: np.ndarray) -> np.ndarray:
    return np.asarray((place - basis.centre[-1]) / basis.scale[-1])


def _dose_columns(basis: SplineBasis, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the raw columns that depend on the dose alone and their derivatives in its place, shape (m, 1 + knots)."""
    z = _standard(basis, place)
    knots = basis.knots[-1]
    above = z[:, None] > knots
    columns = np.column_stack([z, np.where(above, z[:, None] - knots, 0.0)])
    return columns, np.column_stack([np.ones(len(z)), above]) / basis.scale[-1]


def _dose_positions(basis: SplineBasis) -> np.ndarray:
    """Return the positions of the columns that depend on the dose alone: the dose and its hinges."""
    p = len(basis.centre)
    hinges = sum(len(item) for item in basis.knots)
    own = len(basis.knots[-1])
    return np.append(p, np.arange(1 + p + hinges - own, 1 + p + hinges))


def _pair_positions(basis: SplineBasis) -> np.ndarray:
    """Return the positions of the products of a covariate with the dose."""
    start, last = basis.width - len(basis.pairs), len(basis.centre) - 1
    return np.array([start + k for k, (_, b) in enumerate(basis.pairs) if b == last], dtype=int)


def _ratio(mean: np.ndarray, spread: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.asarray(mean[positions] / spread[positions])


def _partners(basis: SplineBasis, x: np.ndarray) -> np.ndarray:
    """Return the covariates that are multiplied with the dose, standardised and cut, shape (n, pairs)."""
    last = len(basis.centre) - 1
    chosen = [a for a, b in basis.pairs if b == last]
    return np.asarray(np.clip((x[:, chosen] - basis.centre[chosen]) / basis.scale[chosen], -_CUT, _CUT))


def _moving(basis: SplineBasis, x: np.ndarray, bounds: np.ndarray, coef: np.ndarray) -> np.ndarray:
    """Return how much each row's outcome moves with the dose beyond the common curve, shape (n,)."""
    pairs = _pair_positions(basis)
    result = np.empty(len(x))
    for fold in range(len(bounds) - 1):
        rows = slice(int(bounds[fold]), int(bounds[fold + 1]))
        result[rows] = _partners(basis, x[rows]) @ (coef[fold, pairs] / basis.spread[pairs])
    return result


def _slope_moments(basis: SplineBasis, x: np.ndarray, bounds: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the sums over each fold of weight times the columns' derivative in the dose's place, (folds, q)."""
    first, pairs = _dose_positions(basis), _pair_positions(basis)
    result = np.zeros((len(bounds) - 1, basis.width))
    for fold in range(len(bounds) - 1):
        rows = slice(int(bounds[fold]), int(bounds[fold + 1]))
        place = x[rows, -1]
        inside = weight[rows] * (np.abs(_standard(basis, place)) < _CUT) / basis.scale[-1]
        result[fold, first] = weight[rows] @ _dose_columns(basis, place)[1]
        result[fold, pairs] = inside @ _partners(basis, x[rows])
    return np.asarray(result / basis.spread)
