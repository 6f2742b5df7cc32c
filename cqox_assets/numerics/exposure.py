"""Exposure to other units' treatment: conditions, exact probabilities and conservative variances.

Conditions are numbered 2 * own treatment + exposed and called d00, d01, d10, d11: own treatment first, then whether
enough of the unit's neighbours are treated. Aronow & Samii (2017, doi:10.1214/16-AOAS1005).
"""

from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.exposure_ties import Ties

CONDITIONS = ("d00", "d01", "d10", "d11")
_MOST_STEPS = 4e10
_MOST_STATES = 4e7
_SLACK = 1e-9


class DenseNetworkError(CqoxError):
    """Too many pairs of units share a neighbour for exact joint probabilities."""

    code = "network_too_dense"


@dataclass(frozen=True)
class Reach:
    """The blocks that decide each unit's condition: its own and those of its neighbours.

    Parameters
    ----------
    own : ndarray of int, shape (n,)
        Block of each unit; the units of a block are treated together, blocks independently.
    start, block, ties : ndarray of int
        Unit i has `ties[t]` ties to `block[t]` for t from start[i] to start[i + 1], in ascending order of blocks.
    need : ndarray of int, shape (n,)
        Ties to treated blocks from which on the unit counts as exposed.
    chance : ndarray of shape (blocks,)
        Probability that a block is treated.
    """

    own: np.ndarray
    start: np.ndarray
    block: np.ndarray
    ties: np.ndarray
    need: np.ndarray
    chance: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Ties of each unit, by weight, shape (n,)."""
        return np.diff(np.concatenate([[0], np.cumsum(self.ties)])[self.start])

    def conditions(self, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the condition of each unit and its ties to treated units, when `treated` (n,) are."""
        on = np.zeros(len(self.chance), dtype=np.int64)
        on[self.own] = treated.astype(np.int64)
        reached = np.diff(np.concatenate([[0], np.cumsum(self.ties * on[self.block])])[self.start])
        return 2 * on[self.own] + (reached >= self.need), reached

    def probabilities(self) -> np.ndarray:
        """Return the exact probability of each condition, shape (n, 4)."""
        from cqox_assets.numerics.exposure_kernels import marginals

        return np.asarray(marginals(self.own, self.start, self.block, self.ties, self.need, self.chance))

    def touched(self) -> tuple[np.ndarray, np.ndarray]:
        """Return, block by block, the units whose condition depends on it (starts and units)."""
        n, blocks = len(self.own), len(self.chance)
        unit = np.concatenate([np.repeat(np.arange(n), np.diff(self.start)), np.arange(n)])
        key = distinct(np.concatenate([self.block, self.own]) * n + unit)
        return np.searchsorted(key, np.arange(blocks + 1) * n), key % n

    def check_size(self, start: np.ndarray, units: np.ndarray) -> None:
        """Check that the pairs of units that share a block can be visited.

        Raises
        ------
        DenseNetworkError
        """
        states = self.need + 1.0
        work = np.concatenate([[0.0], np.cumsum((np.diff(self.start) * states)[units])])
        size = np.concatenate([[0.0], np.cumsum(states[units])])
        steps = 3 * np.diff(work[start]) * np.diff(size[start])
        if steps.sum() > _MOST_STEPS or states.max() ** 2 > _MOST_STATES:
            worst = int(np.diff(start)[int(np.argmax(steps))])
            raise DenseNetworkError(
                f"too many pairs of units share a neighbour for exact joint probabilities: one neighbour, or cluster "
                f"of neighbours, alone is shared by {worst} units; leave out the ties of such hubs, use exposure "
                "any_treated_neighbour, or analyse parts of the network"
            )


def distinct(keys: np.ndarray) -> np.ndarray:
    """Return the distinct keys in ascending order; sorting is faster here than the hashing of `np.unique`."""
    ordered = np.sort(keys)
    return np.asarray(ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]])


def reach_of(
    ties: Ties, block: np.ndarray, chance: np.ndarray, *, threshold: float | None = None, weighted: bool = True
) -> Reach:
    """Collect the blocks that each unit's neighbours belong to.

    Parameters
    ----------
    ties : Ties
    block : ndarray of int, shape (n,)
        Codes 0..B-1; each unit its own block under independent assignment.
    chance : ndarray of shape (B,)
    threshold : float, optional
        Share of ties to treated units from which on a unit counts as exposed; None: one such tie is enough.
    weighted : bool
        Whether ties count by weight in that share.
    """
    blocks = len(chance)
    key, place = np.unique(ties.target * blocks + block[ties.source], return_inverse=True)
    weight = ties.weight if weighted and threshold is not None else np.ones(len(ties.weight), dtype=np.int64)
    count = np.bincount(place, weights=weight, minlength=len(key)).astype(np.int64)
    start = np.searchsorted(key, np.arange(ties.units + 1) * blocks)
    reach = Reach(block, start, key % blocks, count, np.ones(ties.units, dtype=np.int64), chance)
    if threshold is None:
        return reach
    need = np.maximum(np.ceil(threshold * reach.total - _SLACK), 1).astype(np.int64)
    return Reach(block, start, reach.block, count, need, chance)


def conservative_variance(
    reach: Reach, condition: np.ndarray, probability: np.ndarray, value: np.ndarray, involved: np.ndarray,
    included: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return the Aronow-Samii variance estimate of sums over units of value / probability, shape (c,).

    Parameters
    ----------
    reach : Reach
    condition : ndarray of int, shape (n,)
    probability : ndarray of shape (n, 4)
    value : ndarray of shape (n, c)
        Signed value under the unit's own condition in each of c contrasts; 0 where it does not enter.
    involved : ndarray of bool, shape (c, 4)
        Conditions that a contrast compares.
    included : ndarray of bool, shape (n, c)
        Units that a contrast is about.

    Notes
    -----
    Over all (unit, condition) with indicator I and value v: sum I (1 - p) v^2 / p^2 plus, over ordered pairs that can
    occur together, I_i I_j (p_ij - p_i p_j) / p_ij * v_i v_j / (p_i p_j) and, over those that cannot, the bound
    I_i v_i^2 / (2 p_i) + I_j v_j^2 / (2 p_j) of Young's inequality.
    Pairs that share no block are independent and add nothing, so only the others are visited.
    """
    from cqox_assets.numerics.exposure_kernels import pair_terms

    start, units = reach.touched()
    reach.check_size(start, units)
    total, never = pair_terms(
        reach.own, reach.start, reach.block, reach.ties, reach.need, reach.chance, start, units, condition,
        probability, np.ascontiguousarray(value), involved, included,
    )  # fmt: skip
    own = probability[np.arange(len(condition)), condition][:, None]
    possible = (probability > 0).astype(float)
    possible[np.arange(len(condition)), condition] = 0.0  # a unit has one condition only, so its others never join it
    never = never + possible @ involved.T
    square = value**2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(square > 0, square * ((1 - own) / own**2 + never / own), 0.0)
    return np.asarray(terms.sum(axis=0) + total)
