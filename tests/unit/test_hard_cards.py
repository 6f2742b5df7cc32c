"""Cards of studies that go wrong: each says plainly what is the matter, in every language; no number is invented."""

import math

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.decisions.card import CardParts, build_card
from cqox_assets.decisions.evidence import gather
from cqox_assets.decisions.files import files_of
from cqox_assets.decisions.rule import decide, override
from cqox_assets.decisions.schema import violations
from cqox_assets.declaration import Declaration, Money, parse_declaration, read_declaration
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import DeclarationError
from cqox_assets.mapping.prepare import prepare
from cqox_assets.result import Effect, EffectEstimate, Interval, Refusal, Sample
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.effect_summary import summarise
from tests.conftest import DATA

WRITTEN = {"verdict": "GO", "reason": "The pilot sites asked for it.", "by": "A. Board"}


def study_of(**declared):
    rows = np.arange(120)
    frame = pd.DataFrame({"y": rows * 1.0, "d": rows % 2, "x": rows % 5}).astype(float)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x",)}
    return Study(frame, roles, arms=("a", "b"), declaration=read_declaration(declared))


def answer(name, estimate, low, high, **facts):
    effect = Effect("ATE", "b - a", estimate, facts.get("se"), Interval(low, high))
    return EffectEstimate(name, "1", (effect,), "stated", Sample(120))


def card_of(study, estimates, sensitivity=None):
    plan = plan_methods(study)
    summary = summarise(plan, estimates, ())
    evidence = gather(study, (), estimates, summary, sensitivity)
    verdict = override(decide(evidence), study.declaration.override)
    card = build_card(
        CardParts(study, (), plan, estimates, sensitivity or {}, summary, verdict,
                  minimum_effect=evidence.minimum_effect,
                  provenance={"partition": "policy|2025-01", "code_version": "0.1.0"})
    )  # fmt: skip
    assert violations(card) == []
    return card


def pages(card):
    """Return both pages; every other file is made too, and none of them may fail."""
    files = files_of(card, lambda file: (_ for _ in ()).throw(FileNotFoundError(file)))
    return {language: files[f"decision_card.{language}.html"].decode() for language in ("en", "ja")}


CLEAR = {"ols": answer("ols", 5.0, 3.0, 7.0), "aipw": answer("aipw", 5.1, 3.1, 7.1)}
REFUSED = {
    "ols": Refusal("ols", "missing_role", "no column plays the role 'outcome'", "map it in study.yaml: roles: {}")
}
CONTRADICTING = {"ols": answer("ols", 5.0, 4.0, 6.0, se=0.5), "aipw": answer("aipw", -5.0, -6.0, -4.0, se=0.5)}
BOUNDLESS = {"iv": answer("iv", 5.0, -math.inf, math.inf)}
MONEY = {"value_per_unit": 2.0, "cost_per_treatment": 4.0, "currency": "EUR"}


@pytest.mark.parametrize(
    ("declared", "estimates", "verdict", "english", "japanese"),
    [
        ({}, {}, "HOLD", "Nothing could be estimated", "推定できた手法はありません"),
        ({}, REFUSED, "HOLD", "no column plays the role", "「アウトカム」の役割をもつ列がありません"),
        ({"money": MONEY}, CONTRADICTING, "HOLD", "disagree strongly", "大きく食い違っています"),
        ({}, BOUNDLESS, "CANARY", "put no bound on the effect", "効果の範囲を限定できません"),
        ({"money": {**MONEY, "cost_per_treatment": 0}}, CLEAR, "GO", "cost of a treatment is 0", "処置の費用が 0"),
        ({"money": {**MONEY, "value_per_unit": 0}}, CLEAR, "GO", "value of one unit of the outcome is 0", "価値が 0"),
        ({}, CLEAR, "GO", "says nothing about money", "金額については述べません"),
        ({"money": {"value_per_unit": 1.0}}, CLEAR, "GO", "cost of a treatment is not declared", "費用が宣言"),
        ({"money": {"cost_per_treatment": 1.0}}, CLEAR, "GO", "value of one unit of the outcome is not", "価値が宣言"),
        ({"money": MONEY}, CLEAR, "GO", "break-even of the declared money: 2 per treated unit", "処置1単位あたり 2"),
    ],
    ids=["no estimate", "all refused", "contradicting", "infinite intervals", "zero cost", "zero value", "no money",
         "no cost", "no value", "money"],
)  # fmt: skip
def test_what_is_wrong_is_said_plainly(declared, estimates, verdict, english, japanese):
    card = card_of(study_of(**declared), estimates)
    assert card["verdict"] == verdict
    said = pages(card)
    assert english in said["en"]
    assert japanese in said["ja"]


