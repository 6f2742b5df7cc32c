"""First stage: how the treatment moves with each instrument, given covariates and the other instruments."""

import math
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.partial import binned_means, partialled
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_NAME = "iv"
_MOST = 4  # instruments that a page can carry legibly
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw binned means of treatment against each instrument, both net of what else is in the first stage."""
    answer, study = inputs.answered()[_NAME], inputs.study
    strong = answer.tables["first_stage"]
    study = study.studied()
    names = [name for name in study.names(Role.INSTRUMENTS) if name in set(strong["instrument"])]
    frame = pd.concat([_means(study, name) for name in names[:_MOST]], ignore_index=True) if names else pd.DataFrame()
    if frame.empty or study.treatment_kind.value == "categorical":
        raise NotDrawnError("the first stage is not one regression of one treatment on the mapped instruments")
    columns = min(len(names[:_MOST]), 2)
    lines = math.ceil(len(names[:_MOST]) / columns)
    figure, axes = theme.grid(lines, columns, (7.2, 0.9 + 2.9 * lines))
    theme.title(figure, "First stage")
    places = [axis for row in axes for axis in row]
    for axis, (name, block) in zip(places, frame.groupby("instrument", sort=False), strict=False):
        _panel(axis, study, str(name), block)
    for axis in places[len(names) :]:
        axis.set_visible(False)
    marks.legend(figure, [("mean per bin, 95% interval", theme.ARMS[0], "dot"), ("fitted line", theme.INK, "line")])
    f = answer.diagnostic("first_stage_f")
    strength = "" if f is None or f.value is None else f" The effective F is {f.value:,.4g} (limit {f.threshold:g})."
    slopes = ", ".join(f"{study.label(str(name))} {slope:.3g}" for name, slope in
                       frame.groupby("instrument", sort=False)["slope"].first().items())  # fmt: skip
    more = f" {len(names) - _MOST} more instruments are not drawn." if len(names) > _MOST else ""
    caption = f"Change of the treatment per unit of the instrument: {slopes}.{strength}{more}"
    return Drawing(figure, frame, caption, f"Binned scatter plots of treatment against instrument. {caption}")


def _means(study: Study, name: str) -> pd.DataFrame:
    """Return binned means of what covariates and the other instruments leave of instrument and treatment."""
    others = [other for other in study.names(Role.INSTRUMENTS) if other != name]
    z = study.frame[name].to_numpy(dtype=float)
    rest = np.column_stack([study.matrix(), study.frame[others].to_numpy(dtype=float)])
    x, y, slope = partialled(z, study.column(Role.TREATMENT), rest, study.weights())
    return binned_means(x, y, 20, study.weights()).assign(
        instrument=name, slope=slope, intercept=y.mean() - slope * x.mean()
    )


def _panel(axis: Any, study: Study, name: str, block: pd.DataFrame) -> None:
    z = marks.errors(_LEVEL)
    theme.sides(axis)
    axis.vlines(block["x"], block["mean"] - z * block["std_error"], block["mean"] + z * block["std_error"],
                color=theme.ARMS[0], linewidth=1.2)  # fmt: skip
    axis.scatter(block["x"], block["mean"], s=22, color=theme.ARMS[0], zorder=3)
    ends = np.array([block["x"].min(), block["x"].max()])
    axis.plot(ends, block["intercept"].iloc[0] + block["slope"].iloc[0] * ends, color=theme.INK, linewidth=1.6)
    theme.numbers(axis, nbins=5)
    marks.heading(axis, study.label(name), 40)
    axis.set_xlabel("instrument, net of covariates")
    axis.set_ylabel(
        theme.shorten(f"share {study.arms[1]}" if len(study.arms) == 2 else words.label(study, Role.TREATMENT), 26)
    )


SPEC = FigureSpec(
    name="first_stage",
    title="First stage",
    question="Do the instruments move the treatment?",
    draw=draw,
    needs=("iv.first_stage", "instruments"),
    family="designs",
    reference="Montiel Olea & Pflueger 2013, doi:10.1080/00401706.2013.806694",
)
