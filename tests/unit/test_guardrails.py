"""Guardrails are measured like outcomes, per arm, and judged per arm."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.decisions.evidence import Evidence, Target
from cqox_assets.decisions.rule import decide
from cqox_assets.declaration import parse_declaration
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.mapping.stage import study_of
from cqox_assets.study import Role
from cqox_assets.synthesis.guardrails import GuardrailEffect, measure_guardrails

TEXT = """
roles: {treatment: arm, outcome: sales, covariates: [age]}
guardrails: {complaints: {margin: 0.3, direction: lower_is_better}}
"""


def frame_of(arms=("a", "b"), n=1500, seed=5):
    rng = np.random.default_rng(seed)
    age = rng.normal(size=n)
    chance = 1 / (1 + np.exp(-age))
    arm = np.where(rng.random(n) < chance, rng.choice(arms[1:], n), arms[0])
    harm = (arm == arms[-1]) * 1.0
    return pd.DataFrame(
        {
            "arm": arm,
            "age": age,
            "sales": 3.0 * (arm != arms[0]) + age + rng.normal(size=n),
            "complaints": harm + 2 * age + rng.normal(size=n),
        }
    )


def measured(frame, text=TEXT):
    study = study_of(frame, declaration=parse_declaration(text))[0]
    return measure_guardrails(study, plan_methods(study))


def test_the_known_effect_on_a_guardrail_is_recovered_after_adjustment():
    (rail,) = measured(frame_of())
    assert (rail.name, rail.margin, rail.direction) == ("complaints", 0.3, "lower_is_better")
    assert rail.low < 1.0 < rail.high
    assert rail.high - rail.low < 0.6
    assert rail.estimator


def test_rows_without_the_guardrails_value_are_left_out_for_it_alone():
    frame = frame_of()
    frame.loc[::3, "complaints"] = np.nan
    (rail,) = measured(frame)
    assert rail.low < 1.0 < rail.high


def test_every_arm_has_an_effect_of_its_own():
    rails = measured(frame_of(("a", "b", "c")), TEXT + "contrast: {reference: a}\n")
    found = {rail.contrast: rail for rail in rails}
    assert set(found) == {"b - a", "c - a"}
    assert found["b - a"].low < 0.0 < found["b - a"].high
    assert found["c - a"].low < 1.0 < found["c - a"].high


def test_a_guardrail_that_was_mapped_as_covariate_too_is_not_held_constant():
    frame = frame_of()
    study = study_of(frame, declaration=parse_declaration(TEXT))[0]
    both = replace(study, roles={**study.roles, Role.COVARIATES: ("age", "complaints")})
    (rail,) = measure_guardrails(both, plan_methods(both))
    assert rail.low < 1.0 < rail.high


@pytest.mark.parametrize("value", [np.nan, 7.0], ids=["empty", "constant"])
def test_a_guardrail_that_cannot_be_measured_says_why(value):
    (rail,) = measured(frame_of().assign(complaints=value))
    assert rail.estimate is None
    assert rail.reason


def test_a_study_without_guardrails_has_nothing_to_measure():
    assert measured(frame_of(), "roles: {treatment: arm, outcome: sales, covariates: [age]}\n") == ()


def test_a_column_of_the_role_is_judged_without_a_margin_of_its_own():
    (rail,) = measured(
        frame_of(), "roles: {treatment: arm, outcome: sales, covariates: [age], guardrails: complaints}\n"
    )
    assert rail.margin == 0.0


def evidence_of(*rails):
    targets = tuple(
        Target(arm, "ATE", 5.0, 4.0, 6.0, 0.5, estimators=4, agreement="close") for arm in ("b - a", "c - a")
    )
    return Evidence(targets=targets, guardrails=rails)


def test_an_arm_that_breaks_a_guardrail_does_not_hold_the_other_arm():
    good = GuardrailEffect("complaints", 0.3, "lower_is_better", 0.0, -0.1, 0.1, "b - a")
    bad = GuardrailEffect("complaints", 0.3, "lower_is_better", 1.0, 0.8, 1.2, "c - a")
    verdict = decide(evidence_of(good, bad))
    assert verdict.by_contrast == {"b - a": "GO", "c - a": "HOLD"}
    assert verdict.verdict == "GO"
    held = [reason.sentence for reason in verdict.reasons if reason.allows == "HOLD"]
    assert len(held) == 1
    assert "c - a" in held[0]


@pytest.mark.parametrize("contrast", ["", "an arm that no target has"])
def test_a_guardrail_without_an_arm_concerns_every_arm(contrast):
    bad = GuardrailEffect("complaints", 0.3, "lower_is_better", 1.0, 0.8, 1.2, contrast)
    assert set(decide(evidence_of(bad)).by_contrast.values()) == {"HOLD"}
