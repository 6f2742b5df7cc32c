"""Education: the spread of outcomes if every learner had the reference arm, moving to that under the compared arm."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import Findings
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_PLACES = {"q95": "top 5 %", "q75": "top quarter", "q50": "median", "mean": "mean", "q25": "lowest quarter",
           "q05": "lowest 5 %"}  # fmt: skip


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw where quantiles and mean start and end; in the film they move from one to the other."""
    motion.only_for(inputs, "education")
    found: Findings = inputs.findings["counterfactual_systems"]
    row = found.content["contrasts"][0]
    weights = row["consensus"]["weights"].values()
    system = max(next(iter(weights)), key=lambda name: sum(arm[name] for arm in weights))
    table = found.tables["outcome_distributions"]
    held = table[(table["arm"] == row["arm"]) & (table["system"] == system)].set_index("of_arm")
    start, stop = held.loc[inputs.study.arms[0]], held.loc[row["arm"]]
    data = pd.DataFrame(
        {"place": list(_PLACES.values()), "reference": [float(start[name]) for name in _PLACES],
         "compared": [float(stop[name]) for name in _PLACES]}
    )  # fmt: skip
    data["gain"] = data["compared"] - data["reference"]
    mean = data["place"] == "mean"
    for end in ("low", "high"):  # of the mean under the compared arm
        data[end] = (data["reference"] + _known(row["consensus"][end])).where(mean)

    def scene(size: tuple[float, float]) -> motion.Scene:
        figure, axis = theme.single(*size)
        theme.title(figure, SPEC.title)
        drawn = data[["reference", "compared", "low", "high"]]
        low, high = float(drawn.min().min()), float(drawn.max().max())
        pad = 0.08 * (high - low or 1.0)
        axis.set_xlim(low - pad, high + pad)
        axis.set_ylim(-0.7, len(data) - 0.3)
        axis.set_yticks(range(len(data) - 1, -1, -1), list(data["place"]), fontsize=9)
        axis.tick_params(axis="y", length=0)
        theme.numbers(axis, "x")
        axis.set_xlabel(words.outcome(inputs.study))
        marks.legend(
            figure,
            [*((f"everybody {arm}", theme.arm_colour(inputs.study.arms, arm), "dot")
               for arm in (inputs.study.arms[0], row["arm"])), ("95% interval of the mean", theme.INK, "line")],
        )  # fmt: skip
        return figure, [axis], lambda share: _paint(axis, data, share, inputs, row)

    figure, frames = motion.pictures(scene, form)
    held_row = row["consensus"]
    caption = (
        f"{row['contrast']}: on average {words.amount(inputs.study, held_row['estimate'])} "
        f"({words.amount(inputs.study, held_row['low'])} to {words.amount(inputs.study, held_row['high'])}, 95%). The "
        f"median moves by {words.amount(inputs.study, float(data.loc[data['place'] == 'median', 'gain'].iloc[0]))}, by "
        f"the {system.replace('_', '-')} system; quantiles are of all outcomes, not of the same learners."
    )
    return Drawing(figure, data, caption, f"Quantiles of the outcome under both arms. {caption}", frames=frames)


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _paint(axis: Any, data: pd.DataFrame, share: float, inputs: Inputs, row: Mapping[str, Any]) -> None:
    colours = [theme.arm_colour(inputs.study.arms, arm) for arm in (inputs.study.arms[0], row["arm"])]
    for place, item in enumerate(marks.each(data)):
        y = len(data) - 1 - place
        now = item.reference + share * item.gain
        axis.plot([item.reference, now], [y, y], color=colours[1], linewidth=2.5, alpha=0.5)
        axis.plot([item.reference], [y], marker="o", markersize=7, color=colours[0], markeredgecolor="white", zorder=3)
        axis.plot([now], [y], marker="o", markersize=9, color=colours[1], markeredgecolor="white", zorder=4)
        if share == 1 and not math.isnan(item.low):
            axis.plot([item.low, item.high], [y - 0.28] * 2, color=theme.INK, linewidth=1.6)
        axis.text(max(item.reference, now), y + 0.24, f"{share * item.gain:+,.3g}", fontsize=8.5, color=theme.INK,
                  ha="center", va="bottom")  # fmt: skip


SPEC = FigureSpec(
    name="learning_gain",
    title="How far learners move",
    question="By how much would weak and strong learners move if all of them had the programme?",
    draw=draw,
    needs=("counterfactual_systems",),
    family="flagship",
    forms=("2d", "animated"),
)
