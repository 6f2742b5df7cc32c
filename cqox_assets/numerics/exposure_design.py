"""How treatment was assigned in a network, and what conditions that gives each unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.exposure import Reach, reach_of
from cqox_assets.numerics.exposure_ties import Ties


class MixedClustersError(CqoxError):
    """Clusters hold treated and untreated units although whole clusters were to be treated."""

    code = "mixed_clusters"


class BadPropensityError(CqoxError):
    """A stated treatment probability contradicts itself or what was observed."""

    code = "bad_propensity"


@dataclass(frozen=True)
class Assignment:
    """Blocks of units that are treated together, and the chance of each block.

    Parameters
    ----------
    block : ndarray of int, shape (n,)
    chance : ndarray of shape (blocks,)
    known : bool
        Whether the chances were stated; else they are the observed share.
    words : str
    notices : tuple of str
    """

    block: np.ndarray
    chance: np.ndarray
    known: bool
    words: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exposed:
    """Conditions of the units: observed, and their probabilities.

    Parameters
    ----------
    condition : ndarray of int, shape (n,)
    probability : ndarray of shape (n, 4)
    neighbours, treated_neighbours : ndarray of int, shape (n,)
    words : tuple of two str
        What an unexposed and an exposed unit is.
    reach : Reach, optional
        None under the saturation design, where clusters are independent.
    cluster : ndarray of int, shape (n,), optional
    """

    condition: np.ndarray
    probability: np.ndarray
    neighbours: np.ndarray
    treated_neighbours: np.ndarray
    words: tuple[str, str]
    reach: Reach | None
    cluster: np.ndarray | None = None

    @property
    def own(self) -> np.ndarray:
        """Probability of the observed condition, shape (n,)."""
        return np.asarray(self.probability[np.arange(len(self.condition)), self.condition])

    @property
    def df(self) -> float | None:
        """Degrees of freedom of the interval; None is the normal distribution."""
        return None if self.reach is not None or self.cluster is None else float(self.cluster.max())

    def meaning(self, code: int) -> str:
        """Return a condition in words."""
        return self.label(code, ("untreated", "treated"))

    def label(self, code: int | None, arms: Sequence[str]) -> str:
        """Return a condition in words, with the labels of the arms; None is the mixture as assigned."""
        if code is None:
            return "everybody as assigned"
        return f"{arms[code // 2]}, {self.words[code % 2]}"


def assignment_of(
    treated: np.ndarray, cluster: np.ndarray | None, probability: float | None, known: np.ndarray | None, name: str
) -> Assignment:
    """Return the blocks and chances of independent assignment of units, or of whole clusters.

    Parameters
    ----------
    treated : ndarray of shape (n,)
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1; None: every unit is assigned by itself.
    probability : float, optional
        Known chance of every block; else `known`, the propensity of each unit, shape (n,); else the observed share.
    name : str
        Of the cluster column, for messages.

    Raises
    ------
    MixedClustersError, BadPropensityError
    """
    n = len(treated)
    block = np.arange(n) if cluster is None else cluster
    blocks = int(block.max()) + 1
    size = np.bincount(block, minlength=blocks)
    on = np.bincount(block, weights=treated, minlength=blocks)
    mixed = int(((on > 0) & (on < size)).sum())
    if mixed:
        raise MixedClustersError(
            f"{mixed} of {blocks} clusters of '{name}' hold treated and untreated units, but with edges a cluster is "
            "what is treated as a whole; unmap the role cluster if units were assigned one by one"
        )
    what = "each unit treated by itself" if cluster is None else f"{blocks} whole clusters treated"
    if probability is not None:
        return Assignment(block, np.full(blocks, float(probability)), True, f"{what} with probability {probability:g}")
    if known is None:
        share = float((on > 0).mean())
        unit = "units" if cluster is None else "clusters"
        words = f"the treatment probability was not stated; the share of treated {unit}, {share:.4g}, is taken for it"
        return Assignment(block, np.full(blocks, share), False, f"{what} with the observed share", (words,))
    return Assignment(block, _chances(known, treated, block, size), True, f"{what} with its known propensity")


def _chances(known: np.ndarray, treated: np.ndarray, block: np.ndarray, size: np.ndarray) -> np.ndarray:
    wrong = int((~((known >= 0) & (known <= 1))).sum())
    if wrong:
        raise BadPropensityError(
            f"{wrong} known propensities are not between 0 and 1; correct the column or state the parameter probability"
        )
    chance = np.asarray(np.bincount(block, weights=known) / size)
    if np.abs(known - chance[block]).max() > 1e-9:
        raise BadPropensityError(
            "the known propensity differs within clusters that are treated as a whole; give one value per cluster"
        )
    chance = np.asarray(np.clip(chance, 0.0, 1.0))
    contradicted = int(np.sum(np.where(treated == 1, known, 1 - known) <= 0))
    if contradicted:
        raise BadPropensityError(
            f"{contradicted} units have the arm that their known propensity rules out; correct the propensity column"
        )
    return chance


def exposed_by_ties(ties: Ties, treated: np.ndarray, assignment: Assignment, threshold: float | None) -> Exposed:
    """Return the conditions that ties and assignment give; `threshold` None: one treated neighbour is enough."""
    reach = reach_of(ties, assignment.block, assignment.chance, threshold=threshold)
    condition, _ = reach.conditions(treated)
    on = treated[ties.source]
    reached = np.bincount(ties.target, weights=on, minlength=ties.units).astype(np.int64)
    words = ("no treated neighbour", "some treated neighbour")
    if threshold is not None:
        words = (f"under {threshold:.0%} of neighbours treated", f"at least {threshold:.0%} of neighbours treated")
    return Exposed(condition, reach.probabilities(), ties.degree, reached, words, reach)


def exposed_by_cluster(
    treated: np.ndarray, cluster: np.ndarray, probability: float | None, saturation: float | None,
    known: np.ndarray | None,
) -> tuple[Exposed, Assignment]:  # fmt: skip
    """Return the conditions of a two-stage design: clusters are drawn, then units within the drawn clusters.

    A unit is exposed when its cluster was drawn, which shows in at least one treated unit.

    Parameters
    ----------
    probability, saturation : float, optional
        Known chance of a cluster, and of a unit within a drawn cluster; the observed shares by default.
    known : ndarray of shape (n,), optional
        Known chance of each unit's cluster.

    Notes
    -----
    P(d11) = p s, P(d01) = p (1 - s), P(d00) = 1 - p; d10 cannot occur (Hudgens & Halloran 2008,
    doi:10.1198/016214508000000292). Clusters are independent, so the variance is that of cluster sums.
    """
    size, on = np.bincount(cluster), np.bincount(cluster, weights=treated)
    drawn = on > 0
    notices = []
    if probability is None and known is None:
        notices.append(f"the probability of a cluster was not stated; the share {drawn.mean():.4g} is taken for it")
    chance = np.full(len(size), probability if probability is not None else float(drawn.mean()))
    if known is not None:
        chance = _chances(known, np.where(drawn[cluster], 1.0, 0.0), cluster, size)
    within = float(on[drawn].sum() / size[drawn].sum()) if saturation is None else saturation
    if within >= 1 and (on[drawn] < size[drawn]).any():
        raise BadPropensityError("saturation is 1, but treated clusters hold untreated units; state their true share")
    if saturation is None and within < 1:
        notices.append(f"the share treated within drawn clusters was not stated; {within:.4g} is taken for it")
    p = chance[cluster]
    table = np.column_stack([1 - p, p * (1 - within), np.zeros(len(p)), p * within])
    condition = np.where(drawn[cluster], np.where(treated == 1, 3, 1), 0)
    words = f"{len(size)} clusters drawn, {within:.4g} of their units treated"
    exposed = Exposed(
        condition, table, size[cluster] - 1, (on[cluster] - treated).astype(np.int64),
        ("in an untreated cluster", "in a treated cluster"), None, cluster,
    )  # fmt: skip
    return exposed, Assignment(cluster, chance, probability is not None or known is not None, words, tuple(notices))
