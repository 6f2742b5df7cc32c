"""The decision card, the audit record and the analysis notebook as assets, opened from the UI."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from cqox_assets import __version__
from cqox_assets.assets import bullets, numbers, stage, told
from cqox_assets.catalog import load_estimators, load_sensitivities, study_figures
from cqox_assets.partitions import Partition
from cqox_assets.result import to_text
from cqox_assets.results import Results
from cqox_assets.stored import Delivery
from cqox_resources.reports import ReportStore
from cqox_resources.settings import Settings

CARD_KEY = dg.AssetKey(["decisions", "decision_card"])
AUDIT_KEY = dg.AssetKey(["decisions", "audit_record"])
SITE_KEY = dg.AssetKey(["decisions", "report_site"])
NOTEBOOK_KEY = dg.AssetKey(["decisions", "analysis_notebook"])


@dg.asset(
    key=CARD_KEY,
    deps=[
        dg.AssetDep(["gates", "gated_study"]),
        dg.AssetDep(["discovery", "method_plan"]),
        dg.AssetDep(["synthesis", "effect_summary"]),
        dg.AssetDep(["synthesis", "design_gates"]),
        dg.AssetDep(["synthesis", "guardrail_effects"]),
        dg.AssetDep(["synthesis", "quality_score"]),
        dg.AssetDep(["synthesis", "critique"]),
        dg.AssetDep(["synthesis", "counterfactual_systems"]),
        dg.AssetDep(["synthesis", "policy_value"]),
        *(dg.AssetDep(["estimates", name]) for name in load_estimators()),
        *(dg.AssetDep(["sensitivity", name]) for name in load_sensitivities()),
        *(dg.AssetDep(["figures", name]) for name in study_figures()),
    ],
    description="GO, CANARY or HOLD with every reason, what would flip it, and the evidence; as JSON, HTML, PDF and "
    "LaTeX, in English and Japanese.",
    code_version="2",
    check_specs=[dg.AssetCheckSpec("decided", asset=CARD_KEY, description="The verdict is not HOLD.")],
    **stage("decisions", kinds={"python", "html"}),
)
def decision_card(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Write the card of the current study."""
    from cqox_assets.decisions.card import card_of
    from cqox_assets.decisions.files import files_of

    partition = Partition.parse(context.partition_key)
    present = Results(settings.warehouse).present(partition.key)
    card = card_of(present, provenance=_provenance(context, partition))
    reports = ReportStore(settings.reports, settings.reports_url)
    for name, content in files_of(card, lambda file: _figure(reports, partition, file)).items():
        reports.write(f"{partition.path}/{name}", content)
    link = reports.url(f"{partition.path}/decision_card.html")
    reasons = [reason["sentence"] if isinstance(reason, dict) else str(reason) for reason in card["reasons"]]
    return dg.MaterializeResult(
        value=json.loads(to_text({**card, "partition": partition.key})),
        metadata={
            "fingerprint": present.fingerprint,
            "verdict": card["verdict"],
            "card": dg.MetadataValue.url(link),
            "open": dg.MetadataValue.md(
                f"## {card['verdict']}\n\n[Open the decision card]({link}) · "
                f"[PDF]({reports.url(f'{partition.path}/decision_card.pdf')})"
            ),
            "reasons": dg.MetadataValue.md(bullets(reasons)),
            "recommendation": card["recommendation"],
            "flips_if": dg.MetadataValue.md(bullets(map(str, card["flips_if"])) or "nothing"),
            **numbers(_headline_numbers(card)),
        },
        check_results=[
            told(CARD_KEY, "decided", card["verdict"] != "HOLD", f"{card['verdict']}: {reasons[0] if reasons else ''}")
        ],
    )


def _figure(reports: ReportStore, partition: Partition, file: str) -> bytes:
    content = reports.read(f"{partition.path}/{file}")
    if content is None:
        raise FileNotFoundError(file)
    return content


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
    description="An append-only chain of hashes: what was declared before the first result, then who ran what on which "
    "data with which code and verdict. `python -m cqox_assets.decisions.audit verify` checks it.",
    code_version="2",
    check_specs=[dg.AssetCheckSpec("unbroken", asset=AUDIT_KEY, description="No earlier entry was changed.")],
    **stage("decisions"),
)
def audit_record(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], raw_table: Delivery, card: dict[str, Any]
) -> dg.MaterializeResult:
    """Append what was declared, when that is new, and what was decided."""
    from cqox_assets.decisions.audit import FILE
    from cqox_assets.decisions.record import RunFacts, extend

    partition = Partition.parse(context.partition_key)
    reports = ReportStore(settings.reports, settings.reports_url)
    path = f"{partition.path}/{FILE}"
    run = RunFacts(context.run_id, dict(context.run_tags), reports.read(f"{partition.path}/decision_card.json"))
    record = extend(reports.read(path), _stored_record(Results(settings.warehouse), partition), card, raw_table, run)
    reports.append(path, record.new_lines)
    said = "every entry follows from the one before" if record.broken is None else f"{FILE} {record.broken}"
    return dg.MaterializeResult(
        value={"partition": partition.key, "file": FILE, "count": record.count, "head": record.head},
        metadata={
            "fingerprint": card["study"]["fingerprint"],
            "entries": record.count,
            "head": record.head,
            "who": record.who,
            "record": dg.MetadataValue.url(reports.url(path)),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=AUDIT_KEY,
                check_name="unbroken",
                passed=record.broken is None,
                severity=dg.AssetCheckSeverity.ERROR,
                description=said,
            )
        ],
    )


