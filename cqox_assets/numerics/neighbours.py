"""Nearest neighbours on a line: which rows lie closest to each, and how much a response differs from theirs."""

from dataclasses import dataclass

import numpy as np

_TIE = float(np.sqrt(np.finfo(float).eps))


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of ascending values; those of row i are the rows low[i]..high[i] without itself.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Ascending.
    count : int
        Neighbours that each row needs. Values that are equal, and neighbours whose distances agree up to sqrt(eps),
        all enter, so a row may have more.
    low, high : ndarray of int, shape (n,)
        First neighbour and one past the last.
    """

    x: np.ndarray
    count: int
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, count: int) -> "Neighbours":
        """Find the neighbours of all rows."""
        return cls(x, count, *_ranges(x, count))

    def residuals(self, responses: np.ndarray, rows: slice | None = None) -> np.ndarray:
        """Return sqrt(J / (J + 1)) (y - mean of the J neighbours), shape (n, m).

        Parameters
        ----------
        responses : ndarray of shape (n, m)
            Of the rows in question.
        rows : slice, optional
            Rows of x among which neighbours are looked for; all by default. Only rows near an edge that is cut off get
            others than among all rows.

        References
        ----------
        Abadie & Imbens (2006, doi:10.1111/j.1468-0262.2006.00655.x).
        """
        start, stop, _ = slice(None).indices(len(self.x)) if rows is None else rows.indices(len(self.x))
        low, high = self.low[start:stop].copy(), self.high[start:stop].copy()
        for outside in (np.flatnonzero(low < start), np.flatnonzero(high > stop)):
            if len(outside):
                self._cut(int(outside[0]), int(outside[-1]) + 1, start, stop, low, high)
        low, high = low - start, high - start
        sums = np.vstack([np.zeros(responses.shape[1]), np.cumsum(responses, axis=0)])
        count = np.maximum(high - low - 1, 1)[:, None]
        others = sums[high] - sums[low] - responses
        return np.asarray(np.sqrt(count / (count + 1)) * (responses - others / count))

    def _cut(self, first: int, last: int, start: int, stop: int, low: np.ndarray, high: np.ndarray) -> None:
        """Find again, among rows start..stop, the neighbours of the rows first..last of these."""
        x = self.x[start:stop]
        # The neighbours lie within `count` rows of the group of equal values that a row belongs to, and their groups.
        from_value = x[max(int(np.searchsorted(x, x[first], side="left")) - self.count, 0)]
        to_value = x[min(int(np.searchsorted(x, x[last - 1], side="right")) - 1 + self.count, len(x) - 1)]
        begin = int(np.searchsorted(x, from_value, side="left"))
        end = int(np.searchsorted(x, to_value, side="right"))
        near_low, near_high = _ranges(x[begin:end], self.count)
        low[first:last] = near_low[first - begin : last - begin] + begin + start
        high[first:last] = near_high[first - begin : last - begin] + begin + start


def _ranges(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first neighbour and one past the last of each of ascending values."""
    n = len(x)
    starts = np.flatnonzero(np.append(True, x[1:] != x[:-1])) if n else np.zeros(0, dtype=int)
    values, edges = x[starts], np.append(starts, n)
    sizes = np.diff(edges)
    low, high = np.arange(len(values)), np.arange(len(values))
    wanted, last = min(count, n - 1), len(values) - 1
    moving = np.flatnonzero(sizes - 1 < wanted)
    while len(moving):
        a, b = low[moving], high[moving]
        left = np.where(a > 0, values[moving] - values[np.maximum(a - 1, 0)], np.inf)
        right = np.where(b < last, values[np.minimum(b + 1, last)] - values[moving], np.inf)
        near = np.minimum(left, right) * (1 + _TIE)
        low[moving] = np.where(left <= near, a - 1, a)
        high[moving] = np.where(right <= near, b + 1, b)
        short = edges[high[moving] + 1] - edges[low[moving]] - 1 < wanted
        moving = moving[short]
    group = np.repeat(np.arange(len(values)), sizes)
    return edges[low][group], edges[high + 1][group]