def test_an_interval_without_bounds_is_null_and_shown_open():
    card = card_of(study_of(), BOUNDLESS)
    assert card["estimates"][0]["interval"] == {**card["estimates"][0]["interval"], "low": None, "high": None}
    assert card["estimates"][0]["interval"]["unbounded"] == "both"
    assert "∞" in pages(card)["en"]


def test_one_period_is_one_period():
    """A panel of a single period: what needs time says so, and the rest still answers."""
    generator = np.random.default_rng(5)
    frame = pd.DataFrame({"unit": np.arange(300), "month": 1, "d": np.arange(300) % 2, "x": generator.normal(size=300)})
    frame["y"] = 3.0 * frame["d"] + frame["x"] + generator.normal(size=300)
    roles = {"outcome": "y", "treatment": "d", "unit": "unit", "time": "month", "covariates": ["x"]}
    study = prepare(frame, roles)
    answers = cqox.estimate_all(frame, roles, only=["difference_in_differences", "interrupted_time_series", "ols"])
    assert isinstance(answers["difference_in_differences"], Refusal)
    card = card_of(study, answers)
    said = pages(card)["en"]
    assert "period" in next(
        row["reason"] for row in card["refusals"] if row["estimator"] == "difference_in_differences"
    )
    assert "1 estimated, 2 refused, 0 failed" in said


# Overriding


@pytest.mark.parametrize("estimates", [CLEAR, REFUSED, CONTRADICTING, {}], ids=["GO", "refused", "HOLD", "nothing"])
def test_an_override_is_kept_with_its_reason(estimates):
    plain = card_of(study_of(), estimates)
    card = card_of(study_of(override=WRITTEN), estimates)
    assert card["verdict"] == "GO"
    assert card["rule_verdict"] == plain["verdict"]
    assert card["override"] == {**WRITTEN, "rule": plain["verdict"]}
    assert card["study"]["fingerprint"] == plain["study"]["fingerprint"]
    said = pages(card)
    for page in said.values():
        assert WRITTEN["reason"] in page
        assert WRITTEN["by"] in page
    if plain["verdict"] != "GO":
        assert card["reasons"][0]["kind"] == "override"
        assert f"the rule says {plain['verdict']}" in said["en"]
        assert "study.yaml" in card["flips_if"][0]
        assert [item for item in plain["reasons"] if item not in card["reasons"]] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{verdict: GO, reason: '  ', by: Ann}", "needs a written reason"),
        ("{verdict: GO, by: Ann}", "needs a written reason"),
        ("{verdict: GO, reason: because}", "needs the name of who decides"),
        ("{verdict: GO, reason: because, by: ''}", "needs the name of who decides"),
        ("{reason: because, by: Ann}", "GO, CANARY or HOLD"),
        ("{verdict: MAYBE, reason: because, by: Ann}", "'CANARY'"),
    ],
)
def test_an_override_without_a_reason_is_refused_in_one_sentence(text, said):
    with pytest.raises(DeclarationError) as raised:
        parse_declaration(f"override: {text}")
    assert said in raised.value.message
    assert "\n" not in raised.value.message


def test_neither_override_nor_language_changes_a_fingerprint():
    plain, more = study_of(), study_of(override=WRITTEN, language="ja")
    assert plain.fingerprint == more.fingerprint
    assert plain.data_fingerprint == study_of(minimum_effect=3.0).data_fingerprint
    assert plain.fingerprint != study_of(minimum_effect=3.0).fingerprint


# Known studies


