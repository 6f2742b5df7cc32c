"""One asset per estimator of the catalogue, generated; no statistics happen here."""

import math
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from cqox_assets.alerts import write_alert
from cqox_assets.assets import bullets, check_specs, checks_of, config_for, given, markdown_table, numbers, stage
from cqox_assets.catalog import load_estimators
from cqox_assets.result import EffectEstimate, Failure, Interval, Nuisance, Outcome, Refusal
from cqox_assets.runner import run_guarded, runner_for
from cqox_assets.spec import Context, EstimatorSpec
from cqox_assets.study import Study
from cqox_resources.settings import Settings


def estimator_asset(spec: EstimatorSpec) -> dg.AssetsDefinition:
    """Wrap one catalogue entry as an asset."""
    key, config_type = dg.AssetKey(["estimates", spec.name]), config_for(spec.name, spec.params)
    ins = {"study": dg.AssetIn(["gates", "gated_study"])}
    if spec.shares_nuisance:
        ins["nuisance"] = dg.AssetIn(["nuisance", "nuisance_models"])

    def compute(context: dg.AssetExecutionContext, config, settings, study, nuisance=None) -> dg.MaterializeResult:  # type: ignore[no-untyped-def]
        shared = nuisance if isinstance(nuisance, Nuisance) else None
        outcome = run_guarded(spec, study, given(config), runner_for(Context(nuisance=shared)), context.run_id)
        if isinstance(outcome, Failure):
            write_alert(
                settings, "bug", str(context.partition_key), context.run_id, f"{spec.name}: {outcome.exception}"
            )
            context.log.error(outcome.traceback)
        return dg.MaterializeResult(
            value=outcome, metadata=summary(outcome, study.fingerprint), check_results=verdicts(spec, outcome, key)
        )

    if spec.shares_nuisance:

        def estimate(context, config, settings, study, nuisance):  # type: ignore[no-untyped-def]
            return compute(context, config, settings, study, nuisance)

        inputs: dict[str, Any] = {"study": Study, "nuisance": Any}
    else:

        def estimate(context, config, settings, study):  # type: ignore[no-untyped-def, misc]
            return compute(context, config, settings, study)

        inputs = {"study": Study}
    # Dagster reads annotations when the asset is defined; they are set here because the types are generated.
    estimate.__annotations__ = {
        "context": dg.AssetExecutionContext,
        "config": config_type,
        "settings": dg.ResourceParam[Settings],
        **inputs,
        "return": dg.MaterializeResult,
    }
    wrapped: dg.AssetsDefinition = dg.asset(
        key=key,
        ins=ins,
        description=describe(spec),
        metadata=facts(spec),
        code_version=spec.version,
        check_specs=[
            dg.AssetCheckSpec("answered", asset=key, description="An estimate, not a refusal (WARN) or a bug (ERROR)."),
            *check_specs(spec.diagnostics, key),
        ],
        **stage("estimates", cost=spec.cost, kinds={"python", spec.family[:20]}),
    )(estimate)
    return wrapped


def describe(spec: EstimatorSpec) -> str:
    """Return what the asset page says of an estimator."""
    lines = [f"**{spec.title}** estimates {', '.join(spec.estimands)}."]
    if spec.aliases:
        lines.append(f"Also known as {', '.join(spec.aliases)}.")
    doc = (getattr(__import__(spec.run.__module__, fromlist=["run"]), "__doc__", "") or "").strip()
    lines.append(doc)
    if spec.assumptions:
        lines.append("Assumes " + ", ".join(name.replace("_", " ") for name in spec.assumptions) + ".")
    if spec.references:
        lines.append("References: " + "; ".join(spec.references) + ".")
    return "\n\n".join(line for line in lines if line)


def facts(spec: EstimatorSpec) -> dict[str, Any]:
    """Return what the catalogue says of an estimator, for the asset page."""
    return {
        "family": spec.family,
        "estimands": ", ".join(spec.estimands),
        "needs": ", ".join(sorted(spec.requires)),
        "uses": ", ".join(sorted(spec.accepts)),
    }


