"""Wilcoxon's signed rank test under hidden bias: Rosenbaum's bounds."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

_ROUNDING = 1e-12


@dataclass(frozen=True)
class SignedRanks:
    """Ranks of absolute pair differences; `ranks` are those of the pairs that differ.

    Parameters
    ----------
    ranks : ndarray of shape (m,)
    positive : ndarray of bool, shape (m,)
        Whether the exposed member of the pair has the larger outcome.
    zeros : int
        Pairs without a difference.
    """

    ranks: np.ndarray
    positive: np.ndarray
    zeros: int

    @property
    def statistic(self) -> float:
        """Sum of the ranks of the positive differences."""
        return float(self.ranks[self.positive].sum())


def signed_ranks(
    differences: np.ndarray, zeros: Literal["keep", "drop"] = "keep", magnitude: np.ndarray | None = None
) -> SignedRanks:
    """Rank pair differences of shape (m,); ties share their mean rank.

    Parameters
    ----------
    differences : ndarray of shape (m,)
    zeros : str
        `keep`: pairs without a difference are ranked with the rest, but have neither sign nor variance; `drop`: they
        are left out before ranking.
    magnitude : ndarray of shape (m,), optional
        The larger of the two absolute outcomes of each pair, by which their difference may be off in the 12th digit;
        the absolute difference by default. 0.3 - 0.1 and 0.9 - 0.7 are a tie, though floats differ.
    """
    from scipy.stats import rankdata

    size = np.abs(differences)
    slack = _ROUNDING * (size if magnitude is None else np.maximum(size, magnitude))
    differs = size > slack
    chosen = np.ones(len(size), dtype=bool) if zeros == "keep" else differs
    size = np.where(differs, size, 0.0)[chosen]
    ranks = np.asarray(rankdata(_levels(size, slack[chosen])))
    moved = differs[chosen]
    return SignedRanks(ranks[moved], differences[chosen][moved] > 0, int((~differs).sum()))


def _levels(size: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """Return the places of sizes in ascending order; sizes that are apart by no more than their rounding share one."""
    order = np.argsort(size, kind="stable")
    ranked, loose = size[order], slack[order]
    apart = np.diff(ranked) > np.maximum(loose[1:], loose[:-1])
    # No difference is a level of its own, however loose the smallest difference is.
    apart |= (ranked[:-1] == 0) & (ranked[1:] > 0)
    levels = np.empty(len(size), dtype=np.int64)
    levels[order] = np.concatenate([[0], np.cumsum(apart)])[: len(size)]
    return levels


def upper_p(ranks: SignedRanks, gamma: float) -> float:
    """Return the largest one-sided p-value (greater) if hidden bias changes the odds of exposure up to `gamma` times.

    Notes
    -----
    Under the worst bias a difference is positive with probability gamma / (1 + gamma); the normal approximation
    without continuity correction (Rosenbaum 2002, doi:10.1007/978-1-4757-3692-2, section 4.3).
    """
    return _p(ranks, gamma / (1 + gamma))


def lower_p(ranks: SignedRanks, gamma: float) -> float:
    """Return the smallest one-sided p-value (greater) under hidden bias of up to `gamma`."""
    return _p(ranks, 1 / (1 + gamma))


def _p(ranks: SignedRanks, probability: float) -> float:
    from scipy.special import ndtr

    variance = probability * (1 - probability) * float(ranks.ranks @ ranks.ranks)
    if variance <= 0:
        return 1.0
    return float(ndtr((probability * ranks.ranks.sum() - ranks.statistic) / math.sqrt(variance)))


def critical_gamma(ranks: SignedRanks, alpha: float, largest: float = 1e6) -> float | None:
    """Return the bias at which the upper p-value reaches `alpha`: None if it is above already without bias.

    `largest` is returned where even that bias does not explain the differences away.
    """
    if upper_p(ranks, 1.0) > alpha:
        return None
    if upper_p(ranks, largest) <= alpha:
        return largest
    from scipy.optimize import brentq

    found = brentq(lambda value: upper_p(ranks, math.exp(value)) - alpha, 0.0, math.log(largest), xtol=1e-10)
    return float(math.exp(found))
