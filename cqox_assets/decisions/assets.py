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
from cqox_resources.reports import ReportStore
from cqox_resources.settings import Settings

CARD_KEY = dg.AssetKey(["decisions", "decision_card"])


@dg.asset(
    key=CARD_KEY,
    deps=[
        dg.AssetDep(["gates", "gated_study"]),
        dg.AssetDep(["discovery", "method_plan"]),
        dg.AssetDep(["synthesis", "effect_summary"]),
        dg.AssetDep(["synthesis", "design_gates"]),
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
    targets = [group for group in card["summary"]["groups"] if group.get("preferred")] or card["summary"]["groups"]
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


ASSETS = [decision_card]
