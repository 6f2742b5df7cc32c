"""Spending limited money: against exhaustive search, linear programming and repeated sampling."""

from itertools import product

import numpy as np
import pytest

from cqox_assets.numerics.allocation import Cut, Evaluation, Ranking

GAIN = np.array([9.0, 4.0, 7.5, -1.0, 3.0, 6.0, 0.5, 8.0])
COST = np.array([3.0, 1.0, 5.0, 2.0, 1.0, 6.0, 2.0, 4.0])


def ranking(gain=GAIN, cost=COST, weight=None, *, priced=True):
    return Ranking(gain, cost, np.ones(len(gain)) if weight is None else weight, priced)


def best_subset(budget, gain=GAIN, cost=COST, *, priced=True):
    worth = gain - cost if priced else gain
    return max(
        worth @ np.array(chosen)
        for chosen in product((0, 1), repeat=len(gain))
        if cost @ np.array(chosen) <= budget + 1e-9
    )


def relaxed(budget, *, priced=True):
    """Return optimum and shadow price of the linear programme."""
    from scipy.optimize import linprog

    worth = GAIN - COST if priced else GAIN
    found = linprog(-worth, A_ub=COST[None, :], b_ub=[budget], bounds=[(0, 1)] * len(worth), method="highs")
    return -found.fun, -float(found.ineqlin.marginals[0])


@pytest.mark.parametrize("budget", [0.0, 1.0, 2.0, 2.5, 5.0, 7.3, 9.0, 11.0, 14.0, 30.0])
@pytest.mark.parametrize("priced", [True, False])
def test_the_best_cut_is_the_optimum_of_the_linear_programme(budget, priced):
    own = ranking(priced=priced)
    found = own.predicted(own.best(budget))
    assert found == pytest.approx(relaxed(budget, priced=priced)[0])
    assert own.treated(own.best(budget)) @ COST <= budget + 1e-9


@pytest.mark.parametrize("budget", [0.0, 1.0, 5.0, 9.0, 14.0])
def test_where_the_budget_pays_for_whole_units_no_subset_is_better(budget):
    own = ranking()
    cut = own.best(budget)
    assert cut.part == 0.0
    assert own.predicted(cut) == pytest.approx(best_subset(budget))


def test_with_equal_costs_no_subset_of_any_size_is_better_than_the_first_ranks():
    cost = np.full(len(GAIN), 2.0)
    own = ranking(cost=cost)
    for bought in range(9):
        assert own.predicted(own.best(2.0 * bought)) == pytest.approx(best_subset(2.0 * bought, cost=cost))


@pytest.mark.parametrize("budget", [0.5, 2.5, 3.7, 6.0, 8.0, 10.0, 30.0])
@pytest.mark.parametrize("priced", [True, False])
def test_the_shadow_price_is_what_a_little_more_money_brings(budget, priced):
    own, step = ranking(priced=priced), 1e-6
    more = own.predicted(own.best(budget + step)) - own.predicted(own.best(budget))
    assert own.shadow_price(own.best(budget)) == pytest.approx(more / step, abs=1e-6)
    assert own.shadow_price(own.best(budget)) == pytest.approx(relaxed(budget, priced=priced)[1], abs=1e-6)


def test_a_share_treats_that_share_of_the_weight_from_the_top():
    weight = np.array([2.0, 0.5, 1.0, 1.0, 0.0, 1.5, 1.0, 1.0])
    own = ranking(cost=None, weight=weight)
    for share in (0.0, 0.1, 0.35, 0.8, 1.0):
        treated = own.treated(own.at_share(share))
        assert np.sum(weight * treated) == pytest.approx(share * weight.sum())
        kept = np.flatnonzero(weight > 0)
        assert min(np.diff(treated[kept][np.argsort(GAIN[kept])]), default=0) >= 0


def test_equal_units_are_treated_in_equal_parts_so_the_order_of_rows_does_not_matter():
    gain = np.array([1.0, 2.0, 2.0, 2.0, 3.0])
    own = ranking(gain, None)
    assert own.treated(own.at_share(0.5)) == pytest.approx([0, 0.5, 0.5, 0.5, 1])
    turned = ranking(gain[::-1], None)
    assert turned.treated(turned.at_share(0.5))[::-1] == pytest.approx([0, 0.5, 0.5, 0.5, 1])


def test_what_costs_nothing_is_bought_first_if_it_helps_and_never_if_it_harms():
    gain, cost = np.array([5.0, 0.1, -3.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0])
    own = ranking(gain, cost)
    assert own.treated(own.best(0.0)) == pytest.approx([0, 1, 0, 0])
    assert own.treated(own.best(1.0)) == pytest.approx([1, 1, 0, 0])
    assert own.shadow_price(own.best(0.0)) == pytest.approx(4.0)


def test_without_costs_at_all_every_gain_pays_and_no_budget_binds():
    own = ranking(cost=np.zeros(len(GAIN)))
    cut = own.best(0.0)
    assert own.treated(cut) == pytest.approx((GAIN > 0).astype(float))
    assert (cut.binds, own.shadow_price(cut)) == ("best", 0.0)


def test_nobody_is_treated_where_nobody_brings_what_they_cost():
    own = ranking(gain=np.full(len(GAIN), 0.5), cost=np.full(len(GAIN), 2.0))
    assert own.best(100.0) == Cut(0, 0.0, "best")
    assert own.predicted(own.best(100.0)) == 0.0


@pytest.mark.parametrize("limit", ["share", "budget", "best", "everybody"])
def test_the_standard_error_is_the_spread_over_samples(limit):
    generator, n, found = np.random.default_rng(7), 400, []
    for _ in range(500):
        effect = generator.normal(0.3, 1.0, n)
        cost = generator.uniform(0.2, 1.0, n)
        score = effect - cost + generator.standard_normal(n)
        own = Ranking(effect, cost, np.ones(n), True)
        cut = {
            "share": own.at_share(0.3), "budget": own.best(0.1 * n), "best": own.best(), "everybody": own.at_share(1.0),
        }[limit]  # fmt: skip
        valued = Evaluation(own, score).of(cut)
        found.append((valued.value, valued.std_error))
    values, errors = np.array(found).T
    assert values.std() / errors.mean() == pytest.approx(1.0, abs=0.1)


def test_nobody_is_worth_nothing_without_doubt_and_clusters_widen():
    own = ranking()
    score = np.array([3.0, 1.0, 2.0, -1.0, 2.0, 0.0, -2.0, 4.0])
    nobody = Evaluation(own, score).of(own.at_share(0.0))
    assert (nobody.value, nobody.std_error, nobody.spend) == (0.0, 0.0, 0.0)
    alone = Evaluation(own, score).of(own.at_share(1.0)).std_error
    twins = Evaluation(ranking(np.tile(GAIN, 2), np.tile(COST, 2)), np.tile(score, 2), np.tile(np.arange(8), 2))
    together = twins.of(twins.ranking.at_share(1.0)).std_error
    assert together == pytest.approx(alone * np.sqrt(8 / 7))
