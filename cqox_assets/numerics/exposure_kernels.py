"""Compiled loops over units and pairs of units that share a neighbour; imported inside functions only.

A unit's exposure is decided by independent coins, one per block of units that are treated together. `start`, `reach`
and `ties` list, unit by unit, the blocks of its neighbours in ascending order and how many ties lead there; a unit is
exposed when at least `need` of its ties lead to treated blocks. Conditions are numbered 2 * own treatment + exposed.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)  # type: ignore[misc,untyped-decorator,unused-ignore]
def _toss(state: np.ndarray, top_i: int, top_j: int, step_i: int, step_j: int, chance: float) -> None:
    """Add a coin that moves the two counts by `step_i` and `step_j`; counts stop at the tops. Works in place."""
    for x in range(top_i, -1, -1):
        to_x = min(x + step_i, top_i)
        for y in range(top_j, -1, -1):
            to_y = min(y + step_j, top_j)
            if to_x != x or to_y != y:
                moved = state[x, y] * chance
                state[x, y] -= moved
                if chance == 1.0:
                    state[x, y] = 0.0
                state[to_x, to_y] += moved


@njit(cache=True, nogil=True)  # type: ignore[misc,untyped-decorator,unused-ignore]
def marginals(
    own: np.ndarray, start: np.ndarray, reach: np.ndarray, ties: np.ndarray, need: np.ndarray, chance: np.ndarray
) -> np.ndarray:
    """Probability of each of the four conditions, shape (n, 4)."""
    n = len(own)
    result = np.zeros((n, 4))
    state = np.zeros((need.max() + 1, 1))
    for i in range(n):
        for z in range(2):
            weight = chance[own[i]] if z == 1 else 1.0 - chance[own[i]]
            if weight == 0.0:
                continue
            state[: need[i] + 1, 0] = 0.0
            state[0, 0] = 1.0
            for t in range(start[i], start[i + 1]):
                p = float(z) if reach[t] == own[i] else chance[reach[t]]
                _toss(state, need[i], 0, ties[t], 0, p)
            exposed = state[need[i], 0]
            unexposed = 0.0
            for x in range(need[i]):
                unexposed += state[x, 0]
            result[i, 2 * z] = weight * unexposed
            result[i, 2 * z + 1] = weight * exposed
    return result


@njit(cache=True, nogil=True)  # type: ignore[misc,untyped-decorator,unused-ignore]
def _any(
    i: int,
    j: int,
    zi: int,
    zj: int,
    own: np.ndarray,
    start: np.ndarray,
    reach: np.ndarray,
    chance: np.ndarray,
    weight: float,
    out: np.ndarray,
) -> None:
    """Write the joint probabilities when one tie to a treated block exposes; sums of products, so zeros are exact."""
    none, only_i, only_j, both = weight, 0.0, 0.0, 0.0
    s, t, end_s, end_t, last = start[i], start[j], start[i + 1], start[j + 1], len(chance)
    while s < end_s or t < end_t:
        block_i = reach[s] if s < end_s else last
        block_j = reach[t] if t < end_t else last
        block = min(block_i, block_j)
        p = chance[block]
        if block == own[i]:
            p = float(zi)
        elif block == own[j]:
            p = float(zj)
        q = 1.0 - p
        if block_i == block_j:
            both += p * (none + only_i + only_j)
            none, only_i, only_j = none * q, only_i * q, only_j * q
            s += 1
            t += 1
        elif block_i == block:
            both += p * only_j
            only_i += p * none
            none, only_j = none * q, only_j * q
            s += 1
        else:
            both += p * only_i
            only_j += p * none
            none, only_i = none * q, only_i * q
            t += 1
    out[0, 0], out[1, 0], out[0, 1], out[1, 1] = none, only_i, only_j, both


@njit(cache=True, nogil=True)  # type: ignore[misc,untyped-decorator,unused-ignore]
def _together(
    i: int,
    j: int,
    zi: int,
    zj: int,
    own: np.ndarray,
    start: np.ndarray,
    reach: np.ndarray,
    ties: np.ndarray,
    need: np.ndarray,
    chance: np.ndarray,
    state: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write P(own treatments zi, zj; exposures e_i, e_j) of two units to `out[e_i, e_j]`."""
    out[:, :] = 0.0
    same = own[i] == own[j]
    if same and zi != zj:
        return
    weight = chance[own[i]] if zi == 1 else 1.0 - chance[own[i]]
    if not same:
        weight *= chance[own[j]] if zj == 1 else 1.0 - chance[own[j]]
    if weight == 0.0:
        return
    top_i, top_j = need[i], need[j]
    if top_i == 1 and top_j == 1:
        _any(i, j, zi, zj, own, start, reach, chance, weight, out)
        return
    state[: top_i + 1, : top_j + 1] = 0.0
    state[0, 0] = 1.0
    s, t = start[i], start[j]
    while s < start[i + 1] or t < start[j + 1]:
        block_i = reach[s] if s < start[i + 1] else len(chance)
        block_j = reach[t] if t < start[j + 1] else len(chance)
        block = min(block_i, block_j)
        step_i = step_j = 0
        if block_i == block:
            step_i = ties[s]
            s += 1
        if block_j == block:
            step_j = ties[t]
            t += 1
        p = chance[block]
        if block == own[i]:
            p = float(zi)
        elif block == own[j]:
            p = float(zj)
        _toss(state, top_i, top_j, step_i, step_j, p)
    for x in range(top_i + 1):
        for y in range(top_j + 1):
            out[int(x == top_i), int(y == top_j)] += weight * state[x, y]


