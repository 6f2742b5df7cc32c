"""What money says about a decision: reasons from the net benefit of treating everybody and of treating some."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cqox_assets.decisions.verdict import CANARY, GO, HOLD, Reason
from cqox_assets.synthesis._helpers import normal_quantile
from cqox_assets.wording import money

# Where another design than adjustment identifies the effect, scores that adjust say nothing about it.
_ADJUSTING = ("trial", "observational")


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit of one contrast in money: of treating everybody, and of treating the share that is best."""

    contrast: str
    estimate: float
    low: float
    high: float
    coverage: float
    best_low: float
    best: float
    currency: str = ""


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
    return tuple(
        NetBenefit(
            row["contrast"], row["treat_all"]["net_benefit"], row["treat_all"]["low"], row["treat_all"]["high"],
            row["optimal"]["coverage"], row["optimal"]["low"], row["optimal"]["net_benefit"], currency,
        )
        for row in findings["contrasts"]
    )  # fmt: skip


def net_benefit_reasons(found: tuple[NetBenefit, ...], contrast: str | None = None) -> list[Reason]:
    """Judge money, of one contrast if it is named: never better news than the target, only worse.

    Treating everybody allows GO where its whole interval is above 0, CANARY where it covers 0, HOLD where it is below.
    What would pay instead, treating some, is what flips it. With several contrasts the intervals are those that keep
    the chance of any false GO at that of one (Bonferroni), as for the target.
    """
    wider = normal_quantile(1 - 0.05 / max(len(found), 1)) / normal_quantile(0.95)
    return [_reason(_widened(item, wider)) for item in found if contrast in (None, item.contrast)]


def _widened(item: NetBenefit, by: float) -> NetBenefit:
    """Return the net benefit with both ends so many times as far from the estimate."""
    low, high = (item.estimate + by * (end - item.estimate) for end in (item.low, item.high))
    return replace(item, low=low, high=high)


def _reason(item: NetBenefit) -> Reason:
    amounts = [money(value, item.currency) for value in (item.estimate, item.low, item.high)]
    head = (
        f"Treating everybody ({item.contrast}) has a net benefit of {amounts[0]}, interval {amounts[1]} to {amounts[2]}"
    )
    some = (
        f"treating only the {item.coverage:.0%} with the highest predicted gain "
        f"(net benefit {money(item.best, item.currency)}, at least {money(item.best_low, item.currency)})"
        if item.best_low > 0 and item.coverage < 1
        else "a lower cost per treatment, or a larger effect"
    )
    if item.high < 0:
        return Reason("money", HOLD, f"{head}: it does not pay.", some)
    if not item.low > 0:
        return Reason("money", CANARY, f"{head}: whether it pays is open.", some)
    return Reason(
        "money", GO, f"{head}: it pays.", "costs rise, or the value of an outcome falls, until the interval covers 0"
    )
