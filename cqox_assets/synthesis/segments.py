"""Effects and net benefit by segment, and how evenly a policy treats the groups of the role `subgroup`."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cqox_assets.numerics.targeting import Judge
from cqox_assets.study import Role
from cqox_assets.synthesis.contrasts import ScoredContrast

LEAST_ROWS = 20
_FIFTHS = 5
_NAMES = ("fifth 1 (lowest)", "fifth 2", "fifth 3", "fifth 4", "fifth 5 (highest)")
_MOST_GROUPS = 30


def segment_rows(
    item: ScoredContrast, predicted: np.ndarray, scores: tuple[np.ndarray, np.ndarray], judge: Judge, level: float
) -> list[dict[str, Any]]:
    """Return the policy matrix: one row per segment with effect, net benefit and what to do.

    Parameters
    ----------
    item : ScoredContrast
    predicted : ndarray of shape (n,)
        Predicted benefit of each unit; its fifths (within folds) are segments, and so are the groups of `subgroup`.
    scores : two ndarray of shape (n,)
        Doubly robust scores of the effect in outcome units, and of what treating is worth.
    judge : Judge
    level : float
        That all intervals of one kind of segment hold together, by Bonferroni.

    Notes
    -----
    `recommendation`: `treat` where the whole interval of the net benefit is above 0, `do not treat` where it is below,
    `test further` where it covers 0, `too few rows` below 20 rows or 5 of an arm.
    """
    rows: list[dict[str, Any]] = []
    for kind, labels in _segmentations(item, predicted):
        names = list(dict.fromkeys(labels[np.argsort(labels, kind="stable")].tolist()))
        quantile = judge.reach(1 - (1 - level) / len(names))
        for name in names:
            inside = (labels == name).astype(float)
            share, rows_in = float(np.mean(judge.weight * inside)), int(inside.sum())
            row: dict[str, Any] = {"kind": kind, "segment": str(name), "rows": rows_in, "share": share}
            if share <= 0 or _few(item, inside):
                rows.append(row | dict.fromkeys(_NUMBERS) | {"recommendation": "too few rows"})
                continue
            for key, score in zip(("effect", "net_benefit"), scores, strict=True):
                value, error = judge.within(score, inside)
                ends = (value - quantile * error, value + quantile * error)
                row |= {key: value, f"{key}_low": ends[0], f"{key}_high": ends[1]}
            row["net_benefit_total"] = row["net_benefit"] * share * len(inside)
            low, high = row["net_benefit_low"], row["net_benefit_high"]
            row["recommendation"] = "treat" if low > 0 else "do not treat" if high < 0 else "test further"
            rows.append(row)
    return rows


_NUMBERS = (
    "effect", "effect_low", "effect_high", "net_benefit", "net_benefit_low", "net_benefit_high", "net_benefit_total",
)  # fmt: skip


def fairness(
    item: ScoredContrast, judge: Judge, treated: np.ndarray, net: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the largest gaps between groups under a policy, and one row per group.

    Parameters
    ----------
    item : ScoredContrast
        Its study's role `subgroup` names the groups; several columns are judged one by one.
    judge : Judge
    treated : ndarray of shape (n,)
        Probability that the policy treats each unit.
    net : ndarray of shape (n,)
        Doubly robust score of what treating each unit is worth.

    Returns
    -------
    dict
        `treated_share_gap` and `benefit_gap` (largest minus smallest group, of at least 20 rows) with the groups' names
        and the interval of the gap of benefit; or `status` `not_computed` with a reason.
    list of dict
        Per group: `treated_share`, and `benefit` per member with its interval.
    """
    rows, gaps = [], []
    for name in item.study.names(Role.SUBGROUP):
        own = _groups(item, name, judge, treated, net)
        rows += own
        counted = [row for row in own if row["benefit"] is not None]
        if len(counted) > 1:
            labels = item.study.frame[name].astype(str).to_numpy()
            gaps.append(_gap(item.study.label(name), counted, labels, judge, treated * net))
    shown = [{key: value for key, value in row.items() if key != "std_error"} for row in rows]
    if not rows:
        reason, remedy = "no column plays the role 'subgroup'", "map it in study.yaml: roles: {subgroup: <column>}"
        return {"status": "not_computed", "reason": reason, "remedy": remedy}, []
    if not gaps:
        reason = f"fewer than two groups have {LEAST_ROWS} rows with 5 of each arm"
        return {"status": "not_computed", "reason": reason, "remedy": "merge small groups before delivery"}, shown
    return {"status": "computed", **max(gaps, key=lambda gap: float(gap["treated_share_gap"]))}, shown


