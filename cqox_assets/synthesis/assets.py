"""What all results say together: the effect summary, the gates over every diagnostic, the guardrails."""

from dataclasses import asdict

import dagster as dg
import pandas as pd

from cqox_assets.assets import markdown_table, numbers, stage
from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.partitions import Partition
from cqox_assets.result import EffectEstimate, Failure, Refusal
from cqox_assets.results import Results
from cqox_resources.settings import Settings

STAGE = stage("synthesis")
ESTIMATES = [dg.AssetDep(["estimates", name]) for name in load_estimators()]
QUESTIONS = [dg.AssetDep(["sensitivity", name]) for name in load_sensitivities()]
GATES_KEY = dg.AssetKey(["synthesis", "design_gates"])
RAILS_KEY = dg.AssetKey(["synthesis", "guardrail_effects"])


@dg.asset(
    key=["synthesis", "effect_summary"],
    deps=[
        dg.AssetDep(["gates", "gated_study"]),
        dg.AssetDep(["discovery", "method_plan"]),
        dg.AssetDep(GATES_KEY),
        *ESTIMATES,
    ],
    description="Estimates by estimand, agreement among those that answer the same question, assumption ledger.",
    code_version="1",
    **STAGE,
)
def effect_summary(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Summarise every estimate of the current study."""
    from cqox_assets.discovery.plan import plan_methods
    from cqox_assets.synthesis.effect_summary import summarise

    present = Results(settings.warehouse).present(Partition.parse(context.partition_key).key)
    gates = present.find("synthesis/design_gates")
    summary = summarise(
        present.plan or plan_methods(present.study), present.estimates, gates.to_json()["rows"] if gates else ()
    )
    kinds = list(present.estimates.values())
    return dg.MaterializeResult(
        value=summary,
        metadata={
            "fingerprint": present.fingerprint,
            "summary": dg.MetadataValue.md(summary.markdown()),
            **numbers(
                {
                    "estimated": sum(isinstance(item, EffectEstimate) for item in kinds),
                    "refused": sum(isinstance(item, Refusal) for item in kinds),
                    "failed": sum(isinstance(item, Failure) for item in kinds),
                }
            ),
        },
    )


@dg.asset(
    key=GATES_KEY,
    deps=[
        dg.AssetDep(["gates", "data_diagnostics"]),
        dg.AssetDep(["gates", "gated_study"]),
        dg.AssetDep(["nuisance", "nuisance_models"]),
        *ESTIMATES,
        *QUESTIONS,
    ],
    description="Every diagnostic of data, nuisance models, estimates and sensitivity, judged by Great Expectations.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("design_holds", asset=GATES_KEY, description="No design gate failed or warned.")],
    **stage("synthesis", kinds={"python", "greatexpectations"}),
)
def design_gates(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Collect and judge the diagnostics of the current study."""
    from cqox_assets.gates.data import diagnose
    from cqox_assets.gates.design import collect

    present = Results(settings.warehouse).present(Partition.parse(context.partition_key).key)
    report = collect(
        present.data or diagnose(present.study), present.nuisance, present.estimates, present.inputs().sensitivity
    )
    counts = report.counts()
    return dg.MaterializeResult(
        value=report,
        metadata={
            "fingerprint": present.fingerprint,
            "gates": dg.MetadataValue.md(report.markdown()),
            **{f"gates_{status}": count for status, count in counts.items()},
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=GATES_KEY,
                check_name="design_holds",
                passed=counts["pass"] == len(report.rows),
                severity=dg.AssetCheckSeverity.WARN,
                description=report.headline(),
            )
        ],
    )


