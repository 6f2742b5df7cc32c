"""How well predicted effects rank units: Qini and uplift curves, and rank-weighted average effects (RATE)."""

import numpy as np
import pandas as pd

from cqox_assets.numerics.inference import influence_std_error


def uplift_curve(
    score: np.ndarray, outcome: np.ndarray, treated: np.ndarray, weight: np.ndarray | None = None, *, form: str = "qini"
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much outcome is gained when units are targeted from the highest score down.

    Parameters
    ----------
    score, outcome, treated : ndarray of shape (n,)
    weight : ndarray of shape (n,), optional
        Counts of each unit; ones by default.
    form : str
        `qini`: Yt - Yc Nt/Nc (Radcliffe 2007); `uplift`: (Yt/Nt - Yc/Nc)(Nt + Nc), where Y and N are sums of outcomes
        and counts among the targeted of an arm. An arm without targeted units adds nothing.

    Returns
    -------
    ndarray of shape (m + 1,)
        Number targeted: one point per distinct score, after the origin.
    ndarray of shape (m + 1,)
        The gain, in units of the outcome.
    """
    count = np.ones(len(score)) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)

    def along(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.cumsum(values[order])[ends])

    n1, n0 = along(count * treated), along(count * (1 - treated))
    y1, y0 = along(count * treated * outcome), along(count * (1 - treated) * outcome)
    mean1, mean0 = y1 / np.where(n1 > 0, n1, 1.0), y0 / np.where(n0 > 0, n0, 1.0)
    gain = y1 - mean0 * n1 if form == "qini" else (mean1 - mean0) * (n1 + n0)
    return np.append(0.0, n1 + n0), np.append(0.0, gain)


def uplift_area(x: np.ndarray, gain: np.ndarray) -> tuple[float, float]:
    """Return (area under the curve - area under the straight line to its end) / N^2, and the area under the curve."""
    area = float(np.sum((gain[1:] + gain[:-1]) / 2 * np.diff(x)))
    return (area - float(gain[-1]) * float(x[-1]) / 2) / float(x[-1]) ** 2, area


def uplift_table(
    score: np.ndarray, outcome: np.ndarray, treated: np.ndarray, weight: np.ndarray | None = None
) -> pd.DataFrame:
    """Return one row per curve (`qini`, `auuc`): `measure`, `value`, `area` under the curve and its `end`."""
    rows = []
    for measure, form in (("qini", "qini"), ("auuc", "uplift")):
        x, gain = uplift_curve(score, outcome, treated, weight, form=form)
        value, area = uplift_area(x, gain)
        rows.append({"measure": measure, "value": value, "area": area, "end": float(gain[-1])})
    return pd.DataFrame(rows)


def rank_weighted_effect(
    priority: np.ndarray,
    score: np.ndarray,
    sampling: np.ndarray,
    form: str = "autoc",
    cluster: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the rank-weighted average effect of a priority rule and its standard error.

    Parameters
    ----------
    priority : ndarray of shape (n,)
        Units with higher values are treated first; made without the unit's own outcome. Ties share their mean rank.
    score : ndarray of shape (n,)
        Doubly robust score of each unit's effect.
    sampling : ndarray of shape (n,)
        Sampling weights of mean one.
    form : str
        `autoc`: the mean over u of TOC(u) = E[effect | top u] - E[effect]; `qini`: that of u TOC(u).
    cluster : ndarray of int, shape (n,), optional

    Notes
    -----
    With U the share of units ranked at or above a unit, autoc = E[(-log U - 1) score], qini = E[(1/2 - U) score]. The
    influence of unit j is h(U_j) score_j + the integral of h'(u) m(u) (1{U_j <= u} - u), m(u) = E[score | U = u]: the
    second part is that ranks are estimated (Yadlowsky et al. 2025, doi:10.1080/01621459.2024.2393466).
    """
    n, counted = len(score), np.flatnonzero(sampling > 0)
    order = counted[np.argsort(-priority[counted], kind="stable")]
    weight, value = sampling[order], score[order]
    start = np.append(True, np.diff(priority[order]) != 0)
    group = np.cumsum(start) - 1
    size, mass = np.bincount(group, weights=weight), np.bincount(group, weights=weight * value)
    level = (mass / size)[group]
    rank = (np.cumsum(weight) - weight / 2) / weight.sum()
    step = weight / weight.sum()
    if form == "autoc":
        height, slope = -np.log(rank) - 1, -1 / rank
    else:
        height, slope = 0.5 - rank, -np.ones(len(rank))
    tied = (np.bincount(group, weights=height * weight) / size)[group]
    estimate = float(np.sum(step * tied * value))
    after = np.cumsum((slope * level * step)[::-1])[::-1]
    ranked = after - float(np.sum(slope * level * rank * step))
    ranked = (np.bincount(group, weights=ranked * weight) / size)[group]
    influence = np.zeros(n)
    influence[order] = weight * (tied * value - estimate + ranked)
    return estimate, influence_std_error(influence - influence.mean() * sampling, cluster)
