"""Shared mathematics: against closed forms, brute force and other libraries."""

import numpy as np
import pytest

from cqox_assets.diagnostics.balance import standardised_differences
from cqox_assets.diagnostics.specification import assignment_test, reset_test
from cqox_assets.errors import CqoxError
from cqox_assets.numerics.boosting import crossfit_boosting
from cqox_assets.numerics.bootstrap import resampled_rows
from cqox_assets.numerics.crossfit import EmptyFoldError, Folded
from cqox_assets.numerics.folds import content_folds, index_folds, random_folds
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.logit import SeparationError, expit, fit_logit
from cqox_assets.numerics.ridge import UNDERSMOOTHING, FoldedDesign, crossfit_ridge
from cqox_assets.numerics.ridge_logit import crossfit_ridge_logit
from cqox_assets.numerics.scores import (
    augmented_contrast,
    balancing_weights,
    hajek_contrast,
    horvitz_thompson_contrast,
    inside_support,
    partialled_out,
)
from cqox_assets.numerics.spline import SplineBasis


@pytest.fixture
def rows():
    generator = np.random.default_rng(7)
    x = generator.standard_normal((600, 4))
    x[:, 3] = generator.random(600) < 0.4
    d = (generator.random(600) < expit(0.6 * x[:, 0] - 0.4 * x[:, 3])).astype(float)
    y = x[:, 0] + np.sin(x[:, 1]) + (1 + 0.5 * x[:, 2]) * d + generator.standard_normal(600)
    return x, d, y


def test_spline_spans_lines_kinks_and_products(rows):
    x, _, _ = rows
    basis = SplineBasis.fit(x)
    columns = basis.columns(x)
    assert columns.shape == (600, basis.width)
    assert np.allclose(columns[:, 1:].mean(0), 0, atol=1e-12)
    for target in (2 + 3 * x[:, 2], np.clip(x[:, 0], -3.9, 3.9) * x[:, 1]):
        fitted = columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
        assert np.max(np.abs(fitted - target)) < 0.05
    assert len(basis.knots[3]) == 0  # a coin has no kink


def test_spline_stays_affordable_with_many_covariates():
    x = np.random.default_rng(0).standard_normal((400, 60))
    score = np.arange(60.0)
    basis = SplineBasis.fit(x, score)
    assert basis.width <= 300
    assert {a for pair in basis.pairs for a in pair} == set(range(46, 60))


def test_constant_covariate_gives_no_infinite_column():
    x = np.column_stack([np.full(50, 3.0), np.arange(50.0)])
    assert np.isfinite(SplineBasis.fit(x).columns(x)).all()


def test_ridge_from_moments_equals_fitting_without_the_fold(rows):
    x, _, y = rows
    bounds = np.array([0, 200, 400, 600])
    design = FoldedDesign(x, bounds, SplineBasis.fit(x))
    fit = crossfit_ridge(design, y, np.ones(600))
    columns = design.basis.columns(x)
    assert np.ptp(fit.penalty[:, 0]) == 0
    assert np.ptp(fit.penalty[0]) > 0
    for k in range(3):
        outside = np.r_[0 : bounds[k], bounds[k + 1] : 600]
        part = columns[outside]
        for coef, share in ((fit.best, 1.0), (fit.close, UNDERSMOOTHING)):
            direct = np.linalg.solve(part.T @ part + share * np.diag(fit.penalty[k]), part.T @ y[outside])
            assert np.allclose(coef[k], direct, atol=1e-6)


def test_ridge_keeps_what_matters_and_drops_the_rest():
    generator = np.random.default_rng(8)
    x = generator.standard_normal((1500, 10))
    y = x[:, 0] * x[:, 1] + generator.standard_normal(1500)
    bounds = np.linspace(0, 1500, 6).astype(int)
    design = FoldedDesign(x, bounds, SplineBasis.fit(x))
    fit = crossfit_ridge(design, y, np.ones(1500))
    errors = [np.mean((design.predict(coef) - x[:, 0] * x[:, 1]) ** 2) for coef in (fit.best, fit.close)]
    assert errors[0] < 0.03
    assert errors[0] < errors[1]


def test_ridge_logit_equals_newton_without_the_fold(rows):
    x, d, _ = rows
    bounds = np.array([0, 200, 400, 600])
    design = FoldedDesign(x, bounds, SplineBasis.fit(x))
    coef, penalty = crossfit_ridge_logit(design, d, np.ones(600))
    columns = design.basis.columns(x)
    for k in range(3):
        outside = np.r_[0 : bounds[k], bounds[k + 1] : 600]
        gradient = columns[outside].T @ (d[outside] - expit(columns[outside] @ coef[k])) - penalty[k] * coef[k]
        assert np.max(np.abs(gradient)) < 1e-3


