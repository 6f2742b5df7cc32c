"""The method plan: which estimators suit a study best, and why; it ranks and removes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cqox_assets.catalog import load_estimators
from cqox_assets.measures import MEASURES
from cqox_assets.result import Estimand
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role, Study, TreatmentKind
from cqox_assets.suitability import is_there, missing_choice, unsuited_treatment, useless_covariates, with_dose

# What a design makes credible, by the assumptions that an entry declares: (assumption, rank, why).
_TRIAL = (
    ("random_assignment", 0.95, "assignment was random, so the arms can be compared as they are"),
    ("propensity_model", 0.40, "assignment was random, so modelling it adds little"),
    ("outcome_model", 0.90, "assignment was random; the covariates only sharpen the answer"),
    ("linearity", 0.60, "assignment was random; a common effect is assumed to sharpen the answer"),
)
_OBSERVED = (
    ("propensity_model", 0.65, "models how units came to be treated, given the covariates"),
    ("outcome_model", 0.60, "models the outcome given the covariates"),
    ("linearity", 0.45, "adjusts linearly for the covariates"),
    ("random_assignment", 0.10, "compares the arms unadjusted, which only a trial justifies"),
)
_DOUBLY_ROBUST = 0.90
_WELL_SUITED = 0.5  # of the best rank
_NOT_FOLLOWED = 0.50
_MODELS = frozenset({"propensity_model", "outcome_model", "linearity"})
_SPECIAL: Mapping[str, tuple[str, ...]] = {
    Role.INSTRUMENTS: ("instrument",),
    Role.RUNNING_VARIABLE: ("cutoff",),
    Role.COHORT: ("panel",),
    Role.MEDIATOR: (),
    Role.LATITUDE: ("spatial",),
    Role.TREATMENT_PROXY: ("observational",),
    "edges": ("spatial", "network"),
    Role.UNIT: ("panel",),
    Role.TIME: ("time_series",),
}


@dataclass(frozen=True)
class MethodPlan:
    """Every estimator of the catalogue, either ranked with a reason or refused with a remedy.

    Parameters
    ----------
    ranked : tuple of (str, str)
        Name and reason, most credible first.
    refused : mapping of str to str
        Name to what would have to change before it can run.
    estimand, estimand_reason : str
        The quantity that the decision rests on, and why.
    design : str
        The declared design, else `observational`.
    scores : mapping of str to float
        Rank of the ranked entries, 0 to 1.
    notices : tuple of str
        What was decided about the data before any method saw them: columns left out, values imputed.
    """

    ranked: tuple[tuple[str, str], ...]
    refused: Mapping[str, str]
    estimand: str
    estimand_reason: str
    design: str
    scores: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Ranked names, best first, then the refused ones: the order in which results are shown."""
        return tuple(name for name, _ in self.ranked) + tuple(sorted(self.refused))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "ranked": [list(pair) for pair in self.ranked],
            "refused": dict(self.refused),
            "estimand": self.estimand,
            "estimand_reason": self.estimand_reason,
            "design": self.design,
            "scores": dict(self.scores),
            "notices": list(self.notices),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "MethodPlan":
        """Rebuild a plan from `to_json`."""
        ranked = tuple((name, reason) for name, reason in row["ranked"])
        return cls(**{**row, "ranked": ranked, "notices": tuple(row.get("notices", ()))})

    def markdown(self) -> str:
        """Return the plan as a markdown table."""
        lines = ["| rank | method | why |", "|---:|---|---|"]
        lines += [f"| {place} | `{name}` | {why} |" for place, (name, why) in enumerate(self.ranked, start=1)]
        lines += [f"| - | `{name}` | cannot run: {remedy} |" for name, remedy in sorted(self.refused.items())]
        text = "\n".join(lines) + f"\n\nThe decision rests on the **{self.estimand}**: {self.estimand_reason}.\n"
        return text + "".join(f"\n- {notice}" for notice in self.notices) + ("\n" if self.notices else "")


