"""Gain per unit when units are treated from the highest predicted effect down, adjusted for confounding."""

from typing import Any

import pandas as pd

from cqox_assets.diagnostics.targeting import uplift_path
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, differing
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one curve with its band per contrast; straight lines are the gain of treating units drawn at random."""
    study, held = inputs.study, differing(inputs)
    figure, axis = theme.single(7.2, 4.4)
    theme.sides(axis)
    theme.title(figure, "Gain from treating the most responsive first")
    z, parts = marks.errors(_LEVEL), []
    for item in held:
        rows = uplift_path(item.effect, item.score, item.sampling)
        parts.append(rows.assign(arm=item.arm, low=rows["gain"] - z * rows["std_error"],
                                 high=rows["gain"] + z * rows["std_error"]))  # fmt: skip
        _curve(axis, item, parts[-1])
    data = pd.concat(parts, ignore_index=True)
    axis.set_ylim(*marks.reach(data["gain"], data[["low", "high"]], [0.0]))
    theme.numbers(axis)
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_xlabel("share of units treated, highest predicted effect first")
    axis.set_ylabel(f"gain per unit in {words.outcome(study, 28)}")
    colours = [(f"{item.arm}, 95% band", item.colour, "line") for item in held]
    marks.legend(figure, [*colours, ("same share at random", theme.QUIET, "dashes")])
    caption = " ".join(_words_of(inputs, item, part) for item, part in zip(held, parts, strict=True))
    return Drawing(figure, data, caption, f"Curve of the gain by the share of units treated. {caption}")


def _curve(axis: Any, item: UnitEffects, rows: pd.DataFrame) -> None:
    colour = item.colour
    marks.band(axis, rows["share"], (rows["low"], rows["high"]), colour)
    axis.plot(rows["share"], rows["gain"], color=colour, linewidth=2.2, zorder=3)
    axis.plot([0, 1], [0, rows["random"].iloc[-1]], color=theme.QUIET, linewidth=1.4, linestyle=(0, (4, 2.5)))
    axis.axhline(0, color=theme.INK, linewidth=0.8)


def _words_of(inputs: Inputs, item: UnitEffects, rows: pd.DataFrame) -> str:
    worse = inputs.study.declaration.direction == "lower_is_better"
    gain = rows["gain"].to_numpy()
    best = rows.iloc[int((-gain if worse else gain).argmax())]
    all_in = rows["gain"].iloc[-1]
    return (
        f"{item.arm}: treating the {best['share']:.0%} predicted to respond most changes the outcome by "
        f"{words.amount(item.study, float(best['gain']))} per unit, treating all by "
        f"{words.amount(item.study, float(all_in))} ({words.estimator(item.answer.estimator)}, doubly robust scores; "
        "the band takes the ranking as given)."
    )


SPEC = FigureSpec(
    name="uplift_curve",
    title="Gain from treating the most responsive first",
    question="How much would be gained by treating only the units predicted to respond most?",
    draw=draw,
    needs=("unit_effects",),
    family="heterogeneity",
    reference="Yadlowsky et al. 2025, doi:10.1080/01621459.2024.2393466",
)
