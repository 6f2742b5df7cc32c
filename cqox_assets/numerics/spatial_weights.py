"""Who is whose neighbour: a sparse, row-standardised matrix from a list of edges or from coordinates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.study import Role, Study

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

EARTH_KM = 6371.0088
_MOST_PAIRS = 50_000_000
_LEAST_KNOWN = 0.1
_TIE, _ROUNDING = 1e-9, 1e-15


class NeighbourError(CqoxError):
    """Neighbours cannot be told from what the study has; `code` says why."""

    code = "no_neighbours"


@dataclass(frozen=True)
class Neighbours:
    """Row-standardised neighbours.

    Parameters
    ----------
    matrix : csr_matrix of shape (n, n)
        Rows sum to one, or to zero for units without neighbours; the diagonal is zero.
    words : str
        How neighbours were found.
    notices : tuple of str
        What the reader must know about it.
    kept : ndarray of int
        Rows of the study that are in the matrix.
    """

    matrix: "csr_matrix"
    words: str
    notices: tuple[str, ...]
    kept: np.ndarray


@dataclass(frozen=True)
class NeighbourRule:
    """How neighbours are found.

    Parameters
    ----------
    source : str
        `auto` (edges where the study has them), `edges`, `nearest` or `band`.
    nearest : int
        Neighbours of each unit, of `nearest`.
    band : float, optional
        Largest distance, of `band`: kilometres, or units of the coordinates where they are planar.
    planar : bool
        Whether coordinates lie on a plane; otherwise they are degrees on the sphere.
    directed : bool
        Whether an edge makes its target a neighbour of its source only; otherwise of each other.
    islands : str
        What to do with units without neighbours: `refuse`, `keep` or `drop`.
    """

    source: str = "auto"
    nearest: int = 8
    band: float | None = None
    planar: bool = False
    directed: bool = False
    islands: str = "refuse"


def find_neighbours(study: Study, rule: NeighbourRule) -> Neighbours:
    """Find the neighbours of every row of a study, one row per unit.

    Raises
    ------
    NeighbourError
        If there is nothing to tell neighbours from, units repeat, edges name no units of the table, coordinates are
        none or all the same, or units have no neighbours although that was not allowed.
    """
    labels = _labels(study)
    edges = study.tables.get("edges")
    source = rule.source
    if source == "auto":
        source = "edges" if edges is not None else "band" if rule.band is not None else "nearest"
    if source == "edges":
        if edges is None:
            raise NeighbourError(
                "there is no side table 'edges'; deliver edges.csv beside the data, with columns source and target",
                code="missing_role",
            )
        raw, words, notices = _from_edges(study, edges, labels, rule.directed)
    else:
        raw, words, notices = _from_places(study, rule, source)
    return _finished(raw, words, notices, labels, rule.islands)


def _labels(study: Study) -> pd.Index:
    if not study.has(Role.UNIT):
        return pd.RangeIndex(len(study))
    labels: pd.Index = pd.Index(study.frame[study.name(Role.UNIT)])
    if labels.has_duplicates:
        twice = labels[labels.duplicated()][0]
        raise NeighbourError(
            f"unit '{twice}' of '{study.name(Role.UNIT)}' has several rows, which a map of units cannot place; "
            "deliver one row per unit, such as one period or its mean",
            code="unit_not_supported",
        )
    return labels


def _from_edges(
    study: Study, edges: pd.DataFrame, labels: pd.Index, directed: bool
) -> tuple["csr_matrix", str, list[str]]:
    from scipy.sparse import coo_matrix

    if not study.has(Role.UNIT) and (study.dropped or study.has(Role.POPULATION)):
        raise NeighbourError(
            "edges name rows by position, but rows were left out of this study; map the role 'unit', whose labels the "
            "edges then name",
            code="edges_need_unit",
        )
    first, second, weight = _columns(edges)
    source, target = _positions(labels, first), _positions(labels, second)
    known = (source >= 0) & (target >= 0)
    notices = _strangers(first, second, source, target)
    loops = known & (source == target)
    if loops.any():
        one = first[loops].iloc[0]
        notices.append(f"{int(loops.sum())} edges from a unit to itself, such as '{one}', do not count")
    used = known & ~loops
    i, j, w = source[used], target[used], weight[used]
    if not directed:
        i, j, w = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([w, w])
    place = _once(labels, i, j, w)
    if directed and len(place) < len(i):
        notices.append(f"{len(i) - len(place)} edges that are listed again count once")
    matrix = coo_matrix((w[place], (i[place], j[place])), (len(labels), len(labels))).tocsr()
    return matrix, "neighbours from the side table edges", notices


def _strangers(first: pd.Series, second: pd.Series, source: np.ndarray, target: np.ndarray) -> list[str]:
    """Return what to say of edges that name no unit; refuse if hardly any edge names two."""
    known = (source >= 0) & (target >= 0)
    if len(known) and known.all():
        return []
    named = [*first[source < 0][:1], *second[target < 0][:1]]
    if not known.any() or known.mean() < _LEAST_KNOWN:
        example = f", such as '{named[0]}'" if named else ""
        raise NeighbourError(
            f"{int((~known).sum())} of {len(known)} edges name no unit of the table{example}; "
            "name the units in edges as in the role 'unit'",
            code="unknown_units",
        )
    many = int((~known).sum())
    return [f"{many} edges name a unit that is not in the analysed rows, such as '{named[0]}', and were left out"]


def _once(labels: pd.Index, i: np.ndarray, j: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the position of each pair's first listing; refuse pairs listed with different weights."""
    key = i.astype(np.int64) * len(labels) + j
    _, place, count = np.unique(key, return_index=True, return_counts=True)
    if len(place) == len(key):
        return place
    order = np.argsort(key, kind="stable")
    low, high = (ufunc.reduceat(w[order], np.cumsum(count) - count) for ufunc in (np.minimum, np.maximum))
    if (low != high).any():
        pair = place[low != high][0]
        raise NeighbourError(
            f"the edge between '{labels[i[pair]]}' and '{labels[j[pair]]}' is listed with different weights; "
            "list each edge once, or set directed: true if both directions differ",
            code="conflicting_edges",
        )
    return place