def test_a_held_out_row_does_not_enter_its_own_prediction(rows):
    x, d, y = rows
    fold = content_folds(x, y, d, 5)
    changed = y.copy()
    changed[fold == 2] = 1e3 * np.sign(changed[fold == 2])
    for learner, settings in (("linear", None), ("random_forest", {"n_estimators": 10})):
        before = Folded(x, fold).mean(y, None, learner, settings)
        after = Folded(x, fold).mean(changed, None, learner, settings)
        assert np.allclose(np.clip(after, y.min(), y.max())[fold == 2], before[fold == 2])
        assert not np.allclose(after[fold == 1], before[fold == 1])


@pytest.mark.parametrize("learner", ["stack", "linear", "spline", "boosting", "random_forest"])
def test_predictions_do_not_depend_on_row_order_or_units(rows, learner):
    x, d, y = rows
    fold = content_folds(x, y, d, 5)
    order = np.random.default_rng(1).permutation(600)
    few = {"n_estimators": 20} if learner == "random_forest" else None
    mean = Folded(x, fold).mean(y, d == 1, learner, few)
    again = Folded(x[order], fold[order])
    assert np.allclose(again.mean(y[order], d[order] == 1, learner, few), mean[order], atol=1e-8)
    assert np.allclose(Folded(x, fold).mean(5 - 100 * y, d == 1, learner, few), 5 - 100 * mean, atol=1e-3)
    chance = Folded(x, fold).probability(d, learner, few)
    assert np.allclose(again.probability(d[order], learner, few), chance[order], atol=1e-8)
    assert 0.5 < np.mean((chance > 0.5) == (d == 1)) < 0.9


def test_stack_is_as_good_as_the_better_of_its_parts(rows):
    x, d, y = rows
    folded = Folded(x, content_folds(x, y, d, 5))
    errors = {name: np.mean((y - folded.mean(y, None, name)) ** 2) for name in ("stack", "spline", "boosting")}
    assert errors["stack"] <= min(errors["spline"], errors["boosting"]) + 1e-9


def test_binary_outcomes_are_predicted_as_probabilities(rows):
    x, d, y = rows
    binary = (y > 1).astype(float)
    for learner in ("stack", "spline", "boosting"):
        predicted = Folded(x, content_folds(x, binary, d, 5)).mean(binary, d == 1, learner)
        assert predicted.min() >= 0
        assert predicted.max() <= 1


def test_weights_count_as_copies_for_splines(rows):
    x, d, y = rows
    weight = np.where(x[:, 0] > 0, 3.0, 1.0)
    copies = np.repeat(np.arange(600), weight.astype(int))
    fold = content_folds(x, y, d, 5)
    design = SplineBasis.fit(x)
    order, many = np.argsort(fold, kind="stable"), np.sort(fold[copies])
    once = FoldedDesign(x[order], np.searchsorted(fold[order], np.arange(6)), design)
    sorted_copies = copies[np.argsort(fold[copies], kind="stable")]
    repeated = FoldedDesign(x[sorted_copies], np.searchsorted(many, np.arange(6)), design)
    weighted = crossfit_ridge(once, y[order], weight[order])
    plain = crossfit_ridge(repeated, y[sorted_copies], np.ones(len(copies)))
    assert np.allclose(weighted.penalty, plain.penalty, rtol=1e-6)
    assert np.allclose(weighted.best, plain.best, atol=1e-6)


def test_too_few_rows_outside_a_fold_are_named(rows):
    x, _, y = rows
    lonely = np.zeros(600)
    lonely[0] = 1
    fold = content_folds(x, y, lonely, 5)
    with pytest.raises(EmptyFoldError, match="0 rows"):
        Folded(x, fold).mean(y, lonely == 1, "spline")
    assert issubclass(EmptyFoldError, CqoxError)


def test_no_covariates_predict_the_mean_of_other_folds(rows):
    _, d, y = rows
    empty = np.empty((600, 0))
    fold = content_folds(empty, y, d, 3)
    chance = Folded(empty, fold).probability(d, "stack")
    assert np.allclose(chance[fold == 0], d[fold != 0].mean())


def test_boosting_learns_a_step_that_a_line_cannot():
    generator = np.random.default_rng(3)
    x = generator.random((2000, 3))
    y = (x[:, 0] > 0.5) * (x[:, 1] > 0.5) + 0.1 * generator.standard_normal(2000)
    bounds = np.linspace(0, 2000, 6).astype(int)
    error = np.mean((crossfit_boosting(x, y, None, bounds).predict(x) - (x[:, 0] > 0.5) * (x[:, 1] > 0.5)) ** 2)
    assert error < 0.005


