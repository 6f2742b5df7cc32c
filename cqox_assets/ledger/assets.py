"""Roll-ups over partitions: the effect history of a domain and the network of domains."""

from typing import Any

import dagster as dg
import pandas as pd

from cqox_assets.assets import OWNERS, markdown_table
from cqox_assets.partitions import DOMAIN_PARTITIONS, DOMAINS, PERIOD
from cqox_assets.results import Results
from cqox_assets.spec import Drawing
from cqox_resources.reports import ReportStore
from cqox_resources.settings import Settings

SHARED: dict[str, Any] = {
    "group_name": "ledger",
    "owners": OWNERS,
    "kinds": {"python"},
    "tags": {"stage": "ledger", "cost": "light"},
}
NETWORK_KEY = dg.AssetKey(["ledger", "domain_network"])
GRAPH_KEY = dg.AssetKey(["ledger", "domain_network_graph"])
HISTORY_KEY = dg.AssetKey(["ledger", "effect_history"])


@dg.asset(
    key=HISTORY_KEY,
    deps=[
        dg.AssetDep(
            ["decisions", "decision_card"],
            partition_mapping=dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="domain"),
        )
    ],
    partitions_def=DOMAIN_PARTITIONS,
    description="Every effect of a domain over its periods, only equal outcome, treatment and estimand joined, and why "
    "its verdict changed.",
    code_version="2",
    dagster_type=dg.Any,
    **SHARED,
)
def effect_history(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Join the decision cards of one domain."""
    from cqox_assets.ledger.history import build_history, pool, verdict_changes

    cards = _cards(Results(settings.warehouse), context.partition_key)
    history, verdicts = build_history(cards), verdict_changes(cards)
    pooled = pool(history)
    return dg.MaterializeResult(
        value=history,
        metadata={
            "dagster/row_count": len(history),
            "periods": int(history["period"].nunique()) if len(history) else 0,
            "verdicts": dg.MetadataValue.md(markdown_table(verdicts, 40) if len(verdicts) else "no cards yet"),
            "pooled": dg.MetadataValue.md(markdown_table(pooled, 40) if len(pooled) else "nothing to pool"),
            "history": dg.MetadataValue.md(markdown_table(history, 40) if len(history) else "no cards yet"),
        },
    )


@dg.asset(
    key=NETWORK_KEY,
    deps=[dg.AssetDep(HISTORY_KEY, partition_mapping=dg.AllPartitionMapping())],
    description="Domains, clustered by the effects that they share: equal estimands of a common outcome or treatment.",
    code_version="2",
    dagster_type=dg.Any,
    **SHARED,
)
def domain_network(settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Build the network from the stored histories."""
    from cqox_assets.ledger.network import build_network

    results, histories = Results(settings.warehouse), {}
    for domain in DOMAINS:
        try:
            histories[domain] = results.load("ledger/effect_history", domain)
        except FileNotFoundError:  # a domain without a card has no history, and is no node
            continue
    nodes, edges = build_network(histories)
    return dg.MaterializeResult(
        value={"nodes": _records(nodes), "edges": _records(edges)},
        metadata={
            "nodes": dg.MetadataValue.md(markdown_table(nodes, 40) if len(nodes) else "no domain has a card yet"),
            "edges": dg.MetadataValue.md(markdown_table(edges, 40) if len(edges) else "no domains share a column"),
            "domains": len(nodes),
            "clusters": int(nodes["cluster"].nunique()),
        },
    )


def _cards(results: Results, domain: str) -> list[dict[str, object]]:
    folder = results.folder("decisions/decision_card", domain)
    periods = sorted(path.name for path in folder.iterdir() if PERIOD.match(path.name)) if folder.is_dir() else []
    return [results.load("decisions/decision_card", f"{domain}|{period}") for period in periods]


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


@dg.asset(
    key=GRAPH_KEY,
    ins={"network": dg.AssetIn(NETWORK_KEY)},
    description="The network of domains as a picture and as a page that zooms.",
    code_version="1",
    dagster_type=dg.Any,
    **{**SHARED, "kinds": {"python", "matplotlib"}},
)
def domain_network_graph(settings: dg.ResourceParam[Settings], network: dict[str, Any]) -> dg.MaterializeResult:
    """Draw the stored network."""
    from cqox_assets.figure_store import recorded
    from cqox_assets.figures._files import PRINTED, render
    from cqox_assets.figures.domain_network_graph import SPEC, drawn

    reports = ReportStore(settings.reports, settings.reports_url)

    def _stored(folder: str) -> tuple[Drawing, dict[str, str]]:
        drawing = drawn(network, "3d")
        files = {kind: f"{folder}/{SPEC.name}.{kind}" for kind in (*PRINTED, "html")}
        for kind, file in files.items():
            reports.write(file, render(drawing, kind))
        return drawing, files

    record = recorded(SPEC, reports, "domains", _stored)
    links = {kind: reports.url(file) for kind, file in record.files.items()}
    shown = {kind: dg.MetadataValue.url(link) for kind, link in links.items()}
    return dg.MaterializeResult(
        value=record,
        metadata={
            "status": record.status,
            "reason": record.reason or "drawn",
            **({"figure": dg.MetadataValue.md(f"![network of domains]({links['svg']})")} if links else {}),
            **shown,
        },
    )


ASSETS = [effect_history, domain_network, domain_network_graph]
