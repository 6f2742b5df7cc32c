"""Partial R2 and Rosenbaum bounds: published numbers are with the oracle; here a confounder is hidden and found."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.measures import Status
from cqox_assets.numerics.omitted_variables import (
    Coefficient,
    adjusted,
    benchmark_bound,
    bias_of,
    fit_coefficient,
    gains,
    robustness_of_scale,
    robustness_value,
)
from cqox_assets.numerics.signed_rank import critical_gamma, lower_p, signed_ranks, upper_p
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult

ROLES = {"outcome": "y", "treatment": "d", "covariates": ["x"]}


def confounded(effect: float = 0.0, n: int = 1500, seed: int = 3) -> pd.DataFrame:
    """The hidden u moves treatment and outcome as much as the mapped x does."""
    generator = np.random.default_rng(seed)
    x, u, noise = generator.standard_normal((3, n))
    d = (generator.random(n) < 1 / (1 + np.exp(-x - u))) * 1
    return pd.DataFrame({"x": x, "u": u, "d": d, "y": x + u + effect * d + noise})


def ask(question: str, frame: pd.DataFrame, estimator: str, **params: object) -> SensitivityResult:
    estimate = cqox.estimate(estimator, frame, ROLES)
    assert isinstance(estimate, EffectEstimate)
    found = cqox.sensitivity(question, frame, ROLES, estimate, **params)
    assert isinstance(found, SensitivityResult), found
    return found


def test_a_confounder_like_the_known_one_would_explain_the_estimate_away() -> None:
    frame = confounded()
    found = ask("partial_r2", frame, "ols")
    row = found.table.set_index("strength").loc[1.0]
    truth = fit_coefficient(frame["y"].to_numpy(), frame["d"].to_numpy(float), frame[["x", "u"]].to_numpy())
    assert abs(truth.estimate) < 3 * truth.std_error  # with u in the model there is no effect
    assert row["low"] < 0 < row["high"]
    assert found.status is Status.WARN
    assert "'x'" in found.meaning


def test_a_strong_effect_survives_a_confounder_like_the_known_one() -> None:
    found = ask("partial_r2", confounded(effect=4.0), "ols")
    assert found.table.set_index("strength").loc[1.0, "low"] > 0
    assert found.status is Status.PASS


def test_cross_fitted_estimates_have_a_value_of_their_own() -> None:
    frame = confounded(effect=2.0, n=800)
    scored, linear = (ask("partial_r2", frame, "aipw", model=model) for model in ("auto", "linear"))
    assert set(scored.table["model"]) == {"cross-fitted"}
    assert set(linear.table["model"]) == {"linear"}
    assert 0.3 < scored.value / linear.value < 3


def test_a_benchmark_of_a_cross_fitted_estimate_is_fitted_without_the_covariate() -> None:
    frame = confounded(effect=2.0, n=3000).assign(z=np.random.default_rng(1).standard_normal(3000))
    roles = {**ROLES, "covariates": ["x", "z"]}
    estimate = cqox.estimate("aipw", frame, roles)
    assert isinstance(estimate, EffectEstimate)
    found = cqox.sensitivity("partial_r2", frame, roles, estimate)
    assert isinstance(found, SensitivityResult)
    rows = found.table[found.table["strength"] > 0]
    assert set(rows["bounds"]) == {"cross-fitted"}
    assert "'x'" in found.meaning
    assert "cross-fitted estimate" in found.meaning
    assert (rows["adjusted_estimate"].diff().dropna() < 0).all()  # the stronger, the less is left
    # x moves treatment and outcome as much as the hidden u does, so what is left is near the truth.
    one = rows.set_index("strength").loc[1.0]
    assert estimate.estimate > 2.3
    assert one["adjusted_estimate"] == pytest.approx(2.0, abs=0.35)
    assert one["high"] - one["low"] == pytest.approx(estimate.interval.high - estimate.interval.low)  # type: ignore[union-attr]


def test_gains_are_those_of_known_models() -> None:
    assert gains((2.0, 6.0), (3.0, 4.0)) == pytest.approx((0.5, 0.5))
    assert gains((2.0, 4.0), (1.9, 4.1)) == (0.0, 0.0)
    assert bias_of(3.0, 0.5, 0.5) == pytest.approx(3.0 * math.sqrt(0.5))
    assert bias_of(3.0, 0.5, 1.0) is None


def test_both_rules_for_pairs_without_a_difference_are_told() -> None:
    generator = np.random.default_rng(6)
    first = generator.standard_normal(60)
    second = np.where(np.arange(60) % 4 == 0, first, first + 0.8 + 0.5 * generator.standard_normal(60))
    frame = pd.DataFrame(
        {"pair": np.repeat(np.arange(60), 2), "d": np.tile([0, 1], 60), "y": np.column_stack([first, second]).ravel(),
         "x": generator.standard_normal(120)}
    )  # fmt: skip
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x"], "pair": "pair"}
    estimate = cqox.estimate("propensity_matching", frame, roles)
    assert isinstance(estimate, EffectEstimate)
    for rule in ("keep", "drop"):
        found = cqox.sensitivity("rosenbaum_bounds", frame, roles, estimate, zeros=rule)
        assert isinstance(found, SensitivityResult)
        head = found.table.iloc[0]
        assert head["zeros"] == 15
        assert found.value == pytest.approx(head[f"value_{rule}"])
        assert head["p_upper"] == pytest.approx(head[f"p_upper_{rule}"])
        assert "15 pairs that do not differ" in found.meaning
    assert head["value_keep"] != head["value_drop"]


def test_the_adjusted_estimate_is_that_of_the_full_regression() -> None:
    """With the confounder's own partial R2 the formula gives the coefficient of the regression that has it."""
    frame = confounded(effect=1.0)
    y, d, x, u = (frame[name].to_numpy(float) for name in ("y", "d", "x", "u"))
    short = fit_coefficient(y, d, x[:, None])
    full = fit_coefficient(y, d, np.column_stack([x, u]))
    with_treatment = fit_coefficient(d, u, x[:, None]).partial_r2
    with_outcome = fit_coefficient(y, u, np.column_stack([d, x])).partial_r2
    estimate, error = adjusted(short, with_treatment, with_outcome)
    assert estimate == pytest.approx(full.estimate, rel=1e-9)
    assert error == pytest.approx(full.std_error, rel=1e-9)


