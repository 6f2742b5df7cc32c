"""Bounds on differing trends: published numbers, the programme behind them, closed forms, coverage, the question."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.measures import Status
from cqox_assets.numerics.smooth_trends import Smoothness, folded_quantile
from cqox_assets.numerics.trend_bounds import EventStudy, RelativeMagnitudes
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.runner import run_estimator, runner_for
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role
from tests.conftest import ROOT

# Event study of insurance coverage around the expansion of Medicaid in 2014: states, two-way effects, clustered by
# state; coefficients of 2008 to 2012 and 2014 to 2015, and the upper triangle of their covariance.
BETA = [-0.00528535453, -0.0112973246, -0.00267599181, -0.00141931225, 0.000339663519, 0.0464468542, 0.0692061755]
COVARIANCE = [
    7.4884836e-05,
    6.0398741e-05,
    4.4446198e-05,
    3.3857647e-05,
    4.3280113e-05,
    4.7658805e-05,
    2.4251287e-05,
    7.2665006e-05,
    3.7893302e-05,
    2.866578e-05,
    4.5433206e-05,
    4.4288501e-05,
    2.824655e-05,
    5.0520519e-05,
    2.6736794e-05,
    2.7781936e-05,
    3.0606441e-05,
    9.6375339e-06,
    4.003222e-05,
    2.41286e-05,
    2.3808682e-05,
    2.9238781e-06,
    5.4626622e-05,
    3.6825311e-05,
    9.7229475e-06,
    8.3756688e-05,
    6.321398e-05,
    0.00010712352,
]
FIRST = np.array([1.0, 0.0])


def medicaid() -> EventStudy:
    covariance = np.zeros((7, 7))
    covariance[np.triu_indices(7)] = COVARIANCE
    covariance = covariance + np.triu(covariance, 1).T
    return EventStudy(np.array(BETA[:5]), np.array(BETA[5:]), covariance)


def example(before: int = 3, after: int = 2, seed: int = 4) -> EventStudy:
    generator = np.random.default_rng(seed)
    root = generator.standard_normal((before + after, before + after)) * 0.1 + np.eye(before + after) * 0.3
    return EventStudy(generator.standard_normal(before) * 0.2, 1 + generator.random(after), root @ root.T)


@pytest.mark.parametrize(
    ("m", "low", "high"), [(0.5, 0.0241, 0.0673), (1, 0.0171, 0.0720), (1.5, 0.00859, 0.0796), (2, -0.00107, 0.0883)]
)
def test_relative_magnitudes_meet_the_published_intervals(m: float, low: float, high: float) -> None:
    """Of the page of the authors' package, found there on a grid of 0.00037."""
    found = RelativeMagnitudes(medicaid(), FIRST).interval(m)
    assert found == pytest.approx((low, high), abs=0.0005)


@pytest.mark.parametrize(
    ("m", "low", "high"),
    [(0, 0.0259, 0.0607), (0.01, 0.0132, 0.0787), (0.02, 0.00286, 0.0907), (0.03, -0.00714, 0.101),
     (0.05, -0.0271, 0.121)],
)  # fmt: skip
def test_smoothness_meets_the_published_intervals(m: float, low: float, high: float) -> None:
    found = Smoothness(medicaid(), FIRST).interval(m)
    assert found == pytest.approx((low, high), abs=0.0005)


def test_the_breakdown_is_where_the_interval_reaches_the_value() -> None:
    for bounds, most in ((RelativeMagnitudes(medicaid(), FIRST), 10.0), (Smoothness(medicaid(), FIRST), 0.5)):
        point = bounds.breakdown(0.0, most)
        assert point is not None
        assert bounds.interval(0.99 * point)[0] > 0 > bounds.interval(1.01 * point)[0]
        assert bounds.breakdown(0.04, most) is None


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.5, 0.5], [-1.0, 0.0, 1.0]])
@pytest.mark.parametrize("value", [-1.0, 0.4, 1.7])
def test_the_test_statistic_is_that_of_the_linear_programme(weights: list[float], value: float) -> None:
    """The programme is solved as it is stated: least t with A (b - L tau) <= t sigma, over tau of the given sum."""
    study, m, target = example(3, 3), 0.8, np.array(weights)
    bounds = RelativeMagnitudes(study, target)
    for step in (sign * row for row in study.steps for sign in (1.0, -1.0)):
        changes = np.hstack([np.zeros((3, 3)), np.eye(3) - np.eye(3, k=-1)])
        rows = np.vstack([changes - m * step, -changes - m * step])
        sigma = np.sqrt(np.einsum("ij,jk,ik->i", rows, study.covariance, rows))
        programme = linprog(
            [1.0, 0, 0, 0],
            A_ub=np.column_stack([-sigma, -rows[:, 3:]]), b_ub=-rows @ study.estimates,
            A_eq=[[0.0, *weights]], b_eq=[value], bounds=[(None, None)] * 4, method="highs",
        )  # fmt: skip
        mine = next(item for item in bounds._steps if np.isclose(item.pair[1], step @ study.estimates))
        case = bounds._case(m, mine)
        assert (case.moments - case.slopes * value).max() == pytest.approx(programme.fun, abs=1e-8)


