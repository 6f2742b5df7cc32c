"""Every figure on every study: it is drawn well or says why not, and what is drawn is what was found."""

import io
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from cqox_assets.catalog import load_figures
from cqox_assets.errors import CatalogError, NotDrawnError
from cqox_assets.figures import _files as files
from cqox_assets.figures import _theme as theme
from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Interval, SensitivityResult
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role
from tests.unit.figure_checks import problems
from tests.unit.figure_studies import LEDGER, SAMPLES, SIMULATED, findings_of, inputs_of, results_of

FIGURES = load_figures()


def draw_all(inputs, names=None):
    """Draw every figure; return the drawings by name and the reasons of the others."""
    drawings, reasons = {}, {}
    for name, spec in FIGURES.items():
        if names is None or name in names:
            try:
                drawings[name] = spec.made(inputs)
            except NotDrawnError as error:
                reasons[name] = error.message
    return drawings, reasons


@cache
def drawn_from(study):
    """The drawings and reasons of a study; drawn once, whichever test asks first."""
    return draw_all(inputs_of(study))


def check(drawings, reasons):
    """Look at every drawing: legible, with words, numbers and alternative text; reasons are sentences."""
    for name, drawing in drawings.items():
        assert not problems(drawing.figure), name
        assert drawing.caption.endswith("."), name
        assert "nan" not in drawing.caption.lower().replace("finance", ""), (name, drawing.caption)
        assert len(drawing.alt) > len(drawing.caption), name
        assert len(drawing.data) > 0, name
        files.render(drawing, "parquet")
    for name, reason in reasons.items():
        assert len(reason) > 15, name
        assert "_" not in reason.partition("'")[0], (name, reason)


@pytest.mark.parametrize("study", [*SAMPLES, *SIMULATED, *LEDGER])
def test_every_figure_is_drawn_or_says_why(study):
    drawings, reasons = drawn_from(study)
    check(drawings, reasons)
    assert "causal_graph" in drawings


def test_every_figure_is_drawn_by_some_study():
    assert set(FIGURES) == {name for study in (*SAMPLES, *SIMULATED, *LEDGER) for name in drawn_from(study)[0]}


def test_repeated_treatment_and_no_results_give_reasons():
    drawings, reasons = draw_all(Inputs(DESIGNS["repeated_treatment"](200, 1)[0]))
    check(drawings, reasons)
    assert "repeated" in reasons["causal_graph"]
    assert len(reasons) > 30


CHEAP = ("aipw", "dr_learner", "causal_forest", "ols", "ipw", "bootstrap", "difference_in_means")


def plain(rows=260):
    return DESIGNS["confounded_smooth"](rows, 3)[0]


def renamed(study):
    long = "とても長い名前の列：過去十二か月間の累計購買回数（返品を除く） $a_b$ <b>"
    labels = {name: f"{long} {name}" for name in study.frame.columns}
    declaration = study.declaration.model_copy(update={"unit_of_outcome": "千円／人（消費税を含まない金額）"})
    return replace(study, labels=labels, arms=("割引クーポンなしの対照群（全店舗）", long), declaration=declaration)


def with_columns(study, extra, role=Role.COVARIATES):
    frame = pd.concat([study.frame, pd.DataFrame(extra)], axis=1)
    return replace(study, frame=frame, roles={**study.roles, role: (*study.names(role), *extra)})


def wide(study):
    x = study.matrix()
    return with_columns(study, {f"more{k}": np.cos((k + 1) * x[:, k % 12]) for k in range(188)})


def outliers(study):
    y = study.column(Role.OUTCOME)
    y[5], y[17] = 1e12, -3e11
    return study.with_column("y", y, Role.OUTCOME)


def empty_groups(study):
    treated = study.column(Role.TREATMENT)
    group = np.where(np.arange(len(treated)) % 3 == 0, "a", "b").astype(object)
    group[treated == 1] = "b"
    return with_columns(study, {"place": group}, Role.SUBGROUP)


def one_period(study):
    return with_columns(with_columns(study, {"id": np.arange(len(study)) * 1.0}, Role.UNIT),
                        {"when": np.ones(len(study))}, Role.TIME)  # fmt: skip


