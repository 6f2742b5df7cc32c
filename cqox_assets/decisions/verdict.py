"""The verdict and its reasons."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cqox_assets.decisions.language import in_language

GO, CANARY, HOLD = "GO", "CANARY", "HOLD"
SEVERITY: Mapping[str, int] = {GO: 0, CANARY: 1, HOLD: 2}


@dataclass(frozen=True)
class Reason:
    """One finding: its kind of evidence, the verdict that it allows at best, and the sentence."""

    kind: str
    allows: str
    sentence: str
    flips_if: str = ""


@dataclass(frozen=True)
class Verdict:
    """GO, CANARY or HOLD.

    `reasons` lists every finding, those that decided first; `flips_if` says what would change the verdict;
    `by_contrast` holds each compared arm's own verdict. `override` says who decided otherwise, why, and what the rule
    says (`rule`).
    """

    verdict: str
    reasons: tuple[Reason, ...]
    recommendation: str
    confidence_level: str
    key_findings: tuple[str, ...]
    by_contrast: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    override: Mapping[str, str] | None = None

    @property
    def flips_if(self) -> tuple[str, ...]:
        """What would change the verdict, deciding reasons first."""
        return tuple(dict.fromkeys(reason.flips_if for reason in self.reasons if reason.flips_if))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "verdict": self.verdict,
            "reasons": [asdict(reason) for reason in self.reasons],
            "flips_if": list(self.flips_if),
            "recommendation": self.recommendation,
            "confidence_level": self.confidence_level,
            "key_findings": list(self.key_findings),
            "by_contrast": dict(self.by_contrast),
            "notices": list(self.notices),
            "rule_verdict": self.override["rule"] if self.override else self.verdict,
            "override": None if self.override is None else dict(self.override),
        }

    def in_language(self, language: str) -> dict[str, Any]:
        """Return the sentences of `to_json` in a language."""
        return {
            "recommendation": in_language(self.recommendation, language),
            "reasons": [
                {
                    "sentence": in_language(reason.sentence, language),
                    "flips_if": in_language(reason.flips_if, language),
                }
                for reason in self.reasons
            ],
            "flips_if": [in_language(text, language) for text in self.flips_if],
            "key_findings": [in_language(text, language) for text in self.key_findings],
            "notices": [in_language(text, language) for text in self.notices],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Verdict":
        """Rebuild a verdict from `to_json`."""
        return cls(
            verdict=row["verdict"],
            reasons=tuple(Reason(**reason) for reason in row["reasons"]),
            recommendation=row["recommendation"],
            confidence_level=row["confidence_level"],
            key_findings=tuple(row["key_findings"]),
            by_contrast=dict(row["by_contrast"]),
            notices=tuple(row["notices"]),
            override=row.get("override"),
        )
