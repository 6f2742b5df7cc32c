"""From a table of edges to the ties of a study's units."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError

_NAMED = 3
_LARGEST_MULTIPLE = 10_000


class NetworkError(CqoxError):
    """A table of edges that does not fit the study; the code says how."""

    code = "bad_edges"


@dataclass(frozen=True)
class Ties:
    """Directed ties between units: the treatment of `source` may reach `target`; a mutual tie is listed twice.

    Parameters
    ----------
    source, target : ndarray of int, shape (m,)
        Positions of units; every pair once, sorted by target, then source.
    weight : ndarray of int, shape (m,)
        Multiples of the smallest weight; ones without weights.
    units : int
    notices : tuple of str
        What was left out, with counts.
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    units: int
    notices: tuple[str, ...] = ()

    @property
    def degree(self) -> np.ndarray:
        """Number of neighbours of each unit, shape (n,)."""
        return np.bincount(self.target, minlength=self.units)


def read_ties(units: np.ndarray, edges: pd.DataFrame, *, directed: bool = False, unknown: str = "refuse") -> Ties:
    """Match edges to units and list every tie once.

    Parameters
    ----------
    units : ndarray of shape (n,)
        Labels of the units, each once.
    edges : DataFrame
        Columns `source`, `target` and optionally `weight`. Ties with weight 0, from a unit to itself or without an end
        are left out; a pair that is listed several times counts once, with its largest weight.
    directed : bool
        Whether treatment reaches along an edge from source to target only.
    unknown : str
        `refuse` or `drop` edges of units that the study does not have.

    Raises
    ------
    NetworkError
        `bad_edges` (columns, weights), `duplicated_units`, `unknown_nodes`.
    """
    if pd.Index(units).has_duplicates:
        index = pd.Index(units)
        twice = index[index.duplicated()][0]
        raise NetworkError(
            f"unit '{twice}' has several rows, so its ties are ambiguous; deliver one row per unit",
            code="duplicated_units",
        )
    missing = [name for name in ("source", "target") if name not in edges.columns]
    if missing:
        raise NetworkError(
            f"table 'edges' has no column '{missing[0]}', but {', '.join(map(str, edges.columns)) or 'none'}; "
            "name its columns source, target and, if there is one, weight"
        )
    weight, notices = _weights(edges)
    ends = edges[["source", "target"]]
    whole = ends.notna().all(axis=1).to_numpy()
    notices += _counted(~whole, "ties lack an end and were left out")
    source, target = _positions(units, ends["source"]), _positions(units, ends["target"])
    lost = whole & ((source < 0) | (target < 0))
    if lost.any():
        notices.append(_unknown(ends, source, target, lost, unknown))
    kept = whole & ~lost & (weight > 0)
    notices += _counted(whole & ~lost & (weight == 0), "ties have weight 0 and were left out")
    notices += _counted(kept & (source == target), "ties lead from a unit to itself and were left out")
    kept &= source != target
    return _once(source[kept], target[kept], weight[kept], len(units), directed, notices)


def _counted(rows: np.ndarray, words: str) -> list[str]:
    return [f"{int(rows.sum())} {words}"] if rows.any() else []


def _weights(edges: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Return the weights as multiples of the smallest positive one."""
    if "weight" not in edges.columns:
        return np.ones(len(edges), dtype=np.int64), []
    weight = pd.to_numeric(edges["weight"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(weight) | (weight < 0)
    if bad.any():
        raise NetworkError(
            f"{int(bad.sum())} values of column 'weight' of the edges are missing, negative or no number; "
            "weights must be zero or positive, or leave the column out"
        )
    if not (weight > 0).any():
        return np.zeros(len(edges), dtype=np.int64), []
    multiple = weight / weight[weight > 0].min()
    rounded = np.rint(multiple)
    if np.abs(multiple - rounded).max() > 1e-6 or rounded.max() > _LARGEST_MULTIPLE:
        raise NetworkError(
            "the weights of the edges are no whole multiples of the smallest one, so exposure probabilities have no "
            "exact form; round the weights to multiples of a common step, or leave the column out",
            code="uneven_weights",
        )
    return rounded.astype(np.int64), []


def _positions(units: np.ndarray, labels: pd.Series) -> np.ndarray:
    """Return the position of each label among the units, -1 where there is none; 7, 7.0 and '7' are the same unit."""
    known, asked = pd.Series(units), labels
    if not (pd.api.types.is_numeric_dtype(known.dtype) and pd.api.types.is_numeric_dtype(asked.dtype)):
        known, asked = _texts(known), _texts(asked)
    found = pd.Index(known).get_indexer(pd.Index(asked))
    return np.asarray(found, dtype=np.int64)


def _texts(labels: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(labels.dtype) and (labels.dropna() % 1 == 0).all():
        labels = labels.astype("Int64")
    return labels.astype("str").str.strip()


def _unknown(ends: pd.DataFrame, source: np.ndarray, target: np.ndarray, lost: np.ndarray, unknown: str) -> str:
    """Return the notice about ties of units that the study does not have; refuse them unless told otherwise."""
    strangers = pd.unique(
        pd.concat([ends["source"][lost & (source < 0)], ends["target"][lost & (target < 0)]]).astype("str")
    )
    listed = ", ".join(f"'{name}'" for name in strangers[:_NAMED]) + (", ..." if len(strangers) > _NAMED else "")
    words = f"{int(lost.sum())} ties lead to {len(strangers)} units that the study does not have ({listed})"
    if unknown == "refuse":
        raise NetworkError(
            f"{words}, so it is not known whether these neighbours are treated; deliver their rows, or leave these "
            "ties out with unknown_nodes: drop",
            code="unknown_nodes",
        )
    return f"{words}; they were left out"


def _once(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, units: int, directed: bool, notices: list[str]
) -> Ties:
    """Keep each pair once, with its largest weight; both ways unless `directed`."""
    first, second = (source, target) if directed else (np.minimum(source, target), np.maximum(source, target))
    key = second * units + first
    order = np.lexsort((weight, key))
    key, first, second, weight = key[order], first[order], second[order], weight[order]
    last = np.append(key[1:] != key[:-1], True)[: len(key)]
    repeated = int(len(key) - last.sum())
    # An undirected list may hold both directions of every tie; only what goes beyond that is worth a word.
    both_ways = not directed and 2 * last.sum() == len(key)
    if repeated and not both_ways:
        notices = [*notices, f"{repeated} repeated ties count once"]
    first, second, weight = first[last], second[last], weight[last]
    if not directed:
        first, second = np.concatenate([first, second]), np.concatenate([second, first])
        weight = np.concatenate([weight, weight])
    order = np.lexsort((first, second))
    return Ties(first[order], second[order], weight[order], units, tuple(notices))
