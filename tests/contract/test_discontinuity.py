"""Regression discontinuity: cutoffs that are stated or found, options, refusals, and what warns."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Declaration
from cqox_assets.diagnostics.density import density_test
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.discontinuity import cutoff_between
from cqox_assets.numerics.local_polynomial import Residuals, Side, fit_local, noise
from cqox_assets.numerics.neighbours import Neighbours
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, plus_covariate, replaced, run, small

RD = load_estimators()["regression_discontinuity"]


def status(outcome: EffectEstimate, name: str) -> Status:
    return next(item.status for item in outcome.diagnostics if item.name == name)


def undeclared(study: Study) -> Study:
    return replace(study, declaration=Declaration())


def test_each_way_of_reporting_is_its_row_of_the_table() -> None:
    study = small("fuzzy_cutoff", 1500)
    rows = answer(RD, study).tables["jumps"].set_index("jump")
    for report in ("robust", "bias_corrected", "conventional"):
        outcome = answer(RD, study, report=report)
        assert outcome.estimate == pytest.approx(rows.loc[report, "estimate"])
        assert outcome.std_error == pytest.approx(rows.loc[report, "std_error"])
    assert rows.loc["robust", "estimate"] == rows.loc["bias_corrected", "estimate"]
    assert rows.loc["robust", "std_error"] > rows.loc["bias_corrected", "std_error"]
    assert rows.loc["treatment", "estimate"] == pytest.approx(0.7, abs=0.15)


@pytest.mark.parametrize("noise_kind", ["nn", "hc0", "hc1", "hc2", "hc3"])
@pytest.mark.parametrize("kernel", ["triangular", "epanechnikov", "uniform"])
def test_every_option_finds_the_effect(noise_kind: str, kernel: str) -> None:
    outcome = answer(RD, small("sharp_cutoff", 3000), noise=noise_kind, kernel=kernel)
    assert outcome.std_error is not None
    assert abs(outcome.estimate - 1) < 4 * outcome.std_error
    assert 0.03 < outcome.std_error < 0.3


def test_higher_order_and_given_bandwidths() -> None:
    study = small("sharp_cutoff", 3000)
    assert abs(answer(RD, study, order=2, bias_order=3).estimate - 1) < 0.5
    fixed = answer(RD, study, h=0.4, b=0.6)
    assert fixed.tables["bandwidth"]["h"].tolist() == [0.4, 0.4]
    assert answer(RD, study, h=0.4).estimate == pytest.approx(answer(RD, study, h=0.4, b=0.4).estimate)


def test_units_of_the_running_variable_do_not_matter() -> None:
    study = small("fuzzy_cutoff", 1500)
    plain = answer(RD, study)
    moved = replace(
        replaced(study, Role.RUNNING_VARIABLE, 1000 + 50 * study.frame["r"].to_numpy()),
        declaration=Declaration(cutoff=1000.0),
    )
    assert answer(RD, moved).estimate == pytest.approx(plain.estimate, rel=1e-6)
    assert answer(RD, moved).std_error == pytest.approx(plain.std_error, rel=1e-6)


def test_a_rule_that_treats_below_the_cutoff_turns_the_sign() -> None:
    study = small("sharp_cutoff", 1500)
    mirrored = replaced(study, Role.RUNNING_VARIABLE, -study.frame["r"].to_numpy())
    assert answer(RD, mirrored).estimate == pytest.approx(answer(RD, study).estimate, rel=1e-6)
    assert answer(RD, mirrored, design="sharp").estimate > 0


def test_a_sharp_design_is_the_fuzzy_one_with_a_full_jump() -> None:
    study = small("sharp_cutoff", 1500)
    fuzzy, sharp = answer(RD, study, design="fuzzy"), answer(RD, study)
    assert fuzzy.estimate == pytest.approx(sharp.estimate, rel=1e-9)
    assert "constant on one side" in " ".join(fuzzy.notices)
    assert "sharp" not in fuzzy.tables["jumps"]["jump"].tolist()


def test_an_undeclared_cutoff_is_found_where_the_arms_part_and_said() -> None:
    study = small("sharp_cutoff", 1500)
    outcome = answer(RD, undeclared(study))
    assert outcome.estimate == answer(RD, study).estimate
    assert "cutoff 0 " in " ".join(outcome.notices)


@pytest.mark.parametrize(
    ("low", "high", "found"), [(-0.0021, 0.0007, 0.0), (49.7, 50.2, 50.0), (17.96, 18.0, 18.0), (1.2344, 1.2356, 1.235)]
)
def test_the_roundest_number_between_two_groups(low: float, high: float, found: float) -> None:
    assert cutoff_between(low, high) == pytest.approx(found)


@pytest.mark.parametrize(
    ("change", "values", "code", "words"),
    [
        (lambda s: undeclared(small("fuzzy_cutoff")), {}, "missing_cutoff", "no cutoff"),
        (lambda s: s, {"cutoff": 7.0}, "no_observations_near_cutoff", "one side"),
        (lambda s: s, {"cutoff": 0.999}, "no_observations_near_cutoff", "one side"),
        (lambda s: s, {"h": 0.001}, "no_observations_near_cutoff", "within 0.001"),
        (lambda s: s.take(np.arange(12)), {}, "no_observations_near_cutoff", ""),
        (lambda s: small("fuzzy_cutoff"), {"design": "sharp"}, "not_sharp", "does not decide"),
        (lambda s: s, {"cutoff": 0.5, "h": 0.3}, "no_jump", "does not change"),
        (
            lambda s: replaced(s, Role.RUNNING_VARIABLE, np.sign(s.frame["r"].to_numpy())),
            {},
            "no_observations_near_cutoff",
            "",
        ),
    ],
)
def test_refusals_say_what_to_do(change, values, code: str, words: str) -> None:
    outcome = run(RD, change(small("sharp_cutoff")), **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.code == code
    assert words in outcome.reason
    assert outcome.remedy


@pytest.mark.parametrize(
    "values", [{"order": -1}, {"bias_order": 1}, {"h": 0.0}, {"b": 0.3}, {"neighbours": 0}, {"trim": 0.1}]
)
def test_values_out_of_range_are_named(values) -> None:
    with pytest.raises(CatalogError, match=next(iter(values))):
        run(RD, small("sharp_cutoff"), **values)


def test_manipulation_and_sorting_each_set_off_their_own_alarm() -> None:
    moved, sorted_, honest = (
        answer(RD, small(name, 3000)) for name in ("manipulated_cutoff", "sorted_cutoff", "sharp_cutoff")
    )
    assert [status(item, "density_p") for item in (moved, sorted_, honest)] == [Status.WARN, Status.PASS, Status.PASS]
    found = [status(item, "covariate_continuity_p") for item in (moved, sorted_, honest)]
    assert found[1:] == [Status.WARN, Status.PASS]
    worst = sorted_.diagnostic("covariate_continuity_p")
    assert worst is not None
    assert "x0" in worst.detail


def test_the_density_test_keeps_its_size_and_finds_a_step() -> None:
    generator = np.random.default_rng(5)
    smooth = [density_test(generator.standard_normal(600) + 0.3).p_value < 0.05 for _ in range(200)]
    assert sum(smooth) < 0.05 * 200 + 3.5 * np.sqrt(200 * 0.05 * 0.95)
    step = np.concatenate([-generator.random(800), generator.random(1800)])
    found = density_test(step)
    assert found.p_value < 0.01
    assert (found.left, found.right) == pytest.approx((800 / 2600, 1800 / 2600), abs=0.12)


def test_a_weak_jump_of_treatment_warns() -> None:
    study = small("fuzzy_cutoff", 800)
    generator = np.random.default_rng(3)
    uptake = (generator.random(800) < np.where(study.frame["r"] >= 0, 0.55, 0.5)) * 1.0
    assert status(answer(RD, replaced(study, Role.TREATMENT, uptake)), "treatment_jump_f") is Status.WARN


def test_weights_are_refused_by_name() -> None:
    study = small("sharp_cutoff")
    frame = study.frame.assign(w=np.arange(len(study)) + 1.0)
    outcome = run(RD, replace(study, frame=frame, roles={**study.roles, Role.WEIGHT: ("w",)}))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "weight_not_supported"


def test_neighbours_of_the_own_cluster_are_no_measure_of_noise() -> None:
    with pytest.raises(CatalogError, match="hc3"):
        run(RD, small("clustered_cutoff", 1000), noise="nn")


def test_a_constant_covariate_is_no_news() -> None:
    study = plus_covariate(small("sharp_cutoff"), "same", np.full(500, 2.0))
    assert "same" not in answer(RD, study).tables["covariate_jumps"]["covariate"].tolist()


def test_neighbours_by_hand() -> None:
    x = np.array([0.0, 1.0, 1.0, 2.0, 5.0])
    y = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    found = Neighbours.of(x, 2).residuals(y)[:, 0]
    # 0: both at 1. First 1: its copy, then 0 and 2 are tied. 2: both at 1. 5: 2, then both at 1.
    by_hand = [(1 - 3, 2), (2 - (4 + 1 + 8) / 3, 3), (4 - (2 + 1 + 8) / 3, 3), (8 - 3, 2), (16 - (8 + 2 + 4) / 3, 3)]
    assert found == pytest.approx([gap * np.sqrt(j / (j + 1)) for gap, j in by_hand])


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_neighbours_within_a_window_are_those_of_its_rows_alone(decimals: int) -> None:
    generator = np.random.default_rng(decimals)
    x, y = np.sort(np.round(generator.random(80), decimals)), generator.standard_normal((80, 2))
    everywhere = Neighbours.of(x, 3)
    for start, stop in ((0, 80), (0, 17), (41, 80), (10, 60), (30, 33), (5, 6)):
        rows = slice(start, stop)
        alone = Neighbours.of(x[rows], 3).residuals(y[rows])
        assert everywhere.residuals(y[rows], rows) == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("order", [1, 4])
def test_a_local_fit_is_weighted_least_squares(order: int, sign: float) -> None:
    generator = np.random.default_rng(order)
    x = np.sort(sign * generator.random(200))
    y = generator.standard_normal((200, 2))
    side, near = Side(x, y), np.abs(x) < 0.6
    fit = fit_local(side, 0.6, order, "triangular")
    design, root = x[near][:, None] ** np.arange(order + 1), np.sqrt((1 - np.abs(x[near]) / 0.6) / 0.6)
    wanted = np.linalg.lstsq(design * root[:, None], y[near] * root[:, None], rcond=None)[0]
    assert fit.coef == pytest.approx(wanted, rel=1e-8)
    assert np.array_equal(side.x[fit.rows], x[near])
    assert fit.bread @ (design.T @ (design * root[:, None] ** 2)) == pytest.approx(np.eye(order + 1), abs=1e-6)


def test_the_cluster_jackknife_leaves_each_cluster_out() -> None:
    generator = np.random.default_rng(2)
    x, cluster = np.sort(generator.random(60)), np.repeat(np.arange(12), 5)
    side = Side(x, generator.standard_normal((60, 1)), cluster)
    found = noise(side, fit_local(side, 2.0, 1, "triangular"), Residuals("hc3"))
    for own in (0, 7):
        rest = cluster != own
        fit = fit_local(Side(x[rest], side.responses[rest]), 2.0, 1, "triangular")
        wanted = side.responses[~rest] - np.column_stack([np.ones(5), x[~rest]]) @ fit.coef
        assert found[~rest] == pytest.approx(wanted)


def test_the_plan_knows_a_cutoff_and_leaves_a_plain_cross_section_alone() -> None:
    frame = small("sharp_cutoff", 600).frame.assign(d=lambda table: np.where(table["d"] == 1, "yes", "no"))
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x0"]}
    assert "running_variable" in cqox.plan(frame, roles).refused["regression_discontinuity"]
    plan = cqox.plan(frame, {**roles, "running_variable": "r"})
    assert plan.ranked[0][0] == "regression_discontinuity"
    fuzzy = small("fuzzy_cutoff", 600).frame.assign(d=lambda table: np.where(table["d"] == 1, "yes", "no"))
    assert "cutoff" in cqox.plan(fuzzy, {**roles, "running_variable": "r"}).refused["regression_discontinuity"]
    outcome = cqox.estimate("rd_fuzzy", fuzzy, {**roles, "running_variable": "r"}, cutoff=0.0)
    assert isinstance(outcome, EffectEstimate)


@st.composite
def studies(draw: st.DrawFn) -> Study:
    n = draw(st.integers(2, 80))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-9, 1e9]))
    shape = draw(st.sampled_from(["smooth", "tied", "constant", "heap"]))
    r = generator.uniform(-1, 1, n)
    if shape == "tied":
        r = np.round(5 * r) / 5
    elif shape == "constant":
        r[:] = 0.3
    elif shape == "heap":
        r[: n // 2] = 0.0
    d = (
        generator.random(n) < np.where(r >= 0, draw(st.sampled_from([1.0, 0.8])), draw(st.sampled_from([0.0, 0.3])))
    ) * 1.0
    y = draw(st.sampled_from([generator.standard_normal(n) * scale, generator.integers(0, 2, n) * 1.0, d * 2.0]))
    frame = pd.DataFrame({"r": r * scale, "d": d, "y": y, "x": generator.standard_normal(n), "c": np.arange(n) % 6})
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.RUNNING_VARIABLE: ("r",), Role.COVARIATES: ("x",)
    }  # fmt: skip
    if draw(st.booleans()):
        roles[Role.CLUSTER] = ("c",)
    return Study(frame=frame, roles=roles, arms=("no", "yes"), declaration=Declaration(cutoff=0.0))


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(study=studies())
def test_an_answer_or_a_refusal(study: Study) -> None:
    outcome = run(RD, study)
    if isinstance(outcome, Refusal):
        assert outcome.code
        assert outcome.remedy
        return
    assert np.isfinite(outcome.estimate)
    assert "NaN" not in to_text(outcome.to_json())


def test_every_design_has_a_cutoff_at_any_size() -> None:
    for name in RD.truths:
        assert DESIGNS[name](10, 0)[0].declaration.cutoff == 0.0


def test_a_constant_outcome_is_refused_as_such() -> None:
    frame = pd.DataFrame({"s": np.random.default_rng(0).standard_normal(160), "y": 3.0})
    outcome = cqox.estimate("regression_discontinuity", frame, {"outcome": "y", "running_variable": "s"}, cutoff=0.0)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "constant_outcome"
    assert "'y'" in outcome.reason
