"""Targeting against brute force: the best coverage under a budget, its shadow price, ties, weights and trees."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from cqox_assets.numerics.deep_policy import DeepTree, learn, reward
from cqox_assets.numerics.targeting import Judge, Order

GAIN = np.array([9.0, 4.0, 7.0, 1.0, -2.0, 6.0, 3.0])
COST = np.array([3.0, 2.0, 6.0, 2.0, 1.0, 2.0, 3.5])


def order(gain=GAIN, cost=COST, weight=None, fold=None):
    n = len(gain)
    return Order(
        np.asarray(gain, float), np.asarray(cost, float), np.ones(n) if weight is None else weight,
        np.zeros(n, int) if fold is None else fold,
    )  # fmt: skip


def best_by_program(budget, gain=GAIN, cost=COST, weight=None):
    """The most that can be gained net of cost within a budget, units in part allowed: a linear programme."""
    weight = np.ones(len(gain)) if weight is None else weight
    found = linprog(-(weight * (gain - cost)), A_ub=[weight * cost], b_ub=[budget], bounds=[(0, 1)] * len(gain))
    return -found.fun


@pytest.mark.parametrize("budget", [0.0, 1.0, 2.0, 4.5, 6.0, 11.0, 13.5, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_best_coverage_under_a_budget_is_that_of_the_linear_programme(budget, weighted):
    weight = np.array([2.0, 1, 0.5, 1, 1, 0.5, 1]) if weighted else np.ones(7)
    own, n = order(weight=weight), 7
    share = min(own.worthwhile(), own.affordable(budget / n))
    assert own.net(share) * n == pytest.approx(best_by_program(budget, weight=weight), abs=1e-9)
    assert own.spend(share) * n <= budget + 1e-9


def test_without_a_budget_the_worthwhile_are_treated_exhaustively_best():
    best = max(
        sum(GAIN[list(chosen)] - COST[list(chosen)])
        for size in range(8)
        for chosen in itertools.combinations(range(7), size)
    )
    own = order()
    assert own.net(own.worthwhile()) * 7 == pytest.approx(best)
    assert own.worthwhile() == pytest.approx(4 / 7)  # 9, 4, 7 and 6 exceed their costs


@pytest.mark.parametrize("budget", [1.0, 2.5, 4.0, 6.5, 9.0])
def test_shadow_price_is_the_slope_of_the_best_net_benefit(budget):
    step = 1e-4
    slope = (best_by_program(budget + step) - best_by_program(budget)) / step
    assert order().shadow_price(budget / 7, step / 7) == pytest.approx(slope, rel=1e-6)


def test_a_budget_that_does_not_bind_has_no_price():
    assert order().shadow_price(100.0, 0.01) == 0.0
    assert order().affordable(100.0) == 1.0


def test_zero_costs_treat_by_gain_and_never_bind():
    own = order(cost=np.zeros(7))
    assert own.affordable(0.0) == 1.0
    assert own.worthwhile() == pytest.approx(6 / 7)
    np.testing.assert_array_equal(np.flatnonzero(own.treated(3 / 7) > 0.5), [0, 2, 5])


def test_some_units_without_a_cost_come_first_and_a_saving_is_a_gain():
    own = order(gain=[1.0, 5.0, -1.0, -1.0], cost=[0.0, 2.0, 0.0, -3.0])
    assert [own.treated(share).round(6).tolist() for share in (0.25, 0.5, 0.75)] == [
        [0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1],
    ]  # fmt: skip
    assert own.worthwhile() == 0.75  # the saving of 3 outweighs the loss of 1


def test_tied_units_share_and_order_of_rows_does_not_matter():
    own = order(gain=[2.0, 1.0, 1.0, 1.0], cost=np.full(4, 0.5))
    np.testing.assert_allclose(own.treated(0.5), [1, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(order(gain=np.zeros(5), cost=np.ones(5)).treated(0.3), 0.3)


def test_each_fold_is_ranked_by_itself():
    """The second fold's models say 100 more throughout, which says nothing about its units."""
    gain = np.array([1.0, 2, 3, 4, 101, 102, 103, 104])
    own = order(gain=gain, cost=np.zeros(8), fold=np.repeat([0, 1], 4))
    np.testing.assert_array_equal(own.treated(0.5), [0, 0, 1, 1, 0, 0, 1, 1])


