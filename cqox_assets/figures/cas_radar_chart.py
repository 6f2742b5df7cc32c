"""The five axes of the quality score with their zones, against the period before."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_ZONES = ((10.0, theme.SURE), (7.0, theme.UNSURE), (4.0, theme.WRONG))
_BADGES = {"pass": ("passes", theme.SURE), "warn": ("warns", theme.UNSURE), "fail": ("fails", theme.WRONG),
           "not_run": ("no evidence", theme.QUIET)}  # fmt: skip


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw this period's axes, those of the period before where there is one, and the overall score."""
    score = inputs.findings["quality_score"]
    rows = _rows(score)
    if rows["value"].notna().sum() < 3:
        raise NotDrawnError("fewer than three axes of the quality score have evidence")
    figure, axis = theme.single(7.2, 5.6)
    theme.title(figure, SPEC.title)
    axis.set_axis_off()
    axis.set_aspect("equal")
    axis.set_xlim(-16.5, 16.5)
    axis.set_ylim(-11.5, 13)
    _web(axis, rows)
    names = _scenarios(score)
    if rows["before"].notna().any():
        _ring(axis, rows, "before", theme.QUIET, dashed=True)
    _ring(axis, rows, "value", theme.ARMS[0])
    badge, tone = _BADGES[score.zone]
    total = "no score" if score.score is None else f"{score.score:g}"
    axis.text(-16, 11.9, total, fontsize=26, fontweight="bold", color=tone, va="top")
    axis.text(-16, 8.4, f"of 100: {badge}", fontsize=9, color=tone, va="top")
    entries = [(names[1], theme.ARMS[0], "line")]
    entries += [(names[0], theme.QUIET, "dashes")] if rows["before"].notna().any() else []
    entries += [
        ("passes from 7", theme.SURE, "area"),
        ("warns from 4", theme.UNSURE, "area"),
        ("fails", theme.WRONG, "area"),
    ]
    marks.legend(figure, entries)
    caption = _caption(score, rows)
    return Drawing(figure, rows, caption, f"Radar chart of five quality axes with zones. {caption}")


def _rows(score: Any) -> pd.DataFrame:
    """Return one row per axis: axis, value, zone, before (NaN where not known), x and y of its direction."""
    before: Mapping[str, Any] = score.comparison["axes"] if score.comparison else {}
    rows = []
    for place, (axis, value) in enumerate(score.axes.items()):
        turn = math.pi / 2 - 2 * math.pi * place / len(score.axes)
        earlier = before.get(axis, {}).get("before")
        rows.append((axis, value, score.zones.get(axis, "not_run"), earlier, math.cos(turn), math.sin(turn)))
    frame = pd.DataFrame(rows, columns=["axis", "value", "zone", "before", "x", "y"])
    return frame.astype({"value": float, "before": float})


def _scenarios(score: Any) -> tuple[str, str]:
    if score.comparison is None:
        return "", "this period"
    before, after = score.comparison["scenarios"]
    return str(before), str(after)


def _web(axis: Any, rows: pd.DataFrame) -> None:
    from matplotlib.patches import Polygon

    directions = rows[["x", "y"]].to_numpy()
    for reach, tone in _ZONES:
        axis.add_patch(Polygon(reach * directions, facecolor="white", edgecolor="none", zorder=0.5))
        axis.add_patch(Polygon(reach * directions, facecolor=tone, alpha=0.2, edgecolor=tone, linewidth=1, zorder=0.6))
    for row in marks.each(rows):
        axis.plot([0, 10 * row.x], [0, 10 * row.y], color=theme.GRID, linewidth=1, zorder=1)
        badge, tone = _BADGES[row.zone]
        shown = badge if math.isnan(row.value) else f"{row.value:.1f} {badge}"
        side = "center" if abs(row.x) < 0.2 else "left" if row.x > 0 else "right"
        rise = 0.75 if row.y > 0.9 else 0.0
        at = 10.6 * row.x, 10.6 * row.y + rise
        axis.text(
            *at, row.axis, ha=side, va="bottom" if row.y > 0 else "top", fontsize=9.5, fontweight="bold",
            color=theme.INK,
        )  # fmt: skip
        lower = at[1] + (-0.25 if row.y > 0 else -1.15)
        axis.text(10.6 * row.x, lower, shown, ha=side, va="top", fontsize=8.5, color=tone)


def _ring(axis: Any, rows: pd.DataFrame, column: str, colour: str, dashed: bool = False) -> None:
    """Draw a scenario; an axis without evidence is left out of the outline."""
    from matplotlib.patches import Polygon

    held = rows[rows[column].notna()]
    corners = held[["x", "y"]].to_numpy() * held[[column]].to_numpy()
    style: Any = (0, (4, 2.5)) if dashed else "-"
    axis.add_patch(
        Polygon(corners, facecolor="none" if dashed else colour, alpha=None if dashed else 0.18, edgecolor="none",
                zorder=2)
    )  # fmt: skip
    axis.add_patch(Polygon(corners, facecolor="none", edgecolor=colour, linewidth=1.8, linestyle=style, zorder=3))
    axis.scatter(corners[:, 0], corners[:, 1], s=26, color="white" if dashed else colour, edgecolor=colour, zorder=4)


def _caption(score: Any, rows: pd.DataFrame) -> str:
    held = rows[rows["value"].notna()]
    low = held.iloc[int(held["value"].to_numpy().argmin())]
    total = "no score" if score.score is None else f"{score.score:g} of 100, which {_BADGES[score.zone][0]}"
    more = f" {score.comparison['sentence']}" if score.comparison else " There is no earlier period to compare with."
    return f"Quality score {total}; the weakest axis is {low['axis']} with {low['value']:.1f} of 10.{more}"


SPEC = FigureSpec(
    name="cas_radar_chart",
    title="How far the answer can be relied on",
    question="How far can the answer be relied on, and has that changed since the period before?",
    draw=draw,
    needs=("quality_score",),
    family="flagship",
)
