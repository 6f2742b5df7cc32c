"""The craft of figures: honest scales, one colour per arm, names that stay apart, Japanese pages, many rows, cost."""

import base64
import io
import re
import time

import numpy as np
import pandas as pd
import pytest

from cqox_assets.catalog import load_figures, study_figures
from cqox_assets.figure_store import draw, draw_moving
from cqox_assets.figures import _files as files
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures.counterfactual_comparison import _SYSTEMS
from cqox_assets.partitions import Partition
from cqox_assets.result import Effect, EffectEstimate, Interval, Nuisance, Sample
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import Inputs
from cqox_assets.study import Role
from cqox_resources.reports import ReportStore
from tests.unit.figure_checks import problems
from tests.unit.figure_studies import inputs_of, results_of, sample

FIGURES = load_figures()
MAPS = ("causal_surface_3d", "cate_landscape_3d", "confounding_contours", "policy_manifold_3d")


@pytest.mark.parametrize("name", MAPS)
def test_scales_of_colours_name_only_places_that_they_have(name):
    bars = [axis._colorbar for axis in FIGURES[name].made(inputs_of("retail")).figure.axes if axis.get_label()
            == "<colorbar>"]  # fmt: skip
    assert len(bars) == 1
    levels, ticks = bars[0].mappable.levels, bars[0].get_ticks()
    assert len(ticks) >= 3
    assert levels[0] <= min(ticks) < max(ticks) <= levels[-1]


def test_numbers_on_axes_are_written_in_full_up_to_a_billion():
    assert [theme.plain(value) for value in (0.00012, 2.5, 12_345.6, 5_000_000.0, 3e12)] == [
        "0.00012", "2.5", "12,346", "5,000,000", "3e+12",
    ]  # fmt: skip


def test_names_that_differ_at_their_ends_stay_apart():
    long = "とても長い名前の列：過去十二か月間の累計購買回数（返品を除く）"
    cut = [theme.squeeze(f"{long} {end}", 34) for end in ("up to 0.5", "above 0.5")]
    assert len(set(cut)) == 2
    assert all(theme.width(name) <= 34 for name in cut)
    assert all(name.startswith("とても") and "…" in name for name in cut)
    assert theme.squeeze("short") == "short"


def test_known_covariates_keep_their_names_where_the_strongest_lies_beyond_the_axes():
    inputs = inputs_of("network_trial")
    answer = next(iter(inputs.asked("partial_r2").values()))
    drawing = FIGURES["confounding_contours"].made(inputs)
    axis = drawing.figure.axes[0]
    bounds = answer.table[answer.table["strength"] > 0]
    beyond = (bounds["r2yz_dx"] > axis.get_ylim()[1]) | (bounds["r2dz_x"] > axis.get_xlim()[1])
    assert beyond.any()
    assert "lie beyond the axes" in drawing.caption
    assert any(str(bounds["benchmark"].iloc[0]) in text.get_text() for text in axis.texts)


def test_sides_of_a_cutoff_wear_the_colour_of_their_arm_in_every_figure():
    study = DESIGNS["fuzzy_cutoff"](400, 7)[0]
    running = study.column(Role.RUNNING_VARIABLE)
    blue = theme.arm_colour(study.arms, study.arms[1])
    assert words.side_colours(study, 0.0) == {"left": theme.REFERENCE, "right": blue}
    turned = study.with_column(study.name(Role.RUNNING_VARIABLE), -running, Role.RUNNING_VARIABLE)
    assert words.side_colours(turned, 0.0) == {"left": blue, "right": theme.REFERENCE}


def test_models_do_not_wear_the_colours_of_the_arms_beside_them():
    arms = inputs_of("three_arms").study.arms
    assert not set(_SYSTEMS.values()) & {theme.arm_colour(arms, arm) for arm in arms[:2]}
    assert len(set(_SYSTEMS.values())) == 3


def font_of(page):
    from fontTools.ttLib import TTFont

    held = re.search(r"@font-face\{font-family:Embedded;src:url\(data:font/woff;base64,([^)]+)\)", page)
    return None if held is None else TTFont(io.BytesIO(base64.b64decode(held[1])))


def test_interactive_pages_bring_the_japanese_letters_that_they_draw():
    drawing = FIGURES["cate_landscape_3d"].made(inputs_of("retail"), "3d")
    font = font_of(drawing.page)
    assert {ord(mark) for mark in "年齢購入金額円"} <= set(font.getBestCmap())
    assert "Embedded" in drawing.page.rpartition("const held=")[2]  # the drawing asks for the font, not the page alone
    assert font_of(pages.page(plotly_of("x"), "Title", "Caption.")) is None


def test_names_cannot_end_the_script_of_a_page():
    plain, hostile = (pages.page(plotly_of(name), "Title", "Caption.") for name in ("x", "</script><script>alert(1)"))
    assert plain.count("</script>") == hostile.count("</script>")
    assert pages.words("<b>a</b> %{x}", 40) == "&lt;b&gt;a&lt;/b&gt; % {x}"


