"""What the dose-response curve promises beyond the general contract, and how a dose plays the treatment."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Contrast, Declaration
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.dose import DoseData, DoseScale, band_quantile, best_dose
from cqox_assets.numerics.dose_gps import fit_gps, gps_curve
from cqox_assets.numerics.dose_kernel import Smoother, kernel_curve, pseudo_outcomes
from cqox_assets.numerics.dose_support import dose_correlations, extrapolated_share
from cqox_assets.numerics.dose_surface import fit_surface
from cqox_assets.result import Effect, EffectEstimate, Refusal
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.simulate.dose_designs import _index
from cqox_assets.study import Role, Study
from tests.conftest import ROOT
from tests.contract.helpers import SEED, answer, replaced, run, small, without

DOSE = load_estimators()["dose_response"]
PRIZE = ["agew", "educ", "male", "workthen", "tixbot", "yearw", *(f"xearn_{k}" for k in range(1, 7))]
LOTTERY = {"outcome": "yearn_7", "dose": "yearlpr", "covariates": PRIZE}


def lottery() -> pd.DataFrame:
    return pd.read_csv(ROOT / "tests" / "oracle" / "data" / "lottery.csv")


def refused(study: Study, **values: object) -> Refusal:
    outcome = run(DOSE, study, **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.remedy
    return outcome


def of(outcome: EffectEstimate, estimand: str) -> list[Effect]:
    return [effect for effect in outcome.effects if effect.estimand == estimand]


def test_the_curve_follows_the_truth_where_the_naive_one_does_not() -> None:
    study = small("confounded_dose", 4000)
    curve = answer(DOSE, study).tables["curve"]
    truth = curve["dose"] - 0.1 * (curve["dose"] - 5) ** 2
    inside = curve["extrapolated"] < 0.05
    assert (np.abs(curve["estimate"] - truth) < 4 * curve["std_error"])[inside].all()
    naive = np.polyval(np.polyfit(study.frame["d"], study.frame["y"], 2), curve["dose"])
    assert np.abs(naive - truth).max() > 3 * np.abs(curve["estimate"] - truth).max()


@pytest.mark.parametrize("method", ["doubly_robust", "gps"])
def test_table_of_the_curve(method: str) -> None:
    curve = answer(DOSE, small("confounded_dose", 1000), method=method, doses=[5.0]).tables["curve"]
    assert list(curve)[:7] == ["dose", "estimate", "std_error", "low", "high", "band_low", "band_high"]
    assert {4.0, 5.0, 6.0} <= set(curve["dose"])
    assert curve["dose"].is_monotonic_increasing
    assert (curve["band_low"] < curve["low"]).all()
    assert (curve["band_high"] > curve["high"]).all()
    assert curve["extrapolated"].between(0, 1).all()


def test_the_band_covers_more_often_than_points() -> None:
    truth = lambda dose: 2 * np.sin(dose - 5)  # noqa: E731
    whole, points = [], []
    for seed in range(25):
        curve = answer(DOSE, DESIGNS["wavy_dose"](1500, seed)[0], nuisance="spline").tables["curve"]
        whole.append(
            curve["band_low"].le(truth(curve["dose"])).all() & curve["band_high"].ge(truth(curve["dose"])).all()
        )
        points.append((curve["low"].le(truth(curve["dose"])) & curve["high"].ge(truth(curve["dose"]))).mean())
    assert np.mean(whole) >= 0.8
    assert 0.85 < np.mean(points) < 0.99


def test_either_model_may_be_wrong() -> None:
    """The curve is right with the true density ratio and no outcome model, or with no ratio and an outcome model."""
    study, truth = DESIGNS["confounded_dose"](20_000, SEED)
    dose, scale, y = study.column(Role.TREATMENT), DoseScale("level"), study.column(Role.OUTCOME)
    data = DoseData(study.matrix(), y, dose, dose, scale, None, None)
    surface = fit_surface(data, data.folds(5, 0), np.ones(12), "spline")
    nothing = replace(surface, own=0 * y, free=0 * y, moving=0 * y, coef=0 * surface.coef)
    gap = dose - 5 - _index(data.x)
    middle = 5 + _index(data.x)[:2000]
    grid = np.linspace(dose.min(), dose.max(), 300)
    marginal = np.interp(dose, grid, np.exp(-0.5 * (grid[:, None] - middle) ** 2).mean(axis=1))
    ratio = marginal / np.exp(-0.5 * gap**2)
    places, found = np.array([4.0, 6.0]), {}
    for name, model, weights in (
        ("ratio", nothing, ratio), ("outcome", surface, np.ones(20_000)), ("neither", nothing, np.ones(20_000))
    ):  # fmt: skip
        values, influence = kernel_curve(data, pseudo_outcomes(data, model, weights), places, 0.8, 2)
        found[name] = (values[1] - values[0], data.std_error(influence[:, 1] - influence[:, 0]))
    for name in ("ratio", "outcome"):
        value, error = found[name]
        assert abs(value - truth["dose_contrast"]) < 4 * error, name
    assert found["neither"][0] - truth["dose_contrast"] > 10 * found["neither"][1]


def test_effects_by_estimand() -> None:
    study, truth = DESIGNS["peaked_dose"](3000, SEED)
    first = answer(DOSE, study)
    assert [effect.estimand for effect in first.effects] == ["slope", "dose_contrast", "optimal_dose"]
    assert first.effects[0].contrast == "one unit of d"
    levels = answer(DOSE, study, estimand="dose_response")
    assert [(effect.estimand, effect.at.get("dose")) for effect in levels.effects[:2]] == [
        ("dose_response", 4.0), ("dose_response", 6.0),
    ]  # fmt: skip
    assert levels.p_value is None
    gap = of(levels, "dose_response")[1].estimate - of(levels, "dose_response")[0].estimate
    assert gap == pytest.approx(of(levels, "dose_contrast")[0].estimate)
    best = answer(DOSE, study, estimand="optimal_dose").headline
    assert best.scale == "dose"
    assert best.interval is not None
    assert best.std_error is not None
    assert best.interval.covers(truth["optimal_dose"])
    assert abs(best.estimate - truth["optimal_dose"]) < 4 * best.std_error


def test_the_best_dose_is_covered_and_follows_the_direction() -> None:
    hits = 0
    for seed in range(20):
        study, truth = DESIGNS["peaked_dose"](1500, seed)
        best = of(answer(DOSE, study, nuisance="spline"), "optimal_dose")[0]
        hits += best.interval is not None and best.interval.covers(truth["optimal_dose"])
    assert hits >= 16
    lowest = answer(DOSE, study, nuisance="spline", best="lowest")
    assert any("end of the curve" in notice for notice in lowest.notices)
    table = lowest.tables["optimal_dose"].set_index("outcome")
    assert of(lowest, "optimal_dose")[0].estimate == table.loc["lowest", "dose"]
    assert table.loc["lowest", "at_edge"]
    assert not table.loc["highest", "at_edge"]


def test_no_direction_no_best_dose() -> None:
    study = small("confounded_dose")
    assert not of(answer(DOSE, study), "optimal_dose")
    assert refused(study, estimand="optimal_dose").code == "missing_direction"
    assert of(answer(DOSE, study, best="highest"), "optimal_dose")


def test_contrasts_are_declared_given_or_the_quartiles() -> None:
    study = small("confounded_dose", 800)
    assert of(answer(DOSE, study), "dose_contrast")[0].contrast == "6 - 4 of d"
    assert of(answer(DOSE, study, contrast=(3.5, 5)), "dose_contrast")[0].contrast == "5 - 3.5 of d"
    several = Declaration(contrast=Contrast(reference=4, compared=(5, "6")))
    found = of(answer(DOSE, replace(study, declaration=several)), "dose_contrast")
    assert [effect.at["dose"] for effect in found] == [5.0, 6.0]
    quarter = np.quantile(study.frame["d"], [0.25, 0.75])
    bare = of(answer(DOSE, replace(study, declaration=Declaration())), "dose_contrast")[0]
    assert bare.contrast == f"{quarter[1]:g} - {quarter[0]:g} of d"
    words = Declaration(contrast=Contrast(reference="none", compared=("high",)))
    assert refused(replace(study, declaration=words)).code == "bad_declaration"


def test_standard_errors_count_the_estimated_score() -> None:
    """The influence of the stacked equations is the derivative of the curve in each row's weight."""
    rows = lottery().query("winner == 1 and yearlpr > 0")
    doses = np.array([5.0, 20.0, 80.0])

    def curve(weight: np.ndarray) -> np.ndarray:
        dose, scale = rows["yearlpr"].to_numpy(), DoseScale("log")
        data = DoseData(
            rows[PRIZE].to_numpy(float), rows["yearn_7"].to_numpy(), dose, scale.place(dose), scale, weight, None
        )
        return gps_curve(data, fit_gps(data), doses).estimate

    ones, dose, scale = np.ones(len(rows)), rows["yearlpr"].to_numpy(), DoseScale("log")
    data = DoseData(rows[PRIZE].to_numpy(float), rows["yearn_7"].to_numpy(), dose, np.log(dose), scale, None, None)
    influence = gps_curve(data, fit_gps(data), doses).influence
    assert np.allclose(influence.mean(axis=0), 0, atol=1e-9 * np.abs(influence).max())
    for row in (0, 17, 200):
        moved = ones.copy()
        moved[row] += 1e-4
        slope = (curve(moved / moved.mean()) - curve(ones)) / 1e-4 * len(ones)
        assert slope == pytest.approx(influence[row], rel=1e-3, abs=1e-4 * np.abs(influence).max())


