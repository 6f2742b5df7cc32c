"""The summary keeps questions apart and is honest about uncertainty."""

import json
import math
from dataclasses import replace

import pytest

from cqox_assets.discovery.plan import MethodPlan
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.result import Assumption, Effect, EffectEstimate, Failure, Interval, Refusal, Sample, to_text
from cqox_assets.synthesis._helpers import weighted_median
from cqox_assets.synthesis.effect_summary import EffectSummary, consensus_of, summarise

RANDOM = Assumption("random_assignment", "Treatment was assigned at random.", True, ("raw_smd",))
OVERLAP = Assumption("positivity", "Every unit could have had either treatment.", True, ("overlap",))


def effect(estimate, se=1.0, estimand="ATE", contrast="b - a", **facts):
    interval = None if se is None else Interval(estimate - 1.96 * se, estimate + 1.96 * se)
    return Effect(estimand, contrast, estimate, se, interval, **facts)


def answer(name, *effects, assumptions=(), diagnostics=()):
    return EffectEstimate(name, "1", effects, "stated", Sample(100), tuple(diagnostics), tuple(assumptions))


def plan_of(design="observational", estimand="ATE"):
    return MethodPlan((("aipw", "first"), ("ols", "second")), {}, estimand, "stated", design)


def group_of(summary, estimand="ATE"):
    return next(group for group in summary.groups if group.estimand == estimand)


def test_questions_are_never_mixed():
    summary = summarise(
        plan_of(),
        {
            "aipw": answer("aipw", effect(1.0), effect(9.0, contrast="c - a", at={"arm": "c"})),
            "match": answer("match", effect(5.0, estimand="ATT")),
            "ratio": answer("ratio", effect(0.3, scale="log_risk_ratio")),
            "path": answer("path", effect(2.0), effect(7.0, at={"time": 3})),
        },
    )
    found = {(group.estimand, group.contrast, group.scale): group.estimators for group in summary.groups}
    assert found == {
        ("ATE", "b - a", "difference"): ("aipw", "path"),
        ("ATE", "c - a", "difference"): ("aipw",),
        ("ATT", "b - a", "difference"): ("match",),
        ("ATE", "b - a", "log_risk_ratio"): ("ratio",),
    }


def test_averages_over_two_arms_and_over_all_are_not_mixed():
    arm = {"at": {"arm": "b"}}
    answers = {
        "aipw": answer("aipw", effect(1.0, **arm)),
        "ols": answer("ols", effect(1.2, **arm)),
        "off_policy_evaluation": answer("off_policy_evaluation", effect(4.0, **arm)),
    }
    group = group_of(summarise(plan_of(), answers))
    assert group.estimators == ("aipw", "ols")
    assert "over the units of all arms" in group.set_aside["off_policy_evaluation"]
    assert group.largest == 1.2
    assert group.label == "ATE of b - a among the units of these two arms"
    assert "averages over the units of these two arms" in group.sentence
    alone = group_of(summarise(plan_of(), {"off_policy_evaluation": answers["off_policy_evaluation"]}))
    assert (alone.population, alone.set_aside) == ("the units of all arms", {})
    assert set(group_of(summarise(plan_of("trial"), answers)).estimators) == set(answers)


def test_the_effect_on_the_treated_is_about_one_arm_whichever_are_fitted():
    arm = {"estimand": "ATT", "at": {"arm": "b"}}
    summary = summarise(plan_of(), {"aipw": answer("aipw", effect(1.0, **arm)), "ols": answer("ols", effect(2.0))})
    assert group_of(summary, "ATT").population == ""


def test_each_reason_names_its_own_estimators():
    summary = summarise(
        plan_of(),
        {
            "aipw": answer("aipw", effect(1.0)),
            "copy": answer("copy", effect(1.0)),
            "naive": answer("naive", effect(9.0), assumptions=(RANDOM,)),
            "ols": answer("ols", effect(1.5)),
        },
    )
    sentence = group_of(summary).sentence
    assert "copy shown but not counted: it is the same calculation" in sentence
    assert "naive shown but not counted: it is right only under random assignment" in sentence


def test_the_interval_holds_sampling_and_spread():
    numbers = consensus_of([effect(1.0), effect(2.0), effect(6.0)])
    assert numbers["consensus"] == 2.0
    assert numbers["sampling"] == pytest.approx(1.0)
    spread = math.sqrt(((1 - 2) ** 2 + (6 - 2) ** 2) / 3)
    assert numbers["spread"] == pytest.approx(spread)
    assert numbers["high"] - 2.0 == pytest.approx(1.96 * math.hypot(1, spread))


def test_more_estimators_of_the_same_rows_do_not_shrink_the_interval():
    one, many = consensus_of([effect(1.0)]), consensus_of([effect(1.0)] * 20)
    assert many["high"] - many["low"] >= one["high"] - one["low"] - 1e-3


