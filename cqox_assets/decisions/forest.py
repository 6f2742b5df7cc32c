"""The card's forest plot: intervals as shares of a common axis, one axis per question."""

import math
from collections.abc import Mapping
from typing import Any

from cqox_assets.figures._theme import arm_colour
from cqox_assets.figures._visuals import window


def forest(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one block per question of the summary, preferred first.

    Each block has `label`, `sentence`, `unit`, `null` (place of no effect in percent), `consensus` and `lines`; a line
    has `name`, `estimate`, `low`, `high` (None is open), `counted`, and the places `at`, `left`, `right` in percent,
    with `open_left`, `open_right` and `outside` where the number lies beyond the axis.
    """
    blocks = []
    for group in card["synthesis"]["groups"]:
        found = _members(card, group)
        if not found:
            continue
        unit = card["study"]["unit"] if group["scale"] == "difference" else ""
        ends = [end for row in found for end in (row["low"], row["high"]) if end is not None]
        ends += [end for end in (group["low"], group["high"]) if end is not None]
        limits = window([row["estimate"] for row in found], ends, [group["null"]])
        blocks.append(
            {
                "label": group["label"],
                "sentence": group["sentence"],
                "preferred": group["preferred"],
                "unit": unit,
                "level": group["level"],
                "null": _place(group["null"], limits),
                "ends": limits,
                "consensus": _consensus(group, limits),
                "lines": [{**row, **_drawn(row, limits)} for row in found],
            }
        )
    return blocks


def _members(card: Mapping[str, Any], group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the estimates of a group as (name, estimate, low, high, counted)."""
    found: list[dict[str, Any]] = []
    arms = card["study"]["arms"]
    for answer in card["estimates"]:
        for effect in answer["effects"]:
            place = {key: value for key, value in effect["at"].items() if key != "arm"}
            same = all(effect[key] == group[key] for key in ("estimand", "contrast", "scale"))
            if same and place == dict(group["at"]) and answer["estimator"] not in [row["name"] for row in found]:
                interval = effect["interval"] or {"low": effect["estimate"], "high": effect["estimate"]}
                counted = answer["estimator"] in group["estimators"]
                found.append(
                    {
                        "name": answer["estimator"],
                        "estimate": effect["estimate"],
                        "low": interval["low"],
                        "high": interval["high"],
                        "has_interval": effect["interval"] is not None,
                        "p_value": effect["p_value"],
                        "counted": counted,
                        "colour": arm_colour(arms, effect["at"].get("arm", arms[1] if len(arms) > 1 else "")),
                        "why_not": group["set_aside"].get(answer["estimator"], ""),
                    }
                )
    return found


def _consensus(group: Mapping[str, Any], limits: tuple[float, float]) -> dict[str, Any] | None:
    if group["consensus"] is None:
        return None
    row = {"estimate": group["consensus"], "low": group["low"], "high": group["high"]}
    return {**row, **_drawn(row, limits), "has_interval": group["low"] is not None or group["high"] is not None}


def _drawn(row: Mapping[str, Any], limits: tuple[float, float]) -> dict[str, Any]:
    low = -math.inf if row["low"] is None else row["low"]
    high = math.inf if row["high"] is None else row["high"]
    return {
        "at": _place(row["estimate"], limits),
        "outside": not limits[0] <= row["estimate"] <= limits[1],
        "left": _place(low, limits),
        "right": _place(high, limits),
        "open_left": low < limits[0],
        "open_right": high > limits[1],
    }


def _place(value: float, limits: tuple[float, float]) -> float:
    """Return where a value lies between the limits, in percent, cut at the ends."""
    share = (value - limits[0]) / (limits[1] - limits[0]) if math.isfinite(value) else math.copysign(2, value)
    return round(100 * min(max(share, 0.0), 1.0), 2)
