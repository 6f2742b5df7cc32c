"""Whom the averages of a study of several arms are about: the units of two arms, or those of all arms."""

from collections.abc import Mapping

from cqox_assets.catalog import load_estimators
from cqox_assets.result import Effect, Estimand

TWO_ARMS, ALL_ARMS = "the units of these two arms", "the units of all arms"
_OWN_UNITS = frozenset({Estimand.ATT, Estimand.ATC})  # of one arm, whichever arms are fitted together


def populations_of(members: Mapping[str, Effect]) -> dict[str, str]:
    """Return the population of each estimator's effect; empty where it does not depend on which arms are fitted.

    Entries that take arms two by two average over the units of these two; those that take all arms at once
    (`joint_arms`) average over everybody. Where effects vary between units, these are different quantities.
    """
    catalogue, found = load_estimators(), {}
    for name, effect in members.items():
        if "arm" in effect.at and name in catalogue and effect.estimand not in _OWN_UNITS:
            found[name] = ALL_ARMS if catalogue[name].joint_arms else TWO_ARMS
    return found


def other_populations(populations: Mapping[str, str], counted: Mapping[str, Effect]) -> tuple[str, dict[str, str]]:
    """Return the population that most of the counted estimators are about, and why the others do not count.

    Nothing is averaged over two populations; with as many on either side, the one of all arms stays.
    """
    by = {word: [name for name in counted if populations.get(name) == word] for word in (ALL_ARMS, TWO_ARMS)}
    kept = max(by, key=lambda word: len(by[word]))
    if not by[kept]:
        return "", {}
    return kept, {
        name: f"it averages over {word}, the others over {kept}" for word in by if word != kept for name in by[word]
    }
