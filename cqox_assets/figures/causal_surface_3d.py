"""The mean effect over the two covariates that it depends on most, with sheets of its interval."""

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


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw a map with contours (2d), or a surface between its sheets that turns (3d), for the first contrast."""
    item = differing(inputs)[0]
    data, labels = surfaces.surface_of(item)
    caption = _caption(item, data, labels)
    figure = _map(item, data, labels)
    alt = f"Map of the effect over {labels[0]} and {labels[1]}. {caption}"
    page = pages.page(_surface(item, data, labels), SPEC.title, caption) if form == "3d" else ""
    return Drawing(figure, data, caption, alt, page)


def _map(item: UnitEffects, data: pd.DataFrame, labels: tuple[str, str]) -> Any:
    x, y, z, low, high = surfaces.sheets(data)
    figure, axis = theme.single(7.2, 5.2)
    theme.sides(axis)
    theme.title(figure, SPEC.title)
    reach = float(np.nanmax(np.abs(z))) or 1.0
    filled = axis.contourf(x, y, z, levels=np.linspace(-reach, reach, 25), cmap=theme.DIVERGING, extend="both")
    axis.contour(x, y, z, levels=8, colors=theme.INK, linewidths=0.6, alpha=0.6)
    if np.nanmin(z) < 0 < np.nanmax(z):
        axis.contour(x, y, z, levels=[0.0], colors=theme.INK, linewidths=2)
    unsure = np.where(np.isnan(z), np.nan, ((low <= 0) & (high >= 0)).astype(float))
    if np.nanmax(unsure) > 0:
        axis.contourf(x, y, unsure, levels=[0.5, 1.5], colors="none", hatches=["...."], zorder=2)
    surfaces.axes_and_bar(figure, axis, filled, item, labels)
    marks.legend(
        figure, [("no effect", theme.INK, "line"), ("dotted: the interval covers no effect", theme.QUIET, "area")]
    )
    return figure


def _surface(item: UnitEffects, data: pd.DataFrame, labels: tuple[str, str]) -> Any:
    import plotly.graph_objects as plotly

    x, y, z, low, high = surfaces.sheets(data)
    reach = float(np.nanmax(np.abs(z))) or 1.0
    mesh = {"show": True, "color": theme.QUIET, "width": 1}
    lines = {"x": mesh, "y": mesh, "z": {"show": True, "usecolormap": True, "project": {"z": True}, "width": 1}}
    effect = words.effect(item.study, cells=40)
    figure = plotly.Figure(
        plotly.Surface(
            x=x[0], y=y[:, 0], z=z, colorscale="RdBu", reversescale=True, cmin=-reach, cmax=reach, contours=lines,
            colorbar={"title": {"text": "effect"}, "len": 0.6}, name="effect",
            hovertemplate=f"%{{x:.4g}}, %{{y:.4g}}<br>{pages.words(effect, 40)}: %{{z:.4g}}<extra></extra>",
        )
    )  # fmt: skip
    for name, ends in (("lower end of the interval", low), ("upper end of the interval", high)):
        pages.sheet(figure, (x[0], y[:, 0], ends), name, 0.25)
    pages.sheet(figure, (x[0], y[:, 0], np.zeros_like(z)), "no effect", 0.2, theme.INK)
    figure.update_layout(scene=pages.scene((labels[0], labels[1], effect)))
    return figure


def _caption(item: UnitEffects, data: pd.DataFrame, labels: tuple[str, str]) -> str:
    held = data[data["estimate"].notna()]
    size = held["estimate"].to_numpy()
    low, high = held.iloc[int(size.argmin())], held.iloc[int(size.argmax())]
    places = [
        f"{words.amount(item.study, row['estimate'])} at {labels[0]} {short(row['x'])} and {labels[1]} "
        f"{short(row['y'])}"
        for row in (low, high)
    ]
    clear = float(((held["low"] > 0) | (held["high"] < 0)).mean())
    name = words.estimator(item.answer.estimator)
    return (
        f"{item.words}: from {places[0]} to {places[1]}; {clear:.0%} of the map has a pointwise 95% interval off no "
        f"effect. A polynomial of the doubly robust scores of the {name}; empty where no units are near."
    )


SPEC = FigureSpec(
    name="causal_surface_3d",
    title="The effect over two covariates",
    question="How does the effect change over the two covariates that it depends on most?",
    draw=draw,
    needs=("unit_effects", "covariates"),
    family="flagship",
    forms=("2d", "3d"),
    reference="Semenova & Chernozhukov 2021, doi:10.1093/ectj/utaa027",
)
