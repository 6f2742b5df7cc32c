"""The mean effect in groups of units by their predicted effect: tenths, or fewer where units are few."""

from typing import Any

import pandas as pd

from cqox_assets.diagnostics.targeting import group_effects, quantile_groups
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, differing
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_GROUPS = 10
_LEAST = 20  # units per group
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the mean of the doubly robust scores per tenth with intervals, one panel per contrast."""
    held = differing(inputs, 3)
    tables = [_table(item) for item in held]
    figure, axes = theme.panels(len(held), 7.2, 1.0 + 2.9 * len(held))
    theme.title(figure, SPEC.title)
    for axis, item, table in zip(axes, held, tables, strict=True):
        _panel(axis, item, table)
    groups = len(tables[-1])
    axes[-1].set_xlabel(f"{groups} groups of units by predicted effect, lowest first")
    first = held[0].colour
    marks.legend(figure, [("mean effect found, 95% interval", first, "dot"), ("mean effect predicted", first, "ring"),
                          ("average effect", theme.INK, "dashes")])  # fmt: skip
    data = pd.concat(tables, ignore_index=True)
    caption = " ".join(_words_of(item, table) for item, table in zip(held, tables, strict=True))
    return Drawing(figure, data, caption, f"Effects with intervals by groups of predicted effect. {caption}")


def _table(item: UnitEffects) -> pd.DataFrame:
    count = min(_GROUPS, len(item.rows) // _LEAST)
    if count < 2:
        raise NotDrawnError(f"{len(item.rows)} units are too few for two groups of {_LEAST}")
    group = quantile_groups(item.effect, count)
    found = group_effects(group, item.score, item.sampling, item.study.codes(Role.CLUSTER))
    predicted = pd.Series(item.effect).groupby(group).mean()
    z = marks.errors(_LEVEL)
    average = float(item.sampling @ item.score / item.sampling.sum())
    return found.assign(
        arm=item.arm,
        predicted=found["group"].map(predicted),
        low=found["estimate"] - z * found["std_error"],
        high=found["estimate"] + z * found["std_error"],
        average=average,
    )


def _panel(axis: Any, item: UnitEffects, table: pd.DataFrame) -> None:
    colour, place = item.colour, table["group"] + 1
    theme.sides(axis)
    limits = marks.reach([*table["estimate"], *table["predicted"]], table[["low", "high"]], [0.0])
    axis.vlines(place, table["low"].clip(*limits), table["high"].clip(*limits), color=colour, linewidth=1.8)
    axis.scatter(place, table["estimate"], s=34, color=colour, zorder=4)
    axis.scatter(place, table["predicted"], s=30, facecolor="white", edgecolor=colour, linewidth=1.3, zorder=3)
    axis.axhline(0, color=theme.INK, linewidth=1)
    axis.axhline(table["average"].iloc[0], color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_ylim(*limits)
    theme.numbers(axis)
    axis.set_xticks(range(1, len(table) + 1))
    axis.set_ylabel(theme.shorten(words.effect(item.study, cells=28), 38))
    if len(item.arms) > 1:
        marks.heading(axis, item.words, 70)


def _words_of(item: UnitEffects, table: pd.DataFrame) -> str:
    low, high = (words.amount(item.study, float(table["estimate"].iloc[place])) for place in (0, -1))
    outside = int(((table["predicted"] < table["low"]) | (table["predicted"] > table["high"])).sum())
    return (
        f"{item.arm}: {low} in the lowest of {len(table)} groups, {high} in the highest; the prediction lies outside "
        f"the interval in {outside} ({words.estimator(item.answer.estimator)})."
    )


SPEC = FigureSpec(
    name="cate_by_decile",
    title="Effect by groups of predicted effect",
    question="Do units with a higher predicted effect have a higher effect?",
    draw=draw,
    needs=("unit_effects",),
    family="heterogeneity",
    reference="Chernozhukov et al. 2018, doi:10.3386/w24678",
)
