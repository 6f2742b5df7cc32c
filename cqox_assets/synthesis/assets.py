"""What all results say together: the effect summary, the gates over every diagnostic, the guardrails."""

from dataclasses import asdict

import dagster as dg
import pandas as pd

from cqox_assets.assets import bullets, markdown_table, numbers, stage, told
from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.partitions import Partition
from cqox_assets.result import EffectEstimate, Failure, Findings, Refusal
from cqox_assets.results import Results
from cqox_resources.settings import Settings

STAGE = stage("synthesis")
ESTIMATES = [dg.AssetDep(["estimates", name]) for name in load_estimators()]
QUESTIONS = [dg.AssetDep(["sensitivity", name]) for name in load_sensitivities()]
GATES_KEY = dg.AssetKey(["synthesis", "design_gates"])
RAILS_KEY = dg.AssetKey(["synthesis", "guardrail_effects"])
SYSTEMS_KEY = dg.AssetKey(["synthesis", "counterfactual_systems"])
POLICY_KEY = dg.AssetKey(["synthesis", "policy_value"])


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
        check_results=[told(GATES_KEY, "design_holds", counts["pass"] == len(report.rows), report.headline())],
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
            told(
                RAILS_KEY,
                "measured",
                not missed,
                "; ".join(missed) or (f"{len(found)} measured" if found else "none is declared"),
            )
        ],
    )


@dg.asset(
    key=SYSTEMS_KEY,
    deps=[dg.AssetDep(["gates", "gated_study"]), dg.AssetDep(["nuisance", "nuisance_models"])],
    description="What would have happened under either arm, by a linear, a nonlinear and a machine-learned system.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("systems_agree", asset=SYSTEMS_KEY, description="Robustness is high or moderate.")],
    **STAGE,
)
def counterfactual_systems(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult:
    """Compare three counterfactual systems of the current study."""
    from cqox_assets.synthesis.counterfactual import counterfactual_systems as compare

    present = Results(settings.warehouse).present(Partition.parse(context.partition_key).key)
    found = compare(present.study, present.nuisance)
    contrasts = found.content.get("contrasts", ())
    said = [row["sentence"] for row in contrasts] or [f"{found.content['reason']}: {found.content['remedy']}"]
    return dg.MaterializeResult(
        value=found,
        metadata={
            "fingerprint": present.fingerprint,
            "status": found.content["status"],
            "reading": dg.MetadataValue.md(bullets(said)),
            "systems": dg.MetadataValue.md(markdown_table(found.tables.get("averages", pd.DataFrame()))),
            **numbers({f"range in SD, {row['contrast']}": row["range_in_sd"] for row in contrasts}),
        },
        check_results=[_judged(SYSTEMS_KEY, "systems_agree", found, {row["robustness"] for row in contrasts}, said)],
    )


@dg.asset(
    key=POLICY_KEY,
    deps=[
        dg.AssetDep(["gates", "gated_study"]),
        dg.AssetDep(["discovery", "method_plan"]),
        dg.AssetDep(["nuisance", "nuisance_models"]),
        *ESTIMATES,
    ],
    description="What treating part of the population is worth, what a budget allows and whom to treat.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("valued_in_money", asset=POLICY_KEY, description="Value and cost are stated.")],
    **STAGE,
)
def policy_value(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult:
    """Value policies of the current study in its money, or in units of its outcome."""
    from cqox_assets.synthesis.policy import policy_value as value

    present = Results(settings.warehouse).present(Partition.parse(context.partition_key).key)
    ranked = present.plan.names if present.plan else ()
    found = value(present.study, present.nuisance, present.estimates, ranked)
    rows = found.content.get("contrasts", ())
    said = found.content.get("sentences") or [f"{found.content['reason']}: {found.content['remedy']}"]
    priced = {"stated" if found.content.get("measure") == "net_benefit" else "low"}
    return dg.MaterializeResult(
        value=found,
        metadata={
            "fingerprint": present.fingerprint,
            "status": found.content["status"],
            "reading": dg.MetadataValue.md(bullets(said)),
            "policy_matrix": dg.MetadataValue.md(markdown_table(found.tables.get("segments", pd.DataFrame()))),
            **numbers({f"net benefit, {row['contrast']}": row["optimal"]["net_benefit"] for row in rows}),
            **numbers({f"coverage, {row['contrast']}": row["optimal"]["coverage"] for row in rows}),
        },
        check_results=[_judged(POLICY_KEY, "valued_in_money", found, priced, said)],
    )


def _judged(key: dg.AssetKey, name: str, found: Findings, classes: set[str], said: list[str]) -> dg.AssetCheckResult:
    """Return a check that passes where something was computed and nothing about it is low."""
    return told(key, name, found.computed and "low" not in classes, " ".join(said))


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
            told(
                SCORE_KEY,
                "zone",
                score.zone == "pass",
                f"{score.zone}: {'no evidence' if score.score is None else f'{score.score:g} of 100'}",
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
        check_results=[told(CRITIQUE_KEY, "approved", found.verdict == APPROVE, found.sentence)],
    )


ASSETS = [
    effect_summary,
    design_gates,
    guardrail_effects,
    counterfactual_systems,
    policy_value,
    quality_score,
    critique,
]
