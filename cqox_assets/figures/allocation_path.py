"""Finance: what a growing share of customers brings, added in the order of predicted gain."""

import math
from typing import Any

import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import Findings
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.wording import money, short

_LONG = 1e11  # from here three amounts in full do not fit above the axes


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the value of treating a share with its interval; the film adds the units in order."""
    motion.only_for(inputs, "finance")
    found: Findings = inputs.findings["policy_value"]
    row = found.content["contrasts"][0]
    curve = found.tables["curve"]
    data = curve[curve["arm"] == row["arm"]].reset_index(drop=True)
    what = {"net_benefit": "net benefit", "gross_benefit": "benefit before costs"}.get(
        found.content["measure"], "total gain"
    )
    unit = found.content["unit"] or "units of the outcome"

    def scene(size: tuple[float, float]) -> motion.Scene:
        figure, axis = theme.single(*size)
        theme.title(figure, SPEC.title)
        theme.sides(axis)
        axis.set_xlim(0, 100)
        axis.set_ylim(*marks.reach(data["net_benefit"], data[["low", "high"]], [0.0]))
        axis.axhline(0, color=theme.INK, linewidth=1)
        axis.set_xlabel("share of units treated, highest predicted gain first (%)")
        axis.set_ylabel(f"{what} ({theme.shorten(unit, 30)})")
        theme.amounts(axis.yaxis)
        marks.legend(figure, [(what, _colour(inputs), "line"), ("95% interval", _colour(inputs), "area")])
        return figure, [axis], lambda share: _paint(axis, data, share, inputs, unit)

    figure, frames = motion.pictures(scene, form)
    best, everybody = row["optimal"], row["treat_all"]
    caption = (
        f"{row['contrast']}: treating the best {best['coverage']:.0%} brings a {what} of {_said(best, unit)}; treating "
        f"everybody brings {_said(everybody, unit)}. 95% intervals; units are ranked by models that did not see them."
    )
    caption += words.adjusting(inputs.study)
    return Drawing(figure, data, caption, f"Curve of {what} by share treated. {caption}", frames=frames)


def _colour(inputs: Inputs) -> str:
    return theme.arm_colour(inputs.study.arms, inputs.study.arms[1])


def _said(row: Any, unit: str) -> str:
    return f"{_amount(row['net_benefit'], unit)} ({_amount(row['low'], unit)} to {_amount(row['high'], unit)})"


def _amount(value: float, unit: str) -> str:
    if abs(value) >= _LONG:
        return f"{value:.3g} {unit}"
    return money(value, unit) if len(unit) == 3 and unit.isupper() else short(value)


def _paint(axis: Any, data: pd.DataFrame, share: float, inputs: Inputs, unit: str) -> None:
    held = data.head(max(2, math.ceil(share * len(data))))
    x, tone = 100 * held["coverage"].to_numpy(dtype=float), _colour(inputs)
    marks.band(axis, x, (held["low"].to_numpy(dtype=float), held["high"].to_numpy(dtype=float)), tone)
    axis.plot(x, held["net_benefit"], color=tone, linewidth=2)
    last = held.iloc[-1]
    axis.plot([100 * last["coverage"]], [last["net_benefit"]], marker="o", markersize=8, color=tone, clip_on=False,
              markeredgecolor="white", zorder=5)  # fmt: skip
    said = f"{last['coverage']:.0%} treated: {_said(last, unit)}"
    axis.text(0, 1.02, said, transform=axis.transAxes, fontsize=9.5, color=theme.INK, va="bottom")


SPEC = FigureSpec(
    name="allocation_path",
    title="What a growing share brings",
    question="How does the result grow when more units are treated, the best first?",
    draw=draw,
    needs=("policy_value",),
    family="flagship",
    forms=("2d", "animated"),
    reference="Yadlowsky et al. 2025, doi:10.1080/01621459.2024.2393466",
)
