"""A continuous dose: its working scale, folds, curves as vectors of estimates, their bands and their best dose."""

from dataclasses import dataclass, replace

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.folds import content_folds
from cqox_assets.numerics.inference import influence_std_error


class DoseError(CqoxError):
    """The doses cannot carry a curve; `code` says why."""

    code = "few_doses"


@dataclass(frozen=True)
class DoseScale:
    """The scale on which a dose is modelled: `log` (log dose) or `level` (dose over `unit`)."""

    name: str
    unit: float = 1.0

    def place(self, dose: np.ndarray) -> np.ndarray:
        """Return doses on the working scale."""
        return np.asarray(np.log(dose) if self.name == "log" else dose / self.unit)

    def dose(self, place: np.ndarray) -> np.ndarray:
        """Return places on the working scale as doses."""
        return np.asarray(np.exp(place) if self.name == "log" else place * self.unit)

    def steepness(self, dose: np.ndarray) -> np.ndarray:
        """Return the derivative of the place in the dose."""
        return np.asarray(1 / dose if self.name == "log" else np.full(len(dose), 1 / self.unit))


@dataclass(frozen=True)
class DoseData:
    """The arrays of a study with a dose.

    Parameters
    ----------
    x : ndarray of shape (n, p)
    y, dose, place : ndarray of shape (n,)
        Outcome; dose in its units; dose on the working scale.
    scale : DoseScale
    weight : ndarray of shape (n,), optional
        Sampling weights of mean one.
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1.
    """

    x: np.ndarray
    y: np.ndarray
    dose: np.ndarray
    place: np.ndarray
    scale: DoseScale
    weight: np.ndarray | None
    cluster: np.ndarray | None

    @property
    def sampling(self) -> np.ndarray:
        """Sampling weights, ones without any."""
        return np.ones(len(self.y)) if self.weight is None else self.weight

    def folds(self, count: int, seed: int) -> np.ndarray:
        """Assign folds by content; clusters stay together."""
        return dose_folds(self.x, self.y, self.dose, count, seed=seed, group=self.cluster, weight=self.weight)

    def std_error(self, influence: np.ndarray) -> float:
        """Return the standard error of an estimate with influence values of shape (n,)."""
        return influence_std_error(influence, self.cluster)

    def covariance(self, influence: np.ndarray) -> np.ndarray:
        """Return the covariance of m estimates with influence values of shape (n, m)."""
        n = len(influence)
        if self.cluster is None:
            return np.asarray(influence.T @ influence / n**2)
        groups = int(self.cluster.max()) + 1
        sums = np.column_stack([np.bincount(self.cluster, weights=item, minlength=groups) for item in influence.T])
        return np.asarray(sums.T @ sums / n**2 * groups / max(groups - 1, 1))


@dataclass(frozen=True)
class Curve:
    """Mean outcomes at given doses and the average slope, with their influence.

    Parameters
    ----------
    doses, estimate : ndarray of shape (m,)
    influence : ndarray of shape (n, m)
    slope : float
        Average change of the outcome per unit of dose.
    slope_influence : ndarray of shape (n,)
    spread : ndarray of shape (m,)
        Variance between repetitions of cross-fitting, to be added to that of the influence.
    slope_spread : float
    """

    doses: np.ndarray
    estimate: np.ndarray
    influence: np.ndarray
    slope: float
    slope_influence: np.ndarray
    spread: np.ndarray
    slope_spread: float = 0.0

    def between(self, low: float, high: float) -> tuple[float, np.ndarray, float]:
        """Return the difference of two of the curve's doses, its influence and its spread between repetitions."""
        a, b = (int(np.flatnonzero(self.doses == dose)[0]) for dose in (low, high))
        gap = self.estimate[b] - self.estimate[a]
        return float(gap), self.influence[:, b] - self.influence[:, a], float(max(self.spread[a], self.spread[b]))


def choose_scale(dose: np.ndarray, asked: str, name: str) -> DoseScale:
    """Return the working scale of a dose.

    `auto` is the logarithm where all doses are positive and their logarithms are less skewed, else the level.

    Raises
    ------
    DoseError
        `nonpositive_dose`: the logarithm is asked for and some doses are not positive.
    """
    positive = bool(dose.min() > 0)
    if asked == "log" and not positive:
        raise DoseError(
            f"{int((dose <= 0).sum())} rows of dose '{name}' are not positive, so they have no logarithm; "
            "set scale: level, or leave those rows out",
            code="nonpositive_dose",
        )
    better = positive and abs(_skewness(np.log(dose))) < abs(_skewness(dose))
    if asked == "log" or (asked == "auto" and better):
        return DoseScale("log")
    return DoseScale("level", float(dose.std()) or 1.0)


def _skewness(values: np.ndarray) -> float:
    gap = values - values.mean()
    spread = gap.std()
    return float(np.mean((gap / spread) ** 3)) if spread > 0 else 0.0


