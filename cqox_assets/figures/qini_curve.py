"""Radcliffe's Qini curve: extra outcome among the targeted, from observed outcomes of both arms."""

import pandas as pd

from cqox_assets.diagnostics.targeting import qini_path
from cqox_assets.diagnostics.uplift import uplift_area
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, differing
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one panel per contrast, up to three, with the straight line of targeting at random."""
    study, held = inputs.study, differing(inputs, 3)
    figure, axes = theme.panels(len(held), 7.2, 1.2 + 2.9 * len(held))
    theme.title(figure, "Qini curve")
    z, parts = marks.errors(_LEVEL), []
    for axis, item in zip(axes, held, strict=True):
        rows = curve(item)
        rows = rows.assign(arm=item.arm, low=rows["gain"] - z * rows["std_error"],
                           high=rows["gain"] + z * rows["std_error"])  # fmt: skip
        colour = item.colour
        theme.sides(axis)
        marks.band(axis, rows["targeted"], (rows["low"], rows["high"]), colour)
        axis.plot(rows["targeted"], rows["gain"], color=colour, linewidth=2.2, zorder=3)
        axis.plot(rows["targeted"], rows["random"], color=theme.QUIET, linewidth=1.4, linestyle=(0, (4, 2.5)))
        axis.axhline(0, color=theme.INK, linewidth=0.8)
        axis.set_ylim(*marks.reach(rows["gain"], rows[["low", "high"]], [0.0]))
        axis.set_xlim(0, rows["targeted"].iloc[-1])
        theme.numbers(axis)
        axis.set_ylabel(f"extra sum of {words.outcome(study, 24)}")
        if len(study.arms) > 1:
            marks.heading(axis, item.words, 70)
        parts.append(rows)
    axes[-1].set_xlabel("units targeted, highest predicted effect first")
    first = held[0].colour
    marks.legend(figure, [("Qini curve, 95% band", first, "line"), ("targeting at random", theme.QUIET, "dashes")])
    caption = " ".join(_words_of(item) for item in held)
    if study.declaration.design != "trial":
        caption += (
            " The curve compares outcomes as observed, so in a study without random assignment confounding bends it."
        )
    return Drawing(figure, pd.concat(parts, ignore_index=True), caption, f"Qini curve with a straight line. {caption}")


def curve(item: UnitEffects) -> pd.DataFrame:
    """Return the Qini curve of a contrast."""
    y, d = item.study.column(Role.OUTCOME), item.study.column(Role.TREATMENT)
    return qini_path(item.effect, y, d, item.study.weights())


def _words_of(item: UnitEffects) -> str:
    table = item.answer.tables.get("uplift")
    coefficient = None
    if table is not None:
        mine = table[table["arm"] == item.arm] if "arm" in table else table
        value = mine.loc[mine["measure"] == "qini", "value"]
        coefficient = float(value.iloc[0]) if len(value) else None
    if coefficient is None:
        rows = curve(item)
        coefficient = uplift_area(rows["targeted"].to_numpy(), rows["gain"].to_numpy())[0]
    return (
        f"{item.arm}: the area between the curve and the straight line is {coefficient:.3g} per squared unit "
        f"({words.estimator(item.answer.estimator)}; the band takes the ranking as given)."
    )


SPEC = FigureSpec(
    name="qini_curve",
    title="Qini curve",
    question="Does targeting by predicted effect beat targeting at random?",
    draw=draw,
    needs=("unit_effects",),
    family="heterogeneity",
    reference="Radcliffe 2007, Using Control Groups to Target on Predicted Lift",
)
