"""Retail: what treating each fifth of the customers is worth, from the highest predicted benefit down."""

import math
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import Findings
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.wording import with_unit

_WORDS = {"net_benefit": "net benefit per customer", "gross_benefit": "benefit per customer before costs"}


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw value per customer with its interval, fifth by fifth; the film adds one after the other."""
    motion.only_for(inputs, "retail")
    found: Findings = inputs.findings["policy_value"]
    row = found.content["contrasts"][0]
    table = found.tables["segments"]
    data = table[(table["arm"] == row["arm"]) & (table["kind"] == "predicted benefit")]
    data = data[data["net_benefit"].notna()][::-1].reset_index(drop=True)  # the highest predicted benefit first
    if len(data) < 2:
        raise NotDrawnError("customers do not differ in predicted benefit, so there are no segments to compare")
    unit = found.content["unit"] or "units of the outcome"

    def scene(size: tuple[float, float]) -> motion.Scene:
        figure, axis = theme.single(*size)
        theme.title(figure, SPEC.title)
        theme.sides(axis)
        axis.set_xlim(-0.6, len(data) - 0.4)
        axis.set_ylim(*marks.reach(data["net_benefit"], data[["net_benefit_low", "net_benefit_high"]], [0.0]))
        axis.axhline(0, color=theme.INK, linewidth=1)
        names = [f"{theme.shorten(row.segment, 18)}\n{row.rows:,} rows" for row in marks.each(data)]
        axis.set_xticks(range(len(data)), names, fontsize=8)
        axis.set_xlabel("customers by predicted benefit")
        axis.set_ylabel(f"{_WORDS.get(found.content['measure'], 'gain per customer')} ({theme.shorten(unit, 20)})")
        theme.amounts(axis.yaxis)
        return figure, [axis], lambda share: _paint(axis, data, share, inputs)

    figure, frames = motion.pictures(scene, form)
    best, worst = (data.iloc[int(pick(data["net_benefit"].to_numpy(dtype=float)))] for pick in (np.argmax, np.argmin))
    caption = (
        f"{row['contrast']}: worth most for {_said(best, unit)}, least for {_said(worst, unit)}. 95% intervals; "
        "segments are fifths of the predicted benefit by models that did not see the customer."
    )
    caption += words.adjusting(inputs.study)
    return Drawing(figure, data, caption, f"Bars of value per customer by segment. {caption}", frames=frames)


def _said(row: Any, unit: str) -> str:
    numbers = [with_unit(float(row[name]), unit) for name in ("net_benefit", "net_benefit_low", "net_benefit_high")]
    return f"'{row['segment']}': {numbers[0]} each ({numbers[1]} to {numbers[2]})"


def _paint(axis: Any, data: pd.DataFrame, share: float, inputs: Inputs) -> None:
    done = share * len(data)
    tone, limits = theme.arm_colour(inputs.study.arms, inputs.study.arms[1]), axis.get_ylim()
    for place, row in enumerate(marks.each(data)):
        grown = min(1.0, max(0.0, done - place))
        if grown == 0:
            continue
        axis.bar([place], [grown * row.net_benefit], width=0.66, color=tone, alpha=0.75 if row.net_benefit > 0 else 0.3)
        if grown == 1:
            low, high = (float(np.clip(end, *limits)) for end in (row.net_benefit_low, row.net_benefit_high))
            axis.plot([place, place], [low, high], color=theme.INK, linewidth=1.6)
    count = max(1, math.floor(done + 1e-9))
    total = float(data["net_benefit_total"].head(count).sum()) if "net_benefit_total" in data else math.nan
    if math.isfinite(total):
        unit = inputs.findings["policy_value"].content["unit"] or ""
        said = f"first {count} of {len(data)} segments together: {with_unit(total, unit)}"
        axis.text(0, 1.02, said, transform=axis.transAxes, fontsize=9.5, color=theme.INK, va="bottom")


SPEC = FigureSpec(
    name="customer_value",
    title="What treating each group of customers is worth",
    question="Which customers are worth treating?",
    draw=draw,
    needs=("policy_value",),
    family="flagship",
    forms=("2d", "animated"),
)