def _groups(
    item: ScoredContrast, name: str, judge: Judge, treated: np.ndarray, net: np.ndarray
) -> list[dict[str, Any]]:
    labels = item.study.frame[name].astype(str).to_numpy()
    rows, quantile = [], judge.reach(0.95)
    for group in np.unique(labels):
        inside = (labels == group).astype(float)
        share = float(np.mean(judge.weight * inside))
        row: dict[str, Any] = {"column": item.study.label(name), "group": str(group), "rows": int(inside.sum())}
        row |= {"share": share, "treated_share": None, "benefit": None, "low": None, "high": None, "std_error": None}
        if share > 0:
            row["treated_share"] = float(np.average(treated, weights=judge.weight * inside))
        if share > 0 and not _few(item, inside):
            value, error = judge.within(treated * net, inside)
            row |= {
                "benefit": value,
                "low": value - quantile * error,
                "high": value + quantile * error,
                "std_error": error,
            }
        rows.append(row)
    return rows


def _gap(
    column: str, rows: list[dict[str, Any]], labels: np.ndarray, judge: Judge, benefit: np.ndarray
) -> dict[str, Any]:
    """Return the largest gaps; the interval of that in benefit holds for all pairs of groups at once (Bonferroni)."""
    most, least = (pick(rows, key=lambda row: row["treated_share"]) for pick in (max, min))
    best, worst = (pick(rows, key=lambda row: row["benefit"]) for pick in (max, min))
    gap = best["benefit"] - worst["benefit"]
    inside = [(labels == row["group"]).astype(float) for row in (best, worst)]
    half = judge.reach(1 - 0.05 / math.comb(len(rows), 2)) * judge.difference(benefit, *inside)
    return {
        "column": column,
        "treated_share_gap": most["treated_share"] - least["treated_share"],
        "most_treated": most["group"],
        "least_treated": least["group"],
        "benefit_gap": gap,
        "benefit_gap_low": gap - half,
        "benefit_gap_high": gap + half,
        "most_benefit": best["group"],
        "least_benefit": worst["group"],
    }


def _segmentations(item: ScoredContrast, predicted: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield fifths of the predicted benefit, then the groups of each column of role `subgroup`."""
    fifth = np.zeros(len(predicted), dtype=int)
    for k in range(int(item.fold.max()) + 1):
        rows = item.fold == k
        if rows.any():
            edges = np.unique(np.quantile(predicted[rows], np.arange(1, _FIFTHS) / _FIFTHS))
            fifth[rows] = np.searchsorted(edges, predicted[rows], side="left")
    yield "predicted benefit", np.array(_NAMES)[fifth]
    for name in item.study.names(Role.SUBGROUP):
        labels = item.study.frame[name].astype(str).to_numpy()
        if 1 < len(np.unique(labels)) <= _MOST_GROUPS:
            yield item.study.label(name), labels


def _few(item: ScoredContrast, inside: np.ndarray) -> bool:
    """Whether a group is too small to be judged: fewer than 20 rows, or 5 of an arm."""
    arm = item.data.d[inside > 0]
    return len(arm) < LEAST_ROWS or min(int((arm == 0).sum()), int((arm == 1).sum())) < 5