def plan_methods(study: Study, overlap: float | None = None) -> MethodPlan:
    """Rank every estimator of the catalogue for a study.

    Parameters
    ----------
    study : Study
    overlap : float, optional
        Share of units in the common support, once the nuisance models know it; low overlap moves the preferred
        estimand of an observational study from all units to the treated.

    Returns
    -------
    MethodPlan
        Each entry appears once, in `ranked` or in `refused`. An entry's own `applicable` rule decides where it
        declares one; else its roles, its kind of treatment and its assumptions do.
    """
    design = study.declaration.design or "observational"
    found: list[tuple[float, str, str]] = []
    refused: dict[str, str] = {}
    for name, spec in load_estimators().items():
        seen = with_dose(spec, study)
        remedy = _obstacle(spec, seen)
        if remedy is not None:
            refused[name] = remedy
            continue
        fits, why, rank = _judge(spec, seen, design)
        if fits:
            found.append((min(max(rank, 0.0), 1.0), name, why))
        else:
            refused[name] = why
    if design != "trial":
        found = _over_time(found)
    found.sort(key=lambda item: (-item[0], item[1]))
    estimand, reason = preferred_estimand(study, overlap)
    if study.declaration.estimand is None:
        estimand, reason = _answerable(found, estimand, reason)
    return MethodPlan(
        ranked=tuple((name, why) for _, name, why in found),
        refused=refused,
        estimand=estimand,
        estimand_reason=reason,
        design=design,
        scores={name: rank for rank, name, _ in found},
        notices=study.notices,
    )


def nothing_planned(remedy: str) -> MethodPlan:
    """Return the plan of a table that no study can be made of: every entry is refused with the same remedy."""
    words = "no other quantity was declared, so the effect over all units is asked for"
    return MethodPlan((), dict.fromkeys(load_estimators(), remedy), Estimand.ATE.value, words, "observational")


def preferred_estimand(study: Study, overlap: float | None = None) -> tuple[str, str]:
    """Return the estimand that the decision rests on, and why."""
    declared = study.declaration
    if declared.estimand:
        return declared.estimand, "study.yaml states it"
    if len(study.studied()) < len(study):
        return Estimand.TARGET_ATE.value, "the study holds a target population, and the decision is about it"
    if declared.design == "trial":
        return Estimand.ATE.value, "in a trial every unit could have had either arm"
    by_design = {"instrument": Estimand.LATE, "cutoff": Estimand.LATE, "panel": Estimand.ATT}
    if declared.design in by_design:
        return by_design[declared.design].value, f"it is what a design of type '{declared.design}' identifies"
    if study.treatment_kind is TreatmentKind.CONTINUOUS or (study.has(Role.DOSE) and not study.has(Role.TREATMENT)):
        return Estimand.SLOPE.value, "the treatment is continuous, so the effect is per unit of treatment"
    if study.treatment_kind is TreatmentKind.REPEATED:
        return Estimand.REGIME.value, "the treatment is repeated in time, so whole courses of it are compared"
    limit = study.thresholds.get("overlap", MEASURES["overlap"].limit)
    if overlap is not None and not overlap > limit:
        return (
            Estimand.ATT.value,
            f"only {overlap:.0%} of the units lie in the common support (wanted: above {limit:.0%}), "
            "so the treated are the units that can be spoken for",
        )
    return Estimand.ATE.value, "no other quantity was declared, so the effect over all units is asked for"


def _answerable(found: list[tuple[float, str, str]], estimand: str, reason: str) -> tuple[str, str]:
    """Return the estimand if a well-suited method identifies it, else what the best-suited method identifies."""
    catalogue = load_estimators()
    suited = [name for rank, name, _ in found if rank > _WELL_SUITED * found[0][0]]
    if not found or any(estimand in catalogue[name].estimands for name in suited):
        return estimand, reason
    best = catalogue[found[0][1]]
    return str(best.estimands[0]), f"it is what {best.title.lower()}, the best-suited method, identifies"