def test_gps_standard_errors_agree_with_the_bootstrap() -> None:
    values = {"method": "gps", "scale": "log", "doses": [20.0, 60.0], "contrast": (20.0, 60.0)}
    analytic = cqox.estimate("GPS", lottery(), LOTTERY, **values)
    drawn = cqox.estimate("GPS", lottery(), LOTTERY, inference="bootstrap", draws=200, **values)
    assert isinstance(analytic, EffectEstimate)
    assert isinstance(drawn, EffectEstimate)
    for first, second in zip(analytic.effects[1:], drawn.effects[1:], strict=True):
        assert first.std_error == pytest.approx(second.std_error, rel=0.25)


def test_gps_variance_and_density_are_offered() -> None:
    study = small("confounded_dose", 800)
    first, second = (answer(DOSE, study, method="gps", gps_variance=f"rss_over_n{k}") for k in ("", "_minus_k"))
    value = [item.tables["gps_model"].set_index("term").loc["gps_variance", "estimate"] for item in (first, second)]
    assert value[1] == pytest.approx(value[0] * 800 / (800 - 13))
    normal = answer(DOSE, study, density="normal", nuisance="spline")
    kernel = answer(DOSE, study, nuisance="spline")
    assert normal.effects[1].estimate != kernel.effects[1].estimate
    assert abs(normal.effects[1].estimate - kernel.effects[1].estimate) < 2 * (kernel.effects[1].std_error or 0)