def test_the_interval_is_not_narrower_than_those_of_few_clusters():
    wide = [replace(effect(value), interval=Interval(value - 2.57, value + 2.57)) for value in (2.0, 2.0, 2.0)]
    numbers = consensus_of(wide)
    assert (numbers["low"], numbers["high"]) == pytest.approx((2 - 2.57, 2 + 2.57))


def test_an_imprecise_estimate_hardly_moves_the_consensus():
    assert consensus_of([effect(1.0, 0.1), effect(1.1, 0.1), effect(90.0, 50.0)])["consensus"] < 1.2


@pytest.mark.parametrize(
    ("estimates", "expected"),
    [
        ([effect(5.0), effect(5.1)], "close"),
        ([effect(5.0), effect(-5.0)], "strong_disagreement"),
        ([effect(10.0), effect(12.0), effect(11.0)], "moderate"),
        ([effect(5.0)], "single"),
        ([effect(0.1), effect(-0.1)], "close"),
    ],
)
def test_agreement_in_words(estimates, expected):
    assert consensus_of(estimates)["agreement"] == expected


def test_an_open_interval_stays_open_and_counts_as_no_spread():
    alone = consensus_of([Effect("ATE", "b - a", 1.0, None, Interval(-math.inf, 3.0))])
    assert (alone["low"], alone["high"]) == (None, 3.0)
    together = consensus_of([effect(1.0), Effect("ATE", "b - a", 1.5, None, Interval(-math.inf, math.inf))])
    assert math.isfinite(together["low"])


def test_unadjusted_comparisons_count_only_in_trials():
    answers = {"naive": answer("naive", effect(50.0), assumptions=[RANDOM]), "aipw": answer("aipw", effect(1.0))}
    seen = group_of(summarise(plan_of(), answers))
    assert (seen.estimators, tuple(seen.set_aside)) == (("aipw",), ("naive",))
    assert group_of(summarise(plan_of("trial"), answers)).estimators == ("aipw", "naive")


def test_the_ledger_is_computed_from_diagnostics():
    def row(status):
        item = Diagnostic("overlap", 0.3, 0.8, status, "share")
        found = summarise(plan_of(), {"ipw": answer("ipw", effect(1.0), assumptions=[OVERLAP], diagnostics=[item])})
        return found.ledger[0].state

    assert [row(status) for status in Status] == ["supported", "doubtful", "contradicted", "untested"]


def test_random_assignment_is_contradicted_by_imbalance_unless_declared():
    item = Diagnostic("raw_smd", 0.9, None, Status.PASS, "largest")
    answers = {"naive": answer("naive", effect(1.0), assumptions=[RANDOM], diagnostics=[item])}
    assert summarise(plan_of(), answers).ledger[0].state == "contradicted"
    assert summarise(plan_of("trial"), answers).ledger[0].state == "supported"


def test_counts_say_why():
    summary = summarise(
        plan_of(),
        {
            "aipw": answer("aipw", effect(1.0)),
            "iv": Refusal("iv", "missing_role", "no instrument is mapped", "map one"),
            "ols": Failure("ols", "ValueError: x", "trace"),
        },
    )
    assert summary.counts == "1 estimated, 1 refused, 1 failed (iv: no instrument is mapped)"
    assert summary.failed == {"ols": "ValueError: x"}


def test_another_estimand_steps_in_with_a_notice():
    summary = summarise(plan_of(), {"match": answer("match", effect(1.0, estimand="ATT"))})
    assert summary.preferred == "ATT"
    assert "ATE" in summary.notices[0]
    assert [group.estimand for group in summary.targets()] == ["ATT"]


def test_nothing_estimated_is_a_summary_too():
    summary = summarise(plan_of(), {})
    assert summary.targets() == ()
    assert summary.counts == "0 estimated, 0 refused, 0 failed"


def test_a_stored_summary_reads_back_equal():
    summary = summarise(plan_of(), {"aipw": answer("aipw", effect(1.0)), "ols": answer("ols", effect(1.4))})
    assert EffectSummary.from_json(json.loads(to_text(summary.to_json()))) == summary
    assert "| ATE of b - a |" in summary.markdown()


def test_weighted_median_is_the_median_for_equal_weights():
    assert weighted_median([3.0, 1.0, 2.0, 10.0], [1, 1, 1, 1]) == 2.5
    assert weighted_median([1.0, 2.0], [1, 3]) == 2.0


def test_the_same_calculation_under_two_names_is_one_vote():
    answers = {
        "aipw": answer("aipw", effect(1.0)),
        "copy": answer("copy", replace(effect(1.0), std_error=0.7)),
        "ols": answer("ols", effect(2.0)),
    }
    group = group_of(summarise(plan_of(), answers))
    assert group.estimators == ("aipw", "ols")
    assert "same calculation as aipw" in group.set_aside["copy"]
