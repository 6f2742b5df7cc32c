"""Peaks, valleys and ridges of the effect over two covariates, above and below the plane of no effect."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _surfaces as surfaces
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, differing
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.wording import short

_WIDE, _HIGH = 0.45, 0.15  # of the axes: room that the words of a place take


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw a relief map (2d) or a landscape that turns (3d) with its named places, for the first contrast."""
    item = differing(inputs)[0]
    surface, labels = surfaces.surface_of(item)
    x, y, z, low, high = surfaces.sheets(surface)
    places = _places(item, (x, y, z, low, high))
    lines = {"ridge": surfaces.ridge(z, 1), "valley line": surfaces.ridge(z, -1)}
    on = {place: name for name, line in lines.items() for place in line}
    names = np.full(z.shape, "", dtype=object)
    for place, name in on.items():
        names[place] = name
    for row in marks.each(places):
        names[row.row, row.column] = row.kind
    data = surface.assign(place=names.ravel())
    caption = _caption(item, places, labels, z)
    figure = _map(item, (x, y, z), places, lines, labels)
    page = ""
    if form == "3d":
        page = pages.page(_landscape(item, (x, y, z), places, lines, labels), SPEC.title, caption)
    return Drawing(figure, data, caption, f"Relief map of the effect with named places. {caption}", page)


def _places(item: UnitEffects, sheets: tuple[np.ndarray, ...]) -> pd.DataFrame:
    """Return peaks and valleys: kind, row, column, x, y, estimate, low, high."""
    x, y, z, low, high = sheets
    rows = [
        (f"{kind} {rank}", place[0], place[1], *(float(sheet[place]) for sheet in (x, y, z, low, high)))
        for kind, sign in (("peak", 1), ("valley", -1))
        for rank, place in enumerate(surfaces.extremes(z, sign, 2), start=1)
    ]
    return pd.DataFrame(rows, columns=["kind", "row", "column", "x", "y", "estimate", "low", "high"])


def _map(
    item: UnitEffects,
    sheets: tuple[np.ndarray, ...],
    places: pd.DataFrame,
    lines: dict[str, list[tuple[int, int]]],
    labels: tuple[str, str],
) -> Any:
    x, y, z = sheets
    figure, axis = theme.single(7.2, 5.4)
    theme.sides(axis)
    theme.title(figure, SPEC.title)
    reach = float(np.nanmax(np.abs(z))) or 1.0
    filled = axis.contourf(x, y, z, levels=np.linspace(-reach, reach, 31), cmap=theme.DIVERGING, extend="both")
    if np.nanmin(z) < 0 < np.nanmax(z):
        axis.contour(x, y, z, levels=[0.0], colors=theme.INK, linewidths=2)
    for (_, line), style in zip(lines.items(), ("-", (0, (4, 2.5))), strict=True):
        if len(line) > 1:
            axis.plot([x[place] for place in line], [y[place] for place in line], color=theme.INK, lw=1.2, ls=style)
    middle = float(np.mean(axis.get_xlim()))
    for row in marks.each(places):
        axis.plot([row.x], [row.y], marker="^" if row.estimate == places["estimate"].max() else "o", markersize=6,
                  color=theme.INK, markeredgecolor="white", zorder=5)  # fmt: skip
    for row in _apart(places, axis):
        axis.annotate(
            f"{row['kind']}: {words.amount(item.study, row['estimate'])}\n"
            f"({words.amount(item.study, row['low'])} to {words.amount(item.study, row['high'])})",
            (row["x"], row["y"]), xytext=(7 if row["x"] < middle else -7, row["shift"]), textcoords="offset points",
            fontsize=8.5, ha="left" if row["x"] < middle else "right", va="center", color=theme.INK, zorder=6,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )  # fmt: skip
    surfaces.axes_and_bar(figure, axis, filled, item, labels)
    marks.legend(
        figure,
        [("no effect", theme.INK, "line"), ("ridge: largest effect for each place along the axis", theme.INK, "line"),
         ("smallest effect", theme.INK, "dashes")],
    )  # fmt: skip
    return figure


