"""Density of the running variable on both sides of the cutoff."""

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_NAME = "regression_discontinuity"
_BINS = 20  # per side
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the histogram with bins that end at the cutoff, and both estimated densities there."""
    answer, study = inputs.answered()[_NAME], inputs.study
    test, cutoff = answer.tables["density"].iloc[0], float(answer.tables["bandwidth"]["cutoff"].iloc[0])
    running = study.studied().column(Role.RUNNING_VARIABLE)
    frame = bins(running, cutoff, 2.5 * max(test["h_left"], test["h_right"]))
    if frame["rows"].sum() == 0:
        raise NotDrawnError("no row lies near the cutoff")
    figure, axis = theme.single()
    theme.sides(axis)
    theme.title(figure, "Density around the cutoff")
    colour = words.side_colours(study, cutoff)
    for side, block in frame.groupby("side", sort=False):
        edges = np.append(block["low"], block["high"].iloc[-1])
        marks.bars(axis, edges, block["density"], colour[str(side)], 0.45)
    z = marks.errors(_LEVEL)
    shift = 0.012 * (frame["high"].max() - frame["low"].min())
    for side, place in (("left", cutoff - shift), ("right", cutoff + shift)):
        value, error = float(test[side]), float(test[f"{side}_error"])
        axis.errorbar([place], [value], yerr=z * error, fmt="o", color=theme.INK, markerfacecolor=colour[side],
                      markersize=7, elinewidth=2, capsize=3, zorder=5)  # fmt: skip
    top = max(frame["density"].max(), *(test[side] + z * test[f"{side}_error"] for side in ("left", "right")))
    axis.set_xlim(frame["low"].min(), frame["high"].max())
    axis.set_ylim(0, 1.08 * top)
    theme.numbers(axis)
    marks.moment(axis, cutoff, f"cutoff {cutoff:g}")
    axis.set_xlabel(words.label(study, Role.RUNNING_VARIABLE, 60))
    axis.set_ylabel("density")
    marks.legend(figure, [("share of rows per unit", theme.QUIET, "area"),
                          ("estimated density at the cutoff, 95% interval", theme.INK, "dot")])  # fmt: skip
    limit = answer.diagnostic("density_p")
    held = "" if limit is None or limit.threshold is None else f" (limit {limit.threshold:g})"
    beyond = int(len(running) - frame["rows"].sum())
    caption = (
        f"The density is {test['left']:.4g} left and {test['right']:.4g} right of {cutoff:g}; a difference like this "
        f"has {words.p_value(test['p_value'])}{held} when nobody chooses a side. {beyond:,} rows lie outside the "
        "picture."
    )
    data = frame.assign(at_cutoff=frame["side"].map({side: float(test[side]) for side in ("left", "right")}))
    return Drawing(figure, data, caption, f"Histogram of the running variable, split at the cutoff. {caption}")


def bins(running: np.ndarray, cutoff: float, reach: float) -> pd.DataFrame:
    """Return one row per bin: side, low, high, rows and density (share of all rows per unit)."""
    parts = []
    for side, sign in (("left", -1), ("right", 1)):
        far = float(np.max(sign * (running - cutoff), initial=0.0))
        end = min(reach, far) if far > 0 else reach
        edges = np.sort(cutoff + sign * np.linspace(0, end, _BINS + 1))
        values = running[(running >= cutoff) if side == "right" else (running < cutoff)]
        count = np.histogram(values, edges)[0]
        density = count / max(len(running), 1) / np.diff(edges)
        parts.append(
            pd.DataFrame({"side": side, "low": edges[:-1], "high": edges[1:], "rows": count, "density": density})
        )
    return pd.concat(parts, ignore_index=True)


SPEC = FigureSpec(
    name="rd_density",
    title="Density around the cutoff",
    question="Did units choose their side of the cutoff?",
    draw=draw,
    needs=("regression_discontinuity.density", "running_variable"),
    family="designs",
    reference="Cattaneo, Jansson & Ma 2020, doi:10.1080/01621459.2019.1635480",
)