def test_the_robustness_value_is_where_the_estimate_vanishes() -> None:
    coefficient = Coefficient(2.0, 0.5, 100)
    value = robustness_value(coefficient)
    assert adjusted(coefficient, value, value)[0] == pytest.approx(0, abs=1e-12)
    assert robustness_value(coefficient, alpha=0.05) < value
    assert robustness_value(Coefficient(0.1, 0.5, 100), alpha=0.05) == 0
    r = robustness_of_scale(1.5, 4.0)
    assert 4.0 * r / math.sqrt(1 - r) == pytest.approx(1.5)
    assert robustness_of_scale(0.0, 4.0) == 0


def test_a_confounder_that_cannot_exist_has_no_bound() -> None:
    assert benchmark_bound(0.6, 0.1, 3.0) is None
    assert benchmark_bound(1.0, 0.1, 1.0) is None


def test_critical_gamma_is_where_the_upper_p_value_crosses() -> None:
    differences = np.random.default_rng(1).standard_normal(80) + 0.8
    ranks = signed_ranks(differences)
    critical = critical_gamma(ranks, 0.05)
    assert critical is not None
    assert upper_p(ranks, critical) == pytest.approx(0.05, rel=1e-6)
    assert upper_p(ranks, 1.0) == pytest.approx(lower_p(ranks, 1.0))
    assert lower_p(ranks, 2.0) < upper_p(ranks, 1.0) < upper_p(ranks, 2.0)
    assert critical_gamma(signed_ranks(-differences), 0.05) is None


@pytest.mark.parametrize("zeros", ["keep", "drop"])
def test_pairs_without_a_difference_decide_nothing(zeros: str) -> None:
    ranks = signed_ranks(np.zeros(12), zeros)  # type: ignore[arg-type]
    assert upper_p(ranks, 1.0) == 1.0


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("zeros", ["keep", "drop"])
def test_ties_of_decimals_are_those_of_whole_numbers(zeros: str, offset: float) -> None:
    one = np.array([3, 9, 11, 7, 2, 14, 5, 8, 6, 4], dtype=float)
    other = np.array([1, 2, 4, 9, 4, 7, 3, 1, 6, 4], dtype=float)
    whole = signed_ranks(one - other, zeros)  # type: ignore[arg-type]
    tenths, units = one / 10 + offset, other / 10 + offset
    decimal = signed_ranks(tenths - units, zeros, np.maximum(tenths, units))  # type: ignore[arg-type]
    assert decimal.zeros == whole.zeros == 2
    np.testing.assert_array_equal(decimal.ranks, whole.ranks)
    np.testing.assert_array_equal(decimal.positive, whole.positive)
    assert signed_ranks(one / 10 - other / 10).statistic == signed_ranks(one - other).statistic


def test_sizes_far_below_the_largest_are_not_merged() -> None:
    ranks = signed_ranks(np.array([1e-9, 2e-9, -3e-9, 1e9]), "keep", np.array([1e-8, 1e-8, 1e-8, 1e9]))
    np.testing.assert_array_equal(ranks.ranks, [1, 2, 3, 4])


