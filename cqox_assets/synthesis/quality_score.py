"""The quality score: how far the diagnostics support the answer, from 0 to 100 and by axis."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cqox_assets.result import Failure, Refusal, SensitivityResult
from cqox_assets.synthesis.effect_summary import EffectSummary

FORMULA = (
    "score = 100 x mean over the axes that have evidence; an axis = mean of its points, with pass 1, warn 0.5, "
    "not run 0.25 and fail 0; agreement has 1 (close), 0.7 (moderate), 0.5 (one estimator alone), 0 (disagreement)"
)
POINTS: Mapping[str, float] = {"pass": 1.0, "warn": 0.5, "not_run": 0.25, "fail": 0.0}
AGREEMENT: Mapping[str, float] = {"close": 1.0, "moderate": 0.7, "single": 0.5, "strong_disagreement": 0.0}
AXES: Mapping[str, tuple[str, ...]] = {
    "comparability": ("adjusted_smd", "matched_share", "stratum_arms"),
    "support": ("overlap", "effective_sample_size", "weight_range"),
}


@dataclass(frozen=True)
class QualityScore:
    """Score from 0 to 100 and each axis from 0 to 1; an axis without evidence is None and does not count."""

    score: float | None
    axes: Mapping[str, float | None]
    evidence: Mapping[str, int] = field(default_factory=dict)
    formula: str = FORMULA

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "QualityScore":
        """Rebuild a score from `to_json`."""
        return cls(**row)


def score_quality(
    gates: Sequence[Mapping[str, Any]],
    summary: EffectSummary,
    sensitivity: Mapping[str, SensitivityResult | Refusal | Failure] | None = None,
) -> QualityScore:
    """Score data, comparability, support, agreement and robustness.

    Parameters
    ----------
    gates : sequence of mapping
        Judged diagnostics with `measure` or `name`, and `status`; raw imbalance has no limit and does not count.
    summary : EffectSummary
    sensitivity : mapping of str to SensitivityResult, Refusal or Failure
    """
    points: dict[str, list[float]] = {axis: [] for axis in ("data", *AXES, "agreement", "robustness")}
    for row in gates:
        measure = str(row.get("measure") or row["name"])
        if measure != "raw_smd" and not str(row["name"]).startswith("sensitivity:"):
            points[_axis_of(measure)].append(POINTS[str(row["status"])])
    points["agreement"] = [AGREEMENT[group.agreement] for group in summary.targets()]
    for answer in (sensitivity or {}).values():
        if isinstance(answer, SensitivityResult):
            points["robustness"].append(POINTS[answer.status.value])
    axes = {axis: sum(found) / len(found) if found else None for axis, found in points.items()}
    known = [value for value in axes.values() if value is not None]
    score = round(100 * sum(known) / len(known), 1) if known else None
    return QualityScore(score, axes, {axis: len(found) for axis, found in points.items()})


def _axis_of(measure: str) -> str:
    return next((axis for axis, names in AXES.items() if measure in names), "data")