def plotly_of(name):
    import plotly.graph_objects as plotly

    return plotly.Figure(plotly.Scatter(x=[1.0], y=[2.0], name=name, text=[name]))


def many_rows(count):
    """A study of many rows, with predicted effects and propensities that are functions of its covariates."""
    study = DESIGNS["confounded_smooth"](count, 3)[0]
    x, y, d = study.matrix(), study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    propensity, effect = 1 / (1 + np.exp(-0.5 * x[:, 0])), 1 + 0.5 * x[:, 0] - 0.3 * x[:, 1] * x[:, 2]
    score = effect + (d - propensity) / (propensity * (1 - propensity)) * (y - y.mean())
    rows = pd.DataFrame({"row": np.arange(count), "effect": effect, "score": score, "treated": d,
                         "low": effect - 1, "high": effect + 1})  # fmt: skip
    head = Effect("ATE", " - ".join(study.arms[::-1]), 1.0, 0.1, Interval(0.8, 1.2))
    answer = EffectEstimate("causal_forest", "1", (head,), "stated", Sample(count), tables={"unit_effects": rows})
    nuisance = Nuisance(
        {study.arms[1]: pd.DataFrame({"propensity": propensity})}, "linear", 0, 5, study.fingerprint
    )  # fmt: skip
    return Inputs(study, {"causal_forest": answer}, nuisance, plan=("causal_forest",))


def test_a_million_rows_are_binned_or_sampled_and_the_caption_says_so():
    inputs = many_rows(1_000_000)
    sampled = ("scatter_regression", "residual_diagnostics", "cate_drivers", "cate_distribution")
    for name in (*sampled, "distribution_compare", "propensity_overlap", "cate_landscape_3d", "qini_curve"):
        drawing = FIGURES[name].made(inputs)
        assert not problems(drawing.figure), name
        assert len(drawing.data) <= 10_000, name
        assert len(files.render(drawing, "svg")) < 3e6, name
        if name in sampled:
            assert "of 1,000,000" in drawing.caption, name
    legend = FIGURES["distribution_compare"].made(inputs).figure.legends[0]
    rows = [int(text.get_text().rpartition("(")[2].split()[0].replace(",", "")) for text in legend.get_texts()]
    assert sum(rows) == 1_000_000


def test_rows_that_an_axis_does_not_hold_are_counted():
    study = DESIGNS["confounded_smooth"](400, 3)[0]
    y = study.column(Role.OUTCOME)
    y[[5, 17]] = 1e12, -3e11
    drawing = FIGURES["scatter_regression"].made(Inputs(study.with_column("y", y, Role.OUTCOME)))
    assert "2 rows lie outside the picture" in drawing.caption
    low, high = drawing.figure.axes[0].get_ylim()
    assert -1e6 < low < high < 1e6


@pytest.mark.slow
def test_figures_of_ten_thousand_rows_keep_to_their_time(tmp_path):
    from upath import UPath

    study = sample("retail")
    inputs = results_of(study.take(np.resize(np.arange(len(study)), 10_000)))
    reports, partition = ReportStore(UPath(tmp_path)), Partition("retail", "2025-01")
    spent = {}
    for kind, drawer in (("static", draw), ("moving", draw_moving)):
        chosen = [spec for spec in study_figures().values() if kind == "static" or spec.moving]
        start = time.process_time()
        found = [drawer(spec, inputs, reports, partition) for spec in chosen]
        spent[kind] = time.process_time() - start
        assert "failed" not in {record.status for record in found}
        assert sum(record.status == "drawn" for record in found) >= (25 if kind == "static" else 4)
    assert spent["static"] < 15, spent
    assert spent["moving"] < 60, spent


def test_a_film_over_time_hides_what_has_not_happened_yet():
    drawing = FIGURES["parallel_trends"].made(inputs_of("staggered_panel"), "animated")
    inked = []
    for place in (0, 10, 20, 29):
        figure, buffer = drawing.frames(place), io.BytesIO()
        figure.savefig(buffer, format="rgba", dpi=50)
        width, height = (round(side * 50) for side in figure.get_size_inches())
        pixels = np.frombuffer(buffer.getvalue(), dtype=np.uint8).reshape(height, width, 4)[:, :, :3].astype(int)
        inked.append(int((np.ptp(pixels, axis=2) > 40).sum()))  # colours; guides and letters are grey
    assert inked == sorted(inked)
    assert inked[0] < 0.35 * inked[-1]


def test_moving_forms_are_offered_wherever_time_or_depth_is_drawn():
    moving = {name: spec.moving for name, spec in FIGURES.items() if spec.moving}
    assert {name for name, forms in moving.items() if forms == ("3d",)} == {
        *MAPS, "network_spillover_3d", "domain_network_graph",
    }  # fmt: skip
    assert {name for name, forms in moving.items() if forms == ("animated",)} == {
        "ate_animation", "spillover_dynamics", "allocation_path", "customer_value", "learning_gain",
        "treatment_trajectory", "event_study", "parallel_trends", "timeseries_panel", "panel_matching_effects",
        "synthetic_control_path", "its_segments",
    }  # fmt: skip
