"""The decision card: everything a decision rests on, as one JSON document."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cqox_assets.decisions.basis import basis_of
from cqox_assets.decisions.evidence import gather
from cqox_assets.decisions.language import DEFAULT, LANGUAGES, Said, in_language, listing, say
from cqox_assets.decisions.net_benefit import net_benefits
from cqox_assets.decisions.page import render_html as render_html
from cqox_assets.decisions.rule import decide, override
from cqox_assets.decisions.verdict import Verdict
from cqox_assets.discovery.plan import MethodPlan, plan_methods
from cqox_assets.measures import MEASURES, Diagnostic
from cqox_assets.result import EffectEstimate, Failure, Outcome, Refusal, SensitivityResult, diagnostic_json, to_text
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.effect_summary import EffectSummary, summarise
from cqox_assets.synthesis.guardrails import GuardrailEffect, from_document
from cqox_assets.synthesis.quality_score import QualityScore, quality_of
from cqox_assets.wording import short_unit

if TYPE_CHECKING:
    from cqox_assets.results import Present

SCHEMA_VERSION = 1
NOT_COMPUTED: Mapping[str, str] = {
    "counterfactual": "no counterfactual system was computed for this study",
    "critique": "no review of this analysis exists",
}
Answer = SensitivityResult | Refusal | Failure


@dataclass(frozen=True)
class CardParts:
    """What a card is made of.

    Parameters
    ----------
    gates : sequence of mapping
        Rows of the gate report: name, measure, value, threshold, severity, status, meaning, remedy, estimator.
    figures : mapping of str to mapping
        Figure name to title, question, status (`drawn` or why not), reason, caption, alt and files (kind -> path
        beside the card).
    provenance : mapping
        Code version, run id, created, ...
    """

    study: Study
    gates: Sequence[Mapping[str, Any]]
    plan: MethodPlan
    estimates: Mapping[str, Outcome]
    sensitivity: Mapping[str, Answer]
    summary: EffectSummary
    verdict: Verdict
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    quality_score: QualityScore | None = None
    counterfactual: Any = None
    policy: Any = None
    critique: Any = None
    guardrails: Sequence[GuardrailEffect] = ()
    minimum_effect: float | None = None


def card_of(
    present: "Present", provenance: Mapping[str, Any], guardrails: Sequence[GuardrailEffect] | None = None
) -> dict[str, Any]:
    """Judge what exists for a partition's current study and return its card.

    Summary and verdict are computed from the results themselves, so a card that is made alone is never older than
    an estimate that it shows.
    """
    study, estimates = present.study, present.estimates
    plan = present.plan or plan_methods(study)
    sensitivity = dict(present.inputs().sensitivity)
    report = present.find("synthesis/design_gates")
    gates = report.to_json()["rows"] if report is not None else _gate_rows(present)
    summary = summarise(plan, estimates, gates)
    if guardrails is None:
        guardrails = from_document(present.find("synthesis/guardrail_effects") or {"effects": []})
    review, score = present.critique, present.quality or quality_of(present)
    word = None
    if review is not None:
        summary, gates = review.decisive(summary, gates)
        word = review.for_rule()
    evidence = gather(study, gates, estimates, summary, sensitivity, guardrails, word)
    policy = _findings(present, "policy_value")
    said = review.sentence if review is not None and review.rejects else ""
    evidence = replace(evidence, net_benefits=net_benefits(policy, study.declaration.design), review=said)
    verdict = override(decide(evidence), study.declaration.override)
    return build_card(
        CardParts(
            study=study,
            gates=gates,
            plan=plan,
            estimates=estimates,
            sensitivity=sensitivity,
            summary=summary,
            verdict=verdict,
            figures={name: vars(record) for name, record in present.figures.items()},
            provenance=provenance,
            quality_score=score,
            critique=None if review is None else review.for_card(),
            guardrails=guardrails,
            minimum_effect=evidence.minimum_effect,
            counterfactual=_findings(present, "counterfactual_systems"),
            policy=policy,
        )
    )


def _findings(present: "Present", name: str) -> dict[str, Any] | None:
    """Return what a synthesis found, or why it could not say; None if it was never asked."""
    found = present.find(f"synthesis/{name}")
    return None if found is None else dict(found.to_json())


def build_card(parts: CardParts) -> dict[str, Any]:
    """Return the card as plain values; no number is infinite or missing."""
    answered = {name: item for name, item in parts.estimates.items() if isinstance(item, EffectEstimate)}
    verdict, missing, question = parts.verdict.to_json(), {}, question_of(parts.study)
    for name, reason in NOT_COMPUTED.items():
        if getattr(parts, name) is None:
            missing[name] = reason
    drawn = {name: item for name, item in parts.figures.items() if item.get("files")}
    card = {
        "schema_version": SCHEMA_VERSION,
        "question": str(question),
        "language": parts.study.declaration.language or DEFAULT,
        "study": _study(parts.study),
        "gates": [_gate(row) for row in parts.gates],
        "estimates": [_estimate(name, answered[name]) for name in _in_order(answered, parts.plan)],
        "refusals": [
            {"estimator": name, "code": item.code, "reason": item.reason, "remedy": item.remedy}
            for name, item in parts.estimates.items()
            if isinstance(item, Refusal)
        ],
        "failures": [
            {"estimator": name, "exception": item.exception, "run_id": item.run_id}
            for name, item in parts.estimates.items()
            if isinstance(item, Failure)
        ],
        "sensitivity": [_answer(key, item) for key, item in parts.sensitivity.items()],
        "guardrails": [asdict(rail) for rail in parts.guardrails],
        "counterfactual": parts.counterfactual,
        "policy": parts.policy,
        "summary": _summary(parts.summary),
        "synthesis": _synthesis(parts.summary),
        "quality_score": None if parts.quality_score is None else parts.quality_score.to_json(),
        "critique": parts.critique,
        "not_computed": missing,
        **verdict,
        "plan": parts.plan.to_json(),
        "figures": {
            name: item["files"].get("png") or next(iter(item["files"].values())) for name, item in drawn.items()
        },
        "figure_details": {name: _figure(item) for name, item in parts.figures.items()},
        "translations": {
            language: {"question": in_language(question, language), **parts.verdict.in_language(language)}
            for language in LANGUAGES
            if language != DEFAULT
        },
        "basis": basis_of(parts.study, parts.minimum_effect, parts.provenance),
        "declaration": parts.study.declaration.model_dump(mode="json", exclude_defaults=True),
        "provenance": dict(parts.provenance),
    }
    return dict(json.loads(to_text(card)))


def question_of(study: Study) -> str:
    """Return the declared question, or the one that the roles imply."""
    if study.declaration.question:
        return study.declaration.question
    if not (study.has(Role.TREATMENT) and study.has(Role.OUTCOME)):
        return say("unknown_question")
    return say("implied_question", treatment=_columns(study, Role.TREATMENT), outcome=_columns(study, Role.OUTCOME))


def _columns(study: Study, role: Role) -> Said:
    labels = [study.label(name) for name in study.names(role)]
    return Said(", ".join(labels), {"ja": in_language(listing(labels, 40), "ja")})


def _study(study: Study) -> dict[str, Any]:
    per_arm: dict[str, int] = {}
    if study.arms and len(study.names(Role.TREATMENT)) == 1:
        codes = study.column(Role.TREATMENT)
        per_arm = {arm: int((codes == code).sum()) for code, arm in enumerate(study.arms)}
    return {
        **study.facts(),
        "rows": len(study),
        "per_arm": per_arm,
        "design": study.declaration.design or "observational (not declared)",
        "unit_of_outcome": study.declaration.unit_of_outcome,
        "unit": short_unit(study.declaration),
        "currency": study.declaration.money.currency,
    }


def _gate(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a gate with its title, limit in words and whether it only informs."""
    measure = MEASURES.get(str(row.get("measure") or row["name"]))
    threshold, limit = row.get("threshold"), "no limit"
    if threshold is not None and measure is not None and measure.direction != "reported":
        limit = f"{'below' if measure.direction == 'below' else 'above'} {threshold:g}"
    status = row["status"]
    return {
        **row,
        "status": str(getattr(status, "value", status)),
        "title": row.get("title") or (measure.title if measure else str(row["name"])),
        "limit": limit,
        "meaning": row.get("meaning") or (measure.meaning if measure else ""),
        "remedy": row.get("remedy") or (measure.remedy if measure else ""),
    }


