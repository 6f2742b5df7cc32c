"""Marks over two scales that figures share: bands, clouds of points, bars of a distribution, forests and legends."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 3000  # more dots than these cover one another
_CELLS = 30  # width of a label beside a forest, in half-width letters


def errors(level: float) -> float:
    """Return how many standard errors an interval of this level reaches to either side."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def reach(points: Any, ends: Any = (), anchors: Sequence[float] = ()) -> tuple[float, float]:
    """Return the range of an axis: all anchors, most points, and interval ends as far as these leave room for them."""
    values = np.asarray(points, dtype=float).ravel()
    values = values[np.isfinite(values)]
    held = [float(anchor) for anchor in anchors if math.isfinite(anchor)]
    if not len(values) and not held:
        return -1.0, 1.0
    return visuals.window(list(values) or held, list(np.asarray(ends, dtype=float).ravel()), held or [float(values[0])])


def band(axis: "Axes", x: Any, ends: tuple[Any, Any], colour: str, strength: float = 0.18) -> None:
    """Fill between two lines; an end that is unknown leaves a gap, an infinite one reaches the edge of any axis."""
    low, high = (np.asarray(end, dtype=float) for end in ends)
    far = 1e6 * max(1.0, float(np.nanmax(np.abs(np.where(np.isfinite([low, high]), [low, high], 0.0)), initial=0.0)))
    known = ~(np.isnan(low) | np.isnan(high))
    before = axis.get_ylim() if axis.get_autoscaley_on() is False else None
    axis.fill_between(
        np.asarray(x, dtype=float), np.clip(low, -far, far), np.clip(high, -far, far), where=known, color=colour,
        alpha=strength, linewidth=0, zorder=1.2,
    )  # fmt: skip
    if before is not None:
        axis.set_ylim(*before)


def cloud(axis: "Axes", x: Any, y: Any, colour: str, size: float = 9.0) -> str:
    """Draw dots, at most `POINTS` of them at even distances through the rows; return what the caption must say."""
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    keep = evenly(len(xs), POINTS)
    axis.scatter(
        xs[keep], ys[keep], s=size, color=colour, alpha=0.55 if len(keep) < 400 else 0.3, linewidths=0, zorder=2,
        rasterized=len(keep) > 500,
    )  # fmt: skip
    return thinned(len(xs))


def thinned(rows: int) -> str:
    """Return what the caption must say where a cloud cannot hold all rows."""
    return f" {POINTS:,} of {rows:,} rows are drawn, evenly spaced in the table." if rows > POINTS else ""


def evenly(rows: int, most: int) -> np.ndarray:
    """Return at most `most` positions, evenly spaced through the rows."""
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(int)


def evenly_of(values: np.ndarray) -> np.ndarray:
    """Return at most about 20,000 of the values, evenly spaced."""
    return np.asarray(values[evenly(len(values), 20_000)])


def extent(values: Any, pad: float = 0.0) -> tuple[float, float]:
    """Return the range that nearly all values lie in: the middle 98 % and as much again to either side, if needed.

    `pad` is the share of the range that is added at both ends.
    """
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    if not len(found):
        return -1.0, 1.0
    low, high = (float(end) for end in np.quantile(found, [0.01, 0.99]))
    start, stop = float(found.min()), float(found.max())
    if high > low:
        start, stop = max(start, 2 * low - high), min(stop, 2 * high - low)
    if not stop > start:
        half = 0.5 * max(abs(start), 1.0)
        start, stop = start - half, start + half
    return start - pad * (stop - start), stop + pad * (stop - start)


def outside(values: Any, limits: tuple[float, float]) -> str:
    """Return what the caption must say of values that an axis with these limits does not show."""
    found = np.asarray(values, dtype=float)
    count = int(((found < min(limits)) | (found > max(limits))).sum())
    return f" {count:,} {'value lies' if count == 1 else 'values lie'} outside the picture." if count else ""


def bins_of(values: Any, most: int = 40) -> tuple[np.ndarray, int]:
    """Return the edges of a histogram over nearly all values, and how many values lie beyond its ends.

    Few distinct values get one bar each.
    """
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    if not len(found):
        return np.array([0.0, 1.0]), 0
    distinct = np.unique(evenly_of(found))
    if len(distinct) <= 12 and len(distinct) > 1:
        gap = float(np.diff(distinct).min())
        wide = gap / (1 if len(distinct) > 3 else 5)  # a few values are narrow bars, apart from one another
        steps = round(float(np.ptp(distinct)) / wide)
        if gap > 0 and steps <= 60:
            return distinct[0] + wide * (np.arange(steps + 2) - 0.5), 0
    start, stop = extent(found)
    count = int(min(most, max(8, math.sqrt(len(found)) * 1.5)))
    edges = np.linspace(start, stop, count + 1)
    return edges, int(((found < start) | (found > stop)).sum())


def bars(axis: "Axes", edges: np.ndarray, heights: Any, colour: str, strength: float = 0.75) -> None:
    """Draw the bars of a distribution."""
    axis.bar(
        edges[:-1], heights, width=np.diff(edges), align="edge", color=colour, alpha=strength, edgecolor="white",
        linewidth=0.5, zorder=2,
    )  # fmt: skip


