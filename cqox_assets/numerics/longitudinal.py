"""A treatment that is repeated in time: which covariates come before which treatment, and the regimes to compare."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.numerics.rules import Rule, read_rule
from cqox_assets.study import Role, Study

_DIGITS = re.compile(r"\d+")


class LongitudinalError(CqoxError):
    """The rows do not tell treatments and covariates apart period by period."""

    code = "bad_periods"


@dataclass(frozen=True)
class Course:
    """What happened to n units over K periods: covariates of a period come before its treatment.

    Parameters
    ----------
    treatments : ndarray of shape (n, K)
        Arm codes 0, 1, ..., or doses.
    covariates : tuple of K ndarray of shape (n, m_k)
        First known just before the treatment of period k; those of period 0 include all that never change.
    names : tuple of K tuple of str
        Names of those covariates.
    treatment_names : tuple of K str
    arms : tuple of str
        Labels of the arms, reference first; empty if the treatment is a dose.
    outcome : ndarray of shape (n,)
    weight : ndarray of shape (n,), optional
        Sampling weights of mean one.
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1.
    notices : tuple of str
    dropped : mapping of str to int
        Reason to units that were left out.
    """

    treatments: np.ndarray
    covariates: tuple[np.ndarray, ...]
    names: tuple[tuple[str, ...], ...]
    treatment_names: tuple[str, ...]
    arms: tuple[str, ...]
    outcome: np.ndarray
    weight: np.ndarray | None = None
    cluster: np.ndarray | None = None
    notices: tuple[str, ...] = ()
    dropped: Mapping[str, int] | None = None

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def periods(self) -> int:
        """Number of treatments in time."""
        return int(self.treatments.shape[1])

    @property
    def sampling(self) -> np.ndarray:
        """Sampling weights, ones without any."""
        return np.ones(len(self)) if self.weight is None else self.weight


@dataclass(frozen=True)
class Regime:
    """A treatment for every period: a code or dose, or the code 1 where a covariate fulfils a condition and else 0.

    Parameters
    ----------
    label : str
    steps : tuple of float or Rule
        Per period the treatment, or the condition on a covariate.
    """

    label: str
    steps: tuple[float | Rule, ...]

    def at(self, period: int, known: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """Return the treatment of a period for rows with the known covariates, shape (rows,)."""
        step = self.steps[period]
        if not isinstance(step, Rule):
            return np.full(rows, step)
        if step.column not in known:
            raise CatalogError(
                f"parameter 'regime' asks for '{step.column}' before treatment {period + 1}, when it is not known; "
                f"known are {', '.join(known)}"
            )
        return step.holds(known[step.column]).astype(float)


def assigned(course: Course, regime: Regime) -> np.ndarray:
    """Return the treatments that a regime gives to each row, on the covariates as observed, shape (n, K)."""
    known: dict[str, np.ndarray] = {}
    columns = []
    for period in range(course.periods):
        known |= dict(zip(course.names[period], course.covariates[period].T, strict=True))
        columns.append(regime.at(period, known, len(course)))
    return np.column_stack(columns)


def read_regime(given: Sequence[object], course: Course) -> Regime:
    """Read a regime: `always`, `never`, an arm or dose for all periods, or one arm, dose or rule per period.

    A rule such as `l1 > 0` gives the first compared arm where it holds and the reference arm elsewhere.

    Raises
    ------
    CatalogError
        If the number of periods is another one, or an arm or column is not known.
    """
    values = list(given)
    if len(values) == 1:
        values = values * course.periods
    if len(values) != course.periods:
        raise CatalogError(
            f"a regime of {len(values)} treatments was given for {course.periods} periods "
            f"({', '.join(course.treatment_names)}); give one per period"
        )
    steps = tuple(_step(value, course) for value in values)
    words = [_word(step, course) for step in steps]
    return Regime(f"always {words[0]}" if len(set(words)) == 1 else ", ".join(words), steps)


def _step(value: object, course: Course) -> float | Rule:
    text = str(int(value)) if isinstance(value, bool) else str(value).strip()  # YAML reads yes and no as truth values
    rule = read_rule(text)
    if rule is not None and course.arms:
        if not any(rule.column in names for names in course.names):
            raise CatalogError(f"parameter 'regime' names '{rule.column}', which is not a covariate")
        return rule
    if not course.arms:
        try:
            return float(text)
        except ValueError:
            raise CatalogError(
                f"the treatments are doses, so a regime needs numbers; found '{text}' (give regime and "
                "reference_regime)"
            ) from None
    if text in ("always", "never"):
        return float(text == "always")
    folded = [arm.casefold() for arm in course.arms]
    if text.casefold() in folded:
        return float(folded.index(text.casefold()))
    try:
        code = float(text)
    except ValueError:
        code = np.nan
    numeric = [arm for arm in course.arms if _DIGITS.fullmatch(arm)]
    if numeric and code in [float(arm) for arm in numeric]:
        return float(course.arms.index(next(arm for arm in numeric if float(arm) == code)))
    if not numeric and code in range(len(course.arms)):
        return code
    raise CatalogError(
        f"parameter 'regime' holds '{text}'; allowed are always, never, {', '.join(course.arms)} or a rule such as "
        f"'{next((name for names in course.names for name in names), 'covariate')} > 0'"
    )


def _word(step: float | Rule, course: Course) -> str:
    if isinstance(step, Rule):
        return f"{course.arms[1]} if {step}"
    return course.arms[int(step)] if course.arms else f"{step:g}"


def read_course(study: Study, time_varying: Sequence[Sequence[str]]) -> Course:
    """Read a study as a course over periods: one column per treatment, or one row per unit and period.

    Parameters
    ----------
    study : Study
        Wide: the role treatment lists the treatments in time order. Long: one treatment column, unit and time. One
        treatment without unit and time is a course of one period.
    time_varying : sequence of sequence of str
        Wide: per period the covariates first known just before its treatment. Empty: told by the numbers in the
        names, if those of the treatments are numbered (l0, l1 beside a0, a1). Others are known from the start.

    Raises
    ------
    CatalogError
        If `time_varying` does not fit the treatments or names something else than covariates.
    LongitudinalError
        If the rows of a long table are not one per unit and period, or no unit has all periods.
    """
    if len(study.names(Role.TREATMENT)) == 1 and study.has(Role.TIME) and study.repeats_units:
        return _from_long(study)
    treatments = study.names(Role.TREATMENT)
    listed = study.names(Role.COVARIATES)
    period, notices = _periods_of(study, time_varying)
    chosen = [[name for name in listed if period.get(name, 0) == k] for k in range(len(treatments))]
    return Course(
        treatments=study.matrix(Role.TREATMENT),
        covariates=tuple(study.frame[names].to_numpy(dtype=np.float64) for names in chosen),
        names=tuple(map(tuple, chosen)),
        treatment_names=treatments,
        arms=study.arms,
        outcome=study.column(Role.OUTCOME),
        weight=study.weights(),
        cluster=study.codes(Role.CLUSTER),
        notices=tuple(notices),
    )


def _periods_of(study: Study, time_varying: Sequence[Sequence[str]]) -> tuple[dict[str, int], list[str]]:
    """Return the period of each covariate that is not known from the start, and what the reader must know."""
    treatments, listed = study.names(Role.TREATMENT), study.names(Role.COVARIATES)
    if not time_varying:
        if len(treatments) == 1:
            return {}, []
        found = _told_by_names(treatments, listed)
        later = {name: k for name, k in found.items() if k > 0}
        words = ", ".join(f"'{name}' before '{treatments[k]}'" for name, k in later.items())
        told = (
            f"Told by their numbers, {words} are time-varying"
            if later
            else f"All covariates count as known before '{treatments[0]}'"
        )
        return found, [f"{told}; the parameter time_varying states another order."]
    if len(time_varying) != len(treatments):
        raise CatalogError(
            f"parameter 'time_varying' has {len(time_varying)} lists for {len(treatments)} treatments "
            f"({', '.join(treatments)}); give one per treatment, empty where nothing new is known"
        )
    result: dict[str, int] = {}
    for k, names in enumerate(time_varying):
        for name in names:
            own = [column for column in listed if _origin(column) == name or column == name]
            if not own and name not in study.missing:  # a delivered column with one value was left out on the way
                raise CatalogError(f"parameter 'time_varying' names '{name}', which is not a covariate")
            result |= dict.fromkeys(own, k)
    return result, []


def _origin(column: str) -> str:
    """Return the delivered column that an encoded one (`name=level`, `name (missing)`) comes from."""
    return column.removesuffix(" (missing)").split("=")[0]


def _told_by_names(treatments: Sequence[str], covariates: Sequence[str]) -> dict[str, int]:
    """Return the period of covariates whose last number is that of a treatment, if all of their stem are so."""
    numbers = [_DIGITS.findall(name) for name in treatments]
    if not all(numbers) or len({own[-1] for own in numbers}) < len(treatments):
        return {}
    place = {int(own[-1]): k for k, own in enumerate(numbers)}
    stems: dict[str, dict[str, int]] = {}
    for column in covariates:
        origin = _origin(column)
        found = list(_DIGITS.finditer(origin))
        if found:
            stem = f"{origin[: found[-1].start()]}#{origin[found[-1].end() :]}"
            stems.setdefault(stem, {})[column] = int(found[-1].group())
    told = [own for own in stems.values() if set(own.values()) <= set(place) and len(set(own.values())) > 1]
    return {column: place[number] for own in told for column, number in own.items()}


def _from_long(study: Study) -> Course:
    """Turn one row per unit and period into one row per unit; the outcome is that of the last period."""
    units, time = study.codes(Role.UNIT), study.column(Role.TIME)
    assert units is not None
    moments = np.unique(time)
    order = np.lexsort((time, units))
    units, time = units[order], time[order]
    again = (units[1:] == units[:-1]) & (time[1:] == time[:-1])
    if again.any():
        row = order[1:][again][0]
        raise LongitudinalError(
            f"{int(again.sum())} rows repeat a unit and period, such as unit "
            f"'{study.frame[study.name(Role.UNIT)].iloc[row]}' at {time[1:][again][0]:g}; "
            "deliver one row per unit and period",
            code="duplicated_unit_periods",
        )
    complete = np.bincount(units) == len(moments)
    if not complete.any():
        raise LongitudinalError(
            f"no unit has a row in each of the {len(moments)} periods; deliver complete histories",
            code="incomplete_histories",
        )
    stays = order[complete[units]]
    shape = (int(complete.sum()), len(moments))
    lost = int((~complete).sum())
    notices = [
        "The outcome is that of the last period; earlier ones do not enter unless a lagged column is a covariate."
    ]
    if lost:
        notices.append(f"{lost} units without a row in every period were left out; the answer is about the others.")
    names, blocks = _spread(study, stays, shape, moments)
    labels = [f"{study.name(Role.TREATMENT)}@{moment:g}" for moment in moments]
    return Course(
        treatments=study.column(Role.TREATMENT)[stays].reshape(shape),
        covariates=blocks,
        names=names,
        treatment_names=tuple(labels),
        arms=study.arms,
        outcome=study.column(Role.OUTCOME)[stays].reshape(shape)[:, -1],
        weight=_of_unit(study, Role.WEIGHT, stays, shape),
        cluster=_clusters(study, stays, shape),
        notices=tuple(notices),
        dropped={"units without a row in every period": lost} if lost else {},
    )


def _spread(
    study: Study, stays: np.ndarray, shape: tuple[int, int], moments: np.ndarray
) -> tuple[tuple[tuple[str, ...], ...], tuple[np.ndarray, ...]]:
    """Return names and values of the covariates by period; those that never change come once, in the first."""
    listed, values = study.names(Role.COVARIATES), study.matrix()[stays]
    names: list[list[str]] = [[] for _ in moments]
    blocks: list[list[np.ndarray]] = [[] for _ in moments]
    for j, name in enumerate(listed):
        table = values[:, j].reshape(shape)
        fixed = bool((table == table[:, :1]).all())
        for k, moment in enumerate(moments[:1] if fixed else moments):
            names[k].append(name if fixed else f"{name}@{moment:g}")
            blocks[k].append(table[:, k])
    filled = tuple(np.column_stack(block) if block else np.empty((shape[0], 0)) for block in blocks)
    return tuple(map(tuple, names)), filled


def _of_unit(study: Study, role: Role, stays: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    if not study.has(role):
        return None
    table = study.column(role)[stays].reshape(shape)
    if (table != table[:, :1]).any():
        raise LongitudinalError(
            f"{role} '{study.name(role)}' changes within units; deliver one value per unit", code=f"{role}_varies"
        )
    own = np.asarray(table[:, 0])
    return own / own.mean() if role == Role.WEIGHT else own


def _clusters(study: Study, stays: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    """Return the cluster of each unit; None where units are their own clusters."""
    codes = study.codes(Role.CLUSTER)
    if codes is None:
        return None
    table = codes[stays].reshape(shape)
    if (table != table[:, :1]).any():
        raise LongitudinalError(
            f"units change their cluster '{study.name(Role.CLUSTER)}' over time; deliver one cluster per unit",
            code="cluster_splits_units",
        )
    own = pd.factorize(table[:, 0], sort=True)[0]
    return None if len(np.unique(own)) == shape[0] else np.asarray(own)
