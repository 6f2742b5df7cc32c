"""How the predicted effects of units are distributed, with their mean, its interval and no effect."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.figures import _bootstrap as bootstrap
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects, differing
from cqox_assets.result import Effect
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_SORTED = 400  # places along the sorted effects


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw a histogram per contrast; below, sorted effects with intervals where units have them, and the bootstrap."""
    study, held = inputs.study, differing(inputs)
    drawn = bootstrap.draws_of(inputs)
    sure = [item for item in held if {"low", "high"} <= set(item.rows)][:1]
    ratios = [1.6] * len(held) + [1.8] * len(sure) + ([1.3] if drawn is not None else [])
    figure, axes = theme.panels(len(ratios), 7.2, 1.0 + 1.35 * sum(ratios), ratios)
    theme.title(figure, "Distribution of unit effects")
    frames = [_histogram(axis, item) for axis, item in zip(axes, held, strict=False)]
    said = "".join(_ranked(axes[len(held)], item) for item in sure)
    if drawn is not None:
        said += bootstrap.histogram(axes[-1], study, *drawn)
    marks.legend(figure, [("mean effect and its interval", theme.INK, "line"),
                          ("no effect", theme.INK, "dashes")])  # fmt: skip
    data = pd.concat(frames, ignore_index=True)
    caption = " ".join(_words_of(item) for item in held) + said
    return Drawing(figure, data, caption, f"Histograms of predicted unit effects. {caption}")


def _mean(item: UnitEffects) -> Effect | None:
    """Return the average effect of the same contrast by the same estimator."""
    effects = item.answer.effects
    return next((effect for effect in effects if effect.at.get("arm", item.arm) == item.arm), None)


def _histogram(axis: Any, item: UnitEffects) -> pd.DataFrame:
    edges, beyond = marks.bins_of(item.effect)
    counts = np.histogram(item.effect, edges, weights=item.sampling)[0] / item.sampling.sum()
    colour = item.colour
    marks.bars(axis, edges, counts, colour, 0.6)
    theme.sides(axis)
    mean = _mean(item)
    axis.axvline(0.0, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)), zorder=4)
    if mean is not None:
        axis.axvline(mean.estimate, color=theme.INK, linewidth=2, zorder=5)
        if mean.interval is not None and np.isfinite([mean.interval.low, mean.interval.high]).all():
            axis.axvspan(mean.interval.low, mean.interval.high, color=theme.INK, alpha=0.15, zorder=1)
    axis.set_xlim(*_limits(item, edges))
    theme.numbers(axis)
    axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axis.set_ylabel("share of units")
    axis.set_xlabel(f"predicted {words.effect(item.study)}")
    if len(item.arms) > 1:
        marks.heading(axis, item.words, 70)
    return pd.DataFrame({"arm": item.arm, "low": edges[:-1], "high": edges[1:], "share": counts, "beyond": beyond})


def _limits(item: UnitEffects, edges: np.ndarray) -> tuple[float, float]:
    low, high = min(float(edges[0]), 0.0), max(float(edges[-1]), 0.0)
    pad = 0.03 * (high - low)
    return low - pad, high + pad


def _ranked(axis: Any, item: UnitEffects) -> str:
    """Draw effects from the lowest to the highest with their intervals, at up to `_SORTED` evenly spaced ranks."""
    rows = item.rows.sort_values("effect", kind="stable").reset_index(drop=True)
    picked = rows.iloc[marks.evenly(len(rows), _SORTED)]
    share = (picked.index.to_numpy() + 0.5) / len(rows)
    colour = item.colour
    marks.band(axis, share, (picked["low"], picked["high"]), colour, 0.25)
    axis.plot(share, picked["effect"], color=colour, linewidth=2)
    axis.axhline(0.0, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    theme.sides(axis)
    axis.set_ylim(*marks.reach(picked["effect"], picked[["low", "high"]], [0.0]))
    theme.numbers(axis)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_xlim(0, 1)
    axis.set_xlabel("units from the lowest to the highest effect")
    axis.set_ylabel(theme.shorten(words.effect(item.study, cells=24), 34))
    clear = float(((rows["low"] > 0) | (rows["high"] < 0)).mean())
    drawn = f" ({len(picked):,} of {len(rows):,}, evenly spaced in their order)" if len(picked) < len(rows) else ""
    return f" In the middle, effects with pointwise intervals{drawn}: {clear:.0%} of the units have one off zero."


def _words_of(item: UnitEffects) -> str:
    low, middle, high = (words.amount(item.study, float(end)) for end in np.quantile(item.effect, [0.05, 0.5, 0.95]))
    return (
        f"{item.arm}: the middle 90% of predicted effects run from {low} to {high}, the median is {middle} "
        f"({words.estimator(item.answer.estimator)})."
    )


SPEC = FigureSpec(
    name="cate_distribution",
    title="Distribution of unit effects",
    question="How much do predicted effects differ between units?",
    draw=draw,
    needs=("unit_effects",),
    family="heterogeneity",
    reference="Athey & Imbens 2016, doi:10.1073/pnas.1510489113",
)