def _stored_record(results: Results, partition: Partition) -> dict[str, Any] | None:
    try:
        return dict(results.load("decisions/audit_record", partition.key))
    except FileNotFoundError:  # the first analysis of this partition
        return None


@dg.asset(
    key=NOTEBOOK_KEY,
    ins={"card": dg.AssetIn(["decisions", "decision_card"])},
    deps=[dg.AssetDep(["gates", "gated_study"])],
    description="An executed notebook that loads the stored study and gets the card's headline number again.",
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec("reproduces", asset=NOTEBOOK_KEY, description="The headline number came out again, to 1e-9.")
    ],
    **stage("decisions", kinds={"python", "jupyter"}),
)
def analysis_notebook(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], card: dict[str, Any]
) -> dg.MaterializeResult:
    """Write and execute the notebook of the current card."""
    from cqox_assets.decisions.notebook import execute, make_notebook

    partition = Partition.parse(context.partition_key)
    done = execute(make_notebook(card, str(settings.warehouse)))
    reports, path = ReportStore(settings.reports, settings.reports_url), f"{partition.path}/analysis.ipynb"
    reports.write(path, done.content)
    said = done.error or done.reproduced or "no estimator answered, so there is no number to reproduce"
    return dg.MaterializeResult(
        value={"partition": partition.key, "reproduced": done.reproduced, "error": done.error},
        metadata={
            "fingerprint": card["study"]["fingerprint"],
            "notebook": dg.MetadataValue.url(reports.url(path)),
            "said": said,
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=NOTEBOOK_KEY,
                check_name="reproduces",
                passed=bool(done.reproduced),
                severity=dg.AssetCheckSeverity.ERROR if done.error else dg.AssetCheckSeverity.WARN,
                description=said,
            )
        ],
    )


def _site_asset(group: str, key: dg.AssetKey, deps: list[dg.AssetDep], description: str) -> dg.AssetsDefinition:
    """Return the asset that writes the report site; what moves is drawn later, so its site is an asset of its own."""

    @dg.asset(
        key=key,
        ins={"card": dg.AssetIn(["decisions", "decision_card"])},
        deps=deps,
        description=description,
        code_version="1",
        **stage(group, kinds={"python", "html"}),
    )
    def _write(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], card: dict[str, Any]
    ) -> dg.MaterializeResult:
        return _write_site(Partition.parse(context.partition_key), settings, card)

    made: dg.AssetsDefinition = _write
    return made


def _write_site(partition: Partition, settings: Settings, card: dict[str, Any]) -> dg.MaterializeResult:
    """Write the report site of the current study."""
    from cqox_assets.decisions.site import INDEX, site_of

    present = Results(settings.warehouse).present(partition.key)
    reports = ReportStore(settings.reports, settings.reports_url)
    files = site_of(
        card, present.figures, present.moving, study_figures(), lambda file: reports.read(f"{partition.path}/{file}")
    )
    written = [reports.write(f"{partition.path}/{path}", content).name for path, content in files]
    link = reports.url(f"{partition.path}/{INDEX}")
    drawn = sum(record.status == "drawn" for record in present.figures.values())
    return dg.MaterializeResult(
        value={"partition": partition.key, "index": INDEX, "files": len(written), "figures": drawn},
        metadata={
            "fingerprint": present.fingerprint,
            "site": dg.MetadataValue.url(link),
            "open": dg.MetadataValue.md(f"[Open the gallery]({link})"),
            "figures": drawn,
            "moving_figures": sum(record.status == "drawn" for record in present.moving.values()),
        },
    )


report_site = _site_asset(
    "decisions",
    SITE_KEY,
    [
        dg.AssetDep(["gates", "gated_study"]),
        dg.AssetDep(NOTEBOOK_KEY),
        *(dg.AssetDep(["figures", name]) for name in study_figures()),
    ],
    "A gallery of the figures: a page each with caption and data, links to card and notebook.",
)
moving_site = _site_asset(
    "moving_figures",
    dg.AssetKey(["moving_figures", "report_site"]),
    [
        dg.AssetDep(SITE_KEY),
        *(dg.AssetDep(["moving_figures", name]) for name, spec in study_figures().items() if spec.moving),
    ],
    "The gallery again, with what turns or moves.",
)

ASSETS = [decision_card, audit_record, analysis_notebook, report_site, moving_site]