def _gate_rows(present: "Present") -> list[dict[str, Any]]:
    """Return the diagnostics of data, nuisance models and estimates where no gate report exists yet."""
    found: list[tuple[str, Diagnostic]] = [("", item) for item in (present.data.diagnostics if present.data else ())]
    found += [("nuisance", item) for item in (present.nuisance.diagnostics if present.nuisance else ())]
    for name, answer in present.estimates.items():
        if isinstance(answer, EffectEstimate):
            found += [(name, item) for item in answer.diagnostics]
    return [
        {**diagnostic_json(item), "measure": item.name, "estimator": source} for source, item in found
    ]  # fmt: skip


def _estimate(name: str, answer: EffectEstimate) -> dict[str, Any]:
    """Return one row: the headline's fields on top, all effects below."""
    row = answer.to_json()
    headline = row["effects"][0]
    fields = ("estimand", "contrast", "estimate", "std_error", "interval", "p_value", "scale", "null", "at")
    return {
        **row, "estimator": name, **{key: headline[key] for key in fields},
    }  # fmt: skip


def _in_order(answered: Mapping[str, EffectEstimate], plan: MethodPlan) -> list[str]:
    order = {name: rank for rank, name in enumerate(plan.names)}
    return sorted(answered, key=lambda name: (order.get(name, len(order)), name))


def _answer(key: str, item: Answer) -> dict[str, Any]:
    if isinstance(item, SensitivityResult):
        return {**item.to_json(), "key": key, "table": item.table.to_dict("records")}
    row = {**item.to_json(), "key": key, "name": key.partition(":")[0], "status": "not_run"}
    row.pop("traceback", None)
    return row


_PER_ESTIMAND = (
    "contrast", "scale", "consensus", "std_error", "low", "high", "level", "spread", "estimators", "agreement",
)  # fmt: skip


def _groups(summary: EffectSummary) -> list[dict[str, Any]]:
    targets = set(map(id, summary.targets()))
    return [{**asdict(group), "label": group.label, "preferred": id(group) in targets} for group in summary.groups]


def _summary(summary: EffectSummary) -> dict[str, Any]:
    """Return consensus, spread and estimators per estimand: of its first contrast, with every contrast below."""
    found: dict[str, Any] = {}
    for group in _groups(summary):
        row = {key: group[key] for key in _PER_ESTIMAND}
        found.setdefault(group["estimand"], {**row, "contrasts": []})["contrasts"].append(row)
    return found


def _synthesis(summary: EffectSummary) -> dict[str, Any]:
    """Return what stands behind the summary: the groups in full, the formula and the assumption ledger."""
    return {
        "preferred": summary.preferred,
        "counts": summary.counts,
        "formula": summary.formula,
        "groups": _groups(summary),
        "ledger": [asdict(row) for row in summary.ledger],
        "notices": list(summary.notices),
    }


def _figure(item: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("title", "question", "status", "reason", "caption", "alt")
    return {key: item.get(key, "") for key in fields} | {"files": dict(item.get("files") or {})}
