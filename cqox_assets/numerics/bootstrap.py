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
