"""Data that are changed on purpose: permutations, subsets and noise that a sensitivity question refits on."""

from collections.abc import Iterator

import numpy as np


def permutations(n: int, draws: int, seed: int, cluster: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield row positions whose values each row takes over.

    Parameters
    ----------
    n, draws, seed : int
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1. Whole clusters exchange the value of their first row, as where clusters were assigned.
    """
    generator = np.random.default_rng(seed)
    first = None if cluster is None else np.unique(cluster, return_index=True)[1]
    for _ in range(draws):
        if cluster is None or first is None:
            yield generator.permutation(n)
        else:
            yield first[generator.permutation(len(first))][cluster]


def histories(group: np.ndarray, time: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield row positions whose values each row takes over: groups exchange what they had at each time.

    Parameters
    ----------
    group, time : ndarray of int, shape (n,)
        Codes 0..G-1 and 0..T-1. Groups that were seen at the same times exchange with one another; of several rows of
        a group at one time the first one's value is taken.
    draws, seed : int
    """
    generator, n = np.random.default_rng(seed), len(group)
    first = np.full((int(group.max()) + 1, int(time.max()) + 1), -1)
    first[group[::-1], time[::-1]] = np.arange(n)[::-1]
    alike = np.unique(first >= 0, axis=0, return_inverse=True)[1].ravel()
    members = [np.flatnonzero(alike == code) for code in range(int(alike.max()) + 1)]
    for _ in range(draws):
        source = np.arange(len(first))
        for own in members:
            source[own] = own[generator.permutation(len(own))]
        yield first[source[group], time]


def subsets(n: int, share: float, draws: int, seed: int, cluster: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield sorted row positions of random subsets without replacement; clusters stay whole."""
    generator = np.random.default_rng(seed)
    groups = np.arange(n) if cluster is None else cluster
    total = int(groups.max()) + 1
    size = max(2, round(share * total))
    for _ in range(draws):
        chosen = np.zeros(total, dtype=bool)
        chosen[generator.choice(total, size, replace=False)] = True
        yield np.flatnonzero(chosen[groups])


def noise(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield standard normal columns of shape (n,)."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield generator.standard_normal(n)
