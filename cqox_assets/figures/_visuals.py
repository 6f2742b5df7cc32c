"""Marks that figures share: intervals with open ends, paired dots, limits, mirrored histograms."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cqox_assets.figures import _theme as theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def window(points: Sequence[float], ends: Sequence[float], anchors: Sequence[float]) -> tuple[float, float]:
    """Return the range of an axis that shows what matters although some ends are infinite or far away.

    All anchors (such as the null) are inside. Points are inside unless they lie more than six times the middle
    half's width from the median; interval ends are inside up to twice the width that points and anchors need.
    """
    values = np.array([value for value in points if math.isfinite(value)], dtype=float)
    finite = np.array([value for value in ends if math.isfinite(value)], dtype=float)
    if len(values) >= 4:
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        reach = 6 * max(high - low, 0.05 * abs(middle - anchors[0]) if anchors else 0.0, 1e-12)
        inside = values[np.abs(values - middle) <= reach]
    else:
        inside = values
    core = np.concatenate([inside, np.asarray(anchors, dtype=float)])
    typical = float(np.median(np.abs(finite - np.median(values)))) if len(finite) and len(values) else 0.0
    room = max(2 * float(np.ptp(core)), 3 * typical)
    near = finite[(finite >= core.min() - room) & (finite <= core.max() + room)]
    shown = np.concatenate([core, near])
    pad = 0.06 * (float(np.ptp(shown)) or max(abs(float(shown[0])), 1.0))
    return float(shown.min() - pad), float(shown.max() + pad)


def interval(axis: "Axes", y: float, low: float, point: float, high: float, limits: tuple[float, float], colour: str,
             marker: str = "o") -> None:  # fmt: skip
    """Draw a point with its interval; an end beyond the limits becomes an arrow at the edge."""
    left, right = limits
    start, stop = max(low, left), min(high, right)
    if start <= stop and low < high:
        axis.plot([start, stop], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
    edge = 0.012 * (right - left)
    if low < left:
        axis.plot([left + edge], [y], marker="<", color=colour, markersize=4.5, zorder=3, clip_on=False)
    if high > right:
        axis.plot([right - edge], [y], marker=">", color=colour, markersize=4.5, zorder=3, clip_on=False)
    if left <= point <= right:
        axis.plot([point], [y], marker=marker, color=colour, markersize=6, markeredgecolor="white", zorder=4)
        return
    axis.annotate(
        f"{point:,.4g}", (left + 3 * edge if point < left else right - 3 * edge, y), va="bottom",
        ha="left" if point < left else "right", fontsize=7.5, color=colour, xytext=(0, 2), textcoords="offset points",
    )  # fmt: skip


def paired_dots(axis: "Axes", rows: pd.DataFrame, right: float, colour: str) -> None:
    """Draw `before` (hollow) and `after` (full) of each row on its line; beyond `right` a dot is an arrow."""
    for y, (before, after) in enumerate(zip(rows["before"], rows["after"], strict=True)):
        ends = [min(before, right), min(after, right)]
        axis.plot(ends, [y, y], color=theme.GRID, linewidth=2, zorder=1)
        for value, face in ((before, "white"), (after, colour)):
            beyond = value > right
            axis.plot(
                [min(value, right)], [y], marker=">" if beyond else "o", markersize=5.5, markerfacecolor=face,
                markeredgecolor=colour, markeredgewidth=1.2, zorder=3 if face == "white" else 4, clip_on=False,
            )  # fmt: skip


def threshold(axis: "Axes", at: float, text: str) -> None:
    """Draw a vertical limit with its words on top."""
    axis.axvline(at, color=theme.LIMIT, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    axis.annotate(
        text, (at, 1), xycoords=("data", "axes fraction"), xytext=(3, 2), textcoords="offset points", fontsize=7.5,
        color=theme.LIMIT, va="bottom", ha="left",
    )  # fmt: skip


def mirrored_histogram(
    axis: "Axes", edges: np.ndarray, up: np.ndarray, down: np.ndarray, colours: tuple[str, str]
) -> None:
    """Draw shares per bin, one arm upwards and one downwards, on one scale."""
    width = np.diff(edges)
    axis.bar(edges[:-1], up, width=width, align="edge", color=colours[0], edgecolor="white", linewidth=0.4, zorder=2)
    axis.bar(edges[:-1], -down, width=width, align="edge", color=colours[1], edgecolor="white", linewidth=0.4, zorder=2)
    axis.axhline(0, color=theme.INK, linewidth=0.8, zorder=3)
    top = 1.35 * max(float(up.max()), float(down.max()), 1e-9)
    axis.set_ylim(-top, top)
    axis.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0%}")


def names(axis: "Axes", labels: Sequence[str], places: Sequence[float], size: float = 8.5, cells: int = 34) -> None:
    """Write labels beside the lines of a dot plot and leave half a line free above and below."""
    axis.set_yticks(list(places), [theme.squeeze(label, cells) for label in labels], fontsize=size)
    axis.tick_params(axis="y", length=0)


def event_path(axis: "Axes", rows: pd.DataFrame, colour: str) -> None:
    """Draw effects by event time: `event_time`, `estimate`, `low`, `high`, and the band where it is known."""
    from cqox_assets.figures._marks import reach

    theme.sides(axis)
    times, point = rows["event_time"].to_numpy(dtype=float), rows["estimate"].to_numpy(dtype=float)
    known = [name for name in ("low", "high", "band_low", "band_high") if name in rows]
    bottom, top = reach(point, rows[known].to_numpy(), [0.0])
    if {"band_low", "band_high"} <= set(rows):
        low, high = (rows[name].to_numpy(dtype=float) for name in ("band_low", "band_high"))
        wide = np.isfinite(low) & np.isfinite(high)
        ends = np.clip(low[wide], bottom, top), np.clip(high[wide], bottom, top)
        axis.bar(times[wide], ends[1] - ends[0], bottom=ends[0], width=0.3, color=colour, alpha=0.22, zorder=1.5)
    low, high = (
        np.clip(rows[name].fillna(rows["estimate"]).to_numpy(dtype=float), bottom, top) for name in ("low", "high")
    )
    axis.vlines(times, low, high, color=colour, linewidth=1.8, zorder=2)
    before = times < 0
    axis.scatter(times[~before], point[~before], s=34, color=colour, zorder=4)
    axis.scatter(times[before], point[before], s=34, facecolor="white", edgecolor=colour, linewidth=1.4, zorder=4)
    axis.axhline(0, color=theme.INK, linewidth=1)
    axis.axvline(-0.5, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_ylim(bottom, top)
    axis.set_xlim(min(times.min(), 0) - 0.6, max(times.max(), 0) + 0.6)
    theme.numbers(axis)
    theme.whole(axis)
