"""Scores columns as treatment and as outcome, from names, values and relations; the scores are confidences."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cqox_assets.mapping.columns import Kind
from cqox_assets.mapping.profile import FEW, ColumnFacts, ColumnProfile
from cqox_assets.mapping.vocabulary import arms_evidence
from cqox_assets.mapping.words import Lexicon, Match, tokens
from cqox_assets.study import Role

CERTAIN = 0.6
TIE = 0.07
NAMED = 0.8
MARKED = 0.35
_NONE = Match(0.0, "")
_OWN, _FOREIGN = 0.9, 0.7
# a name that is above all one of these is not a treatment or an outcome, whatever else it contains
_RIVALS = (
    "trait", "identifier", Role.UNIT, Role.TIME, Role.CLUSTER, Role.COST, Role.WEIGHT, Role.PROPENSITY, Role.COHORT,
    Role.DOSE, Role.TREATMENT_PROXY, Role.OUTCOME_PROXY, Role.POPULATION, Role.OFFSET, Role.PAIR, Role.MEDIATOR,
    Role.SUBGROUP, Role.LATITUDE, Role.LONGITUDE, Role.RUNNING_VARIABLE,
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A column that may play a role: its score, 0 to 1, and the reasons in words."""

    name: str
    score: float
    evidence: str


@dataclass(frozen=True)
class Clues:
    """Everything that is known about a table's columns before roles are given.

    Parameters
    ----------
    profile : ColumnProfile
    found : mapping of str to mapping
        Column to what its name stands for, by role or helper group.
    foreign : mapping of str to mapping
        The same by the words of all domains, used only where the study's own domain finds nothing.
    earlier : mapping of str to tuple of str
        The latest column of a yearly series to the earlier ones.
    """

    profile: ColumnProfile
    found: Mapping[str, Mapping[str, Match]]
    foreign: Mapping[str, Mapping[str, Match]]
    earlier: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def match(self, name: str, role: str, *, foreign: bool = False) -> Match:
        """Return how strongly a column's name stands for a role, by shared and domain words."""
        own = self.found[name].get(role, _NONE)
        domain = self.found[name].get(f"domain:{role}", _NONE)
        options = [own, Match(domain.strength * _OWN, domain.word)]
        if foreign:
            other = self.foreign[name].get(role, _NONE)
            options.append(Match(other.strength * _FOREIGN, other.word))
        return max(options, key=lambda match: match.strength)

    def strength(self, name: str, role: str) -> float:
        """Return the strength of `match`."""
        return self.match(name, role).strength

    def rival(self, name: str, among: tuple[str, ...] = _RIVALS) -> float:
        """Return how strongly the name stands for something that is neither treatment nor outcome."""
        return max(self.strength(name, role) for role in among)

    def marked(self, name: str, group: str) -> bool:
        """Whether the name carries a mark of the helper group, such as `before`."""
        return self.strength(name, group) >= MARKED


def clues_of(
    profile: ColumnProfile, words: Lexicon, all_words: Lexicon, earlier: Mapping[str, tuple[str, ...]]
) -> Clues:
    """Read every column name of a profile."""
    names = [facts.name for facts in profile.columns]
    return Clues(
        profile, {name: words.read(name) for name in names}, {name: all_words.read(name) for name in names}, earlier
    )