def _obstacle(spec: EstimatorSpec, study: Study) -> str | None:
    """Return what must change before the entry can run, or None."""
    if study.declaration.methods and spec.name not in study.declaration.methods:
        return f"add '{spec.name}' to methods in study.yaml, which pins others"
    useless = useless_covariates(spec, study)
    if useless is not None:
        return f"{useless[0]}; {useless[1]}"
    missing = [role.value for role in sorted(spec.requires) if not study.has(role)]
    if missing:
        listed = ", ".join(f"{role}: <column>" for role in missing)
        return f"map {' and '.join(missing)} in study.yaml: roles: {{{listed}}}"
    choice = missing_choice(spec, study)
    if choice is not None:
        return choice[1]
    for role in (Role.WEIGHT, Role.CLUSTER):
        if study.has(role) and role not in spec.accepts | spec.requires:
            return f"it cannot use the {role} column '{study.name(role)}'; unmap it if it may be ignored"
    if study.repeats_units and not {Role.UNIT, Role.CLUSTER} & (spec.accepts | spec.requires):
        return f"units of '{study.name(Role.UNIT)}' have several rows; deliver one row per unit, or unmap the role unit"
    unsuited = unsuited_treatment(spec, study)
    return None if unsuited is None else f"{unsuited[0]}; {unsuited[1]}"


def _judge(spec: EstimatorSpec, study: Study, design: str) -> tuple[bool, str, float]:
    """Return whether the entry fits, why, and its rank; its own rule counts half and the design the other half."""
    fits, why, rank = _by_design(spec, study, design)
    if spec.applicable is None:
        return fits, why, rank
    own_fits, own_why, own_rank = spec.applicable(study)
    return own_fits, own_why, (own_rank + rank) / 2


def _over_time(found: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Put entries that compare rows as if they had no order behind those that follow units or a series over time."""
    catalogue = load_estimators()
    following = {name for _, name, _ in found if {Role.UNIT, Role.TIME} & catalogue[name].requires}
    if not following:
        return found
    words = "it makes no use of the order in time"
    return [
        (rank, name, why) if name in following else (rank * _NOT_FOLLOWED, name, f"{why}; {words}")
        for rank, name, why in found
    ]


def _by_design(spec: EstimatorSpec, study: Study, design: str) -> tuple[bool, str, float]:
    there = {name for group in spec.one_of for name in group if is_there(study, name)}
    if spec.side_tables and all(name in study.tables for name in spec.side_tables):
        listed = ", ".join(spec.side_tables)
        return True, f"the study has the side table '{listed}' that this design rests on", 1.0
    for role, designs in _SPECIAL.items():
        if role in spec.requires | there:
            rank = 0.95 if design in designs else (0.9 if study.declaration.design is None else 0.75)
            kind = "role" if role in list(Role) else "side table"
            return True, f"the study has the {kind} '{role}' that this design rests on", rank
    if Role.POPULATION in spec.requires:
        return True, "the study has rows of a target population, which only this design speaks about", 1.0
    assumed = set(spec.assumptions)
    if design == "trial":
        return _first_match(assumed, _TRIAL)
    robust = "unconfoundedness" in assumed and not assumed & _MODELS
    if robust and study.has(Role.COVARIATES):
        return True, "rests on neither the treatment model nor the outcome model alone", _DOUBLY_ROBUST
    fits, why, rank = _first_match(assumed, _OBSERVED)
    if not study.has(Role.COVARIATES):
        return fits, f"{why}; there are no covariates to adjust for", min(rank, 0.3)
    return fits, why, rank


def _first_match(assumed: set[str], rules: tuple[tuple[str, float, str], ...]) -> tuple[bool, str, float]:
    for name, rank, why in rules:
        if name in assumed:
            return True, why, rank
    return True, "its assumptions are not particular to this design", 0.5