def test_bandwidths_are_given_or_chosen() -> None:
    study, values = small("wavy_dose", 2000), {"nuisance": "spline"}
    wide = answer(DOSE, study, bandwidth=2.0, **values)
    narrow = answer(DOSE, study, bandwidth=0.3, **values)
    assert (narrow.effects[1].std_error or 0) > 1.3 * (wide.effects[1].std_error or 0)
    crossed = answer(DOSE, study, bandwidth_rule="cross_validation", **values)
    assert abs(crossed.effects[1].estimate - 4 * np.sin(1)) < 4 * (crossed.effects[1].std_error or 0)
    line = answer(DOSE, study, bias_correction=False, **values)
    assert "local linear" in line.inference
    assert (line.effects[1].std_error or 0) < (answer(DOSE, study, **values).effects[1].std_error or 0)


def test_repeats_take_the_median_and_count_the_spread() -> None:
    study, values = small("wavy_dose", 800), {"nuisance": "spline"}
    alone = [answer(DOSE, study, seed=seed, **values) for seed in range(3)]
    points = np.array([item.effects[0].estimate for item in alone])
    assert len(set(points)) == 3
    together = answer(DOSE, study, repeats=3, **values)
    assert together.estimate == pytest.approx(np.median(points))
    assert "median of 3 cross-fittings" in together.inference


def test_diagnostics_tell_a_steered_dose_from_a_free_one() -> None:
    free, steered = answer(DOSE, small("confounded_dose", 2000)), answer(DOSE, small("steered_dose", 2000))
    assert {item.status for item in free.diagnostics} == {Status.PASS}
    bad = {item.name for item in steered.diagnostics if item.status in (Status.WARN, Status.FAIL)}
    assert {"dose_overlap", "treatment_variation"} <= bad
    assert any("extrapolation" in notice for notice in steered.notices)
    balance = free.tables["dose_balance"]
    assert balance["before"].max() > 0.3 > 0.1 > balance["after"].max()


