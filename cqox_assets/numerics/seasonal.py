"""A series taken apart: trend, season, cycle and what is left."""

import numpy as np
import pandas as pd

from cqox_assets.numerics.loess import loess

_LEAST = 8  # periods


def decompose(time: np.ndarray, value: np.ndarray, period: int | None = None) -> tuple[pd.DataFrame, int | None]:
    """Return one row per time with `value` and the parts that add up to it, and the length of the season.

    The parts are `trend`, `season`, `cycle` and `rest`.

    Parameters
    ----------
    time, value : ndarray of shape (T,)
        Sorted by time, one row per period.
    period : int, optional
        Length of a season in periods; found from the autocorrelation of what the trend leaves if not given.

    Notes
    -----
    The trend is a local linear fit over half of the series; the season is the mean of what is left at each place within
    a season, centred; the cycle is a centred moving average of the rest over a season (a tenth of the series without
    one). A season needs two full turns; a found one an autocorrelation beyond 2 / sqrt(T). Of fewer than 8 periods,
    everything is trend.
    """
    count = len(value)
    if count < _LEAST or np.ptp(value) == 0:
        zero = np.zeros(count)
        return pd.DataFrame({"time": time, "value": value, "trend": value, "season": zero, "cycle": zero,
                             "rest": zero}), None  # fmt: skip
    line = loess(time, value, 0.6)
    trend = np.interp(time, line["x"], line["fit"]) if len(line) else np.full(count, value.mean())
    left = value - trend
    turn = period if period is not None and count >= 2 * period else (found_period(left) if period is None else None)
    season = np.zeros(count)
    if turn is not None:
        place = np.arange(count) % turn
        means = np.bincount(place, weights=left, minlength=turn) / np.bincount(place, minlength=turn)
        season = (means - means.mean())[place]
    rest = left - season
    wide = (turn or max(3, count // 10)) | 1
    kernel = np.ones(wide)
    cycle = np.convolve(rest, kernel, "same") / np.convolve(np.ones(count), kernel, "same")
    frame = pd.DataFrame({"time": time, "value": value, "trend": trend, "season": season, "cycle": cycle})
    return frame.assign(rest=rest - cycle), turn


def found_period(values: np.ndarray) -> int | None:
    """Return the lag of the largest local maximum of the autocorrelation, or None if it is not beyond noise."""
    count = len(values)
    centred = values - values.mean()
    spread = float(centred @ centred)
    if spread <= 0:
        return None
    shares = np.array([float(centred[lag:] @ centred[:-lag]) for lag in range(1, count // 2 + 2)]) / spread
    noise = 2 / np.sqrt(count)
    best, found = noise, None
    for lag in range(2, count // 2 + 1):
        share = float(shares[lag - 1])
        if share > best and share >= shares[lag - 2] and share > shares[min(lag, len(shares) - 1)]:
            best, found = share, lag
    return found
