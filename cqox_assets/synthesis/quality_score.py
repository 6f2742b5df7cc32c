"""The quality score: how far an answer can be relied on, on five axes from 0 to 10 and from 0 to 100 overall."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cqox_assets.result import EffectEstimate, Failure, Outcome, Refusal, SensitivityResult
from cqox_assets.study import Role, Study, TreatmentKind
from cqox_assets.synthesis._helpers import judged_rows, weighing_gates
from cqox_assets.synthesis.effect_summary import EffectGroup, EffectSummary, summarise

if TYPE_CHECKING:
    from cqox_assets.results import Present

Answer = SensitivityResult | Refusal | Failure
POINTS: Mapping[str, float] = {"pass": 1.0, "warn": 0.5, "not_run": 0.25, "fail": 0.0}
AGREEMENT: Mapping[str, float] = {"close": 1.0, "moderate": 0.7, "single": 0.5, "strong_disagreement": 0.0}
LEDGER: Mapping[str, float] = {"supported": 1.0, "doubtful": 0.5, "untested": 0.5, "contradicted": 0.0}
PARTS: Mapping[str, tuple[str, ...]] = {
    "comparability": ("adjusted_smd", "matched_share", "stratum_arms"),
    "support": ("overlap", "effective_sample_size", "weight_range"),
}
WEIGHTS: Mapping[str, float] = {
    "validity": 0.35, "robustness": 0.25, "precision": 0.15, "interpretability": 0.15, "scalability": 0.10,
}  # fmt: skip
WIDE = 0.5  # half-width of an interval, in standard deviations of the outcome, that is worth nothing: a medium effect
SECONDS, PER_ROWS = 2.0, 10_000
FAILED = 3.9
FORMULAS: Mapping[str, str] = {
    "score": "10 x weighted mean of the axes that have evidence; weights validity 0.35, robustness 0.25, precision "
    "0.15, interpretability 0.15, scalability 0.10",
    "points": "pass 1, warn 0.5, not run 0.25, fail 0",
    "validity": "10 x mean of the parts that have evidence, each the mean points of its gates: data, comparability, "
    "support, design, and assumptions of the ledger (supported 1, doubtful or untested 0.5, contradicted 0); at most "
    "3.9 while a gate of the whole study, or of half of the counted estimators, fails",
    "precision": "10 x max(0, 1 - h / 0.5), h the half-width of the widest target interval in standard deviations of "
    "the outcome (per standard deviation of a continuous treatment; on a log scale as it is); 0 without an interval",
    "robustness": "10 x mean of agreement (close 1, moderate 0.7, one estimator alone 0.5, strong disagreement 0) and "
    "the mean points of the sensitivity questions, each the mean over the counted estimates",
    "interpretability": "10 x share of what a reader needs that is there: question, unit of the outcome, direction, "
    "minimum effect or money, design, the estimand asked for, an interval",
    "scalability": "10 x share of the estimates that saw all rows (used, or left out for a stated reason) within 2 s "
    "per 10,000 rows (at least 2 s)",
    "zones": "an axis passes from 7 and warns from 4, the score from 70 and 40; the score fails with validity, and "
    "where nothing could be estimated",
}  # fmt: skip


@dataclass(frozen=True)
class QualityScore:
    """Score from 0 to 100 and its axes from 0 to 10; an axis without evidence is None and does not count.

    Parameters
    ----------
    zone, zones : str, mapping of str to str
        `pass`, `warn` or `fail`, overall and by axis; `not_run` for an axis without evidence.
    evidence : mapping of str to list of mapping
        What each axis was computed from: `name`, `value` and `points` from 0 to 1.
    targets : list of mapping
        The effects that the score speaks about: contrast, estimand, estimate, std_error.
    comparison : mapping, optional
        With an earlier period, see `quality_change.compare_quality`.
    """

    score: float | None
    axes: Mapping[str, float | None]
    zone: str = "not_run"
    zones: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    targets: Sequence[Mapping[str, Any]] = ()
    formula: Mapping[str, str] = field(default_factory=lambda: dict(FORMULAS))
    comparison: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "QualityScore":
        """Rebuild a score from `to_json`."""
        return cls(**row)

    def markdown(self) -> str:
        """Return the axes, their formulas and the comparison as markdown."""
        lines = ["| axis | of 10 | zone | computed as |", "|---|---:|---|---|"]
        for axis, value in self.axes.items():
            shown = "no evidence" if value is None else f"{value:g}"
            lines.append(f"| {axis} | {shown} | {self.zones.get(axis, 'not_run')} | {self.formula[axis]} |")
        total = "no score" if self.score is None else f"{self.score:g} of 100"
        parts = [f"**{total}** ({self.zone})", "\n".join(lines)]
        return "\n\n".join([*parts, *([str(self.comparison["sentence"])] if self.comparison else [])]) + "\n"


def score_quality(
    gates: Sequence[Mapping[str, Any]],
    summary: EffectSummary,
    sensitivity: Mapping[str, Answer] | None = None,
    estimates: Mapping[str, Outcome] | None = None,
    study: Study | None = None,
) -> QualityScore:
    """Score validity, precision, robustness, interpretability and scalability by `FORMULAS`.

    Parameters
    ----------
    gates : sequence of mapping
        Judged diagnostics with `measure` or `name`, `status`, and `estimator` where one carries it.
    summary : EffectSummary
    sensitivity, estimates : mapping, optional
    study : Study, optional
        Without it precision, interpretability and scalability have no evidence.
    """
    counted = {name for group in summary.targets() for name in group.estimators}
    rows = weighing_gates(gates, estimates or {}, counted)
    trial = study is not None and study.declaration.design == "trial"
    found = {
        "validity": _validity(rows, summary),
        "precision": _precision(summary, study),
        "robustness": _robustness(summary, sensitivity or {}, counted, trial=trial),
        "interpretability": _interpretability(summary, study),
        "scalability": _scalability(estimates or {}, study),
    }
    axes = {name: None if value is None else round(10 * value, 2) for name, (value, _) in found.items()}
    if _failing(rows) and axes["validity"] is not None:
        axes["validity"] = min(axes["validity"], FAILED)
    known = {name: value for name, value in axes.items() if value is not None}
    total = sum(WEIGHTS[name] for name in known)
    score = round(10 * sum(WEIGHTS[name] * value for name, value in known.items()) / total, 1) if known else None
    zones = {name: _zone(value) for name, value in axes.items()}
    nothing = not summary.targets()
    zone = "not_run" if score is None else "fail" if nothing or zones["validity"] == "fail" else _zone(score / 10)
    return QualityScore(
        score, axes, zone, zones, {name: evidence for name, (_, evidence) in found.items()},
        [{"contrast": group.contrast, "estimand": str(group.estimand), "scale": group.scale,
          "estimate": group.consensus, "std_error": group.std_error} for group in summary.targets()],
    )  # fmt: skip


def quality_of(present: "Present") -> QualityScore:
    """Score what is stored for a partition's current study."""
    from cqox_assets.discovery.plan import plan_methods

    study, gates = present.study, judged_rows(present)
    summary = summarise(present.plan or plan_methods(study), present.estimates, gates)
    return score_quality(gates, summary, present.inputs().sensitivity, present.estimates, study)


