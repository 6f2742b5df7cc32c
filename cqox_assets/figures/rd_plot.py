"""Regression discontinuity: binned means on both sides of the cutoff and the local fits whose gap is the effect."""

import numpy as np

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_NAME = "regression_discontinuity"


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw every bin within three bandwidths; the fit is drawn where it was fitted."""
    answer, study = inputs.answered()[_NAME], inputs.study
    rows, level = answer.tables["curve"], words.level_of(inputs, _NAME)
    z = marks.errors(level)
    rows = rows.assign(
        mean_low=rows["mean"] - z * rows["mean_error"], mean_high=rows["mean"] + z * rows["mean_error"],
        fit_low=rows["fit"] - z * rows["fit_error"], fit_high=rows["fit"] + z * rows["fit_error"],
    )  # fmt: skip
    cutoff = float(answer.tables["bandwidth"]["cutoff"].iloc[0])
    figure, axis = theme.single()
    theme.sides(axis)
    theme.title(figure, "Outcome around the cutoff")
    colours = words.side_colours(study, cutoff)
    for side, block in rows.groupby("side", sort=False):
        colour, inside = colours[str(side)], block[block["inside"]]
        axis.vlines(block["running"], block["mean_low"], block["mean_high"], color=colour, linewidth=0.7, alpha=0.4)
        axis.scatter(block["running"], block["mean"], s=14, color=colour, alpha=0.75, linewidths=0, zorder=2)
        marks.band(axis, inside["running"], (inside["fit_low"], inside["fit_high"]), colour, 0.25)
        axis.plot(inside["running"], inside["fit"], color=colour, linewidth=2.2, zorder=3)
    shown = rows.loc[rows["inside"], ["fit_low", "fit_high"]].to_numpy()
    axis.set_ylim(*marks.reach(rows["mean"], np.append(shown, rows[["mean_low", "mean_high"]]), list(rows["mean"][:1])))
    theme.numbers(axis)
    marks.moment(axis, cutoff, f"cutoff {cutoff:g}")
    axis.set_xlabel(words.label(study, Role.RUNNING_VARIABLE, 60))
    axis.set_ylabel(words.outcome(study))
    marks.legend(
        figure,
        [(f"mean per bin, {words.percent(level)} interval", theme.QUIET, "dot"),
         ("local fit and its interval", theme.QUIET, "line")],
    )  # fmt: skip
    caption = _caption(study, answer, cutoff) + marks.outside(rows["mean"], axis.get_ylim())
    return Drawing(figure, rows, caption, f"Binned scatter plot with a fitted line on each side of a cutoff. {caption}")


def _caption(study: Study, answer: EffectEstimate, cutoff: float) -> str:
    head, width = answer.headline, answer.tables["bandwidth"]
    interval = ""
    if head.interval is not None:
        low, high = (words.amount(study, end) for end in (head.interval.low, head.interval.high))
        interval = f" ({words.percent(head.interval.level)} interval {low} to {high})"
    left, right = (int(rows) for rows in width["rows"])
    return (
        f"{head.estimand} at {cutoff:g}: {words.amount(study, head.estimate)}{interval}, from {left:,} rows left "
        f"and {right:,} right within {width['h'].max():.4g} of the cutoff. The drawn fit is the local polynomial "
        "before its bias is taken off, so the drawn gap may differ from the estimate."
    )


SPEC = FigureSpec(
    name="rd_plot",
    title="Outcome around the cutoff",
    question="Does the outcome jump where the running variable crosses the cutoff?",
    draw=draw,
    needs=("regression_discontinuity.curve",),
    family="designs",
    reference="Calonico, Cattaneo & Titiunik 2015, doi:10.1080/01621459.2015.1017578",
)
