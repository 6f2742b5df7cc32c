"""The jump at a cutoff: sharp or fuzzy, conventional and bias-corrected, with its standard errors."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.local_polynomial import FewNearCutoffError, Residuals, Side, SideJump, cluster_factor, limit
from cqox_assets.numerics.neighbours import Neighbours
from cqox_assets.numerics.rd_bandwidth import select_bandwidths


class NoJumpError(CqoxError):
    """The treatment does not change at the cutoff."""

    code = "no_jump"


@dataclass(frozen=True)
class Recipe:
    """How jumps are estimated; the fields are those of the estimator's parameters."""

    order: int = 1
    bias_order: int = 2
    kernel: str = "triangular"
    noise: Residuals = field(default_factory=Residuals)
    mass_points: bool = True
    regularisation: float = 1.0
    standardise: bool = True


@dataclass(frozen=True)
class Jump:
    """A jump, or a ratio of jumps, right minus left.

    Parameters
    ----------
    conventional, corrected : float
        Without and with the estimated bias taken off.
    conventional_se, robust_se : float
        Standard errors; the robust one goes with `corrected` and counts the noise of the bias.
    rows : (int, int)
        Rows with weight under h, left and right.
    clusters : int
        Clusters among the rows that are used; 0 without clusters.
    """

    conventional: float
    corrected: float
    conventional_se: float
    robust_se: float
    rows: tuple[int, int]
    clusters: int = 0


@dataclass(frozen=True)
class Arrangement:
    """Rows around a cutoff, sorted once for all responses.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Running variable minus cutoff.
    above : ndarray of bool, shape (n,)
    cluster : ndarray of int, shape (n,), optional
    """

    x: np.ndarray
    above: np.ndarray
    cluster: np.ndarray | None = None

    @cached_property
    def _by_x(self) -> tuple[np.ndarray, bool]:
        """Return the order by x, and whether values are equal, so that it is not the only one."""
        order = np.argsort(self.x, kind="stable")
        ordered = self.x[order]
        return order, bool((ordered[1:] == ordered[:-1]).any())

    @cached_property
    def _neighbours(self) -> tuple[dict[int, Neighbours], dict[int, Neighbours]]:
        return {}, {}

    def sides(self, responses: np.ndarray) -> tuple[Side, Side]:
        """Return the rows on the left and on the right with responses of shape (n, m), ascending in x.

        Rows with equal x are in the order of their responses, whatever the order of the file.
        """
        order, ties = self._by_x
        if ties:
            order = np.lexsort((*responses.T, self.x))
        side = self.above[order]
        left, right = (
            Side(self.x[rows], responses[rows], None if self.cluster is None else self.cluster[rows], found)
            for rows, found in zip((order[~side], order[side]), self._neighbours, strict=True)
        )
        return left, right


def bandwidths_of(left: Side, right: Side, recipe: Recipe) -> tuple[float, float]:
    """Select h and b for the sides' responses."""
    return select_bandwidths(
        left,
        right,
        order=recipe.order,
        bias_order=recipe.bias_order,
        kernel=recipe.kernel,
        how=recipe.noise,
        mass_points=recipe.mass_points,
        regularise=recipe.regularisation,
        standardise=recipe.standardise,
    )


def estimate_jumps(left: Side, right: Side, h: float, b: float, recipe: Recipe) -> tuple[Jump, Jump | None]:
    """Return the jump of the outcome, or with two responses that of outcome over treatment and that of the treatment.

    Raises
    ------
    NoJumpError
        If the treatment does not jump at all.

    Notes
    -----
    The ratio's bias and variance are those of its linearisation (Calonico, Cattaneo & Titiunik 2014,
    doi:10.3982/ECTA11757).
    """
    settings = (h, b, recipe.order, recipe.bias_order, recipe.kernel, recipe.noise)
    low, high = limit(left, *settings), limit(right, *settings)
    plain = high.conventional - low.conventional
    corrected = high.corrected - low.corrected
    clusters = (left.cluster, right.cluster)
    if left.responses.shape[1] == 1:
        return _jump(low, high, plain[0], corrected[0], np.ones(1), clusters, recipe), None
    if abs(plain[1]) <= 1e-10 * max(
        float(np.ptp(np.concatenate([left.responses[:, 1], right.responses[:, 1]]))), 1e-300
    ):
        raise NoJumpError(
            "the treatment does not change at the cutoff; check the cutoff and the running variable in study.yaml"
        )
    ratio = plain[0] / plain[1]
    gradient = np.array([1 / plain[1], -plain[0] / plain[1] ** 2])
    fuzzy = _jump(low, high, ratio, ratio - gradient @ (plain - corrected), gradient, clusters, recipe)
    return fuzzy, _jump(low, high, plain[1], corrected[1], np.array([0.0, 1.0]), clusters, recipe)


def _jump(
    low: SideJump,
    high: SideJump,
    plain: float,
    corrected: float,
    gradient: np.ndarray,
    clusters: tuple[np.ndarray | None, np.ndarray | None],
    recipe: Recipe,
) -> Jump:
    errors = []
    for scores in ("scores", "robust_scores"):
        parts = [getattr(side, scores) @ gradient for side in (low, high)]
        errors.append(_std_error(parts, (low.rows, high.rows), clusters, recipe.order + 1))
    used = [codes[side.rows] for codes, side in zip(clusters, (low, high), strict=True) if codes is not None]
    count = len(np.unique(np.concatenate(used))) if used else 0
    return Jump(float(plain), float(corrected), errors[0], errors[1], (low.effective, high.effective), count)


def _std_error(
    parts: list[np.ndarray],
    rows: tuple[slice, slice],
    clusters: tuple[np.ndarray | None, np.ndarray | None],
    columns: int,
) -> float:
    """Return the root of the summed squares of scores; those of a cluster on both sides are added first."""
    if clusters[0] is None or clusters[1] is None:
        return math.sqrt(sum(float(part @ part) for part in parts))
    labels = [codes[used] for codes, used in zip(clusters, rows, strict=True) if codes is not None]
    if min(len(np.unique(own)) for own in labels) < 2:
        raise FewNearCutoffError(
            "the rows near the cutoff on one side share one cluster; deliver more clusters, or unmap the role cluster"
        )
    scaled = [
        part * math.sqrt(cluster_factor(len(part), len(np.unique(own)), columns))
        for part, own in zip(parts, labels, strict=True)
    ]
    codes = np.unique(np.concatenate(labels), return_inverse=True)[1]
    sums = np.bincount(codes, weights=np.concatenate(scaled))
    return float(np.sqrt(sums @ sums))


def cutoff_between(low: float, high: float) -> float:
    """Return the number with the fewest digits in (low, high]: where a rule that parts two groups probably lies."""
    for power in range(math.ceil(math.log10(max(abs(low), abs(high), high - low, 1e-300))) + 1, -16, -1):
        unit = 10.0**power
        found = math.floor(high / unit) * unit
        if low < found <= high:
            return float(round(found, max(-power, 0)))
    return float(high)