def test_rows_without_a_dose_are_left_out_and_counted() -> None:
    outcome = cqox.estimate("dose_response", lottery(), LOTTERY)
    assert isinstance(outcome, EffectEstimate)
    assert outcome.sample.used == 237
    assert outcome.sample.dropped["dose is zero"] == 259
    assert any("rows without any dose" in notice for notice in outcome.notices)
    assert any("log scale" in notice for notice in outcome.notices)
    kept = cqox.estimate("dose_response", lottery(), LOTTERY, scale="level", method="gps")
    assert isinstance(kept, EffectEstimate)
    assert kept.sample.used == 496


@pytest.mark.parametrize(
    ("change", "values", "code", "words"),
    [
        (lambda s: s, {"doses": [50.0]}, "dose_outside_support", "50 lies outside"),
        (lambda s: s, {"contrast": (5.0, -9.0)}, "dose_outside_support", "-9 lies outside"),
        (lambda s: replaced(s, Role.TREATMENT, np.round(s.frame["d"].clip(4, 6))), {}, "few_doses", "3 different"),
        (lambda s: replaced(s, Role.TREATMENT, s.frame["d"] - 5), {"scale": "log"}, "nonpositive_dose", "not positive"),
        (lambda s: replaced(s, Role.TREATMENT, s.frame["x0"] * 2 + 5), {}, "no_variation", "perfectly"),
        (lambda s: replaced(s, Role.TREATMENT, np.full(len(s), 2.5)), {}, "one_arm_only", "2.5"),
        (lambda s: s.take(np.arange(8)), {}, "empty_fold_arm", "rows"),
    ],
)
def test_refusals(change, values, code, words) -> None:  # type: ignore[no-untyped-def]
    outcome = refused(change(small("confounded_dose", 400)), nuisance="linear", **values)
    assert outcome.code == code
    assert words in outcome.reason


@pytest.mark.parametrize(
    "values", [{"doses": [np.nan]}, {"contrast": (1.0,)}, {"contrast": (2.0, 2.0)}, {"points": 2}, {"bandwidth": -1.0},
               {"ratio_limit": 0.5}, {"trim": 0.1}]
)  # fmt: skip
def test_parameters_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(CatalogError, match=next(iter(values))):
        run(DOSE, small("confounded_dose"), **values)


def test_extreme_doses_are_named() -> None:
    study = small("confounded_dose", 800)
    far = float(np.sort(study.frame["d"])[-2])
    assert any("most extreme 2%" in notice for notice in answer(DOSE, study, doses=[far]).notices)


def test_a_mass_of_doses_is_named() -> None:
    study = small("confounded_dose", 800)
    heaped = replaced(study, Role.TREATMENT, np.where(np.arange(800) % 4 == 0, 5.0, study.frame["d"]))
    assert any("25% of the rows have the dose 5" in notice for notice in answer(DOSE, heaped).notices)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
@pytest.mark.parametrize("method", ["doubly_robust", "gps"])
def test_units_do_not_matter(method: str, factor: float) -> None:
    study = replace(small("confounded_dose", 600), declaration=Declaration())
    scaled = replaced(
        replaced(study, Role.TREATMENT, study.frame["d"] * factor), Role.OUTCOME, study.frame["y"] / factor
    )
    plain, other = (answer(DOSE, item, method=method, nuisance="spline") for item in (study, scaled))
    assert other.estimate == pytest.approx(plain.estimate / factor**2, rel=1e-5)
    assert other.effects[1].estimate == pytest.approx(plain.effects[1].estimate / factor, rel=1e-5)
    assert other.effects[1].std_error == pytest.approx((plain.effects[1].std_error or 0) / factor, rel=1e-5)
    assert [item.status for item in other.diagnostics] == [item.status for item in plain.diagnostics]


def test_local_regression_reproduces_a_parabola_at_ties() -> None:
    place = np.repeat(np.arange(30.0) / 10, 4)
    smoother = Smoother(place, np.ones(len(place)), 0.2, 2)
    value, inside, linear, rest = smoother.at(1.23, 1 + place - 2 * place**2)
    assert value == pytest.approx(1 + 1.23 - 2 * 1.23**2)
    assert linear.sum() == pytest.approx(1)
    assert np.abs(rest).max() < 1e-9
    assert len(np.unique(place[inside])) >= 4


