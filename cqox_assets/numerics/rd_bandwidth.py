"""Bandwidths of a regression discontinuity that minimise the mean squared error of the jump."""

import numpy as np

from cqox_assets.numerics.local_polynomial import (
    KERNELS,
    FewNearCutoffError,
    Residuals,
    Side,
    fit_local,
    noise,
    spread,
)

_LEAST_DISTINCT = 10


def quantile_type2(values: np.ndarray, share: float) -> float:
    """Return the empirical quantile that averages at jumps (type 2 of Hyndman & Fan 1996, doi:10.2307/2684934)."""
    ordered = np.sort(values)
    position = share * len(ordered)
    below = int(np.floor(position + 1e-9))
    if abs(position - below) < 1e-9 and 0 < below < len(ordered):
        return float((ordered[below - 1] + ordered[below]) / 2)
    return float(ordered[min(max(int(np.ceil(position - 1e-9)) - 1, 0), len(ordered) - 1)])


def _distances(x: np.ndarray) -> np.ndarray:
    """Return the distinct distances from the cutoff of one side's ascending values, ascending."""
    own = np.abs(x) if len(x) and x[-1] > 0 else np.abs(x)[::-1]
    return np.asarray(own[np.append(True, own[1:] != own[:-1])]) if len(own) else own


def _ingredients(
    side: Side,
    order: int,
    term: int,
    bias_order: int,
    bandwidths: tuple[float, float],
    regularise: float,
    kernel: str,
    how: Residuals,
) -> tuple[float, float, float]:
    """Return variance, bias and regularisation constants of the coefficient `term` of a fit of `order`.

    `bandwidths` are those of the variance and of the polynomial that estimates the bias.
    """
    near, wide = bandwidths
    fit = fit_local(side, near, order, kernel)
    gradient = np.ones(1)
    if side.responses.shape[1] == 2:
        y, t = fit.coef[term]
        if t == 0:
            raise FewNearCutoffError(
                "the treatment does not vary near the cutoff on one side; use the bandwidth of the outcome alone "
                "(sharp_bandwidth)"
            )
        gradient = np.array([1 / t, -y / t**2])
        gradient = gradient / float(np.prod(np.arange(1, term + 1)) or 1)
    psi = fit.linear(term) * (noise(side, fit, how) @ gradient)
    variance = spread(side, fit.rows, psi, order + 1)
    steep = fit.linear(term) @ (fit.design[:, 1] / near) ** (order + 1) * near**term
    outer = fit_local(side, wide, bias_order, kernel)
    curvature = float(outer.coef[order + 1] @ gradient)
    ratio = 2 * (order + 1 - term)
    penalty = 0.0
    if regularise > 0:
        shaky = outer.linear(order + 1) * (noise(side, outer, how) @ gradient)
        penalty = regularise * ratio * 3 * float(steep) ** 2 * spread(side, outer.rows, shaky, bias_order + 1)
    return (2 * term + 1) * near ** (2 * term + 1) * variance, np.sqrt(ratio) * float(steep) * curvature, penalty


def pilot_bandwidth(x: np.ndarray, kernel: str, count: int) -> float:
    """Return C min(sd, IQR / 1.349) M^(-1/5), C of the kernel."""
    quartiles = quantile_type2(x, 0.75) - quantile_type2(x, 0.25)
    scale = float(x.std(ddof=1))
    narrow = min(scale, quartiles / 1.349) if quartiles > 0 else scale
    return float(KERNELS[kernel][1] * narrow * count**-0.2)


def select_bandwidths(
    left: Side,
    right: Side,
    *,
    order: int = 1,
    bias_order: int = 2,
    kernel: str = "triangular",
    how: Residuals | None = None,
    mass_points: bool = True,
    regularise: float = 1.0,
    standardise: bool = True,
) -> tuple[float, float]:
    """Return the bandwidths h of the jump and b of its bias, in units of the running variable.

    Parameters
    ----------
    left, right : Side
        With two response columns the bandwidths are those of the ratio of jumps.
    mass_points : bool
        Count distinct values of the running variable, and hold at least ten of them where many repeat.
    regularise : float
        Weight of the term that keeps h from growing without bound where the estimated bias is about zero.
    standardise : bool
        Work with outcome and running variable in units of their standard deviation.

    Raises
    ------
    FewNearCutoffError
        If there are too few distinct values on one side.

    Notes
    -----
    One bandwidth for both sides, three stages: a pilot for variances, then the bandwidths of the derivatives that make
    up each next bias (Calonico, Cattaneo & Farrell 2020, doi:10.1093/ectj/utz022).
    """
    how = how or Residuals()
    x, y = np.concatenate([left.x, right.x]), np.concatenate([left.responses, right.responses])
    unit = float(x.std(ddof=1)) if standardise else 1.0
    units = np.ones(y.shape[1])
    if standardise:
        units[0] = y[:, 0].std(ddof=1) or 1.0
    sides = (left.scaled(unit, units), right.scaled(unit, units))
    distinct = [_distances(side.x) for side in sides]
    count = sum(map(len, distinct)) if mass_points else len(x)
    repeats = max(1 - len(own) / len(side.x) for own, side in zip(distinct, sides, strict=True)) >= 0.2
    least = _LEAST_DISTINCT if repeats and mass_points else bias_order + 3
    if min(map(len, distinct)) < least:
        raise FewNearCutoffError(
            f"one side of the cutoff has {min(map(len, distinct))} distinct values of the running variable, {least} "
            "are needed to choose a bandwidth; deliver more rows there, or give h and b"
        )
    floor = max(float(own[least - 1]) for own in distinct) * (1 + 1e-9)
    ceiling = max(float(own[-1]) for own in distinct)

    def bounded(value: float) -> float:
        return max(min(value, ceiling), floor)

    pilot = bounded(pilot_bandwidth(x / unit, kernel, count))

    def best(at: int, term: int, bias_at: int, wide: tuple[float, float], weight: float) -> float:
        parts = [
            _ingredients(side, at, term, bias_at, (pilot, reach), weight, kernel, how)
            for side, reach in zip(sides, wide, strict=True)
        ]
        (v0, b0, r0), (v1, b1, r1) = parts
        squared = (b1 - b0) ** 2 + r0 + r1
        return bounded(float((v0 + v1) / squared) ** (1 / (2 * at + 3)) if squared > 0 else ceiling)

    reach = (float(distinct[0][-1]), float(distinct[1][-1]))
    derivative = best(bias_order + 1, bias_order + 1, bias_order + 2, reach, 0.0)
    b = best(bias_order, order + 1, bias_order + 1, (derivative, derivative), regularise)
    h = best(order, 0, bias_order, (b, b), regularise)
    return h * unit, b * unit
