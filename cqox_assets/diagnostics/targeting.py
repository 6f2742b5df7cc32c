"""How the mean effect differs among units that were ranked, grouped or sorted by a predicted effect."""

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.uplift import uplift_curve
from cqox_assets.numerics.inference import influence_std_error

_POINTS = 200


def group_effects(
    group: np.ndarray, score: np.ndarray, sampling: np.ndarray, cluster: np.ndarray | None = None
) -> pd.DataFrame:
    """Return one row per group: rows, mean of the doubly robust score and its standard error (NaN for one unit).

    Parameters
    ----------
    group : ndarray of int, shape (n,)
        0..G-1; negative: in no group.
    score, sampling : ndarray of shape (n,)
    cluster : ndarray of int, shape (n,), optional
    """
    rows = []
    for code in range(int(group.max(initial=-1)) + 1):
        inside = (group == code) & (sampling > 0)
        if not inside.any():
            continue
        weight, value = sampling[inside], score[inside]
        mean = float(weight @ value / weight.sum())
        influence = weight / weight.mean() * (value - mean)
        own = None if cluster is None else np.unique(cluster[inside], return_inverse=True)[1]
        enough = len(value) > 1 and (own is None or own.max() > 0) and np.ptp(value) > 0
        rows.append((code, len(value), mean, influence_std_error(influence, own) if enough else np.nan))
    return pd.DataFrame(rows, columns=["group", "rows", "estimate", "std_error"])


def quantile_groups(values: np.ndarray, count: int) -> np.ndarray:
    """Return the group of each value, 0..count-1 from the lowest; equal values share a group, so there may be fewer."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)[1]


def uplift_path(predicted: np.ndarray, score: np.ndarray, sampling: np.ndarray) -> pd.DataFrame:
    """Return the mean gain per unit when units are treated from the highest predicted effect down.

    Returns
    -------
    DataFrame
        share treated, gain (mean over all units), std_error, random (the gain of the same share drawn at random).

    Notes
    -----
    gain(u) = E[1{rank <= u} score], score the doubly robust score, so that confounding is adjusted for; the error
    takes the ranking as given.
    """
    order = np.argsort(-predicted, kind="stable")
    weight = sampling[order] / sampling.sum()
    value = score[order]
    reached, gained = np.cumsum(weight), np.cumsum(weight * value)
    squares = np.cumsum(weight**2 * value**2)
    n = len(order)
    error = np.sqrt(np.maximum(squares - gained**2 / n, 0.0))
    ends = np.append(np.flatnonzero(np.diff(predicted[order])), n - 1)  # equal predictions are treated together
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, min(len(ends), _POINTS)).astype(int))]
    frame = pd.DataFrame({"share": reached[ends], "gain": gained[ends], "std_error": error[ends]})
    frame = pd.concat([pd.DataFrame({"share": [0.0], "gain": [0.0], "std_error": [0.0]}), frame], ignore_index=True)
    return frame.assign(random=frame["share"] * float(gained[-1]))


def qini_path(
    predicted: np.ndarray, outcome: np.ndarray, treated: np.ndarray, weight: np.ndarray | None = None
) -> pd.DataFrame:
    """Return Radcliffe's Qini curve with its error: targeted, share, gain, std_error, random.

    Notes
    -----
    gain = Yt - Yc Nt / Nc among the targeted (Radcliffe 2007); its variance, with the ranking as given, is
    Nt s_t^2 + Nt^2 s_c^2 / Nc, s the standard deviations of the outcome among the targeted of an arm.
    """
    x, gain = uplift_curve(predicted, outcome, treated, weight)
    count = np.ones(len(predicted)) if weight is None else weight
    order = np.argsort(-predicted, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(predicted[order])), len(order) - 1)

    def along(values: np.ndarray) -> np.ndarray:
        return np.append(0.0, np.cumsum(values[order])[ends])

    variance = np.zeros(len(x))
    n1, n0 = along(count * treated), along(count * (1 - treated))
    for arm, size in ((treated, n1), (1 - treated, n0)):
        held = np.maximum(size, 1.0)
        mean = along(count * arm * outcome) / held
        spread = np.maximum(along(count * arm * outcome**2) / held - mean**2, 0.0)
        variance += spread * (n1 if arm is treated else n1**2 / np.maximum(n0, 1.0))
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS + 1)).astype(int))
    frame = pd.DataFrame({"targeted": x, "share": x / x[-1], "gain": gain, "std_error": np.sqrt(variance)})
    return frame.assign(random=frame["share"] * gain[-1]).iloc[keep].reset_index(drop=True)
