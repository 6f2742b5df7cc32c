"""A part of a network that fits on a page: the units nearest to the one with the most ties, and their places."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.study import Role, Study


@dataclass(frozen=True)
class Neighbourhood:
    """Units and ties that are drawn.

    Parameters
    ----------
    nodes : DataFrame
        unit, row (of the study), x, y, treated, neighbours, treated_neighbours, hops from the middle.
    ties : DataFrame
        source, target: positions in `nodes`.
    units, edges : int
        How many there are in all.
    """

    nodes: pd.DataFrame
    ties: pd.DataFrame
    units: int
    edges: int


def neighbourhood(study: Study, most: int) -> Neighbourhood:
    """Return at most `most` units, breadth first from the unit with the most ties (the first row of several).

    Raises
    ------
    NotDrawnError
        If the study has no ties between its units.
    """
    edges = study.tables.get("edges")
    if edges is None or not len(edges) or not {"source", "target"} <= set(edges.columns):
        raise NotDrawnError("the study has no ties between units")
    source, target = positions(study, edges)
    count = len(study)
    ties = np.unique(np.sort(np.column_stack([source, target]), axis=1), axis=0)
    ties = ties[ties[:, 0] != ties[:, 1]]
    if not len(ties):
        raise NotDrawnError("no tie joins two units of the study")
    ends = np.concatenate([ties, ties[:, ::-1]])
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    starts = np.searchsorted(ends[:, 0], np.arange(count + 1))
    degree = np.diff(starts)
    hops = _nearest(ends[:, 1], starts, int(degree.argmax()), most)
    rows = np.array(sorted(hops, key=lambda row: (hops[row], row)))
    place = {int(row): k for k, row in enumerate(rows)}
    inside = ties[np.isin(ties[:, 0], rows) & np.isin(ties[:, 1], rows)]
    kept = np.array([[place[int(a)], place[int(b)]] for a, b in inside]).reshape(-1, 2)
    treated = study.column(Role.TREATMENT)
    touched = np.bincount(ends[:, 0], weights=(treated[ends[:, 1]] > 0).astype(float), minlength=count)
    where = _places(len(rows), kept)
    units = study.frame[study.name(Role.UNIT)].to_numpy() if study.has(Role.UNIT) else np.arange(count)
    nodes = pd.DataFrame(
        {"unit": units[rows].astype(str), "row": rows, "x": where[:, 0], "y": where[:, 1], "treated": treated[rows],
         "neighbours": degree[rows], "treated_neighbours": touched[rows].astype(int),
         "hops": [hops[int(row)] for row in rows]}
    )  # fmt: skip
    return Neighbourhood(nodes, pd.DataFrame(kept, columns=["source", "target"]), count, len(ties))


def positions(study: Study, edges: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that each tie joins; ties of strangers are left out."""
    names = (
        study.frame[study.name(Role.UNIT)].astype(str)
        if study.has(Role.UNIT)
        else pd.Series(range(len(study))).astype(str)
    )
    index = pd.Series(np.arange(len(study)), index=names.to_numpy())
    index = index[~index.index.duplicated()]
    found = [edges[end].map(_name).map(index) for end in ("source", "target")]
    known = (found[0].notna() & found[1].notna()).to_numpy()
    return found[0].to_numpy()[known].astype(int), found[1].to_numpy()[known].astype(int)


def _name(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _nearest(others: np.ndarray, starts: np.ndarray, middle: int, most: int) -> dict[int, int]:
    """Return the hops to the `most` nearest units, breadth first in the order of rows."""
    hops, ring = {middle: 0}, [middle]
    while ring and len(hops) < most:
        outer: list[int] = []
        for row in ring:
            for other in others[starts[row] : starts[row + 1]]:
                if int(other) not in hops and len(hops) < most:
                    hops[int(other)] = hops[row] + 1
                    outer.append(int(other))
        ring = outer
    return hops


def _places(count: int, ties: np.ndarray) -> np.ndarray:
    """Return a place per unit, shape (n, 2): distances on the page follow the hops between units; no chance in it."""
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(ties.tolist())
    found = networkx.kamada_kawai_layout(graph, pos=networkx.circular_layout(graph))
    place = np.array([found[k] for k in range(count)])
    place = place - place.mean(axis=0)
    turned = place @ np.linalg.svd(place, full_matrices=False)[2].T  # the long side lies flat
    return np.asarray(turned)