@njit(cache=True, nogil=True)  # type: ignore[misc,untyped-decorator,unused-ignore]
def pair_terms(
    own: np.ndarray,
    start: np.ndarray,
    reach: np.ndarray,
    ties: np.ndarray,
    need: np.ndarray,
    chance: np.ndarray,
    touched_start: np.ndarray,
    touched: np.ndarray,
    condition: np.ndarray,
    probability: np.ndarray,
    value: np.ndarray,
    involved: np.ndarray,
    included: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum what pairs of units that share a block add to the variances.

    Parameters
    ----------
    touched_start, touched : ndarray
        Block by block, the units whose condition depends on it.
    condition : ndarray of shape (n,)
    probability : ndarray of shape (n, 4)
    value : ndarray of shape (n, c)
        Signed value of each unit under its own condition in each of c contrasts; 0 where it does not enter.
    involved : ndarray of bool, shape (c, 4)
        Conditions that a contrast compares.
    included : ndarray of bool, shape (n, c)
        Units that a contrast is about.

    Returns
    -------
    ndarray of shape (c,)
        Sum over ordered pairs of (p_ij - p_i p_j) / (p_ij p_i p_j) value_i value_j.
    ndarray of shape (n, c)
        Per unit, the number of conditions of other units that cannot occur together with its own.
    """
    n, contrasts = value.shape
    total, never = np.zeros(contrasts), np.zeros((n, contrasts))
    state = np.zeros((need.max() + 1, need.max() + 1))
    out, row, column = np.zeros((2, 2)), np.zeros(4), np.zeros(4)
    seen = np.full(n, -1)
    for i in range(n):
        ai, ei = condition[i] // 2, condition[i] % 2
        for s in range(start[i], start[i + 1] + 1):
            block = own[i] if s == start[i + 1] else reach[s]
            for t in range(touched_start[block], touched_start[block + 1]):
                j = touched[t]
                if j <= i or seen[j] == i:
                    continue
                seen[j] = i
                aj, ej = condition[j] // 2, condition[j] % 2
                for zj in range(2):
                    _together(i, j, ai, zj, own, start, reach, ties, need, chance, state, out)
                    for e in range(2):
                        row[2 * zj + e] = out[ei, e]
                        if zj == aj:
                            column[2 * ai + e] = out[e, ej]
                _together(i, j, 1 - ai, aj, own, start, reach, ties, need, chance, state, out)
                for e in range(2):
                    column[2 * (1 - ai) + e] = out[e, ej]
                joint, apart = row[condition[j]], probability[i, condition[i]] * probability[j, condition[j]]
                if joint > 0.0:
                    factor = 2.0 * (joint - apart) / (joint * apart)
                    for c in range(contrasts):
                        total[c] += factor * value[i, c] * value[j, c]
                for k in range(4):
                    if row[k] == 0.0 and probability[j, k] > 0.0:
                        for c in range(contrasts):
                            never[i, c] += involved[c, k] and included[j, c]
                    if column[k] == 0.0 and probability[i, k] > 0.0:
                        for c in range(contrasts):
                            never[j, c] += involved[c, k] and included[i, c]
    return total, never
