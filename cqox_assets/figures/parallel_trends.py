"""Mean outcome over time by group of first treatment, with the test of the earlier periods."""

import numpy as np

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.group_paths import paths_of
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_MOST = 7  # groups that can be told apart
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one line with its band per group; a dot marks each group's first treated period."""
    study = inputs.study
    rows = paths_of(study)
    if rows["time"].nunique() < 2:
        raise NotDrawnError("there is one period only, so nothing moves over time")
    groups = rows.groupby("group", sort=False)["units"].max()
    if len(groups) < 2:
        raise NotDrawnError("no unit stays untreated or starts at another time, so there is nothing to compare with")
    z = marks.errors(_LEVEL)
    rows = rows.assign(low=rows["mean"] - z * rows["std_error"], high=rows["mean"] + z * rows["std_error"])
    kept = list(groups.sort_values(ascending=False, kind="stable").index[:_MOST])
    names = [name for name in groups.index if name in kept]
    treated = [name for name in names if np.isfinite(rows.loc[rows["group"] == name, "starts"].iloc[0])]
    colours = {
        name: theme.ARMS[treated.index(name) % len(theme.ARMS)] if name in treated else theme.REFERENCE
        for name in names
    }  # fmt: skip
    drawn = rows[rows["group"].isin(kept)]

    def scene(size: tuple[float, float]) -> motion.Timed:
        figure, axis = theme.single(*size)
        theme.sides(axis)
        theme.title(figure, SPEC.title)
        for name, colour in colours.items():
            block = rows[rows["group"] == name]
            marks.band(axis, block["time"], (block["low"], block["high"]), colour)
            axis.plot(block["time"], block["mean"], color=colour, linewidth=2, zorder=3)
            first = block[block["time"] == block["starts"]]
            axis.plot(first["time"], first["mean"], "o", color=colour, markersize=7, markeredgecolor="white", zorder=4)
        axis.set_ylim(*marks.reach(drawn["mean"], drawn[["low", "high"]], list(drawn["mean"][:1])))
        theme.times(axis, rows["time"])
        axis.set_xlabel(words.label(study, Role.TIME, 60))
        axis.set_ylabel(f"mean {words.outcome(study)}")
        marks.legend(figure, [(f"{name} ({groups[name]:,} units)", tone, "line") for name, tone in colours.items()])
        return figure, [axis]

    figure, frames = motion.unveiled(scene, (7.2, 4.4), form)
    caption = _caption(inputs, len(groups), len(kept))
    alt = f"Lines of the mean outcome over time by group. {caption}"
    return Drawing(figure, drawn, caption, alt, frames=frames)


def _caption(inputs: Inputs, groups: int, kept: int) -> str:
    tested = [(name, item.diagnostic("pretrend_p")) for name, item in inputs.answered().items()]
    found = next(((name, item) for name, item in tested if item is not None and item.value is not None), None)
    test = " No test of the earlier periods could be computed."
    if found is not None and found[1] is not None:
        verdict = "may have moved alike" if (found[1].value or 0) > 0.05 else "did not move alike"
        test = (
            f" The joint test of the earlier periods by {words.estimator(found[0])} has "
            f"{words.p_value(found[1].value or 0.0)}: the groups {verdict} before treatment."
        )
    more = f" The {kept} largest of {groups} groups are drawn." if groups > kept else ""
    return f"{groups} groups by first treated period, dots mark it; bands are 95% intervals of the means.{test}{more}"


SPEC = FigureSpec(
    name="parallel_trends",
    title="Outcome over time by group",
    question="Did the groups move alike before treatment started?",
    draw=draw,
    needs=("unit", "time", "outcome", "treatment|cohort"),
    family="diagnostics",
    forms=("2d", "animated"),
    reference="Roth et al. 2023, doi:10.1016/j.jeconom.2023.03.008",
)
