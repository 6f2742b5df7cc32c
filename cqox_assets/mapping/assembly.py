"""Gives columns their roles one after another: stated ones, treatment, outcome, named ones, covariates."""

from collections.abc import Iterable

import pandas as pd

from cqox_assets.mapping import keys
from cqox_assets.mapping.columns import Kind, Roles
from cqox_assets.mapping.profile import ColumnFacts
from cqox_assets.mapping.relations import same_partition, yearly_groups
from cqox_assets.mapping.scoring import (
    CERTAIN,
    MARKED,
    NAMED,
    Candidate,
    Clues,
    elect,
    outcome_candidate,
    treatment_candidate,
)
from cqox_assets.mapping.words import Lexicon
from cqox_assets.study import Role

# roles that are proposed for a name alone: (role, whether the column must be numeric, whether it must have two values)
_BY_NAME = (
    (Role.PROPENSITY, True, False),
    (Role.WEIGHT, True, False),
    (Role.LATITUDE, True, False),
    (Role.LONGITUDE, True, False),
    (Role.TREATMENT_PROXY, True, False),
    (Role.OUTCOME_PROXY, True, False),
    (Role.MEDIATOR, True, False),
    (Role.OFFSET, True, False),
    (Role.EVENT, True, True),
    (Role.POPULATION, True, True),
    (Role.COHORT, True, False),
    (Role.PAIR, False, False),
    (Role.STRATUM, False, False),
    (Role.SUBGROUP, False, False),
    (Role.DOSE, True, False),
    (Role.COST, True, False),
)
# an inferred side role must not cost more than this share of the rows; a declared one may
_GAPS = 0.05
_SPARE = frozenset({Role.COHORT, Role.STRATUM, Role.SUBGROUP, Role.COST})
_MANY = frozenset({Role.TREATMENT_PROXY, Role.OUTCOME_PROXY})


