"""Finds the columns that say who, when and where: time, unit and cluster."""

from typing import TYPE_CHECKING

from cqox_assets.mapping.columns import Kind
from cqox_assets.mapping.profile import ColumnFacts
from cqox_assets.mapping.relations import repeats, varies_within
from cqox_assets.mapping.scoring import NAMED
from cqox_assets.study import Role

if TYPE_CHECKING:
    from cqox_assets.mapping.assembly import Assembly

_ACCIDENTS = 0.05
_FEW_LEVELS = 30
_NOT_TIME = ("trait", Role.COHORT, Role.UNIT, Role.COST, Role.OFFSET)


def assign_time(assembly: "Assembly") -> None:
    """Take the column that is named or typed like time; with several, the best named and then the finest."""
    if not assembly.open(Role.TIME):
        return
    scored = [
        (score, facts.distinct, facts) for facts in assembly.free() if (score := _time_score(assembly, facts)) > 0
    ]
    if not scored:
        return
    score, _, best = max(scored, key=lambda item: (round(item[0], 2), item[1]))
    if not assembly.complete(best, Role.TIME):
        return
    words = "holds dates" if best.kind == Kind.DATE else "is named like time"
    more = " and never decreases down the rows" if best.monotone else ""
    assembly.assign(Role.TIME, (best.name,), min(score, 0.95), f"'{best.name}' {words}{more}")


def _time_score(assembly: "Assembly", facts: ColumnFacts) -> float:
    name, clues = facts.name, assembly.clues
    strength = clues.strength(name, Role.TIME)
    if facts.distinct < 2 or facts.kind in (Kind.EMPTY, Kind.BOOLEAN):
        return 0.0
    if clues.rival(name, _NOT_TIME) >= max(strength, 0.3) or clues.strength(name, Role.OUTCOME) > max(strength, 0.5):
        return 0.0
    base = {Kind.DATE: 0.65, Kind.INTEGER: 0.5, Kind.NUMBER: 0.4}.get(facts.kind, 0.45)
    if facts.kind != Kind.DATE and (strength < NAMED or facts.distinct > 5_000):
        return 0.0
    return base + 0.3 * strength + 0.03 * facts.monotone - 0.3 * clues.marked(name, "before")


def assign_unit(assembly: "Assembly") -> None:
    """Take the column that names the units: one row each, or one row each per period."""
    if not assembly.open(Role.UNIT):
        return
    clues, rows = assembly.clues, len(assembly.table)
    scored = []
    for facts in assembly.free():
        named = max(clues.strength(facts.name, Role.UNIT), 0.9 * clues.strength(facts.name, "identifier"))
        sure = (
            0.5 + 0.4 * named + 0.06 * facts.id_like
            if named >= 0.7
            else 0.6
            if facts.id_like and facts.monotone
            else 0.0
        )
        if (
            sure
            and facts.distinct > 2
            and facts.kind in (Kind.INTEGER, Kind.TEXT)
            and (clues.strength(facts.name, Role.UNIT) >= NAMED or facts.distinct > _FEW_LEVELS)
        ):
            scored.append((sure, facts.distinct, facts))
    for sure, _, facts in sorted(scored, key=lambda item: item[:2], reverse=True):
        if "replicat" in facts.name.casefold() or not assembly.complete(facts, Role.UNIT):
            continue
        if facts.distinct >= rows * (1 - _ACCIDENTS) or _is_panel(assembly, facts):
            per = "period" if facts.distinct < rows * (1 - _ACCIDENTS) else "row"
            assembly.assign(Role.UNIT, (facts.name,), min(sure, 0.95), f"'{facts.name}' names one unit per {per}")
            return
        if assembly.open(Role.CLUSTER) and 10 <= facts.distinct < rows:
            why = f"'{facts.name}' repeats without telling periods apart, so its rows belong together"
            assembly.assign(Role.CLUSTER, (facts.name,), min(sure, 0.8), why)
    _assign_unit_by_shape(assembly)


def _is_panel(assembly: "Assembly", facts: ColumnFacts) -> bool:
    time = assembly.roles.get(Role.TIME, ())
    if not time or facts.distinct >= len(assembly.table):
        return False
    return repeats(assembly.table, [facts.name, *time]) <= _ACCIDENTS * len(assembly.table)


def _assign_unit_by_shape(assembly: "Assembly") -> None:
    time, rows = assembly.roles.get(Role.TIME, ()), len(assembly.table)
    if not time or assembly.clues.profile[time[0]].distinct >= rows:
        return
    periods = assembly.clues.profile[time[0]].distinct
    for facts in assembly.free():
        if (
            facts.kind not in (Kind.INTEGER, Kind.TEXT)
            or not 2 < facts.distinct < rows
            or facts.distinct * periods < rows
        ):
            continue
        if facts.distinct > rows / 1.5 or assembly.clues.strength(facts.name, "trait") >= NAMED:
            continue
        if repeats(assembly.table, [facts.name, *time]) == 0:
            why = f"'{facts.name}' and '{time[0]}' together tell every row apart"
            assembly.assign(Role.UNIT, (facts.name,), 0.75, why)
            return


def assign_cluster(assembly: "Assembly") -> None:
    """Take a named group as cluster when treatment is given to whole groups, or when its levels are too many to adjust.

    A group of few levels within which treatment varies stays a covariate: its level may confound.
    """
    if not assembly.open(Role.CLUSTER):
        return
    treatment, rows = assembly.roles.get(Role.TREATMENT, ()), len(assembly.table)
    found = []
    for facts in assembly.free():
        match = assembly.clues.match(facts.name, Role.CLUSTER)
        if match.strength < NAMED or facts.kind not in (Kind.INTEGER, Kind.TEXT) or not 2 < facts.distinct < rows:
            continue
        whole = len(treatment) == 1 and not varies_within(assembly.table, treatment[0], facts.name)
        if match.word in ("cluster", "cluster_id", "クラスター"):
            reason = (0.9, f"'{facts.name}' is named so")
        elif whole:
            reason = (0.85, f"'{treatment[0]}' is the same for all rows of one '{facts.name}'")
        elif facts.distinct > _FEW_LEVELS:
            reason = (0.6, f"'{facts.name}' groups the rows and has {facts.distinct} levels")
        else:
            continue
        if assembly.complete(facts, Role.CLUSTER):
            found.append((reason[0], facts.name, reason[1]))
    if found:
        sure, name, why = max(found, key=lambda item: item[0])
        assembly.assign(Role.CLUSTER, (name,), sure, why)
