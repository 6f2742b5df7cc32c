"""The doubly robust dose-response curve: density ratios, pseudo-outcomes and their local polynomial regression."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.crossfit import Folded
from cqox_assets.numerics.dose import DoseData, DoseError
from cqox_assets.numerics.dose_surface import Surface

_BINS = 512
_FLOOR = 1e-3
_VARIANCE_RANGE = (0.1, 10.0)
_VARIANCE_GAIN = 0.005
_CANDIDATES = 14
_PLUG_IN = 1.719  # of the Epanechnikov kernel and a local line (Fan & Gijbels 1996, section 4.2)
_NEAREST = 20


@dataclass(frozen=True)
class DoseModel:
    """The dose given covariates, cross-fitted: mean, standard deviation and standardised residual, shape (n,) each.

    `density` is that of the dose's place given the unit's covariates, `marginal` that without covariates.
    """

    mean: np.ndarray
    deviation: np.ndarray
    residual: np.ndarray
    density: np.ndarray
    marginal: np.ndarray

    def ratio(self, weight: np.ndarray, limit: float) -> tuple[np.ndarray, int]:
        """Return marginal over conditional density, of mean one and cut at `limit`, and how many rows were cut."""
        raw = self.marginal / self.density
        raw = raw / np.average(raw, weights=weight)
        return np.minimum(raw, limit), int((raw > limit).sum())


def fit_dose_model(data: DoseData, folded: Folded, learner: str, density: str) -> DoseModel:
    """Fit mean and variance of the dose given covariates, and the density of what they leave over.

    Parameters
    ----------
    data : DoseData
    folded : Folded
        Covariates and folds.
    learner : str
        Of the mean; the variance is a spline (`linear` with that learner) where it predicts held-out residuals better
        than a constant.
    density : str
        `kernel` or `normal`: of the standardised residual.

    Raises
    ------
    DoseError
        `no_variation`: the covariates determine the dose.
    """
    mean = folded.mean(data.place, None, learner)
    rest, weight = data.place - mean, data.sampling
    average = float(np.average(rest**2, weights=weight))
    total = float(np.average((data.place - np.average(data.place, weights=weight)) ** 2, weights=weight))
    if not average > 1e-8 * total:
        raise DoseError(
            "the covariates predict the dose perfectly, so no two units alike have different doses; "
            "leave out the covariate that decides the dose",
            code="no_variation",
        )
    variance = np.full(len(rest), average)
    fitted = folded.mean(rest**2 / average, None, "linear" if learner == "linear" else "spline")
    bent = np.clip(fitted, *_VARIANCE_RANGE) * average
    gain = 0.5 * (np.log(average) + rest**2 / average - np.log(bent) - rest**2 / bent)
    if np.average(gain, weights=weight) > _VARIANCE_GAIN:
        variance = bent
    deviation = np.sqrt(variance)
    residual = rest / deviation
    own = _normal(residual) if density == "normal" else held_out_density(residual, weight, folded.fold)
    return DoseModel(mean, deviation, residual, own / deviation, held_out_density(data.place, weight, folded.fold))


def _normal(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))


def held_out_density(values: np.ndarray, weight: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return each row's kernel density as estimated from the other folds, shape (n,), at least 0.001 of its peak.

    Normal kernel with Silverman's bandwidth on 512 bins.
    """
    spread = min(values.std(), float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.349 or np.inf)
    h = 0.9 * (spread or 1.0) * len(values) ** -0.2
    low, high = values.min() - 4 * h, values.max() + 4 * h
    step = (high - low) / (_BINS - 1)
    h = max(h, step)
    position = (values - low) / step
    left = np.minimum(position.astype(int), _BINS - 2)
    share = position - left
    reach = np.arange(-int(np.ceil(4 * h / step)), int(np.ceil(4 * h / step)) + 1) * step
    kernel = _normal(reach / h) / h
    folds = int(fold.max()) + 1
    counts = np.stack(
        [
            np.bincount(left[rows], weights=(weight * (1 - share))[rows], minlength=_BINS)
            + np.bincount(left[rows] + 1, weights=(weight * share)[rows], minlength=_BINS)
            for rows in (fold == k for k in range(folds))
        ]
    )
    total, result = counts.sum(axis=0), np.empty(len(values))
    for k in range(folds):
        rows = fold == k
        outside = total - counts[k]
        smooth = np.convolve(outside, kernel, mode="full")[len(reach) // 2 :][:_BINS] / outside.sum()
        smooth = np.maximum(smooth, _FLOOR * smooth.max())
        result[rows] = (1 - share[rows]) * smooth[left[rows]] + share[rows] * smooth[left[rows] + 1]
    return result


@dataclass(frozen=True)
class Pseudo:
    """Doubly robust pseudo-outcomes, whose regression on the dose is the curve, and what their averages rest on."""

    outcome: np.ndarray
    surface: Surface
    free: np.ndarray
    moving: np.ndarray
    mass: np.ndarray


def pseudo_outcomes(data: DoseData, surface: Surface, ratio: np.ndarray) -> Pseudo:
    """Return ratio (y - mu(l, u)) + mean over units of mu(., u), shape (n,).

    Kennedy, Ma, McHugh & Small (2017, doi:10.1111/rssb.12212): the regression of these on the dose is the curve if
    either the density ratio or the surface mu is right.
    """
    free, moving, mass = surface.means(data.sampling)
    k = surface.fold
    gap = surface.own - surface.free - surface.cut(data.place) * surface.moving
    average = free[k] + gap + surface.cut(data.place) * moving[k]
    return Pseudo(ratio * (data.y - surface.own) + average, surface, free, moving, mass)


@dataclass(frozen=True)
class Smoother:
    """A local polynomial regression on sorted places.

    Parameters
    ----------
    place, weight : ndarray of shape (n,)
        Ascending.
    bandwidth : float
    order : int
    """

    place: np.ndarray
    weight: np.ndarray
    bandwidth: float
    order: int

    def reach(self, at: float) -> float:
        """Return the bandwidth at a place, widened until enough rows and distinct places lie within it."""
        rows = np.searchsorted(self.place, at)
        near = self.place[max(rows - 4000, 0) : rows + 4000]
        near = near[self.weight[max(rows - 4000, 0) : rows + 4000] > 0]
        gaps = np.sort(np.abs(near - at))
        apart = np.unique(gaps.round(9))  # places have a spread of about one
        needed = self.order + 2
        least = max(gaps[min(_NEAREST, len(gaps)) - 1], apart[min(needed, len(apart)) - 1])
        return float(max(self.bandwidth, 1.01 * least))

    def at(self, at: float, values: np.ndarray) -> tuple[float, slice, np.ndarray, np.ndarray]:
        """Return the fit at a place, the rows within reach, their weights in it and their residuals over 1 - leverage.

        Raises
        ------
        DoseError
            `few_doses`: too few distinct doses lie near the place.
        """
        h = self.reach(at)
        inside = slice(int(np.searchsorted(self.place, at - h)), int(np.searchsorted(self.place, at + h, side="right")))
        u = (self.place[inside] - at) / h
        w = 0.75 * np.maximum(1 - u**2, 0.0) * self.weight[inside]
        powers = u[:, None] ** np.arange(self.order + 1)
        root = np.sqrt(w)[:, None]
        q, r = np.linalg.qr(powers * root)
        diagonal = np.abs(np.diag(r))
        if len(diagonal) <= self.order or diagonal.min() <= 1e-9 * diagonal.max():
            raise DoseError(
                f"fewer than {self.order + 2} different doses lie near {at:.4g} on the working scale; "
                "ask for doses nearer to the observed ones, use method: gps, or code the treatment in arms"
            )
        inverse = np.linalg.inv(r)
        coef = inverse @ (q.T @ (values[inside] * root[:, 0]))
        linear = (powers @ (inverse @ inverse[0])) * w
        room = np.maximum(1 - np.einsum("ij,ij->i", q, q), 0.1)
        return float(coef[0]), inside, linear, (values[inside] - powers @ coef) / room


def plug_in_bandwidth(place: np.ndarray, values: np.ndarray, weight: np.ndarray) -> float:
    """Return the rule-of-thumb bandwidth of a local line, from a global polynomial of order four.

    Fan & Gijbels (1996, section 4.2), over the places between the 5th and 95th percentile; at most half that range.
    """
    low, high = np.quantile(place, [0.05, 0.95])
    unit = (high - low) / 2 or 1.0
    z = (place - (low + high) / 2) / unit
    inside = (np.abs(z) <= 1) * weight
    powers = z[:, None] ** np.arange(5)
    bounded = powers * (np.abs(z) <= 2)[:, None]  # far doses have leverage that the middle should not feel
    root = np.sqrt(weight)[:, None]
    coef, *_ = np.linalg.lstsq(bounded * root, values * root[:, 0] * (np.abs(z) <= 2), rcond=1e-12)
    bend = 2 * coef[2] + 6 * coef[3] * z + 12 * coef[4] * z**2
    noise = float(np.average((values - powers @ coef) ** 2, weights=inside))
    size = float(inside @ bend**2)
    most = unit
    h = most if size <= 0 else unit * _PLUG_IN * (2 * noise / size) ** 0.2
    return float(np.clip(h, 0.05 * unit, most))


def cross_validated_bandwidth(place: np.ndarray, values: np.ndarray, weight: np.ndarray) -> float:
    """Return the bandwidth of a local line with the least leave-one-out squared error, on 400 bins."""
    low, high = np.quantile(place, [0.05, 0.95])
    unit = (high - low) / 2 or 1.0
    edges = np.linspace(place[0], place[-1], 401)
    bin_of = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, 399)
    mass = np.bincount(bin_of, weights=weight, minlength=400)
    filled = mass > 0
    middle = (np.bincount(bin_of, weights=weight * place, minlength=400) / np.where(filled, mass, 1.0))[filled]
    mean = (np.bincount(bin_of, weights=weight * values, minlength=400) / np.where(filled, mass, 1.0))[filled]
    mass = mass[filled]
    judged = (middle >= low) & (middle <= high)
    best, chosen = np.inf, unit
    for h in np.geomspace(0.1, 1.0, _CANDIDATES) * unit:
        gap = (middle[None, :] - middle[:, None]) / h
        kernel = np.maximum(1 - gap**2, 0.0) * mass
        s0, s1, s2 = (np.sum(kernel * gap**p, axis=1) for p in range(3))
        det = s0 * s2 - s1**2
        usable = det > 1e-9 * s0**2
        det = np.where(usable, det, 1.0)
        fitted = np.sum(kernel * (s2[:, None] - s1[:, None] * gap) * mean, axis=1) / det
        leverage = np.minimum(s2 / det, 0.95)
        # Within a bin the variance of single outcomes is the same at every bandwidth but for the leverage.
        error = (mean - fitted) ** 2 / (1 - leverage) ** 2 + _within(bin_of, values, weight, filled) / (
            1 - leverage
        ) ** 2
        use = judged & usable
        loss = float(mass[use] @ error[use] / mass[use].sum()) if use.any() else np.inf
        if loss < best:
            best, chosen = loss, float(h)
    return chosen