def of_domain(study, domain):
    """The study with money, told in the words of a domain, so that the domain's film is drawn."""
    money = {"value_per_unit": 1000.0, "cost_per_treatment": 200.0, "currency": "JPY", "budget": 20_000.0}
    money = study.declaration.money.model_copy(update=money)
    return replace(study, domain=domain, declaration=study.declaration.model_copy(update={"money": money}))


def nine_arms(rows=1200):
    study = DESIGNS["three_arms"](rows, 3)[0]
    frame = study.frame.assign(**{study.name(Role.TREATMENT): (np.arange(rows) * 7919 % 9).astype(float)})
    return replace(study, frame=frame, arms=("control", *(f"a rather long name of arm {k} of nine" for k in range(8))))


def scaled(study, factor):
    return study.with_column("y", factor * study.column(Role.OUTCOME), Role.OUTCOME)


BAD = {
    "constant columns": lambda: of_domain(with_columns(plain(), {"same": np.ones(260), "none": np.zeros(260)}),
                                          "healthcare"),
    "200 covariates": lambda: wide(plain(700)),
    "extreme outliers": lambda: of_domain(outliers(plain()), "finance"),
    "japanese names": lambda: of_domain(renamed(wide(plain(700)).take(np.arange(700))), "retail"),
    "empty groups": lambda: of_domain(empty_groups(plain()), "education"),
    "one period": lambda: one_period(plain()),
    "few rows": lambda: plain(60),
    "one unit": lambda: plain().take(np.arange(1)),
    "no covariates": lambda: replace(plain(), roles={**plain().roles, Role.COVARIATES: ()}),
    "nine arms": nine_arms,
    "tiny outcomes": lambda: scaled(plain(), 1e-9),
    "constant outcome": lambda: scaled(plain(), 0.0),
}  # fmt: skip


def check_moving(inputs, drawings):
    """Look at every other form of what was drawn: pages are whole, films are legible when they start and later."""
    for name in drawings:
        for form in FIGURES[name].moving:
            drawing = FIGURES[name].made(inputs, form)
            pd.testing.assert_frame_equal(drawing.data, drawings[name].data)
            if drawing.frames is None:
                assert "Plotly.newPlot" in drawing.page, name
                assert "NaN" not in drawing.page.rpartition("const held=")[2], name
            else:
                assert [problems(drawing.frames(place)) for place in (0, 14)] == [[], []], name


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gives_a_readable_figure_or_a_reason(kind):
    study = BAD[kind]()
    names = CHEAP if kind in ("few rows", "empty groups") else ("aipw", "t_learner", "ols")
    inputs = results_of(study, names, ("e_value", "partial_r2"))
    inputs = replace(inputs, findings=findings_of(inputs))
    drawings, reasons = draw_all(inputs)
    check(drawings, reasons)
    check_moving(inputs, drawings)


def test_infinite_intervals_and_missing_ones_are_drawn():
    inputs = inputs_of("policy")
    changed = {}
    for place, (name, item) in enumerate(inputs.answered().items()):
        head = item.headline
        interval = Interval(-math.inf, math.inf) if place % 2 else None
        changed[name] = replace(item, effects=(replace(head, interval=interval, p_value=None, std_error=None),))
    check(*draw_all(replace(inputs, estimates=changed)))


def test_nothing_at_all_gives_reasons_only():
    study = replace(plain(), roles={Role.OUTCOME: ("y",)}, arms=())
    drawings, reasons = draw_all(Inputs(study))
    assert set(drawings) <= {"timeseries_panel"}
    check(drawings, reasons)


def specification(rows=60):
    k = np.arange(rows)
    estimate = np.sin(k * 1.7)
    return pd.DataFrame(
        {"estimator": np.where(k % 2, "ols", "ipw"), "estimand": "ATE",
         "covariate_set": np.where(k % 3, "all", "without a_very_long_column_name_that_goes_on"), "sample": "all rows",
         "estimate": estimate, "low": estimate - 0.5, "high": np.where(k == 3, np.inf, estimate + 0.5),
         "p_value": 0.1, "n": 100}
    )  # fmt: skip


