"""Infers what each column is for, with confidence and evidence, from names, values and relations between columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cqox_assets.errors import DeclarationError
from cqox_assets.mapping.assembly import Assembly
from cqox_assets.mapping.columns import plain_frame, read_roles, suggest
from cqox_assets.mapping.domains import GENERAL, DomainProfile, common_words, lexicon, load_domains, match_domain
from cqox_assets.mapping.profile import ColumnProfile, profile_columns
from cqox_assets.mapping.relations import series_of_years
from cqox_assets.mapping.scoring import clues_of
from cqox_assets.mapping.words import Lexicon
from cqox_assets.study import Role

DECLARED = "declared in study.yaml"


@dataclass(frozen=True)
class RoleProposal:
    """Which columns play which role, how sure that is, and why.

    A confidence below 0.6 means not certain: a person should confirm the role. `evidence` holds one sentence per role,
    `warnings` what was left out and why.
    """

    roles: Mapping[Role, tuple[str, ...]]
    confidence: Mapping[Role, float]
    evidence: Mapping[Role, str]
    domain: str
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "roles": {str(role): list(names) for role, names in self.roles.items()},
            "confidence": {str(role): value for role, value in self.confidence.items()},
            "evidence": {str(role): text for role, text in self.evidence.items()},
            "domain": self.domain,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "RoleProposal":
        """Rebuild a proposal from `to_json`."""
        return cls(
            {Role(role): tuple(names) for role, names in row["roles"].items()},
            {Role(role): float(value) for role, value in row["confidence"].items()},
            {Role(role): str(text) for role, text in row["evidence"].items()},
            row["domain"],
            tuple(row["warnings"]),
        )


def infer_roles(
    frame: pd.DataFrame,
    domain: str | None = None,
    *,
    declared: Mapping[str, str | Sequence[str] | None] | None = None,
    domains: Mapping[str, DomainProfile] | None = None,
    profile: ColumnProfile | None = None,
) -> RoleProposal:
    """Propose a role for every column that has one.

    Parameters
    ----------
    frame : DataFrame
        Any table with one row per unit, or per unit and period.
    domain : str, optional
        Name of the domain whose words count; the best match by column names when left out.
    declared : mapping, optional
        Roles that a person stated: they are taken as they are. None as a value means that nothing plays the role.
    domains : mapping of str to DomainProfile, optional
        The known domains; the shipped ones by default.
    profile : ColumnProfile, optional
        The table's profile, if it is already there.

    Raises
    ------
    MappingError
        If a declared role or column is not known.
    DeclarationError
        If the domain is not known.
    """
    table = plain_frame(frame)
    stated = read_roles(declared or {}, table.columns)
    profiles = load_domains() if domains is None else domains
    facts = profile if profile is not None else profile_columns(table)
    if domain is not None and domain != GENERAL and domain not in profiles:
        raise DeclarationError(f"domain '{domain}' is not known; {suggest(domain, profiles)}")
    name = domain if domain is not None else match_domain(facts, profiles).best
    words = lexicon(profiles.get(name))
    clues = clues_of(facts, words, _all_words(profiles), series_of_years(table.columns))
    assembly = Assembly(table, clues, words)
    assembly.declare(stated, DECLARED)
    assembly.assign_all()
    return RoleProposal(assembly.roles, assembly.confidence, assembly.evidence, name, tuple(assembly.warnings))


def _all_words(profiles: Mapping[str, DomainProfile]) -> Lexicon:
    pooled = {
        str(role): [word for profile in profiles.values() for word in profile.words.get(role, ())]
        for role in (Role.TREATMENT, Role.OUTCOME)
    }
    helpers = {group: common_words().get(group, ()) for group in ("neutral", "before", "after", "identifier")}
    return Lexicon({**helpers, **pooled})
