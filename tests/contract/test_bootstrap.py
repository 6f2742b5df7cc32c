"""The bootstrap: fast draws are those of refitting, intervals are those of the books, and skewness is met."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Declaration
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.resampling import DrawnEffect, histogram, resampling_groups, weight_blocks
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.runner import run_estimator, runner_for
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import build_params
from cqox_assets.study import Role, Study
from tests.contract.helpers import SEED, answer, plus_covariate, run, without

CATALOGUE = load_estimators()
BOOT = CATALOGUE["bootstrap"]
FAST = [name for name, spec in CATALOGUE.items() if spec.replicates is not None]


def _study(design: str = "confounded_linear", n: int = 400) -> Study:
    return DESIGNS[design](n, SEED)[0]


def _refit(name: str, study: Study, weights: np.ndarray, **values: object) -> float:
    """The estimator itself, with the resampling weights as sampling weights."""
    own = study.weights()
    combined = weights * (np.ones(len(study)) if own is None else own)
    spec = CATALOGUE[name]
    found = run_estimator(spec, study.with_column("w*", combined, Role.WEIGHT), build_params(spec.params, values))
    assert isinstance(found, EffectEstimate)
    return found.estimate


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("design", ["confounded_linear", "weighted_sample"])
def test_matrix_products_draw_what_refitting_draws(name: str, design: str) -> None:
    study = _study(design)
    spec = CATALOGUE[name]
    copies = spec.replicates(study, spec.params())  # type: ignore[misc]
    assert copies is not None
    assert copies.estimate == pytest.approx(answer(spec, study).estimate, rel=1e-9)
    group = np.arange(len(study))
    weights = np.random.default_rng(1).standard_exponential((5, len(study)))
    value, error = copies.draws(weights, group, errors=True)
    assert value == pytest.approx([_refit(name, study, own) for own in weights], rel=1e-8)
    assert np.isfinite(error).all()
    influence = copies.influence(group)
    assert np.sqrt(influence @ influence) == pytest.approx(answer(spec, study).std_error, rel=0.15)
    step = 1 + 1e-4 * (group == 7)
    moved = copies.draws(step[None, :], group, errors=False)[0][0] - copies.estimate
    assert moved == pytest.approx(1e-4 * influence[7], rel=1e-2)
    grouped = np.arange(len(study)) % 40
    assert copies.influence(grouped) == pytest.approx(np.bincount(grouped, weights=influence))
    few = np.random.default_rng(2).standard_exponential((4, 40))
    assert copies.draws(few, grouped, errors=False)[0] == pytest.approx(
        copies.draws(few[:, grouped], group, errors=False)[0], rel=1e-10
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ols", {"interactions": ("x0", "x2")}),
        ("ols", {"interactions": ("x0", "x2"), "at": {"x0": 1.5}}),
        ("regression_adjustment", {"estimand": "ATT"}),
        ("g_computation", {"estimand": "ATC"}),
    ],
)
def test_matrix_products_follow_the_parameters(name: str, values: dict[str, object]) -> None:
    study, spec = _study(), CATALOGUE[name]
    copies = spec.replicates(study, build_params(spec.params, values))  # type: ignore[misc]
    assert copies is not None
    weights = np.random.default_rng(1).standard_exponential((3, len(study)))
    drawn = copies.draws(weights, np.arange(len(study)), errors=False)[0]
    assert drawn == pytest.approx([_refit(name, study, own, **values) for own in weights], rel=1e-8)


def test_a_covariate_that_does_not_vary_within_an_arm_stays_fast_and_equal() -> None:
    study = _study()
    level = np.where(study.column(Role.TREATMENT) == 1, 0.0, np.arange(len(study)) % 2)
    odd = plus_covariate(plus_covariate(study, "level", level), "copy", 2 * study.frame["x0"].to_numpy())
    spec = CATALOGUE["regression_adjustment"]
    copies = spec.replicates(odd, spec.params())  # type: ignore[misc]
    assert copies is not None
    assert copies.estimate == pytest.approx(answer(spec, odd).estimate, rel=1e-8)


def test_huge_and_tiny_scales_keep_their_digits() -> None:
    study = _study()
    for scale in (1e-12, 1e12):
        scaled = replace(
            study, frame=study.frame.assign(y=study.frame["y"] * scale + scale, x3=study.frame["x3"] * scale)
        )
        outcome, plain = answer(BOOT, scaled, draws=200), answer(BOOT, study, draws=200)
        assert outcome.estimate == pytest.approx(plain.estimate * scale, rel=1e-6)


def test_fast_and_slow_draws_have_one_distribution() -> None:
    study = _study(n=300)
    fast = answer(BOOT, study, of="ols", draws=2000)
    spec = replace(CATALOGUE["ols"], replicates=None)
    context = runner_for()
    assert context.catalogue is not None
    known = {**context.catalogue(study), "ols": spec}
    refitted = BOOT.run(
        study, build_params(BOOT.params, {"of": "ols", "draws": 250}), replace(context, catalogue=lambda _: known)
    )
    assert isinstance(refitted, EffectEstimate)
    assert refitted.std_error == pytest.approx(fast.std_error, rel=0.16)
    assert "250 draws of ols" in refitted.inference


def test_groups_of_rows_vary_as_rows_do() -> None:
    study = _study("randomised_trial", 12_000)
    grouped = np.mean([answer(BOOT, study, of="ols", seed=seed, draws=500).std_error for seed in range(6)])
    assert grouped == pytest.approx(answer(CATALOGUE["ols"], study).std_error, rel=0.05)
    assert "2000 random groups" in answer(BOOT, study, of="ols", draws=50).inference
    group = resampling_groups(np.arange(5000), None, 2000, 1)
    assert group.max() + 1 == 1667
    assert np.bincount(group).max() == 3


@pytest.mark.parametrize("scheme", ["pairs", "bayesian"])
def test_schemes_agree_with_theory(scheme: str) -> None:
    study = _study("randomised_trial", 900)
    outcome = answer(BOOT, study, of="difference_in_means", scheme=scheme)
    assert outcome.std_error == pytest.approx(answer(CATALOGUE["difference_in_means"], study).std_error, rel=0.08)
    assert scheme.capitalize()[:4] in outcome.inference or scheme in outcome.inference


def test_clusters_are_drawn_whole() -> None:
    study = _study("clustered_trial", 2000)
    outcome, own = answer(BOOT, study), answer(CATALOGUE["regression_adjustment"], study)
    assert outcome.std_error == pytest.approx(own.std_error, rel=0.12)
    assert "cluster bootstrap of 200 clusters" in outcome.inference
    assert answer(BOOT, study, scheme="pairs").std_error < 0.7 * outcome.std_error
    assert answer(BOOT, study, scheme="bayesian").std_error == pytest.approx(outcome.std_error, rel=0.12)
    refused = run(BOOT, without(study, Role.CLUSTER), scheme="cluster")
    assert isinstance(refused, Refusal)
    assert refused.code == "missing_role"


def test_an_estimator_without_a_fast_way_is_run_once_per_draw() -> None:
    study = _study(n=300)
    outcome = answer(BOOT, study, of="ipw", draws=100, interval="studentised")
    assert outcome.estimate == answer(CATALOGUE["ipw"], study).estimate
    assert outcome.std_error == pytest.approx(answer(CATALOGUE["ipw"], study).std_error, rel=0.35)
    bayesian = answer(BOOT, study, of="ipw", draws=100, scheme="bayesian")
    assert bayesian.std_error == pytest.approx(outcome.std_error, rel=0.3)


def test_panels_are_drawn_by_unit() -> None:
    study = _study("staggered_panel", 800)
    outcome = answer(BOOT, study, of="difference_in_differences", draws=40)
    own = answer(CATALOGUE["difference_in_differences"], study)
    assert [effect.estimate for effect in outcome.effects] == [effect.estimate for effect in own.effects]
    assert outcome.std_error == pytest.approx(own.std_error, rel=0.4)
    assert outcome.tables["draws"]["effect"].nunique() == len({str(sorted(e.at.items())) for e in own.effects})


def test_a_repeated_treatment_is_resampled_as_well() -> None:
    study = DESIGNS["repeated_treatment"](400, SEED)[0]
    outcome = answer(BOOT, study, draws=80)
    assert outcome.estimand == "regime_contrast"
    assert "g_computation" in outcome.inference


def test_three_arms_and_continuous_treatments() -> None:
    three = _study("three_arms", 600)
    outcome = answer(BOOT, three, draws=300)
    assert {effect.at["arm"] for effect in outcome.effects} == {"low", "high"}
    generator = np.random.default_rng(1)
    dose = generator.standard_normal(500)
    frame = pd.DataFrame({"y": 2 * dose + generator.standard_normal(500), "d": dose})
    slope = cqox.estimate("bootstrap", frame, {"outcome": "y", "treatment": "d"})
    assert isinstance(slope, EffectEstimate)
    assert slope.estimand == "slope"
    assert slope.interval is not None
    assert slope.interval.covers(2.0)


def test_tables_are_ready_to_be_drawn() -> None:
    outcome = answer(BOOT, _study(), draws=500, interval="studentised")
    draws, bins, intervals = (outcome.tables[name] for name in ("draws", "histogram", "intervals"))
    assert len(draws) == 500
    assert draws["estimate"].std(ddof=1) == pytest.approx(outcome.std_error)
    assert bins["count"].sum() == 500
    assert (bins["density"] * (bins["high"] - bins["low"])).sum() == pytest.approx(1)
    assert set(intervals["kind"]) == {"percentile", "basic", "normal", "bca", "studentised"}
    chosen = intervals.loc[intervals["chosen"]].iloc[0]
    assert outcome.interval is not None
    assert (chosen["low"], chosen["high"]) == (outcome.interval.low, outcome.interval.high)


def test_intervals_are_those_of_scipy() -> None:
    from scipy import stats

    values = np.random.default_rng(3).standard_exponential(60)
    found = {}
    for kind, name in (("percentile", "percentile"), ("basic", "basic"), ("bca", "BCa")):
        own = stats.bootstrap((values,), np.mean, n_resamples=20_000, method=name, rng=np.random.default_rng(4))
        draws = own.bootstrap_distribution
        drawn = DrawnEffect(values.mean(), draws, influence=values - values.mean())
        found[kind] = drawn.interval(kind, 0.95)
        assert found[kind] == pytest.approx(tuple(own.confidence_interval), rel=2e-3)
    assert found["bca"][1] > found["percentile"][1]


@pytest.mark.parametrize("kind", ["percentile", "basic", "normal", "bca", "studentised"])
def test_p_values_invert_their_intervals(kind: str) -> None:
    generator = np.random.default_rng(5)
    draws, errors = 1 + 0.3 * generator.standard_exponential(20_000), 0.2 + 0.1 * generator.random(20_000)
    drawn = DrawnEffect(1.2, draws, 0.25, errors, generator.standard_exponential(100))
    for level in (0.8, 0.95):
        for end in drawn.interval(kind, level):
            assert drawn.p_value(kind, end) == pytest.approx(1 - level, abs=0.01)


def test_skewed_outcomes_need_more_than_percentiles() -> None:
    """With about 15 treated units of exponential noise percentile intervals are too short, studentised ones are not."""
    spec, missed = CATALOGUE["difference_in_means"], {"percentile": 0, "bca": 0, "studentised": 0}
    for draw in range(500):
        study, truth = DESIGNS["skewed_outcome"](150, SEED + draw)
        copies = spec.replicates(study, spec.params())  # type: ignore[misc]
        assert copies is not None
        group = np.arange(150)
        weights = next(weight_blocks(150, 400, draw, bayesian=False))
        values, errors = copies.draws(weights, group, errors=True)
        influence = copies.influence(group)
        own = float(np.sqrt(influence @ influence))
        drawn = DrawnEffect(copies.estimate, values, own, errors, influence)
        for kind in missed:
            low, high = drawn.interval(kind, 0.95)
            missed[kind] += not low <= truth["ATE"] <= high
    assert missed["percentile"] > 0.07 * 500
    assert missed["studentised"] < 0.07 * 500
    assert missed["studentised"] < missed["bca"] < missed["percentile"]


def test_infinite_variance_is_noticed() -> None:
    outcome = answer(BOOT, _study("heavy_tails", 3000), draws=500)
    found = outcome.diagnostic("largest_influence")
    assert found is not None
    assert found.status in (Status.WARN, Status.FAIL)
    calm = answer(BOOT, _study("skewed_outcome", 3000), draws=500).diagnostic("largest_influence")
    assert calm is not None
    assert calm.status is Status.PASS


def test_more_than_a_tenth_of_failed_draws_is_refused() -> None:
    generator = np.random.default_rng(1)
    frame = pd.DataFrame({"y": generator.standard_normal(60), "d": (np.arange(60) < 2) * 1.0})
    study = Study(frame, {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",)}, arms=("no", "yes"))
    outcome = run(BOOT, study, of="difference_in_means", draws=300)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "bootstrap_failed"
    assert "bayesian" in outcome.remedy
    assert isinstance(run(BOOT, study, of="difference_in_means", scheme="bayesian", draws=300), EffectEstimate)


def test_draws_that_lose_a_level_are_refitted_and_none_is_lost() -> None:
    study = plus_covariate(_study(n=300), "rare", (np.arange(300) < 4) * 1.0)
    outcome = answer(BOOT, study, of="ols", draws=400)
    assert len(outcome.tables["draws"]) == 400
    found = outcome.diagnostic("failed_draws")
    assert found is not None
    assert found.value == 0


def test_the_budget_ends_a_slow_bootstrap() -> None:
    started = time.monotonic()
    outcome = answer(BOOT, _study(n=200), of="ipw", draws=20_000, budget_seconds=0.2, interval="percentile")
    assert time.monotonic() - started < 30
    assert any("seconds allowed" in notice for notice in outcome.notices)
    assert 100 <= len(outcome.tables["draws"]) < 20_000


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"of": "witchcraft"}, "known are"),
        ({"of": "bootstrap"}, "itself"),
        ({"of": "ols", "of_params": {"zz": 1}}, "'zz' is not known"),
        ({"of": "ols", "of_params": {"inference": "bootstrap"}}, "does itself"),
        ({"inference": "bootstrap"}, "does not apply"),
        ({"scheme": "bayesian", "interval": "studentised"}, "no meaning"),
        ({"scheme": "bayesian", "of": "synthetic_control"}, "takes no weights"),
    ],
)
def test_wrong_parameters_are_said(values: dict[str, object], words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        run(BOOT, _study(n=200), **values)


def test_the_estimator_is_the_first_of_the_plan_and_its_refusal_is_passed_on() -> None:
    assert "regression_adjustment" in answer(BOOT, _study(), draws=50).inference
    trial = replace(_study(), declaration=Declaration(design="trial"))
    assert answer(BOOT, trial, draws=50).effects == answer(BOOT, _study(), draws=50).effects
    refused = run(BOOT, _study(), of="iv")
    assert isinstance(refused, Refusal)
    assert refused.code == "missing_role"
    assert refused.reason.startswith("iv:")


def test_weights_are_multinomial_or_dirichlet() -> None:
    pairs = np.concatenate(list(weight_blocks(50, 3000, 1, bayesian=False)))
    assert pairs.shape == (3000, 50)
    assert (pairs.sum(axis=1) == 50).all()
    assert pairs.var() == pytest.approx(1 - 1 / 50, rel=0.05)
    dirichlet = np.concatenate(list(weight_blocks(50, 3000, 1, bayesian=True)))
    assert dirichlet.sum(axis=1) == pytest.approx(np.full(3000, 50))
    assert dirichlet.var() == pytest.approx((50 - 1) / (50 + 1), rel=0.05)


def test_draws_of_one_number_make_one_bin() -> None:
    for value in (0.0, 3.0, 1e12):
        bins = histogram(np.full(20, value))
        assert len(bins) == 1
        assert bins["count"].iloc[0] == 20


@pytest.mark.parametrize("name", ["regression_adjustment", "ols", "g_computation"])
def test_a_sparse_indicator_that_resamples_lack_is_left_out_there(name: str) -> None:
    generator = np.random.default_rng(0)
    x, d = generator.standard_normal(160), np.arange(160) % 2
    frame = pd.DataFrame({"x": x, "d": d, "y": d + x + generator.standard_normal(160), "rare": np.arange(160) < 2})
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x", "rare"]}
    outcome = cqox.estimate("bootstrap", frame, roles, of=name, draws=200)
    assert isinstance(outcome, EffectEstimate), outcome
    plain = cqox.estimate(name, frame, roles)
    assert outcome.std_error == pytest.approx(plain.std_error, rel=0.25)


def test_resampling_assumes_what_the_resampled_estimator_assumes():
    """Else a naive comparison would count as soon as it is drawn anew."""
    outcome = answer(BOOT, _study(n=200), of="difference_in_means", draws=200)
    assert {"random_assignment", "resampling"} <= {item.name for item in outcome.assumptions}
