"""The worst p-value of matched pairs as hidden bias in their odds of treatment grows."""

import numpy as np

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_FLOOR = 1e-6  # smaller p-values all mean the same
_ALPHA = 0.05


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the largest and the smallest p-value that a bias of each size allows, one pair of lines per contrast."""
    study = inputs.study
    name, answer = next(iter(inputs.asked("rosenbaum_bounds").items()))
    data = answer.table[["contrast", "gamma", "p_upper", "p_lower", "pairs", "value"]].reset_index(drop=True)
    figure, axis = theme.single(7.2, 4.4)
    theme.sides(axis)
    theme.title(figure, "Hidden bias that matched pairs withstand")
    axis.set_yscale("log")
    shown = []
    for contrast, block in data.groupby("contrast", sort=False):
        arm = str(contrast).partition(" - ")[0]
        colour = theme.arm_colour(study.arms, arm)
        high, low = (np.clip(block[end], _FLOOR, 1) for end in ("p_upper", "p_lower"))
        axis.fill_between(block["gamma"], low, high, color=colour, alpha=0.15, linewidth=0)
        axis.plot(block["gamma"], high, color=colour, linewidth=2.2, marker="o", markersize=4)
        value = float(block["value"].iloc[0])
        if data["gamma"].min() < value < data["gamma"].max():
            axis.plot([value], [_ALPHA], "D", color=colour, markersize=7, markeredgecolor="white", zorder=5)
        shown.append((f"{arm}: worst p-value", colour, "line"))
    marks.level(axis, _ALPHA, "5%")
    axis.set_ylim(_FLOOR, 1.3)
    axis.set_yticks([1e-6, 1e-4, 1e-2, 1], ["under 0.000001", "0.0001", "0.01", "1"])
    axis.minorticks_off()
    axis.set_xlim(1, float(data["gamma"].max()) * 1.02)
    axis.set_xlabel("hidden bias: factor on the odds of treatment within a pair")
    axis.set_ylabel("one-sided p-value")
    marks.legend(figure, [*shown, ("range of p-values that the bias allows", theme.QUIET, "area")])
    parts = []
    for contrast, block in data.groupby("contrast", sort=False):
        parts.append(
            f"{contrast}: {int(block['pairs'].iloc[0]):,} pairs withstand a factor of {block['value'].iloc[0]:.2f}"
        )
    caption = f"{'; '.join(parts)} at the 5% level (diamond; asked about {words.estimator(name)})."
    return Drawing(figure, data, caption, f"Curve of the worst p-value by hidden bias. {caption}")


SPEC = FigureSpec(
    name="rosenbaum_bounds",
    title="Hidden bias that matched pairs withstand",
    question="How unequal may the hidden odds of treatment within matched pairs be?",
    draw=draw,
    needs=("rosenbaum_bounds",),
    family="sensitivity",
    reference="Rosenbaum 2002, doi:10.1007/978-1-4757-3692-2",
)
