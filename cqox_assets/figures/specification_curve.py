"""The estimate under every reasonable specification, sorted, and the choices behind each."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_CHOICES = ("estimator", "estimand", "covariate_set", "sample")
_MOST = 26  # lines of choices
_SPECIFICATIONS = 400


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw sorted estimates with intervals above and one mark per choice below."""
    table = next(iter(inputs.asked("specification_curve").values())).table
    rows = table[np.isfinite(table["estimate"])].sort_values("estimate", kind="stable").reset_index(drop=True)
    if len(rows) < 2:
        raise NotDrawnError("fewer than two specifications could be estimated")
    total = len(rows)
    rows = rows.iloc[marks.evenly(total, _SPECIFICATIONS)].reset_index(drop=True)
    lines = choices_of(rows)
    figure, (top, bottom) = theme.panels(2, 7.4, 3.5 + 0.2 * len(lines), [3.1, 0.2 * len(lines) + 0.3])
    theme.title(figure, "The estimate under every specification")
    place = np.arange(len(rows))
    limits = marks.reach(rows["estimate"], rows[["low", "high"]], [0.0])
    colours = np.where((rows["low"] > 0) | (rows["high"] < 0), theme.ARMS[0], theme.REFERENCE)
    theme.sides(top)
    top.vlines(place, rows["low"].clip(*limits), rows["high"].clip(*limits), color=colours, linewidth=1.0, alpha=0.6)
    top.scatter(place, rows["estimate"], color=colours, s=10 if len(rows) > 60 else 18, zorder=3)
    top.axhline(0, color=theme.INK, linewidth=1)
    middle = float(rows["estimate"].median())
    top.axhline(middle, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    top.set_ylim(*limits)
    top.set_xticks([])
    theme.numbers(top, "y")
    top.set_ylabel(theme.shorten(words.effect(inputs.study, cells=26), 36), fontsize=9)
    _choices(bottom, rows, lines)
    for axis in (top, bottom):
        axis.set_xlim(-0.8, len(rows) - 0.2)
    bottom.set_xlabel("specifications, sorted by their estimate")
    marks.legend(
        figure,
        [("interval off no effect", theme.ARMS[0], "dot"), ("interval covers it", theme.REFERENCE, "dot"),
         ("median", theme.INK, "dashes")],
    )  # fmt: skip
    off = int(((rows["low"] > 0) | (rows["high"] < 0)).sum())
    same = float((np.sign(rows["estimate"]) == np.sign(middle)).mean())
    ends = [words.amount(inputs.study, float(rows["estimate"].iloc[end])) for end in (0, -1)]
    said = f" {len(rows)} of {total} are drawn, evenly spaced." if total > len(rows) else ""
    caption = (
        f"{total} specifications: {ends[0]} to {ends[1]}, median {words.amount(inputs.study, middle)}; {same:.0%} have "
        f"its sign and {off} of {len(rows)} an interval off no effect.{said}"
    )
    return Drawing(figure, rows, caption, f"Sorted estimates with intervals and a matrix of choices. {caption}")


def choices_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (column, value) of every choice that was made in more than one way, the most common values first."""
    found: list[tuple[str, str]] = []
    for column in _CHOICES:
        if column in rows and rows[column].nunique() > 1:
            found += [(column, str(value)) for value in rows[column].astype(str).value_counts(sort=True).index]
    return found[:_MOST]


def _choices(axis: Any, rows: pd.DataFrame, lines: list[tuple[str, str]]) -> None:
    count = len(lines)
    for line, (column, value) in enumerate(lines):
        inside = np.flatnonzero(rows[column].astype(str) == value)
        shade = theme.ARMS[_CHOICES.index(column) % len(theme.ARMS)]
        axis.scatter(inside, np.full(len(inside), count - 1 - line), marker="|", s=26, color=shade, linewidths=1.2)
    labels = [theme.squeeze(f"{value.replace('_', ' ')}", 34) for _, value in lines]
    axis.set_yticks(range(count - 1, -1, -1), labels, fontsize=7.5)
    axis.set_ylim(-0.7, max(count - 0.3, 0.7))
    axis.tick_params(axis="y", length=0)
    axis.set_xticks([])
    axis.grid(visible=False)
    breaks = [place for place in range(1, count) if lines[place][0] != lines[place - 1][0]]
    for place in breaks:
        axis.axhline(count - 0.5 - place, color=theme.GRID, linewidth=1)


SPEC = FigureSpec(
    name="specification_curve",
    title="The estimate under every specification",
    question="Does the answer depend on how the model was specified?",
    draw=draw,
    needs=("specification_curve",),
    family="sensitivity",
    reference="Simonsohn, Simmons & Nelson 2020, doi:10.1038/s41562-020-0912-z",
)
