"""How far treatment can travel: treated units first, then their neighbours, and theirs."""

import math
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _motion as motion
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._network import Neighbourhood, neighbourhood
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_MOST = 80
_ACTIVE, _REACHED = "#C62828", theme.ARMS[4]


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw who is reached with the curve of their number; the film activates one unit after the other."""
    part = neighbourhood(inputs.study, _MOST)
    data = part.nodes.assign(step=steps(part))
    data["order"] = data.sort_values(["step", "hops", "row"], kind="stable").assign(n=range(1, len(data) + 1))["n"]
    if not (data["step"] == 0).any():
        raise NotDrawnError("none of the units drawn was treated, so nothing can travel")

    def scene(size: tuple[float, float]) -> motion.Scene:
        figure, rows = theme.grid(1, 2, size, widths=[1.7, 1.0])
        theme.title(figure, SPEC.title)
        network, curve = rows[0]
        network.set_axis_off()
        network.set_aspect("equal")
        for name, bounds in (("x", network.set_xlim), ("y", network.set_ylim)):
            low, high = float(data[name].min()), float(data[name].max())
            bounds(low - 0.06 * (high - low), high + 0.06 * (high - low))
        theme.sides(curve)
        furthest = float(data.loc[np.isfinite(data["step"]), "step"].max())
        curve.set_xlim(-0.2, max(furthest, 1.0) + 0.2)
        curve.set_ylim(0, 1.05)
        curve.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        curve.set_xlabel("ties to the nearest treated unit")
        curve.set_ylabel("share of the units drawn")
        theme.whole(curve)
        marks.legend(
            figure, [("treated", _tone(inputs), "dot"), ("reached", _REACHED, "dot"),
                     ("not yet", theme.GRID, "dot"), ("active tie", _ACTIVE, "line")],
        )  # fmt: skip
        return figure, [network, curve], lambda share: _paint((network, curve), part, data, share, inputs)

    figure, frames = motion.pictures(scene, form)
    caption = _caption(part, data)
    return Drawing(
        figure, data, caption, f"Network of units by the order in which they are reached. {caption}", frames=frames
    )


def steps(part: Neighbourhood) -> np.ndarray:
    """Return the ties between each unit drawn and its nearest treated one, inf where no treated unit can be reached."""
    step = np.where(part.nodes["treated"].to_numpy() > 0, 0.0, np.inf)
    ends = part.ties[["source", "target"]].to_numpy(dtype=int)
    for _ in range(len(step)):
        before = step.copy()
        for one, other in ((0, 1), (1, 0)):
            np.minimum.at(step, ends[:, other], before[ends[:, one]] + 1)
        if (step == before).all():
            break
    return step


def _tone(inputs: Inputs) -> str:
    return theme.arm_colour(inputs.study.arms, words.compared(inputs.study))


def _paint(axes: Any, part: Neighbourhood, data: pd.DataFrame, share: float, inputs: Inputs) -> None:
    from matplotlib.collections import LineCollection

    network, curve = axes
    place, step = data[["x", "y"]].to_numpy(), data["step"].to_numpy()
    count = max(1, math.ceil(share * int(np.isfinite(step).sum())))
    active = (data["order"].to_numpy() <= count) & np.isfinite(step)
    ends = part.ties[["source", "target"]].to_numpy(dtype=int)
    carrying = active[ends].all(axis=1) & (
        np.abs(np.diff(np.where(np.isfinite(step), step, -9)[ends], axis=1))[:, 0] == 1
    )
    for chosen, tone, wide in ((~carrying, theme.GRID, 0.9), (carrying, _ACTIVE, 1.4)):
        network.add_collection(LineCollection(list(place[ends[chosen]]), colors=tone, linewidths=wide, zorder=1))
    tones = np.where(~active, theme.GRID, np.where(step == 0, _tone(inputs), _REACHED))
    network.scatter(place[:, 0], place[:, 1], s=44, c=list(tones), edgecolors="white", linewidths=0.8, zorder=3)
    waves = np.arange(int(step[active].max()) + 1)
    reached = np.array([(active & (step <= wave)).sum() for wave in waves]) / len(data)
    curve.plot(waves, reached, color=_REACHED, linewidth=2.2, marker="o", markersize=6)
    curve.plot([0], reached[:1], marker="o", color=_tone(inputs), markersize=8, zorder=4)
    network.text(0, 1.0, f"{int(active.sum())} of {len(data)} reached", transform=network.transAxes, fontsize=10,
                 color=theme.INK, va="bottom")  # fmt: skip


def _caption(part: Neighbourhood, data: pd.DataFrame) -> str:
    step = data["step"].to_numpy()
    direct, far = int((step == 1).sum()), int((np.isfinite(step) & (step > 1)).sum())
    never = int((~np.isfinite(step)).sum())
    lost = f" {never} cannot be reached." if never else ""
    return (
        f"Of {len(data)} units drawn {int((step == 0).sum())} were treated, {direct} are their neighbours and {far} "
        f"are further away.{lost} The order is the number of ties to the nearest treated unit, not an observed time; "
        f"effects were estimated for direct neighbours. {len(data):,} of {part.units:,} units and {len(part.ties):,} "
        f"of {part.edges:,} ties are drawn."
    )


SPEC = FigureSpec(
    name="spillover_dynamics",
    title="How far treatment can travel",
    question="How many units does treatment reach through ties, and in which order?",
    draw=draw,
    needs=("network_effects.exposure", "treatment"),
    family="flagship",
    forms=("2d", "animated"),
    reference="Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
)
