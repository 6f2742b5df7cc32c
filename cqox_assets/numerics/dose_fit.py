"""The two ways to a dose-response curve, each from data to curve, diagnostics' arrays and what was noted on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cqox_assets.numerics.crossfit import Folded
from cqox_assets.numerics.dose import Curve, DoseData, average_slope, median_curve
from cqox_assets.numerics.dose_gps import GpsCurve, GpsFit, fit_gps, gps_curve
from cqox_assets.numerics.dose_kernel import (
    average_slope_score,
    cross_validated_bandwidth,
    fit_dose_model,
    kernel_curve,
    plug_in_bandwidth,
    pseudo_outcomes,
)
from cqox_assets.numerics.dose_surface import fit_surface


@dataclass(frozen=True)
class DoseFit:
    """A curve and the model of the dose that it rests on.

    Parameters
    ----------
    curve : Curve
    mean, deviation, residual, density, ratio : ndarray of shape (n,)
        Of the dose on the working scale given covariates: mean, standard deviation, standardised residual, density,
        and marginal over conditional density (of mean one).
    bandwidth : float
        On the working scale; for the GPS only the reach of the diagnostics.
    cut : int
        Rows whose ratio was cut at its limit.
    gps : tuple of GpsFit and GpsCurve, optional
    """

    curve: Curve
    mean: np.ndarray
    deviation: np.ndarray
    residual: np.ndarray
    density: np.ndarray
    ratio: np.ndarray
    bandwidth: float
    cut: int = 0
    gps: tuple[GpsFit, GpsCurve] | None = None


@dataclass(frozen=True)
class KernelSettings:
    """How the doubly robust curve is fitted.

    Parameters
    ----------
    learner : str
        Of the mean dose given covariates, and of the outcome surface (see :func:`fit_surface`).
    folds : int
    seeds : sequence of int
        One cross-fitting each.
    density : str
        `kernel` or `normal`.
    ratio_limit : float
    bandwidth : float, optional
        On the working scale.
    rule : str
        `plug_in` or `cross_validation`, where no bandwidth is given.
    order : int
        Of the local polynomial.
    """

    learner: str = "stack"
    folds: int = 5
    seeds: Sequence[int] = field(default=(0,))
    density: str = "kernel"
    ratio_limit: float = 20.0
    bandwidth: float | None = None
    rule: str = "plug_in"
    order: int = 2


def doubly_robust_fit(data: DoseData, doses: np.ndarray, settings: KernelSettings) -> DoseFit:
    """Fit the doubly robust kernel curve at ascending doses, shape (m,); the median of several cross-fittings."""
    fits = [_one_fit(data, doses, settings, seed) for seed in settings.seeds]
    middle = median_curve([fit.curve for fit in fits])
    first = fits[0]
    return DoseFit(
        middle, first.mean, first.deviation, first.residual, first.density, first.ratio, first.bandwidth, first.cut
    )


def _one_fit(data: DoseData, doses: np.ndarray, settings: KernelSettings, seed: int) -> DoseFit:
    fold = data.folds(settings.folds, seed)
    score = _importance(data)
    model = fit_dose_model(data, Folded(data.x, fold, data.weight, score, seed), settings.learner, settings.density)
    surface = fit_surface(data, fold, score, settings.learner)
    ratio, cut = model.ratio(data.sampling, settings.ratio_limit)
    pseudo = pseudo_outcomes(data, surface, ratio)
    h = settings.bandwidth
    if h is None:
        order = np.argsort(data.place, kind="stable")
        rule = plug_in_bandwidth if settings.rule == "plug_in" else cross_validated_bandwidth
        h = rule(data.place[order], pseudo.outcome[order], data.sampling[order])
    values, influence = kernel_curve(data, pseudo, data.scale.place(doses), h, settings.order)
    slope, steep = average_slope_score(data, surface)
    curve = Curve(doses, values, influence, slope, steep, np.zeros(len(doses)))
    return DoseFit(curve, model.mean, model.deviation, model.residual, model.density, ratio, h, cut)


def _importance(data: DoseData) -> np.ndarray:
    """Largest absolute correlation of each covariate with outcome and dose, shape (p,)."""
    spread = data.x.std(0)
    z = (data.x - data.x.mean(0)) / np.where(spread > 0, spread, 1.0)
    scores = [np.abs(z.T @ (v - v.mean())) / (len(v) * (v.std() or 1.0)) for v in (data.y, data.place)]
    return np.asarray(np.round(np.maximum(*scores), 10))


def gps_fit(data: DoseData, doses: np.ndarray, grid: np.ndarray, variance: str, ratio_limit: float) -> DoseFit:
    """Fit Hirano & Imbens' curve at ascending doses, shape (m,); the slope is averaged over those in `grid`.

    The density ratio, cut at `ratio_limit` times its mean, serves the diagnostics only.
    """
    model = fit_gps(data, variance)
    found = gps_curve(data, model, doses)
    inside = np.isin(doses, grid)
    slope, steep = average_slope(data, doses[inside], found.estimate[inside], found.influence[:, inside])
    curve = Curve(doses, found.estimate, found.influence, slope, steep, np.zeros(len(doses)))
    w, n = data.sampling, len(data.y)
    middle = float(np.average(data.place, weights=w))
    spread = float(np.sqrt(np.average((data.place - middle) ** 2, weights=w)))
    density, deviation = model.density(data.place), np.full(n, np.sqrt(model.variance))
    residual = (data.place - model.mean) / deviation
    raw = np.exp(np.minimum(0.5 * (residual**2 - ((data.place - middle) / spread) ** 2), 100.0))
    order = np.argsort(data.place, kind="stable")
    reach = plug_in_bandwidth(data.place[order], data.y[order], w[order])
    ratio = np.minimum(raw / np.average(raw, weights=w), ratio_limit)
    return DoseFit(curve, model.mean, deviation, residual, density, ratio, reach, gps=(model, found))
