"""Predicted effects against effects found, by groups of units: on the diagonal the prediction is right."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Study

_MOST = 4  # estimators beside one another
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one panel per estimator with unit effects, all on one scale, for the first contrast."""
    held = [item for item in inputs.answered().values() if len(item.tables.get("calibration", ())) > 1][:_MOST]
    if not held:
        raise NotDrawnError("no estimator found units of different effects to compare with their prediction")
    study, z = inputs.study, marks.errors(_LEVEL)
    tables = []
    for item in held:
        table = _first(item)
        low, high = (table["observed"] + sign * z * table["std_error"] for sign in (-1, 1))
        tables.append(table.assign(estimator=item.estimator, low=low, high=high))
    data = pd.concat(tables, ignore_index=True)
    limits = marks.reach([*data["predicted"], *data["observed"]], data[["low", "high"]], [0.0])
    columns = min(2, len(held))
    lines = -(-len(held) // columns)
    figure, axes = theme.grid(lines, columns, (7.2, 0.8 + 2.8 * lines))
    theme.title(figure, "Predicted and found effects")
    places = [axis for row in axes for axis in row]
    for axis, (name, block) in zip(places, data.groupby("estimator", sort=False), strict=False):
        _panel(axis, study, str(name), block, limits)
    for axis in places[len(held) :]:
        axis.set_visible(False)
    marks.legend(figure, [("group of units, 95% interval", theme.arm_colour(study.arms, words.compared(study)), "dot"),
                          ("prediction is right", theme.INK, "dashes")])  # fmt: skip
    said = [_words_of(item) for item in held]
    contrast = f" Drawn for {held[0].headline.contrast}." if len(study.arms) > 2 else ""
    caption = f"{'; '.join(said)}.{contrast}"
    return Drawing(figure, data, caption, f"Scatter plots of found against predicted effects. {caption}")


def _first(item: EffectEstimate) -> pd.DataFrame:
    table = item.tables["calibration"]
    return table[table["arm"] == table["arm"].iloc[0]] if "arm" in table else table


def _panel(axis: Any, study: Study, name: str, block: pd.DataFrame, limits: tuple[float, float]) -> None:
    colour = theme.arm_colour(study.arms, words.compared(study))
    theme.sides(axis)
    axis.plot(limits, limits, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.vlines(
        block["predicted"], block["low"].clip(*limits), block["high"].clip(*limits), color=colour, linewidth=1.8
    )
    axis.scatter(block["predicted"], block["observed"], s=32, color=colour, zorder=4)
    axis.axhline(0, color=theme.GRID, linewidth=1.2)
    axis.set_xlim(*limits)
    axis.set_ylim(*limits)
    theme.numbers(axis, nbins=5)
    marks.heading(axis, words.estimator(name), 30)
    axis.set_xlabel("predicted effect")
    axis.set_ylabel("effect found")


def _words_of(item: EffectEstimate) -> str:
    table = _first(item)
    x, y = table["predicted"].to_numpy(dtype=float), table["observed"].to_numpy(dtype=float)
    if not np.ptp(x) > 0:
        return f"{words.estimator(item.estimator)}: one prediction for all"
    slope = float(np.polyfit(x, y, 1)[0])
    return f"{words.estimator(item.estimator)}: {slope:.2f} units of effect found per unit predicted"


SPEC = FigureSpec(
    name="cate_calibration",
    title="Predicted and found effects",
    question="Are predicted unit effects of the right size?",
    draw=draw,
    needs=("calibration",),
    family="heterogeneity",
    reference="Chernozhukov et al. 2018, doi:10.3386/w24678",
)
