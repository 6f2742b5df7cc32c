"""The rule: examples of each verdict, and what must never happen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqox_assets.decisions.evidence import Evidence, Gate, Question, Target, gather
from cqox_assets.decisions.net_benefit import NetBenefit
from cqox_assets.decisions.rule import decide
from cqox_assets.decisions.verdict import SEVERITY, Verdict
from cqox_assets.declaration import Declaration, Guardrail, Money
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.result import Assumption, Effect, EffectEstimate, Interval, Refusal, Sample, SensitivityResult
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.effect_summary import summarise
from cqox_assets.synthesis.guardrails import GuardrailEffect


def target(estimate=5.0, se=1.0, contrast="b - a", **facts):
    ends = {"low": estimate - 1.96 * se, "high": estimate + 1.96 * se}
    return Target(
        contrast, "ATE", estimate, **{**ends, "std_error": se, "estimators": 6, "agreement": "close", **facts}
    )


def evidence(*targets, **facts):
    gates = (Gate("overlap", "pass", 0.95, 0.8), Gate("adjusted_smd", "pass", 0.02, 0.1, source="ipw"))
    return Evidence(targets or (target(),), **{"gates": gates, **facts})


def with_gates(base, *gates):
    return replace(base, gates=(*base.gates, *gates))


def test_a_clear_effect_with_good_diagnostics_is_go():
    verdict = decide(evidence())
    assert verdict.verdict == "GO"
    assert verdict.confidence_level == "high"
    assert "3.04" in verdict.flips_if[0]


@pytest.mark.parametrize(
    ("changes", "expected", "kind"),
    [
        ({"targets": (target(1.0),)}, "CANARY", "target"),
        ({"minimum_effect": 4.0}, "CANARY", "target"),
        ({"minimum_effect": 6.0}, "HOLD", "target"),
        ({"targets": (target(-1.0),)}, "HOLD", "target"),
        ({"targets": (target(-5.0),)}, "HOLD", "deterioration"),
        ({"direction": "lower_is_better"}, "HOLD", "deterioration"),
        ({"targets": (target(-5.0),), "direction": "lower_is_better"}, "GO", "target"),
        ({"targets": (replace(target(), low=None, high=None),)}, "CANARY", "target"),
        ({"targets": (target(agreement="strong_disagreement"),)}, "HOLD", "quality"),
        ({"targets": (target(same_sign=0.6),)}, "CANARY", "quality"),
        ({"targets": ()}, "HOLD", "target"),
        ({"gates": (Gate("overlap", "fail", 0.3, 0.8),)}, "HOLD", "quality"),
        ({"gates": (Gate("overlap", "warn", 0.7, 0.8),)}, "CANARY", "quality"),
        ({"gates": (Gate("overlap", "not_run"),)}, "CANARY", "quality"),
        ({"gates": (Gate("raw_smd", "fail", 0.9, informs=True),)}, "GO", "target"),
        ({"critique": "reject"}, "HOLD", "quality"),
        ({"failures": ("ols",)}, "CANARY", "quality"),
        ({"questions": (Question("e_value", "warn", 1.1, "weak"),)}, "CANARY", "sensitivity"),
        ({"questions": (Question("e_value", "warn", 1.1, "weak", informs=True),)}, "GO", "target"),
        ({"guardrails": (GuardrailEffect("churn", 0.1, "lower_is_better"),)}, "CANARY", "guardrail"),
        ({"guardrails": (GuardrailEffect("churn", 0.1, "lower_is_better", 0.2, 0.1, 0.3),)}, "HOLD", "guardrail"),
        ({"guardrails": (GuardrailEffect("churn", 0.1, "lower_is_better", 0.05, -0.1, 0.2),)}, "CANARY", "guardrail"),
        ({"guardrails": (GuardrailEffect("churn", 0.1, "lower_is_better", -0.1, -0.2, 0.0),)}, "GO", "target"),
        ({"guardrails": (GuardrailEffect("sales", 0.1, "higher_is_better", -0.3, -0.4, -0.2),)}, "HOLD", "guardrail"),
    ],
)
def test_each_kind_of_evidence_decides(changes, expected, kind):
    verdict = decide(replace(evidence(), **changes))
    assert verdict.verdict == expected
    assert kind in {reason.kind for reason in verdict.reasons if reason.allows == expected}
    assert all(reason.flips_if for reason in verdict.reasons if reason.allows != "GO")


def test_one_failing_estimator_among_many_warns_and_a_majority_holds():
    base = evidence(gates=tuple(Gate("weight_range", "pass", 5.0, 20.0, source=name) for name in "abc"))
    one = with_gates(base, Gate("weight_range", "fail", 300.0, 20.0, source="d"))
    most = with_gates(one, *(Gate("weight_range", "fail", 300.0, 20.0, source=name) for name in "ef"))
    assert [decide(item).verdict for item in (base, one, most)] == ["GO", "CANARY", "HOLD"]


def test_the_best_of_several_arms_pays_for_being_chosen():
    close = target(2.2, 1.0)
    assert decide(evidence(close)).verdict == "GO"
    several = decide(evidence(close, *(target(0.5, 1.0, f"{arm} - a") for arm in "cdef")))
    assert several.verdict == "CANARY"
    mixed = decide(evidence(target(9.0), target(-9.0, contrast="c - a")))
    assert mixed.verdict == "GO"
    assert mixed.by_contrast == {"b - a": "GO", "c - a": "HOLD"}
    assert "b - a" in mixed.recommendation


def test_competing_arms_never_narrow_an_interval():
    few_clusters = target(2.5, low=2.5 - 2.57, high=2.5 + 2.57)
    both = decide(evidence(few_clusters, replace(few_clusters, contrast="c - a", std_error=None)))
    assert [reason.allows for reason in both.reasons if reason.kind == "target"] == ["CANARY", "CANARY"]


def test_a_stored_verdict_reads_back_equal():
    verdict = decide(evidence(target(1.0), gates=(Gate("overlap", "fail", 0.3, 0.8),)))
    assert Verdict.from_json(verdict.to_json()) == verdict


GATES = st.builds(
    Gate,
    name=st.sampled_from(["overlap", "adjusted_smd", "weight_range", "vif", "raw_smd"]),
    status=st.sampled_from(["pass", "warn", "fail", "not_run"]),
    value=st.one_of(st.none(), st.floats(-10, 10)),
    threshold=st.one_of(st.none(), st.floats(0, 1)),
    source=st.sampled_from(["", "ipw", "aipw", "ols"]),
    informs=st.booleans(),
)
TARGETS = st.builds(
    target, st.floats(-10, 10), st.floats(0.01, 10), st.sampled_from(["b - a", "c - a"]),
    agreement=st.sampled_from(["close", "moderate", "single", "strong_disagreement"]), same_sign=st.floats(0, 1),
)  # fmt: skip
QUESTIONS = st.builds(
    Question, st.just("e_value"), st.sampled_from(["pass", "warn", "fail", "not_run"]), st.floats(1, 9), st.just("so")
)
EVIDENCE = st.builds(
    Evidence,
    targets=st.lists(TARGETS, max_size=2, unique_by=lambda item: item.contrast).map(tuple),
    gates=st.lists(GATES, max_size=6).map(tuple),
    questions=st.lists(QUESTIONS, max_size=3).map(tuple),
    direction=st.sampled_from(["higher_is_better", "lower_is_better"]),
    minimum_effect=st.floats(0, 5),
)


@settings(max_examples=300, deadline=None)
@given(EVIDENCE, GATES)
def test_a_failing_gate_never_improves_the_verdict(found, gate):
    before = decide(found)
    after = decide(with_gates(found, replace(gate, status="fail")))
    assert SEVERITY[after.verdict] >= SEVERITY[before.verdict]


@settings(max_examples=200, deadline=None)
@given(EVIDENCE, st.integers(0, 5), st.sampled_from(["warn", "not_run", "fail"]))
def test_a_gate_that_gets_worse_never_improves_the_verdict(found, place, status):
    if place >= len(found.gates) or found.gates[place].status != "pass":
        return
    gates = list(found.gates)
    gates[place] = replace(gates[place], status=status)
    assert SEVERITY[decide(replace(found, gates=tuple(gates))).verdict] >= SEVERITY[decide(found).verdict]


@settings(max_examples=200, deadline=None)
@given(EVIDENCE, st.floats(0, 5))
def test_asking_for_more_never_improves_the_verdict(found, more):
    asked = replace(found, minimum_effect=found.minimum_effect + more)
    assert SEVERITY[decide(asked).verdict] >= SEVERITY[decide(found).verdict]


@settings(max_examples=200, deadline=None)
@given(EVIDENCE)
def test_every_verdict_explains_itself(found):
    verdict = decide(found)
    assert verdict.reasons
    assert verdict.recommendation
    assert verdict.verdict == "GO" or any(reason.allows == verdict.verdict for reason in verdict.reasons)


# Gathering


def study_of(**declared):
    rows = np.arange(100)
    frame = pd.DataFrame({"y": rows * 1.0, "d": rows % 2, "x": rows % 5}).astype(float)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x",)}
    return Study(frame, roles, arms=("a", "b"), declaration=Declaration(**declared))


def answer(name, estimate, *diagnostics, estimand="ATE", assumptions=()):
    effect = Effect(estimand, "b - a", estimate, 1.0, Interval(estimate - 1.96, estimate + 1.96))
    return EffectEstimate(name, "1", (effect,), "stated", Sample(100), diagnostics, assumptions)


def gathered(study, estimates, gates=(), sensitivity=None, **facts):
    summary = summarise(plan_methods(study), estimates, gates)
    return gather(study, gates, estimates, summary, sensitivity, **facts)


def test_gates_of_other_estimands_do_not_weigh():
    bad = Diagnostic("matched_share", 0.1, 0.8, Status.FAIL, "few")
    found = gathered(study_of(), {"aipw": answer("aipw", 5.0), "match": answer("match", 5.0, bad, estimand="ATT")})
    assert found.gates == ()
    assert decide(found).verdict == "GO"


def test_reported_gates_are_not_counted_twice():
    warns = Diagnostic("overlap", 0.85, 0.9, Status.WARN, "share")
    row = {
        "name": "ipw: overlap",
        "measure": "overlap",
        "estimator": "ipw",
        "value": 0.85,
        "threshold": 0.9,
        "status": "warn",
    }
    shared = {**row, "name": "nuisance: overlap", "estimator": "nuisance", "status": "pass"}
    question = {**row, "name": "sensitivity: e_value", "measure": "e_value"}
    found = gathered(study_of(), {"ipw": answer("ipw", 5.0, warns)}, [row, shared, question])
    assert [(gate.source, gate.status) for gate in found.gates] == [("ipw", "warn"), ("", "pass")]


def test_a_trial_is_not_held_by_raw_imbalance_or_hidden_confounding():
    random = Assumption("random_assignment", "Treatment was assigned at random.", True, ("raw_smd",))
    raw = Diagnostic("raw_smd", 0.9, None, Status.FAIL, "largest")
    weak = SensitivityResult("e_value", "naive", "ATE", 1.0, "ratio", Status.WARN, "weak", "measure")
    estimates = {"naive": answer("naive", 5.0, raw, assumptions=(random,))}
    trial = gathered(study_of(design="trial"), estimates, (), {"e_value: naive": weak})
    assert decide(trial).verdict == "GO"
    observed = gathered(study_of(), estimates, (), {"e_value: naive": weak})
    assert decide(observed).verdict == "HOLD"


def test_money_sets_the_effect_that_pays():
    found = gathered(study_of(money=Money(value_per_unit=2.0, cost_per_treatment=30.0)), {"aipw": answer("aipw", 5.0)})
    assert found.minimum_effect == 15.0
    assert decide(found).verdict == "HOLD"
    assert any("break-even" in notice for notice in found.notices)


def test_what_nobody_declared_is_said():
    found = gathered(study_of(), {"aipw": answer("aipw", 5.0)})
    said = " ".join(found.notices)
    assert len(found.notices) == 3
    assert all(word in said for word in ("money", "minimum_effect", "direction"))


def test_declared_guardrails_without_a_measurement_are_missed():
    study = study_of(guardrails={"churn": Guardrail(margin=0.1)})
    assert decide(gathered(study, {"aipw": answer("aipw", 5.0)})).verdict == "CANARY"
    safe = GuardrailEffect("churn", 0.1, "higher_is_better", 0.0, -0.05, 0.05)
    assert decide(gathered(study, {"aipw": answer("aipw", 5.0)}, guardrails=[safe])).verdict == "GO"


def test_a_study_that_nothing_fits_is_held_with_the_reason():
    refusal = Refusal("aipw", "one_arm_only", "every row has the same treatment", "map another column")
    verdict = decide(gathered(study_of(), {"aipw": refusal}))
    assert verdict.verdict == "HOLD"
    assert "every row has the same treatment" in verdict.reasons[0].sentence


def test_each_arm_answers_for_its_own_sensitivity():
    weak = Question("e_value", "warn", 1.0, "weak", contrast="b - a")
    strong = Question("e_value", "pass", 2.0, "strong", contrast="c - a")
    both = evidence(target(0.1), target(5.0, contrast="c - a"), questions=(weak, strong))
    assert decide(both).by_contrast == {"b - a": "CANARY", "c - a": "GO"}
    swapped = replace(both, questions=(replace(weak, contrast="c - a"), replace(strong, contrast="b - a")))
    assert decide(swapped).verdict == "CANARY"


def test_the_evidence_holds_one_question_per_contrast():
    rows = pd.DataFrame(
        {"contrast": ["b - a", "c - a"], "status": ["warn", "pass"], "value": [1.0, 2.0]}
    ).assign(meaning="said", advice="so")  # fmt: skip
    asked = SensitivityResult("e_value", "ols", "ATE", 1.0, "risk ratio", Status.WARN, "said", "so", rows)
    found = gathered(study_of(), {"ols": answer("ols", 1.0)}, sensitivity={"e_value: ols": asked})
    assert [(item.contrast, item.status) for item in found.questions] == [("b - a", "warn"), ("c - a", "pass")]


def test_overlap_of_the_nuisance_models_weighs_only_where_the_answer_rests_on_it():
    row = {"name": "nuisance: overlap", "measure": "overlap", "stage": "nuisance", "status": "fail", "value": 0.0,
           "threshold": 0.8}  # fmt: skip
    cutoff = gathered(study_of(design="cutoff"), {"rd": answer("rd", 5.0, estimand="LATE")}, [row])
    weighted = gathered(
        study_of(),
        {"ipw": answer("ipw", 5.0, assumptions=(Assumption("positivity", "both arms are possible"),))},
        [row],
    )
    assert [gate.informs for gate in cutoff.gates] == [True]
    assert [gate.informs for gate in weighted.gates] == [False]
    assert decide(weighted).verdict == "HOLD"


def test_an_answer_that_no_question_speaks_about_is_not_go():
    found = decide(evidence(unasked=True))
    assert found.verdict == "CANARY"
    assert any("No sensitivity question" in reason.sentence for reason in found.reasons)


def test_the_evidence_knows_whether_a_question_was_answered():
    estimates = {"aipw": answer("aipw", 5.0)}
    refused = {"e_value: aipw": Refusal("e_value", "not_applicable", "why", "what")}
    assert gathered(study_of(), estimates, (), refused).unasked
    assert gathered(study_of(), estimates, (), {}).unasked
    assert not gathered(study_of(), estimates).unasked


def test_where_nothing_was_estimated_that_comes_first():
    found = decide(replace(evidence(), targets=(), critique="reject", review="The analysis does not stand: so."))
    assert "Nothing could be estimated" in found.recommendation
    assert "Nothing could be estimated" in found.reasons[0].sentence


def test_a_rejection_says_why():
    why = "The analysis does not stand after 2 rounds: Overlap fails: 0.4. Many units have no counterpart."
    found = decide(replace(evidence(), critique="reject", review=why))
    assert any(why in reason.sentence for reason in found.reasons)


def test_a_roll_out_reaches_no_further_than_the_budget():
    paid = NetBenefit("b - a", 50.0, 40.0, 60.0, 0.13, 3.0, 4.0, "EUR", 5.0, budget=10.0, affordable=0.13)
    found = decide(evidence(net_benefits=(paid,)))
    assert found.verdict == "GO"
    assert "to the 13% with the highest predicted gain that the budget pays for" in found.recommendation
    assert "Roll out, and" in decide(evidence(net_benefits=(replace(paid, affordable=1.0),))).recommendation
