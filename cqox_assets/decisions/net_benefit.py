"""What money says about a decision: reasons from the net benefit of treating everybody and of treating some."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cqox_assets.decisions.language import say
from cqox_assets.decisions.verdict import CANARY, GO, HOLD, Reason
from cqox_assets.synthesis._helpers import normal_quantile
from cqox_assets.wording import money, share

# Where another design than adjustment identifies the effect, scores that adjust say nothing about it.
_ADJUSTING = ("trial", "observational")


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit of one contrast in money: of treating everybody, and of treating the share that is best.

    `affordable` is the share that the budget covers; below 1 nobody can treat everybody, so the best share is judged.
    """

    contrast: str
    estimate: float
    low: float
    high: float
    coverage: float
    best_low: float
    best: float
    currency: str = ""
    best_high: float = 0.0
    budget: float | None = None
    affordable: float = 1.0


def net_benefits(findings: Mapping[str, Any] | None, design: str | None) -> tuple[NetBenefit, ...]:
    """Return the net benefits that a policy's findings hold; none unless value and cost are stated.

    Parameters
    ----------
    findings : mapping, optional
        Content of `synthesis/policy_value`.
    design : str, optional
        As declared: scores that adjust for covariates say nothing where an instrument, a cutoff or time identifies.
    """
    if findings is None or findings.get("measure") != "net_benefit" or (design or "observational") not in _ADJUSTING:
        return ()
    currency = findings["settings"].get("currency") or ""
    found = []
    for row in findings["contrasts"]:
        everybody, best, budget = row["treat_all"], row["optimal"], row.get("budget") or {}
        found.append(
            NetBenefit(
                row["contrast"], everybody["net_benefit"], everybody["low"], everybody["high"], best["coverage"],
                best["low"], best["net_benefit"], currency, best["high"], budget.get("amount"),
                budget.get("affordable_coverage", 1.0),
            )
        )  # fmt: skip
    return tuple(found)


def net_benefit_reasons(found: tuple[NetBenefit, ...], contrast: str | None = None) -> list[Reason]:
    """Judge money, of one contrast if it is named: never better news than the target, only worse.

    Treating everybody, or the best share where a budget does not cover everybody, allows GO where its whole interval
    is above 0, CANARY where it covers 0, HOLD where it is below. What would pay instead, treating some, is what flips
    it. With several contrasts the intervals are those that keep the chance of any false GO at that of one
    (Bonferroni), as for the target.
    """
    wider = normal_quantile(1 - 0.05 / max(len(found), 1)) / normal_quantile(0.95)
    return [_reason(_widened(item, wider)) for item in found if contrast in (None, item.contrast)]


def _widened(item: NetBenefit, by: float) -> NetBenefit:
    """Return the net benefit with all ends so many times as far from their estimates."""
    low, high = (item.estimate + by * (end - item.estimate) for end in (item.low, item.high))
    if item.affordable == 1:  # the best share is then no more than what would pay instead
        return replace(item, low=low, high=high)
    best_low, best_high = (item.best + by * (end - item.best) for end in (item.best_low, item.best_high))
    return replace(item, low=low, high=high, best_low=best_low, best_high=best_high)


def _reason(item: NetBenefit) -> Reason:
    if item.affordable < 1:
        return _within_budget(item)
    head = say("money_all", contrast=item.contrast, **_amounts(item, item.estimate, item.low, item.high))
    some = (
        say(
            "money_some",
            share=share(item.coverage),
            amount=money(item.best, item.currency),
            low=money(item.best_low, item.currency),
        )
        if item.best_low > 0 and item.coverage < 1
        else say("money_cheaper")
    )
    if item.high < 0:
        return Reason("money", HOLD, say("money_lost", head=head), some)
    if not item.low > 0:
        return Reason("money", CANARY, say("money_open", head=head), some)
    return Reason("money", GO, say("money_pays", head=head), say("money_pays_flips"))


def _within_budget(item: NetBenefit) -> Reason:
    """Judge what the budget can pay for; what treating everybody would bring is nobody's choice."""
    budget = money(item.budget or 0.0, item.currency)
    facts = {"contrast": item.contrast, "budget": budget}
    if item.affordable == 0:
        return Reason("money", HOLD, say("money_unpaid", **facts), say("money_unpaid_flips"))
    if item.coverage == 0:
        return Reason("money", HOLD, say("money_none", contrast=item.contrast), say("money_cheaper"))
    ends = _amounts(item, item.best, item.best_low, item.best_high)
    head = say("money_budget", share=share(item.coverage), **facts, **ends)
    if item.best_high < 0:
        return Reason("money", HOLD, say("money_lost", head=head), say("money_cheaper"))
    if not item.best_low > 0:
        return Reason("money", CANARY, say("money_open", head=head), say("money_cheaper"))
    return Reason("money", GO, say("money_pays", head=head), say("money_pays_flips"))


def _amounts(item: NetBenefit, *values: float) -> dict[str, str]:
    return dict(zip(("amount", "low", "high"), (money(value, item.currency) for value in values), strict=True))
