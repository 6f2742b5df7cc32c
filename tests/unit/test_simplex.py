"""Donor weights: ways for many donors end in the solution that the general way finds."""

import numpy as np
import pytest

from cqox_assets.numerics import simplex


def _pool(seed: int, donors: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    periods = int(generator.integers(3, 25))
    factors = generator.standard_normal((periods, 3))
    pool = factors @ generator.random((3, donors)) + 0.3 * generator.standard_normal((periods, donors))
    return factors @ generator.random(3) + 2 * generator.standard_normal(periods), pool


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_many_donors_get_the_weights_of_the_general_way(monkeypatch, seed, ridge, scale):
    target, pool = _pool(seed, 700)
    target, pool, ridge = target * scale, pool * scale, ridge * scale**2
    found = simplex.simplex_weights(target, pool, ridge)
    barred = int(found.argmax())
    without = simplex.simplex_weights(target, pool, ridge, barred)
    monkeypatch.setattr(simplex, "_MANY", 10_000)
    monkeypatch.setattr(simplex, "_MANY_WITH_RIDGE", 10_000)
    assert found == pytest.approx(simplex.simplex_weights(target, pool, ridge), abs=1e-9)
    rest = np.insert(simplex.simplex_weights(target, np.delete(pool, barred, axis=1), ridge), barred, 0.0)
    assert without == pytest.approx(rest, abs=1e-9)
    assert without[barred] == 0.0


def test_a_target_among_the_donors_is_reproduced():
    _, pool = _pool(5, 900)
    inside = pool[:, :3].mean(axis=1)
    weights = simplex.simplex_weights(inside, pool)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)
    assert pool @ weights == pytest.approx(inside, abs=1e-8)


def test_equal_donors_are_solved():
    pool = np.ones((4, 800))
    weights = simplex.simplex_weights(np.zeros(4), pool)
    assert weights.sum() == pytest.approx(1.0)
    weights = simplex.simplex_weights(np.zeros(4), pool, 1.0)
    assert weights == pytest.approx(np.full(800, 1 / 800))


def test_so_many_donors_are_drawn_and_all_if_there_are_no_more():
    assert simplex.drawn_donors(5, 7, 0).tolist() == [0, 1, 2, 3, 4]
    drawn = simplex.drawn_donors(100, 7, 3)
    assert len(set(drawn.tolist())) == 7
    assert np.array_equal(drawn, simplex.drawn_donors(100, 7, 3))