_Axis = tuple[float | None, list[dict[str, Any]]]


def _zone(value: float | None) -> str:
    if value is None:
        return "not_run"
    return "pass" if value >= 7 else "warn" if value >= 4 else "fail"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _validity(rows: Sequence[Mapping[str, Any]], summary: EffectSummary) -> _Axis:
    parts: dict[str, list[float]] = {}
    evidence: list[dict[str, Any]] = []
    for row in rows:
        measure = str(row.get("measure") or row["name"])
        own = "design" if row.get("estimator") else "data"
        part = next((name for name, names in PARTS.items() if measure in names), own)
        points = POINTS[str(getattr(row["status"], "value", row["status"]))]
        parts.setdefault(part, []).append(points)
        evidence.append({"name": f"{part}: {row['name']}", "value": row.get("value"), "points": points})
    for item in summary.ledger:
        parts.setdefault("assumptions", []).append(LEDGER[item.state])
        evidence.append({"name": f"assumptions: {item.name}", "value": item.state, "points": LEDGER[item.state]})
    return _mean([sum(values) / len(values) for values in parts.values()]), evidence


def _failing(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a gate of the whole study fails, or one of at least half of the estimators that carry it."""
    failed: dict[str, list[bool]] = {}
    for row in rows:
        bad = str(getattr(row["status"], "value", row["status"])) == "fail"
        if bad and not row.get("estimator"):
            return True
        if row.get("estimator"):
            failed.setdefault(str(row.get("measure") or row["name"]), []).append(bad)
    return any(2 * sum(found) >= len(found) for found in failed.values() if any(found))


def _precision(summary: EffectSummary, study: Study | None) -> _Axis:
    if study is None or not summary.targets() or not study.has(Role.OUTCOME):
        return None, []
    points, evidence = [], []
    for group in summary.targets():
        width = _half_width(group, study)
        points.append(0.0 if width is None else max(0.0, 1 - width / WIDE))
        name = f"half-width of the interval of {group.label}"
        evidence.append({"name": name, "value": width, "points": round(points[-1], 4)})
    return min(points), evidence


def _half_width(group: EffectGroup, study: Study) -> float | None:
    """Return half the width of an interval in standard deviations of the outcome; None where it is unbounded."""
    if group.low is None or group.high is None:
        return None
    half = (group.high - group.low) / 2
    if group.scale != "difference":
        return half
    spread = float(study.column(Role.OUTCOME).std(ddof=1)) if len(study) > 1 else 0.0
    if study.treatment_kind is TreatmentKind.CONTINUOUS:
        half *= float(study.column(Role.TREATMENT).std(ddof=1))
    return half / spread if spread > 0 and math.isfinite(spread) else None


def _robustness(summary: EffectSummary, sensitivity: Mapping[str, Answer], counted: set[str], *, trial: bool) -> _Axis:
    from cqox_assets.catalog import load_sensitivities

    informing = {name for name, spec in load_sensitivities().items() if spec.informs_in_trial} if trial else set()
    asked: dict[str, list[float]] = {}
    for key, answer in sensitivity.items():
        name = key.partition(":")[0]
        if name in informing or isinstance(answer, Refusal):
            continue
        if isinstance(answer, Failure):
            asked.setdefault(name, []).append(POINTS["not_run"])
        elif not counted or answer.estimator in counted:
            asked.setdefault(name, []).append(POINTS[answer.status.value])
    by_question = {name: sum(values) / len(values) for name, values in asked.items()}
    agreement = {f"agreement: {group.label}": AGREEMENT[group.agreement] for group in summary.targets()}
    sides = [side for side in (_mean(list(agreement.values())), _mean(list(by_question.values()))) if side is not None]
    evidence = [
        {"name": name, "value": None, "points": round(value, 4)} for name, value in {**agreement, **by_question}.items()
    ]
    return _mean(sides), evidence


def _interpretability(summary: EffectSummary, study: Study | None) -> _Axis:
    if study is None:
        return None, []
    said, targets = study.declaration, summary.targets()
    money = said.money.cost_per_treatment is not None and said.money.value_per_unit is not None
    there = {
        "question": bool(said.question),
        "unit of the outcome": bool(said.unit_of_outcome),
        "direction": said.direction is not None,
        "minimum effect or money": said.minimum_effect is not None or money,
        "design": said.design is not None,
        "the estimand asked for": bool(targets) and not summary.notices,
        "an interval": bool(targets) and all(None not in (group.low, group.high) for group in targets),
    }
    evidence = [{"name": name, "value": bool(value), "points": float(value)} for name, value in there.items()]
    return sum(there.values()) / len(there), evidence


def _scalability(estimates: Mapping[str, Outcome], study: Study | None) -> _Axis:
    if study is None:
        return None, []
    rows = len(study.studied())
    allowed = max(SECONDS, SECONDS * rows / PER_ROWS)
    points, evidence = [], []
    for name, answer in estimates.items():
        if isinstance(answer, Refusal):
            continue
        seconds = float(answer.provenance.get("seconds") or 0.0)
        seen = answer.sample.used + sum(answer.sample.dropped.values()) if isinstance(answer, EffectEstimate) else 0
        whole = seen >= rows and seconds <= allowed
        points.append(float(whole))
        evidence.append({"name": name, "value": bool(whole), "points": float(whole)})
    return _mean(points), evidence
