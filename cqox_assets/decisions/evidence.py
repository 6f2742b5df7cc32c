"""The evidence of a decision: target, guardrails and quality, gathered from results into plain values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cqox_assets.catalog import load_sensitivities
from cqox_assets.decisions.language import entry
from cqox_assets.decisions.net_benefit import NetBenefit
from cqox_assets.decisions.premises import counts, direction_notice, estimand_notice, minimum_effect, open_ends
from cqox_assets.measures import MEASURES
from cqox_assets.result import EffectEstimate, Failure, Outcome, Refusal, SensitivityResult
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.effect_summary import EffectGroup, EffectSummary
from cqox_assets.synthesis.guardrails import GuardrailEffect, rails_of
from cqox_assets.wording import short_unit

_WHOLE_STUDY = frozenset({"study", "data", "nuisance", "data_diagnostics", "nuisance_models"})
# Without one of these an observational study compares its groups as they are.
_MAKES_COMPARABLE = (
    Role.COVARIATES, Role.PROPENSITY, Role.STRATUM, Role.PAIR, Role.INSTRUMENTS, Role.RUNNING_VARIABLE, Role.COHORT,
    Role.TREATMENT_PROXY,
)  # fmt: skip


def measure_title(name: str) -> str:
    """Return a measure's English title, or its name in words."""
    return MEASURES[name].title if name in MEASURES else name.replace("_", " ")


@dataclass(frozen=True)
class Target:
    """The consensus for one contrast, in units of the outcome; an end that is None is not bounded."""

    contrast: str
    estimand: str
    estimate: float
    low: float | None
    high: float | None
    std_error: float | None = None
    level: float = 0.95
    null: float = 0.0
    estimators: int = 1
    agreement: str = "single"
    same_sign: float = 1.0
    spread: float = 0.0


@dataclass(frozen=True)
class Gate:
    """A judged diagnostic; `source` is an estimator's name, or empty when it speaks for the whole study.

    `informs` marks a gate that the design makes uninformative about the answer: it is shown and does not weigh.
    """

    name: str
    status: str
    value: float | None = None
    threshold: float | None = None
    meaning: str = ""
    remedy: str = ""
    source: str = ""
    informs: bool = False

    @property
    def title(self) -> str:
        """The measure's title, or its name."""
        return entry("measures", self.name, measure_title(self.name))


@dataclass(frozen=True)
class Question:
    """One answer to a sensitivity question, as far as a decision needs it.

    `contrast` is empty when the answer speaks for every arm.
    """

    name: str
    status: str
    value: float
    meaning: str
    advice: str = ""
    title: str = ""
    informs: bool = False
    contrast: str = ""


@dataclass(frozen=True)
class Evidence:
    """Everything that the rule may look at.

    `unadjusted` marks an observational comparison of the groups as they are, `untested` an answer that rests on there
    being no hidden confounder without a test of it, `unasked` an answer that no sensitivity question speaks about.
    `review` is the sentence of the critique, which says why it rejects.
    """

    targets: tuple[Target, ...]
    gates: tuple[Gate, ...] = ()
    guardrails: tuple[GuardrailEffect, ...] = ()
    questions: tuple[Question, ...] = ()
    design: str = "observational"
    direction: Literal["higher_is_better", "lower_is_better"] = "higher_is_better"
    minimum_effect: float = 0.0
    unit: str = ""
    critique: str | None = None
    review: str = ""
    counts: str = ""
    tally: str = ""
    preferred: str = "ATE"
    failures: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    unadjusted: bool = False
    untested: bool = False
    unasked: bool = False
    net_benefits: tuple[NetBenefit, ...] = ()


def gather(
    study: Study,
    gates: Sequence[Mapping[str, Any]],
    estimates: Mapping[str, Outcome],
    summary: EffectSummary,
    sensitivity: Mapping[str, SensitivityResult | Refusal | Failure] | None = None,
    guardrails: Sequence[GuardrailEffect] = (),
    critique: str | None = None,
) -> Evidence:
    """Collect what the rule needs.

    Parameters
    ----------
    gates : sequence of mapping
        Judged diagnostics with `name` (or `measure`), `status`, `value`, `threshold`, `meaning`, `remedy`, and
        `estimator` where one estimator carries it. Diagnostics of the counted estimators that are not among them
        are added.
    sensitivity : mapping, optional
        Answers by question and estimator; None where this is not the place to ask.
    critique : str, optional
        `accept` or `reject`, once a review exists.
    """
    declared = study.declaration
    trial = declared.design == "trial"
    targets = summary.targets()
    counted = {name for group in targets for name in group.estimators}
    asked = load_sensitivities()
    titles = {name: spec.title for name, spec in asked.items()}
    informing = {name for name, spec in asked.items() if spec.informs_in_trial}
    minimum, said = minimum_effect(declared)
    measured = {item.name for item in guardrails}
    questions = tuple(
        replace(question, title=titles.get(item.name, item.name), informs=trial and item.name in informing)
        for item in (sensitivity or {}).values()
        if isinstance(item, SensitivityResult) and (not counted or item.estimator in counted)
        for question in _questions(item)
    )
    return Evidence(
        targets=tuple(_target(group) for group in targets),
        gates=_all_gates(gates, estimates, counted, summary.preferred),
        guardrails=(
            *guardrails,
            *(
                GuardrailEffect(name, rail.margin, rail.direction)
                for name, rail in rails_of(study).items()
                if name not in measured
            ),
        ),
        questions=questions,
        design=declared.design or "observational",
        direction=declared.direction or "higher_is_better",
        minimum_effect=minimum,
        unit=short_unit(declared),
        critique=critique,
        counts=counts(summary, why=True),
        tally=counts(summary, why=False),
        preferred=summary.preferred,
        failures=tuple(summary.failed),
        notices=(*estimand_notice(summary), *said, *direction_notice(declared), *open_ends(targets)),
        unadjusted=declared.design in (None, "observational")
        and not any(study.has(role) for role in _MAKES_COMPARABLE),
        untested=_untested(study, [estimates.get(name) for name in counted], questions),
        unasked=sensitivity is not None and bool(targets) and not questions,
    )


