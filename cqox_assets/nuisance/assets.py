"""Shared nuisance models as an asset."""

from typing import Any

import dagster as dg

from cqox_assets.alerts import write_alert
from cqox_assets.assets import bullets, check_specs, checks_of, numbers, stage
from cqox_assets.measures import Diagnostic
from cqox_assets.result import Failure, Refusal
from cqox_assets.study import Study
from cqox_resources.settings import Settings

KEY = dg.AssetKey(["nuisance", "nuisance_models"])
CHECKS = ("overlap", "effective_sample_size", "weight_range")


@dg.asset(
    key=KEY,
    ins={"gated_study": dg.AssetIn(["gates", "gated_study"])},
    description="Cross-fitted propensity and outcome predictions, made once and shared by the estimators.",
    code_version="1",
    check_specs=check_specs(CHECKS, KEY),
    **stage("nuisance", cost="heavy", kinds={"python", "lightgbm"}),
)
def nuisance_models(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], gated_study: Study
) -> dg.MaterializeResult:
    """Fit the default nuisance learner; a study that has no arms or no covariates gets a refusal instead."""
    from cqox_assets.nuisance.shared import shared_nuisance

    value = shared_nuisance(gated_study, context.run_id)
    found: tuple[Diagnostic, ...] = ()
    metadata: dict[str, Any]
    if isinstance(value, Refusal):
        metadata = {"status": "refused", "reason": value.reason, "remedy": value.remedy}
    elif isinstance(value, Failure):
        metadata = {"status": "failed", "exception": value.exception}
        message = f"nuisance_models: {value.exception}"
        write_alert(settings, "bug", str(context.partition_key), context.run_id, message)
        context.log.error(value.traceback)
    else:
        found = value.diagnostics
        metadata = {
            "status": "fitted",
            "learner": value.learner,
            "notices": dg.MetadataValue.md(bullets(value.notices) or "none"),
            **numbers({"clipped_rows": value.clipped, **{item.name: item.value for item in found}}),
        }
    return dg.MaterializeResult(
        value=value,
        metadata={"fingerprint": gated_study.fingerprint, **metadata},
        check_results=checks_of(CHECKS, found, KEY),
    )


ASSETS = [nuisance_models]
