"""Shared nuisance models as an asset."""

from typing import Any

import dagster as dg

from cqox_assets.assets import bullets, check_specs, checks_of, numbers, stage
from cqox_assets.errors import CqoxError
from cqox_assets.measures import Diagnostic
from cqox_assets.result import Nuisance, Refusal
from cqox_assets.spec import CommonParams
from cqox_assets.study import Role, Study, TreatmentKind

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
def nuisance_models(gated_study: Study) -> dg.MaterializeResult:
    """Fit the default nuisance learner; a study that has no arms or no covariates gets a refusal instead."""
    value = fit(gated_study)
    found: tuple[Diagnostic, ...] = ()
    metadata: dict[str, Any]
    if isinstance(value, Refusal):
        metadata = {"status": "refused", "reason": value.reason, "remedy": value.remedy}
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


def fit(study: Study) -> Nuisance | Refusal:
    """Return shared predictions, or why there are none."""
    from cqox_assets.nuisance.models import fit_nuisance

    name = "nuisance_models"
    if study.treatment_kind not in (TreatmentKind.BINARY, TreatmentKind.CATEGORICAL):
        return Refusal(
            name, "treatment_kind", f"the treatment is {study.treatment_kind}", "code the treatment in arms",
            {"fingerprint": study.fingerprint},
        )  # fmt: skip
    if not study.has(Role.COVARIATES):
        return Refusal(
            name, "missing_role", "no column plays the role 'covariates'",
            "map covariates in study.yaml if the arms may differ", {"fingerprint": study.fingerprint},
        )  # fmt: skip
    try:
        return fit_nuisance(study, CommonParams())
    except CqoxError as error:
        reason, _, remedy = error.message.partition("; ")
        return Refusal(
            name, error.code, reason, remedy or "see the data diagnostics", {"fingerprint": study.fingerprint}
        )


ASSETS = [nuisance_models]