def dose_folds(
    x: np.ndarray,
    y: np.ndarray,
    dose: np.ndarray,
    folds: int,
    *,
    seed: int = 0,
    group: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Assign folds by the content of covariates and dose, shape (n,): there are no arms to deal out separately.

    The dose counts by its rank, so that its units do not move anybody.
    """
    content = np.column_stack([x, np.unique(dose, return_inverse=True)[1]])
    return content_folds(content, y, np.zeros(len(y)), folds, seed=seed, group=group, weight=weight)


def median_curve(curves: list[Curve]) -> Curve:
    """Return the median of repeated cross-fittings; the spread is the median squared distance from it.

    Chernozhukov et al. (2018, doi:10.1111/ectj.12097), definition 3.3, element by element.
    """
    if len(curves) == 1:
        return curves[0]
    points, slopes = np.stack([item.estimate for item in curves]), np.array([item.slope for item in curves])
    middle, slope = np.median(points, axis=0), float(np.median(slopes))
    influence = sum(item.influence for item in curves[1:]) + curves[0].influence
    steep = sum(item.slope_influence for item in curves[1:]) + curves[0].slope_influence
    return replace(
        curves[0],
        estimate=middle,
        influence=influence / len(curves),
        slope=slope,
        slope_influence=steep / len(curves),
        spread=np.median((points - middle) ** 2, axis=0),
        slope_spread=float(np.median((slopes - slope) ** 2)),
    )


def average_slope(
    data: DoseData, doses: np.ndarray, values: np.ndarray, influence: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the slope of a curve averaged over the units whose dose lies between its first and last dose.

    Parameters
    ----------
    data : DoseData
    doses, values : ndarray of shape (m,)
        The curve at ascending doses; it is taken as straight between them.
    influence : ndarray of shape (n, m)

    Returns
    -------
    float
    ndarray of shape (n,)
        Influence, that of the shares of units between the doses included.
    """
    cell = np.searchsorted(doses, data.dose, side="right") - 1
    cell = np.where(data.dose == doses[-1], len(doses) - 2, cell)
    inside = (cell >= 0) & (cell <= len(doses) - 2)
    mass = data.sampling * inside
    gaps = np.diff(doses)
    steep = np.diff(values) / gaps
    share = np.bincount(np.clip(cell, 0, len(gaps) - 1), weights=mass, minlength=len(gaps)) / mass.sum()
    slope = float(share @ steep)
    own = steep[np.clip(cell, 0, len(gaps) - 1)]
    return slope, np.diff(influence, axis=1) @ (share / gaps) + mass * (own - slope) / mass.mean()


def band_quantile(covariance: np.ndarray, level: float, draws: int, seed: int) -> float:
    """Return the critical value of a band around all estimates at once, at least the pointwise one.

    Notes
    -----
    Multiplier bootstrap with normal multipliers: given the data, the sums of influence times multiplier are exactly
    normal with this covariance, so they are drawn from it (Chernozhukov, Chetverikov & Kato 2014,
    doi:10.1214/14-AOS1235).
    """
    from scipy.special import ndtri

    pointwise = float(ndtri(0.5 + level / 2))
    error = np.sqrt(np.diag(covariance))
    moving = error > 0
    if moving.sum() < 2:
        return pointwise
    normal = drawn(covariance[np.ix_(moving, moving)] / np.outer(error[moving], error[moving]), draws, seed)
    return max(pointwise, float(np.quantile(np.abs(normal).max(axis=1), level)))


def drawn(covariance: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return draws from a normal distribution of mean zero, shape (draws, m)."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(np.random.default_rng(seed).standard_normal((draws, len(values))) @ root.T)


@dataclass(frozen=True)
class BestDose:
    """The dose with the highest (or lowest) mean outcome, its draws, that outcome, and whether it ends the curve."""

    dose: float
    draws: np.ndarray
    outcome: float
    at_edge: bool


def best_dose(
    doses: np.ndarray, values: np.ndarray, covariance: np.ndarray, sign: float, draws: int, seed: int
) -> BestDose:
    """Return where a curve is best, by a parabola through the best of its doses and its neighbours.

    Parameters
    ----------
    doses, values : ndarray of shape (m,)
    covariance : ndarray of shape (m, m)
        Of the values; the whole curve is drawn from it and its best dose taken each time.
    sign : float
        1 for the highest outcome, -1 for the lowest.
    """
    point, outcome = _peaks(doses, sign * values[None, :])
    noisy = sign * (values + drawn(covariance, draws, seed))
    at = int(np.argmax(sign * values))
    return BestDose(float(point[0]), _peaks(doses, noisy)[0], float(sign * outcome[0]), at in (0, len(doses) - 1))


def _peaks(doses: np.ndarray, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return place and height of the maximum of each curve, shape (draws,) each."""
    at = curves.argmax(axis=1)
    rows, middle = np.arange(len(curves)), np.clip(at, 1, len(doses) - 2)
    left, right = doses[middle - 1] - doses[middle], doses[middle + 1] - doses[middle]
    low, top, high = (curves[rows, middle + step] for step in (-1, 0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        bend = ((high - top) / right - (low - top) / left) / (right - left)
        slope = (high - top) / right - bend * right
        shift = np.where(bend < 0, -slope / (2 * bend), 0.0)
    inner = (at == middle) & (bend < 0) & (shift > left) & (shift < right)
    place = np.where(inner, doses[middle] + shift, doses[at])
    height = np.where(inner, top + slope * shift + bend * shift**2, curves[rows, at])
    return place, height
