"""How the rows of a forest are brought into order, put into bins and grouped into what is drawn together."""

from dataclasses import dataclass

import numpy as np

_SAMPLE = 50_000
_FAR = 3.0


@dataclass(frozen=True)
class ForestRows:
    """Rows in an order of their own content, so that the order of the input changes nothing.

    Parameters
    ----------
    order : ndarray of int, shape (n,)
        Input position of each row.
    codes : ndarray of uint8, shape (n, p)
        Covariates in at most 64 bins.
    line : ndarray of shape (n, q)
        Covariates that vary, standardised and cut at three standard deviations.
    t, y, weight : ndarray of shape (n,)
        Centred treatment and outcome, sampling weights.
    block : ndarray of int, shape (n,)
        Number of the block that a row belongs to: its cluster, or the row itself.
    starts, stops : ndarray of int, shape (blocks,)
        Rows of positive weight of each block.
    """

    order: np.ndarray
    codes: np.ndarray
    line: np.ndarray
    t: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    block: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @classmethod
    def of(
        cls, x: np.ndarray, t: np.ndarray, y: np.ndarray, weight: np.ndarray | None, cluster: np.ndarray | None
    ) -> "ForestRows":
        """Order, bin and group rows; `cluster` holds codes 0..G-1."""
        weight = np.ones(len(t)) if weight is None else weight
        order = _content_order(x, t, y, weight, cluster)
        x, weight = np.ascontiguousarray(x[order]), weight[order]
        block = np.arange(len(t)) if cluster is None else cluster[order]
        starts = np.searchsorted(block, np.arange(int(block.max()) + 1))
        stops = starts + np.bincount(block, weights=weight > 0).astype(np.int64)
        return cls(order, bin_codes(x), _standardised(x, weight), t[order], y[order], weight, block, starts, stops)

    def rows_in(self, blocks: np.ndarray) -> np.ndarray:
        """Return the rows of positive weight of some blocks, shape (m,)."""
        size = self.stops[blocks] - self.starts[blocks]
        first = np.repeat(self.starts[blocks] - (np.cumsum(size) - size), size)
        return np.asarray(first + np.arange(int(size.sum())))

    def restored(self, values: np.ndarray) -> np.ndarray:
        """Return values of the ordered rows in the order of the input."""
        result = np.empty_like(values)
        result[self.order] = values
        return result


def _content_order(
    x: np.ndarray, t: np.ndarray, y: np.ndarray, weight: np.ndarray, cluster: np.ndarray | None
) -> np.ndarray:
    """Sort by cluster, then rows that count first, then a hash of the covariates; ties by treatment and outcome."""
    from cqox_assets.numerics.forest_kernels import hash_rows

    content = hash_rows(np.ascontiguousarray(x + 0.0).view(np.uint64))
    if cluster is None:
        order = np.argsort(content)
        if np.all(np.diff(content[order]) > 0):
            return np.asarray(order)
    group = np.zeros(len(t)) if cluster is None else cluster
    # The absolute outcome comes first: it is the same when the outcome is measured in the other direction.
    lone = np.zeros(len(t)) if cluster is None else weight <= 0
    return np.asarray(np.lexsort((weight, y, np.abs(y), t, content, lone, group)))


def bin_codes(x: np.ndarray, bins: int = 64) -> np.ndarray:
    """Return bin numbers 0..bins-1 of every covariate, shape (n, p) of uint8.

    A covariate of few values has a bin for each, spread over the range of numbers; others are cut at quantiles.
    """
    codes = np.zeros(x.shape, np.uint8)
    step = max(1, len(x) // _SAMPLE)
    for j in range(x.shape[1]):
        values = np.unique(x[::step, j])
        if len(values) > bins:
            values = np.sort(x[::step, j])
            edges = np.unique(values[(np.arange(1, bins) * len(values)) // bins])
        else:
            edges = values[1:]
        spread = np.round(np.arange(len(edges) + 1) * ((bins - 1) / max(len(edges), 1))).astype(np.uint8)
        codes[:, j] = spread[np.searchsorted(edges, x[:, j], side="right")]
    return codes


def _standardised(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the covariates that vary with weighted mean 0 and variance 1, cut at three, shape (n, q)."""
    varies = x.max(axis=0) > x.min(axis=0)
    share = weight / weight.sum()
    line = x[:, varies] - (share @ x)[varies]
    spread = np.sqrt(np.einsum("i,ij,ij->j", share, line, line))
    line /= np.where(spread > 0, spread, 1.0)
    return np.asarray(np.clip(line, -_FAR, _FAR, out=line))