def test_rosenbaum_bounds_do_not_depend_on_the_unit_of_the_outcome() -> None:
    rng = np.random.default_rng(4)
    pairs = np.repeat(np.arange(40), 2)
    whole = pd.DataFrame({"y": rng.integers(10_001, 10_020, 80) + np.tile([4, 0], 40), "d": np.tile([1, 0], 40)})
    answers = []
    for scale in (1, 10):
        frame = whole.assign(y=whole["y"] / scale, pair=pairs)
        roles = {"outcome": "y", "treatment": "d", "pair": "pair"}
        estimate = cqox.estimate("difference_in_means", frame, {"outcome": "y", "treatment": "d"})
        assert isinstance(estimate, EffectEstimate)
        found = cqox.sensitivity("rosenbaum_bounds", frame, roles, replace(estimate, estimator="propensity_matching"))
        assert isinstance(found, SensitivityResult)
        answers.append(found.table["p_upper"].to_numpy())
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-12)


def test_rosenbaum_bounds_of_declared_pairs() -> None:
    generator = np.random.default_rng(2)
    pair, d = np.repeat(np.arange(60), 2), np.tile([0, 1], 60)
    frame = pd.DataFrame({"pair": pair, "d": d, "x": generator.standard_normal(120)})
    frame["y"] = 1.0 * d + generator.standard_normal(60)[pair] + 0.5 * generator.standard_normal(120)
    roles = ROLES | {"pair": "pair"}
    estimate = cqox.estimate("propensity_matching", frame, roles)
    assert isinstance(estimate, EffectEstimate)
    found = cqox.sensitivity("rosenbaum_bounds", frame, roles, estimate)
    assert isinstance(found, SensitivityResult)
    assert found.table["pairs"].unique().tolist() == [60]
    assert "role pair" in found.meaning
    assert found.value > 2
    assert found.table["p_upper"].is_monotonic_increasing


def test_rosenbaum_bounds_match_pairs_themselves() -> None:
    found = ask("rosenbaum_bounds", confounded(effect=2.0), "propensity_matching")
    assert found.table["pairs"].iloc[0] > 200
    assert "matched on the propensity score" in found.meaning


def test_too_few_pairs_are_refused() -> None:
    frame = confounded(n=400).assign(pair=lambda rows: np.arange(len(rows)))
    estimate = cqox.estimate("propensity_matching", frame, ROLES | {"pair": "pair"})
    assert isinstance(estimate, EffectEstimate)
    found = cqox.sensitivity("rosenbaum_bounds", frame, ROLES | {"pair": "pair"}, estimate)
    assert isinstance(found, Refusal)
    assert found.code == "too_few_pairs"


def test_an_estimate_that_needs_no_unconfoundedness_is_refused() -> None:
    frame = confounded().assign(z=lambda rows: (rows["u"] > 0) * 1)
    roles = ROLES | {"instruments": ["z"]}
    estimate = cqox.estimate("iv", frame, roles)
    assert isinstance(estimate, EffectEstimate)
    found = cqox.sensitivity("partial_r2", frame, roles, estimate)
    assert isinstance(found, Refusal)
    assert found.code == "not_applicable"


def test_a_perfect_fit_leaves_no_room_for_a_hidden_cause() -> None:
    """Without any noise nothing is left of the outcome; rounding must not turn that into no robustness at all."""
    assert robustness_value(Coefficient(2.0, 0.0, 100)) == 1.0
    assert robustness_value(Coefficient(2.0, 1e-15, 100)) == pytest.approx(1.0)
    assert robustness_of_scale(1.0, 1e-12) == pytest.approx(1.0)
    frame = confounded(effect=2.0)
    frame["y"] = 2.0 * frame["d"] + frame["x"]
    for question in ("confounding_strength", "partial_r2"):
        found = ask(question, frame, "ols")
        assert found.value == pytest.approx(1.0)
        assert found.status is Status.PASS
        assert "chance alone" not in found.advice


def test_without_an_interval_nothing_is_said_of_its_end() -> None:
    frame = confounded(effect=2.0, n=600)
    estimate = cqox.estimate("aipw", frame, ROLES)
    assert isinstance(estimate, EffectEstimate)
    bare = replace(estimate, effects=(replace(estimate.headline, interval=None, p_value=None),))
    found = cqox.sensitivity("partial_r2", frame, ROLES, bare)
    assert isinstance(found, SensitivityResult)
    assert found.status is Status.NOT_RUN
    assert found.unit.endswith("of the estimate")
    assert found.value > 0.1
    assert "no interval" in found.meaning
    assert "chance alone" not in found.advice


def test_a_confounder_like_the_known_one_is_what_is_said_to_overturn_it() -> None:
    found = ask("partial_r2", confounded(), "ols")
    assert found.table["robustness_value_limit"].iloc[0] > 0.05
    assert found.implies == "A hidden confounder as strong as 'x' would overturn the result."
