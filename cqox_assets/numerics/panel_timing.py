"""Reads the panel of a study: its rows, its clusters, and when each unit's treatment starts."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cqox_assets.numerics.panel import Panel, PanelError
from cqox_assets.study import Role, Study, TreatmentKind


def read_panel(study: Study, *, starts: float | None = None, reversible: bool = False) -> Panel:
    """Read the panel of a study and when each unit's treatment starts.

    The cohort column says it where one is mapped. Else the treatment does: its first treated period where it
    changes over time, or `starts` for the units of the treated group where it does not.

    Parameters
    ----------
    study : Study
        Outcome, unit, time and a cohort or a binary treatment; optional covariates, weight, cluster.
    starts : float, optional
        First treated period of the treated group, on the scale of the time column.
    reversible : bool
        Whether a treatment that ends again is allowed; cohorts are then those of the first treated period.

    Raises
    ------
    PanelError
        If units do not repeat or a unit appears twice in a period, nobody or everybody is treated, a cohort is no
        period or changes within a unit, treatment ends again, or clusters split units.
    """
    _check_roles(study)
    unit_name, time_name = study.name(Role.UNIT), study.name(Role.TIME)
    weight = study.weights()
    rows = np.arange(len(study)) if weight is None else np.flatnonzero(weight > 0)
    unit, index = pd.factorize(study.frame[unit_name].iloc[rows], sort=True)
    labels = np.asarray(index, dtype=object)
    periods, period = np.unique(study.column(Role.TIME)[rows], return_inverse=True)
    for name, lacking in ((unit_name, (unit < 0).any()), (time_name, not np.isfinite(periods).all())):
        if lacking:
            raise PanelError(f"column '{name}' has missing values; fill them or drop those rows")
    if len(labels) == len(rows) or len(periods) < 2:
        raise PanelError(
            f"{len(rows)} rows of {len(labels)} units in {len(periods)} periods are no panel; "
            "map unit and time of a table in which units repeat over periods"
        )
    _refuse_duplicates(labels, periods, unit, period)
    order = np.lexsort((period, unit))
    rows, unit, period = rows[order], unit[order], period[order]
    panel = Panel(
        labels, periods, unit, period,
        outcome=study.column(Role.OUTCOME)[rows],
        status=np.zeros(len(rows)),
        weight=np.ones(len(rows)) if weight is None else weight[rows] / weight[rows].mean(),
        covariates=study.matrix()[rows],
        cohort=np.full(len(labels), np.inf),
        cluster=_clusters(study, rows, unit, labels),
        weighted=weight is not None,
        clustered=study.has(Role.CLUSTER),
    )  # fmt: skip
    return _checked(study, _with_timing(study, panel, rows, starts, reversible))


def _check_roles(study: Study) -> None:
    if not (study.has(Role.TREATMENT) or study.has(Role.COHORT)):
        raise PanelError(
            "no column plays the role 'cohort' or 'treatment'; map cohort (first treated period) or treatment in "
            "study.yaml",
            code="missing_role",
        )
    kind = study.treatment_kind
    if not study.has(Role.COHORT) and kind is not TreatmentKind.BINARY:
        raise PanelError(
            f"the treatment is {kind}, a comparison over time needs two arms; name the arms to compare under contrast "
            "in study.yaml",
            code="treatment_kind",
        )
    weight = study.weights()
    counted = slice(None) if weight is None else weight > 0
    if len(study) and not study.has(Role.COHORT) and np.ptp(codes := study.column(Role.TREATMENT)[counted]) == 0:
        arm = study.arms[int(codes[0])] if int(codes[0]) < len(study.arms) else codes[0]
        raise PanelError(
            f"every row of '{study.name(Role.TREATMENT)}' has the same treatment: '{arm}'; "
            "map a treatment column that varies",
            code="one_arm_only",
        )
    if len(study) and np.ptp(study.column(Role.OUTCOME)) == 0:
        raise PanelError(
            f"outcome '{study.name(Role.OUTCOME)}' is the same in every row; map an outcome that varies",
            code="constant_outcome",
        )


def _refuse_duplicates(labels: np.ndarray, periods: np.ndarray, unit: np.ndarray, period: np.ndarray) -> None:
    key = unit.astype(np.int64) * len(periods) + period
    values, counts = np.unique(key, return_counts=True)
    if len(values) == len(key):
        return
    first = int(values[counts > 1][0])
    raise PanelError(
        f"unit '{labels[first // len(periods)]}' has {counts[counts > 1][0]} rows in period "
        f"{periods[first % len(periods)]:g} and {int((counts > 1).sum())} unit-periods appear more than once; "
        "deliver one row per unit and period",
        code="duplicated_unit_periods",
    )


def _clusters(study: Study, rows: np.ndarray, unit: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cluster of each unit; the units themselves when no cluster is mapped."""
    codes = study.codes(Role.CLUSTER)
    if codes is None:
        return np.arange(len(labels))
    own = _constant_within(codes[rows].astype(float), unit)
    if own is None:
        raise PanelError(
            f"cluster column '{study.name(Role.CLUSTER)}' changes within units, so clusters would split a unit's own "
            "dependence over time; map a cluster that contains whole units, or unmap the role to cluster by unit",
            code="cluster_splits_units",
        )
    return np.unique(own, return_inverse=True)[1]


