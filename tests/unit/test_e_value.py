"""E-values against the published numbers and on studies whose answer follows by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from cqox_assets.declaration import Declaration
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.result import Effect, EffectEstimate, Interval, Refusal, Sample
from cqox_assets.sensitivity.e_value import SPEC, as_risk_ratio, e_value, e_values, risk_ratio_from_data
from cqox_assets.spec import CommonParams, Context
from cqox_assets.study import Role, Study

# measure, estimate, lower, upper, se -> point, limit; VanderWeele & Ding 2017 and the R package EValue's definitions
PUBLISHED = [
    ("RR", 3.9, 1.8, 8.7, None, 7.263034344160047, 3.0),
    ("RR", 0.8, 0.71, 0.91, None, 1.8090169943749475, 1.4285714285714282),
    ("RR", 1.2, 0.9, 1.6, None, 1.6898979485566354, 1.0),
    ("RR", 3.9, 1.8, None, None, 7.263034344160047, 3.0),
    ("OR_common", 2.5, 1.4, 4.1, None, 2.5397112946980083, 1.6488166904897021),
    ("HR_common", 0.56, 0.46, 0.69, None, 2.349531257322429, 1.9080039432744402),
    ("SMD", 0.27057900196839163, None, None, 0.10115740523835845, 1.8767989403338912, 1.3387454082810992),
]


@pytest.mark.parametrize(("measure", "estimate", "lower", "upper", "se", "point", "limit"), PUBLISHED)
def test_published_numbers(measure, estimate, lower, upper, se, point, limit):
    found_point, found_limit, _ = e_values(measure, estimate, lower, upper, se)
    assert found_point == pytest.approx(point, rel=1e-9)
    assert found_limit == pytest.approx(limit, rel=1e-9)


def test_rare_outcomes_read_odds_as_risks():
    assert as_risk_ratio("OR", 2.5, rare=True) == as_risk_ratio("OR_rare", 2.5) == 2.5
    assert as_risk_ratio("OR", 2.5) == as_risk_ratio("OR_common", 2.5) == pytest.approx(math.sqrt(2.5))


def test_no_limit_without_an_interval():
    assert e_values("RR", 2.0)[1] is None


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_ratios_must_be_positive(ratio):
    with pytest.raises(CatalogError, match="positive"):
        e_value(ratio)


def test_unknown_measures_are_named():
    with pytest.raises(CatalogError, match="'rate'"):
        as_risk_ratio("rate", 1.0)


def study_of(outcome, treated, design=None):
    frame = pd.DataFrame({"y": outcome, "d": treated}).astype(float)
    return Study(
        frame,
        {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",)},
        arms=("no", "yes"),
        declaration=Declaration(design=design),
    )


def answer_of(estimate, se=None, interval=None, scale="difference", estimand="ATE"):
    effect = Effect(estimand, "yes - no", estimate, se, interval, scale=scale)
    return EffectEstimate("aipw", "1", (effect,), "stated", Sample(100))


def ask(study, answer):
    return SPEC.run(study, answer, CommonParams(), Context.fresh())


def test_a_difference_is_standardised_by_the_outcome():
    outcome = np.linspace(0, 20, 200)
    study = study_of(outcome, np.arange(200) % 2)
    unit = outcome.std(ddof=1)
    result = ask(study, answer_of(0.5 * unit, 0.1 * unit, Interval(0.304 * unit, 0.696 * unit)))
    assert result.value == pytest.approx(e_value(math.exp(0.91 * 0.5 - 1.78 * 0.1)))
    assert result.status is Status.PASS
    assert f"{result.value:.2f}" in result.meaning


def test_a_binary_outcome_uses_the_reference_risk():
    treated = np.repeat([0, 1], 100)
    outcome = np.concatenate([np.repeat([1, 0], [20, 80]), np.repeat([1, 0], [50, 50])])
    study = study_of(outcome, treated)
    assert risk_ratio_from_data(outcome, treated) == pytest.approx(2.5)
    result = ask(study, answer_of(0.3, 0.06, Interval(0.18, 0.42)))
    assert result.table["risk_ratio"].iloc[0] == pytest.approx(2.5)
    assert result.value == pytest.approx(e_value(0.38 / 0.2))


def test_an_interval_over_the_null_warns_and_blames_chance():
    study = study_of(np.linspace(0, 1, 100), np.arange(100) % 2)
    result = ask(study, answer_of(0.1, 0.1, Interval(-0.1, 0.3)))
    assert (result.value, result.status) == (1.0, Status.WARN)
    assert "chance" in result.advice


def test_without_an_interval_the_limit_was_not_run():
    result = ask(study_of(np.linspace(0, 1, 100), np.arange(100) % 2), answer_of(0.2))
    assert result.status is Status.NOT_RUN
    assert result.unit.endswith("estimate")


def test_what_has_no_risk_ratio_is_refused():
    study = study_of(np.linspace(0, 1, 100), np.arange(100) % 2)
    scale = ask(study, answer_of(0.2, scale="share"))
    late = ask(study, answer_of(0.2, estimand="LATE"))
    assert isinstance(scale, Refusal)
    assert isinstance(late, Refusal)
    assert (scale.code, late.code) == ("unknown_scale", "not_applicable")


def test_an_unbounded_interval_is_no_error():
    study = study_of(np.linspace(0, 1, 100), np.arange(100) % 2)
    assert ask(study, answer_of(0.2, None, Interval(-math.inf, math.inf))).value == 1.0
    upper = ask(study, answer_of(0.2, None, Interval(0.1, math.inf)))
    assert upper.value > 1


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_units_of_the_outcome_do_not_matter(factor):
    outcome = np.linspace(0, 1, 100)
    result = ask(study_of(outcome * factor, np.arange(100) % 2), answer_of(0.2 * factor, 0.05 * factor))
    assert result.value == pytest.approx(ask(study_of(outcome, np.arange(100) % 2), answer_of(0.2, 0.05)).value)


def test_a_trial_is_told_what_the_question_is_worth():
    outcome = np.linspace(0, 1, 100)
    result = ask(study_of(outcome, np.arange(100) % 2, design="trial"), answer_of(0.2, 0.05))
    assert "random" in result.advice
