"""The statistics that figures rest on: exact where they can be, and right on average elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqox_assets.diagnostics.distributions import compare, cumulative
from cqox_assets.diagnostics.drivers import drivers_of
from cqox_assets.diagnostics.overlap import best_trim
from cqox_assets.diagnostics.residuals import residual_table
from cqox_assets.diagnostics.subgroups import equal_p, subgroups_of
from cqox_assets.diagnostics.surface import effect_surface
from cqox_assets.diagnostics.targeting import group_effects, qini_path, quantile_groups, uplift_path
from cqox_assets.diagnostics.uplift import uplift_curve
from cqox_assets.errors import MappingError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.numerics.confounding import needed_ratio
from cqox_assets.numerics.group_paths import paths_of
from cqox_assets.numerics.loess import loess
from cqox_assets.numerics.partial import binned_means, partialled
from cqox_assets.numerics.quantile_effects import quantile_effects
from cqox_assets.numerics.seasonal import decompose, found_period
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role


def wave(n, step=1.0):
    return np.sin(np.arange(n) * 12.9898 * step) * 43758.5453 % 1


def test_a_line_is_its_own_local_regression():
    x = np.linspace(-3, 5, 301)
    found = loess(x, 2 - 3 * x)
    np.testing.assert_allclose(found["fit"], 2 - 3 * found["x"], atol=1e-9)
    np.testing.assert_allclose(found["std_error"], 0, atol=1e-7)


def test_the_error_of_a_local_regression_covers_the_curve():
    generator = np.random.default_rng(5)
    hits = []
    for _ in range(60):
        x = generator.uniform(0, 1, 800)
        found = loess(x, np.sin(2 * x) + generator.standard_normal(800), 0.3)
        middle = found[(found["x"] > 0.2) & (found["x"] < 0.8)]
        hits.append((np.abs(middle["fit"] - np.sin(2 * middle["x"])) < 1.96 * middle["std_error"]).mean())
    assert 0.9 < np.mean(hits) < 0.99


@pytest.mark.parametrize("x", [np.ones(50), np.array([1.0, 2.0]), np.empty(0)])
def test_local_regression_of_nothing_is_empty(x):
    assert loess(x, np.arange(len(x)) * 1.0).empty


def test_the_season_is_found_and_the_parts_add_up():
    time = np.arange(1, 121.0)
    value = 3 + 0.1 * time + 2 * np.sin(2 * np.pi * time / 12) + 0.3 * (wave(120) - 0.5)
    frame, period = decompose(time, value)
    assert period == 12
    np.testing.assert_allclose(frame[["trend", "season", "cycle", "rest"]].sum(axis=1), value)
    assert np.corrcoef(frame["season"], np.sin(2 * np.pi * time / 12))[0, 1] > 0.99
    assert found_period(np.zeros(30)) is None
    assert decompose(time[:5], value[:5])[1] is None


def test_noise_has_no_season():
    generator = np.random.default_rng(1)
    found = [found_period(generator.standard_normal(40)) for _ in range(40)]
    assert sum(item is None for item in found) > 4


def test_what_covariates_leave_has_the_slope_of_the_regression():
    study = DESIGNS["confounded_linear"](400, 2)[0]
    x, d, y = study.matrix(), study.column(Role.TREATMENT), study.column(Role.OUTCOME)
    _, _, slope = partialled(d, y, x)
    expected = np.linalg.lstsq(np.column_stack([np.ones(400), d, x]), y, rcond=None)[0][1]
    assert slope == pytest.approx(expected)
    assert partialled(x[:, 0], y, x)[2] == 0.0


def test_binned_means_keep_every_row_and_the_mean():
    x, y = wave(500), wave(500, 0.7)
    found = binned_means(x, y, 13)
    assert found["rows"].sum() == 500
    assert (found["mean"] * found["rows"]).sum() / 500 == pytest.approx(y.mean())
    assert len(binned_means(np.repeat([0.0, 1.0], 50), y[:100])) == 2


def test_quantile_effects_are_the_differences_of_quantiles_in_a_trial():
    generator = np.random.default_rng(0)
    y, d = generator.standard_normal(6001), np.arange(6001) % 2 * 1.0
    y = y + d * (1 + 0.5 * y)  # the upper quantiles move more
    found = quantile_effects(y, d, np.full(6001, 0.5), np.array([0.1, 0.5, 0.9]))
    expected = [np.quantile(y[d == 1], p) - np.quantile(y[d == 0], p) for p in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(found["estimate"], expected, atol=0.02)
    assert (found["band_high"] - found["band_low"] >= found["high"] - found["low"]).all()
    assert found["low"].iloc[2] > found["estimate"].iloc[0]


def test_one_outcome_far_away_leaves_quantiles_their_intervals():
    y = np.sin(np.arange(3000) * 1.7) + np.arange(3000) % 2
    d, e, places = np.arange(3000) % 2 * 1.0, np.full(3000, 0.5), np.array([0.2, 0.5, 0.8])
    plain = quantile_effects(y, d, e, places)["std_error"].to_numpy()
    y[[5, 18]] = 1e12, -3e11
    np.testing.assert_allclose(quantile_effects(y, d, e, places)["std_error"].to_numpy(), plain, rtol=0.2)


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_of_quantile_effects_cover(clustered):
    generator, hits = np.random.default_rng(3), []
    for _ in range(150):
        x = generator.standard_normal(500)
        cluster = np.arange(500) // 5 if clustered else None
        shock = generator.standard_normal(100)[cluster] if clustered else 0.0
        e = 1 / (1 + np.exp(-0.7 * x))
        d = (generator.random(500) < e) * 1.0
        y = x + shock + d + generator.standard_normal(500)
        found = quantile_effects(y, d, e, np.array([0.3, 0.5, 0.7]), cluster=cluster)
        hits.append(((found["low"] < 1) & (found["high"] > 1)).to_numpy())
    assert 0.92 <= np.mean(hits) <= 0.995


def test_tied_quantiles_have_no_error():
    y, d = np.repeat([0.0, 1.0], 200), np.tile([0.0, 1.0], 200)
    found = quantile_effects(y, d, np.full(400, 0.5), np.array([0.2, 0.5, 0.8]))
    assert found["std_error"].isna().all()
    assert (found["estimate"] == 0).all()


def test_groups_have_about_equal_sizes_and_keep_ties_together():
    group = quantile_groups(wave(1000), 10)
    assert np.bincount(group).min() > 90
    assert len(np.unique(quantile_groups(np.repeat([0.0, 1.0], 50), 10))) == 2
    table = group_effects(group, wave(1000, 0.3), np.ones(1000))
    assert (table["estimate"] * table["rows"]).sum() / 1000 == pytest.approx(wave(1000, 0.3).mean())


def test_targeting_the_right_units_gains_more_than_chance():
    effect = np.linspace(-1, 1, 2000)
    rows = uplift_path(effect, effect + 0.1 * (wave(2000) - 0.5), np.ones(2000))
    assert rows["gain"].iloc[-1] == pytest.approx(rows["random"].iloc[-1])
    assert rows["gain"].max() == pytest.approx(0.25, abs=0.01)
    assert (rows["gain"] >= rows["random"] - 1e-9).all()


def test_the_qini_path_is_the_qini_curve():
    score, y, d = wave(300), wave(300, 0.4), (wave(300, 1.7) > 0.5) * 1.0
    x, gain = uplift_curve(score, y, d)
    rows = qini_path(score, y, d)
    np.testing.assert_allclose(np.interp(rows["targeted"], x, gain), rows["gain"])
    assert (rows["std_error"].iloc[1:] >= 0).all()


def test_trimming_follows_the_rule():
    assert best_trim(np.full(100, 0.5)) == 0.0
    e = np.concatenate([np.linspace(0.2, 0.8, 900), np.full(100, 0.001)])
    trim = best_trim(e)
    assert 0.05 < trim < 0.2
    kept = (e >= trim) & (e <= 1 - trim)
    assert 1 / (trim * (1 - trim)) == pytest.approx(2 * np.mean(1 / (e[kept] * (1 - e[kept]))), rel=1e-6)


def test_contributions_add_up_and_name_the_driver():
    x = np.column_stack([wave(1500, k + 1.0) for k in range(5)])
    found = drivers_of(x, 2 * (x[:, 3] > 0.5) + 0.1 * x[:, 1])
    assert int(found.importance.argmax()) == 3
    assert found.explained > 0.95
    assert found.importance[3] == pytest.approx(1.0, abs=0.1)
    assert drivers_of(x, np.ones(1500)) is None
    assert drivers_of(np.ones((1500, 2)), x[:, 0]) is None


def test_the_surface_of_the_effect_is_recovered_where_rows_are():
    generator = np.random.default_rng(2)
    x, y = generator.standard_normal((2, 4000))
    found = effect_surface(1 + x * y + generator.standard_normal(4000), x, y, np.ones(4000))
    off = np.abs(found["estimate"] - 1 - found["x"] * found["y"]) / found["std_error"]
    assert off.mean() < 1.2
    line = effect_surface(x, x, x, np.ones(4000))
    assert 0.2 < line["estimate"].isna().mean() < 0.9


def test_a_confounder_of_the_e_value_explains_the_ratio_away():
    for ratio in (1.2, 2.0, 5.0):
        e = ratio + np.sqrt(ratio * (ratio - 1))
        assert needed_ratio(np.array([e]), ratio)[0] == pytest.approx(e)


def test_samples_are_compared_as_scipy_does():
    one, other = wave(300), wave(200, 0.9) ** 2
    found = compare(one, other)
    places = np.sort(np.concatenate([one, other]))
    assert found.distance == pytest.approx(np.abs(cumulative(one, places) - cumulative(other, places)).max())
    assert found.p_value < 1e-4


def test_residuals_have_mean_zero_and_unit_scale():
    study = DESIGNS["three_arms"](600, 1)[0]
    table = residual_table(study)
    assert abs(table["residual"].mean()) < 1e-10
    assert table["studentised"].std() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(table["fitted"] + table["residual"], study.column(Role.OUTCOME))
    exact = study.with_column("y", study.matrix()[:, 0], Role.OUTCOME)
    with pytest.raises(MappingError, match="exactly"):
        residual_table(exact)


def test_groups_of_a_panel_are_those_of_the_first_treatment():
    study = DESIGNS["staggered_panel"](600, 4)[0]
    rows = paths_of(study)
    assert set(rows["starts"]) == {3.0, 4.0, np.inf}
    assert rows.groupby("time")["units"].sum().tolist() == [120] * 5
    frame = study.frame
    never = frame.groupby("unit")["d"].transform("max") == 0
    expected = frame.loc[never & (frame["time"] == 2), "y"]
    row = rows[(rows["starts"] == np.inf) & (rows["time"] == 2)].iloc[0]
    assert row["mean"] == pytest.approx(expected.mean())
    assert row["std_error"] == pytest.approx(expected.std(ddof=1) / np.sqrt(len(expected)))


def test_subgroups_without_an_arm_are_left_out():
    study = DESIGNS["confounded_linear"](400, 2)[0]
    d = study.column(Role.TREATMENT)
    place = np.where(d == 1, "a", np.where(np.arange(400) % 2, "a", "b")).astype(object)
    study = study.with_column("place", place, Role.SUBGROUP)
    assert subgroups_of(study, 20) == []
    table = group_effects(np.arange(400) % 4, wave(400), np.ones(400))
    assert 0 < equal_p(table) < 1
    assert equal_p(table.head(1)) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=60))
def test_edges_of_histograms_rise_and_count_what_is_beyond(values):
    edges, beyond = marks.bins_of(values)
    assert (np.diff(edges) > 0).all()
    assert np.histogram(values, edges)[0].sum() + beyond == pytest.approx(len(values), abs=2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30), st.floats(-1e6, 1e6))
def test_axes_hold_their_anchor_and_are_finite(values, anchor):
    low, high = marks.reach(np.clip(values, -1e100, 1e100), values, [anchor])
    assert np.isfinite([low, high]).all()
    assert low <= anchor <= high
    assert low < high


def test_colours_of_arms_can_be_told_apart_without_colour_vision():
    """Under Brettel-like projections of the palette, no two of the first six arms come close."""
    tones = [[int(tone[k : k + 2], 16) / 255 for k in (1, 3, 5)] for tone in (*theme.ARMS[:5], theme.REFERENCE)]
    linear = np.where(np.array(tones) <= 0.04045, np.array(tones) / 12.92, ((np.array(tones) + 0.055) / 1.055) ** 2.4)
    # Viénot, Brettel & Mollon 1999: protanopia and deuteranopia in linear RGB.
    for matrix in ([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
                   [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]):  # fmt: skip
        seen = linear @ np.array(matrix).T
        for a in range(len(seen)):
            for b in range(a):
                assert np.abs(np.cbrt(seen[a]) - np.cbrt(np.maximum(seen[b], 0))).max() > 0.04, (a, b)
