"""Mapping: from a table and a declaration to a study whose columns have roles."""

from importlib import import_module
from typing import Any

_HOMES = {
    "DomainMatch": "domains",
    "DomainProfile": "domains",
    "load_domains": "domains",
    "match_domain": "domains",
    "ColumnProfile": "profile",
    "profile_columns": "profile",
    "RoleProposal": "roles",
    "infer_roles": "roles",
    "study_of": "stage",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
