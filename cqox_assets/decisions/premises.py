"""What a decision presupposes and nobody declared: said plainly, in every language."""

import re
from collections.abc import Sequence

from cqox_assets.decisions.language import Said, say, term
from cqox_assets.declaration import Declaration, Money
from cqox_assets.synthesis.effect_summary import EffectGroup, EffectSummary
from cqox_assets.wording import short

_MOVED = re.compile(r"No estimator answered for the (\S+); the decision rests on the \S+ instead\.")


def minimum_effect(declared: Declaration) -> tuple[float, tuple[str, ...]]:
    """Return how large the effect must be to pay, and what was assumed when nobody said so."""
    money = declared.money
    if declared.minimum_effect is not None:
        return abs(declared.minimum_effect), _money_notice(money)
    if money.cost_per_treatment and money.value_per_unit:
        pays = money.cost_per_treatment / abs(money.value_per_unit)
        return pays, (say("break_even", pays=short(pays)),)
    return 0.0, (*_money_notice(money), say("no_minimum"))


def _money_notice(money: Money) -> tuple[str, ...]:
    """Say which settings of money are missing or zero, and what that means for the effect that pays."""
    value, cost = money.value_per_unit, money.cost_per_treatment
    if value and cost:
        return ()
    if value is None:
        return (say("no_money" if cost is None else "no_value"),)
    if value == 0:
        return (say("zero_value"),)
    return (say("zero_cost" if cost == 0 else "no_cost"),)


def direction_notice(declared: Declaration) -> tuple[str, ...]:
    """Say which direction is taken to be better when nobody declared one."""
    return () if declared.direction is not None else (say("no_direction"),)


def estimand_notice(summary: EffectSummary) -> tuple[str, ...]:
    """Return the summary's notices; the one that says another estimand decides knows itself in every language."""
    found = term("estimand", summary.preferred)
    return tuple(
        say("other_estimand", wanted=term("estimand", moved[1]), found=found)
        if (moved := _MOVED.match(notice))
        else notice
        for notice in summary.notices
    )


def open_ends(targets: Sequence[EffectGroup]) -> tuple[str, ...]:
    """Say where an answer has an interval that is open on both sides."""
    return tuple(
        say("no_bound", contrast=group.contrast)
        for group in targets
        if group.low is None and group.high is None and group.std_error is None
    )


def counts(summary: EffectSummary, *, why: bool) -> Said:
    """Say how many estimators answered and, if asked, why each of the others did not."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in summary.refused.items()) if why else ""
    return say(
        "counts",
        estimated=len(summary.estimated),
        refused=len(summary.refused),
        failed=len(summary.failed),
        why=say("counts_why", why=reasons) if reasons else "",
    )
