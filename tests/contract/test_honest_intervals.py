"""Standard errors that keep their level in small samples, and diagnostics of straight lines and of assignment."""

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.diagnostics.specification import _wald, assignment_test, reset_test
from cqox_assets.measures import Status
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.time_series import fit_series
from cqox_assets.result import EffectEstimate
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role
from tests.contract.helpers import SPECS, answer, name_of, small, without

CATALOGUE = load_estimators()
RA, ITS = CATALOGUE["regression_adjustment"], CATALOGUE["interrupted_time_series"]
DID = CATALOGUE["difference_in_differences"]


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.example is not None], ids=name_of)
def test_the_example_of_an_entry_is_answered(spec):
    assert spec.question
    assert spec.formula
    assert spec.reading
    edges = {} if spec.example.edges is None else {"edges": cqox.read_table(spec.example.edges).frame}
    frame = cqox.read_table(spec.example.data).frame
    outcome = cqox.estimate(spec.name, frame, spec.example.roles, tables=edges, **spec.example.params)
    assert isinstance(outcome, EffectEstimate), outcome


def test_few_clusters_enlarge_the_errors_of_group_time_effects():
    study = small("clustered_panel", 500)
    plain, corrected = answer(DID, study, se="influence"), answer(DID, study)
    assert corrected.estimate == plain.estimate
    # 25 clusters: cohorts of about 6 are enlarged by sqrt(6 / 5), the never treated by sqrt(13 / 10).
    assert 1.05 < corrected.std_error / plain.std_error < 1.25
    many = small("staggered_panel", 4000)
    ratio = answer(DID, many).std_error / answer(DID, many, se="influence").std_error
    assert 1 < ratio < 1.01


def test_cohorts_of_one_cluster_keep_finite_errors():
    study = small("staggered_panel", 500)
    cohort = study.column(Role.TREATMENT)
    unit = study.column(Role.UNIT)
    starters = np.unique(unit[cohort == 1])
    rows = np.isin(unit, starters[2:], invert=True)
    outcome = answer(DID, study.take(np.flatnonzero(rows)), est_method="reg")
    assert outcome.std_error is not None


def test_population_errors_count_the_covariates():
    study = small("randomised_trial", 2000)
    found = {se: answer(RA, study, se=se).std_error for se in ("auto", "HC0", "HC2", "HC0_superpopulation")}
    assert found["auto"] > 1.01 * found["HC2"] > found["HC0"]
    assert found["auto"] == pytest.approx(found["HC0_superpopulation"], rel=0.03)
    bare = without(study, Role.COVARIATES)
    assert answer(RA, bare).std_error == pytest.approx(answer(RA, bare, se="HC2").std_error)
    clustered = small("clustered_trial", 1000)
    error = answer(RA, clustered).std_error
    assert error == pytest.approx(answer(RA, clustered, se="CR1").std_error, rel=0.1)
    assert "population" in answer(RA, clustered).inference


def test_a_row_of_leverage_one_is_said():
    study = small("randomised_trial", 200)
    lone = np.zeros(len(study))
    lone[np.flatnonzero(study.column(Role.TREATMENT) == 1)[0]] = 1.0
    outcome = answer(RA, study.with_column("lone", lone, Role.COVARIATES))
    assert outcome.std_error is not None
    assert any("leverage one" in notice or "Left out" in notice for notice in outcome.notices)


