"""Pairs of associations with treatment and outcome that a hidden confounder needs to explain the effect away."""

import math

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.confounding import needed_ratio
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_POINTS = 120


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the curve of the estimate and that of its interval's near end, for the headline of the first answer."""
    name, answer = next(iter(inputs.asked("e_value").items()))
    row = answer.table.iloc[0]
    if not row["e_value"] > 1:
        raise NotDrawnError(f"the effect of {words.estimator(name)} is none, so nothing is needed to explain it away")
    ends = {"estimate": float(row["e_value"])}
    if row["e_value_limit"] is not None and not math.isnan(row["e_value_limit"]) and row["e_value_limit"] > 1:
        ends["interval"] = float(row["e_value_limit"])
    right = max(3.0, 2.4 * ends["estimate"])
    data = pd.concat([_curve(kind, value, right) for kind, value in ends.items()], ignore_index=True)
    figure, axis = theme.single(7.2, 5.0)
    theme.sides(axis)
    theme.title(figure, "Confounding that would explain the effect away")
    colours = {"estimate": theme.INK, "interval": theme.LIMIT}
    for kind, block in data.groupby("curve", sort=False):
        colour = colours[str(kind)]
        axis.plot(block["with_treatment"], block["with_outcome"], color=colour, linewidth=2.2, zorder=3)
        value = ends[str(kind)]
        axis.plot([value], [value], "o", color=colour, markersize=7, markeredgecolor="white", zorder=4)
        late = kind == "estimate" or (value - 1) < 0.2 * (right - 1)
        axis.annotate(
            f"E-value {value:.2f}", (value, value), xytext=(7, 5 if kind == "estimate" else -6) if late else (-7, -5),
            textcoords="offset points", ha="left" if late else "right", color=colour, fontsize=8.5,
            va="bottom" if kind == "estimate" else "top", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        )  # fmt: skip
    first = data[data["curve"] == "estimate"]
    axis.fill_between(first["with_treatment"], first["with_outcome"], right, color=colours["estimate"], alpha=0.08)
    axis.set_xlim(1, right)
    axis.set_ylim(1, right)
    theme.numbers(axis)
    axis.set_xlabel("risk ratio of the hidden confounder with the treatment")
    axis.set_ylabel("risk ratio with the outcome")
    shown = [("explains the estimate away (at and beyond)", colours["estimate"], "line")]
    if "interval" in ends:
        shown.append(("moves the interval to no effect", colours["interval"], "line"))
    marks.legend(figure, shown)
    said = " The interval covers no effect already, so it needs no confounder."
    if "interval" in ends:
        said = f" Of {ends['interval']:.2f}, they move its interval to no effect."
    caption = (
        f"{words.estimator(name)}, {row['effect']}: associations of {ends['estimate']:.2f} with both explain the "
        f"estimate away.{said}"
    )
    return Drawing(figure, data, caption, f"Curves of pairs of risk ratios. {caption}")


def _curve(kind: str, value: float, right: float) -> pd.DataFrame:
    """Return the curve whose point on the diagonal is the E-value, up to `right`."""
    ratio = value**2 / (2 * value - 1)  # the bias factor of a confounder with this risk ratio on both sides
    x = np.geomspace(ratio * (1 + 1e-6), right, _POINTS) if ratio < right else np.array([right])
    x = np.unique(np.append(x, value))
    y = needed_ratio(x, ratio)
    kept = y <= right * 1.5
    return pd.DataFrame({"curve": kind, "with_treatment": x[kept], "with_outcome": y[kept]})


SPEC = FigureSpec(
    name="evalue_sensitivity_curve",
    title="Confounding that would explain the effect away",
    question="How strongly must a hidden confounder be tied to treatment and outcome to explain the effect away?",
    draw=draw,
    needs=("e_value",),
    family="sensitivity",
    reference="VanderWeele & Ding 2017, doi:10.7326/M16-2607",
)
