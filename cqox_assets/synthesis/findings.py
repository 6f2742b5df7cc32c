"""What a synthesis asset holds: a summary for the card with tables beside it, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

FINDINGS = ("counterfactual_systems", "policy_value")


@dataclass(frozen=True)
class Findings:
    """A summary with named tables; `status` is `computed` or `not_computed`.

    Parameters
    ----------
    name : str
        Name of the asset.
    status : str
    reason, remedy : str
        Why nothing was computed, and what to do; empty where something was.
    content : mapping
        What a card shows: plain values, None where a number does not exist.
    tables : mapping of str to DataFrame
    provenance : mapping
        The study's fingerprint, and what the numbers came from.
    """

    name: str
    status: str
    reason: str = ""
    remedy: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def computed(self) -> bool:
        """Whether there is a summary."""
        return self.status == "computed"

    def to_json(self) -> dict[str, Any]:
        """Return everything but the tables."""
        names = ("name", "status", "reason", "remedy", "content", "provenance")
        return {key: getattr(self, key) for key in names} | {"tables": list(self.tables)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> "Findings":
        """Rebuild findings from `to_json`; stored tables are read from disk only when somebody asks for one."""
        return cls(**{key: value for key, value in row.items() if key != "tables"}, tables=tables)


def not_computed(name: str, reason: str, remedy: str, fingerprint: str) -> Findings:
    """Return findings that say in one sentence each why there are none and what to do."""
    return Findings(name, "not_computed", reason, remedy, provenance={"fingerprint": fingerprint})
