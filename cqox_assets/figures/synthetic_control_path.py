"""The treated unit beside its synthetic control, and the gap between them."""

import numpy as np
import pandas as pd

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_NAME = "synthetic_control"
_ENOUGH = 10  # placebos from which a spread can be read


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw both paths above, the gap below; the band is the middle of the gaps of units that were not treated."""
    answer, study = inputs.answered()[_NAME], inputs.study
    rows = spread(answer.tables["gaps"], answer.tables["placebo_gaps"])
    unit = answer.headline.contrast.partition(" - ")[0]
    figure, frames = motion.unveiled(lambda size: _scene(study, rows, unit, size), (7.2, 5.6), form)
    table = answer.tables["placebos"]
    own = table[table["treated"]].iloc[0]
    p = "" if answer.p_value is None else f", placebo p = {answer.p_value:.3g} from {len(table) - 1} other units"
    caption = (
        f"Mean gap after the start: {words.amount(study, answer.estimate)}{p}. Before it the paths differ by "
        f"{own['pre_rmspe']:.3g} (root mean square), after it by {own['post_rmspe']:.3g}."
    )
    alt = f"Two paths over time and the gap between them. {caption}"
    return Drawing(figure, rows, caption, alt, frames=frames)


def _scene(study: Study, rows: pd.DataFrame, unit: str, size: tuple[float, float]) -> motion.Timed:
    figure, (top, bottom) = theme.panels(2, *size, [3, 2])
    theme.title(figure, SPEC.title)
    colour = theme.arm_colour(study.arms, words.compared(study))
    starts = float(rows.loc[rows["after"], "time"].min())
    for axis in (top, bottom):
        theme.sides(axis)
    top.plot(rows["time"], rows["observed"], color=colour, linewidth=2.2)
    top.plot(rows["time"], rows["synthetic"], color=theme.REFERENCE, linewidth=2.2, linestyle=(0, (4, 2.5)))
    bottom.axhline(0, color=theme.INK, linewidth=1)
    marks.band(bottom, rows["time"], (rows["placebo_low"], rows["placebo_high"]), theme.REFERENCE, 0.3)
    bottom.plot(rows["time"], rows["gap"], color=colour, linewidth=2.2)
    bottom.set_ylim(*marks.reach(rows["gap"], rows[["placebo_low", "placebo_high"]], [0.0]))
    theme.times(top, rows["time"])
    theme.times(bottom, rows["time"])
    bottom.set_xlim(*top.get_xlim())
    marks.moment(top, starts, "treatment starts")
    bottom.axvline(starts, color=theme.INK, linewidth=1, linestyle=(0, (4, 3)))
    top.set_ylabel(words.outcome(study, 26))
    bottom.set_ylabel("gap")
    bottom.set_xlabel(words.label(study, Role.TIME, 60))
    drawn = [(unit, colour, "line"), (f"synthetic {unit}", theme.REFERENCE, "dashes")]
    banded = bool(rows["placebo_low"].notna().any())
    if banded:
        drawn.append(("middle 90% of placebo gaps", theme.REFERENCE, "area"))
    marks.legend(figure, drawn)
    return figure, [top, bottom]


def spread(gaps: pd.DataFrame, placebos: pd.DataFrame) -> pd.DataFrame:
    """Return the gaps with the 5th and 95th percentile of the placebo gaps per period, unknown with few placebos."""
    others = placebos[~placebos["treated"]]
    low, high = np.full(len(gaps), np.nan), np.full(len(gaps), np.nan)
    if others["unit"].nunique() >= _ENOUGH:
        ends = others.groupby("time")["gap"].quantile(np.array([0.05, 0.95])).unstack()
        low, high = (ends[share].reindex(gaps["time"]).to_numpy() for share in (0.05, 0.95))
    return gaps.assign(placebo_low=low, placebo_high=high)


SPEC = FigureSpec(
    name="synthetic_control_path",
    title="The treated unit and its synthetic control",
    question="What would have happened to the treated unit without treatment?",
    draw=draw,
    needs=("synthetic_control.gaps", "synthetic_control.placebo_gaps"),
    family="designs",
    forms=("2d", "animated"),
    reference="Abadie, Diamond & Hainmueller 2010, doi:10.1198/jasa.2009.ap08746",
)
