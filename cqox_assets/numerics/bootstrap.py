"""Resampling plans."""

from collections.abc import Iterator

import numpy as np


def resampled_rows(n: int, draws: int, seed: int, cluster: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield row positions of bootstrap samples.

    Parameters
    ----------
    n : int
        Rows.
    draws : int
        Samples.
    seed : int
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1; whole clusters are drawn with replacement.

    Notes
    -----
    Efron (1979, doi:10.1214/aos/1176344552); clusters: Cameron, Gelbach & Miller (2008, doi:10.1162/rest.90.3.414).
    """
    generator = np.random.default_rng(seed)
    if cluster is None:
        for _ in range(draws):
            yield generator.integers(0, n, n)
        return
    order = np.argsort(cluster, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(cluster))[:-1])
    for _ in range(draws):
        yield np.concatenate([members[group] for group in generator.integers(0, len(members), len(members))])


def resampled_ratios(
    numerator: np.ndarray, denominator: np.ndarray, draws: int, seed: int, most: int = 5_000
) -> np.ndarray:
    """Return ratios of sums over resampled clusters, shape (draws, k), as one matrix product.

    Parameters
    ----------
    numerator, denominator : ndarray of shape (G, k)
        What each cluster adds to the sums.
    draws, seed : int
    most : int
        Clusters beyond this number are drawn in this many random groups, which bounds the work; the spread of the
        draws is then known to within 1 / sqrt(2 * most).

    Notes
    -----
    A draw whose denominator is zero has no treated observation and is drawn again, as in the block bootstrap of Imai,
    Kim & Wang (2023, doi:10.1111/ajps.12685).
    """
    generator = np.random.default_rng(seed)
    if len(numerator) > most:
        place = generator.permutation(len(numerator)) % most
        both = np.column_stack([numerator, denominator])
        sums = np.column_stack([np.bincount(place, weights=column, minlength=most) for column in both.T])
        numerator, denominator = sums[:, : numerator.shape[1]], sums[:, numerator.shape[1] :]
    groups, k = numerator.shape
    both = np.column_stack([numerator, denominator])
    parts: list[np.ndarray] = []
    size = max(1, 4_000_000 // groups)
    for _ in range(20 * (draws // size + 1)):
        if sum(map(len, parts)) >= draws:
            break
        drawn = generator.integers(0, groups, (size, groups)) + groups * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        sums = counts @ both
        fine = (np.abs(sums[:, k:]) > 0).all(axis=1)
        parts.append(sums[fine, :k] / sums[fine, k:])
    return np.concatenate(parts)[:draws]
