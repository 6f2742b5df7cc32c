"""What treatment does to a unit and through its ties: height is the own effect, ties carry the effect on neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._network import Neighbourhood, neighbourhood
from cqox_assets.figures._units import unit_effects
from cqox_assets.result import Effect, Estimand
from cqox_assets.spec import Drawing, FigureSpec, Inputs

_MOST = 80  # units that a page can carry legibly
_LONGEST = 6  # ties of a path


@dataclass(frozen=True)
class _Part:
    """What is drawn: units with their own effects, ties with what they carry, and the strongest path."""

    nodes: pd.DataFrame
    ties: pd.DataFrame
    path: list[int]
    indirect: Effect
    mean: float
    shown: str


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the units around the one with the most ties, flat (2d) or with own effects as heights (3d)."""
    part = _part(inputs)
    figure = _flat(part, inputs)
    caption = _caption(part, inputs)
    page = pages.page(_raised(part, inputs), SPEC.title, caption) if form == "3d" else ""
    return Drawing(figure, part.nodes, caption, f"Network of units with own and passed-on effects. {caption}", page)


def _part(inputs: Inputs) -> _Part:
    answer = inputs.answered()["network_effects"]
    indirect = next(
        (item for item in answer.effects if item.estimand == Estimand.INDIRECT and item.scale == "difference"), None
    )
    if indirect is None:
        raise NotDrawnError("the network effects hold no effect of treated neighbours")
    item = unit_effects(inputs)[0]
    if len(item.rows) != len(inputs.study):
        raise NotDrawnError("predicted effects do not cover every unit of the network")
    found = neighbourhood(inputs.study, _MOST)
    own = item.effect[found.nodes["row"].to_numpy()]
    mean = float(np.average(item.effect, weights=item.sampling))
    nodes = found.nodes.assign(effect=own, differs=own - mean)
    ties = _carried(found, indirect.estimate)
    path = _strongest(ties)
    nodes["on_path"] = np.isin(np.arange(len(nodes)), path)
    shown = f"{len(nodes):,} of {found.units:,} units and {len(ties):,} of {found.edges:,} ties are drawn."
    return _Part(nodes, ties, path, indirect, mean, shown)


def _carried(found: Neighbourhood, indirect: float) -> pd.DataFrame:
    """Return the ties with what each carries: the effect of treated neighbours, shared by those a unit has."""
    treated, reached = found.nodes["treated"].to_numpy(), found.nodes["treated_neighbours"].to_numpy()
    source, target = found.ties["source"].to_numpy(dtype=int), found.ties["target"].to_numpy(dtype=int)
    receiver = np.where(treated[source] > 0, target, source)
    carries = (treated[source] > 0) != (treated[target] > 0)
    return found.ties.assign(
        carries=carries, spillover=np.where(carries, indirect / np.maximum(reached[receiver], 1), 0.0)
    )


def _strongest(ties: pd.DataFrame) -> list[int]:
    """Return the units of a path that grows from the strongest tie by the strongest ties at its ends."""
    held = ties[ties["carries"]]
    if not len(held):
        return []
    size = held["spillover"].abs()
    order = held.loc[size.sort_values(ascending=False, kind="stable").index]
    pairs = list(zip(order["source"], order["target"], strict=True))
    path = [int(end) for end in pairs[0]]
    while len(path) <= _LONGEST:
        step = next(
            ((end, b if a == path[end] else a) for a, b in pairs for end in (0, -1)
             if path[end] in (a, b) and (b if a == path[end] else a) not in path), None,
        )  # fmt: skip
        if step is None:
            break
        path.insert(0 if step[0] == 0 else len(path), int(step[1]))
    return path


def _reach(part: _Part) -> float:
    return float(np.abs(part.nodes["differs"]).max()) or 1.0


