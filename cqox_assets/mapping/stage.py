"""The whole mapping stage in one call, for notebooks and tests."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from cqox_assets.declaration import Declaration
from cqox_assets.mapping.domains import GENERAL, DomainMatch, DomainProfile, load_domains, match_domain
from cqox_assets.mapping.prepare import prepare
from cqox_assets.mapping.profile import ColumnProfile, profile_columns
from cqox_assets.mapping.roles import RoleProposal, infer_roles
from cqox_assets.study import Study


def study_of(
    frame: pd.DataFrame,
    *,
    domain: str | None = None,
    declaration: Declaration | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    domains: Mapping[str, DomainProfile] | None = None,
) -> tuple[Study, RoleProposal, DomainMatch, ColumnProfile]:
    """Profile a table, match its domain, infer the roles that are not declared, and prepare the study.

    Parameters
    ----------
    frame : DataFrame
    domain : str, optional
        Name of the domain; the best match when left out.
    declaration : Declaration, optional
        What the analyst stated; its roles beat inference.
    tables : mapping of str to DataFrame, optional
        Side tables.
    domains : mapping of str to DomainProfile, optional
        The known domains; the shipped ones by default.

    Raises
    ------
    MappingError
        If a declared role or column cannot be used.
    DeclarationError
        If the domain or a declared arm is not known.
    """
    profiles = load_domains() if domains is None else domains
    stated = declaration if declaration is not None else Declaration()
    declared = dict(stated.roles)
    if stated.guardrails:
        declared.setdefault("guardrails", tuple(stated.guardrails))
    profile = profile_columns(frame)
    match = match_domain(profile, profiles)
    chosen = match.best if domain is None else domain
    proposal = infer_roles(frame, chosen, declared=declared, domains=profiles, profile=profile)
    study = prepare(
        frame,
        proposal.roles,
        declaration=stated,
        domain=profiles.get(chosen) if chosen != GENERAL else None,
        tables=tables,
        confidence=proposal.confidence,
    )
    return replace(study, notices=(*study.notices, *proposal.warnings)), proposal, match, profile
