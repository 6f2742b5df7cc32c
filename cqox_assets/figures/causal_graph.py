"""The graph that the mapped roles assume: what may move treatment and outcome, and what does not."""

import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study, TreatmentKind

_MOST = 6  # covariates with a box of their own
_HIDDEN = "not observed"
# What each role's columns point at, from left to right in the picture.
_ARROWS: dict[Role, tuple[str, ...]] = {
    Role.INSTRUMENTS: ("treatment",),
    Role.RUNNING_VARIABLE: ("treatment", "outcome"),
    Role.COVARIATES: ("treatment", "outcome"),
    Role.PRE_OUTCOME: ("treatment", "outcome"),
    Role.TREATMENT_PROXY: (),
    Role.OUTCOME_PROXY: (),
    Role.MEDIATOR: ("outcome",),
}
_ABOVE = (Role.COVARIATES, Role.PRE_OUTCOME)
_PER_ROW = 3
_LAYER = {
    Role.INSTRUMENTS: 0, Role.RUNNING_VARIABLE: 0, Role.TREATMENT_PROXY: 0, Role.COVARIATES: 1,
    Role.PRE_OUTCOME: 1, Role.TREATMENT: 1, Role.MEDIATOR: 2, Role.OUTCOME: 3, Role.OUTCOME_PROXY: 3,
}  # fmt: skip
_COLOURS = {
    Role.TREATMENT: theme.ARMS[0], Role.OUTCOME: theme.INK, Role.MEDIATOR: theme.ARMS[2],
    Role.INSTRUMENTS: theme.ARMS[1], Role.RUNNING_VARIABLE: theme.ARMS[1],
}  # fmt: skip


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw one box per column, labelled with its role; many covariates share a box."""
    study = inputs.study
    nodes, edges = graph_of(study)
    if not nodes["role"].isin([Role.TREATMENT]).any():
        raise NotDrawnError("no column plays the role 'treatment'")
    if study.treatment_kind is TreatmentKind.REPEATED:
        raise NotDrawnError("treatment is repeated, and the roles do not say which covariates lie between treatments")
    places = _layout(nodes)
    bottom, top = (edge(height for _, height in places.values()) for edge in (min, max))
    figure, axis = theme.single(7.2, max(2.6, 0.66 * (top - bottom + 1) + 0.5))
    theme.title(figure, "The assumed causal graph")
    axis.set_axis_off()
    axis.set_xlim(-0.16, 1.16)
    axis.set_ylim(bottom - 0.5, top + 0.5)
    boxes = {
        node["node"]: marks.box(
            axis, places[node["node"]], _text(node), _COLOURS.get(node["role"], theme.REFERENCE),
            node["role"] == "hidden",
        )
        for _, node in nodes.iterrows()
    }  # fmt: skip
    for _, edge in edges.iterrows():
        marks.arrow(axis, boxes[edge["source"]], boxes[edge["target"]], dashed=bool(edge["hidden"]))
    hidden = ", dashed: a hidden cause that the instruments leave room for" if edges["hidden"].any() else ""
    many = int(nodes["columns"].sum() - (nodes["role"] == "hidden").sum())
    caption = (
        f"Arrows run from cause to effect as the roles of {many} columns say{hidden}. The data do not test "
        "this graph; what is missing from it is assumed away."
    )
    cause, result = (words.label(study, role) for role in (Role.TREATMENT, Role.OUTCOME))
    alt = f"Directed graph of {len(nodes)} boxes in which {cause} points at {result}. {caption}"
    data = edges.merge(nodes[["node", "role"]].rename(columns={"node": "source", "role": "source_role"}), on="source")
    return Drawing(figure, data, caption, alt)


def graph_of(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return nodes (node, label, role, layer, columns) and edges (source, target, hidden) that the roles assume."""
    nodes: list[tuple[str, str, str, float, int]] = []
    edges: list[tuple[str, str, bool]] = []
    for role, layer in _LAYER.items():
        names = [name for name in study.names(role) if role is not Role.COVARIATES or name not in _taken(study)]
        kept = names if len(names) <= _MOST else names[: _MOST - 1]
        nodes += [(f"{role}:{name}", study.label(name), str(role), layer, 1) for name in kept]
        if len(names) > len(kept):
            rest = len(names) - len(kept)
            nodes.append((f"{role}:more", f"{rest} more {str(role).replace('_', ' ')}", str(role), layer, rest))
    held = {role: [node[0] for node in nodes if node[2] == role] for role in _LAYER}
    treated, results = held[Role.TREATMENT], held[Role.OUTCOME]
    for role, targets in _ARROWS.items():
        ends = [end for name in targets for end in (treated if name == "treatment" else results)]
        edges += [(source, end, False) for source in held[role] for end in ends]
    edges += [(source, end, False) for source in treated for end in [*held[Role.MEDIATOR], *results]]
    if study.has(Role.INSTRUMENTS) or study.has(Role.OUTCOME_PROXY):
        nodes.append(("hidden", _HIDDEN, "hidden", 2, 1))
        edges += [
            ("hidden", end, True)
            for end in [*treated, *results, *held[Role.TREATMENT_PROXY], *held[Role.OUTCOME_PROXY]]
        ]
    columns = ["node", "label", "role", "layer", "columns"]
    return pd.DataFrame(nodes, columns=columns), pd.DataFrame(edges, columns=["source", "target", "hidden"])


def _taken(study: Study) -> set[str]:
    return {name for role in _LAYER if role is not Role.COVARIATES for name in study.names(role)}


def _layout(nodes: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return a place per box: what runs from treatment to outcome in one lane, covariates above, the hidden below."""
    lanes: dict[int, list[str]] = {}
    above = list(nodes.loc[nodes["role"].isin(_ABOVE), "node"])
    for _, node in nodes[~nodes["role"].isin([*_ABOVE, "hidden"])].iterrows():
        lanes.setdefault(int(node["layer"]), []).append(str(node["node"]))
    tallest = max(len(lane) for lane in lanes.values())
    found = {}
    for column, layer in enumerate(sorted(lanes)):
        lane = lanes[layer]
        for rank, name in enumerate(lane):
            found[name] = (column / max(len(lanes) - 1, 1), (len(lane) - 1) / 2 - rank)
    for rank, name in enumerate(above):
        row = rank // _PER_ROW
        width = min(_PER_ROW, len(above) - row * _PER_ROW)
        along = (rank % _PER_ROW + 0.5) / width
        found[name] = (along + (0.03 if row % 2 else -0.03), tallest / 2 + 1.2 + row)
    if "hidden" in set(nodes["node"]):
        found["hidden"] = (0.62, -tallest / 2 - 0.9)
    return found


def _text(node: pd.Series) -> str:
    """Return a box's words: the label, and below it the role in the singular."""
    name = theme.squeeze(node["label"], 24)
    if node["role"] == "hidden" or node["columns"] > 1:
        return name
    return f"{name}\n{str(node['role']).replace('_', ' ').removesuffix('s')}"


SPEC = FigureSpec(
    name="causal_graph",
    title="The assumed causal graph",
    question="What do the mapped roles assume about causes and effects?",
    draw=draw,
    needs=("outcome", "treatment"),
    family="designs",
    reference="Pearl 2009, doi:10.1017/CBO9780511803161",
)
