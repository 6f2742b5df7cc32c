"""Three counterfactual systems side by side: outcomes, effects, averages, fit and their numbers."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import Findings
from cqox_assets.spec import Drawing, FigureSpec, Inputs

# Colours that the first contrast's arms never have, because one panel shows the arms themselves.
_SYSTEMS = {"linear": theme.ARMS[7], "nonlinear": theme.ARMS[3], "machine_learned": theme.ARMS[4]}
_NAMES = {"linear": "linear", "nonlinear": "nonlinear", "machine_learned": "machine-learned"}


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw five panels about the first contrast."""
    found: Findings = inputs.findings["counterfactual_systems"]
    row = found.content["contrasts"][0]
    tables = {name: table[table["arm"] == row["arm"]] for name, table in found.tables.items() if name != "units"}
    figure, axes = theme.grid(3, 2, (9.6, 9.2), heights=[1.15, 1.15, 0.72])
    theme.title(figure, f"{SPEC.title}: {theme.squeeze(row['contrast'], 40)}")
    _outcomes(axes[0][0], tables["outcome_distributions"], inputs)
    _effects(axes[0][1], tables["effect_histogram"], inputs)
    _averages(axes[1][0], tables["averages"], row, inputs)
    _fit(axes[1][1], tables["calibration"], inputs)
    axes[2][1].remove()
    place: Any = axes[2][0].get_subplotspec()
    axes[2][0].set_subplotspec(place.get_gridspec()[2, :])
    _numbers(axes[2][0], tables["fit"], tables["averages"])
    marks.legend(figure, [(_NAMES[name], colour, "line") for name, colour in _SYSTEMS.items()])
    parts = ("outcome_distributions", "effect_histogram", "averages", "calibration", "fit")
    data = pd.concat([tables[name].assign(panel=name) for name in parts], ignore_index=True)
    return Drawing(
        figure, data, row["sentence"], f"Five panels comparing three counterfactual systems. {row['sentence']}"
    )


def _outcomes(axis: Any, rows: pd.DataFrame, inputs: Inputs) -> None:
    """Draw the middle 90 % and half, the median and the mean of the outcome under either arm, per system."""
    labels, place = [], 0.0
    for name in _SYSTEMS:
        for row in marks.each(rows[rows["system"] == name]):
            tone = theme.arm_colour(inputs.study.arms, row.of_arm)
            axis.plot([row.q05, row.q95], [place, place], color=tone, linewidth=1.2)
            axis.plot([row.q25, row.q75], [place, place], color=tone, linewidth=6, solid_capstyle="butt", alpha=0.6)
            axis.plot([row.q50], [place], marker="|", markersize=9, color=theme.INK)
            axis.plot([row.mean], [place], marker="o", markersize=5, color=tone, markeredgecolor="white", zorder=4)
            labels.append((f"{_NAMES[name]}: {row.of_arm}", place))
            place -= 1.0
        place -= 0.4
    axis.set_yticks([at for _, at in labels], [theme.squeeze(text, 26) for text, _ in labels], fontsize=8)
    axis.tick_params(axis="y", length=0)
    theme.numbers(axis, "x", 5)
    axis.set_xlabel(f"{words.outcome(inputs.study, 44)}: middle 90 %, half", fontsize=8.5)
    marks.heading(axis, "If every unit had one arm", 40)


