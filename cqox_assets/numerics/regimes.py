"""Mean outcome under a regime of repeated treatments: saturated, sequential regression and parametric g-formula.

Each returns the mean and the influence function of its stacked estimating equations, without small-sample factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import LinearFit, fit_linear
from cqox_assets.numerics.logit import LogitFit, expit, fit_logit
from cqox_assets.numerics.longitudinal import Course, Regime, assigned
from cqox_assets.numerics.sample import CollinearTreatmentError, TooFewRowsError

_MOST_STATES = 2_000_000


class HistoryError(CqoxError):
    """A history that the regime leads to was never observed, or there are too many of them."""

    code = "empty_history"


@dataclass(frozen=True)
class RegimeMean:
    """Mean outcome under a regime.

    Parameters
    ----------
    value : float
        In units of the outcome.
    influence : ndarray of shape (n,)
    followers : ndarray of int, shape (K,)
        Rows (of positive weight) that followed the regime through each period.
    dropped : tuple of str
        Covariates that some model left out as linear combinations of others.
    """

    value: float
    influence: np.ndarray
    followers: np.ndarray
    dropped: tuple[str, ...] = ()


def regime_mean(course: Course, regime: Regime, form: str) -> RegimeMean:
    """Return the mean outcome had every unit followed the regime.

    Parameters
    ----------
    course : Course
    regime : Regime
    form : str
        `saturated`: a mean for every full history of covariates and treatments, which equals saturated weighting;
        `sequential_ols`: iterated expectations by least squares on all treatments and covariates so far (Bang &
        Robins 2005, doi:10.1111/j.1541-0420.2005.00377.x); `parametric`: later covariates by logit on the past, the
        outcome by least squares, summed over all their values, the first covariates as observed (Robins 1986,
        doi:10.1016/0270-0255(86)90088-6).

    Raises
    ------
    HistoryError, TooFewRowsError, CollinearTreatmentError, SeparationError
    """
    plan = assigned(course, regime)
    followed = np.logical_and.accumulate(course.treatments == plan, axis=1)
    counted = followed & (course.sampling > 0)[:, None]
    forms = {"saturated": _saturated, "sequential_ols": _sequential, "parametric": _parametric}
    value, influence, dropped = forms[form](course, regime, plan, followed)
    return RegimeMean(value, influence, counted.sum(axis=0), dropped)


_Answer = tuple[float, np.ndarray, tuple[str, ...]]


def _saturated(course: Course, regime: Regime, plan: np.ndarray, followed: np.ndarray) -> _Answer:
    """Average outcomes of followers within cells, backwards in time.

    Q_k(history) is the mean of Q_{k+1} among the rows that follow through period k and share the covariates so far.
    Influence: Q_0 - mu + sum over k of [follows through k] / prod of cell shares * (Q_{k+1} - Q_k).
    """
    n, weight = len(course), course.sampling
    cells = _cells(course.covariates, n)
    through = np.column_stack([np.ones(n, dtype=bool), followed])
    factor = np.ones((n, course.periods))
    level = course.outcome.astype(float)
    parts = np.zeros(n)
    for k in range(course.periods)[::-1]:
        cell, size = cells[k], int(cells[k].max()) + 1
        mass_in = np.bincount(cell, weights=weight * through[:, k], minlength=size)
        mass = np.bincount(cell, weights=weight * through[:, k + 1], minlength=size)
        empty = (mass_in > 0) & (mass <= 0)
        if empty.any():
            raise HistoryError(_nobody(course, regime, k, int(np.flatnonzero(through[:, k] & empty[cell])[0])))
        reached = mass > 0
        mean = np.zeros(size)
        total = np.bincount(cell, weights=weight * through[:, k + 1] * level, minlength=size)
        mean[reached] = total[reached] / mass[reached]
        share = np.ones(size)
        share[reached] = mass[reached] / mass_in[reached]
        factor[:, k] = 1 / share[cell]
        own = mean[cell]
        # The factors of earlier periods are multiplied in on the way back.
        parts = (parts + np.where(through[:, k + 1], level - own, 0.0)) * factor[:, k] * through[:, k]
        level = own
    value = float(np.average(level, weights=weight))
    return value, weight * (level - value + parts), ()


def _cells(covariates: Sequence[np.ndarray], n: int) -> list[np.ndarray]:
    """Return codes of the full covariate history up to each period."""
    code, result = np.zeros(n, dtype=np.int64), []
    for block in covariates:
        for column in block.T:
            own = np.unique(column, return_inverse=True)[1]
            code = np.unique(code * (int(own.max()) + 1) + own, return_inverse=True)[1]
        result.append(code)
    return result


def _nobody(course: Course, regime: Regime, period: int, row: int) -> str:
    seen = [
        f"{name}={block[row, j]:g}"
        for names, block in zip(course.names[: period + 1], course.covariates, strict=False)
        for j, name in enumerate(names)
    ]
    shown = ", ".join(seen[:8]) + (", ..." if len(seen) > 8 else "")
    return (
        f"no row with the history {shown or 'without covariates'} follows '{regime.label}' through "
        f"'{course.treatment_names[period]}'; use form sequential_ols, fewer or coarser covariates, or more rows"
    )


def _design(
    blocks: Sequence[np.ndarray], treatments: np.ndarray, arms: int, period: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return constant, covariates through `period` and treatments through `period`, and where treatments start.

    Treatments are dummies per compared arm, or doses; they come last, so that a collinear one is noticed.
    """
    n = len(treatments)
    covariates = [block for block in blocks[: period + 1]]
    columns = [np.ones((n, 1)), *covariates]
    start = 1 + sum(block.shape[1] for block in covariates)
    for j in range(period + 1):
        if arms:
            columns.append((treatments[:, [j]] == np.arange(1, arms)).astype(float))
        else:
            columns.append(treatments[:, [j]])
    design = np.column_stack(columns)
    return design, np.arange(start, design.shape[1])