def summary(outcome: Outcome, fingerprint: str) -> dict[str, Any]:
    """Return what the UI shows of an outcome; numeric names are stable, so they plot over the months."""
    if isinstance(outcome, Refusal):
        return {
            "fingerprint": fingerprint,
            "status": "refused",
            "code": outcome.code,
            "reason": outcome.reason,
            "remedy": outcome.remedy,
        }
    if isinstance(outcome, Failure):
        return {"fingerprint": fingerprint, "status": "failed", "exception": outcome.exception}
    return {"fingerprint": fingerprint, "status": "estimated", **_estimate_metadata(outcome)}


def _estimate_metadata(outcome: EffectEstimate) -> dict[str, Any]:
    interval = outcome.interval
    plotted = {
        "estimate": outcome.estimate,
        "std_error": outcome.std_error,
        "interval_low": interval.low if interval else None,
        "interval_high": interval.high if interval else None,
        "p_value": outcome.p_value,
        "n": outcome.sample.used,
        "seconds": outcome.provenance.get("seconds"),
    }
    return {
        "estimand": str(outcome.estimand),  # Dagster stores plain texts, no members of an Enum
        "contrast": outcome.headline.contrast,
        "inference": outcome.inference,
        "effects": dg.MetadataValue.md(markdown_table(effects_table(outcome), 40)),
        "diagnostics": dg.MetadataValue.md(_diagnostics_markdown(outcome)),
        "notices": dg.MetadataValue.md(bullets(outcome.notices) or "none"),
        "sample": dg.MetadataValue.json(_sample(outcome)),
        **_open_ends(interval),
        **numbers({name: value for name, value in plotted.items() if value is None or math.isfinite(value)}),
    }


def _open_ends(interval: Interval | None) -> dict[str, str]:
    """Say which ends of the interval are infinite; those have no number to plot."""
    if interval is None:
        return {}
    ends = [name for name, end in (("low", interval.low), ("high", interval.high)) if math.isinf(end)]
    return {"unbounded": "both" if len(ends) == 2 else ends[0]} if ends else {}


def effects_table(outcome: EffectEstimate) -> pd.DataFrame:
    """Return one row per effect."""
    return pd.DataFrame(
        {
            "estimand": effect.estimand,
            "contrast": effect.contrast,
            "at": ", ".join(f"{name}={value}" for name, value in effect.at.items()),
            "estimate": effect.estimate,
            "std. error": effect.std_error,
            "low": effect.interval.low if effect.interval else None,
            "high": effect.interval.high if effect.interval else None,
            "p": effect.p_value,
            "scale": effect.scale,
        }
        for effect in outcome.effects
    )


def _diagnostics_markdown(outcome: EffectEstimate) -> str:
    rows = pd.DataFrame(
        {"status": item.status.value, "diagnostic": item.name, "value": item.value, "threshold": item.threshold,
         "what it says": item.detail}
        for item in outcome.diagnostics
    )  # fmt: skip
    return markdown_table(rows, 40) if len(rows) else "none"


def _sample(outcome: EffectEstimate) -> Mapping[str, Any]:
    sample = outcome.sample
    return {
        "used": sample.used,
        "dropped": dict(sample.dropped),
        "per_arm": dict(sample.per_arm),
        "clusters": sample.clusters,
        "effective_size": sample.effective_size,
    }


def verdicts(spec: EstimatorSpec, outcome: Outcome, key: dg.AssetKey) -> list[dg.AssetCheckResult]:
    """Return the check `answered` and one check per declared diagnostic."""
    if isinstance(outcome, Refusal):
        said, severity = f"refused ({outcome.code}): {outcome.reason}. {outcome.remedy}", dg.AssetCheckSeverity.WARN
    elif isinstance(outcome, Failure):
        said, severity = f"a bug, not your data: {outcome.exception}", dg.AssetCheckSeverity.ERROR
    else:
        said, severity = "estimated", dg.AssetCheckSeverity.WARN
    answered = dg.AssetCheckResult(
        asset_key=key,
        check_name="answered",
        passed=isinstance(outcome, EffectEstimate),
        severity=severity,
        description=said,
    )
    found = outcome.diagnostics if isinstance(outcome, EffectEstimate) else ()
    return [answered, *checks_of(spec.diagnostics, found, key)]


ASSETS = [estimator_asset(spec) for spec in load_estimators().values()]
