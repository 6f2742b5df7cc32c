"""What a verdict depends on, as hashes: data, declaration, thresholds and code; and which of them changed."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from cqox_assets.measures import MEASURES
from cqox_assets.study import Role, Study

PARTS = ("data", "declaration", "thresholds", "code", "override")
# What the declaration says about how the results are judged, rather than about how they are computed.
_JUDGES = {
    "minimum_effect", "direction", "guardrails", "thresholds", "severities", "money", "override", "language",
    "question", "unit_of_outcome",
}  # fmt: skip


def basis_of(study: Study, minimum_effect: float | None, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return one value per part that a verdict depends on; equal values mean that the part did not change.

    Parameters
    ----------
    minimum_effect : float, optional
        How large the effect must be, in outcome units, as the rule used it.
    provenance : mapping
        `code_version` and, in a checkout, `revision`.
    """
    declared = study.declaration.model_dump(mode="json")
    computed = {key: value for key, value in declared.items() if key not in _JUDGES}
    # Covariates become columns of dummies that depend on the data; the declaration names what they were made of.
    roles = {str(role): list(names) for role, names in sorted(study.roles.items()) if role is not Role.COVARIATES}
    judged = {key: declared[key] for key in ("direction", "guardrails", "money")}
    revision = provenance.get("revision")
    return {
        "data": study.data_fingerprint,
        "declaration": _digest({**computed, "roles": roles, "arms": list(study.arms)}),
        "thresholds": _digest({**judged, "minimum_effect": minimum_effect, "limits": _limits(study)}),
        "code": " ".join(str(part) for part in (provenance.get("code_version"), revision) if part),
        "override": _digest(declared["override"]) if declared["override"] else "",
        "minimum_effect": minimum_effect,
    }


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the parts that differ between two bases, in the order of `PARTS`; a part that one lacks is not judged."""
    return [part for part in PARTS if part in before and part in after and before[part] != after[part]]


def _limits(study: Study) -> dict[str, Any]:
    shipped = {name: item.limit for name, item in MEASURES.items() if math.isfinite(item.limit)}
    return {**shipped, **study.thresholds, "severities": dict(sorted(study.severities.items()))}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[
        :32
    ]