def _within(bin_of: np.ndarray, values: np.ndarray, weight: np.ndarray, filled: np.ndarray) -> np.ndarray:
    mass = np.bincount(bin_of, weights=weight, minlength=400)
    safe = np.where(mass > 0, mass, 1.0)
    mean = np.bincount(bin_of, weights=weight * values, minlength=400) / safe
    square = np.bincount(bin_of, weights=weight * values**2, minlength=400) / safe
    return np.asarray(np.maximum(square - mean**2, 0.0)[filled])


def kernel_curve(
    data: DoseData, pseudo: Pseudo, places: np.ndarray, bandwidth: float, order: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve at places on the working scale, shape (m,), and its influence, shape (n, m).

    Notes
    -----
    The influence has the local regression's part and that of averaging mu over units, which counts where the bandwidth
    is wide (Takatsu & Westling 2025, doi:10.1093/jrsssb/qkae041). With the order one above the line that the bandwidth
    is chosen for, the leading bias is taken off, which is robust bias correction with equal bandwidths (Calonico,
    Cattaneo & Farrell 2018, doi:10.1080/01621459.2017.1285776).
    """
    n, order_of = len(data.y), np.argsort(data.place, kind="stable")
    smoother = Smoother(data.place[order_of], data.sampling[order_of], bandwidth, order)
    values = pseudo.outcome[order_of]
    fold = pseudo.surface.fold
    cut = pseudo.surface.cut(data.place)[order_of]
    folds = len(pseudo.mass)
    safe = np.where(pseudo.mass > 0, pseudo.mass, 1.0)
    away = [
        data.sampling * (own - mean[fold])
        for own, mean in ((pseudo.surface.free, pseudo.free), (pseudo.surface.moving, pseudo.moving))
    ]
    estimate, influence = np.empty(len(places)), np.zeros((n, len(places)))
    for m, at in enumerate(places):
        estimate[m], inside, linear, rest = smoother.at(float(at), values)
        rows = order_of[inside]
        influence[rows, m] = n * linear * rest
        reach = np.bincount(fold[rows], weights=linear, minlength=folds) / safe
        moved = np.bincount(fold[rows], weights=linear * cut[inside], minlength=folds) / safe
        influence[:, m] += n * (reach[fold] * away[0] + moved[fold] * away[1])
    return estimate, influence


def average_slope_score(data: DoseData, surface: Surface) -> tuple[float, np.ndarray]:
    """Return E[dmu/ddose] by the doubly robust score and its influence, shape (n,).

    Score: dmu/ddose + representer (y - mu); its mean is right if either the surface or the representer is.
    """
    score = surface.slope + surface.representer * (data.y - surface.own)
    total = data.sampling.mean()
    point = float((data.sampling * score).mean() / total)
    return point, data.sampling * (score - point) / total