def test_refitted_leaves_come_closer_to_a_step():
    generator = np.random.default_rng(3)
    x = generator.random((3000, 4))
    truth = 1.0 * (x[:, 0] > 0.5)
    y = truth + generator.standard_normal(3000)
    fit = crossfit_boosting(x, y, None, np.linspace(0, 3000, 6).astype(int))
    best = fit.predict(x)
    close = fit.refitted(x).predict(x)
    heights = [values[x[:, 0] > 0.55].mean() - values[x[:, 0] < 0.45].mean() for values in (best, close)]
    assert abs(heights[1] - 1) < abs(heights[0] - 1) + 0.02
    assert np.mean((best - truth) ** 2) < np.mean((close - truth) ** 2) < 0.2


def test_folds_share_arms_and_groups_evenly(rows):
    x, d, y = rows
    fold = content_folds(x, y, d, 5)
    counts = np.array([[np.sum((fold == k) & (d == arm)) for k in range(5)] for arm in (0, 1)])
    assert (counts.max(1) - counts.min(1) <= 1).all()
    group = np.arange(600) // 6
    for assigned in (content_folds(x, y, d, 5, group=group), random_folds(600, 5, 1, group)):
        assert all(len(set(assigned[group == g])) == 1 for g in range(100))
    assert (index_folds(7, 3) == [0, 1, 2, 0, 1, 2, 0]).all()
    assert (np.bincount(random_folds(600, 5, 1)) == 120).all()
    assert (random_folds(600, 5, 1) != random_folds(600, 5, 2)).any()


def test_cells_of_discrete_covariates_are_spread_over_the_folds():
    generator = np.random.default_rng(3)
    x, d = generator.integers(0, 3, (600, 1)).astype(float), generator.integers(0, 2, 600).astype(float)
    y, w = generator.integers(0, 2, 600).astype(float), generator.random(600)
    fold = content_folds(x, y, d, 5, weight=w)
    for cell in np.unique(x):
        share = np.bincount(fold[x[:, 0] == cell], minlength=5) / np.sum(x[:, 0] == cell)
        assert share.min() > 0.1
    order = generator.permutation(600)
    assert np.array_equal(content_folds(x[order], y[order], d[order], 5, weight=w[order]), fold[order])
    assert np.array_equal(content_folds(x, 1 - y, d, 5, weight=w), fold)


def test_copies_of_a_row_share_a_fold(rows):
    x, d, y = (np.repeat(part[:200], 3, axis=0) for part in rows)
    fold = content_folds(x, y, d, 5).reshape(200, 3)
    assert (fold == fold[:, :1]).all()


def test_hajek_with_constant_weights_is_the_difference_in_means(rows):
    _, d, y = rows
    point, influence, _ = hajek_contrast(y, d, np.ones(600), np.zeros(600))
    one, zero = y[d == 1], y[d == 0]
    assert point == pytest.approx(one.mean() - zero.mean())
    expected = np.sqrt(one.var() / len(one) + zero.var() / len(zero))
    assert influence_std_error(influence) == pytest.approx(expected)


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATO"])
def test_weight_slopes_and_multipliers_are_derivatives(rows, estimand):
    x, d, y = rows
    fit = fit_logit(with_constant(x), d)
    sampling = np.where(x[:, 3] == 1, 1.5, 0.8)

    def contrasts(coef):
        e = expit(with_constant(x) @ coef)
        weight, slope = balancing_weights(d, e, estimand)
        hajek = hajek_contrast(y, d, weight * sampling, slope * sampling)
        total = horvitz_thompson_contrast(y, d, e, weight * sampling, slope * sampling, sampling, estimand)
        return hajek, total

    for position in range(2):
        _, _, multiplier = contrasts(fit.coef)[position]
        slope = multiplier @ with_constant(x) / 600
        for j in range(5):
            step = np.zeros(5)
            step[j] = 1e-6
            change = contrasts(fit.coef + step)[position][0] - contrasts(fit.coef - step)[position][0]
            assert change / 2e-6 == pytest.approx(slope[j], rel=1e-4, abs=1e-6)


def test_augmented_contrast_with_true_outcomes_ignores_the_propensity(rows):
    x, d, _ = rows
    m0, m1 = x[:, 0], 2 * x[:, 0] + 1
    y = np.where(d == 1, m1, m0)
    for estimand, rows_used in (("ATE", np.ones(600, bool)), ("ATT", d == 1)):
        point, influence = augmented_contrast(y, d, np.full(600, 0.2), m0, m1, np.ones(600), estimand)
        assert point == pytest.approx((m1 - m0)[rows_used].mean())
        assert influence.mean() == pytest.approx(0, abs=1e-12)


