"""How the quality of an analysis changed between two scenarios or periods, and its effects with it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cqox_assets.synthesis.quality_score import WEIGHTS, QualityScore


def compare_quality(before: QualityScore, after: QualityScore, names: tuple[str, str] = ("S0", "S1")) -> dict[str, Any]:
    """Compare two scenarios or periods: the score, each axis, and the effects that both speak about.

    Returns
    -------
    dict
        `scenarios`, `score` and `axes` (before, after, change, zones), `effects` (change with its standard error, the
        two taken as independent) and a `sentence`.
    """
    score = _change(before.score, after.score) | {"zone_before": before.zone, "zone_after": after.zone}
    axes = {
        axis: _change(before.axes.get(axis), after.axes.get(axis))
        | {"zone_before": before.zones.get(axis, "not_run"), "zone_after": after.zones.get(axis, "not_run")}
        for axis in WEIGHTS
    }
    earlier = {(item["contrast"], item["estimand"], item.get("scale")): item for item in before.targets}
    effects = []
    for item in after.targets:
        old = earlier.get((item["contrast"], item["estimand"], item.get("scale")))
        if old is None or item["estimate"] is None or old["estimate"] is None:
            continue
        errors = [old["std_error"], item["std_error"]]
        error = None if None in errors else math.hypot(*errors)
        effects.append(
            {"contrast": item["contrast"], "estimand": item["estimand"], "before": old["estimate"],
             "after": item["estimate"], "change": item["estimate"] - old["estimate"], "std_error": error}
        )  # fmt: skip
    return {"scenarios": list(names), "score": score, "axes": axes, "effects": effects,
            "sentence": _compared(names, score, axes)}  # fmt: skip


def _change(before: float | None, after: float | None) -> dict[str, Any]:
    change = None if before is None or after is None else round(after - before, 2)
    return {"before": before, "after": after, "change": change}


def _compared(names: tuple[str, str], score: Mapping[str, Any], axes: Mapping[str, Mapping[str, Any]]) -> str:
    if score["change"] is None:
        return f"{names[0]} and {names[1]} cannot be compared: one of them has no score."
    moved = {axis: row["change"] for axis, row in axes.items() if row["change"]}
    head = f"The quality score went from {score['before']:g} in {names[0]} to {score['after']:g} in {names[1]}"
    if not moved:
        return f"{head}; no axis changed."
    most = max(moved, key=lambda axis: WEIGHTS[axis] * abs(moved[axis]))
    return f"{head}, most of all by {most} ({moved[most]:+g} of 10)."


def with_comparison(score: QualityScore, earlier: QualityScore, names: tuple[str, str]) -> QualityScore:
    """Return a score that carries its comparison with an earlier one."""
    return replace(score, comparison=compare_quality(earlier, score, names))
