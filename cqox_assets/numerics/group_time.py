"""Group-time average treatment effects and their aggregations, with influence functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.numerics.panel import Panel, PanelError, unit_weights

_ALMOST_ONE = 1 - 1e-6


@dataclass(frozen=True)
class Cells:
    """Effects by cohort and period.

    Parameters
    ----------
    group, time : ndarray of float, shape (m,)
        Cohort and period of each cell, on the scale of time.
    estimate : ndarray of shape (m,)
    influence : ndarray of shape (N, m)
        Influence of each unit; the variance of a cell is mean(psi^2) / N.
    share : mapping as ndarray of shape (m,)
        Weighted share of the cell's cohort among all units.
    member : ndarray of shape (N, m)
        Weight of the unit where it belongs to the cell's cohort, else 0.
    skipped : int
        Cells without anybody to compare with.
    treated : ndarray of bool, shape (m,)
        Whether the period is at or after the cohort's first treated period.
    """

    group: np.ndarray
    time: np.ndarray
    estimate: np.ndarray
    influence: np.ndarray
    share: np.ndarray
    member: np.ndarray
    treated: np.ndarray
    skipped: int


@dataclass(frozen=True)
class Aggregate:
    """Averages of cells: one for all, and one for each group, period or event time `at`."""

    kind: str
    overall: float
    overall_influence: np.ndarray
    at: np.ndarray
    estimate: np.ndarray
    influence: np.ndarray


def two_period_effect(
    change: np.ndarray, treated: np.ndarray, covariates: np.ndarray, weight: np.ndarray, method: str
) -> tuple[float, np.ndarray]:
    """Return the effect on the treated in a two-period comparison and the influence of each unit, shape (n,).

    Parameters
    ----------
    change : ndarray of shape (n,)
        Outcome after minus before.
    treated : ndarray of shape (n,)
        1 or 0.
    covariates : ndarray of shape (n, k)
        Without the constant.
    weight : ndarray of shape (n,)
    method : str
        `reg`: linear change of the untreated; `ipw`: odds of a logit, weights of mean one; `dr`: both.

    Raises
    ------
    SeparationError
        If covariates tell treated from untreated.

    Notes
    -----
    Sant'Anna & Zhao (2020, doi:10.1016/j.jeconom.2020.06.003), the traditional doubly robust estimator.
    """
    n, x = len(change), with_constant(covariates)
    method = "reg" if covariates.shape[1] == 0 else method
    own = weight * treated
    fitted, ols, design = np.zeros(n), np.zeros(x.shape), x
    if method != "ipw":
        other = treated == 0
        fit = fit_linear(x[other], change[other], weight[other])
        design = x[:, fit.kept]
        fitted = design @ fit.coef
        ols = np.zeros(design.shape)
        ols[other] = n * (fit.design * (fit.weights * fit.residuals)[:, None]) @ fit.bread
    rest = change - fitted
    effect = np.average(rest, weights=own)
    share = own.mean()
    influence = own * (rest - effect) / share
    if method == "reg":
        # The mean prediction among the treated moves with the regression of the untreated.
        return float(effect), influence - ols @ (own @ design / n) / share
    logit = fit_logit(x, treated, weight)
    score = np.minimum(logit.probability, _ALMOST_ONE)
    odds = weight * score * (1 - treated) / (1 - score)
    mass = odds.mean()
    control = np.average(rest, weights=odds)
    second = odds * (rest - control)
    tilt = logit.influence(second @ logit.design / n)
    influence -= ols @ (own @ design / n) / share
    influence -= (second + tilt - ols @ (odds @ design / n)) / mass
    return float(effect - control), influence


def group_time_effects(
    panel: Panel, *, method: str, control: str, base: str, anticipation: int = 0, small_sample: bool = False
) -> Cells:
    """Estimate the effect on each cohort in each period of a balanced panel.

    Parameters
    ----------
    panel : Panel
        Balanced, without units that are treated in the first period.
    method : str
        `dr`, `ipw` or `reg`, see :func:`two_period_effect`; covariates are those of the earlier period.
    control : str
        `nevertreated`, or `notyettreated`: those not treated by the later of the two periods.
    base : str
        `varying`: before treatment each period is compared with the one before; `universal`: every period is
        compared with the last one before treatment.
    anticipation : int
        Periods before treatment in which units may already react.
    small_sample : bool
        Enlarge the influence of the G clusters of a cohort by sqrt(G / (G - 1)), and that of the G clusters that it is
        compared with by sqrt(G / (G - k)), k the coefficients fitted to them: residuals of few clusters are smaller
        than errors (as in HC1; MacKinnon & White 1985, doi:10.1016/0304-4076(85)90158-7).

    Raises
    ------
    PanelError
        If no cell has anybody to compare with.

    References
    ----------
    Callaway & Sant'Anna (2021, doi:10.1016/j.jeconom.2020.12.001).
    """
    outcome, covariates, weight = panel.wide(panel.outcome), panel.wide(panel.covariates), unit_weights(panel)
    periods, cohort, n = panel.periods, panel.cohort, len(panel.labels)
    found: list[tuple[float, float, float, np.ndarray]] = []
    skipped = 0
    for group in np.unique(cohort[np.isfinite(cohort)]):
        last = int(np.searchsorted(periods, group)) - 1 - anticipation
        for t in range(len(periods)):
            b = last if base == "universal" or t > last else t - 1
            if b < 0 or b == t:
                continue
            later = periods[min(max(t, b) + anticipation, len(periods) - 1)]
            others = np.isinf(cohort) if control == "nevertreated" else (cohort > later) & (cohort != group)
            own = cohort == group
            rows = own | others
            if not others.any():
                skipped += 1
                continue
            effect, part = two_period_effect(
                (outcome[:, t] - outcome[:, b])[rows], own[rows] * 1.0, covariates[rows, min(t, b)],
                weight[rows], method,
            )  # fmt: skip
            influence = np.zeros(n)
            influence[rows] = part * (n / rows.sum())
            if small_sample:
                fitted = 1 if method == "ipw" else 1 + covariates.shape[2]
                influence[own] *= _enlarged(panel.cluster[own], 1)
                influence[others] *= _enlarged(panel.cluster[others], fitted)
            found.append((group, periods[t], effect, influence))
    if not any(time >= group for group, time, _, _ in found):
        raise PanelError(
            "no treated cohort has anybody to compare with; deliver earlier periods or untreated units, or compare "
            "with those not yet treated (control_group: notyettreated)",
            code="no_comparison_units",
        )
    groups, times = np.array([item[0] for item in found]), np.array([item[1] for item in found])
    member = weight[:, None] * (cohort[:, None] == groups)
    return Cells(
        groups, times, np.array([item[2] for item in found]), np.column_stack([item[3] for item in found]),
        member.mean(axis=0), member, times >= groups, skipped,
    )  # fmt: skip


def _enlarged(cluster: np.ndarray, fitted: int) -> float:
    """Return sqrt(G / (G - k)) of G clusters with k fitted coefficients; 1 where there are no more of them than k."""
    groups = int((np.bincount(cluster) > 0).sum())
    return float(np.sqrt(groups / (groups - fitted))) if groups > fitted else 1.0


def aggregate(cells: Cells, kind: str) -> Aggregate:
    """Average cells over cohorts, periods or event times; the estimated cohort shares enter the influence.

    Parameters
    ----------
    cells : Cells
    kind : str
        `simple` (all treated cells), `group` (by cohort), `calendar` (by period) or `dynamic` (by time since
        treatment; negative ones are pre-trends and do not enter the overall mean).

    Notes
    -----
    Cohorts weigh by size. `group` averages a cohort's periods evenly; the overall means of `calendar` and `dynamic`
    are plain means over periods and over event times that are not negative (Callaway & Sant'Anna 2021, section 3).
    """
    if kind == "simple":
        value, influence = _average(cells, cells.treated)
        none = np.empty(0)
        return Aggregate(kind, value, influence, none, none, np.empty((len(influence), 0)))
    keys = {"group": cells.group, "calendar": cells.time, "dynamic": cells.time - cells.group}[kind]
    chosen = np.ones(len(keys), dtype=bool) if kind == "dynamic" else cells.treated
    at = np.unique(keys[chosen])
    parts = [_average(cells, chosen & (keys == value), even=kind == "group") for value in at]
    estimate, influence = np.array([item[0] for item in parts]), np.column_stack([item[1] for item in parts])
    if kind == "group":
        first = np.array([np.flatnonzero(cells.group == value)[0] for value in at])
        overall = _weigh(estimate, influence, cells.share[first], cells.member[:, first])
    else:
        kept = at >= 0 if kind == "dynamic" else np.ones(len(at), dtype=bool)
        overall = float(estimate[kept].mean()), influence[:, kept].mean(axis=1)
    return Aggregate(kind, *overall, at, estimate, influence)


def _average(cells: Cells, chosen: np.ndarray, even: bool = False) -> tuple[float, np.ndarray]:
    estimate, influence = cells.estimate[chosen], cells.influence[:, chosen]
    if even:
        return float(estimate.mean()), influence.mean(axis=1)
    return _weigh(estimate, influence, cells.share[chosen], cells.member[:, chosen])


def _weigh(
    estimate: np.ndarray, influence: np.ndarray, share: np.ndarray, member: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the mean weighted by cohort shares, whose own sampling enters the influence."""
    total = share.sum()
    mean = float(share @ estimate / total)
    return mean, (influence @ share + (member - share) @ (estimate - mean)) / total


def unit_covariance(influence: np.ndarray, cluster: np.ndarray | None) -> np.ndarray:
    """Return the covariance of means with the given influence values, shape (m, m).

    Parameters
    ----------
    influence : ndarray of shape (N, m)
    cluster : ndarray of int, shape (N,), optional
        Influences are summed within clusters, with the factor G / (G - 1).
    """
    n = len(influence)
    if cluster is None:
        return np.asarray(influence.T @ influence / n**2)
    sums = cluster_sums(influence, cluster)
    return np.asarray(sums.T @ sums / n**2 * len(sums) / (len(sums) - 1))


def cluster_sums(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Return the sums of rows by cluster, shape (G, m)."""
    groups = int(cluster.max()) + 1
    columns: Sequence[np.ndarray] = [np.bincount(cluster, weights=column, minlength=groups) for column in values.T]
    return np.column_stack(columns) if len(columns) else np.empty((groups, 0))


def simultaneous_quantile(influence: np.ndarray, level: float, draws: int, seed: int) -> float:
    """Return the critical value of a band that covers all estimates at once.

    Parameters
    ----------
    influence : ndarray of shape (G, m)
        Influence of independent units or clusters on m estimates, in any common scale.
    level : float
    draws, seed : int
        Multiplier draws (Rademacher).

    Returns
    -------
    float
        Quantile of the largest absolute studentised draw, at least the pointwise normal quantile.

    Notes
    -----
    Multiplier bootstrap of Callaway & Sant'Anna (2021, algorithm 1).
    """
    from scipy.special import ndtri

    pointwise = float(ndtri(0.5 + level / 2))
    spread = np.sqrt((influence**2).sum(axis=0))
    scaled = (influence[:, spread > 0] / spread[spread > 0]).astype(np.float32)
    if scaled.shape[1] < 2:
        return pointwise
    total = scaled.sum(axis=0)
    generator, groups, largest = np.random.default_rng(seed), len(scaled), []
    step = max(1, 4_000_000 // groups)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        bits = np.unpackbits(np.frombuffer(generator.bytes(-(-count * groups // 8)), np.uint8), count=count * groups)
        for part in np.array_split(bits.reshape(count, groups), max(1, count * groups // 500_000)):
            # Signs are 2 bits - 1; small parts stay in the processor's cache.
            largest.append(np.abs(2 * (part.astype(np.float32) @ scaled) - total).max(axis=1))
    return max(pointwise, float(np.quantile(np.concatenate(largest), level)))


def joint_p_value(estimate: np.ndarray, covariance: np.ndarray) -> tuple[float, float] | None:
    """Return Wald statistic and chi-squared p-value that all estimates are zero; None without any or if singular."""
    from scipy.special import chdtrc

    if len(estimate) == 0 or np.linalg.matrix_rank(covariance, hermitian=True) < len(estimate):
        return None
    statistic = float(estimate @ np.linalg.solve(covariance, estimate))
    return statistic, float(chdtrc(len(estimate), statistic))
