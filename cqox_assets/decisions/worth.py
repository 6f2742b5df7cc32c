"""Money as evidence: whether the recommended policy brings more than it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cqox_assets.decisions.verdict import CANARY, GO, HOLD, Reason
from cqox_assets.synthesis._helpers import normal_quantile
from cqox_assets.synthesis.findings import Findings
from cqox_assets.synthesis.money import amount

_CARD = {"counterfactual": "counterfactual_systems", "policy": "policy_value"}


@dataclass(frozen=True)
class NetBenefit:
    """What the recommended policy of one contrast brings, in money, and treating everybody for comparison.

    `coverage` is the share treated, `treated` their number; `low` and `high` are ends of a 95% interval.
    """

    contrast: str
    value: float
    low: float
    high: float
    coverage: float
    treated: float
    stopped_by: str
    everybody: float
    currency: str = ""


def benefits_of(findings: Mapping[str, Findings]) -> tuple[NetBenefit, ...]:
    """Return the net benefit of each contrast; nothing where value or costs are not known."""
    found = findings.get("policy_value")
    if found is None or not found.computed or found.content["kind"] != "net":
        return ()
    names = ("contrast", "low", "high", "coverage", "treated", "stopped_by", "everybody")
    return tuple(
        NetBenefit(
            value=row["net_benefit"], currency=found.content["currency"] or "", **{name: row[name] for name in names}
        )
        for row in found.content["contrasts"]
    )


def findings_of(findings: Mapping[str, Findings]) -> dict[str, Any]:
    """Return what a card shows of counterfactual systems and policies, and why one of them is absent."""
    found = {key: findings[name] for key, name in _CARD.items() if name in findings}
    shown = {key: item.content for key, item in found.items() if item.computed}
    return {**shown, "absent": {key: item.reason for key, item in found.items() if not item.computed}}


def money_reasons(benefits: Sequence[NetBenefit], contrast: str | None = None) -> list[Reason]:
    """Judge net benefits: those of one contrast, or all; none where money is not declared.

    Notes
    -----
    GO needs the whole interval above 0, at a level that keeps the chance of any false GO at that of one contrast;
    CANARY an interval that covers 0; HOLD where nobody should be treated or the interval lies below 0.
    """
    return [_reason(item, len(benefits)) for item in benefits if contrast in (None, item.contrast)]


def _reason(item: NetBenefit, contrasts: int) -> Reason:
    wider = normal_quantile(1 - 0.05 / max(contrasts, 1)) / normal_quantile(0.95)
    low, high = item.value - wider * (item.value - item.low), item.value + wider * (item.high - item.value)
    if item.coverage <= 0:
        if item.stopped_by == "budget":
            return Reason(
                "money", HOLD, f"{item.contrast}: the budget pays for nobody.", "the budget pays for treatments"
            )
        said = f"{item.contrast}: nobody is predicted to bring more than they cost."
        return Reason("money", HOLD, said, "a treatment costs less, or a unit of the outcome is worth more")
    who = "everybody" if item.coverage >= 1 - 1e-9 else f"the {item.coverage:.0%} who are predicted to gain most"
    said = f"{item.contrast}: treating {who} brings a net benefit of {_money(item.value, item)}, interval " + (
        f"{_money(low, item)} to {_money(high, item)}"
    )
    if item.coverage < 1 - 1e-9:
        said += f"; treating everybody would bring {_money(item.everybody, item)}"
    if high < 0:
        return Reason("money", HOLD, f"{said}. It costs more than it brings.", _cheaper(-high, item))
    if low <= 0:
        return Reason("money", CANARY, f"{said}. It may not pay for itself.", _cheaper(-low, item))
    flips = f"a treatment costs {_money(low / item.treated, item)} more than stated"
    return Reason("money", GO, f"{said}. It pays for itself.", flips)


def _cheaper(loss: float, item: NetBenefit) -> str:
    return f"a treatment costs more than {_money(loss / item.treated, item)} less, or more rows narrow the interval"


def _money(value: float, item: NetBenefit) -> str:
    return amount(value, item.currency)
