"""The honest causal forest: order, blocks, honesty, variance, and what compiled loops need of the machine."""

import numba
import numpy as np
import pytest

from cqox_assets.numerics.compiled import compiled
from cqox_assets.numerics.forest import ForestSettings, fit_forest, rows_per_leaf, rows_per_tree
from cqox_assets.numerics.forest_line import LinearPart
from cqox_assets.numerics.forest_rows import ForestRows, bin_codes

SMALL = ForestSettings(pairs=10)


def draw(n: int, seed: int, effect=lambda x: 1 + x[:, 0]):  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, 4))
    t = generator.integers(0, 2, n) - 0.5
    return x, t, effect(x) * t + generator.standard_normal(n), effect(x)


def test_bins_keep_the_order_and_tell_few_values_apart() -> None:
    generator = np.random.default_rng(0)
    x = np.column_stack([generator.standard_normal(5000), generator.integers(0, 3, 5000), np.ones(5000)])
    codes = bin_codes(x)
    assert codes.max() == 63
    assert len(np.unique(codes[:, 0])) == 64
    assert np.unique(codes[:, 1]).tolist() == [0, 32, 63]
    assert (codes[:, 2] == 0).all()
    order = np.argsort(x[:, 0])
    assert (np.diff(codes[order, 0].astype(int)) >= 0).all()
    assert np.bincount(codes[:, 0]).min() > 5000 / 64 - 2
    assert np.array_equal(bin_codes(x * 1e12), codes)
    assert np.array_equal(bin_codes(x * 1e-12), codes)


def test_blocks_are_clusters_without_rows_that_do_not_count() -> None:
    x, t, y, _ = draw(60, 1)
    cluster, weight = np.arange(60) % 6, np.where(np.arange(60) % 3, 1.0, 0.0)
    rows = ForestRows.of(x, t, y, weight, cluster)
    for b in range(6):
        inside = rows.order[rows.starts[b] : rows.stops[b]]
        assert set(inside) == {i for i in range(60) if cluster[i] == b and weight[i] > 0}
    assert np.array_equal(rows.rows_in(np.array([1, 3, 4])), np.r_[10:20, 40:50])  # all of 3 have weight 0
    assert np.array_equal(rows.restored(rows.y), y)


@pytest.mark.parametrize("ties", [False, True])
def test_order_of_rows_changes_nothing(ties: bool) -> None:
    x, t, y, _ = draw(400, 2)
    if ties:
        x = np.round(x)
    order = np.random.default_rng(3).permutation(400)
    first, second = fit_forest(x, t, y, settings=SMALL), fit_forest(x[order], t[order], y[order], settings=SMALL)
    assert np.array_equal(first.effect[order], second.effect)
    assert np.array_equal(first.std_error[order], second.std_error)


def test_scale_and_sign_of_the_outcome() -> None:
    x, t, y, _ = draw(400, 4)
    plain = fit_forest(x, t, y, settings=SMALL)
    for factor in (-3.0, 1e12, 1e-12):
        changed = fit_forest(x, t, factor * y, settings=SMALL)
        assert changed.effect == pytest.approx(factor * plain.effect, rel=1e-9)
        assert changed.std_error == pytest.approx(abs(factor) * plain.std_error, rel=1e-9)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, t, y, _ = draw(6000, 5)
    one = fit_forest(x, t, y, settings=SMALL)
    monkeypatch.setattr("cqox_assets.numerics.forest.workers_for", lambda rows: 3)
    assert np.array_equal(fit_forest(x, t, y, settings=SMALL).effect, one.effect)


def test_a_unit_s_own_outcome_does_not_enter_its_effect() -> None:
    x, t, y, _ = draw(300, 6)
    settings = ForestSettings(pairs=10, linear="never")
    plain, changed = fit_forest(x, t, y, settings=settings), y.copy()
    changed[17] += 50
    other = fit_forest(x, t, changed, settings=settings)
    assert other.effect[17] == pytest.approx(plain.effect[17], rel=1e-9)
    assert np.abs(other.effect - plain.effect).max() > 1


def test_clusters_are_never_on_both_sides() -> None:
    x, t, y, _ = draw(300, 7)
    cluster, changed = np.arange(300) // 10, y.copy()
    changed[50:60] += 20
    settings = ForestSettings(pairs=10, linear="never")
    plain = fit_forest(x, t, y, None, cluster, settings)
    other = fit_forest(x, t, changed, None, cluster, settings)
    assert other.effect[50:60] == pytest.approx(plain.effect[50:60], rel=1e-9)


