"""Matching without replacement on a score: greedy in a stated order, or optimal in total distance."""

import numpy as np

from cqox_assets.numerics.matching import MatchingSizeError, PairMatches

_CELLS = 150_000_000
_SKIP_TARGET, _PAIR, _SKIP_SOURCE = 0, 1, 2


class _Pool:
    """Unused targets in blocks of equal score, with links to the nearest block that still has one."""

    def __init__(self, target: np.ndarray, tolerance: float) -> None:
        self.order = np.lexsort((np.arange(len(target)), target))
        ranked = target[self.order]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(ranked) > tolerance]))
        ends = np.append(starts[1:], len(ranked))
        self.score = ranked[starts]
        # Within a block the file decides, even where rounding put equal scores in another order.
        self.members: list[list[int]] = [
            sorted(self.order[a:b].tolist(), reverse=True) for a, b in zip(starts, ends, strict=True)
        ]
        self.right = list(range(len(starts) + 1))
        self.left = list(range(len(starts) + 1))

    @staticmethod
    def _find(parent: list[int], block: int) -> int:
        root = block
        while parent[root] != root:
            root = parent[root]
        while parent[block] != root:
            parent[block], block = root, parent[block]
        return root

    def closest(self, score: float, tolerance: float, radius: float) -> int | None:
        """Return the closest unused target (the first in the file among equals) and remove it."""
        position = int(np.searchsorted(self.score, score))
        after = self._find(self.right, position)
        before = self._find(self.left, position) - 1  # left links are shifted by one; 0 is the end
        beyond = self.score[after] - score if after < len(self.score) else np.inf
        below = score - self.score[before] if before >= 0 else np.inf
        if min(beyond, below) > radius or min(beyond, below) == np.inf:
            return None
        if abs(beyond - below) <= tolerance:
            block = after if self.members[after][-1] < self.members[before][-1] else before
        else:
            block = after if beyond < below else before
        chosen = self.members[block].pop()
        if not self.members[block]:
            self.right[block] = block + 1
            self.left[block + 1] = block
        return chosen


def greedy_pairs(
    source: np.ndarray,
    target: np.ndarray,
    ratio: int = 1,
    *,
    order: str = "descending_score",
    tolerance: float = 1e-12,
    radius: float = np.inf,
) -> PairMatches:
    """Let the sources choose, one after the other, their closest unused target; `ratio` rounds.

    Parameters
    ----------
    source, target : ndarray of shape (s,), (t,)
        Scores.
    order : str
        `descending_score`, `ascending_score` or `file`: who chooses first (the file decides among equal scores).
    tolerance : float
        Distances that differ by no more are equal; then the first target in the file is taken.
    radius : float
        Largest distance allowed.
    """
    turn = {
        "descending_score": np.argsort(-source, kind="stable"),
        "ascending_score": np.argsort(source, kind="stable"),
        "file": np.arange(len(source)),
    }[order]
    pool = _Pool(target, tolerance)
    pairs = []
    for _ in range(ratio):
        for who in turn.tolist():
            chosen = pool.closest(float(source[who]), tolerance, radius)
            if chosen is not None:
                pairs.append((who, chosen))
    listed = np.array(pairs, dtype=int).reshape(-1, 2)
    return PairMatches(listed[:, 0], listed[:, 1], len(source), len(target))


def optimal_pairs(source: np.ndarray, target: np.ndarray, ratio: int = 1, *, radius: float = np.inf) -> PairMatches:
    """Pair sources and targets so that as many as possible are paired and the total distance is smallest.

    Notes
    -----
    On a line an optimal pairing never crosses, so dynamic programming over the two sorted lists finds it exactly in
    s * ratio * t steps (Rosenbaum 1989, doi:10.1080/01621459.1989.10478868, states the problem).

    Raises
    ------
    MatchingSizeError
        If the table of the dynamic programme would have more than 150 million cells.
    """
    rows = np.repeat(np.argsort(source, kind="stable"), ratio)
    columns = np.argsort(target, kind="stable")
    size = len(columns)
    if len(rows) * (size + 1) > _CELLS:
        raise MatchingSizeError(
            f"optimal matching of {len(rows)} to {size} units needs too much memory; use method nearest"
        )
    ranked = target[columns]
    longest = max(np.abs(source.max() - ranked[0]), np.abs(ranked[-1] - source.min()), 1e-12)
    penalty = (min(radius, longest) + 1e-9) * (len(rows) + 1)
    best = np.zeros(size + 1)
    step = np.empty((len(rows), size + 1), dtype=np.int8)
    for i, who in enumerate(rows):
        distance = np.abs(source[who] - ranked)
        distance[distance > radius] = np.inf
        paired, alone = best[:-1] + distance, best + penalty
        candidate = np.concatenate([alone[:1], np.minimum(paired, alone[1:])])
        best = np.minimum.accumulate(candidate)
        step[i, 0] = _SKIP_SOURCE
        step[i, 1:] = np.where(best[1:] < best[:-1], np.where(paired < alone[1:], _PAIR, _SKIP_SOURCE), _SKIP_TARGET)
    pairs, i, j = [], len(rows) - 1, size
    while i >= 0:
        move = step[i, j]
        if move == _PAIR:
            pairs.append((rows[i], columns[j - 1]))
        i, j = i - (move != _SKIP_TARGET), j - (move != _SKIP_SOURCE)
    listed = np.array(pairs, dtype=int).reshape(-1, 2)
    return PairMatches(listed[:, 0], listed[:, 1], len(source), len(target))