@pytest.mark.parametrize("rows", [2, 60, 900])
def test_specifications_are_sorted_and_their_choices_shown(rows):
    result = SensitivityResult(
        "specification_curve", "aipw", "ATE", 1.0, "share", Status.PASS, "m", "a", specification(rows)
    )
    inputs = Inputs(plain(), sensitivity={"specification_curve: aipw": result})
    drawings, _ = draw_all(inputs, {"specification_curve"})
    check(drawings, {})
    data = drawings["specification_curve"].data
    assert data["estimate"].is_monotonic_increasing
    assert len(data) == min(rows, 400)
    alone = replace(result, table=specification(1))
    assert "fewer than two" in draw_all(Inputs(plain(), sensitivity={"specification_curve: a": alone}))[1][
        "specification_curve"]  # fmt: skip


# What is drawn is what was found.


def lines_of(drawing, axis=0):
    return [np.column_stack(line.get_data()).astype(float) for line in drawing.figure.axes[axis].lines]


def holds(drawing, expected, axis=0):
    return any(line.shape == expected.shape and np.allclose(line, expected) for line in lines_of(drawing, axis))


@pytest.mark.parametrize(
    ("study", "figure", "estimator", "table", "columns"),
    [
        ("one_treated_unit", "synthetic_control_path", "synthetic_control", "gaps", ("time", "observed")),
        ("one_treated_unit", "synthetic_control_path", "synthetic_control", "gaps", ("time", "synthetic")),
        ("confounded_dose", "dose_response_curve", "dose_response", "curve", ("dose", "estimate")),
    ],
)
def test_lines_are_the_columns_of_the_table(study, figure, estimator, table, columns):
    inputs = inputs_of(study)
    expected = inputs.answered()[estimator].tables[table][list(columns)].to_numpy(dtype=float)
    assert holds(FIGURES[figure].made(inputs), expected)


def test_the_discontinuity_draws_the_fit_where_it_was_fitted():
    inputs = inputs_of("fuzzy_cutoff")
    curve = inputs.answered()["regression_discontinuity"].tables["curve"]
    drawing = FIGURES["rd_plot"].made(inputs)
    for side in ("left", "right"):
        block = curve[curve["inside"] & (curve["side"] == side)]
        assert holds(drawing, block[["running", "fit"]].to_numpy(dtype=float))
    assert (curve["fit_error"] > 0).all()


def test_the_fitted_segments_stop_and_start_at_the_change():
    inputs = inputs_of("interrupted_series")
    table = inputs.answered()["interrupted_time_series"].tables["counterfactual"]
    drawing = FIGURES["its_segments"].made(inputs)
    for treated, block in table.groupby("treated"):
        assert holds(drawing, block[["time", "fitted"]].to_numpy(dtype=float)), treated
    assert (table["without_error"][table["treated"] == 1] >= table["fitted_error"][table["treated"] == 1].min()).all()


def test_event_study_points_and_bands_are_the_table():
    inputs = inputs_of("staggered_panel")
    table = inputs.answered()["difference_in_differences"].tables["event_study"]
    drawing = FIGURES["event_study"].made(inputs)
    drawn = np.concatenate(
        [dots.get_offsets() for dots in drawing.figure.axes[0].collections if len(dots.get_offsets())]
    )
    for point in table[["event_time", "estimate"]].to_numpy():
        assert np.isclose(drawn, point).all(axis=1).any()
    bars = [bar.get_height() for bar in drawing.figure.axes[0].patches]
    np.testing.assert_allclose(sorted(bars), sorted(table["band_high"] - table["band_low"]))


def test_slopes_of_the_first_stage_are_those_of_the_estimator():
    inputs = inputs_of("encouraged_uptake")
    table = inputs.answered()["iv"].tables["first_stage"].set_index("instrument")["first_stage"]
    drawn = FIGURES["first_stage"].made(inputs).data.groupby("instrument")["slope"].first()
    np.testing.assert_allclose(drawn[table.index], table, rtol=1e-8)


def test_the_qini_curve_has_the_area_of_the_estimator_and_uplift_ends_at_the_average():
    inputs = inputs_of("retail")
    learner = {"t_learner": inputs.estimates["t_learner"]}
    alone = replace(inputs, estimates=learner, plan=("t_learner",))
    data = FIGURES["qini_curve"].made(alone).data
    table = learner["t_learner"].tables["uplift"].set_index("measure")
    assert data["gain"].iloc[-1] == pytest.approx(table.loc["qini", "end"])
    gain = FIGURES["uplift_curve"].made(alone).data["gain"].iloc[-1]
    assert gain == pytest.approx(learner["t_learner"].estimate)