def _noise(n: int, carry: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    noise = np.zeros(n)
    for t in range(1, n):
        noise[t] = carry * noise[t - 1] + generator.standard_normal()
    return noise


def test_errors_of_a_series_follow_what_carries_over():
    n = 4000
    design = np.column_stack([np.ones(n), np.arange(n) / n])
    fits = {carry: fit_series(design, _noise(n, carry, 3), counts=False, offset=None) for carry in (0.0, 0.6)}
    for carry, fit in fits.items():
        assert fit.carry_over() == pytest.approx(carry, abs=0.05)
        covariance, df = fit.autoregressive()
        assert df == pytest.approx(n * (1 - carry) / (1 + carry) - 2, rel=0.12)
        # The variance of a mean grows by (1 + r) / (1 - r).
        wanted = fit.covariance("scaled", 0) * (1 + carry) / (1 - carry)
        assert np.sqrt(np.diag(covariance)) == pytest.approx(np.sqrt(np.diag(wanted)), rel=0.06)


def test_carry_over_is_not_taken_for_less_because_trend_and_season_were_fitted():
    n = 60
    time = np.arange(n)
    season = (time[:, None] % 12 == np.arange(1, 12)) * 1.0
    design = np.column_stack([np.ones(n), time, season])
    found = [fit_series(design, _noise(n, 0.0, seed), counts=False, offset=None).carry_over() for seed in range(40)]
    assert abs(np.mean(found)) < 0.08


def test_lags_ask_for_newey_west_and_counts_carry_over_as_well():
    study = small("interrupted_series", 240)
    assert "carries over" in answer(ITS, study).inference
    assert "Newey-West" in answer(ITS, study, lags=4).inference
    assert answer(ITS, study, lags=4).std_error == answer(ITS, study, se="hac_nk", lags=4).std_error
    n = 200
    time = np.arange(n) * 1.0
    frame = pd.DataFrame({"y": np.random.default_rng(2).poisson(50.0, n), "time": time, "d": (time > 99) * 1})
    roles = {"outcome": "y", "treatment": "d", "time": "time"}
    counts = cqox.estimate("interrupted_time_series", frame, roles, family="quasi_poisson")
    own = cqox.estimate("interrupted_time_series", frame, roles, family="quasi_poisson", se="model")
    assert counts.std_error == pytest.approx(own.std_error, rel=0.25)


def test_bends_are_found_and_straight_lines_are_not():
    generator = np.random.default_rng(8)
    x = generator.standard_normal((400, 2))
    straight, bent = x @ [1.0, 0.5], x @ [1.0, 0.5] + 0.4 * x[:, 0] ** 2
    p_values = []
    for draw in range(60):
        noise = np.random.default_rng(draw).standard_normal(400)
        p_values.append(reset_test(fit_linear(with_constant(x), straight + noise))[0])
    assert 0.2 < np.mean(p_values) < 0.8
    assert np.mean(np.array(p_values) < 0.05) < 0.2
    assert reset_test(fit_linear(with_constant(x), bent + generator.standard_normal(400)))[0] < 0.01
    for scale in (1e-12, 1e12):
        again = reset_test(fit_linear(with_constant(x), scale * (bent + generator.standard_normal(400))))
        assert again[0] < 0.01
    cluster = np.arange(400) // 4
    assert reset_test(fit_linear(with_constant(x), bent + generator.standard_normal(400)), cluster)[0] < 0.05


def test_what_cannot_be_tested_is_not_run():
    generator = np.random.default_rng(1)
    arm = (generator.random(60) < 0.5) * 1.0
    assert reset_test(fit_linear(with_constant(arm), arm + generator.standard_normal(60))) is None
    assert reset_test(fit_linear(with_constant(arm), np.ones(60))) is None
    assert assignment_test(np.ones((60, 2)), arm) is None
    assert assignment_test(np.empty((60, 0)), arm) is None
    assert assignment_test(generator.standard_normal((60, 40)), arm) is None
    assert assignment_test(generator.standard_normal((60, 4)), arm, np.arange(60) // 10) is None


def test_rows_without_weight_are_no_observations() -> None:
    """Neither the number of rows nor what the rows without weight look like changes the test."""
    generator = np.random.default_rng(4)
    x = np.concatenate([np.repeat([0.0, 1.0, 2.0], 8), generator.standard_normal(6)])
    outcome, cluster = x**2 + generator.standard_normal(30), np.arange(30) // 2
    weight = np.concatenate([np.ones(24), np.zeros(6)])
    whole = fit_linear(with_constant(x[:, None]), outcome, weight)
    kept = fit_linear(with_constant(x[:24, None]), outcome[:24])
    for groups in (None, cluster):
        with_idle_rows, without = reset_test(whole, groups), reset_test(kept, None if groups is None else groups[:24])
        assert with_idle_rows is not None
        assert without is not None
        assert with_idle_rows[0] == pytest.approx(without[0], rel=1e-9)


def test_terms_that_only_rounding_tells_apart_are_not_tested_together() -> None:
    """A covariance is symmetric but for rounding; which triangle is read must not decide between answer and crash."""
    nearly = np.array([[1.0, 1 + 2e-15], [1 - 2e-15, 1.0]])
    assert _wald(np.array([1.0, 1.1]), nearly, "both") is None
    p_value, _ = _wald(np.array([1.0, 1.1]), np.array([[2.0, 0.5], [0.5, 1.0]]), "both")
    statistic = np.array([1.0, 1.1]) @ np.linalg.inv([[2.0, 0.5], [0.5, 1.0]]) @ np.array([1.0, 1.1])
    assert p_value == pytest.approx(np.exp(-statistic / 2))
    for name in ("ols", "difference_in_means"):
        found = answer(CATALOGUE[name], without(small("randomised_trial"), Role.COVARIATES))
        item = found.diagnostic("specification_p" if name == "ols" else "assignment_p")
        assert item.status is Status.NOT_RUN
        assert not item.applies


def test_assignment_that_follows_covariates_is_found():
    generator = np.random.default_rng(6)
    x = generator.standard_normal((500, 3))
    x = np.column_stack([x, x[:, 0]])  # a copy adds nothing
    arms = (generator.random((100, 500)) < 0.3) * 1.0
    p_values = np.array([assignment_test(x, arm)[0] for arm in arms])
    assert 0.3 < p_values.mean() < 0.7
    assert (p_values < 0.05).mean() < 0.15
    assert assignment_test(x, (generator.random(500) < 1 / (1 + np.exp(-x[:, 0]))) * 1.0)[0] < 1e-4
    # Whole clusters that were assigned together are no 500 units; their covariates are alike.
    cluster = np.arange(500) // 10
    shared = x + 2 * generator.standard_normal((50, 4))[cluster]
    together = [(generator.random(50) < 0.5)[cluster] * 1.0 for _ in range(60)]
    ignoring = np.mean([assignment_test(shared, arm)[0] < 0.05 for arm in together])
    knowing = np.mean([assignment_test(shared, arm, cluster)[0] < 0.05 for arm in together])
    assert knowing < 0.2 < ignoring


@pytest.mark.parametrize("name", ["ols", "regression_adjustment"])
def test_a_model_that_fits_does_not_warn(name):
    found = [answer(CATALOGUE[name], DESIGNS["confounded_linear"](800, seed)[0]) for seed in range(12)]
    assert sum(item.diagnostic("specification_p").status is Status.WARN for item in found) <= 2
