"""Placebos of the synthetic control: gaps that units without treatment show."""

import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_NAME = "synthetic_control"
_MOST = 30  # ratios that a panel can carry legibly
_POOR = 5.0  # a placebo that fits this many times worse before treatment says little


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the gaps of all units on the left and the ratios of fit after and before on the right."""
    answer, study = inputs.answered()[_NAME], inputs.study
    gaps, table = answer.tables["placebo_gaps"], answer.tables["placebos"]
    if len(table) < 2:
        raise NotDrawnError("no donor could play the treated unit")
    own = table[table["treated"]].iloc[0]
    poor = set(table.loc[table["pre_rmspe"] > _POOR * own["pre_rmspe"], "unit"])
    data = gaps.assign(drawn=~gaps["unit"].isin(poor)).merge(table[["unit", "ratio"]], on="unit")
    figure, ((left, right),) = theme.grid(1, 2, (7.2, 4.6), widths=[3, 2])
    theme.title(figure, "Placebo gaps")
    colour = theme.arm_colour(study.arms, words.compared(study))
    theme.sides(left)
    kept = data[data["drawn"]]
    for _, block in kept[~kept["treated"]].groupby("unit"):
        left.plot(block["time"], block["gap"], color=theme.REFERENCE, linewidth=0.8, alpha=0.6)
    mine = data[data["treated"]]
    left.plot(mine["time"], mine["gap"], color=colour, linewidth=2.4, zorder=4)
    left.axhline(0, color=theme.INK, linewidth=1)
    left.set_ylim(*marks.reach(mine["gap"], kept["gap"], [0.0]))
    theme.times(left, data["time"])
    after = answer.tables["gaps"]
    marks.moment(left, float(after.loc[after["after"], "time"].min()), "treatment starts")
    left.set_xlabel(words.label(study, Role.TIME, 30))
    left.set_ylabel(f"gap in {words.outcome(study, 24)}")
    _ratios(right, table, colour)
    marks.legend(figure, [(str(own["unit"]), colour, "line"), ("units that were not treated", theme.REFERENCE, "line")])
    rank = int((~(table["ratio"] < own["ratio"])).sum())
    left_out = (
        f" {len(poor)} placebos that fit over {_POOR:g} times worse before are not drawn as lines." if poor else ""
    )
    found = (
        "The treated unit is fitted without error before treatment, so its ratio of fit after and before is not defined"
        if pd.isna(own["ratio"])
        else f"The treated unit's ratio of fit after and before is {own['ratio']:.3g}, rank {rank} of {len(table)}"
    )
    caption = f"{found}{'' if answer.p_value is None else f' (p = {answer.p_value:.3g})'}.{left_out}"
    return Drawing(figure, data, caption, f"Gaps over time of the treated unit and of placebo units. {caption}")


def _ratios(axis, table: pd.DataFrame, colour: str) -> None:  # type: ignore[no-untyped-def]
    own, table = table[table["treated"]], table.dropna(subset=["ratio"])
    if table.empty:
        axis.set_axis_off()
        return
    rows = table.sort_values("ratio", ascending=False, kind="stable").head(_MOST)
    if not rows["treated"].any():
        rows = pd.concat([rows.head(_MOST - 1), own.dropna(subset=["ratio"])])
    places = list(range(len(rows) - 1, -1, -1))
    colours = [colour if treated else theme.REFERENCE for treated in rows["treated"]]
    axis.hlines(places, 0, rows["ratio"], color=theme.GRID, linewidth=1.5)
    axis.scatter(rows["ratio"], places, color=colours, s=18, zorder=3)
    axis.set_yticks(places, [theme.squeeze(unit, 18) for unit in rows["unit"]], fontsize=7)
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(0, 1.06 * float(rows["ratio"].max()))
    theme.numbers(axis, "x", 4)
    axis.set_xlabel("misfit after over misfit before")


SPEC = FigureSpec(
    name="synthetic_control_placebos",
    title="Placebo gaps",
    question="Would units that were not treated show such a gap?",
    draw=draw,
    needs=("synthetic_control.placebo_gaps", "synthetic_control.placebos"),
    family="designs",
    reference="Abadie, Diamond & Hainmueller 2010, doi:10.1198/jasa.2009.ap08746",
)
