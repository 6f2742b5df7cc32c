"""Money in the decision: net benefits judged, shown on the card, and silent where prices are not declared."""

import math
from dataclasses import replace

import pytest

from cqox_assets.decisions.evidence import Evidence, Gate, Target
from cqox_assets.decisions.rule import decide
from cqox_assets.decisions.worth import NetBenefit, benefits_of, findings_of, money_reasons
from cqox_assets.synthesis.findings import Findings, not_computed

GOOD = NetBenefit("b - a", 1000.0, 400.0, 1600.0, 0.4, 50.0, "benefit", -200.0, "EUR")

NOBODY = {"coverage": 0.0, "treated": 0.0, "value": 0.0, "low": 0.0, "high": 0.0}


def evidence(*benefits):
    target = Target("b - a", "ATE", 5.0, 3.0, 7.0, std_error=1.0, estimators=6, agreement="close")
    gates = (Gate("overlap", "pass", 0.95, 0.8), Gate("adjusted_smd", "pass", 0.02, 0.1, source="ipw"))
    return Evidence((target,), gates=gates, design="trial", net_benefits=benefits)


@pytest.mark.parametrize(
    ("changes", "allowed", "words"),
    [
        ({}, "GO", ("the 40% who", "€1,000.00", "€400.00 to €1,600.00", "everybody would bring -€200.00")),
        ({"coverage": 1.0}, "GO", ("treating everybody brings",)),
        ({"low": -50.0}, "CANARY", ("may not pay",)),
        ({"value": -800.0, "low": -1500.0, "high": -100.0}, "HOLD", ("costs more than it brings",)),
        (NOBODY, "HOLD", ("nobody is predicted",)),
        ({**NOBODY, "stopped_by": "budget"}, "HOLD", ("the budget pays",)),
        ({"low": -math.inf, "high": math.inf}, "CANARY", ("-∞ to ∞",)),
    ],
)  # fmt: skip
def test_net_benefits_allow_what_their_interval_says(changes, allowed, words):
    item = replace(GOOD, **changes)
    reason = money_reasons([item])[0]
    assert (reason.kind, reason.allows) == ("money", allowed)
    for word in words:
        assert word in reason.sentence
    assert reason.flips_if
    assert decide(evidence(item)).verdict == allowed


def test_what_flips_it_is_the_price_at_which_the_limit_is_zero():
    assert money_reasons([GOOD])[0].flips_if == "a treatment costs €8.00 more than stated"  # 400 over 50 treated
    assert "€1.00 less" in money_reasons([replace(GOOD, low=-50.0)])[0].flips_if


def test_several_contrasts_widen_the_interval():
    other = replace(GOOD, contrast="c - a")
    close = replace(GOOD, low=20.0, high=1980.0)
    assert money_reasons([close])[0].allows == "GO"
    assert money_reasons([close, other], "b - a")[0].allows == "CANARY"
    assert len(money_reasons([close, other], "b - a")) == 1


def test_without_money_the_verdict_is_the_one_of_the_effect():
    assert decide(evidence()).verdict == "GO"
    assert not [reason for reason in decide(evidence()).reasons if reason.kind == "money"]


ROW = {
    "contrast": "b - a", "net_benefit": 10.0, "low": 1.0, "high": 19.0, "coverage": 0.5, "treated": 5.0,
    "stopped_by": "benefit", "everybody": 4.0,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["net", "gross", "outcome"])
def test_only_money_less_costs_is_evidence(kind):
    content = {"kind": kind, "currency": "EUR", "contrasts": [ROW]}
    found = {"policy_value": Findings("policy_value", "computed", content=content)}
    assert len(benefits_of(found)) == (kind == "net")
    assert findings_of(found)["policy"] == content


def test_what_was_not_computed_is_absent_with_its_reason():
    found = {"policy_value": not_computed("policy_value", "no arms", "map arms", "f")}
    assert benefits_of(found) == ()
    assert findings_of(found) == {"absent": {"policy": "no arms"}}
    assert findings_of({}) == {"absent": {}}
