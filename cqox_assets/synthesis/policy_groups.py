"""What the recommended policy means for segments and groups of people."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.numerics.inference import influence_std_error
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.counterfactual_tables import weighted_quantiles
from cqox_assets.synthesis.policy_tables import Case

FIFTHS = 5
MOST_SEGMENTS = 30
_FEWEST_PER_ARM = 10


def segment_table(case: Case, study: Study) -> pd.DataFrame:
    """Return the policy matrix: one row per segment, by each column of role `subgroup` and by predicted effect.

    Columns: `contrast`, `by`, `segment`, `rows`, `share` of the population, `effect` (in units of the outcome) with
    `effect_low` and `effect_high`, `net_benefit` per treated unit with `low` and `high`, `treated_share` under the
    recommended policy, and `recommendation`: `treat` or `do not treat` where the interval lies on one side of 0, `try
    first` where it does not, `too few rows` where an arm has fewer than 10.

    Notes
    -----
    Intervals hold for all segments of a table at once (Bonferroni). Segments by predicted effect are fifths of the
    ranking by predictions from other folds.
    """
    treated = case.evaluation.ranking.treated(case.chosen)
    frames = []
    for by, labels in _segmentations(case, study):
        segments = [str(name) for name in labels.value_counts().index[:MOST_SEGMENTS]]
        segments = sorted(segments) if by == "predicted effect" else segments
        level = 1 - (1 - case.level) / max(len(segments), 1)
        rows = [_segment(case, (labels == name).to_numpy(), treated, level) for name in segments]
        frames.append(pd.DataFrame({"contrast": case.label, "by": by, "segment": segments}).join(pd.DataFrame(rows)))
    return pd.concat(frames, ignore_index=True)


def _segmentations(case: Case, study: Study) -> Iterator[tuple[str, pd.Series]]:
    for name in study.names(Role.SUBGROUP):
        yield study.label(name), groups_of(case, study, name)
    effect = case.prices.sign * case.gains.effect
    shares = tuple(k / FIFTHS for k in range(1, FIFTHS))
    edges = np.unique(weighted_quantiles(effect, case.evaluation.ranking.weight, shares))
    place = np.unique(np.searchsorted(edges, effect, side="left"), return_inverse=True)[1]
    many = int(place.max()) + 1
    names = [f"{many - k} of {many}" for k in range(many)]
    if many > 1:
        names[0], names[-1] = f"{names[0]} (gains least)", f"{names[-1]} (gains most)"
    yield "predicted effect", pd.Series(np.array(names, dtype=object)[place])


def groups_of(case: Case, study: Study, name: str) -> pd.Series:
    """Return the group of each unit of a contrast as text; a missing one is a group of its own."""
    values = study.frame[name].iloc[case.gains.contrast.rows].reset_index(drop=True)
    return values.astype(object).where(values.notna(), "(missing)").astype(str)


def _segment(case: Case, inside: np.ndarray, treated: np.ndarray, level: float) -> dict[str, Any]:
    data, weight = case.gains.data, case.evaluation.ranking.weight
    row: dict[str, Any] = {"rows": int(inside.sum()), "share": float(np.mean(inside * weight))}
    counts = [int((inside & (data.d == arm) & (weight > 0)).sum()) for arm in (0, 1)]
    empty = dict.fromkeys(("effect", "effect_low", "effect_high", "net_benefit", "low", "high"))
    if min(counts) < _FEWEST_PER_ARM:
        shown = float(np.average(treated[inside], weights=weight[inside])) if row["share"] > 0 else None
        return row | empty | {"treated_share": shown, "recommendation": "too few rows"}
    effect, effect_error = _mean(case, case.gains.score, inside)
    value, error = _mean(case, case.evaluation.score, inside)
    ends, bounds = case.interval(effect, effect_error, level), case.interval(value, error, level)
    recommended = "treat" if bounds[0] > 0 else "do not treat" if bounds[1] < 0 else "try first"
    return row | {
        "effect": effect, "effect_low": ends[0], "effect_high": ends[1], "net_benefit": value, "low": bounds[0],
        "high": bounds[1], "treated_share": _mean(case, treated, inside)[0], "recommendation": recommended,
    }  # fmt: skip


def _influence(case: Case, values: np.ndarray, inside: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean of some rows and its influence on all, shape (n,)."""
    counted = inside * case.evaluation.ranking.weight
    size = float(counted.mean())
    mean = float((counted * values).mean() / size)
    return mean, counted * (values - mean) / size


def _mean(case: Case, values: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    mean, influence = _influence(case, values, inside)
    return mean, influence_std_error(influence, case.gains.data.cluster)


def mean_over(case: Case, values: np.ndarray) -> tuple[float, float]:
    """Return the mean of values over all units, and its standard error."""
    return _mean(case, values, np.ones(case.rows, dtype=bool))


def fairness_tables(case: Case, study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the recommended policy gives to each group of the role `subgroup`, and the largest gaps.

    The first has one row per group: `by`, `group`, `rows`, `share`, `treated_share`, `benefit` (mean benefit per person
    of the group, treated or not, from doubly robust scores) with `low` and `high`, and `benefit_if_treated`. The second
    has one row per column and measure (`treated share`, `benefit`): `most`, `least`, `gap` and its interval, which
    holds for all pairs of groups at once; that of the share has none, because the policy decides it.
    """
    treated = case.evaluation.ranking.treated(case.chosen)
    groups, gaps = [], []
    for name in study.names(Role.SUBGROUP):
        labels, by, held = groups_of(case, study, name), study.label(name), {}
        weight = case.evaluation.ranking.weight
        for label in labels.value_counts().index[:MOST_SEGMENTS]:
            inside = (labels == label).to_numpy()
            if float((inside * weight).sum()) <= 0:
                continue
            share = float(np.average(treated[inside], weights=weight[inside]))
            benefit, influence = _influence(case, treated * case.evaluation.score, inside)
            held[str(label)] = (share, benefit, influence)
            low, high = case.interval(benefit, influence_std_error(influence, case.gains.data.cluster))
            each = benefit / share if share > 0 else None
            groups.append(
                {"contrast": case.label, "by": by, "group": str(label), "rows": int(inside.sum()),
                 "share": float(np.mean(inside * weight)), "treated_share": share, "benefit": benefit, "low": low,
                 "high": high, "benefit_if_treated": each}
            )  # fmt: skip
        if len(held) > 1:
            gaps += [{"contrast": case.label, "by": by, **gap} for gap in _gaps(case, held)]
    return pd.DataFrame(groups), pd.DataFrame(gaps)


def _gaps(case: Case, held: dict[str, tuple[float, float, np.ndarray]]) -> Iterator[dict[str, Any]]:
    shares, benefits = ({name: item[place] for name, item in held.items()} for place in (0, 1))
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    gap = shares[most] - shares[least]
    yield {"measure": "treated share", "most": most, "least": least, "gap": gap, "low": None, "high": None}
    most, least = max(benefits, key=benefits.__getitem__), min(benefits, key=benefits.__getitem__)
    gap = benefits[most] - benefits[least]
    error = influence_std_error(held[most][2] - held[least][2], case.gains.data.cluster)
    pairs = len(list(combinations(held, 2)))
    low, high = case.interval(float(gap), error, 1 - (1 - case.level) / pairs)
    yield {"measure": "benefit", "most": most, "least": least, "gap": gap, "low": low, "high": high}