def forest(
    axis: "Axes",
    rows: pd.DataFrame,
    limits: tuple[float, float],
    null: float | None,
    cells: int = _CELLS,
) -> None:
    """Draw one line per row, the first on top: `label`, `estimate`, `low`, `high` and, if there, `colour`."""
    count = len(rows)
    colours = rows["colour"] if "colour" in rows else [theme.ARMS[0]] * count
    ends = zip(rows["estimate"], rows["low"], rows["high"], colours, strict=True)
    for place, (point, low, high, colour) in enumerate(ends):
        below, above = (point if math.isnan(end) else end for end in (low, high))
        visuals.interval(axis, count - 1 - place, below, point, above, limits, colour)
    if null is not None:
        axis.axvline(null, color=theme.INK, linewidth=1, zorder=1.5)
    axis.set_xlim(*limits)
    axis.set_ylim(-0.7, count - 0.3)
    visuals.names(axis, list(rows["label"]), list(range(count - 1, -1, -1)), 8.5 if count <= 25 else 7.5, cells)
    theme.numbers(axis, "x")


def moment(axis: "Axes", at: float, text: str) -> None:
    """Draw when, or where on the horizontal axis, something starts; the words stand above the axes."""
    axis.axvline(at, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    left, right = axis.get_xlim()
    late = (at - left) > 0.6 * (right - left)
    axis.annotate(
        theme.shorten(text, 44), (at, 1), xycoords=("data", "axes fraction"), xytext=(-3 if late else 3, 2),
        textcoords="offset points", fontsize=8, color=theme.INK, va="bottom", ha="right" if late else "left",
    )  # fmt: skip


def level(axis: "Axes", at: float, text: str, colour: str = theme.LIMIT) -> None:
    """Draw a horizontal limit with its words at the right end, above the line."""
    axis.axhline(at, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    axis.annotate(
        text, (1, at), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points", fontsize=7.5,
        color=colour, va="bottom", ha="right",
    )  # fmt: skip


def colour_bar(
    figure: "Figure", axis: "Axes", filled: Any, text: str, write: Callable[[float], str] = theme.plain
) -> None:
    """Put the scale of a map's colours beside it, with places inside the scale only.

    A place beyond the ends would be moved to them, next to a number that is not there.
    """
    from matplotlib.ticker import MaxNLocator

    low, high = (filled.levels[0], filled.levels[-1]) if hasattr(filled, "levels") else filled.get_clim()
    slack = 1e-9 * (high - low)
    ticks = [float(tick) for tick in MaxNLocator(6).tick_values(low, high) if low - slack <= tick <= high + slack]
    bar = figure.colorbar(filled, ax=axis, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_ticks(ticks, labels=[write(tick) for tick in ticks])
    bar.ax.tick_params(labelsize=7.5, color=theme.QUIET)
    bar.set_label(text, fontsize=8.5, color=theme.INK)


def legend(figure: "Figure", marks: Sequence[tuple[str, str, str]], columns: int | None = None) -> None:
    """Explain marks below the figure: (words, colour, kind), kind one of `line`, `dashes`, `dot`, `ring`, `area`."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for words, colour, kind in marks:
        text = theme.squeeze(words, 52)
        if kind == "area":
            handles.append(Patch(facecolor=colour, alpha=0.3, label=text))
        elif kind in ("dot", "ring"):
            face = colour if kind == "dot" else "white"
            handles.append(
                Line2D([], [], linestyle="", marker="o", markersize=5, markerfacecolor=face, markeredgecolor=colour,
                       label=text)
            )  # fmt: skip
        else:
            style: Any = (0, (4, 2.5)) if kind == "dashes" else "-"
            handles.append(Line2D([], [], color=colour, linewidth=1.8, linestyle=style, label=text))
    widths = [min(theme.width(words), 52) + 6 for words, _, _ in marks]
    fits = len(marks) if sum(widths) <= 100 else max(1, int(100 / max(widths)))
    figure.legend(
        handles=handles, loc="outside lower left", ncols=columns or min(len(handles), fits), frameon=False,
        fontsize=8.5,
        labelcolor=theme.INK,
    )  # fmt: skip


def box(axis: "Axes", place: tuple[float, float], text: str, colour: str, dashed: bool = False) -> Any:
    """Draw a box with words, and return it for arrows."""
    return axis.text(
        *place, text, ha="center", va="center", fontsize=8.3, color=theme.INK, linespacing=1.25, zorder=5,
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour, "linewidth": 1.5,
              "linestyle": (0, (3, 2)) if dashed else "-"},
    )  # fmt: skip


def arrow(axis: "Axes", start: Any, stop: Any, text: str = "", *, share: float = 0.5, dashed: bool = False) -> None:
    """Draw an arrow from one box to another, with words at a share of its way."""
    (x0, y0), (x1, y1) = start.get_position(), stop.get_position()
    axis.annotate(
        "", (x1, y1), (x0, y0), zorder=1,
        arrowprops={"arrowstyle": "-|>", "color": theme.QUIET, "linewidth": 1.1, "alpha": 0.8, "shrinkA": 1,
                    "shrinkB": 2, "patchA": start.get_bbox_patch(), "patchB": stop.get_bbox_patch(),
                    "linestyle": (0, (3, 2)) if dashed else "-"},
    )  # fmt: skip
    if text:
        axis.text(
            x0 + share * (x1 - x0), y0 + share * (y1 - y0), text, ha="center", va="center", fontsize=8,
            color=theme.INK, zorder=6, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip


def each(rows: pd.DataFrame) -> list[Any]:
    """Return the rows of a frame as tuples with named fields."""
    return list(rows.itertuples())


def heading(axis: "Axes", text: str, cells: int = 60) -> None:
    """Put a panel's own words above it, flush left."""
    axis.set_title(theme.squeeze(text, cells), loc="left", fontsize=9, color=theme.INK)
