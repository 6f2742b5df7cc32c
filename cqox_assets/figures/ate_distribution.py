"""All estimates with their intervals, grouped by the question that they answer."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cqox_assets.figures import _bootstrap as bootstrap
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Study
from cqox_assets.wording import short_unit, span, with_unit

_LINE = 0.27  # inches per row


def rows_of(study: Study, answered: Mapping[str, EffectEstimate]) -> pd.DataFrame:
    """Return one row per estimate: estimator, estimand, contrast, arm, scale, estimate, low, high, level, null.

    Only answers for all units or one arm are listed; of a curve or a path, its headline.
    """
    found: list[dict[str, Any]] = []
    for name, answer in answered.items():
        for effect in answer.effects:
            if set(effect.at) - {"arm"} and effect is not answer.headline:
                continue
            low, high = (math.nan, math.nan) if effect.interval is None else (effect.interval.low, effect.interval.high)
            found.append(
                {
                    "estimator": name, "estimand": str(effect.estimand), "contrast": effect.contrast,
                    "arm": words.arm_of(study, effect), "scale": effect.scale, "estimate": effect.estimate,
                    "low": low, "high": high,
                    "level": math.nan if effect.interval is None else effect.interval.level, "null": effect.null,
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one panel per scale; within it one block per estimand and contrast, in plan order."""
    rows = rows_of(inputs.study, inputs.answered())
    scales = list(dict.fromkeys(rows["scale"]))
    lines = [_lines(rows[rows["scale"] == scale]) for scale in scales]
    draws = bootstrap.draws_of(inputs)
    height = 0.9 + sum(_LINE * (len(part) + 1) + 0.45 for part in lines) + (1.9 if draws is not None else 0.0)
    ratios = [len(part) + 2 for part in lines] + ([1.6 / _LINE] if draws is not None else [])
    figure, axes = theme.panels(len(ratios), 7.2, max(height, 2.2), ratios)
    theme.title(figure, "Effect by estimator")
    for axis, scale, part in zip(axes, scales, lines, strict=False):
        _panel(axis, inputs.study, scale, rows[rows["scale"] == scale], part)
    caption = _caption(inputs.study, rows)
    if draws is not None:
        caption += bootstrap.histogram(axes[-1], inputs.study, *draws)
    return Drawing(figure, rows, caption, f"Dot plot of {len(rows)} estimates with intervals. {caption}")


def _lines(rows: pd.DataFrame) -> list[tuple[str, int | None]]:
    """Return (text, row label or None for a heading) from top to bottom."""
    found: list[tuple[str, int | None]] = []
    for (estimand, contrast), block in rows.groupby(["estimand", "contrast"], sort=False):
        found.append((f"{estimand}: {contrast}", None))
        found += [(str(name).replace("_", " "), int(str(index))) for index, name in block["estimator"].items()]
    return found


def _panel(axis: Any, study: Study, scale: str, rows: pd.DataFrame, lines: list[tuple[str, int | None]]) -> None:
    null = float(rows["null"].iloc[0])
    ends = [value for value in (*rows["low"], *rows["high"]) if not math.isnan(value)]
    limits = visuals.window(list(rows["estimate"]), ends, [null])
    places = {index: len(lines) - 1 - place for place, (_, index) in enumerate(lines) if index is not None}
    for index, row in rows.iterrows():
        colour = theme.arm_colour(study.arms, row["arm"])
        low, high = (row["estimate"] if math.isnan(end) else end for end in (row["low"], row["high"]))
        visuals.interval(axis, places[int(str(index))], low, row["estimate"], high, limits, colour)
    axis.axvline(null, color=theme.INK, linewidth=1, zorder=1.5)
    axis.set_xlim(*limits)
    axis.set_ylim(-0.7, len(lines) - 0.3)
    visuals.names(axis, [text for text, index in lines if index is not None], list(places.values()))
    for place, (text, index) in enumerate(lines):
        if index is None:
            axis.annotate(
                theme.squeeze(text, 80), (0, len(lines) - 1 - place), xycoords=("axes fraction", "data"), va="center",
                ha="left", fontsize=9, fontweight="bold", color=theme.INK, zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
    theme.numbers(axis, "x")
    axis.set_xlabel(words.effect(study, scale))


def _caption(study: Study, rows: pd.DataFrame) -> str:
    parts, unit = [], short_unit(study.declaration)
    for (estimand, contrast, scale), block in rows.groupby(["estimand", "contrast", "scale"], sort=False):
        plain = scale == "difference"
        words = "" if plain else f" ({str(scale).replace('_', ' ')})"
        numbers = block["estimate"]
        unit_here, alone = unit if plain else "", len(block) == 1
        size = with_unit(numbers.iloc[0], unit_here) if alone else span(numbers.min(), numbers.max(), unit_here)
        clear = int(((block["low"] > block["null"]) | (block["high"] < block["null"])).sum())
        count = f"{len(block)} estimates from" if len(block) > 1 else "1 estimate,"
        parts.append(f"{estimand} of {contrast}{words}: {count} {size}, {clear} with an interval off the null")
    levels = rows["level"].dropna().unique()
    level = f" Intervals at {levels[0]:.0%}." if len(levels) == 1 else ""
    open_ends = int((rows["low"].isin([-math.inf]) | rows["high"].isin([math.inf])).sum())
    beyond = f" {open_ends} of the intervals are unbounded (arrows)." if open_ends else ""
    return "; ".join(parts) + "." + level + beyond + " The vertical line is no effect."


SPEC = FigureSpec(
    name="ate_distribution",
    title="Effect by estimator",
    question="What do all estimators say, and do those that answer the same question agree?",
    draw=draw,
    needs=("estimates",),
    family="diagnostics",
    reference="Lewis & Clarke 2001, doi:10.1136/bmj.322.7300.1479",
)