def test_with_one_earlier_period_the_fixed_length_interval_is_known() -> None:
    study = example(1, 2)
    low, high = Smoothness(study, FIRST).interval(0.2)
    row = np.array([1.0, 1.0, 0.0])  # a straight line through the earlier period is taken off
    spread = math.sqrt(row @ study.covariance @ row)
    reach = float(folded_quantile(np.array([0.2 / spread]), 0.05)[0]) * spread
    assert (low, high) == pytest.approx((row @ study.estimates - reach, row @ study.estimates + reach), abs=1e-9)


def test_under_a_straight_trend_the_interval_is_that_of_generalised_least_squares() -> None:
    study = example(4, 2)
    low, high = Smoothness(study, np.array([0.5, 0.5])).interval(0.0)
    times = np.array([-4.0, -3, -2, -1, 1, 2])
    design = np.column_stack([times, np.vstack([np.zeros((4, 2)), np.eye(2)])])
    inverse = np.linalg.inv(study.covariance)
    covariance = np.linalg.inv(design.T @ inverse @ design)
    fitted = covariance @ design.T @ inverse @ study.estimates
    weights = np.array([0.0, 0.5, 0.5])
    reach = 1.959963985 * math.sqrt(weights @ covariance @ weights)
    assert (low, high) == pytest.approx((weights @ fitted - reach, weights @ fitted + reach), abs=1e-7)


def test_no_combination_gives_a_shorter_fixed_length_interval() -> None:
    study, weights, m = example(4, 2, seed=8), np.array([0.5, 0.5]), 0.1
    low, high = Smoothness(study, weights).interval(m)
    generator = np.random.default_rng(0)
    times = np.arange(-4, 0)
    for _ in range(3000):
        free = generator.standard_normal(4) * generator.choice([0.1, 0.5, 1.0])
        free[3] = weights @ [1, 2] + free[:3] @ times[:3]  # no bias from a straight trend
        kinks = [sum(free[t] * max(k - times[t], 0) for t in range(4)) for k in (-3, -2, -1)]
        bias = m * (np.abs(kinks).sum() + 1.5 + 0.5)
        row = np.concatenate([free, weights])
        spread = math.sqrt(row @ study.covariance @ row)
        length = 2 * float(folded_quantile(np.array([bias / spread]), 0.05)[0]) * spread
        assert length > (high - low) * (1 - 1e-4)


@pytest.mark.parametrize("kind", ["relative", "smooth"])
def test_intervals_cover_at_the_worst_trend(kind: str) -> None:
    generator, held = np.random.default_rng(5), []
    base = example(3, 2)
    # A trend that bends as far as is allowed: steps of 0.5 before, and of 0.5 times m after.
    trend = {"relative": [1.0, 0.5, 0.5, 0.5, 1.0], "smooth": [0.9, 0.4, 0.1, 0.1, 0.4]}[kind]
    truth, weights = np.array([0.0, 0, 0, 1, 1]) + trend, np.array([0.5, 0.5])
    for _ in range(400):
        drawn = generator.multivariate_normal(truth, base.covariance)
        study = EventStudy(drawn[:3], drawn[3:], base.covariance)
        bounds = RelativeMagnitudes(study, weights) if kind == "relative" else Smoothness(study, weights)
        held.append(not bounds.excludes(1.0 if kind == "relative" else 0.2, 1.0))
    assert np.mean(held) > 0.925


def _panel(design: str, n: int = 2000):  # type: ignore[no-untyped-def]
    study, _ = DESIGNS[design](n=n, seed=3)
    answer = run_estimator(load_estimators()["difference_in_differences"], study)
    assert isinstance(answer, EffectEstimate)
    return study, answer


