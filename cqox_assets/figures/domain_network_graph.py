"""Domains that share an outcome or a treatment: who is near whom, and what their effects are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _theme as theme
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.wording import short

_UNJUDGED = "no verdict"
_VERDICTS = {"GO": theme.SURE, "CANARY": theme.UNSURE, "HOLD": theme.WRONG}


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw domains as dots by cluster and what they share as labelled lines (2d), or as a page that zooms (3d)."""
    return drawn(inputs.findings["domain_network"], form)


def drawn(network: Mapping[str, Any], form: str) -> Drawing:
    """Draw the network: its `nodes` and `edges` as lists of rows."""
    nodes, edges = pd.DataFrame(network["nodes"]), pd.DataFrame(network["edges"])
    if not len(nodes):
        raise NotDrawnError("no domain has a decision card yet")
    ties = _ties(edges)
    place = _places(list(nodes["domain"]), ties, nodes["cluster"].to_numpy())
    nodes = nodes.assign(x=place[:, 0], y=place[:, 1])
    figure = _flat(nodes, ties)
    caption = _caption(nodes, ties)
    page = pages.page(_zooming(nodes, ties), SPEC.title, caption) if form == "3d" else ""
    return Drawing(figure, nodes, caption, f"Network of domains by shared effects. {caption}", page)


def _ties(edges: pd.DataFrame) -> pd.DataFrame:
    """Return one row per pair of domains: source, target, label (the first shared effect), count, correlation."""
    columns = ["source", "target", "label", "count", "correlation"]
    if not len(edges):
        return pd.DataFrame(columns=columns)
    rows = []
    for (source, target), held in edges.groupby(["source", "target"], sort=True):
        first = held.iloc[0]
        label = f"{first['estimand']}: {_number(first['source_effect'])} and {_number(first['target_effect'])}"
        known = [float(value) for value in held["correlation"] if value is not None and not pd.isna(value)]
        rows.append((source, target, label, len(held), known[0] if known else np.nan))
    return pd.DataFrame(rows, columns=columns)


def _number(value: Any) -> str:
    return "unknown" if value is None or pd.isna(value) else short(float(value))


def _places(domains: list[str], ties: pd.DataFrame, cluster: np.ndarray) -> np.ndarray:
    """Return a place per domain, shape (n, 2): clusters around a circle, the domains of one around its middle."""
    groups = list(dict.fromkeys(cluster.tolist()))
    place = np.zeros((len(domains), 2))
    for rank, group in enumerate(groups):
        inside = np.flatnonzero(cluster == group)
        turn = 2 * np.pi * rank / len(groups) + np.pi / 2
        middle = np.array([np.cos(turn), np.sin(turn)]) * (3.0 if len(groups) > 1 else 0.0)
        around = 2 * np.pi * np.arange(len(inside)) / max(len(inside), 1) + turn
        ring = 1.15 * np.column_stack([np.cos(around), np.sin(around)]) if len(inside) > 1 else np.zeros((1, 2))
        place[inside] = middle + ring
    return place


def _sides(nodes: pd.DataFrame) -> list[str]:
    """Return where the words of each domain stand: beside its dot, away from its cluster, or below a lone one."""
    apart = nodes["x"] - nodes.groupby("cluster")["x"].transform("mean")
    alone = nodes.groupby("cluster")["x"].transform("size") == 1
    return ["below" if one else "right" if gap > 0 else "left" for one, gap in zip(alone, apart, strict=True)]


