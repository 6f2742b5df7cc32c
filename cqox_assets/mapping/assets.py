"""From the raw table to the study: profile, domain, roles and preparation as assets."""

from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd

from cqox_assets.assets import bullets, markdown_table, numbers, stage
from cqox_assets.errors import CqoxError
from cqox_assets.mapping.domains import DomainProfile, load_domains
from cqox_assets.mapping.profile import ColumnProfile
from cqox_assets.mapping.roles import RoleProposal
from cqox_assets.partitions import Partition
from cqox_assets.stored import Delivery
from cqox_resources.settings import Settings

STAGE = stage("mapping")


class RolesConfig(dg.Config):
    """Roles that a person confirms or corrects for this run; they beat study.yaml and inference."""

    roles: dict[str, list[str]] = {}  # noqa: RUF012  a Dagster config default, copied per instance


@dg.asset(
    key=["mapping", "column_profile"],
    ins={"raw_table": dg.AssetIn(["ingestion", "raw_table"])},
    description="What each column holds: type, missing values, outliers, candidate roles; and a data-quality score.",
    code_version="1",
    **STAGE,
)
def column_profile(raw_table: Delivery) -> dg.MaterializeResult:
    """Profile every column of the raw table."""
    from cqox_assets.mapping.profile import profile_columns

    profile = profile_columns(raw_table.table.frame)
    return dg.MaterializeResult(
        value=profile,
        metadata={
            "columns": dg.MetadataValue.md(markdown_table(profile.table, 60)),
            **numbers({"data_quality": float(profile.score)}),
        },
    )


@dg.asset(
    key=["mapping", "domain_match"],
    ins={"column_profile": dg.AssetIn(["mapping", "column_profile"])},
    description="Which domain the columns look like, and whether that is the partition's own.",
    code_version="1",
    check_specs=[dg.AssetCheckSpec("looks_like_its_domain", asset=["mapping", "domain_match"])],
    **STAGE,
)
def domain_match(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], column_profile: ColumnProfile
) -> dg.MaterializeResult:
    """Compare the columns with every domain's words."""
    from cqox_assets.mapping.domains import match_domain

    own = Partition.parse(context.partition_key).domain
    domains = _domains(settings)
    match = match_domain(column_profile, domains)
    family = {own, domains[own].extends if own in domains else None}
    fits = match.best in family or match.best == "general"
    sentence = (
        match.evidence if fits else f"the columns look like {match.best}, the inbox folder says {own}: {match.evidence}"
    )
    scores = pd.DataFrame(list(match.scores.items()), columns=["domain", "score"])
    return dg.MaterializeResult(
        value=match,
        metadata={
            "best": match.best,
            "evidence": match.evidence,
            "scores": dg.MetadataValue.md(markdown_table(scores.sort_values("score", ascending=False))),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key=["mapping", "domain_match"],
                check_name="looks_like_its_domain",
                passed=fits,
                severity=dg.AssetCheckSeverity.WARN,
                description=sentence,
            )
        ],
    )


@dg.asset(
    key=["mapping", "column_roles"],
    ins={
        "raw_table": dg.AssetIn(["ingestion", "raw_table"]),
        "column_profile": dg.AssetIn(["mapping", "column_profile"]),
    },
    deps=[dg.AssetDep(["mapping", "domain_match"])],
    description="The role of each column with confidence and evidence; study.yaml or the launchpad corrects it.",
    code_version="1",
    **STAGE,
)
def column_roles(
    context: dg.AssetExecutionContext,
    config: RolesConfig,
    settings: dg.ResourceParam[Settings],
    raw_table: Delivery,
    column_profile: ColumnProfile,
) -> dg.MaterializeResult:
    """Propose roles from names, types, cardinalities and relations; what a person stated wins."""
    from cqox_assets.mapping.roles import infer_roles

    declaration = raw_table.declaration
    rails = {"guardrails": tuple(declaration.guardrails)} if declaration.guardrails else {}
    declared = {**rails, **declaration.roles, **{role: tuple(names) for role, names in config.roles.items()}}
    domain = Partition.parse(context.partition_key).domain
    try:
        proposal = infer_roles(
            raw_table.table.frame, domain, declared=declared, domains=_domains(settings), profile=column_profile
        )
    except CqoxError as error:
        raise _stop(error) from error
    rows = [
        {
            "role": str(role),
            "columns": ", ".join(names),
            "confidence": proposal.confidence.get(role),
            "evidence": proposal.evidence.get(role, ""),
        }
        for role, names in proposal.roles.items()
    ]
    confidence = {f"confidence_{role}": float(value) for role, value in proposal.confidence.items()}
    return dg.MaterializeResult(
        value=proposal,
        metadata={
            "roles": dg.MetadataValue.md(markdown_table(pd.DataFrame(rows), 40)),
            "warnings": dg.MetadataValue.md(bullets(proposal.warnings) or "none"),
            **confidence,
        },
    )


@dg.asset(
    key=["mapping", "study"],
    ins={
        "raw_table": dg.AssetIn(["ingestion", "raw_table"]),
        "column_roles": dg.AssetIn(["mapping", "column_roles"]),
    },
    description="The analysis-ready study: coded treatment, encoded covariates, missing values handled as declared.",
    code_version="1",
    **STAGE,
)
def study(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    raw_table: Delivery,
    column_roles: RoleProposal,
) -> dg.MaterializeResult:
    """Prepare the study."""
    from cqox_assets.mapping.prepare import prepare

    wanted = list(dict.fromkeys(name for names in column_roles.roles.values() for name in names))
    try:
        prepared = prepare(
            raw_table.table.read(wanted),
            column_roles.roles,
            declaration=raw_table.declaration,
            domain=_domains(settings).get(Partition.parse(context.partition_key).domain),
            tables=raw_table.tables,
            confidence=column_roles.confidence,
        )
    except CqoxError as error:
        raise _stop(error) from error
    prepared = replace(prepared, notices=(*prepared.notices, *column_roles.warnings))
    metadata: dict[str, Any] = {
        "fingerprint": prepared.fingerprint,
        "dagster/row_count": len(prepared),
        "arms": ", ".join(prepared.arms) or "none",
        "covariates": len(prepared.names("covariates")),  # type: ignore[arg-type]
        "dropped": dg.MetadataValue.json(dict(prepared.dropped)),
        "notices": dg.MetadataValue.md(bullets(prepared.notices) or "none"),
        "preview": dg.MetadataValue.md(markdown_table(prepared.frame, 5)),
    }
    return dg.MaterializeResult(value=prepared, metadata=metadata)


def _domains(settings: Settings) -> dict[str, DomainProfile]:
    try:
        return load_domains(settings.domains)
    except CqoxError as error:
        raise _stop(error) from error


def _stop(error: CqoxError) -> dg.Failure:
    """Say in one sentence what the person has to change; a mistake in the input is not a crash."""
    return dg.Failure(description=error.message, metadata={"kind": "input", "code": error.code}, allow_retries=False)


ASSETS = [column_profile, domain_match, column_roles, study]
