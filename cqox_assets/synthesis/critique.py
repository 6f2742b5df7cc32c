"""The critique: a reviewer that judges an analysis by fixed rules, and tries remedies from a fixed list."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import MethodPlan
from cqox_assets.result import EffectEstimate, Outcome
from cqox_assets.study import Role, Study
from cqox_assets.synthesis._helpers import diagnostic_rows, judged_rows, weighing_gates
from cqox_assets.synthesis.effect_summary import EffectSummary, summarise
from cqox_assets.synthesis.objections import Objection, gate_objections, reading_objections, sensitivity_objections
from cqox_assets.synthesis.remedies import MOST_ROUNDS, REMEDIES, Remedy

if TYPE_CHECKING:
    from cqox_assets.results import Present

APPROVE, ITERATE, REJECT = "APPROVE", "ITERATE", "REJECT"
BUDGET_SECONDS = 4.0
_MOST_ESTIMATORS = 5
_FULL = ("summary", "gates")
_SLOW = ("heterogeneity", "resampling")  # their averages are those of aipw, and of the estimator resampled
Answers = Mapping[str, Any]
RULES = (
    "REJECT: nothing could be estimated, a check fails that no remedy on the list answers to, or a check that fails as "
    "declared still fails after the last round. ITERATE: a remedy on the list answers to a check that warns or fails. "
    "APPROVE otherwise. Significance, the sign and the size of the effect never ask for another round."
)


@dataclass(frozen=True)
class Round:
    """One look at the analysis; round 0 is the analysis as it was declared.

    Parameters
    ----------
    remedy, change : str
        Name of the remedy carried out before this round, and what it did; empty in round 0.
    estimates : mapping of str to mapping
        Estimator to estimate, low and high of its headline, where it answered.
    targets : list of mapping
        Consensus of the estimand that the decision rests on: contrast, consensus, low, high, estimators.
    objections : tuple of Objection
    summary, gates : mapping and list of mapping
        Of this round, as `EffectSummary.to_json` and rows of a gate report; empty in round 0, whose are stored anyway.
    """

    number: int
    verdict: str
    rows: int
    covariates: int
    remedy: str = ""
    change: str = ""
    estimates: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    targets: Sequence[Mapping[str, Any]] = ()
    objections: tuple[Objection, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Critique:
    """The reviewer's verdict with its reasons and every round.

    Parameters
    ----------
    verdict : str
        APPROVE, ITERATE or REJECT; REJECT holds the decision whatever the effect.
    sentence : str
    rounds : tuple of Round
        At least round 0, and at most three more.
    headline_round : int
        The round that the decision rests on: 0, unless the declaration says `remedies: adopt` and a remedy cured
        everything.
    """

    verdict: str
    sentence: str
    rounds: tuple[Round, ...]
    headline_round: int = 0
    seconds: float = 0.0
    budget_seconds: float = BUDGET_SECONDS
    rules: str = RULES
    remedies: Mapping[str, str] = field(default_factory=lambda: {item.name: item.title for item in REMEDIES})

    @property
    def rejects(self) -> bool:
        """Whether the decision must be held."""
        return self.verdict == REJECT

    def for_rule(self) -> str:
        """Return the word that the decision rule reads."""
        return "reject" if self.rejects else "accept"

    def decisive(
        self, summary: EffectSummary, gates: Sequence[Mapping[str, Any]]
    ) -> tuple[EffectSummary, Sequence[Mapping[str, Any]]]:
        """Return what the decision rests on: summary and gates as given, or those of the adopted round."""
        if self.headline_round == 0:
            return summary, gates
        adopted = self.rounds[self.headline_round]
        done = "; ".join(item.change for item in self.rounds[1 : self.headline_round + 1])
        said = f"The decision rests on round {self.headline_round} of the review, as study.yaml allows: {done}."
        found = EffectSummary.from_json(adopted.summary)
        return replace(found, notices=(*found.notices, said)), adopted.gates

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def for_card(self) -> dict[str, Any]:
        """Return plain values without the full results of each round."""
        rounds = [{key: value for key, value in asdict(item).items() if key not in _FULL} for item in self.rounds]
        return {**asdict(self), "rounds": rounds}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Critique":
        """Rebuild a critique from `to_json`."""
        rounds = tuple(
            Round(**{**item, "objections": tuple(Objection(**objection) for objection in item["objections"])})
            for item in row["rounds"]
        )
        return cls(**{**row, "rounds": rounds})

    def markdown(self) -> str:
        """Return the review as markdown."""
        lines = [f"**{self.verdict}**: {self.sentence}", "", "| round | remedy | rows | consensus | verdict |",
                 "|---:|---|---:|---|---|"]  # fmt: skip
        for item in self.rounds:
            known = [target for target in item.targets if target["consensus"] is not None]
            values = ", ".join(f"{target['contrast']}: {target['consensus']:.4g}" for target in known) or "none"
            change = item.change or "as declared"
            lines.append(f"| {item.number} | {change} | {item.rows} | {values} | {item.verdict} |")
        lines += ["", "| round | about | severity | objection | remedy |", "|---:|---|---|---|---|"]
        lines += [
            f"| {item.number} | {part.topic.replace('_', ' ')} | {part.severity} | {part.sentence} | {part.remedy} |"
            for item in self.rounds
            for part in item.objections
        ]
        return "\n".join(lines) + "\n"


def review(
    study: Study,
    plan: MethodPlan,
    estimates: Mapping[str, Outcome],
    gates: Sequence[Mapping[str, Any]],
    sensitivity: Answers | None = None,
    budget_seconds: float = BUDGET_SECONDS,
) -> Critique:
    """Review an analysis and carry out at most three remedies.

    Parameters
    ----------
    study, plan, estimates
        The analysis as it was declared: round 0.
    gates : sequence of mapping
        Rows of the gate report: name, measure, status, value, estimator, stage, ...
    sensitivity : mapping, optional
        Answers by `question: estimator`.
    budget_seconds : float
        CPU time after which no further round is started, which the answer says.

    Notes
    -----
    A remedy is chosen by the checks that warn or fail, never by the effect: the reviewer's choice of rounds is the
    same whatever the outcome's interval says. All rounds are kept, so nobody can pick one among those that were tried.
    """
    started = time.process_time()
    summary = summarise(plan, estimates, gates)
    asked = sensitivity_objections(summary, estimates, sensitivity or {})
    rounds = [_round(study, summary, estimates, gates, asked, used=())]
    current, names, stopped = study, _again(summary, plan), ""
    used: list[str] = []
    while rounds[-1].verdict == ITERATE and len(rounds) <= MOST_ROUNDS and names:
        step = _next(rounds[-1].objections, current, used)
        if step is None:
            break
        if time.process_time() - started > budget_seconds:
            stopped = " No further remedy was tried, as the time budget ended."
            break
        remedy, current = step
        used.append(remedy.name)
        rounds.append(_carried_out(remedy, current, names, asked, tuple(used)))
    verdict = _final(rounds)
    adopted = len(rounds) - 1 if study.declaration.remedies == "adopt" and rounds[-1].verdict == APPROVE else 0
    return Critique(
        verdict, _sentence(verdict, rounds, adopted) + stopped, tuple(rounds), adopted,
        round(time.process_time() - started, 3), budget_seconds,
    )  # fmt: skip


def critique_of(present: "Present") -> Critique:
    """Review what is stored for a partition's current study."""
    from cqox_assets.discovery.plan import plan_methods

    study = present.study
    plan, asked = present.plan or plan_methods(study), present.inputs().sensitivity
    return review(study, plan, present.estimates, judged_rows(present), asked)