def _ask(study, estimate, **values):  # type: ignore[no-untyped-def]
    spec = load_sensitivities()["parallel_trend_bounds"]
    return spec.run(study, estimate, replace(spec.params(), **values), runner_for())


def test_a_large_effect_survives_and_diverging_trends_do_not() -> None:
    study, estimate = _panel("staggered_panel", 10_000)
    found = _ask(study, estimate)
    assert isinstance(found, SensitivityResult)
    assert found.status is Status.PASS, found.meaning
    assert found.value > 1
    assert set(found.table["restriction"]) == {"relative_magnitudes", "smoothness"}
    rows = found.table[found.table["effect"].str.startswith("mean") & (found.table["restriction"] == "smoothness")]
    assert (np.diff(rows["high"] - rows["low"]) > 0).all()
    study, _ = DESIGNS["diverging_trends"](n=10_000, seed=3)
    flat = study.with_column("y", (study.frame["y"] - 1.0 * study.frame["d"]).to_numpy(), Role.OUTCOME)
    estimate = run_estimator(load_estimators()["difference_in_differences"], flat)
    assert isinstance(estimate, EffectEstimate)
    assert estimate.interval is not None
    assert not estimate.interval.covers(0)  # there is no effect, only trends that differ
    found = _ask(flat, estimate)
    assert found.status is Status.WARN, found.meaning


def test_short_placebos_are_estimated_again_from_one_reference_period() -> None:
    study, varying = _panel("staggered_panel")
    spec = load_estimators()["difference_in_differences"]
    universal = run_estimator(spec, study, replace(spec.params(), base_period="universal"))
    assert isinstance(universal, EffectEstimate)
    assert _ask(study, varying).value == _ask(study, universal).value
    assert not np.allclose(
        varying.tables["event_study"]["estimate"][:2], universal.tables["event_study"]["estimate"][:2]
    )


@pytest.mark.parametrize("method", ["callaway_santanna", "event_study"])
def test_the_covariance_agrees_with_the_standard_errors(method: str) -> None:
    study, _ = DESIGNS["staggered_panel"](n=1000, seed=3)
    spec = load_estimators()["difference_in_differences"]
    answer = run_estimator(spec, study, replace(spec.params(), method=method))
    assert isinstance(answer, EffectEstimate)
    pairs = answer.tables["event_study_covariance"]
    own = pairs[pairs["event_time"] == pairs["other_event_time"]].set_index("event_time")["covariance"]
    errors = answer.tables["event_study"].set_index("event_time")["std_error"]
    assert np.sqrt(own[errors.index]).to_numpy() == pytest.approx(errors.to_numpy(), rel=1e-9)
    assert isinstance(_ask(study, answer), SensitivityResult)


def test_matched_panels_are_bounded_too() -> None:
    frame = pd.read_csv(ROOT / "tests" / "oracle" / "data" / "democracy_growth.csv")
    roles = {"outcome": "log_gdppc", "treatment": "dem", "unit": "country", "time": "year"}
    for se in ("influence", "bootstrap"):
        estimate = cqox.estimate("panel_matching", frame, roles, lag=3, leads=[0, 1], se=se)
        assert isinstance(estimate, EffectEstimate)
        found = cqox.sensitivity("parallel_trend_bounds", frame, roles, estimate)
        assert isinstance(found, SensitivityResult)
        assert set(found.table["effect"]) == {"mean effect at event times 0 to 1", "effect at event time 0"}


def test_without_earlier_periods_the_question_is_refused() -> None:
    study, _ = DESIGNS["staggered_panel"](n=600, seed=3)
    first = study.frame.loc[study.frame["d"] == 1].groupby("unit")["time"].min().min()
    late = study.take((study.frame["time"] >= first - 1).to_numpy())
    late = late.take(late.frame["time"].isin([first - 1, first]).to_numpy())
    late = replace(late, roles={role: names for role, names in late.roles.items() if role != Role.COVARIATES})
    spec = load_estimators()["difference_in_differences"]
    for method in ("auto", "callaway_santanna"):
        answer = run_estimator(spec, late, replace(spec.params(), method=method))
        assert isinstance(answer, EffectEstimate), answer
        refused = _ask(late, answer)
        assert isinstance(refused, Refusal)
        assert refused.remedy
