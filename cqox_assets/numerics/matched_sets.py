"""Matched sets of a panel: treated observations and the untreated ones that share their period and history.

Everything is grouped by period and history, so work and memory grow with the rows and never with pairs of units.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cqox_assets.numerics.logit import LogitFit
from cqox_assets.numerics.unit_history import History


@dataclass(frozen=True)
class MatchedSets:
    """Treated observations and their controls.

    Parameters
    ----------
    treated, control : ndarray of int, shapes (m,) and (c,)
        Rows of the history; a control serves every treated observation of its group.
    group, pool : ndarray of int, shapes (m,) and (c,)
        Group (same period, same history) of each treated and each control observation.
    base : ndarray of shape (c,)
        Weight of a control within its group, before it is scaled to sum to one.
    source, target, share : ndarray, optional
        After nearest neighbours were chosen: treated and control observation of each pair, and its weight.
    onsets : int
        Treated observations of the panel, matched or not.
    propensity : LogitFit, optional
        Of treated, then control observations, where `base` holds its odds.
    """

    treated: np.ndarray
    control: np.ndarray
    group: np.ndarray
    pool: np.ndarray
    base: np.ndarray
    onsets: int
    source: np.ndarray | None = None
    target: np.ndarray | None = None
    share: np.ndarray | None = None
    propensity: LogitFit | None = None

    @property
    def groups(self) -> int:
        """Number of groups, some of which may be empty by now."""
        return int(max(self.group.max(initial=-1), self.pool.max(initial=-1))) + 1

    def totals(
        self, mass: np.ndarray, treated_known: np.ndarray | None = None, control_known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of treated and control observations in the sum of all comparisons, shapes (m,), (c,).

        Parameters
        ----------
        mass : ndarray of shape (m,)
            Weight of each treated observation.
        treated_known, control_known : ndarray of bool, optional
            Observations that can be used; the weights of the remaining controls of a set are scaled to one again,
            and a treated observation without any is left out.
        """
        m, c = len(self.treated), len(self.control)
        treated = np.ones(m, dtype=bool) if treated_known is None else treated_known
        control = np.ones(c, dtype=bool) if control_known is None else control_known
        if self.source is None or self.target is None or self.share is None:
            held = np.bincount(self.pool, weights=self.base * control, minlength=self.groups)
            own = mass * (treated & (held[self.group] > 0))
            asked = np.bincount(self.group, weights=own, minlength=self.groups)
            rate = np.divide(asked, held, out=np.zeros_like(held), where=held > 0)
            return own, self.base * control * rate[self.pool]
        weight = self.share * control[self.target]
        held = np.bincount(self.source, weights=weight, minlength=m)
        own = mass * (treated & (held > 0))
        rate = np.divide(own, held, out=np.zeros(m), where=held > 0)
        return own, np.bincount(self.target, weights=weight * rate[self.source], minlength=c)

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how many controls each treated observation has, and how many of equal weight they are worth."""
        if self.source is None or self.share is None:
            count = np.bincount(self.pool[self.base > 0], minlength=self.groups)
            total = np.bincount(self.pool, weights=self.base, minlength=self.groups)
            square = np.bincount(self.pool, weights=self.base**2, minlength=self.groups)
            worth = np.divide(total**2, square, out=np.zeros_like(total), where=square > 0)
            return count[self.group], worth[self.group]
        m = len(self.treated)
        total = np.bincount(self.source, weights=self.share, minlength=m)
        square = np.bincount(self.source, weights=self.share**2, minlength=m)
        return np.bincount(self.source, minlength=m), total**2 / square

    def keep(self, treated: np.ndarray, control: np.ndarray) -> "MatchedSets":
        """Return the sets of the observations that two masks keep; sets without a control or treated are dropped."""
        treated = treated & (np.bincount(self.pool, weights=control, minlength=self.groups)[self.group] > 0)
        control = control & (np.bincount(self.group, weights=treated, minlength=self.groups)[self.pool] > 0)
        return replace(
            self, treated=self.treated[treated], control=self.control[control], group=self.group[treated],
            pool=self.pool[control], base=self.base[control],
        )  # fmt: skip


def onset_rows(history: History) -> np.ndarray:
    """Return the rows in which a unit is treated after an untreated period, ascending."""
    rows = np.flatnonzero(history.status == 1)
    return np.asarray(rows[history.status_at(rows, -1) == 0])


def choose_window(history: History, longest: int = 4, share: float = 0.8) -> tuple[int, int]:
    """Return the longest lag and lead, at most `longest`, that at least a share of the onsets can be followed over."""
    rows = onset_rows(history)
    lag = lead = 0
    for back in range(1, longest + 1):
        if len(rows) and history.path(rows, back)[1].mean() >= share:
            lag = back
    for ahead in range(longest + 1):
        if len(rows) and np.isfinite(history.outcome_at(rows, ahead)).mean() >= share:
            lead = ahead
        else:
            break
    return max(lag, 1), lead


def form_sets(
    history: History, lag: int, leads: Sequence[int], *, forbid_reversal: bool = False, match_missing: bool = False
) -> MatchedSets:
    """Form the matched sets of all treated observations.

    Parameters
    ----------
    history : History
    lag : int
        Periods before treatment over which the history of treatment must be the same.
    leads : sequence of int
        Periods after the start in which the outcome must be known, beside the last period before it.
    forbid_reversal : bool
        Whether the treated must stay treated, and their controls untreated, through the last lead.
    match_missing : bool
        Whether an unknown status is matched with an unknown status; otherwise the whole history must be known.

    Returns
    -------
    MatchedSets
        Possibly without any set.

    Notes
    -----
    A treated observation is a unit that was untreated in the period before and is treated now. Its controls are the
    units that are untreated now, in the same period, with the same history of treatment over `lag` periods.

    References
    ----------
    Imai, Kim & Wang (2023, doi:10.1111/ajps.12685).
    """
    rows = np.flatnonzero(history.status <= 1)
    rows = rows[history.status_at(rows, -1) == 0]
    onsets = int((history.status[rows] == 1).sum())
    code, known = history.path(rows, lag)
    usable = known if not match_missing else history.step[rows] >= lag
    for lead in dict.fromkeys([-1, *leads]):
        usable = usable & np.isfinite(history.outcome_at(rows, lead))
    if forbid_reversal:
        for lead in range(1, max(leads) + 1):
            usable = usable & (history.status_at(rows, lead) == history.status[rows])
    rows, code = rows[usable], code[usable]
    place = np.unique(np.column_stack([history.step[rows], code]), axis=0, return_inverse=True)[1].ravel()
    treated, control = rows[history.status[rows] == 1], rows[history.status[rows] == 0]
    sets = MatchedSets(
        treated, control, place[history.status[rows] == 1], place[history.status[rows] == 0],
        history.weight[history.unit[control]], onsets,
    )  # fmt: skip
    return sets.keep(np.ones(len(treated), dtype=bool), sets.base > 0)


@dataclass(frozen=True)
class Contributions:
    """What each cluster of units adds to the numerators and the denominator of weighted changes.

    Parameters
    ----------
    numerator, denominator : ndarray of shape (G, k)
        The estimates are their column sums' ratios.
    """

    numerator: np.ndarray
    denominator: np.ndarray

    @property
    def estimate(self) -> np.ndarray:
        """Ratios of the sums, shape (k,)."""
        return np.asarray(self.numerator.sum(axis=0) / self.denominator.sum(axis=0))

    def influence(self, *, conditional: bool = False) -> np.ndarray:
        """Return the clusters' influence on the estimates, shape (G, k); their cross product is the covariance.

        `conditional` holds the number of treated observations as fixed.
        """
        groups = len(self.numerator)
        if conditional:
            rest = self.numerator - self.numerator.mean(axis=0)
        else:
            rest = self.numerator - self.denominator * self.estimate
        return np.asarray(rest / self.denominator.sum(axis=0) * np.sqrt(groups / max(groups - 1, 1)))


def weighted_changes(
    history: History, sets: MatchedSets, leads: Sequence[int], cluster: np.ndarray, *, held: bool = False
) -> tuple[Contributions, np.ndarray]:
    """Return the clusters' contributions to the mean change of treated minus controls since the last period before.

    Parameters
    ----------
    history : History
    sets : MatchedSets
    leads : sequence of int
        Periods since the start of treatment; negative ones are before it.
    cluster : ndarray of int, shape (N,)
        Cluster of each unit.
    held : bool
        Whether the weights count as known, as in the block bootstrap of Imai, Kim & Wang. Otherwise changes are taken
        from the controls' mean of their group, because weights that sum to one let no common change through, and
        the propensity counts as estimated.

    Returns
    -------
    Contributions
        One column per lead for which there is a comparison.
    ndarray of bool
        Which of the leads those are.
    """
    parts, there = [], []
    for lead in leads:
        change = _Change(history, sets, lead)
        there.append(bool(change.own.sum() > 0))
        if there[-1]:
            parts.append(change.by_cluster(cluster, held))
    shape = (int(cluster.max()) + 1, 0)
    numerator = np.column_stack([top for top, _ in parts]) if parts else np.empty(shape)
    denominator = np.column_stack([bottom for _, bottom in parts]) if parts else np.empty(shape)
    return Contributions(numerator, denominator), np.array(there, dtype=bool)


class _Change:
    """Weighted changes of treated and control observations at one lead."""

    def __init__(self, history: History, sets: MatchedSets, lead: int) -> None:
        self.sets, self.units = sets, (history.unit[sets.treated], history.unit[sets.control])
        gain = history.outcome_at(sets.treated, lead) - history.outcome_at(sets.treated, -1)
        drift = history.outcome_at(sets.control, lead) - history.outcome_at(sets.control, -1)
        mass = history.weight[self.units[0]]
        self.own, self.other = sets.totals(mass, np.isfinite(gain), np.isfinite(drift))
        self.gain, self.drift = np.nan_to_num(gain), np.nan_to_num(drift)

    def by_cluster(self, cluster: np.ndarray, held: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of each cluster: of the changes and of the treated observations' weights."""
        groups = int(cluster.max()) + 1
        first, second = cluster[self.units[0]], cluster[self.units[1]]
        gain, drift = self.gain, self.drift
        if not held:
            total = np.bincount(self.sets.pool, weights=self.other, minlength=self.sets.groups)
            mean = np.bincount(self.sets.pool, weights=self.other * drift, minlength=self.sets.groups)
            mean = np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)
            gain, drift = gain - mean[self.sets.group], drift - mean[self.sets.pool]
        top = np.bincount(first, weights=self.own * gain, minlength=groups)
        top -= np.bincount(second, weights=self.other * drift, minlength=groups)
        fit = self.sets.propensity
        if not held and fit is not None:
            slope = -(self.other * drift) @ fit.design[len(self.own) :]
            moved = fit.residuals * (fit.design @ (fit.bread @ slope))
            top += np.bincount(np.concatenate([first, second]), weights=moved, minlength=groups)
        return top, np.bincount(first, weights=self.own, minlength=groups)