def _round(
    study: Study,
    summary: EffectSummary,
    estimates: Mapping[str, Outcome],
    gates: Sequence[Mapping[str, Any]],
    asked: Sequence[Objection],
    used: tuple[str, ...],
) -> Round:
    counted = [name for group in summary.targets() for name in group.estimators]
    objections = (
        *gate_objections(weighing_gates(gates, estimates, counted), used),
        *reading_objections(study, summary),
        *asked,
    )
    return Round(
        number=len(used), verdict=_verdict(objections), rows=len(study), covariates=len(study.names(Role.COVARIATES)),
        estimates=_headlines(estimates, counted), objections=objections,
        targets=[
            {"contrast": group.contrast, "consensus": group.consensus, "low": group.low, "high": group.high,
             "estimators": list(group.estimators)}
            for group in summary.targets()
        ],
    )  # fmt: skip


def _headlines(estimates: Mapping[str, Outcome], names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(names):
        answer = estimates.get(name)
        if not isinstance(answer, EffectEstimate):
            continue
        ends = answer.interval
        low, high = (
            (None, None) if ends is None else (end if math.isfinite(end) else None for end in (ends.low, ends.high))
        )
        found[name] = {"estimate": answer.estimate, "low": low, "high": high}
    return found


def _verdict(objections: Sequence[Objection]) -> str:
    if any(item.severity == "fatal" for item in objections):
        return REJECT
    return ITERATE if any(item.remedy for item in objections) else APPROVE


def _again(summary: EffectSummary, plan: MethodPlan) -> list[str]:
    """Return the estimators that a round runs again: those that the answer rests on, the plan's best first."""
    catalogue = load_estimators()
    counted = {name for group in summary.targets() for name in group.estimators}
    light = [name for name in plan.names if name in counted and catalogue[name].family not in _SLOW]
    return light[:_MOST_ESTIMATORS]


def _next(objections: Sequence[Objection], study: Study, used: Sequence[str]) -> tuple[Remedy, Study] | None:
    """Return the first remedy on the list that an objection asks for and that changes the study, and the result."""
    wanted = {item.remedy for item in objections if item.remedy}
    for remedy in REMEDIES:
        if remedy.name in wanted and remedy.name not in used:
            changed = remedy.apply(study)
            if changed is not None:
                return remedy, changed
    return None


def _carried_out(
    remedy: Remedy, study: Study, names: Sequence[str], asked: Sequence[Objection], used: tuple[str, ...]
) -> Round:
    """Estimate again on the changed study and look at it anew."""
    from cqox_assets.api import estimate_study
    from cqox_assets.discovery.plan import plan_methods
    from cqox_assets.gates.data import diagnose

    estimates, nuisance = estimate_study(study, names)
    rows = diagnostic_rows(diagnose(study).diagnostics, nuisance, estimates)
    summary = summarise(plan_methods(study), estimates, rows)
    found = _round(study, summary, estimates, rows, asked, used)
    return replace(found, remedy=remedy.name, change=remedy.title, summary=summary.to_json(), gates=rows)


def _final(rounds: Sequence[Round]) -> str:
    """Return the verdict: round 0's when it needs no remedy; else whether the failing checks were cured."""
    first, last = rounds[0], rounds[-1]
    if first.verdict != ITERATE:
        return first.verdict
    return REJECT if _uncured(first, last) else ITERATE


def _uncured(first: Round, last: Round) -> list[Objection]:
    """Return what fails in both rounds; what a remedy itself made fail speaks against the remedy only."""
    failed = {item.measure for item in first.objections if item.failing}
    return [item for item in last.objections if item.failing and item.measure in failed]


def _sentence(verdict: str, rounds: Sequence[Round], adopted: int) -> str:
    first, last, tried = rounds[0], rounds[-1], len(rounds) - 1
    grave = _uncured(first, last) or [item for item in first.objections if item.severity == "fatal"]
    if verdict == APPROVE:
        concerns = sum(item.severity == "concern" for item in first.objections)
        return (
            f"Nothing on the list of remedies is called for; {concerns or 'no'} concern{'' if concerns == 1 else 's'}."
        )
    if verdict == REJECT:
        after = f" after {tried} round{'s' if tried != 1 else ''}" if tried else ""
        return f"The analysis does not stand{after}: {grave[0].sentence if grave else 'a check fails'}"
    if not tried:
        return "A remedy is called for but cannot be carried out on these data; the answer stays as declared."
    done = "; ".join(f"round {item.number}: {item.change}" for item in rounds[1:])
    cured = "which answers every check" if last.verdict == APPROVE else "which leaves checks that warn"
    rests = f"round {adopted}, as study.yaml allows" if adopted else "round 0, as declared"
    return f"{done}, {cured}; the decision rests on {rests}."