def asked(frame, roles, estimators, questions):
    estimates = cqox.estimate_all(frame, roles, only=estimators)
    found = {
        f"{question}: {name}": cqox.sensitivity(question, frame, roles, item)
        for name, item in estimates.items()
        if isinstance(item, EffectEstimate)
        for question in questions
    }
    return estimates, found


def studied(strength, effect, seed, n=1500):
    """A mapped cause x and a hidden one `strength` times as strong; `before` is the outcome before the treatment."""
    generator = np.random.default_rng(seed)
    x, u, first, second = generator.standard_normal((4, n))
    d = (generator.random(n) < 1 / (1 + np.exp(-x - strength * u))) * 1
    before = x + strength * u + first
    return pd.DataFrame({"x": x, "d": d, "before": before, "y": x + strength * u + effect * d + second})


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("mapped", [True, False], ids=["placebo outcome", "no placebo outcome"])
def test_strong_hidden_confounding_is_not_go(seed, mapped):
    """No effect at all, but an interval far from zero: only what the treatment cannot have touched shows it."""
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x"]} | ({"pre_outcome": "before"} if mapped else {})
    cards = {}
    for name, strength, effect in (("hidden", 2.0, 0.0), ("none", 0.0, 2.0)):
        frame = studied(strength, effect, seed)
        estimates, found = asked(frame, roles, ["ols", "aipw", "ipw"], ["e_value", "partial_r2", "placebo_outcome"])
        study = prepare(frame, roles, declaration=Declaration(direction="higher_is_better"))
        cards[name] = card_of(study, estimates, {key: item for key, item in found.items()})
        assert all(row["interval"]["low"] > 0.5 for row in cards[name]["estimates"])
    assert cards["hidden"]["verdict"] != "GO"
    reasons = [item["sentence"] for item in cards["hidden"]["reasons"] if item["allows"] != "GO"]
    assert any("before the treatment" in sentence for sentence in reasons), reasons
    assert cards["none"]["verdict"] == ("GO" if mapped else "CANARY")  # so it is the confounding that holds it back


def test_a_trial_or_known_probabilities_need_no_placebo_outcome():
    frame = studied(0.0, 2.0, 3).assign(p=0.5)
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x"]}
    for more, declared in (({}, {"design": "trial"}), ({"propensity": "p"}, {})):
        estimates = cqox.estimate_all(frame, roles | more, only=["ols", "regression_adjustment"])
        assert (
            card_of(prepare(frame, roles | more, declaration=read_declaration(declared)), estimates)["verdict"] == "GO"
        )


LALONDE = {"outcome": "re78", "treatment": "treat"}


def lalonde(domain):
    path = next((DATA / domain / "2025-01").glob("*.csv"))
    return pd.read_csv(path)


def test_the_naive_comparison_of_psid_is_hold_with_the_reason_and_that_of_nsw_is_not():
    declared = {"direction": "higher_is_better", "minimum_effect": 500.0}
    cards = {}
    for domain, design in (("policy_psid", "observational"), ("policy", "trial")):
        frame = lalonde(domain)
        estimates = cqox.estimate_all(frame, LALONDE, only=["difference_in_means"])
        study = prepare(frame, LALONDE, declaration=read_declaration({**declared, "design": design}))
        cards[domain] = card_of(study, estimates)
    naive = cards["policy_psid"]["estimates"][0]
    assert naive["estimate"] == pytest.approx(-15204.78, abs=1)
    assert cards["policy_psid"]["verdict"] == "HOLD"
    said = pages(cards["policy_psid"])["en"]
    assert "right only under random assignment" in said
    assert "Nothing could be estimated" in said
    assert cards["policy"]["verdict"] in ("GO", "CANARY")
    assert cards["policy"]["estimates"][0]["estimate"] == pytest.approx(1794.34, abs=0.01)


def test_money_that_is_declared_is_on_the_card():
    card = card_of(study_of(money=Money(**MONEY).model_dump()), CLEAR)
    assert card["basis"]["minimum_effect"] == 2.0
    assert card["declaration"]["money"]["currency"] == "EUR"