def treatment_candidate(clues: Clues, facts: ColumnFacts, *, foreign: bool = False) -> Candidate | None:
    """Score a column as treatment: its name, how few values it has, how they read, whether it switches at a cutoff."""
    if facts.kind in (Kind.EMPTY, Kind.DATE):
        return None
    match = clues.match(facts.name, Role.TREATMENT, foreign=foreign)
    name, reasons = match.strength, []
    if clues.strength(facts.name, Role.COHORT) > max(name, NAMED) and not _is_switch(facts):
        return None  # when a unit was first treated, not whether
    if facts.few_valued and match.strength < NAMED * clues.strength(facts.name, Role.INSTRUMENTS):
        match = clues.match(facts.name, Role.INSTRUMENTS)  # an assignment is the treatment where no uptake is recorded
        name = NAMED * match.strength
    if len(tokens(facts.name)) == 1 and len(facts.name) == 1:
        name = name * 0.85 if facts.two_valued else 0.0
    rival = clues.rival(facts.name)
    if rival and rival >= name and (clues.strength(facts.name, "trait") == rival or name < NAMED):
        name = 0.0 if clues.strength(facts.name, "trait") >= name else name / 2
    values, reason = arms_evidence(value for value, _ in facts.top) if facts.few_valued else (0.0, "")
    if clues.strength(facts.name, "trait") >= NAMED:
        values = 0.0
    shape, words = _treatment_shape(facts)
    if name:
        reasons.append(f"its name says so ('{match.word}')")
    score = 0.75 * name + values + shape - 0.5 * clues.marked(facts.name, "before")
    reasons += [text for text in (reason, words) if text]
    cutoff = next((item for item in clues.profile.cutoffs if item.treatment == facts.name), None)
    named = cutoff is not None and clues.strength(cutoff.running, Role.RUNNING_VARIABLE) >= NAMED
    if cutoff is not None and (name or values >= 0.3 or named):
        score += 0.45 if named else 0.05
        reasons.append(f"it switches at {cutoff.running} = {cutoff.cutoff:g}")
    return Candidate(facts.name, min(score, 0.97), "; ".join(reasons))


def _is_switch(facts: ColumnFacts) -> bool:
    return facts.two_valued and facts.minimum == 0 and facts.maximum == 1


def _treatment_shape(facts: ColumnFacts) -> tuple[float, str]:
    if facts.two_valued:
        return 0.15, "two values"
    if facts.distinct <= 1:
        return 0.0, "one value only"
    if facts.few_valued:
        return 0.08, f"{facts.distinct} values"
    if facts.kind.numeric:
        return -0.15, "many values"
    return -0.3, f"{facts.distinct} different words"


def outcome_candidate(clues: Clues, facts: ColumnFacts, *, foreign: bool = False) -> Candidate | None:
    """Score a column as outcome: its name, its values, and whether it is the latest of a yearly series."""
    if not facts.kind.numeric and not (facts.kind == Kind.TEXT and facts.distinct <= 2):
        return None
    match = clues.match(facts.name, Role.OUTCOME, foreign=foreign)
    name, reasons, rival = match.strength, [], clues.rival(facts.name)
    if clues.strength(facts.name, Role.TREATMENT) >= max(name, NAMED):
        name = 0.0
    if rival >= name and rival >= NAMED and (name < NAMED or clues.strength(facts.name, "trait") == rival):
        name = 0.0 if clues.strength(facts.name, "trait") >= name else name / 2
    if name:
        reasons.append(f"its name says so ('{match.word}')")
    score = 0.75 * name + (0.1 if facts.distinct > 1 and not facts.id_like else 0.0)
    if facts.name in clues.earlier and not clues.strength(facts.name, "trait") >= NAMED:
        earlier = clues.earlier[facts.name]
        score += 0.6 if not name else 0.1
        reasons.append(f"it is the latest of the series {', '.join((*earlier, facts.name))}")
    if not name and facts.distinct > FEW and clues.strength(facts.name, Role.COST) >= NAMED:
        score += 0.35
        reasons.append("it is a cost, which may be the outcome")
    if clues.marked(facts.name, "before"):
        score -= 0.6
    elif clues.marked(facts.name, "after") and name:
        score += 0.05
        reasons.append("it is measured afterwards")
    reasons.append(
        "two values" if facts.two_valued else "numeric" if facts.distinct > FEW else f"{facts.distinct} values"
    )
    return Candidate(facts.name, min(score, 0.97), "; ".join(reasons))


def elect(candidates: list[Candidate], role: str) -> Candidate | None:
    """Return the best candidate; if the runner-up is as good, the confidence is low and the evidence names both."""
    ranked = sorted(candidates, key=lambda item: -item.score)
    if not ranked or ranked[0].score < 0.3:
        return None
    best, score = ranked[0], max(0.0, ranked[0].score)
    rivals = [item.name for item in ranked[1:] if item.score > best.score - TIE]
    evidence = f"'{best.name}': {best.evidence}"
    if rivals:
        score = min(score, 0.5)
        listed = " and ".join(f"'{name}'" for name in (best.name, *rivals[:4]))
        evidence = f"{listed} are equally likely as {role}; {evidence}"
    return Candidate(best.name, round(score, 2), evidence)