def test_treated_shares_add_up_with_weights():
    rng = np.random.default_rng(1)
    weight = rng.exponential(size=200)
    weight /= weight.mean()
    own = order(gain=rng.normal(size=200), cost=np.ones(200), weight=weight, fold=rng.integers(0, 5, 200))
    for share in (0.0, 0.1, 0.37, 0.9, 1.0):
        treated = own.treated(share)
        assert np.average(treated, weights=weight) == pytest.approx(share, abs=1e-12)
        assert own.spend(share) == pytest.approx(share, abs=1e-12)
        assert own.net(share) == pytest.approx(np.mean(weight * treated * (own.gain - own.cost)), abs=2e-3)


def test_standard_errors_by_hand():
    score, treated = np.array([1.0, 3.0, -2.0, 6.0]), np.array([1.0, 0.0, 1.0, 1.0])
    judge = Judge(np.ones(4), None)
    assert judge.mean(score) == (2.0, pytest.approx(np.sqrt(np.mean((score - 2) ** 2) / 4)))
    value, error = judge.within(score, treated)
    assert value == pytest.approx(5 / 3)
    assert error == pytest.approx(np.sqrt(np.mean((treated * (score - value) / 0.75) ** 2) / 4))
    value, error = judge.policy(score, np.ones(4), 1.0)
    assert (value, error) == judge.mean(score)  # treating everybody chooses nobody, so nothing is added
    assert judge.policy(score, treated, 0.75)[1] > judge.mean(treated * score)[1]
    assert judge.ratio(score, np.zeros(4)) is None


def trees_of_depth(depth, cells):
    """Every policy of a tree of that depth over two covariates with values 0..2, as a table of arms, by enumeration."""
    if depth == 0:
        return {tuple(0 for _ in cells), tuple(1 for _ in cells)}
    found = set(trees_of_depth(depth - 1, cells))
    for feature in (0, 1):
        for cut in (0, 1):
            low = [cell[feature] <= cut for cell in cells]
            for left in trees_of_depth(depth - 1, cells):
                for right in trees_of_depth(depth - 1, cells):
                    found.add(tuple(a if go else b for go, a, b in zip(low, left, right, strict=True)))
    return found


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_trees_reach_the_best_value_of_all_trees(depth, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, size=(120, 2)).astype(float)
    gains = rng.normal(size=(120, 1)) + rng.normal(size=9)[(3 * x[:, 0] + x[:, 1]).astype(int)][:, None]
    _, tree = learn(x, gains, np.zeros(120, dtype=int), depth)
    cells = list(itertools.product(range(3), range(3)))
    sums = np.array([gains[(x == cell).all(axis=1)].sum() for cell in cells])
    best = max(np.array(policy) @ sums for policy in trees_of_depth(depth, cells))
    assert reward(tree, x, gains) == pytest.approx(best, rel=1e-6)


def test_depth_three_finds_what_depth_two_cannot():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 4))
    gains = np.sign(x[:, :3]).prod(axis=1, keepdims=True)
    values = [reward(learn(x, gains, np.zeros(2000, int), depth)[1], x, gains) for depth in (1, 2, 3)]
    assert values[2] > 0.9 * np.maximum(gains, 0).sum() > 2 * values[1]
    tree = learn(x, gains, np.zeros(2000, int), 3)[1]
    assert isinstance(tree, DeepTree)
    assert len(tree.rows(list("abcd"), ("no", "yes"))) == 8