def _effects(axis: Any, rows: pd.DataFrame, inputs: Inputs) -> None:
    theme.sides(axis)
    for name, tone in _SYSTEMS.items():
        held = rows[rows["system"] == name]
        if len(held) == 1:
            axis.axvline(float(held["low"].iloc[0]), color=tone, linewidth=2)
            continue
        edges = np.append(held["low"].to_numpy(), held["high"].to_numpy()[-1])
        width = np.diff(edges)
        axis.stairs(held["share"].to_numpy() / width, edges, color=tone, linewidth=1.6)
    axis.axvline(0, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.set_ylim(bottom=0)
    axis.set_yticks([])
    theme.numbers(axis, "x", 5)
    axis.set_xlabel(words.effect(inputs.study, cells=44), fontsize=8.5)
    axis.set_ylabel("density of units", fontsize=8.5)
    marks.heading(axis, "Predicted effects of units", 40)


def _averages(axis: Any, rows: pd.DataFrame, row: Any, inputs: Inputs) -> None:
    held = row["consensus"]
    shown = [
        (_NAMES[item.system], item.estimate, item.low, item.high, _SYSTEMS[item.system]) for item in marks.each(rows)
    ]
    shown.append(("consensus", held["estimate"], held["low"], held["high"], theme.INK))
    frame = pd.DataFrame(shown, columns=["label", "estimate", "low", "high", "colour"])
    frame[["low", "high"]] = frame[["low", "high"]].astype(float)
    limits = marks.reach([*frame["estimate"], *rows["plug_in"]], frame[["low", "high"]], [0.0])
    marks.forest(axis, frame, limits, 0.0, 20)
    for place, value in zip((3, 2, 1), rows["plug_in"], strict=False):
        axis.plot([value], [place - 0.24], marker="D", markersize=4, markerfacecolor="white", color=theme.QUIET)
    axis.set_xlabel(f"{words.effect(inputs.study, cells=36)}; diamond: as predicted", fontsize=8.5)
    theme.numbers(axis, "x", 5)
    marks.heading(axis, "Average effect, 95% intervals", 40)


def _fit(axis: Any, rows: pd.DataFrame, inputs: Inputs) -> None:
    theme.sides(axis)
    ends = [float(rows[["predicted", "observed"]].min().min()), float(rows[["predicted", "observed"]].max().max())]
    axis.plot(ends, ends, color=theme.REFERENCE, linewidth=1, linestyle=(0, (4, 3)))
    for name, tone in _SYSTEMS.items():
        held = rows[rows["system"] == name]
        reach = 1.96 * held["std_error"].to_numpy()
        observed = held["observed"].to_numpy()
        axis.vlines(held["predicted"], observed - reach, observed + reach, color=tone, linewidth=1, alpha=0.7)
        axis.plot(held["predicted"], observed, marker="o", markersize=4, color=tone, linewidth=1.2)
    theme.numbers(axis, "xy", 5)
    axis.set_xlabel(f"predicted {words.outcome(inputs.study, 34)}", fontsize=8.5)
    axis.set_ylabel("observed, 95% intervals", fontsize=8.5)
    marks.heading(axis, "Fit on rows not seen, by tenths", 40)


def _numbers(axis: Any, fit: pd.DataFrame, averages: pd.DataFrame) -> None:
    axis.set_axis_off()
    head = ["", "average", "std. error", "as predicted", "R2 reference", "R2 compared", "RMSE"]
    rows = []
    for item, size in zip(marks.each(fit), marks.each(averages), strict=True):
        values = (size.estimate, size.std_error, size.plug_in, item.r2_reference, item.r2_compared, item.rmse)
        rows.append([_NAMES[item.system], *("none" if pd.isna(value) else f"{value:,.4g}" for value in values)])
    for line, cells in enumerate([head, *rows]):
        for column, text in enumerate(cells):
            axis.text(
                0.0 if column == 0 else 0.25 + 0.15 * (column - 0.15) * 0.95, 0.85 - 0.25 * line, text,
                transform=axis.transAxes, fontsize=8.5, ha="left" if column == 0 else "right", color=theme.INK,
                fontweight="bold" if line == 0 else "normal", va="center",
            )  # fmt: skip


SPEC = FigureSpec(
    name="counterfactual_comparison",
    title="What three counterfactual systems say",
    question="How far does the answer depend on the form of the model?",
    draw=draw,
    needs=("counterfactual_systems",),
    family="flagship",
)
