"""Effects on the quantiles of the outcome, with pointwise intervals and a band."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.quantile_effects import quantile_effects
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_PLACES = np.round(np.linspace(0.05, 0.95, 19), 2)
_LEAST = 10  # distinct outcome values
_MOST = 3  # contrasts
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one panel per contrast; the dashed line is the difference of means under the same weights."""
    study, nuisance = inputs.study, inputs.nuisance
    if nuisance is None:
        raise NotDrawnError("there are no nuisance models to weight by")
    distinct = len(np.unique(study.studied().column(Role.OUTCOME)))
    if distinct < _LEAST:
        raise NotDrawnError(f"the outcome has {distinct} distinct values, so its quantiles move in jumps")
    tables = []
    for arm, part in study.contrasts():
        held = nuisance.predictions.get(arm)
        if held is not None and len(held) == len(part):
            tables.append(_table(arm, part, held["propensity"].to_numpy(dtype=float)))
    if not tables:
        raise NotDrawnError("the nuisance predictions do not belong to this study's rows")
    figure, axes = theme.panels(len(tables[:_MOST]), 7.2, 1.2 + 2.9 * len(tables[:_MOST]))
    theme.title(figure, "Effect on the quantiles of the outcome")
    for axis, table in zip(axes, tables[:_MOST], strict=True):
        _panel(axis, study, table)
    axes[-1].set_xlabel("quantile of the outcome")
    colour = theme.arm_colour(study.arms, str(tables[0]["arm"].iloc[0]))
    marks.legend(figure, [("95% interval", colour, "area"), ("wider: band around all quantiles", colour, "area"),
                          ("difference of means", theme.INK, "dashes")])  # fmt: skip
    caption = " ".join(_words_of(study, table) for table in tables[:_MOST])
    caption += " These are effects on the distribution; the units at a quantile may differ between the arms."
    data = pd.concat(tables[:_MOST], ignore_index=True)
    return Drawing(figure, data, caption, f"Effects by quantile of the outcome with a band. {caption}")


def _table(arm: str, part: Study, propensity: np.ndarray) -> pd.DataFrame:
    y, d, weight = part.column(Role.OUTCOME), part.column(Role.TREATMENT), part.weights()
    found = quantile_effects(
        y, d, propensity, _PLACES, weight, cluster=part.codes(Role.CLUSTER), level=_LEVEL
    )  # fmt: skip
    sampling = np.ones(len(y)) if weight is None else weight
    one, zero = sampling * d / propensity, sampling * (1 - d) / (1 - propensity)
    return found.assign(arm=arm, mean_difference=float(one @ y / one.sum() - zero @ y / zero.sum()))


def _panel(axis: Any, study: Study, table: pd.DataFrame) -> None:
    arm = str(table["arm"].iloc[0])
    colour = theme.arm_colour(study.arms, arm)
    theme.sides(axis)
    marks.band(axis, table["quantile"], (table["band_low"], table["band_high"]), colour, 0.12)
    marks.band(axis, table["quantile"], (table["low"], table["high"]), colour, 0.22)
    axis.plot(table["quantile"], table["estimate"], color=colour, linewidth=2.2, marker="o", markersize=3.5)
    axis.axhline(0, color=theme.INK, linewidth=1)
    axis.axhline(table["mean_difference"].iloc[0], color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_ylim(*marks.reach(table["estimate"], table[["low", "high", "band_low", "band_high"]], [0.0]))
    axis.set_xlim(0.03, 0.97)
    theme.numbers(axis)
    axis.set_ylabel(theme.shorten(words.effect(study, cells=28), 38))
    if len(study.arms) > 1:
        marks.heading(axis, f"{arm} against {study.arms[0]}", 70)


def _words_of(study: Study, table: pd.DataFrame) -> str:
    at = table.set_index("quantile")
    low, middle, high = (words.amount(study, float(at["estimate"][place])) for place in (0.1, 0.5, 0.9))
    clear = int(((table["band_low"] > 0) | (table["band_high"] < 0)).sum())
    tied = int(table["std_error"].isna().sum())
    jumps = f" At {tied} quantiles many outcomes are equal, so they have no interval." if tied else ""
    return (
        f"{table['arm'].iloc[0]}: {low} at the 10th percentile, {middle} at the median, {high} at the 90th; {clear} of "
        f"{len(table)} with a band off zero.{jumps}"
    )


SPEC = FigureSpec(
    name="quantile_treatment_effects",
    title="Effect on the quantiles of the outcome",
    question="Does treatment move the low, the middle or the high outcomes?",
    draw=draw,
    needs=("nuisance", "outcome"),
    family="heterogeneity",
    reference="Firpo 2007, doi:10.1111/j.1468-0262.2007.00738.x",
)
