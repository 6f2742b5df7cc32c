"""Healthcare: outcomes with and without treatment along the covariate that the effect depends on most."""

import math
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.drivers import drivers_of
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, differing
from cqox_assets.result import Findings
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_GROUPS = 12
_LEAST = 30  # units of a group


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw both mean outcomes and below their difference with its interval; the film walks along the covariate."""
    motion.only_for(inputs, "healthcare")
    item = differing(inputs)[0]
    name = _driver(item)
    data = _groups(item, name, inputs.findings["counterfactual_systems"])
    label = item.study.label(name)

    def scene(size: tuple[float, float]) -> motion.Scene:
        figure, axes = theme.panels(2, size[0], size[1], [1.1, 1.0])
        theme.title(figure, f"{SPEC.title}: {theme.shorten(label, 30)}")
        for axis in axes:
            theme.sides(axis)
            axis.set_xlim(float(data["x"].min()), float(data["x"].max()))
        axes[0].set_ylim(*marks.reach(data[["reference", "compared"]], (), []))
        axes[1].set_ylim(*marks.reach(data["effect"], data[["low", "high"]], [0.0]))
        axes[1].axhline(0, color=theme.INK, linewidth=1)
        axes[0].set_ylabel(words.label(item.study, Role.OUTCOME, 26))
        axes[1].set_ylabel("effect")
        axes[1].set_xlabel(theme.shorten(label, 60))
        for axis in axes:
            theme.numbers(axis)
        reference = item.arms[0]
        marks.legend(
            figure, [(f"everybody {reference}", theme.arm_colour(item.arms, reference), "line"),
                     (f"everybody {item.arm}", item.colour, "line"), ("95% interval", item.colour, "area")],
        )  # fmt: skip
        return figure, axes, lambda share: _paint(axes, data, share, item)

    figure, frames = motion.pictures(scene, form)
    ends = [data.iloc[0], data.iloc[-1]]
    said = [
        f"{words.amount(item.study, row['effect'])} ({words.amount(item.study, row['low'])} to "
        f"{words.amount(item.study, row['high'])}) at {label} {row['x']:.3g}"
        for row in ends
    ]
    caption = f"{item.words}: {said[0]}, {said[1]}. Means of doubly robust scores in {len(data)} groups, 95% intervals."
    return Drawing(figure, data, caption, f"Outcomes under both arms along {label}. {caption}", frames=frames)


def _driver(item: UnitEffects) -> str:
    """Return the covariate of many values that predicted effects depend on most."""
    names = item.study.names(Role.COVARIATES)
    found = drivers_of(item.study.matrix(), item.effect) if names else None
    order = [] if found is None else [names[place] for place in np.argsort(-found.importance, kind="stable")]
    for name in order:
        if item.study.frame[name].nunique() >= _GROUPS:
            return str(name)
    raise NotDrawnError(f"the effect depends on no covariate of {_GROUPS} values or more")


def _groups(item: UnitEffects, name: str, systems: Findings) -> pd.DataFrame:
    """Return, per group of equal size along the covariate: x, rows, reference, compared, effect, low, high."""
    units = systems.tables["units"]
    units = units[units["arm"] == item.arm]
    if len(units) != len(item.rows):
        raise NotDrawnError("the counterfactual systems and the predicted effects are about different rows")
    x = item.study.frame[name].to_numpy(dtype=float)
    count = min(_GROUPS, len(x) // _LEAST)
    if count < 3:
        raise NotDrawnError(f"{len(x)} units are too few to follow along a covariate")
    edges = np.unique(np.quantile(x, np.linspace(0, 1, count + 1)[1:-1]))
    group = np.searchsorted(edges, x, side="right")
    rows = []
    for place in np.unique(group):
        inside = group == place
        weight, score = item.sampling[inside], item.score[inside]
        mean = float(np.average(score, weights=weight))
        error = float(np.sqrt(((weight * (score - mean)) ** 2).sum()) / weight.sum())
        arms = [
            float(np.average(units[f"machine_learned_{arm}"].to_numpy(dtype=float)[inside], weights=weight))
            for arm in ("reference", "compared")
        ]
        half = marks.errors(0.95) * error
        middle = float(np.average(x[inside], weights=weight))
        rows.append((middle, int(inside.sum()), *arms, mean, mean - half, mean + half))
    return pd.DataFrame(rows, columns=["x", "rows", "reference", "compared", "effect", "low", "high"])


def _paint(axes: Any, data: pd.DataFrame, share: float, item: UnitEffects) -> None:
    held = data.head(max(2, math.ceil(share * len(data))))
    x = held["x"].to_numpy()
    low, high = (held[name].to_numpy() for name in ("low", "high"))
    axes[0].fill_between(x, held["reference"], held["compared"], color=item.colour, alpha=0.08, linewidth=0)
    axes[0].plot(x, held["reference"], color=theme.arm_colour(item.arms, item.arms[0]), linewidth=2)
    axes[0].plot(x, held["compared"], color=item.colour, linewidth=2)
    marks.band(axes[1], x, (low, high), item.colour)
    axes[1].plot(x, held["effect"], color=item.colour, linewidth=2, marker="o", markersize=4)


SPEC = FigureSpec(
    name="treatment_trajectory",
    title="With and without treatment",
    question="For which patients do outcomes with and without treatment part?",
    draw=draw,
    needs=("unit_effects", "counterfactual_systems", "covariates"),
    family="flagship",
    forms=("2d", "animated"),
)
