"""Folds that hash a unit's content, so that neither the order of rows nor an index moves a unit."""

import numpy as np
import pandas as pd

_COPIES = 4


def content_folds(
    covariates: np.ndarray,
    outcome: np.ndarray,
    arm: np.ndarray,
    folds: int,
    *,
    seed: int = 0,
    group: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Assign each unit to one of `folds` folds.

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
    outcome, arm : ndarray of shape (n,)
        Only break ties: units with equal covariates are dealt out in the order of how central their outcome is,
        which neither shifting, scaling nor flipping the outcome changes. Each arm is dealt out separately.
    folds : int
    seed : int
        Another seed gives another assignment.
    group : ndarray of shape (n,), optional
        Units of one group (cluster or panel unit) share a fold; then nothing else matters.
    weight : ndarray of shape (n,), optional
        Puts units of equal covariates, outcome and arm in order.

    Returns
    -------
    ndarray of int, shape (n,)
        Values 0..folds-1.

    Notes
    -----
    At most four equal units share a fold, so that a bootstrap's copies stay together, while every cell of discrete
    covariates is spread over the folds: a model must have seen the cells that it predicts.
    """
    if group is not None:
        key = f"{seed % 10**16:016d}"
        hashed = pd.util.hash_array(np.asarray(pd.Series(group).astype(str), dtype=object), hash_key=key)
        return np.asarray(np.unique(hashed, return_inverse=True)[1] % folds)
    frame = pd.DataFrame(np.round(covariates, 12) + 0.0)
    if frame.shape[1] == 0:
        frame = pd.DataFrame({"constant": np.zeros(len(outcome))})
    contents = _stirred(pd.util.hash_pandas_object(frame, index=False).to_numpy(), seed)
    rank = np.unique(outcome, return_inverse=True)[1]
    central = np.minimum(rank, rank.max() - rank)
    order = np.lexsort((np.zeros(len(rank)) if weight is None else weight, rank, contents, arm))
    copy = np.empty(len(outcome), dtype=int)
    copy[order] = _position_in_run(np.stack([contents[order], rank[order].astype(np.uint64)], axis=1), arm[order])
    result = np.empty(len(outcome), dtype=int)
    for value in np.unique(arm):
        rows = np.flatnonzero(arm == value)
        pairs = np.stack([contents[rows].astype(np.uint64), central[rows].astype(np.uint64)], axis=1)
        kind = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
        result[rows] = (kind + copy[rows] // _COPIES) % folds
    return result


def _stirred(hashed: np.ndarray, seed: int) -> np.ndarray:
    """Return other hashes for another seed (pandas' own key has no say over numbers); seed 0 leaves them as they are.

    The mixing function of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195).
    """
    if seed == 0:
        return hashed
    mixed = hashed + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _position_in_run(keys: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """Return the position of each row within its run of equal keys (n, 2) and arm (n,), from 0."""
    starts = np.ones(len(keys), dtype=bool)
    starts[1:] = (keys[1:] != keys[:-1]).any(axis=1) | (arm[1:] != arm[:-1])
    first = np.flatnonzero(starts)
    return np.asarray(np.arange(len(keys)) - first[np.cumsum(starts) - 1])


def index_folds(n: int, folds: int) -> np.ndarray:
    """Return row number modulo `folds`, shape (n,): it depends on the order of rows."""
    return np.arange(n) % folds


def random_folds(n: int, folds: int, seed: int, group: np.ndarray | None = None) -> np.ndarray:
    """Return a random equal-sized assignment, shape (n,); units of one `group` (codes 0..G-1) share a fold."""
    generator = np.random.default_rng(seed)
    if group is None:
        return np.asarray(generator.permutation(n) % folds)
    return np.asarray((generator.permutation(int(group.max()) + 1) % folds)[group])
