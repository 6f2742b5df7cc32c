"""The bootstrap's draws as a histogram with the interval that they give."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Inputs
from cqox_assets.study import Study


def draws_of(inputs: Inputs) -> tuple[EffectEstimate, pd.DataFrame] | None:
    """Return the bootstrap's answer and the histogram of its headline, if there is one."""
    answer = inputs.answered().get("bootstrap")
    if answer is None or not len(answer.tables.get("histogram", ())):
        return None
    table = answer.tables["histogram"]
    first = table.iloc[0]
    same = table["effect"] == first["effect"]
    if "arm" in table:
        same &= table["arm"] == first["arm"]
    return answer, table[same]


def histogram(axis: Any, study: Study, answer: EffectEstimate, table: pd.DataFrame) -> str:
    """Draw the draws, the estimate and its interval; return what the caption says of them."""
    head = answer.headline
    colour = theme.arm_colour(study.arms, words.arm_of(study, head))
    edges = [*table["low"], table["high"].iloc[-1]]
    marks.bars(axis, np.asarray(edges), table["count"], colour, 0.45)
    axis.axvline(head.null, color=theme.INK, linewidth=1)
    axis.axvline(head.estimate, color=colour, linewidth=2)
    ends = [] if head.interval is None else [head.interval.low, head.interval.high]
    for end in ends:
        axis.axvline(end, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    axis.set_xlim(*visuals.window([head.estimate], [*edges, *ends], [head.null]))
    theme.sides(axis)
    theme.numbers(axis)
    axis.yaxis.get_major_locator().set_params(nbins=4)
    axis.set_ylabel("draws")
    axis.set_xlabel(words.effect(study, head.scale))
    marks.heading(axis, f"Bootstrap of {head.estimand}: {head.contrast}", 80)
    return f" Below: {int(table['count'].sum()):,} draws, {answer.inference}; dashed lines are their interval."