def test_partialled_out_is_the_slope_of_residuals(rows):
    x, d, y = rows
    v = fit_linear(with_constant(x), d).residuals
    u = fit_linear(with_constant(x), y).residuals
    point, influence = partialled_out(u, v, np.ones(600))
    full = fit_linear(with_constant(d, x), y)
    assert point == pytest.approx(full.coef[1])  # Frisch, Waugh and Lovell
    assert influence_std_error(influence) == pytest.approx(np.sqrt(full.covariance("HC0")[1, 1]))


def test_trimming_rules():
    e = np.linspace(0.01, 0.99, 99)
    assert inside_support(e, None, "bound").all()
    assert inside_support(e, 0.095, "bound").sum() == 81
    assert inside_support(e**2, 0.1, "quantile").sum() == inside_support(e, 0.1, "quantile").sum()


def test_clusters_of_one_differ_from_rows_by_their_factor(rows):
    _, _, y = rows
    influence = y - y.mean()
    single = influence_std_error(influence, np.arange(600))
    assert single == pytest.approx(influence_std_error(influence) * np.sqrt(600 / 599))
    copies = influence_std_error(np.repeat(influence, 3), np.repeat(np.arange(600), 3))
    assert copies == pytest.approx(single)


def test_wald_agrees_with_itself():
    effect = wald(1.0, 0.5, estimand="ATE", contrast="b - a", level=0.9)
    assert effect.p_value == pytest.approx(0.0455, abs=1e-4)
    assert effect.interval.low == pytest.approx(1 - 1.6449 * 0.5, abs=1e-4)
    assert wald(1.0, 0.0, estimand="ATE", contrast="b - a").std_error is None
    student = wald(1.0, 0.5, estimand="ATE", contrast="b - a", df=5)
    assert student.interval.high > wald(1.0, 0.5, estimand="ATE", contrast="b - a").interval.high


def test_rounding_is_no_standard_error():
    assert wald(1.0, 3e-17, estimand="ATE", contrast="b - a").interval is None


def test_logit_score_vanishes_and_separation_is_named(rows):
    x, d, _ = rows
    scaled = x * [1e5, 1e-3, 1, 1]
    fit = fit_logit(with_constant(scaled), d)
    assert np.max(np.abs(with_constant(x).T @ (d - fit.probability))) < 1e-8
    with pytest.raises(SeparationError, match="perfectly"):
        fit_logit(with_constant(x), (x[:, 0] > 0).astype(float))


def test_linear_drops_a_repeated_column_and_says_so(rows):
    x, _, y = rows
    fit = fit_linear(with_constant(x, x[:, 0]), y)
    assert fit.kept.tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(with_constant(x).T @ fit.residuals, 0, atol=1e-8)


def test_a_column_far_from_zero_is_no_copy_of_the_constant(rows):
    x, _, y = rows
    near, far = fit_linear(with_constant(x), y), fit_linear(with_constant(x + 1e7), y)
    assert far.coef[1:] == pytest.approx(near.coef[1:], rel=1e-6)
    assert fit_linear(with_constant(x[:, :1], np.full(len(y), 0.1)), y).kept.tolist() == [0, 1]


def test_bootstrap_draws_whole_clusters():
    cluster = np.array([0, 0, 1, 1, 1, 2])
    for drawn in resampled_rows(6, 20, 0, cluster):
        counts = np.bincount(drawn, minlength=6)
        assert counts[0] == counts[1]
        assert counts[2] == counts[3] == counts[4]
        assert counts[[0, 2, 5]].sum() == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-12, 1e12, 1e200, 1e300])
def test_diagnostics_do_not_depend_on_the_unit_of_a_column(scale: float) -> None:
    rng = np.random.default_rng(8)
    x, treated = rng.standard_normal((300, 2)), rng.integers(0, 2, 300) * 1.0
    y, cluster = x[:, 0] ** 2 + treated + rng.standard_normal(300), np.repeat(np.arange(30), 10)

    def answers(by: float) -> list[float]:
        fit = fit_linear(with_constant(x, treated), y * by)
        tests = [assignment_test(x * by, treated), assignment_test(x * by, treated, cluster), reset_test(fit, cluster)]
        known = [item[0] for item in tests if item is not None]
        assert len(known) == 3
        return [*standardised_differences(x * by, treated), *known]

    np.testing.assert_allclose(answers(scale), answers(1.0), rtol=1e-7)


@pytest.mark.filterwarnings("error")
def test_the_balance_of_an_arm_of_one_row_is_known() -> None:
    x, treated = np.array([[1.0], [2.0], [3.0], [5.0]]), np.array([0.0, 0.0, 0.0, 1.0])
    assert standardised_differences(x, treated) == pytest.approx([3 * np.sqrt(2)])
