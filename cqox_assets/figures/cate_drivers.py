"""Which covariates predicted effects depend on: Shapley values of a tree model of the unit effects."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.drivers import Drivers, drivers_of
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import differing
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_MOST = 15  # covariates that a page can carry legibly
_DRAWN = 500  # units
_GOLDEN = 0.6180339887498949


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw units as dots per covariate, coloured by its value, for the first contrast in which units differ."""
    item = differing(inputs)[0]
    study = item.study
    names = study.names(Role.COVARIATES)
    found = drivers_of(study.matrix(), item.effect)
    if found is None:
        raise NotDrawnError("predicted effects do not depend on any single covariate")
    order = np.argsort(-found.importance, kind="stable")
    order = order[found.importance[order] > 0][:_MOST]
    figure, axis = theme.single(7.2, max(2.9, 1.4 + 0.36 * len(order)))
    theme.title(figure, "What the unit effects depend on")
    frame = _dots(axis, study, found, order)
    axis.axvline(0, color=theme.INK, linewidth=1)
    axis.set_ylim(-0.7, len(order) - 0.3)
    places = list(range(len(order) - 1, -1, -1))
    axis.set_yticks(places, [theme.squeeze(study.label(names[place]), 36) for place in order], fontsize=8.5)
    axis.tick_params(axis="y", length=0)
    limits = marks.extent(frame["contribution"], 0.05)
    axis.set_xlim(*limits)
    theme.numbers(axis, "x")
    axis.set_xlabel(f"contribution to the predicted {words.effect(study, cells=36)}")
    _key(figure, axis)
    top = ", ".join(
        f"{study.label(names[place])} {words.amount(study, float(found.importance[place]))}" for place in order[:3]
    )
    more = f" The {len(order)} most important of {len(names)} are drawn." if len(names) > len(order) else ""
    contrast = f" Drawn for {item.words}." if len(inputs.study.arms) > 2 else ""
    caption = (
        f"Mean size of the contribution: {top}. Shapley values of boosted trees (LightGBM) that reproduce "
        f"{found.explained:.0%} of the variance of the effects that the {words.estimator(item.answer.estimator)} "
        f"predicted; {len(frame['unit'].unique()):,} of {len(item.rows):,} units are drawn.{more}{contrast}"
        f"{marks.outside(frame['contribution'], limits)}"
    )
    return Drawing(figure, frame, caption, f"Dot plot of contributions of covariates to predicted effects. {caption}")


def _dots(axis: Any, study: Study, found: Drivers, order: np.ndarray) -> pd.DataFrame:
    """Draw the dots of each line, spread by how crowded their place is, and return them."""
    import matplotlib as mpl

    names = study.names(Role.COVARIATES)
    units = marks.evenly(len(found.units), _DRAWN)
    parts = []
    for line, place in enumerate(order):
        x = found.contributions[units, place]
        value = study.frame[names[place]].to_numpy(dtype=float)[found.units[units]]
        rank = (np.argsort(np.argsort(value, kind="stable"), kind="stable") + 0.5) / len(value)
        if len(np.unique(value)) == 2:
            rank = (value > value.min()).astype(float)
        y = len(order) - 1 - line + _spread(x)
        axis.scatter(x, y, c=rank, cmap=mpl.colormaps[theme.SEQUENTIAL], vmin=0, vmax=1, s=7, alpha=0.8, linewidths=0,
                     rasterized=True, zorder=3)  # fmt: skip
        parts.append(pd.DataFrame({"covariate": study.label(names[place]), "unit": found.units[units], "value": value,
                                   "contribution": x}))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _spread(x: np.ndarray) -> np.ndarray:
    """Return how far each dot moves off its line: where dots are crowded they fill it evenly, without chance."""
    low, high = float(x.min()), float(x.max())
    if not high > low:
        return np.zeros(len(x))
    bins = np.clip(((x - low) / (high - low) * 60).astype(int), 0, 59)
    count = np.bincount(bins, minlength=60)
    place = (np.arange(1, len(x) + 1) * _GOLDEN) % 1 - 0.5
    return np.asarray(place * 0.75 * np.sqrt(count[bins] / count.max()))


def _key(figure: Any, axis: Any) -> None:
    import matplotlib as mpl

    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), mpl.colormaps[theme.SEQUENTIAL])
    bar = figure.colorbar(scale, ax=axis, fraction=0.03, pad=0.02, ticks=[0.02, 0.98])
    bar.ax.set_yticklabels(["low", "high"], fontsize=8)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.set_label("covariate's value", fontsize=8.5, color=theme.INK)


SPEC = FigureSpec(
    name="cate_drivers",
    title="What the unit effects depend on",
    question="Which covariates make the effect larger or smaller?",
    draw=draw,
    needs=("unit_effects", "covariates"),
    family="heterogeneity",
    reference="Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9",
)
