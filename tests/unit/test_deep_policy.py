"""Policy trees of depth one to three against enumeration of every tree."""

import numpy as np
import pytest

from cqox_assets.numerics.deep_policy import honest_policy, learn_policies


def every_split(x):
    return [(j, cut) for j in range(x.shape[1]) for cut in np.unique(x[:, j])[:-1]]


def best_by_enumeration(x, gain, depth):
    """Return the largest sum of gains of any tree of a depth."""
    whole = max(gain.sum(), 0.0)
    if depth == 0 or len(gain) == 0:
        return whole
    found = [whole]
    for j, cut in every_split(x):
        low = x[:, j] <= cut
        found.append(
            best_by_enumeration(x[low], gain[low], depth - 1) + best_by_enumeration(x[~low], gain[~low], depth - 1)
        )
    return max(found)


def sample(seed, n=60):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 4, (n, 3)).astype(float)
    return x, generator.standard_normal(n)


def gained(tree, x, gain):
    return float(gain[tree.assign(x) == 1].sum())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("depth", [1, 2])
def test_trees_of_depth_one_and_two_are_the_best_there_are(seed, depth):
    x, gain = sample(seed)
    _, tree = learn_policies(x, gain[:, None], np.zeros(len(x), dtype=int), depth)
    assert gained(tree, x, gain) == pytest.approx(best_by_enumeration(x, gain, depth))


@pytest.mark.parametrize("seed", range(6))
def test_a_tree_of_depth_three_lies_between_the_best_of_depth_two_and_of_depth_three(seed):
    x, gain = sample(seed)
    fold = np.zeros(len(x), dtype=int)
    deep = gained(learn_policies(x, gain[:, None], fold, 3)[1], x, gain)
    assert deep >= best_by_enumeration(x, gain, 2) - 1e-9
    assert deep <= best_by_enumeration(x, gain, 3) + 1e-9


def test_three_questions_find_what_two_cannot():
    x = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=float).repeat(10, axis=0)
    wanted = np.where((x[:, 0] + x[:, 1] == 2) & (x[:, 2] == 1), 5.0, -1.0)
    fold = np.arange(len(x)) % 5
    _, tree = learn_policies(x, wanted[:, None], fold, 3)
    assert gained(tree, x, wanted) == best_by_enumeration(x, wanted, 3) == 50.0
    assert best_by_enumeration(x, wanted, 2) < 50.0
    leaves = tree.rows(("a", "b", "c"), ("no", "yes"))
    assert [leaf for leaf in leaves if leaf["arm"] == "yes"] == [
        {"where": "a > 0.5 and b > 0.5 and c > 0.5", "arm": "yes"}
    ]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_folds_own_gains_do_not_decide_about_it(depth):
    x, gain = sample(3, n=200)
    fold = np.arange(200) % 4
    before = honest_policy(x, gain, fold, depth)
    assert not before.valued[fold == 0].any()
    assert before.valued[fold > 0].all()
    for k in (1, 2, 3):
        changed = np.where(fold == k, -50.0 * gain, gain)
        assert np.array_equal(honest_policy(x, changed, fold, depth).treated[fold == k], before.treated[fold == k])


def test_constant_covariates_and_gains_leave_one_leaf():
    x, gain = np.ones((50, 2)), np.full(50, 2.0)
    for depth in (1, 2, 3):
        tree = learn_policies(x, gain[:, None], np.arange(50) % 5, depth)[1]
        assert tree.rows(("a", "b"), ("no", "yes")) == [{"where": "everywhere", "arm": "yes"}]