def _untested(study: Study, answers: Sequence[Outcome | None], questions: Sequence[Question]) -> bool:
    """Whether the answer rests on there being no hidden confounder alone, and nothing in the data tests that.

    However large a confounder would have to be, data without an outcome that the treatment cannot have touched do not
    show that there is none. A trial and known probabilities of treatment need no such test.
    """
    if study.declaration.design == "trial" or study.has(Role.PROPENSITY):
        return False
    assumed = [{item.name for item in answer.assumptions} for answer in answers if isinstance(answer, EffectEstimate)]
    rests = bool(assumed) and all("unconfoundedness" in names for names in assumed)
    return rests and not any(item.name == "placebo_outcome" for item in questions)


def _questions(item: SensitivityResult) -> Iterable[Question]:
    """Return the answer, or one for each contrast where its table judges several."""
    rows, columns = item.table, ["contrast", "status", "value", "meaning", "advice"]
    if not set(columns) <= set(rows.columns) or rows["contrast"].nunique() < 2:
        yield Question(item.name, item.status.value, item.value, item.meaning, item.advice)
        return
    for row in rows.drop_duplicates("contrast")[columns].to_dict("records"):
        meaning, advice = str(row["meaning"]), str(row["advice"])
        yield Question(
            item.name, str(row["status"]), float(row["value"]), meaning, advice, contrast=str(row["contrast"])
        )


def _target(group: EffectGroup) -> Target:
    return Target(
        contrast=group.contrast,
        estimand=group.estimand,
        estimate=float(group.consensus if group.consensus is not None else group.null),
        low=group.low,
        high=group.high,
        std_error=group.std_error,
        level=group.level,
        null=group.null,
        estimators=len(group.estimators),
        agreement=group.agreement,
        same_sign=group.same_sign,
        spread=group.spread,
    )


def _all_gates(
    rows: Sequence[Mapping[str, Any]], estimates: Mapping[str, Outcome], counted: set[str], estimand: str
) -> tuple[Gate, ...]:
    """Return the gates that were reported and, of each counted estimator, those that the report leaves out."""
    reported = list(dict.fromkeys(_rows(rows, counted, estimand, _weighs_units(estimates, counted))))
    known = {(gate.name, gate.source) for gate in reported}
    return (*reported, *(gate for gate in _own(estimates, counted) if (gate.name, gate.source) not in known))


def _weighs_units(estimates: Mapping[str, Outcome], counted: set[str]) -> bool:
    """Whether an estimator that the answer rests on needs units that could have had either treatment."""
    answers = [estimates.get(name) for name in counted]
    return not answers or any(
        item.name == "positivity"
        for answer in answers
        if isinstance(answer, EffectEstimate)
        for item in answer.assumptions
    )


def _rows(
    rows: Sequence[Mapping[str, Any]], counted: set[str], estimand: str, weighs_units: bool = True
) -> Iterable[Gate]:
    """Turn rows of a gate report into gates; those of sensitivity questions are judged as questions.

    Gates of the nuisance models only inform where no counted estimator rests on them: an answer at a cutoff, from an
    instrument or over time needs no overlap of propensities.
    """
    for row in rows:
        measure, source = str(row.get("measure") or row["name"]), str(row.get("estimator") or row.get("source") or "")
        if str(row["name"]).startswith("sensitivity:"):
            continue
        source = "" if source in _WHOLE_STUDY else source
        if source and source not in counted:
            continue
        yield Gate(
            name=measure,
            status=str(row["status"]),
            value=row.get("value"),
            threshold=row.get("threshold"),
            meaning=str(row.get("meaning") or ""),
            remedy=str(row.get("remedy") or ""),
            source=source,
            informs=bool(row.get("informs"))
            or _informs(measure, estimand)
            or (row.get("stage") == "nuisance" and not weighs_units),
        )


def _own(estimates: Mapping[str, Outcome], counted: set[str]) -> Iterable[Gate]:
    for name in sorted(counted):
        answer = estimates.get(name)
        if not isinstance(answer, EffectEstimate):
            continue
        for item in answer.diagnostics:
            measure = MEASURES.get(item.name)
            yield Gate(
                name=item.name,
                status=item.status.value,
                value=item.value,
                threshold=item.threshold,
                meaning=measure.meaning if measure else item.detail,
                remedy=measure.remedy if measure else "",
                source=name,
                informs=_informs(item.name, answer.estimand),
            )


def _informs(name: str, estimand: str) -> bool:
    """Whether a gate only informs: raw imbalance is what adjustment is for; overlap weights need no overlap."""
    return name == "raw_smd" or (name == "overlap" and estimand == "ATO")
