"""Mean outcome by dose, with pointwise intervals, a simultaneous band and where the doses lie."""

import numpy as np
import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_NAME = "dose_response"


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the curve above and the distribution of the doses below, on one axis of doses."""
    answer, study = inputs.answered()[_NAME], inputs.study
    rows = answer.tables["curve"].sort_values("dose")
    figure, (top, bottom) = theme.panels(2, 7.2, 5.0, [4, 1])
    theme.title(figure, "Dose and response")
    colour = theme.ARMS[0]
    theme.sides(top)
    level = words.level_of(inputs, _NAME)
    if {"band_low", "band_high"} <= set(rows):
        marks.band(top, rows["dose"], (rows["band_low"], rows["band_high"]), colour, 0.12)
    marks.band(top, rows["dose"], (rows["low"], rows["high"]), colour, 0.22)
    top.plot(rows["dose"], rows["estimate"], color=colour, linewidth=2.2)
    ends = rows[[name for name in ("low", "high", "band_low", "band_high") if name in rows]]
    top.set_ylim(*marks.reach(rows["estimate"], ends, list(rows["estimate"][:1])))
    top.set_xlim(rows["dose"].min(), rows["dose"].max())
    theme.numbers(top)
    top.set_ylabel(words.outcome(study))
    beyond = _doses(bottom, study, rows)
    marks.legend(
        figure,
        [("mean outcome had all units this dose", colour, "line"), (f"{words.percent(level)} interval", colour, "area"),
         ("wider: band around the whole curve", colour, "area")],
    )  # fmt: skip
    caption = _caption(study, answer, rows) + (f" {beyond:,} doses lie outside the curve." if beyond else "")
    return Drawing(figure, rows, caption, f"Curve of the mean outcome by dose with a band. {caption}")


def _doses(axis, study: Study, rows: pd.DataFrame) -> int:  # type: ignore[no-untyped-def]
    role = Role.DOSE if study.has(Role.DOSE) else Role.TREATMENT
    dose = study.studied().column(role)
    edges = np.linspace(rows["dose"].min(), rows["dose"].max(), 41)
    count = np.histogram(dose, edges)[0]
    marks.bars(axis, edges, count, theme.REFERENCE, 0.6)
    axis.set_xlim(edges[0], edges[-1])
    theme.numbers(axis)
    axis.yaxis.get_major_locator().set_params(nbins=2)
    axis.set_ylabel("rows")
    axis.set_xlabel(words.label(study, role, 60))
    return int(((dose < edges[0]) | (dose > edges[-1])).sum())


def _caption(study: Study, answer: EffectEstimate, rows: pd.DataFrame) -> str:
    first, last = rows.iloc[0], rows.iloc[-1]
    best = ""
    table = answer.tables.get("optimal_dose")
    if table is not None and len(table):
        row = table.iloc[0]
        edge = ", at the edge of the doses" if row["at_edge"] else ""
        best = f" It is {row['outcome']} at dose {row['dose']:.4g} ({row['low']:.4g} to {row['high']:.4g}){edge}."
    return (
        f"The mean outcome goes from {words.amount(study, first['estimate'])} at dose {first['dose']:.4g} to "
        f"{words.amount(study, last['estimate'])} at dose {last['dose']:.4g}.{best}"
    )


SPEC = FigureSpec(
    name="dose_response_curve",
    title="Dose and response",
    question="What would the mean outcome be had every unit received this dose?",
    draw=draw,
    needs=("dose_response.curve",),
    family="designs",
    reference="Kennedy et al. 2017, doi:10.1111/rssb.12212",
)