def _names(course: Course, period: int) -> list[str]:
    listed = ["const", *(name for names in course.names[: period + 1] for name in names)]
    for label in course.treatment_names[: period + 1]:
        listed += [f"{label}={arm}" for arm in course.arms[1:]] if len(course.arms) > 2 else [label]
    return listed


def _fit_level(course: Course, level: np.ndarray, period: int) -> tuple[LinearFit, list[str]]:
    """Regress a level on everything through a period; a treatment that is not identified is refused by name."""
    design, own = _design(course.covariates, course.treatments, len(course.arms), period)
    names = _names(course, period)
    counted = int((course.sampling > 0).sum())
    fit = fit_linear(design, level, course.weight)
    if counted <= len(fit.coef):
        raise TooFewRowsError(
            f"{counted} rows for {len(fit.coef)} coefficients of the outcome model; map fewer covariates or deliver "
            "more rows"
        )
    lost = np.setdiff1d(own, fit.kept)
    if len(lost):
        raise CollinearTreatmentError(
            f"treatment '{names[lost[0]]}' never varies or is a linear combination of what came before; leave out the "
            "covariates that restate it, or the period"
        )
    return fit, [names[j] for j in np.setdiff1d(np.arange(design.shape[1]), fit.kept)]


def _sequential(course: Course, regime: Regime, plan: np.ndarray, followed: np.ndarray) -> _Answer:
    """Regress, predict under the regime's treatment of the period, and use the prediction as the next outcome."""
    level = course.outcome.astype(float)
    slope: np.ndarray | None = None
    carried: np.ndarray | None = None
    dropped: list[str] = []
    for k in range(course.periods)[::-1]:
        fit, lost = _fit_level(course, level, k)
        dropped += lost
        influence = fit.influence()
        if slope is not None and carried is not None:  # the outcome of this model was itself predicted
            influence = influence + carried @ (fit.bread @ (fit.design.T * fit.weights) @ slope).T
        given = course.treatments.copy()
        given[:, k] = plan[:, k]
        slope = _design(course.covariates, given, len(course.arms), k)[0][:, fit.kept]
        level, carried = slope @ fit.coef, influence
    assert slope is not None
    assert carried is not None
    weight = course.sampling
    value = float(np.average(level, weights=weight))
    gradient = weight @ slope / weight.sum()
    return value, weight * (level - value) + carried @ gradient, tuple(dict.fromkeys(dropped))


@dataclass(frozen=True)
class _Later:
    """The logit of one later covariate, its place and period."""

    fit: LogitFit
    period: int
    column: int