def test_weights_count_as_rows_do() -> None:
    x, t, y, _ = draw(2000, 8, lambda x: np.where(x[:, 0] > 0, 2.0, 0.0))
    y = y + 4 * (np.arange(2000) % 2) * t  # every second row has an effect larger by four
    plain = fit_forest(x, t, y)
    light = fit_forest(x, t, y, np.where(np.arange(2000) % 2, 0.1, 1.0))
    gone = fit_forest(x, t, y, np.where(np.arange(2000) % 2, 0.0, 1.0))
    assert plain.effect.mean() == pytest.approx(3.0, abs=0.25)
    assert light.effect.mean() == pytest.approx(1 + 4 / 11, abs=0.25)
    assert gone.effect.mean() == pytest.approx(1.0, abs=0.25)


def test_finds_steps_and_lines() -> None:
    x, t, y, tau = draw(4000, 9, lambda x: np.where(x[:, 0] > 0, 2.0, 0.0))
    step = fit_forest(x, t, y)
    assert np.mean((step.effect - tau) ** 2) < 0.08
    assert step.splits[0] > 0.4
    x, t, y, tau = draw(4000, 10, lambda x: 1 + x[:, 0] - x[:, 1])
    both = fit_forest(x, t, y)
    never = fit_forest(x, t, y, settings=ForestSettings(linear="never"))
    assert both.linear_share > 0.8
    assert np.mean((both.effect - tau) ** 2) < 0.3 * np.mean((never.effect - tau) ** 2)
    assert never.linear_share == 0


def test_standard_errors_are_honest_where_the_effect_is_the_same_for_all() -> None:
    covered, spreads, errors = [], [], []
    for seed in range(20):
        x, t, y, tau = draw(500, 100 + seed, lambda x: np.ones(len(x)))
        fit = fit_forest(x, t, y)
        covered.append(np.mean(np.abs(fit.effect - tau) < 1.96 * fit.std_error))
        spreads.append(np.mean((fit.effect - tau) ** 2))
        errors.append(np.mean(fit.std_error**2))
    assert np.mean(covered) > 0.92
    # Conservative by theory: a half-sample's forest is less linear in its rows than the whole one.
    assert 0.9 < np.mean(errors) / np.mean(spreads) < 2.5


def test_the_seed_matters_less_than_the_sample() -> None:
    x, t, y, _ = draw(1000, 11)
    fits = [fit_forest(x, t, y, settings=ForestSettings(seed=seed)) for seed in range(4)]
    between = np.std([fit.effect for fit in fits], axis=0, ddof=1)
    assert not np.array_equal(fits[0].effect, fits[1].effect)
    assert np.mean(between) < 0.5 * np.mean(fits[0].std_error)


def test_a_linear_part_does_no_harm_where_nothing_is_linear() -> None:
    x, t, y, tau = draw(2000, 12, lambda x: 2 * np.abs(x[:, 0]))
    errors = {
        linear: np.mean((fit_forest(x, t, y, settings=ForestSettings(linear=linear)).effect - tau) ** 2)
        for linear in ("auto", "never")
    }
    assert errors["auto"] < 1.1 * errors["never"]
    assert LinearPart.of(ForestRows.of(np.ones((2000, 1)), t, y, None, None)) is None


@pytest.mark.parametrize("n", [2, 3, 5, 9, 20])
def test_few_rows_and_degenerate_input_give_finite_numbers(n: int) -> None:
    generator = np.random.default_rng(n)
    t = np.where(np.arange(n) % 2, 0.5, -0.5)
    for x in (generator.standard_normal((n, 2)), np.ones((n, 1)), np.repeat(generator.integers(0, 2, (n, 1)), 90, 1)):
        for y in (generator.standard_normal(n), np.zeros(n), t * 2, np.full(n, 1e300)):
            for weight in (None, np.where(np.arange(n) < 1, 0.0, 1.0)):
                fit = fit_forest(x.astype(float), t, y, weight, settings=SMALL)
                assert np.isfinite(fit.effect).all()
                assert np.isfinite(fit.std_error).all()
                assert np.isfinite(fit.splits).all()
    assert np.isfinite(fit_forest(np.ones((n, 1)), np.zeros(n), t, settings=SMALL).effect).all()


def test_trees_stay_small_beside_the_rows() -> None:
    assert [rows_per_tree(n) for n in (100, 5000, 10_000, 100_000, 1_000_000)] == [50, 2500, 2500, 11_167, 49_881]
    assert [rows_per_leaf(n) for n in (50, 2500, 49_881)] == [5, 5, 54]


def test_compiles_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = numba.njit, []

    def njit(**options: object) -> object:
        asked.append(options.get("cache", False))
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr("numba.njit", njit)
    assert compiled(lambda x: x + 1.0)(2.0) == 3.0
    assert asked == [True, False]