def _constant_within(values: np.ndarray, unit: np.ndarray) -> np.ndarray | None:
    """Return the value of each unit, or None if it varies within one; rows are sorted by unit."""
    first = np.flatnonzero(np.diff(unit, prepend=-1))
    own = values[first]
    return own if np.array_equal(own[unit], values) else None


def _with_timing(study: Study, panel: Panel, rows: np.ndarray, starts: float | None, reversible: bool) -> Panel:
    status = None
    if study.has(Role.TREATMENT) and study.treatment_kind is TreatmentKind.BINARY and len(study.arms) == 2:
        status = study.column(Role.TREATMENT)[rows]
    if study.has(Role.COHORT):
        return _from_cohort(study, panel, study.column(Role.COHORT)[rows], status)
    assert status is not None
    group = _constant_within(status, panel.unit)
    if group is not None:
        return _from_group(study, panel, group, starts)
    time = panel.periods[panel.period]
    cohort = np.full(len(panel.labels), np.inf)
    np.minimum.at(cohort, panel.unit[status == 1], time[status == 1])
    ended = (time >= cohort[panel.unit]) & (status == 0)
    if ended.any() and not reversible:
        unit = panel.labels[panel.unit[ended][0]]
        raise PanelError(
            f"treatment ends again in {len(np.unique(panel.unit[ended]))} units, first in unit '{unit}' at period "
            f"{time[ended][0]:g}; map a cohort, or use panel matching, which allows treatment to be reversed",
            code="treatment_reverses",
        )
    return replace(panel, cohort=cohort, status=status)


def _from_cohort(study: Study, panel: Panel, cohort: np.ndarray, status: np.ndarray | None) -> Panel:
    name = study.name(Role.COHORT)
    cohort = np.where(np.isfinite(cohort) & (cohort != 0), cohort, np.inf)
    own = _constant_within(cohort, panel.unit)
    if own is None:
        changed = panel.unit[1:][(cohort[1:] != cohort[:-1]) & (np.diff(panel.unit) == 0)]
        raise PanelError(
            f"cohort '{name}' changes within {len(np.unique(changed))} units, first in unit "
            f"'{panel.labels[changed[0]] if len(changed) else panel.labels[0]}'; "
            "deliver one first treated period per unit",
            code="cohort_varies",
        )
    inside = np.isfinite(own) & (own > panel.periods[0]) & (own <= panel.periods[-1])
    below = (own < 0) & (panel.periods[0] >= 0)  # -1 or -9999 is a code, not a period before the first one
    strange = np.setdiff1d(own[inside | below], panel.periods)
    if len(strange):
        raise PanelError(
            f"cohort '{name}' has values that are no period: {', '.join(f'{value:g}' for value in strange[:5])}; "
            "deliver cohorts on the scale of the time column, 0 where never treated",
            code="cohort_no_period",
        )
    late = np.isfinite(own) & (own > panel.periods[-1])
    time = panel.periods[panel.period]
    implied = (time >= own[panel.unit]) * 1.0
    if status is not None and _constant_within(status, panel.unit) is None and (implied != status).any():
        raise PanelError(
            f"cohort '{name}' and treatment '{study.name(Role.TREATMENT)}' disagree in "
            f"{int((implied != status).sum())} rows; correct one of them or unmap it",
            code="cohort_contradicts_treatment",
        )
    said = _beside_cohort(study, panel, status, own, late)
    panel = replace(panel, cohort=np.where(late, np.inf, own), status=implied).noting(*said)
    if not late.any():
        return panel
    return panel.noting(f"{int(late.sum())} units treated after the last period count as untreated")