def test_subgroups_average_to_all_units():
    inputs = inputs_of("healthcare")
    data = FIGURES["subgroup_forest"].made(inputs).data
    inside = data[data["by"] != ""]
    assert len(inside) == 6
    assert (inside["estimate"] * inside["rows"]).sum() / inside["rows"].sum() == pytest.approx(data["estimate"].iloc[0])


def test_contours_start_at_the_linear_estimate_and_fall():
    inputs = inputs_of("retail")
    first = next(iter(inputs.asked("partial_r2").values())).table.iloc[0]
    grid = FIGURES["confounding_contours"].made(inputs).data
    assert grid["estimate"].iloc[0] == pytest.approx(first["estimate"])
    diagonal = grid[np.isclose(grid["r2_treatment"] / grid["r2_treatment"].max(),
                               grid["r2_outcome"] / grid["r2_outcome"].max())]  # fmt: skip
    assert diagonal["estimate"].is_monotonic_decreasing


def test_every_arm_has_its_colour_in_every_figure():
    inputs = inputs_of("three_arms")
    wanted = {theme.arm_colour(inputs.study.arms, arm) for arm in inputs.study.arms[1:]}
    import matplotlib.colors as colours

    for name in ("cate_by_decile", "cate_distribution", "uplift_curve", "qini_curve", "quantile_treatment_effects",
                 "subgroup_forest", "distribution_compare"):  # fmt: skip
        drawing = FIGURES[name].made(inputs)
        used = set()
        for axis in drawing.figure.axes:
            used |= {colours.to_hex(line.get_color()).lower() for line in axis.lines}
            for patch in [*axis.patches, *axis.collections]:
                used |= {colours.to_hex(tone).lower() for tone in np.atleast_2d(patch.get_facecolor()) if len(tone)}
                used |= {colours.to_hex(tone).lower() for tone in np.atleast_2d(patch.get_edgecolor()) if len(tone)}
        assert {tone.lower() for tone in wanted} <= used, name


# Forms and files.


def moving(inputs, form):
    def frame(place):
        figure, axis = theme.single()
        axis.plot([0, 1], [0, place])
        axis.set_ylim(0, 30)
        return figure

    figure, axis = theme.single()
    axis.plot([0, 1], [0, 1])
    page = "<!doctype html><title>x</title>" if form == "3d" else ""
    data = pd.DataFrame({"x": [1.0]})
    return Drawing(figure, data, "A caption.", "Alt text. A caption.", page, frame if form == "animated" else None)


MOVING = FigureSpec("moving", "Moving", "Does it move?", moving, (), forms=("2d", "3d", "animated"))


def test_forms_have_files_of_their_own():
    from PIL import Image

    inputs = Inputs(plain())
    assert files.kinds(MOVING.made(inputs)) == ("png", "svg", "parquet")
    assert files.kinds(MOVING.made(inputs, "3d"))[-1] == "html"
    drawing = MOVING.made(inputs, "animated")
    picture = Image.open(io.BytesIO(files.render(drawing, "gif")))
    assert (picture.size, picture.n_frames, picture.info["duration"], picture.info["loop"]) == ((800, 600), 30, 200, 0)
    with pytest.raises(CatalogError, match="no form"):
        FIGURES["rd_plot"].made(inputs, "3d")


def test_a_surface_turns_without_a_network():
    inputs = inputs_of("retail")
    drawing = FIGURES["causal_surface_3d"].made(inputs, "3d")
    page = files.render(drawing, "html").decode()
    assert page.startswith("<!doctype html>")
    assert "Plotly.newPlot" in page
    assert "<script src=" not in page
    assert "<link" not in page
    assert "年齢" in page
    pd.testing.assert_frame_equal(drawing.data, FIGURES["causal_surface_3d"].made(inputs).data)


def test_reasons_say_what_the_estimator_said():
    inputs = inputs_of("policy")
    assert not isinstance(inputs.estimates["iv"], EffectEstimate)
    reason = FIGURES["first_stage"].unmet(inputs)
    assert reason.startswith("needs first stage of iv, but: ")
    assert inputs.estimates["iv"].reason in reason
    assert "specification curve" in FIGURES["specification_curve"].unmet(replace(inputs, sensitivity={}))