@dg.asset(
    key=RAILS_KEY,
    deps=[dg.AssetDep(["gates", "gated_study"]), dg.AssetDep(["discovery", "method_plan"])],
    description="The effect of the treatment on each guardrail, an outcome that must not get worse than its margin.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("measured", asset=RAILS_KEY, description="Every declared guardrail was measured.")],
    **STAGE,
)
def guardrail_effects(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Estimate the effect on every guardrail of the current study."""
    from cqox_assets.discovery.plan import plan_methods
    from cqox_assets.synthesis.guardrails import measure_guardrails

    present = Results(settings.warehouse).present(Partition.parse(context.partition_key).key)
    found = measure_guardrails(present.study, present.plan or plan_methods(present.study))
    missed = [f"{rail.name}: {rail.reason}" for rail in found if rail.estimate is None]
    rows = pd.DataFrame([asdict(rail) for rail in found])
    return dg.MaterializeResult(
        value={"effects": [asdict(rail) for rail in found]},
        metadata={
            "fingerprint": present.fingerprint,
            "guardrails": dg.MetadataValue.md(markdown_table(rows) if found else "none is declared"),
            **numbers({_plotted(rail.name, rail.contrast): rail.estimate for rail in found}),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=RAILS_KEY,
                check_name="measured",
                passed=not missed,
                severity=dg.AssetCheckSeverity.WARN,
                description="; ".join(missed) or (f"{len(found)} measured" if found else "none is declared"),
            )
        ],
    )


def _plotted(name: str, contrast: str) -> str:
    return f"effect on {name}" + (f", {contrast}" if contrast else "")


SCORE_KEY = dg.AssetKey(["synthesis", "quality_score"])
CRITIQUE_KEY = dg.AssetKey(["synthesis", "critique"])
JUDGED = [
    dg.AssetDep(["gates", "gated_study"]),
    dg.AssetDep(["discovery", "method_plan"]),
    dg.AssetDep(GATES_KEY),
    *ESTIMATES,
    *QUESTIONS,
]


@dg.asset(
    key=SCORE_KEY,
    deps=JUDGED,
    description="How far the answer can be relied on: five axes from 0 to 10 and 0 to 100 overall, against last month.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("zone", asset=SCORE_KEY, description="The quality score is in its pass zone.")],
    **STAGE,
)
def quality_score(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Score the analysis of the current study and compare it with the latest earlier period's."""
    from cqox_assets.synthesis.quality_change import with_comparison
    from cqox_assets.synthesis.quality_score import quality_of

    partition, results = Partition.parse(context.partition_key), Results(settings.warehouse)
    present = results.present(partition.key)
    score, before = quality_of(present), results.earlier("synthesis/quality_score", partition.key)
    if before is not None:
        score = with_comparison(score, before[1], (before[0], partition.period))
    return dg.MaterializeResult(
        value=score,
        metadata={
            "fingerprint": present.fingerprint,
            "axes": dg.MetadataValue.md(score.markdown()),
            **numbers({"score": score.score, **score.axes}),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=SCORE_KEY,
                check_name="zone",
                passed=score.zone == "pass",
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{score.zone}: {'no evidence' if score.score is None else f'{score.score:g} of 100'}",
            )
        ],
    )


@dg.asset(
    key=CRITIQUE_KEY,
    deps=JUDGED,
    description="A reviewer by fixed rules: approve, iterate with remedies from a fixed list (all shown), or reject.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("approved", asset=CRITIQUE_KEY, description="The review approves the analysis.")],
    **STAGE,
)
def critique(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Review the analysis of the current study; remedies are carried out here and shown."""
    from cqox_assets.synthesis.critique import APPROVE, critique_of

    present = Results(settings.warehouse).present(Partition.parse(context.partition_key).key)
    found = critique_of(present)
    return dg.MaterializeResult(
        value=found,
        metadata={
            "fingerprint": present.fingerprint,
            "verdict": found.verdict,
            "review": dg.MetadataValue.md(found.markdown()),
            "rounds": len(found.rounds) - 1,
            "seconds": found.seconds,
            "budget_seconds": found.budget_seconds,
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=CRITIQUE_KEY,
                check_name="approved",
                passed=found.verdict == APPROVE,
                severity=dg.AssetCheckSeverity.WARN,
                description=found.sentence,
            )
        ],
    )


ASSETS = [effect_summary, design_gates, guardrail_effects, quality_score, critique]
