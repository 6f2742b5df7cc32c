"""Local regression: a smooth line through a cloud of points, with its pointwise error."""

import numpy as np
import pandas as pd

_MOST = 20_000  # rows that a line of a few dozen places can use
_PLACES = 50


def loess(x: np.ndarray, y: np.ndarray, span: float = 0.5, weights: np.ndarray | None = None) -> pd.DataFrame:
    """Return a local linear fit with tricube weights at up to 50 places: x, fit, std_error.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
    span : float
        Share of the rows that each fit rests on.
    weights : ndarray of shape (n,), optional
        Sampling weights.

    Notes
    -----
    Cleveland (1979, doi:10.1080/01621459.1979.10481038), without the robust steps. Beyond 20,000 rows, evenly spaced
    rows in the order of x are used. The error takes the residual variance near each place. Empty without two distinct
    values of x.
    """
    order = np.argsort(x, kind="stable")
    if len(order) > _MOST:
        order = order[np.linspace(0, len(order) - 1, _MOST).astype(int)]
    xs, ys = x[order], y[order]
    ws = np.ones(len(xs)) if weights is None else weights[order]
    columns = ["x", "fit", "std_error"]
    if len(xs) < 3 or xs[0] == xs[-1]:
        return pd.DataFrame(columns=columns, dtype=float)
    count = min(len(xs), max(3, int(np.ceil(span * len(xs)))))
    places = np.unique(np.quantile(xs, np.linspace(0.005, 0.995, _PLACES)))
    rows = [fit for place in places if (fit := _at(float(place), xs, ys, ws, count)) is not None]
    return pd.DataFrame(rows, columns=columns)


def _at(place: float, x: np.ndarray, y: np.ndarray, weight: np.ndarray, count: int) -> tuple[float, ...] | None:
    """Return place, fit and standard error from the `count` nearest rows of sorted x; None where x does not vary."""
    middle = int(np.searchsorted(x, place))
    start, stop = max(0, middle - count), min(len(x), middle + count)
    near = np.argpartition(np.abs(x[start:stop] - place), min(count, stop - start) - 1)[:count] + start
    gap = x[near] - place
    reach = float(np.abs(gap).max()) * (1 + 1e-9)
    if reach <= 0:
        return None
    kernel = (1 - np.abs(gap / reach) ** 3) ** 3 * weight[near]
    u = gap / reach
    s0, s1, s2 = (float(kernel @ u**power) for power in (0, 1, 2))
    if s0 <= 0:
        return None
    determinant = s0 * s2 - s1**2
    flat = determinant <= 1e-10 * s0**2
    smoother = kernel / s0 if flat else kernel * (s2 - s1 * u) / determinant
    fit = float(smoother @ y[near])
    slope = 0.0 if flat else float((s0 * (kernel * u) @ y[near] - s1 * kernel @ y[near]) / determinant)
    rest = y[near] - fit - slope * u
    variance = float(kernel @ rest**2) / s0
    return place, fit, float(np.sqrt(variance * (smoother @ smoother)))