class Assembly:
    """Collects roles, confidence, evidence and warnings for one table.

    Parameters
    ----------
    table : DataFrame
    clues : Clues
        What is known about its columns.
    words : Lexicon
        Words of the study's domain.
    """

    def __init__(self, table: pd.DataFrame, clues: Clues, words: Lexicon) -> None:
        self.table, self.clues, self.words = table, clues, words
        self.roles: dict[Role, tuple[str, ...]] = {}
        self.confidence: dict[Role, float] = {}
        self.evidence: dict[Role, str] = {}
        self.warnings: list[str] = []
        self._closed: set[Role] = set()
        self._taken: set[str] = set()

    def declare(self, stated: Roles, evidence: str) -> None:
        """Take roles that a person stated; an empty one stays empty."""
        for role, names in stated.items():
            self._closed.add(role)
            if names:
                self.assign(role, names, 1.0, evidence)

    def assign(self, role: Role, names: Iterable[str], confidence: float, evidence: str) -> None:
        """Give columns a role."""
        self.roles[role] = tuple(names)
        self.confidence[role] = round(confidence, 2)
        self.evidence[role] = evidence
        self._taken.update(self.roles[role])

    def open(self, role: Role) -> bool:
        """Whether the role is still to be filled."""
        return role not in self._closed and role not in self.roles

    def free(self) -> list[ColumnFacts]:
        """Columns without a role."""
        return [facts for facts in self.clues.profile.columns if facts.name not in self._taken]

    def complete(self, facts: ColumnFacts, role: Role) -> bool:
        """Whether a column has enough values for a role whose missing values cost rows; if not, say so."""
        if facts.missing <= _GAPS:
            return True
        self.warnings.append(
            f"'{facts.name}' is not taken as {role} because {facts.missing:.0%} of its values are missing; "
            f"state it in study.yaml to use it and drop those rows"
        )
        return False

    def leave_out(self, names: Iterable[str], why: str) -> None:
        """Keep columns out of every role and say so."""
        listed = [name for name in names if name not in self._taken]
        if listed:
            self._taken.update(listed)
            shown = ", ".join(f"'{name}'" for name in listed[:12]) + (" ..." if len(listed) > 12 else "")
            self.warnings.append(f"left out of the covariates: {shown} ({why})")

    def assign_all(self) -> None:
        """Fill every open role, in the order in which one decision informs the next."""
        other = [facts.name for facts in self.free() if self.clues.strength(facts.name, "counterfactual") >= NAMED]
        self.leave_out(other, "potential outcomes or true effects, which a study never observes")
        self._assign_main(Role.TREATMENT)
        self._assign_main(Role.OUTCOME)
        self._assign_pre_outcome()
        for role, numeric, two in _BY_NAME:
            self._assign_by_name(role, numeric=numeric, two=two)
        keys.assign_time(self)
        keys.assign_unit(self)
        keys.assign_cluster(self)
        self._assign_running_variable()
        self._assign_instruments()
        self._assign_covariates()

    def _assign_main(self, role: Role) -> None:
        if not self.open(role):
            return
        score = treatment_candidate if role == Role.TREATMENT else outcome_candidate
        best: Candidate | None = None
        for foreign in (False, True):
            found = [score(self.clues, facts, foreign=foreign) for facts in self.free()]
            choice = elect([item for item in found if item is not None], str(role))
            if choice is not None and (best is None or choice.score > best.score):
                best = choice
            if best is not None and best.score >= 0.5:
                break
        if best is None:
            few = [facts.name for facts in self.free() if facts.two_valued or facts.few_valued][:6]
            hint = f"; columns with few values are {', '.join(few)}" if few and role == Role.TREATMENT else ""
            self.warnings.append(
                f"no column is named like {'a treatment' if role == Role.TREATMENT else 'an outcome'}{hint}; "
                f"state it in study.yaml: roles: {{{role}: <column>}}"
            )
            return
        self.assign(role, (best.name,), best.score, best.evidence)
        if best.score <= CERTAIN:
            self.warnings.append(
                f"the {role} is not certain ({best.evidence}); confirm it in study.yaml: roles: {{{role}: {best.name}}}"
            )

    def _assign_pre_outcome(self) -> None:
        outcome = self.roles.get(Role.OUTCOME, ())
        if len(outcome) != 1:
            return
        group = next((names for names in yearly_groups(self.table.columns) if outcome[0] in names), ())
        at = group.index(outcome[0]) if group else 0
        self.leave_out(group[at + 1 :], f"measured after the outcome '{outcome[0]}'")
        if not self.open(Role.PRE_OUTCOME):
            return
        numeric = {facts.name for facts in self.free() if facts.kind.numeric}
        earlier = [name for name in group[:at] if name in numeric]
        root = self.words.root(outcome[0])
        for facts in self.free():
            marked = self.clues.marked(facts.name, "before") and facts.kind.numeric and facts.name not in earlier
            own = self.words.root(facts.name)
            if marked and own and root and (own <= root or root <= own):
                earlier.append(facts.name)
        if earlier:
            why = f"{', '.join(earlier)} measure what '{outcome[0]}' measures, earlier"
            self.assign(Role.PRE_OUTCOME, earlier, 0.85, why)

    def _assign_by_name(self, role: Role, *, numeric: bool, two: bool) -> None:
        if not self.open(role):
            return
        fits = [
            (self.clues.match(facts.name, role), facts.name)
            for facts in self.free()
            if facts.distinct >= 2
            and (facts.kind.numeric or not numeric or (role == Role.COHORT and facts.kind == Kind.DATE))
            and (facts.two_valued or not two)
            and not (role == Role.PROPENSITY and not _is_share(facts))
        ]
        named = sorted((pair for pair in fits if pair[0].strength >= NAMED), key=lambda pair: -pair[0].strength)
        if role not in _SPARE:
            named = [pair for pair in named if self.complete(self.clues.profile[pair[1]], role)]
        if named:
            names = [name for _, name in named] if role in _MANY else [named[0][1]]
            sure = 0.5 + 0.45 * named[0][0].strength
            self.assign(role, names, sure, f"{', '.join(names)}: the name says so ('{named[0][0].word}')")

    def _assign_running_variable(self) -> None:
        treatment = self.roles.get(Role.TREATMENT, ())
        if not self.open(Role.RUNNING_VARIABLE):
            return
        free = {facts.name: facts for facts in self.free()}
        steps = [
            item
            for item in self.clues.profile.cutoffs
            if item.treatment in treatment
            and item.running in free
            and self.complete(free[item.running], Role.RUNNING_VARIABLE)
        ]
        if steps:
            steps.sort(key=lambda item: -self.clues.strength(item.running, Role.RUNNING_VARIABLE))
            self.assign(Role.RUNNING_VARIABLE, (steps[0].running,), 0.9, steps[0].sentence)
            self.leave_out((item.running for item in steps[1:]), f"switches with '{treatment[0]}' as well")
            return
        shared = {name: self.clues.found[name].get(Role.RUNNING_VARIABLE) for name in free}  # not the domain's words
        numeric = [name for name, facts in free.items() if facts.kind.numeric and facts.distinct > 10]
        named = [name for name in numeric if (match := shared[name]) is not None and match.strength >= NAMED]
        if len(named) == 1:
            self.assign(Role.RUNNING_VARIABLE, named, 0.7, f"'{named[0]}': the name says so")

    def _assign_instruments(self) -> None:
        if not self.open(Role.INSTRUMENTS) or Role.TREATMENT not in self.roles:
            return
        named = [
            (facts.name, self.clues.match(facts.name, Role.INSTRUMENTS))
            for facts in self.free()
            if facts.kind.numeric and facts.distinct >= 2
        ]
        named = [
            (name, match)
            for name, match in named
            if match.strength >= NAMED and self.complete(self.clues.profile[name], Role.INSTRUMENTS)
        ]
        if named:
            sure = 0.6 if any(match.word in ("distance", "距離", "Entfernung") for _, match in named) else 0.8
            listed = ", ".join(f"'{name}'" for name, _ in named)
            self.assign(Role.INSTRUMENTS, [name for name, _ in named], sure, f"{listed}: named like an instrument")
            self.warnings.append(
                f"{listed} is taken as an instrument because of its name; if it affects the outcome by other ways than "
                "the treatment, state it under covariates in study.yaml"
            )

    def _assign_covariates(self) -> None:
        if not self.open(Role.COVARIATES):
            return
        clues, free = self.clues, self.free()
        self.leave_out((item.name for item in free if item.distinct <= 1), "the same value in every row, or none")
        self.leave_out((item.name for item in free if self._is_identifier(item)), "identifiers or free text")
        treatment = self.roles.get(Role.TREATMENT, ())
        levels = clues.profile[treatment[0]].distinct if len(treatment) == 1 else -1
        alike = [item.name for item in self.free() if item.few_valued and item.distinct == levels]
        copies = [name for name in alike if same_partition(self.table, name, treatment[0])]
        self.leave_out(copies, f"say the same as the treatment '{', '.join(treatment)}'")
        self.leave_out(self._variants(), "variants of the outcome")
        scores = {item.name: outcome_candidate(clues, item) for item in self.free()}
        likely = [name for name, found in scores.items() if found is not None and found.score >= 0.5]
        self.leave_out(likely, "look like outcomes, so the treatment may have changed them")
        late = [
            item.name
            for item in self.free()
            if clues.marked(item.name, "after") and not clues.marked(item.name, "before")
        ]
        self.leave_out(late, "measured after treatment by their names")
        dates = [
            item.name for item in self.free() if item.kind == Kind.DATE and clues.strength(item.name, "trait") < MARKED
        ]
        self.leave_out(dates, "dates; state those from before treatment under covariates")
        rest = [item.name for item in self.free()]
        before = (*self.roles.get(Role.PRE_OUTCOME, ()), *self.roles.get(Role.RUNNING_VARIABLE, ()))
        names = [name for name in self.table.columns if name in rest or name in before]
        if names:
            why = f"{len(names)} columns that nothing speaks against as measured before treatment"
            self.assign(Role.COVARIATES, names, 0.7, why)

    def _variants(self) -> list[str]:
        """Columns that measure the same as the outcome, and are not marked as earlier."""
        outcome = self.roles.get(Role.OUTCOME, ())
        root = self.words.root(outcome[0]) if outcome else frozenset()
        if not root:
            return []
        marked = [item.name for item in self.free() if not self.clues.marked(item.name, "before")]
        return [name for name in marked if self.words.root(name) == root]

    def _is_identifier(self, facts: ColumnFacts) -> bool:
        named = max(self.clues.strength(facts.name, group) for group in ("identifier", Role.UNIT)) >= NAMED
        many = facts.distinct > 30
        free_text = facts.kind == Kind.TEXT and facts.distinct > max(30, facts.present / 2)
        return facts.id_like or free_text or (named and many) or (named and "replicat" in facts.name.casefold())


def _is_share(facts: ColumnFacts) -> bool:
    ends = (facts.minimum, facts.maximum)
    return all(isinstance(end, float) and 0 <= end <= 1 for end in ends)