def test_band_and_best_dose_of_known_curves() -> None:
    wide = band_quantile(np.eye(20), 0.95, 20_000, 0)
    assert wide == pytest.approx(3.02, abs=0.05)  # 20 independent normals
    assert band_quantile(np.ones((5, 5)), 0.95, 20_000, 0) == pytest.approx(1.96, abs=0.03)
    doses = np.linspace(0, 4, 9)
    best = best_dose(doses, -((doses - 1.7) ** 2), 1e-12 * np.eye(9), 1.0, 50, 0)
    assert best.dose == pytest.approx(1.7)
    assert best.outcome == pytest.approx(0.0, abs=1e-9)
    assert not best.at_edge
    assert best_dose(doses, doses * 1.0, 1e-12 * np.eye(9), 1.0, 50, 0).at_edge


def test_correlation_and_extrapolation_by_hand() -> None:
    x = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [5.0, 1.0]])
    found = dose_correlations(x, np.array([0.0, 1.0, 2.0, -9.0]), np.array([1.0, 1.0, 1.0, 0.0]))
    assert found == pytest.approx([1.0, 0.0])
    share = extrapolated_share(
        np.array([0.0, 3.0]), np.array([0.0, 2.0]), np.ones(2), np.array([1.0, -1.5]), np.ones(2)
    )
    assert share == pytest.approx([0.5, 0.5])


def test_a_dose_plays_the_treatment() -> None:
    frame = lottery().query("winner == 1 and yearlpr > 0")
    by_dose = cqox.estimate_all(frame, LOTTERY, only=["dose_response", "ols", "aipw"])
    by_treatment = {key: value for key, value in LOTTERY.items() if key != "dose"} | {"treatment": "yearlpr"}
    for name, outcome in cqox.estimate_all(frame, by_treatment, only=["dose_response", "ols"]).items():
        assert isinstance(outcome, EffectEstimate)
        assert outcome.effects == by_dose[name].effects  # type: ignore[union-attr]
    kind = by_dose["aipw"]
    assert isinstance(kind, Refusal)
    assert kind.code == "treatment_kind"
    assert "'yearlpr' is continuous" in kind.reason
    assert "dose_response, double_ml, ols" in kind.remedy


def test_arms_and_a_dose_side_by_side() -> None:
    roles = LOTTERY | {"treatment": "winner"}
    found = cqox.estimate_all(lottery(), roles, only=["dose_response", "difference_in_means"])
    assert isinstance(found["dose_response"], EffectEstimate)
    assert found["dose_response"].estimand == "slope"
    assert isinstance(found["difference_in_means"], EffectEstimate)
    assert found["difference_in_means"].estimand == "ATE"


def test_neither_dose_nor_treatment_and_two_doses_are_named() -> None:
    study = small("confounded_dose")
    missing = refused(without(study, Role.TREATMENT))
    assert missing.code == "missing_role"
    assert "'treatment' or 'dose'" in missing.reason
    assert "{dose: <column>}" in missing.remedy
    double = replace(study, roles={**study.roles, Role.DOSE: ("d", "x11")})
    assert refused(double).code == "several_doses"
    binary = refused(small("randomised_trial"))
    assert binary.code == "treatment_kind"
    assert "dose: <column>" in binary.remedy


def test_the_plan_puts_the_curve_first_where_there_is_a_dose() -> None:
    for roles in (LOTTERY, LOTTERY | {"treatment": "winner"}, LOTTERY | {"treatment": "yearlpr"}):
        plan = cqox.plan(lottery(), roles)
        assert plan.ranked[0][0] == "dose_response"
        assert "curve" in plan.ranked[0][1]
    alone = cqox.plan(lottery(), LOTTERY)
    assert alone.estimand == "slope"
    assert [name for name, _ in alone.ranked] == ["dose_response", "double_ml", "ols", "bootstrap"]
    assert "dose_response, double_ml, ols" in alone.refused["aipw"]
    assert "dose_response" in plan_methods(small("randomised_trial")).refused
    few = plan_methods(small("confounded_dose").take(np.arange(60)))
    assert few.ranked[0][0] == "double_ml"