def _parametric(course: Course, regime: Regime, plan: np.ndarray, followed: np.ndarray) -> _Answer:
    """Sum predicted outcomes over all later covariate values, weighted by their probability under the regime."""
    first, inverse = np.unique(course.covariates[0], axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    later = _fit_later(course)
    grid = _grid(len(later), len(first))
    weight = course.sampling
    mass = np.bincount(inverse, weights=weight) / weight.sum()
    start = np.repeat(np.arange(len(first)), len(grid))
    states = [first[start]]
    values = np.tile(grid, (len(first), 1))
    for k in range(1, course.periods):
        states.append(values[:, [j for j, item in enumerate(later) if item.period == k]])
    treatments = _on_states(course, regime, states)
    fit, dropped = _fit_level(course, course.outcome, course.periods - 1)
    design = _design(states, treatments, len(course.arms), course.periods - 1)[0][:, fit.kept]
    predicted = design @ fit.coef
    chance = np.ones(len(start))
    scores = []
    for j, item in enumerate(later):
        past = _past(states, treatments, len(course.arms), item)[:, item.fit.kept]
        one = expit(past @ item.fit.coef)
        chance = chance * np.where(values[:, j] == 1, one, 1 - one)
        scores.append((values[:, j] - one)[:, None] * past)
    share = chance * mass[start]
    level = np.bincount(start, weights=chance * predicted)
    value = float(mass @ level)
    influence = weight * (level[inverse] - value) + fit.influence() @ (share @ design)
    for item, score in zip(later, scores, strict=True):
        influence = influence + item.fit.influence() @ ((share * predicted) @ score)
    return value, influence, tuple(dropped)


def _fit_later(course: Course) -> list[_Later]:
    """Fit each covariate of a later period by logit on all that came before it."""
    found = []
    for k in range(1, course.periods):
        for column, name in enumerate(course.names[k]):
            outcome = course.covariates[k][:, column]
            if not np.isin(outcome, (0.0, 1.0)).all():
                raise HistoryError(
                    f"time-varying covariate '{name}' is not 0 and 1, form parametric enumerates its values; "
                    "use form sequential_ols, or code it 0/1",
                    code="covariate_not_binary",
                )
            item = _Later(None, k, column)  # type: ignore[arg-type]
            past = _past(course.covariates, course.treatments, len(course.arms), item)
            fit = fit_logit(past, outcome, course.weight)
            if int((course.sampling > 0).sum()) <= len(fit.coef):
                raise TooFewRowsError(
                    f"too few rows for the {len(fit.coef)} coefficients of the model of '{name}'; map fewer covariates"
                )
            found.append(_Later(fit, k, column))
    return found


def _past(blocks: Sequence[np.ndarray], treatments: np.ndarray, arms: int, item: _Later) -> np.ndarray:
    """Return the design of a later covariate: all before its period, and earlier ones of the same period."""
    before = _design(blocks, treatments, arms, item.period - 1)[0]
    return np.column_stack([before, blocks[item.period][:, : item.column]])


def _grid(columns: int, starts: int) -> np.ndarray:
    if columns > 40 or starts * 2**columns > _MOST_STATES:
        raise HistoryError(
            f"{columns} later covariates with {starts} first histories make more than {_MOST_STATES:,} histories to "
            "sum over; use form sequential_ols, or map fewer covariates",
            code="too_many_histories",
        )
    return np.asarray((np.arange(2**columns)[:, None] >> np.arange(columns)) & 1, dtype=float)


def _on_states(course: Course, regime: Regime, states: Sequence[np.ndarray]) -> np.ndarray:
    known: dict[str, np.ndarray] = {}
    columns = []
    for k in range(course.periods):
        known |= dict(zip(course.names[k], states[k].T, strict=True))
        columns.append(regime.at(k, known, len(states[0])))
    return np.column_stack(columns)


def interaction_p(course: Course) -> float | None:
    """Return the p-value that the last treatment acts alike whatever came before, or None where it cannot be tested.

    A robust Wald test of the products of the last treatment with all covariates and earlier treatments, added to the
    main effects of the outcome model.
    """
    last = course.periods - 1
    design, own = _design(course.covariates, course.treatments, len(course.arms), last)
    width = max(len(course.arms) - 1, 1)
    current, before = design[:, own[-width:]], np.delete(design[:, 1:], own[-width:] - 1, axis=1)
    products = (current[:, :, None] * before[:, None, :]).reshape(len(course), -1)
    if not products.shape[1] or len(course) <= design.shape[1] + products.shape[1] + 1:
        return None
    fit = fit_linear(np.column_stack([design, products]), course.outcome, course.weight)
    tested = np.flatnonzero(fit.kept >= design.shape[1])
    if not len(tested) or fit.df_residual < 1:
        return None
    clustered = course.cluster is not None
    covariance = fit.covariance("CR1" if clustered else "HC1", course.cluster)[np.ix_(tested, tested)]
    if np.linalg.matrix_rank(covariance) < len(tested):  # more products than clusters, or a perfect fit
        return None
    from scipy.special import chdtrc

    statistic = float(fit.coef[tested] @ np.linalg.solve(covariance, fit.coef[tested]))
    return float(chdtrc(len(tested), max(statistic, 0.0)))
