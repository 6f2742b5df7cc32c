"""Domain network: which domains study the same outcome or treatment, and whether their effects move together."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

_COMMON_PERIODS = 3
NODE_COLUMNS = (
    "domain", "latest_period", "periods", "series", "contrast", "scale", "effect", "std_error", "low", "high",
    "source", "verdict", "rows", "cluster",
)  # fmt: skip
EDGE_COLUMNS = (
    "source", "target", "shared_outcome", "shared_treatment", "estimand", "scale", "source_contrast",
    "target_contrast", "source_effect", "target_effect", "source_period", "target_period", "common_periods",
    "correlation",
)  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """The headline effects of one question in one domain, one row per period."""

    domain: str
    series: str
    outcome: str
    treatment: str
    estimand: str
    contrast: str
    scale: str
    effects: pd.DataFrame

    @property
    def latest(self) -> Mapping[str, Any]:
        return dict(self.effects.iloc[-1])


def build_network(histories: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the nodes and edges of the network of domains.

    Parameters
    ----------
    histories : mapping of str to DataFrame
        Domain to its effect history (`build_history`); a domain whose history is empty is no node.

    Returns
    -------
    nodes : DataFrame
        One row per domain: its latest period, and of the question that the verdict of that period rests on (where the
        card does not say, of the one with the most estimators) the consensus effect, its uncertainty, the
        verdict and the rows. `source` says where the effect comes from: the
        card's consensus or, where the card has none, the median of so many estimators (then without uncertainty).
        `cluster` numbers the groups of domains that share more effects among one another than with the others.
    edges : DataFrame
        One row per pair of questions with equal estimand and scale in two domains whose outcome or treatment has the
        same name: both latest effects, and the correlation of the effects over the common periods. The correlation is
        None with fewer than three common periods or where an effect never changes.
    """
    lines = {domain: _lines(domain, history) for domain, history in sorted(histories.items())}
    nodes = [_node(domain, histories[domain], found) for domain, found in lines.items() if found]
    edges = [
        edge
        for one, other in combinations(lines, 2)
        for left in lines[one]
        for right in lines[other]
        if (edge := _edge(left, right)) is not None
    ]
    placed = clusters([node["domain"] for node in nodes], [(edge["source"], edge["target"]) for edge in edges])
    numbered = [{**node, "cluster": placed[node["domain"]]} for node in nodes]
    return _frame(numbered, NODE_COLUMNS), _frame(edges, EDGE_COLUMNS)


def clusters(domains: Sequence[str], shared: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the number of each domain's cluster, counted from 1 in the order of the domains.

    Parameters
    ----------
    domains : sequence of str
        Nodes; a domain that shares nothing is a cluster of its own.
    shared : sequence of (str, str)
        One pair of domains per effect that they share.

    Notes
    -----
    Communities of greatest modularity, found greedily, with the number of shared effects as weight: Clauset, Newman &
    Moore (2004), doi:10.1103/PhysRevE.70.066111.
    """
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(domains)
    for pair, count in Counter(tuple(sorted(pair)) for pair in shared).items():
        graph.add_edge(*pair, weight=count)
    if not graph.number_of_edges():
        return {domain: place for place, domain in enumerate(domains, start=1)}
    found = nx.community.greedy_modularity_communities(graph, weight="weight")
    order = sorted((sorted(group) for group in found), key=lambda group: domains.index(group[0]))
    return {domain: place for place, group in enumerate(order, start=1) for domain in group}


def _lines(domain: str, history: pd.DataFrame) -> list[_Line]:
    """Return one line per question; only headline effects, which are at no particular group or time."""
    headline = history[history["at"] == ""]
    names = ["series", "outcome", "treatment", "estimand", "contrast", "scale"]
    return [
        _Line(domain, **{name: str(group[name].iloc[0]) for name in names}, effects=_effects(group))
        for _, group in headline.groupby(names, sort=True)
    ]


def _effects(group: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for period, part in group.groupby("period", sort=True):
        estimates = part[part["kind"] == "estimate"]
        consensus = part[part["kind"] == "consensus"]
        first = (consensus if len(consensus) else part).iloc[0]
        row = {"period": period, "estimators": len(estimates), "verdict": first["verdict"], "rows": first["rows"]}
        row["decides"] = first.get("decides") == "yes"  # a history of an earlier version does not say
        if len(consensus):
            told = {name: first[name] for name in ("estimate", "std_error", "low", "high")}
            rows.append({**row, **told, "source": "consensus of the card"})
        else:
            rows.append(
                {
                    **row,
                    "estimate": estimates["estimate"].median(),
                    "std_error": None,
                    "low": None,
                    "high": None,
                    "source": f"median of {len(estimates)} estimator{'s' if len(estimates) > 1 else ''}",
                }
            )
    return pd.DataFrame(rows)


def _node(domain: str, history: pd.DataFrame, lines: list[_Line]) -> dict[str, Any]:
    period = max(str(line.latest["period"]) for line in lines)
    current = [line for line in lines if line.latest["period"] == period]
    line = max(
        current,
        key=lambda one: (
            one.latest["decides"],
            one.latest["source"].startswith("consensus"),
            one.latest["estimators"],
        ),
    )
    latest = line.latest
    return {
        "domain": domain,
        "latest_period": period,
        "periods": int(history["period"].nunique()),
        "series": line.series,
        "contrast": line.contrast,
        "scale": line.scale,
        "effect": latest["estimate"],
        **{name: latest[name] for name in ("std_error", "low", "high", "source", "verdict", "rows")},
    }


def _edge(left: _Line, right: _Line) -> dict[str, Any] | None:
    outcome = left.outcome if _same(left.outcome, right.outcome) else None
    treatment = left.treatment if _same(left.treatment, right.treatment) else None
    if (outcome is None and treatment is None) or (left.estimand, left.scale) != (right.estimand, right.scale):
        return None
    common = left.effects.merge(right.effects, on="period", suffixes=("_left", "_right"))
    return {
        "source": left.domain,
        "target": right.domain,
        "shared_outcome": outcome,
        "shared_treatment": treatment,
        "estimand": left.estimand,
        "scale": left.scale,
        "source_contrast": left.contrast,
        "target_contrast": right.contrast,
        "source_effect": left.latest["estimate"],
        "target_effect": right.latest["estimate"],
        "source_period": left.latest["period"],
        "target_period": right.latest["period"],
        "common_periods": len(common),
        "correlation": _correlation(common["estimate_left"], common["estimate_right"]),
    }


def _same(one: str, other: str) -> bool:
    return one != "" and one.strip().casefold() == other.strip().casefold()


def _correlation(left: pd.Series, right: pd.Series) -> float | None:
    """Return Pearson's correlation, or None where three points do not exist or one side is constant."""
    if len(left) < _COMMON_PERIODS or left.nunique() < 2 or right.nunique() < 2:
        return None
    value = float(left.corr(right))
    return value if math.isfinite(value) else None


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a frame of plain values, in which what is not known is None rather than NaN."""
    plain = [[_plain(row[name]) for name in columns] for row in rows]
    return pd.DataFrame(plain, columns=list(columns), dtype=object)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