def _flat(part: _Part, inputs: Inputs) -> Any:
    from matplotlib.collections import LineCollection

    figure, axis = theme.single(7.2, 5.2)
    theme.title(figure, SPEC.title)
    axis.set_axis_off()
    axis.set_aspect("equal")
    place = part.nodes[["x", "y"]].to_numpy()
    ends = part.ties[["source", "target"]].to_numpy(dtype=int)
    carries, size = part.ties["carries"].to_numpy(), part.ties["spillover"].abs().to_numpy()
    most = float(size.max()) or 1.0
    for chosen, tone, wide in ((~carries, theme.GRID, 0.8), (carries, theme.ARMS[4], 0.6 + 2.4 * size[carries] / most)):
        axis.add_collection(LineCollection(list(place[ends[chosen]]), colors=tone, linewidths=wide, zorder=1))
    axis.plot(place[part.path, 0], place[part.path, 1], color=theme.INK, linewidth=2.6, zorder=2)
    reach = _reach(part)
    own = part.nodes["effect"].abs().to_numpy()
    size_of = 24 + 76 * own / (float(own.max()) or 1.0)
    treated = part.nodes["treated"].to_numpy() > 0
    for chosen, shape in ((treated, "s"), (~treated, "o")):
        dots = axis.scatter(
            place[chosen, 0], place[chosen, 1], s=size_of[chosen], c=part.nodes["differs"][chosen],
            cmap=theme.DIVERGING, vmin=-reach, vmax=reach, marker=shape, edgecolors=theme.INK, linewidths=0.6, zorder=3,
        )  # fmt: skip
    marks.colour_bar(figure, axis, dots, "own effect less the average")
    marks.legend(
        figure,
        [("size: own effect; square: treated, dot: untreated", theme.QUIET, "dot"),
         ("tie that carries an effect", theme.ARMS[4], "line"),
         ("strongest path", theme.INK, "line")],
    )  # fmt: skip
    return figure


def _raised(part: _Part, inputs: Inputs) -> Any:
    import plotly.graph_objects as plotly

    nodes, reach = part.nodes, _reach(part)
    figure = plotly.Figure()
    carries = part.ties["carries"]
    for chosen, name, tone, wide in (
        (~carries, "tie", theme.GRID, 1.5), (carries, "tie that carries an effect", theme.ARMS[4], 4),
    ):  # fmt: skip
        x, y, z = _segments(nodes, part.ties[chosen])
        figure.add_scatter3d(
            x=x, y=y, z=z, mode="lines", name=name, line={"color": tone, "width": wide}, hoverinfo="skip"
        )
    path = nodes.iloc[part.path]
    figure.add_scatter3d(
        x=path["x"], y=path["y"], z=path["effect"], mode="lines", name="strongest path",
        line={"color": theme.INK, "width": 9}, hoverinfo="skip",
    )  # fmt: skip
    for place, (name, shape) in enumerate((("untreated", "circle"), ("treated", "square"))):
        held = nodes[(nodes["treated"] > 0) == bool(place)]
        said = [
            f"unit {pages.words(row.unit)}<br>own effect {words.amount(inputs.study, row.effect)}<br>"
            f"{row.treated_neighbours} of {row.neighbours} neighbours treated"
            for row in marks.each(held)
        ]
        figure.add_scatter3d(
            x=held["x"], y=held["y"], z=held["effect"], mode="markers", name=name, text=said, hoverinfo="text",
            marker={"size": 6, "symbol": shape, "color": held["differs"], "colorscale": "RdBu", "reversescale": True,
                    "cmin": -reach, "cmax": reach, "line": {"color": theme.INK, "width": 1}, "showscale": place == 1,
                    "colorbar": {"title": {"text": "less average"}, "len": 0.6}},
        )  # fmt: skip
    figure.update_layout(scene=pages.scene(("", "", f"own {words.effect(inputs.study, cells=36)}")))
    figure.update_scenes(xaxis_showticklabels=False, yaxis_showticklabels=False)
    return figure


def _segments(nodes: pd.DataFrame, ties: pd.DataFrame) -> tuple[list[float | None], ...]:
    """Return the coordinates of ties as plotly draws separate lines: start, end, nothing."""
    found: tuple[list[float | None], ...] = ([], [], [])
    for source, target in ties[["source", "target"]].to_numpy(dtype=int):
        for axis, name in zip(found, ("x", "y", "effect"), strict=True):
            axis += [float(nodes[name].iloc[source]), float(nodes[name].iloc[target]), None]
    return found


def _caption(part: _Part, inputs: Inputs) -> str:
    study, held = inputs.study, part.indirect.interval
    span = "" if held is None else f" ({words.amount(study, held.low)} to {words.amount(study, held.high)})"
    total = float(part.ties.loc[part.ties["carries"], "spillover"].sum())
    path = " – ".join(part.nodes["unit"].iloc[part.path])
    return (
        f"Own effect {words.amount(study, part.mean)} on average; treated neighbours "
        f"{words.amount(study, part.indirect.estimate)}{span}, shared equally by the treated neighbours of a unit: "
        f"{words.amount(study, total)} over the ties drawn. "
        f"Strongest path, grown from the strongest tie: {path}. {part.shown}"
    )


SPEC = FigureSpec(
    name="network_spillover_3d",
    title="Own effects and what ties carry",
    question="Whom does treatment help, and through which ties does it reach others?",
    draw=draw,
    needs=("network_effects.exposure", "unit_effects"),
    family="flagship",
    forms=("2d", "3d"),
    reference="Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
)