def _flat(nodes: pd.DataFrame, ties: pd.DataFrame) -> Any:
    figure, axis = theme.single(7.6, 6.0)
    theme.title(figure, SPEC.title)
    axis.set_axis_off()
    axis.set_xlim(float(nodes["x"].min()) - 2.4, float(nodes["x"].max()) + 2.4)
    axis.set_ylim(float(nodes["y"].min()) - 1.0, float(nodes["y"].max()) + 1.0)
    where = nodes.set_index("domain")[["x", "y"]]
    for tie in marks.each(ties):
        (x0, y0), (x1, y1) = where.loc[tie.source], where.loc[tie.target]
        axis.plot([x0, x1], [y0, y1], color=theme.QUIET, linewidth=1 + min(tie.count, 6) / 2, alpha=0.6, zorder=1)
        if len(ties) <= 6:
            axis.text(
                (x0 + x1) / 2, (y0 + y1) / 2, theme.shorten(tie.label, 34), fontsize=7.5, ha="center", va="center",
                color=theme.INK, zorder=2, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    tones = [_VERDICTS.get(str(verdict), theme.QUIET) for verdict in nodes["verdict"]]
    axis.scatter(nodes["x"], nodes["y"], s=150, c=tones, edgecolors="white", linewidths=1.4, zorder=3)
    for row, side in zip(marks.each(nodes), _sides(nodes), strict=True):
        shift = {"below": (0.0, -0.2), "right": (0.2, 0.0), "left": (-0.2, 0.0)}[side]
        axis.text(
            row.x + shift[0], row.y + shift[1], f"{theme.shorten(row.domain, 20)}\n{_said(row)}", fontsize=8,
            ha={"below": "center", "right": "left", "left": "right"}[side], va="top" if side == "below" else "center",
            color=theme.INK, zorder=4, linespacing=1.2,
        )  # fmt: skip
    marks.legend(figure, [(name, tone, "dot") for name, tone in _VERDICTS.items()])
    return figure


def _said(row: Any) -> str:
    return (
        f"{_number(row.effect)} ({_number(row.low)} to {_number(row.high)})" if _known(row.low) else _number(row.effect)
    )


def _known(value: Any) -> bool:
    return value is not None and not pd.isna(value)


def _zooming(nodes: pd.DataFrame, ties: pd.DataFrame) -> Any:
    import plotly.graph_objects as plotly

    where = nodes.set_index("domain")[["x", "y"]]
    figure = plotly.Figure()
    for tie in marks.each(ties):
        (x0, y0), (x1, y1) = where.loc[tie.source], where.loc[tie.target]
        alike = "" if pd.isna(tie.correlation) else f"<br>correlation over common months {tie.correlation:.2f}"
        figure.add_scatter(
            x=[x0, (x0 + x1) / 2, x1], y=[y0, (y0 + y1) / 2, y1], mode="lines+text", showlegend=False,
            text=["", pages.words(tie.label, 60), ""], line={"color": theme.QUIET, "width": 1 + min(tie.count, 6)},
            hovertext=f"{pages.words(tie.source)} and {pages.words(tie.target)}: {tie.count} shared effects{alike}",
            hoverinfo="text",
        )  # fmt: skip
    judged = nodes["verdict"].where(nodes["verdict"].isin(list(_VERDICTS)), _UNJUDGED)
    for verdict, tone in {**_VERDICTS, _UNJUDGED: theme.QUIET}.items():
        held = nodes[judged == verdict]
        if not len(held):
            continue
        figure.add_scatter(
            x=held["x"], y=held["y"], mode="markers+text", name=verdict,
            text=[pages.words(name) for name in held["domain"]],
            textposition="bottom center", marker={"size": 22, "color": tone, "line": {"color": "white", "width": 2}},
            hovertext=[f"{pages.words(row.domain)}: {pages.words(row.series, 80)}<br>{_said(row)}, {row.latest_period}"
                       for row in marks.each(held)],
            hoverinfo="text",
        )  # fmt: skip
    figure.update_layout(dragmode="pan", plot_bgcolor="white")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def _caption(nodes: pd.DataFrame, ties: pd.DataFrame) -> str:
    shared = int(ties["count"].sum()) if len(ties) else 0
    return (
        f"{len(nodes)} domains in {nodes['cluster'].nunique()} clusters; {len(ties)} pairs share {shared} effects, "
        "which are equal estimands of an outcome or treatment of the same name. Beside each domain: its latest effect, "
        "with its interval where it has one."
    )


SPEC = FigureSpec(
    name="domain_network_graph",
    title="Domains and what they share",
    question="Which domains study the same, and do their effects agree?",
    draw=draw,
    needs=("domain_network",),
    family="flagship",
    forms=("2d", "3d"),
    scope="domains",
    reference="Clauset, Newman & Moore 2004, doi:10.1103/PhysRevE.70.066111",
)
