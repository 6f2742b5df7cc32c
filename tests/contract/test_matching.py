"""Matching against slow, obvious implementations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from cqox_assets.estimators import propensity_matching
from cqox_assets.numerics.abadie_imbens import LocalDeviation
from cqox_assets.numerics.matching import Matches, first_of_ties, kernel_scores, nearest_points, nearest_scores, whiten
from cqox_assets.numerics.pairing import greedy_pairs, optimal_pairs
from cqox_assets.result import Refusal
from cqox_assets.study import Role
from tests.contract.helpers import answer, run, small

SPEC = propensity_matching.SPEC
scores = st.lists(st.integers(-8, 8).map(lambda value: value / 4), min_size=1, max_size=14).map(np.array)


def _matrix(matches: Matches) -> np.ndarray:
    weight = np.zeros((matches.sources, matches.targets))
    for source, target, share in matches.chunks():
        weight[source, target] += share
    return weight


def _naive(distance: np.ndarray, ratio: int, radius: float) -> np.ndarray:
    weight = np.zeros_like(distance)
    for i, row in enumerate(distance):
        allowed = row <= radius
        if allowed.any():
            chosen = allowed & (row <= np.sort(row[allowed])[: min(ratio, allowed.sum())][-1] + 1e-9)
            weight[i, chosen] = 1 / chosen.sum()
    return weight


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(source=scores, target=scores, ratio=st.integers(1, 4), radius=st.sampled_from([np.inf, 0.3, 1.0]))
def test_nearest(source: np.ndarray, target: np.ndarray, ratio: int, radius: float) -> None:
    distance = np.abs(source[:, None] - target)
    wanted = _naive(distance, ratio, radius)
    found = nearest_scores(source, target, ratio, radius=radius)
    assert np.allclose(_matrix(found), wanted)
    limit = None if np.isinf(radius) else (source, target, radius)
    assert np.allclose(_matrix(nearest_points(source[:, None], target[:, None], ratio, scores=limit)), wanted)
    values = np.arange(len(target)) ** 2.0 + 5
    matched = wanted.sum(1) > 0
    assert np.allclose(found.impute(values)[matched], (wanted @ values)[matched])
    assert np.isnan(found.impute(values)[~matched]).all()
    assert np.allclose(found.load()[0], wanted.sum(0))
    assert np.allclose(found.load()[1], (wanted**2).sum(0))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(source=scores, target=scores, radius=st.sampled_from([np.inf, 0.6]), ratio=st.integers(1, 2))
def test_optimal(source: np.ndarray, target: np.ndarray, radius: float, ratio: int) -> None:
    distance = np.abs(np.repeat(source, ratio)[:, None] - target)
    cost = np.where(distance <= radius, distance, 1e6)
    rows, columns = linear_sum_assignment(cost)
    wanted = cost[rows, columns]
    found = optimal_pairs(source, target, ratio, radius=radius)
    own = np.abs(source[found.source] - target[found.target])
    assert len(own) == (wanted < 1e6).sum()
    assert own.sum() == pytest.approx(wanted[wanted < 1e6].sum(), abs=1e-6)
    assert len(set(found.target.tolist())) == len(found.target)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(source=scores, target=scores, radius=st.sampled_from([np.inf, 0.6]), ratio=st.integers(1, 2))
def test_greedy(source: np.ndarray, target: np.ndarray, radius: float, ratio: int) -> None:
    free, wanted = list(range(len(target))), []
    for _ in range(ratio):
        for i in np.argsort(-source, kind="stable"):
            near = [j for j in free if abs(source[i] - target[j]) <= radius]
            if near:
                j = min(near, key=lambda k: (abs(source[i] - target[k]), k))
                free.remove(j)
                wanted.append((i, j))
    found = greedy_pairs(source, target, ratio, radius=radius)
    assert list(zip(found.source.tolist(), found.target.tolist(), strict=True)) == wanted


def test_first_of_ties_and_kernel() -> None:
    source, target = np.array([0.0, 1.0]), np.array([1.0, 0.2, -0.2, 1.0, 3.0])
    found = first_of_ties(nearest_scores(source, target, 1), source, target, 1)
    assert found.target.tolist() == [1, 0]
    weight = np.maximum(1 - ((source[:, None] - target) / 0.9) ** 2, 0)
    wanted = weight / weight.sum(1, keepdims=True)
    kernel = kernel_scores(source, target, 0.9)
    assert np.allclose(_matrix(kernel), wanted)
    assert np.allclose(kernel.impute(target), wanted @ target)
    assert np.allclose(kernel.load()[1], (wanted**2).sum(0))


def test_whitened_distances_are_mahalanobis() -> None:
    points = np.random.default_rng(3).standard_normal((40, 3)) @ np.array([[2, 1, 0], [0, 1, 0.3], [0, 0, 5]])
    gap = points[0] - points[1]
    white = whiten(points)
    wanted = gap @ np.linalg.solve(np.cov(points.T), gap)
    assert np.sum((white[0] - white[1]) ** 2) == pytest.approx(wanted, rel=1e-2)  # ddof 0 scale, ddof 1 covariance


def test_local_deviation_is_that_of_the_two_nearest() -> None:
    treated = np.array([1, 1, 1, 1, 0, 0, 0])
    score = np.array([0.0, 0.1, 0.3, 2.0, 0.0, 1.0, 1.5])
    values = np.array([1.0, 2.0, 4.0, 9.0, 1.0, 5.0, 6.0])
    wanted = [(1 - 3) ** 2, (2 - 2.5) ** 2, (4 - 1.5) ** 2, (9 - 3) ** 2, (1 - 5.5) ** 2, (5 - 3.5) ** 2, 3.0**2]
    assert LocalDeviation(treated, score).of(values) ** 2 == pytest.approx(np.array(wanted) * 2 / 3)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "kernel"},
        {"method": "mahalanobis", "ratio": 2},
        {"method": "optimal"},
        {"replacement": False, "estimand": "ATC"},
        {"estimand": "ATE", "ratio": 3},
        {"bias_adjustment": True},
        {"standard_error": "abadie_imbens_homoskedastic", "estimand": "ATC"},
        {"trim": 0.1},
    ],
    ids=str,
)
def test_every_variant_recovers_the_effect(values: dict[str, object]) -> None:
    outcome = answer(SPEC, small("confounded_linear", 3000), **values)
    assert outcome.std_error is not None
    assert 0.02 < outcome.std_error < 0.12
    assert abs(outcome.estimate - 1) < 4 * outcome.std_error
    smd = outcome.tables["balance"]
    assert smd["after"].max() < smd["before"].max()


def test_caliper_leaves_units_unmatched_and_says_so() -> None:
    study = small("no_overlap", 1500)
    narrow, any_distance = answer(SPEC, study, caliper=0.01), answer(SPEC, study, caliper=None)
    assert narrow.diagnostic("matched_share").value < 1  # type: ignore[union-attr, operator]
    assert any_distance.diagnostic("matched_share").value == 1  # type: ignore[union-attr]
    known = study.with_column("e", np.where(study.column(Role.TREATMENT) == 1, 0.9, 0.1), Role.PROPENSITY)
    outcome = run(SPEC, known)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "no_matches"


def test_bootstrap_of_nearest_matches_is_refused() -> None:
    outcome = run(SPEC, small("randomised_trial"), inference="bootstrap")
    assert isinstance(outcome, Refusal)
    assert outcome.code == "bootstrap_invalid"


@pytest.mark.slow
@pytest.mark.parametrize("estimand", ["ATT", "ATE", "ATC"])
def test_standard_error_accounts_for_the_estimated_propensity(estimand: str) -> None:
    """Abadie & Imbens 2016: the average standard error is the spread of the estimates; the unadjusted one is larger."""
    draws = [small.__wrapped__("confounded_linear", 1200, seed) for seed in range(250)]
    found = [answer(SPEC, study, estimand=estimand, caliper=None) for study in draws]
    spread = np.std([item.estimate for item in found], ddof=1)
    assert np.mean([item.std_error for item in found]) == pytest.approx(spread, rel=0.15)
    known = [
        answer(SPEC, study, estimand=estimand, caliper=None, standard_error="abadie_imbens_known").std_error
        for study in draws[:50]
    ]
    assert np.mean(known) > 1.1 * spread  # type: ignore[arg-type]
