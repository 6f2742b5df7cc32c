"""The decision card as an asset: JSON and HTML in the report store, opened from the UI."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from cqox_assets import __version__
from cqox_assets.assets import bullets, numbers, stage
from cqox_assets.catalog import load_estimators, load_figures, load_sensitivities
from cqox_assets.partitions import Partition
from cqox_assets.result import to_text
from cqox_assets.results import Results
from cqox_assets.stored import Delivery
from cqox_resources.reports import ReportStore
from cqox_resources.settings import Settings

CARD_KEY = dg.AssetKey(["decisions", "decision_card"])
AUDIT_KEY = dg.AssetKey(["decisions", "audit_record"])


@dg.asset(
    key=CARD_KEY,
    deps=[
        dg.AssetDep(["gates", "gated_study"]),
        dg.AssetDep(["discovery", "method_plan"]),
        dg.AssetDep(["synthesis", "effect_summary"]),
        dg.AssetDep(["synthesis", "design_gates"]),
        dg.AssetDep(["synthesis", "guardrail_effects"]),
        dg.AssetDep(["synthesis", "counterfactual_systems"]),
        dg.AssetDep(["synthesis", "policy_value"]),
        *(dg.AssetDep(["estimates", name]) for name in load_estimators()),
        *(dg.AssetDep(["sensitivity", name]) for name in load_sensitivities()),
        *(dg.AssetDep(["figures", name]) for name in load_figures()),
    ],
    description="GO, CANARY or HOLD with every reason, what would flip it, and the evidence; as HTML and JSON.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("decided", asset=CARD_KEY, description="The verdict is not HOLD.")],
    **stage("decisions", kinds={"python", "html"}),
)
def decision_card(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Write the card of the current study."""
    from cqox_assets.decisions.card import card_of, render_html

    partition = Partition.parse(context.partition_key)
    present = Results(settings.warehouse).present(partition.key)
    card = card_of(present, provenance=_provenance(context, partition))
    reports = ReportStore(settings.reports, settings.reports_url)
    reports.write(f"{partition.path}/decision_card.json", to_text(card).encode())
    reports.write(f"{partition.path}/decision_card.html", render_html(card).encode())
    link = reports.url(f"{partition.path}/decision_card.html")
    reasons = [reason["sentence"] if isinstance(reason, dict) else str(reason) for reason in card["reasons"]]
    return dg.MaterializeResult(
        value=json.loads(to_text({**card, "partition": partition.key})),
        metadata={
            "fingerprint": present.fingerprint,
            "verdict": card["verdict"],
            "card": dg.MetadataValue.url(link),
            "open": dg.MetadataValue.md(f"## {card['verdict']}\n\n[Open the decision card]({link})"),
            "reasons": dg.MetadataValue.md(bullets(reasons)),
            "recommendation": card["recommendation"],
            "flips_if": dg.MetadataValue.md(bullets(map(str, card["flips_if"])) or "nothing"),
            **numbers(_headline_numbers(card)),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=CARD_KEY,
                check_name="decided",
                passed=card["verdict"] != "HOLD",
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{card['verdict']}: {reasons[0] if reasons else ''}",
            )
        ],
    )


def _headline_numbers(card: dict[str, Any]) -> dict[str, float | None]:
    """Return what plots over the months: the consensus of the preferred estimand and the verdict as a step."""
    targets = [group for group in card["synthesis"]["groups"] if group.get("preferred")] or card["synthesis"]["groups"]
    first = targets[0] if targets else {}
    return {
        "consensus": first.get("consensus"),
        "consensus_low": first.get("low"),
        "consensus_high": first.get("high"),
        "verdict_step": float({"HOLD": 0, "CANARY": 1, "GO": 2}[card["verdict"]]),
    }


def _provenance(context: dg.AssetExecutionContext, partition: Partition) -> dict[str, Any]:
    return {
        "partition": partition.key,
        "code_version": __version__,
        "revision": _revision(),
        "run_id": context.run_id,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _revision() -> str:
    """Return the commit of the checkout that runs, or nothing where it runs from a wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@dg.asset(
    key=AUDIT_KEY,
    ins={
        "raw_table": dg.AssetIn(["ingestion", "raw_table"]),
        "card": dg.AssetIn(["decisions", "decision_card"]),
    },
    description="A chain of hashes: what was declared before the first result, then every analysis and its verdict.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("unbroken", asset=AUDIT_KEY, description="No earlier entry was changed.")],
    **stage("decisions"),
)
def audit_record(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], raw_table: Delivery, card: dict[str, Any]
) -> dg.MaterializeResult:
    """Append what was declared, when that is new, and what was decided."""
    from cqox_assets.decisions.audit import append, broken_at

    partition = Partition.parse(context.partition_key)
    entries = _entries(Results(settings.warehouse), partition)
    broken = broken_at(entries)
    declared = [entry for entry in entries if entry["event"] == "declared"]
    if not declared or declared[-1]["sha256"] != raw_table.declaration_sha256:
        entries = append(entries, _declared(raw_table, context.run_id))
    entries = append(entries, _decided(card, raw_table))
    content = {"partition": partition.key, "entries": entries}
    path = f"{partition.path}/audit.json"
    ReportStore(settings.reports, settings.reports_url).write(path, to_text(content).encode())
    said = (
        "every entry follows from the one before"
        if broken is None
        else f"entry {broken} was changed after it was written"
    )
    return dg.MaterializeResult(
        value=content,
        metadata={
            "fingerprint": card["study"]["fingerprint"],
            "entries": len(entries),
            "first_declared": entries[0]["at"],
            "record": dg.MetadataValue.url(ReportStore(settings.reports, settings.reports_url).url(path)),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=AUDIT_KEY,
                check_name="unbroken",
                passed=broken is None,
                severity=dg.AssetCheckSeverity.ERROR,
                description=said,
            )
        ],
    )


def _entries(results: Results, partition: Partition) -> list[dict[str, Any]]:
    try:
        return list(results.load("decisions/audit_record", partition.key)["entries"])
    except FileNotFoundError:  # the first analysis of this partition
        return []


def _declared(delivery: Delivery, run_id: str) -> dict[str, Any]:
    return {
        "event": "declared",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run_id": run_id,
        "sha256": delivery.declaration_sha256,
        "declaration": delivery.declaration.model_dump(mode="json", exclude_defaults=True),
    }


def _decided(card: dict[str, Any], delivery: Delivery) -> dict[str, Any]:
    return {
        "event": "decided",
        "at": card["provenance"]["created"],
        "run_id": card["provenance"]["run_id"],
        "code_version": card["provenance"]["code_version"],
        "data": [[str(source["name"]), str(source["sha256"])] for source in delivery.table.sources],
        "study": card["study"]["fingerprint"],
        "verdict": card["verdict"],
    }


ASSETS = [decision_card, audit_record]
