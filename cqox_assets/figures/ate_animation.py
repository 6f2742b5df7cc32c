"""The average effect month by month, and what all months until then say together."""

import math
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw every month's interval and the pooled one as it narrows, all at once (2d) or month by month (animated)."""
    history = inputs.findings["history"]
    rows = history[history["contrast"] == history["contrast"].iloc[0]] if len(history) else history
    rows = with_pooled(rows[rows["estimate"].notna()].reset_index(drop=True))
    if rows["period"].nunique() < 2:
        raise NotDrawnError("there is one period with this question; the figure needs at least two")

    def scene(size: tuple[float, float]) -> motion.Scene:
        figure, axis = theme.single(*size)
        theme.title(figure, SPEC.title)
        theme.sides(axis)
        limits = marks.reach(rows["estimate"], rows[["low", "high", "pooled_low", "pooled_high"]], [0.0])
        axis.set_ylim(*limits)
        axis.set_xlim(-0.6, len(rows) - 0.4)
        axis.axhline(0, color=theme.INK, linewidth=1)
        step = max(1, math.ceil(len(rows) / 12))
        axis.set_xticks(range(0, len(rows), step), list(rows["period"])[::step], fontsize=8 if len(rows) < 8 else 7)
        axis.set_ylabel(words.effect(inputs.study, str(rows["scale"].iloc[0]), 44))
        theme.numbers(axis, "y")
        marks.legend(
            figure, [("month, 95% interval", theme.ARMS[0], "line"), ("all months until then", theme.INK, "area")]
        )
        return figure, [axis], lambda share: _paint(axis, rows, share, inputs)

    figure, frames = motion.pictures(scene, form)
    caption = _caption(inputs, rows)
    return Drawing(figure, rows, caption, f"Effects by month with intervals. {caption}", frames=frames)


def with_pooled(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the inverse-variance mean of all months until each one, with its 95% interval; NaN without errors."""
    weight = (1 / rows["std_error"] ** 2).where(rows["std_error"] > 0, 0.0).to_numpy(dtype=float)
    total = np.cumsum(weight)
    known = total > 0
    mean = np.divide(
        np.cumsum(weight * rows["estimate"].to_numpy()), total, out=np.full(len(rows), np.nan), where=known
    )
    half = marks.errors(0.95) / np.sqrt(np.where(known, total, np.nan))
    return rows.assign(pooled=mean, pooled_low=mean - half, pooled_high=mean + half)


def _paint(axis: Any, rows: pd.DataFrame, share: float, inputs: Inputs) -> None:
    count = max(1, math.ceil(share * len(rows)))
    held, (bottom, top) = rows.head(count), axis.get_ylim()
    places = np.arange(count)
    low, high = (np.clip(held[name].fillna(held["estimate"]), bottom, top) for name in ("low", "high"))
    axis.vlines(places, low, high, color=theme.ARMS[0], linewidth=2)
    axis.scatter(places, held["estimate"], s=40, color=theme.ARMS[0], edgecolor="white", zorder=4)
    ends = [np.clip(held[name], bottom, top) for name in ("pooled_low", "pooled_high")]
    axis.fill_between(places, *ends, color=theme.INK, alpha=0.15, linewidth=0)
    axis.plot(places, held["pooled"], color=theme.INK, linewidth=1.6)
    last = held.iloc[-1]
    said = "" if math.isnan(last["pooled"]) else (
        f"until {last['period']}: {words.amount(inputs.study, last['pooled'])} "
        f"({words.amount(inputs.study, last['pooled_low'])} to {words.amount(inputs.study, last['pooled_high'])})"
    )  # fmt: skip
    axis.text(0.0, 1.02, said, transform=axis.transAxes, fontsize=9.5, color=theme.INK, va="bottom")


def _caption(inputs: Inputs, rows: pd.DataFrame) -> str:
    last, study = rows.iloc[-1], inputs.study
    clear = int(((rows["low"] > 0) | (rows["high"] < 0)).sum())
    pooled = "" if math.isnan(last["pooled"]) else (
        f"Together they say {words.amount(study, last['pooled'])} ({words.amount(study, last['pooled_low'])} to "
        f"{words.amount(study, last['pooled_high'])}), if the effect is the same in all. "
    )  # fmt: skip
    return (
        f"{last['contrast']}, {last['estimand']}: {len(rows)} periods from {rows['period'].iloc[0]} to "
        f"{last['period']}, {clear} with an interval off no effect. {pooled}"
        "Each period is the consensus of its own analysis."
    )


SPEC = FigureSpec(
    name="ate_animation",
    title="The average effect by month",
    question="How does the effect change from month to month, and how sure are all months together?",
    draw=draw,
    needs=("history",),
    family="flagship",
    forms=("2d", "animated"),
    reference="Hedges & Olkin 1985, Statistical Methods for Meta-Analysis",
)