def _apart(places: pd.DataFrame, axis: Any) -> list[dict[str, Any]]:
    """Return the places with the shift of their words, inside the axes; words upon earlier ones are left out.

    The highest and the lowest place come first, so that theirs are never those left out.
    """
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    kept: list[dict[str, Any]] = []
    for row in places.assign(rank=places["kind"].str[-1]).sort_values(["rank", "kind"]).to_dict("records"):
        across, up = (row["x"] - left) / (right - left), (row["y"] - bottom) / (top - bottom)
        row["shift"] = 18 if up < 0.1 else -18 if up > 0.9 else 0
        row["from"], row["up"] = across if across < 0.5 else across - _WIDE, up
        if all(abs(up - other["up"]) > _HIGH or abs(row["from"] - other["from"]) > _WIDE for other in kept):
            kept.append({str(name): value for name, value in row.items()})
    return kept


def _landscape(
    item: UnitEffects,
    sheets: tuple[np.ndarray, ...],
    places: pd.DataFrame,
    lines: dict[str, list[tuple[int, int]]],
    labels: tuple[str, str],
) -> Any:
    import plotly.graph_objects as plotly

    x, y, z = sheets
    reach = float(np.nanmax(np.abs(z))) or 1.0
    figure = plotly.Figure(
        plotly.Surface(
            x=x[0], y=y[:, 0], z=z, colorscale="RdBu", reversescale=True, cmin=-reach, cmax=reach, name="effect",
            colorbar={"title": {"text": "effect"}, "len": 0.6},
            hovertemplate="%{x:.4g}, %{y:.4g}<br>effect: %{z:.4g}<extra></extra>",
        )
    )  # fmt: skip
    pages.sheet(figure, (x[0], y[:, 0], np.zeros_like(z)), "no effect", 0.3)
    lift = 0.01 * reach
    for name, line in lines.items():
        figure.add_scatter3d(
            x=[x[p] for p in line], y=[y[p] for p in line], z=[z[p] + lift for p in line], mode="lines", name=name,
            line={"color": theme.INK, "width": 6, "dash": "solid" if name == "ridge" else "dash"},
        )  # fmt: skip
    figure.add_scatter3d(
        x=places["x"], y=places["y"], z=places["estimate"] + lift, mode="markers", hoverinfo="skip",
        name="peaks and valleys, 95% intervals", marker={"size": 5, "color": theme.INK},
        error_z={"type": "data", "symmetric": False, "array": places["high"] - places["estimate"],
                 "arrayminus": places["estimate"] - places["low"], "color": theme.INK, "thickness": 2},
    )  # fmt: skip
    notes = [
        pages.note(row.x, row.y, row.estimate + lift, f"{row.kind}: {words.amount(item.study, row.estimate)}")
        for row in marks.each(places)
    ]
    figure.update_layout(
        scene={**pages.scene((labels[0], labels[1], words.effect(item.study, cells=40))), "annotations": notes}
    )
    return figure


def _caption(item: UnitEffects, places: pd.DataFrame, labels: tuple[str, str], z: np.ndarray) -> str:
    said = [
        f"{row.kind} {words.amount(item.study, row.estimate)} (95% interval {words.amount(item.study, row.low)} to "
        f"{words.amount(item.study, row.high)}) at {labels[0]} {short(row.x)}, "
        f"{labels[1]} {short(row.y)}"
        for row in marks.each(places)
        if row.kind in ("peak 1", "valley 1")
    ]
    above = float((z[np.isfinite(z)] > 0).mean())
    return (
        f"{item.words}: {'; '.join(said)}. {above:.0%} of the map lies above no effect. Intervals are pointwise and "
        "know nothing of the search for the highest place, so peaks are overstated."
    )


SPEC = FigureSpec(
    name="cate_landscape_3d",
    title="Peaks and valleys of the effect",
    question="Where is the effect largest, where smallest, and where does it change its sign?",
    draw=draw,
    needs=("unit_effects", "covariates"),
    family="flagship",
    forms=("2d", "3d"),
    reference="Semenova & Chernozhukov 2021, doi:10.1093/ectj/utaa027",
)