def _columns(edges: pd.DataFrame) -> tuple[pd.Series, pd.Series, np.ndarray]:
    """Return source, target and weight of a list of edges."""
    names = {str(name).strip().lower(): name for name in edges.columns}
    if len(edges.columns) < 2:
        raise NeighbourError("the side table edges has fewer than two columns; name them source and target")
    pair = [names.get("source", edges.columns[0]), names.get("target", edges.columns[1])]
    if "weight" not in names:
        return edges[pair[0]], edges[pair[1]], np.ones(len(edges))
    weight = pd.to_numeric(edges[names["weight"]], errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(weight).all() or (weight <= 0).any():
        bad = edges[names["weight"]][~(weight > 0)].iloc[0] if (~(weight > 0)).any() else weight.max()
        raise NeighbourError(
            f"column 'weight' of edges holds '{bad}'; weights of edges must be positive numbers",
            code="invalid_edge_weight",
        )
    return edges[pair[0]], edges[pair[1]], weight


def _positions(labels: pd.Index, values: pd.Series) -> np.ndarray:
    """Return the row of each label, -1 where there is none; numbers and their words are the same label."""
    numeric = pd.api.types.is_numeric_dtype(labels.dtype), pd.api.types.is_numeric_dtype(values.dtype)
    if numeric[0] == numeric[1]:
        return np.asarray(labels.get_indexer(pd.Index(values)))
    return np.asarray(pd.Index(_texts(labels.to_series())).get_indexer(pd.Index(_texts(values))))


def _texts(values: pd.Series) -> np.ndarray:
    return values.astype("str").str.strip().str.replace(r"\.0+$", "", regex=True).to_numpy(dtype=object)


def _from_places(study: Study, rule: NeighbourRule, source: str) -> tuple["csr_matrix", str, list[str]]:
    from scipy.sparse import coo_matrix
    from scipy.spatial import cKDTree

    places = _places(study, rule.planar)
    notices = _shared_places(places)
    n, unit = len(places), "" if rule.planar else " km"
    tree = cKDTree(places)
    if source == "band":
        if rule.band is None:
            raise NeighbourError("neighbours by distance need a largest distance; set band", code="missing_band")
        radius = rule.band if rule.planar else 2 * np.sin(min(rule.band / EARTH_KM, np.pi) / 2)
        if tree.count_neighbors(tree, radius) > _MOST_PAIRS:
            raise NeighbourError(
                f"a band of {rule.band:g}{unit} makes more than {_MOST_PAIRS:,} pairs of neighbours; "
                "set a smaller band, or neighbours: nearest",
                code="too_many_neighbours",
            )
        pairs = tree.query_pairs(radius, output_type="ndarray")
        i, j = np.concatenate([pairs[:, 0], pairs[:, 1]]), np.concatenate([pairs[:, 1], pairs[:, 0]])
        words = f"neighbours within {rule.band:g}{unit}"
    else:
        k = min(rule.nearest, n - 1)
        i, j = _nearest(tree, places, k)
        words = f"the {k} nearest neighbours, ties included"
    return coo_matrix((np.ones(len(i)), (i, j)), (n, n)).tocsr(), words, notices


def _shared_places(places: np.ndarray) -> list[str]:
    """Return what to say of units at one point, shape (n, 2 or 3); refuse if all of them are."""
    _, place, count = np.unique(places.round(12), axis=0, return_inverse=True, return_counts=True)
    if len(count) == 1 and len(places) > 1:
        raise NeighbourError(
            f"all {len(places)} units have the same latitude and longitude, so no distance tells who is near whom; "
            "map coordinates that differ, or deliver edges.csv",
            code="no_distance",
        )
    shared = int((count[place.ravel()] > 1).sum())
    return [f"{shared} units share their place with others"] if shared else []


def _nearest(tree: "cKDTree", places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of each unit and its k nearest others; all at the distance of the k-th count, in any row order."""
    n = len(places)
    distance, found = (np.asarray(side).reshape(n, -1) for side in tree.query(places, k=min(k + 2, n)))
    radius = distance[:, k] * (1 + _TIE) + _ROUNDING * np.abs(places).max(initial=0.0)
    tied = distance[:, -1] <= radius if distance.shape[1] > k + 1 else np.zeros(n, dtype=bool)
    i, j = np.repeat(np.flatnonzero(~tied), k + 1), found[~tied, : k + 1].ravel()
    if tied.any():
        rows = np.flatnonzero(tied)
        many = tree.query_ball_point(places[rows], radius[rows], return_length=True)
        if many.sum() > _MOST_PAIRS:
            raise NeighbourError(
                f"so many units share a place that ties make more than {_MOST_PAIRS:,} pairs of neighbours; "
                "deliver coordinates that differ, or edges.csv",
                code="too_many_neighbours",
            )
        others = tree.query_ball_point(places[rows], radius[rows])
        i, j = np.append(i, np.repeat(rows, many)), np.append(j, np.concatenate(others).astype(np.int64))
    return i[i != j], j[i != j]


def _places(study: Study, planar: bool) -> np.ndarray:
    """Return points on the unit sphere, shape (n, 3), or on the plane, shape (n, 2)."""
    if not (study.has(Role.LATITUDE) and study.has(Role.LONGITUDE)):
        raise NeighbourError(
            "no columns play the roles 'latitude' and 'longitude' and there is no side table 'edges'; "
            "map them in study.yaml: roles: {latitude: <column>, longitude: <column>}, or deliver edges.csv",
            code="missing_role",
        )
    latitude, longitude = study.column(Role.LATITUDE), study.column(Role.LONGITUDE)
    if not (np.isfinite(latitude).all() and np.isfinite(longitude).all()):
        raise NeighbourError("some rows have no coordinates; fill latitude and longitude", code="no_coordinates")
    if planar:
        return np.column_stack([longitude, latitude])
    if np.abs(latitude).max() > 90 or np.abs(longitude).max() > 360:
        worst = latitude[np.abs(latitude).argmax()], longitude[np.abs(longitude).argmax()]
        raise NeighbourError(
            f"latitude goes to {worst[0]:g} and longitude to {worst[1]:g}, which are no degrees; "
            "deliver degrees, or set planar: true for coordinates of a map",
            code="no_coordinates",
        )
    up, round_ = np.radians(latitude), np.radians(longitude)
    return np.column_stack([np.cos(up) * np.cos(round_), np.cos(up) * np.sin(round_), np.sin(up)])


def _finished(raw: "csr_matrix", words: str, notices: list[str], labels: pd.Index, islands: str) -> Neighbours:
    """Return the row-standardised matrix, islands handled as asked for."""
    from scipy.sparse import diags
    from scipy.sparse.csgraph import connected_components

    alone = np.asarray(raw.sum(axis=1)).ravel() == 0
    kept = np.arange(len(labels))
    if alone.any():
        some = ", ".join(f"'{label}'" for label in labels[alone][:5]) + (", ..." if alone.sum() > 5 else "")
        if islands == "refuse" or alone.all():
            raise NeighbourError(
                f"{int(alone.sum())} of {len(labels)} units have no neighbours: {some}; give them neighbours, "
                "or set islands: keep (nothing spills over to them) or islands: drop",
                code="islands",
            )
        if islands == "drop":
            kept = np.flatnonzero(~alone)
            raw = raw[kept][:, kept]
            notices = [*notices, f"{int(alone.sum())} units without neighbours were left out: {some}"]
            if (np.asarray(raw.sum(axis=1)).ravel() == 0).any():
                return _finished(raw, words, notices, labels[kept], "keep")
        else:
            notices = [*notices, f"{int(alone.sum())} units have no neighbours, so nothing spills over to them: {some}"]
    total = np.asarray(raw.sum(axis=1)).ravel()
    matrix = (diags(np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)) @ raw).tocsr()
    matrix.sort_indices()
    parts = int(connected_components(matrix, directed=False)[0]) - int((total == 0).sum())
    if parts > 1:
        notices = [*notices, f"the map falls into {parts} parts; nothing spills over from one to another"]
    mean = matrix.nnz / max(len(total), 1)
    return Neighbours(matrix, f"{words} ({mean:.1f} on average)", tuple(notices), kept)
