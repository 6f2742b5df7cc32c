"""The mean effect over the two covariates that it depends on most, with sheets of its interval."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.drivers import drivers_of
from cqox_assets.diagnostics.surface import effect_surface
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, differing
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_LEVEL = 0.95
_VALUES = 8  # distinct values from which a covariate makes an axis
_LEAST = 100  # units


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw a map with contours (2d), or a surface between its sheets that turns (3d), for the first contrast."""
    item = differing(inputs)[0]
    if len(item.rows) < _LEAST:
        raise NotDrawnError(f"{len(item.rows)} units are too few for a surface")
    names = axes_of(item)
    x, y = (item.study.frame[name].to_numpy(dtype=float) for name in names)
    data = effect_surface(item.score, x, y, item.sampling, item.study.codes(Role.CLUSTER))
    z = marks.errors(_LEVEL)
    data = data.assign(low=data["estimate"] - z * data["std_error"], high=data["estimate"] + z * data["std_error"])
    if data["estimate"].notna().sum() < 20:
        raise NotDrawnError("the rows lie along a line of both covariates, so there is no surface")
    labels = (item.study.label(names[0]), item.study.label(names[1]))
    caption = _caption(item, data, labels)
    figure = _map(item, data, labels)
    alt = f"Map of the effect over {labels[0]} and {labels[1]}. {caption}"
    page = pages.page(_surface(item, data, labels), SPEC.title, caption) if form == "3d" else ""
    return Drawing(figure, data, caption, alt, page)


def axes_of(item: UnitEffects) -> tuple[str, str]:
    """Return the two covariates of at least 8 values that predicted effects depend on most."""
    names = item.study.names(Role.COVARIATES)
    found = drivers_of(item.study.matrix(), item.effect) if names else None
    if found is None:
        raise NotDrawnError("predicted effects do not depend on any single covariate")
    order = [names[place] for place in np.argsort(-found.importance, kind="stable")]
    wide = [name for name in order if item.study.frame[name].nunique() >= _VALUES]
    if len(wide) < 2:
        raise NotDrawnError(f"fewer than two covariates have {_VALUES} values or more")
    return wide[0], wide[1]


def _sheets(data: pd.DataFrame) -> tuple[np.ndarray, ...]:
    cells = int(np.sqrt(len(data)))
    columns = ("x", "y", "estimate", "low", "high")
    return tuple(data[name].to_numpy(dtype=float).reshape(cells, cells) for name in columns)


def _map(item: UnitEffects, data: pd.DataFrame, labels: tuple[str, str]) -> Any:
    x, y, z, low, high = _sheets(data)
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
    theme.numbers(axis)
    axis.set_xlabel(theme.shorten(labels[0], 60))
    axis.set_ylabel(theme.shorten(labels[1], 44))
    bar = figure.colorbar(filled, ax=axis, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    theme.numbers(bar.ax, "y")
    bar.ax.tick_params(labelsize=7.5)
    bar.set_label(words.effect(item.study, cells=40), fontsize=8.5, color=theme.INK)
    marks.legend(
        figure, [("no effect", theme.INK, "line"), ("dotted: the interval covers no effect", theme.QUIET, "area")]
    )
    return figure


def _surface(item: UnitEffects, data: pd.DataFrame, labels: tuple[str, str]) -> Any:
    import plotly.graph_objects as plotly

    x, y, z, low, high = _sheets(data)
    reach = float(np.nanmax(np.abs(z))) or 1.0
    lines = {"z": {"show": True, "usecolormap": True, "project": {"z": True}, "width": 1}}
    effect = words.effect(item.study, cells=40)
    figure = plotly.Figure(
        plotly.Surface(
            x=x[0], y=y[:, 0], z=z, colorscale="RdBu", reversescale=True, cmin=-reach, cmax=reach, contours=lines,
            colorbar={"title": {"text": "effect"}, "len": 0.6}, name="effect",
            hovertemplate=f"%{{x:.4g}}, %{{y:.4g}}<br>{theme.shorten(effect, 40)}: %{{z:.4g}}<extra></extra>",
        )
    )  # fmt: skip
    for name, sheet in (("lower end of the interval", low), ("upper end of the interval", high)):
        figure.add_surface(
            x=x[0], y=y[:, 0], z=sheet, showscale=False, opacity=0.25, name=name, hoverinfo="skip",
            colorscale=[[0, theme.REFERENCE], [1, theme.REFERENCE]],
        )  # fmt: skip
    figure.add_surface(
        x=x[0], y=y[:, 0], z=np.zeros_like(z), showscale=False, opacity=0.2, hoverinfo="skip", name="no effect",
        colorscale=[[0, theme.INK], [1, theme.INK]],
    )  # fmt: skip
    figure.update_layout(scene=pages.scene((labels[0], labels[1], effect)))
    return figure


def _caption(item: UnitEffects, data: pd.DataFrame, labels: tuple[str, str]) -> str:
    held = data[data["estimate"].notna()]
    size = held["estimate"].to_numpy()
    low, high = held.iloc[int(size.argmin())], held.iloc[int(size.argmax())]
    places = [
        f"{words.amount(item.study, row['estimate'])} at {labels[0]} {row['x']:.4g} and {labels[1]} {row['y']:.4g}"
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
