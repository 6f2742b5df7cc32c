"""Interrupted time series: the fitted segments and the old trend going on."""

import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_NAME = "interrupted_time_series"


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw what was observed, what was fitted, and after the change what was expected without it, all or over time."""
    answer, study = inputs.answered()[_NAME], inputs.study
    level = words.level_of(inputs, _NAME)
    z = marks.errors(level)
    rows = answer.tables["counterfactual"]
    rows = rows.assign(
        **{f"{name}_{end}": rows[name] + sign * z * rows[f"{name}_error"]
           for name in ("fitted", "without") for end, sign in (("low", -1), ("high", 1))}
    )  # fmt: skip
    after = rows[rows["treated"] == 1]
    figure, frames = motion.unveiled(lambda size: _scene(study, rows, level, size), (7.2, 4.4), form)
    said = marks.thinned(len(rows)) + marks.outside(rows["observed"], figure.axes[0].get_ylim())
    caption = _caption(study, answer, len(rows), len(after)) + said
    alt = f"Time series with fitted segments and the old trend extended. {caption}"
    return Drawing(figure, rows, caption, alt, frames=frames)


def _scene(study: Study, rows: pd.DataFrame, level: float, size: tuple[float, float]) -> motion.Timed:
    after = rows[rows["treated"] == 1]
    figure, axis = theme.single(*size)
    theme.sides(axis)
    theme.title(figure, SPEC.title)
    marks.cloud(axis, rows["time"], rows["observed"], theme.QUIET, 10)
    colour = theme.arm_colour(study.arms, words.compared(study))
    for _, block in rows.groupby("treated", sort=False):
        marks.band(axis, block["time"], (block["fitted_low"], block["fitted_high"]), colour, 0.25)
        axis.plot(block["time"], block["fitted"], color=colour, linewidth=2.2, zorder=4)
    marks.band(axis, after["time"], (after["without_low"], after["without_high"]), theme.REFERENCE, 0.35)
    axis.plot(after["time"], after["without"], color=theme.INK, linewidth=1.8, linestyle=(0, (4, 2.5)), zorder=3)
    ends = rows[["fitted_low", "fitted_high", "without_low", "without_high"]]
    axis.set_ylim(*marks.reach(rows["observed"], ends, list(rows["fitted"][:1])))
    theme.times(axis, rows["time"])
    marks.moment(axis, float(after["time"].min()), "the change")
    axis.set_xlabel(words.label(study, Role.TIME, 60))
    axis.set_ylabel(words.outcome(study))
    marks.legend(
        figure,
        [("observed", theme.QUIET, "dot"), (f"fitted, {words.percent(level)} interval", colour, "line"),
         ("expected without the change", theme.INK, "dashes")],
    )  # fmt: skip
    return figure, [axis]


def _caption(study: Study, answer: EffectEstimate, periods: int, after: int) -> str:
    parts = []
    for effect in answer.effects:
        interval = effect.interval
        ends = (
            ""
            if interval is None
            else f" ({words.amount(study, interval.low, effect.scale)} to "
            f"{words.amount(study, interval.high, effect.scale)})"
        )
        scale = "" if effect.scale == "difference" else f" as {effect.scale.replace('_', ' ')}"
        parts.append(f"{str(effect.estimand).replace('_', ' ')}{scale} "
                     f"{words.amount(study, effect.estimate, effect.scale)}{ends}")  # fmt: skip
    return f"{'; '.join(parts).capitalize()}, from {periods - after:,} periods before and {after:,} after."


SPEC = FigureSpec(
    name="its_segments",
    title="The series before and after the change",
    question="Did the level or slope of the series change, compared with its old trend going on?",
    draw=draw,
    needs=("interrupted_time_series.counterfactual",),
    family="designs",
    forms=("2d", "animated"),
    reference="Lopez Bernal, Cummins & Gasparrini 2017, doi:10.1093/ije/dyw098",
)
