"""Who is tied to whom, who was treated, and who has treated neighbours: a part of the network that can be read."""

from typing import Any

import numpy as np

from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._network import Neighbourhood, neighbourhood
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_MOST = 120  # units that a page can carry legibly


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the units around the one with the most ties; treated ones are full, rings mark treated neighbours."""
    study, part = inputs.study, neighbourhood(inputs.study, _MOST)
    figure, axis = theme.single(7.2, 5.0)
    theme.title(figure, "Ties between units")
    axis.set_axis_off()
    axis.set_aspect("equal")
    treated, reached = part.nodes["treated"].to_numpy(), part.nodes["treated_neighbours"].to_numpy() > 0
    _ties(axis, part, treated)
    colour = theme.arm_colour(study.arms, words.compared(study))
    faces = np.where(treated > 0, colour, np.where(reached, "#ffffff", theme.REFERENCE))
    rims = np.where(treated > 0, colour, np.where(reached, colour, theme.REFERENCE))
    axis.scatter(part.nodes["x"], part.nodes["y"], s=46, c=faces, edgecolors=list(rims), linewidths=1.6, zorder=3)
    marks.legend(
        figure,
        [("treated", colour, "dot"), ("untreated, has a treated neighbour", colour, "ring"),
         ("untreated, has none", theme.REFERENCE, "dot"), ("tie from a treated unit", theme.ARMS[4], "line")],
    )  # fmt: skip
    share = float((reached & (treated == 0)).sum() / max((treated == 0).sum(), 1))
    shown = f"All {part.units:,} units and {part.edges:,} ties are drawn."
    if part.units > len(part.nodes):
        shown = (
            f"{len(part.nodes):,} of {part.units:,} units and {len(part.ties):,} of {part.edges:,} ties are drawn, "
            "those nearest to the unit with the most ties."
        )
    caption = (
        f"{int(treated.sum())} of the units drawn were treated; {share:.0%} of the others have a treated neighbour, so "
        f"their outcome may show the treatment as well. {shown}"
    )
    return Drawing(figure, part.nodes, caption, f"Network graph of units, treated and not. {caption}")


def _ties(axis: Any, part: Neighbourhood, treated: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    place = part.nodes[["x", "y"]].to_numpy()
    source, target = part.ties["source"].to_numpy(), part.ties["target"].to_numpy()
    carries = (treated[source] > 0) != (treated[target] > 0)
    for chosen, colour, wide in ((~carries, theme.GRID, 1.0), (carries, theme.ARMS[4], 1.2)):
        segments = np.stack([place[source[chosen]], place[target[chosen]]], axis=1)
        axis.add_collection(LineCollection(list(segments), colors=colour, linewidths=wide, alpha=0.8, zorder=1))
    axis.autoscale_view()


SPEC = FigureSpec(
    name="network_interference_graph",
    title="Ties between units",
    question="Which units may show the treatment of others?",
    draw=draw,
    needs=("network_effects.exposure", "treatment"),
    family="network",
    reference="Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
)
