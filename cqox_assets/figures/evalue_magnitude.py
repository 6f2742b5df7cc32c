"""E-values of all estimates: how strong a hidden confounder each of them withstands."""

import math

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import _words as words
from cqox_assets.measures import MEASURES
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_MOST = 30


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one line per estimate: the E-value of its interval (full) and of its point (hollow), on a ratio scale."""
    rows = table_of(inputs)
    if rows.empty:
        raise NotDrawnError("no estimate has an E-value")
    limit = inputs.study.thresholds.get("e_value_limit", MEASURES["e_value_limit"].limit)
    total, rows = len(rows), rows.head(_MOST)
    count = len(rows)
    figure, axis = theme.single(7.2, 1.5 + 0.27 * count)
    theme.title(figure, "Hidden confounding that estimates withstand")
    right = max(2.0, 1.12 * float(rows["e_value"].replace(np.inf, np.nan).max()))
    places = list(range(count - 1, -1, -1))
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        colour = theme.SURE if row["limit_known"] > limit else theme.UNSURE
        point = min(row["e_value"], right)
        axis.plot([1, point], [place, place], color=theme.GRID, linewidth=2, zorder=1)
        axis.plot([point], [place], "o", markerfacecolor="white", markeredgecolor=colour, markersize=6, zorder=3)
        if not math.isnan(row["e_value_limit"]):
            marker = "o" if row["limit_known"] > limit else "X"
            axis.plot([min(row["e_value_limit"], right)], [place], marker, color=colour, markersize=6, zorder=4)
    axis.set_xscale("log")
    axis.set_xlim(0.97, right)
    ticks = [tick for tick in (1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000) if tick <= right]
    ticks = ticks if len(ticks) <= 8 else [tick for tick in ticks if tick not in (1.25, 1.5)][:8]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    visuals.threshold(axis, limit, f"limit {limit:g}")
    visuals.names(axis, list(rows["label"]), places, 8.5 if count <= 22 else 7.5, 46)
    axis.set_ylim(-0.7, count - 0.3)
    axis.set_xlabel("E-value: risk ratio needed with treatment and outcome alike")
    marks.legend(figure, [("of the interval, above the limit", theme.SURE, "dot"),
                          ("of the interval, below it (cross)", theme.UNSURE, "dot"),
                          ("of the estimate", theme.QUIET, "ring")])  # fmt: skip
    above = int((rows["limit_known"] > limit).sum())
    more = f" The first {count} of {total} are drawn." if total > count else ""
    caption = (
        f"{above} of {count} estimates keep their interval off no effect against a confounder of {limit:g}. The "
        f"weakest needs {rows['limit_known'].min():.2f}, the strongest {rows['limit_known'].max():.2f}.{more}"
    )
    return Drawing(figure, rows.drop(columns="limit_known"), caption, f"Dot plot of E-values. {caption}")


def table_of(inputs: Inputs) -> pd.DataFrame:
    """Return one row per estimate and contrast: label, estimator, contrast, e_value, e_value_limit, limit_known."""
    several = len(inputs.study.arms) > 2
    rows = []
    for name, answer in inputs.asked("e_value").items():
        for _, row in answer.table.iterrows():
            limit = row["e_value_limit"]
            limit = math.nan if limit is None else float(limit)
            label = words.estimator(name) + (f": {str(row['contrast']).partition(' - ')[0]}" if several else "")
            rows.append(
                (label, name, row["contrast"], float(row["e_value"]), limit, 1.0 if math.isnan(limit) else limit)
            )
    columns = ["label", "estimator", "contrast", "e_value", "e_value_limit", "limit_known"]
    return pd.DataFrame(rows, columns=columns)


SPEC = FigureSpec(
    name="evalue_magnitude",
    title="Hidden confounding that estimates withstand",
    question="Which estimates withstand hidden confounding, and how strong?",
    draw=draw,
    needs=("e_value",),
    family="sensitivity",
    reference="VanderWeele & Ding 2017, doi:10.7326/M16-2607",
)