def _beside_cohort(
    study: Study, panel: Panel, status: np.ndarray | None, own: np.ndarray, late: np.ndarray
) -> list[str]:
    """Return what to say of a treatment column that never changes within a unit beside the cohort, which decides.

    It may mark the units that are ever treated; units that start after the last period may be marked or not.

    Raises
    ------
    PanelError
        If it marks every unit wrongly.
    """
    if not study.has(Role.TREATMENT):
        return []
    names, cohort = ", ".join(study.names(Role.TREATMENT)), study.name(Role.COHORT)
    starts = f"{int((np.isfinite(own) & ~late).sum())} of {len(own)} units start treatment"
    if status is None:
        only = f" is '{study.arms[0]}' in every row" if len(study.arms) == 1 else f" is {study.treatment_kind}"
        return [f"treatment '{names}'{only} and is not used: cohort '{cohort}' decides, by which {starts}"]
    group = _constant_within(status, panel.unit)
    if group is None:
        return []
    wrong = ~late & ((group == 1) != np.isfinite(own))
    if not wrong.any():
        return []
    first = panel.labels[wrong.argmax()]
    words = f"cohort '{cohort}' and treatment '{names}' disagree in {int(wrong.sum())} of {len(own)} units"
    if wrong[~late].all():
        raise PanelError(f"{words}; correct one of them or unmap it", code="cohort_contradicts_treatment")
    return [f"{words}, first in unit '{first}'; the cohort decides, by which {starts}"]


def _from_group(study: Study, panel: Panel, group: np.ndarray, starts: float | None) -> Panel:
    if starts is None and study.declaration.intervention_time is not None:
        starts = float(study.declaration.intervention_time)
    if starts is None and len(panel.periods) == 2:
        starts = float(panel.periods[1])
    name = study.name(Role.TREATMENT)
    if starts is None:
        raise PanelError(
            f"treatment '{name}' never changes within a unit, so it is not known when it starts; "
            "state intervention_time in study.yaml, or map cohort",
            code="missing_intervention_time",
        )
    after = panel.periods[panel.periods >= starts]
    if len(after) == 0 or len(after) == len(panel.periods):
        raise PanelError(
            f"intervention time {starts:g} leaves no period {'after' if len(after) == 0 else 'before'} it; "
            f"state a time between {panel.periods[0]:g} and {panel.periods[-1]:g}",
            code="no_change_over_time",
        )
    cohort = np.where(group == 1, after[0], np.inf)
    status = (panel.periods[panel.period] >= cohort[panel.unit]) * 1.0
    panel = replace(panel, cohort=cohort, status=status)
    return panel.noting(f"'{name}' marks the treated group; its treatment starts in period {after[0]:g}")


def _checked(study: Study, panel: Panel) -> Panel:
    treated = np.isfinite(panel.cohort)
    if not treated.any():
        raise PanelError("no unit is treated in the window; deliver treated units", code="no_treated_units")
    ended = (panel.periods[panel.period] >= panel.cohort[panel.unit]) & (panel.status == 0)
    if treated.all() and len(np.unique(panel.cohort)) == 1 and not ended.any():
        raise PanelError(
            f"all units are treated at once, in period {panel.cohort[0]:g}, so nobody shows what would have happened; "
            "deliver units that are treated later or never",
            code="no_untreated_units",
        )
    return panel
