"""What the spatial regression promises beyond the general contract."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.spatial_traces import (
    determinant_near,
    log_determinant,
    series_determinant,
    solver,
    traces_of,
)
from cqox_assets.numerics.spatial_weights import EARTH_KM, NeighbourRule, find_neighbours
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, numbers, run, small, without

SPATIAL = load_estimators()["geographic"]
DATA = Path(__file__).parents[1] / "oracle" / "data"
COLUMBUS = {"outcome": "crime", "treatment": "inc", "covariates": ["hoval"]}


def refused(study: Study, **values: object) -> Refusal:
    outcome = run(SPATIAL, study, **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.remedy
    return outcome


def columbus() -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(DATA / "columbus.csv"), pd.read_csv(DATA / "columbus_edges.csv")


def with_edges(study: Study, edges: pd.DataFrame) -> Study:
    return replace(study, tables={"edges": edges})


def edges_of(study: Study) -> pd.DataFrame:
    return study.tables["edges"]


def estimates(outcome: EffectEstimate) -> dict[str, float]:
    return {str(effect.estimand): effect.estimate for effect in outcome.effects}


def test_impacts_are_those_of_the_full_inverse() -> None:
    study = small("lattice_lag", 100)
    outcome = answer(SPATIAL, study, model="lag")
    terms = outcome.tables["coefficients"].set_index("term")["estimate"]
    dense = find_neighbours(study, NeighbourRule()).matrix.toarray()
    spread = np.linalg.inv(np.eye(len(dense)) - terms["rho"] * dense) * terms["d"]
    found = estimates(outcome)
    assert found["direct"] == pytest.approx(np.trace(spread) / len(dense))
    assert found["total"] == pytest.approx(spread.sum() / len(dense))
    assert found["indirect"] == pytest.approx(found["total"] - found["direct"])


def test_durbin_and_neighbours_regressors_by_hand() -> None:
    study = small("lattice_lag", 144)
    matrix = find_neighbours(study, NeighbourRule()).matrix
    frame = study.frame
    x = np.column_stack([np.ones(144), frame[["x", "z", "d"]], matrix @ frame[["x", "z", "d"]].to_numpy()])
    slx = answer(SPATIAL, study, model="slx")
    coef = np.linalg.lstsq(x, frame["y"].to_numpy(), rcond=None)[0]
    assert estimates(slx) == pytest.approx({"direct": coef[3], "indirect": coef[6], "total": coef[3] + coef[6]})
    durbin = answer(SPATIAL, study, model="durbin")
    terms = durbin.tables["coefficients"].set_index("term")["estimate"]
    spread = np.linalg.inv(np.eye(144) - terms["rho"] * matrix.toarray())
    impact = spread @ (terms["d"] * np.eye(144) + terms["W_d"] * matrix.toarray())
    assert estimates(durbin)["direct"] == pytest.approx(np.trace(impact) / 144)
    assert estimates(durbin)["total"] == pytest.approx(impact.sum() / 144)


def test_delta_method_agrees_with_differences() -> None:
    study = small("lattice_lag", 400)
    outcome, dense = answer(SPATIAL, study, model="lag"), find_neighbours(study, NeighbourRule()).matrix.toarray()
    rho = float(outcome.tables["coefficients"].set_index("term")["estimate"]["rho"])
    step, traces = 1e-5, traces_of(find_neighbours(study, NeighbourRule()).matrix, rho)
    means = [np.trace(np.linalg.inv(np.eye(400) - rate * dense)) / 400 for rate in (rho - step, rho + step)]
    assert traces.direct()[2] == pytest.approx((means[1] - means[0]) / (2 * step), rel=1e-5)
    sums = [np.linalg.inv(np.eye(400) - rate * dense).sum() / 400 for rate in (rho - step, rho + step)]
    assert traces.total()[2] == pytest.approx((sums[1] - sums[0]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("rate", [-0.5, 0.3, 0.8])
def test_probes_and_series_stand_for_the_exact_traces(rate: float) -> None:
    matrix = find_neighbours(DESIGNS["lattice_lag"](1600, 1)[0], NeighbourRule()).matrix
    dense = matrix.toarray()
    spread = dense @ np.linalg.inv(np.eye(1600) - rate * dense)
    found = traces_of(matrix, rate)
    exact = np.trace(spread), np.trace(spread @ spread), np.sum(spread**2), np.trace((dense + dense.T) @ spread)
    assert (found.g, found.gg, found.cross, found.coupling) == pytest.approx(exact, rel=0.06)
    value = float(np.linalg.slogdet(np.eye(1600) - rate * dense)[1])
    assert log_determinant(matrix, rate) == pytest.approx(value)
    assert determinant_near(matrix, rate, 0.02, 5)(rate) == pytest.approx(value)
    assert determinant_near(matrix, rate, 0.02, 5).slope(rate) == pytest.approx(-exact[0], rel=1e-5)
    assert series_determinant(matrix)(rate) == pytest.approx(value, rel=0.02)


def test_more_places_than_are_factored_are_solved_by_spreading(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = find_neighbours(small("lattice_lag", 400), NeighbourRule()).matrix
    columns = np.random.default_rng(1).standard_normal((400, 3))
    exact = solver(matrix, 0.6)(columns)
    monkeypatch.setattr("cqox_assets.numerics.spatial_traces._FACTORED", 10)
    assert solver(matrix, 0.6)(columns) == pytest.approx(exact)


def test_ml_and_two_stages_agree_on_a_large_map() -> None:
    study = DESIGNS["lattice_dose"](4000, 2)[0]
    one, two = answer(SPATIAL, study, model="lag"), answer(SPATIAL, study, model="lag", form="2sls")
    assert numbers(one)[:, 0] == pytest.approx(numbers(two)[:, 0], abs=3 * float(numbers(two)[:, 1].max()))
    assert two.diagnostic("first_stage_f").status is Status.PASS  # type: ignore[union-attr]
    error = DESIGNS["lattice_error"](4000, 2)[0]
    ml, gm = (answer(SPATIAL, error, model="error", form=form) for form in ("ml", "gm"))
    assert numbers(ml) == pytest.approx(numbers(gm), rel=0.02)


def test_the_model_is_chosen_by_tests_and_the_choice_is_said() -> None:
    lag = answer(SPATIAL, DESIGNS["lattice_lag"](1600, 4)[0])
    error = answer(SPATIAL, DESIGNS["lattice_error"](1600, 4)[0])
    assert "spatial lag" in lag.inference
    assert any("the lag model was chosen" in notice for notice in lag.notices)
    assert "spatial error" in error.inference
    assert [str(effect.estimand) for effect in error.effects] == ["direct", "total"]
    assert any("no indirect impact" in notice for notice in error.notices)
    assert refused(DESIGNS["lattice_error"](1600, 4)[0], estimand="indirect").code == "no_indirect_effect"
    assert "lag" in answer(SPATIAL, DESIGNS["lattice_error"](1600, 4)[0], model="lag").inference


def test_the_estimand_comes_first() -> None:
    outcome = answer(SPATIAL, small("lattice_lag"), estimand="total", model="lag")
    assert [str(effect.estimand) for effect in outcome.effects] == ["total", "direct", "indirect"]


def test_bootstrap_of_innovations_has_the_spread_of_the_delta_method() -> None:
    study = small("lattice_lag", 400)
    two = {"model": "lag", "form": "2sls"}
    for values in ({"model": "lag"}, {"model": "error"}, two, {"model": "slx"}, {"model": "durbin"}):
        plain = answer(SPATIAL, study, **values)
        drawn = answer(SPATIAL, study, inference="bootstrap", draws=300, **values)
        assert numbers(drawn)[:, 0] == pytest.approx(numbers(plain)[:, 0])
        assert numbers(drawn)[:, 1] == pytest.approx(numbers(plain)[:, 1], rel=0.25)
        assert "draws of innovations" in drawn.inference
    assert refused(study, inference="cluster_bootstrap").code == "inference_not_supported"


def test_edges_may_be_listed_once_or_in_both_directions_and_in_any_order() -> None:
    study = small("lattice_lag", 225)
    edges = edges_of(study)
    plain = numbers(answer(SPATIAL, study))
    back = edges.rename(columns={"source": "target", "target": "source"})
    for changed in (back, pd.concat([edges, back]), edges.sample(frac=1, random_state=1), pd.concat([edges, edges])):
        assert numbers(answer(SPATIAL, with_edges(study, changed))) == pytest.approx(plain)
    one_way = answer(SPATIAL, with_edges(study, edges), directed=True, islands="keep")
    assert numbers(one_way) != pytest.approx(plain)


def test_edges_name_units_as_numbers_or_words() -> None:
    study = small("lattice_lag", 225)
    plain = numbers(answer(SPATIAL, study))
    words = edges_of(study).astype(str)
    assert numbers(answer(SPATIAL, with_edges(study, words))) == pytest.approx(plain)
    assert numbers(answer(SPATIAL, with_edges(study, edges_of(study).astype(float)))) == pytest.approx(plain)
    named = study.with_column("unit", study.frame["unit"].astype(str).to_numpy(dtype=object), Role.UNIT)
    assert numbers(answer(SPATIAL, named)) == pytest.approx(plain)


def test_without_a_unit_edges_name_rows() -> None:
    study = small("lattice_lag", 225)
    by_row = with_edges(without(study, Role.UNIT), edges_of(study) - 1000)
    assert numbers(answer(SPATIAL, by_row)) == pytest.approx(numbers(answer(SPATIAL, study)))
    assert refused(replace(by_row, dropped={"outcome 'y' is missing": 3})).code == "edges_need_unit"


def test_weights_of_edges_count() -> None:
    study = small("lattice_lag", 225)
    edges = edges_of(study)
    constant = answer(SPATIAL, with_edges(study, edges.assign(weight=4.0)))
    assert numbers(constant) == pytest.approx(numbers(answer(SPATIAL, study)))
    changing = edges.assign(weight=1.0 + np.arange(len(edges)) % 5)
    assert numbers(answer(SPATIAL, with_edges(study, changing))) != pytest.approx(numbers(constant))
    twice = pd.concat([changing, changing.assign(weight=9.0)])
    assert refused(with_edges(study, twice)).code == "conflicting_edges"
    assert refused(with_edges(study, edges.assign(weight=-1.0))).code == "invalid_edge_weight"


def test_strange_edges_are_named() -> None:
    study = small("lattice_lag", 225)
    edges = edges_of(study)
    plain = numbers(answer(SPATIAL, study))
    loop = pd.concat([edges, pd.DataFrame({"source": [1003], "target": [1003]})])
    outcome = answer(SPATIAL, with_edges(study, loop))
    assert numbers(outcome) == pytest.approx(plain)
    assert any("from a unit to itself, such as '1003'" in notice for notice in outcome.notices)
    foreign = pd.concat([edges, pd.DataFrame({"source": [1003], "target": [77]})])
    outcome = answer(SPATIAL, with_edges(study, foreign))
    assert numbers(outcome) == pytest.approx(plain)
    assert any("such as '77'" in notice for notice in outcome.notices)
    none = refused(with_edges(study, edges + 50_000))
    assert none.code == "unknown_units"
    assert "'51000'" in none.reason
    assert refused(with_edges(study, edges[["source"]])).code == "no_neighbours"


def test_islands_are_refused_by_name_kept_or_dropped() -> None:
    study = small("lattice_lag", 225)
    edges = edges_of(study)
    cut = with_edges(study, edges[~edges.isin([1000, 1224]).any(axis=1)])
    outcome = refused(cut)
    assert outcome.code == "islands"
    assert "'1000', '1224'" in outcome.reason
    kept, dropped = answer(SPATIAL, cut, islands="keep"), answer(SPATIAL, cut, islands="drop")
    assert kept.sample.used == 225
    assert dropped.sample.used == 223
    assert any("2 units" in notice for notice in kept.notices)
    assert refused(with_edges(study, edges.iloc[:0])).code in ("islands", "unknown_units")


def test_parts_without_a_path_are_said() -> None:
    study = small("lattice_lag", 225)
    edges = edges_of(study)
    left = edges["source"] < 1105
    apart = edges[(left & (edges["target"] < 1105)) | (~left & (edges["target"] >= 1105))]
    assert any("falls into 2 parts" in notice for notice in answer(SPATIAL, with_edges(study, apart)).notices)


def test_nearest_places_are_nearest_on_the_sphere() -> None:
    generator = np.random.default_rng(2)
    latitude, longitude = 89 - 2 * generator.random(60), 360 * generator.random(60) - 180  # near the pole
    frame = pd.DataFrame({"a": latitude, "b": longitude})
    study = Study(frame=frame, roles={Role.LATITUDE: ("a",), Role.LONGITUDE: ("b",)})
    up, round_ = np.radians(latitude), np.radians(longitude)
    cosine = np.sin(up)[:, None] * np.sin(up) + np.cos(up)[:, None] * np.cos(up) * np.cos(round_[:, None] - round_)
    distance = np.arccos(np.clip(cosine, -1, 1)) * EARTH_KM
    np.fill_diagonal(distance, np.inf)
    nearest = find_neighbours(study, NeighbourRule("nearest", nearest=4)).matrix.toarray() > 0
    assert np.array_equal(nearest, distance <= np.sort(distance, axis=1)[:, [3]])
    band = find_neighbours(study, NeighbourRule("band", band=60.0, islands="keep")).matrix.toarray() > 0
    assert np.array_equal(band, distance <= 60.0)


def test_places_at_the_same_point_are_neighbours() -> None:
    frame = pd.DataFrame({"a": np.repeat([1.0, 2.0], 12), "b": 0.0})
    matrix = find_neighbours(Study(frame=frame, roles={Role.LATITUDE: ("a",), Role.LONGITUDE: ("b",)}),
                             NeighbourRule("nearest", nearest=5)).matrix  # fmt: skip
    assert matrix.diagonal().sum() == 0
    assert np.asarray(matrix.sum(axis=1)).ravel() == pytest.approx(1)
    assert (matrix.getnnz(axis=1) == 11).all()  # 12 units share each place, and no 5 of them are nearer


@pytest.mark.parametrize(
    ("change", "values", "code"),
    [
        ({"latitude": 95.0}, {}, "no_coordinates"),
        ({}, {"neighbours": "band"}, "missing_band"),
        ({}, {"neighbours": "edges"}, "missing_role"),
        ({}, {"band": 1e-6}, "islands"),
    ],
)
def test_places_that_tell_no_neighbours_are_refused(
    change: dict[str, float], values: dict[str, object], code: str
) -> None:
    study = small("scattered_lag", 200)
    outcome = refused(replace(study, frame=study.frame.assign(**change)), **values)
    assert outcome.code == code


def test_map_coordinates_are_planar_when_said() -> None:
    study = small("scattered_lag", 200)
    far = replace(study, frame=study.frame.assign(latitude=study.frame["latitude"] * 1000))
    assert refused(far).code == "no_coordinates"
    assert answer(SPATIAL, far, planar=True).estimate


def test_units_with_several_rows_are_refused() -> None:
    study = small("lattice_lag", 225)
    outcome = refused(study.take(np.r_[0:225, 0]))
    assert outcome.code == "unit_not_supported"
    assert "'1000'" in outcome.reason


def test_arms_are_estimated_at_once_beside_the_reference() -> None:
    study, truth = DESIGNS["lattice_arms"](4000, 1)
    outcome = answer(SPATIAL, study)
    assert outcome.sample.used == len(study)
    for effect in outcome.effects:
        assert effect.contrast == f"{effect.at['arm']} - none"
        assert abs(effect.estimate - truth[f"{effect.estimand}[{effect.at['arm']}]"]) < 4 * (effect.std_error or 0)


def test_an_outcome_that_is_restated_is_refused() -> None:
    study = small("lattice_lag", 225)
    exact = study.frame["x"] * 2 + study.frame["d"]
    assert refused(replace(study, frame=study.frame.assign(y=exact))).code == "perfect_fit"


def test_two_stages_use_the_neighbours_treatment_where_there_are_no_covariates() -> None:
    study = without(small("lattice_lag", 400), Role.COVARIATES)
    outcome = answer(SPATIAL, study, model="lag", form="2sls")
    assert outcome.tables["fit"].set_index("quantity")["value"]["first_stage_F"] > 0


def test_dependence_that_the_model_leaves_over_warns() -> None:
    outcome = answer(SPATIAL, DESIGNS["lattice_lag_and_error"](3000, 2)[0])
    assert outcome.diagnostic("spatial_model_p").status in (Status.WARN, Status.FAIL)  # type: ignore[union-attr]
    assert answer(SPATIAL, DESIGNS["lattice_lag"](3000, 3)[0]).diagnostic("spatial_model_p").value > 0.01  # type: ignore[union-attr, operator]


def test_the_remaining_test_holds_its_size() -> None:
    values = []
    for seed in range(60):
        for form in ("ml", "2sls"):
            outcome = answer(SPATIAL, DESIGNS["lattice_dose"](400, seed)[0], model="lag", form=form)
            values.append(outcome.diagnostic("spatial_model_p").value)  # type: ignore[union-attr]
        error = answer(SPATIAL, DESIGNS["lattice_error"](400, seed)[0], model="error")
        values.append(error.diagnostic("spatial_model_p").value)  # type: ignore[union-attr]
    rejected = (np.array(values, dtype=float).reshape(60, 3) < 0.05).sum(axis=0)
    assert (rejected <= 9).all()  # 3 of 60 are expected; more than 9 has a chance of 0.2%


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_units_of_measurement_do_not_matter(scale: float) -> None:
    study = small("lattice_lag", 225)
    plain = numbers(answer(SPATIAL, study))
    frame = study.frame.assign(x=study.frame["x"] * scale, y=study.frame["y"] / scale)
    assert numbers(answer(SPATIAL, replace(study, frame=frame))) == pytest.approx(plain / scale, rel=1e-6)


@pytest.mark.parametrize(
    "values",
    [{"nearest": 0}, {"band": -1.0}, {"model": "error", "form": "2sls"}, {"form": "gm"}, {"trim": 0.1}],
)
def test_parameters_out_of_range_are_named(values: dict[str, object]) -> None:
    with pytest.raises(CatalogError, match="parameter"):
        run(SPATIAL, small("lattice_lag"), **values)


def test_columbus_is_planned_as_space() -> None:
    frame, edges = columbus()
    by_edges = cqox.plan(frame, COLUMBUS | {"unit": "polyid"}, tables={"edges": edges})
    by_place = cqox.plan(frame, COLUMBUS | {"latitude": "y", "longitude": "x"})
    assert by_edges.ranked[0][0] == "geographic"
    assert by_place.ranked[0][0] == "geographic"
    assert "Moran" in by_place.ranked[0][1]
    assert "edges" in cqox.plan(frame, COLUMBUS).refused["geographic"]


def test_places_that_are_not_alike_do_not_put_space_first() -> None:
    study = small("randomised_trial")
    generator = np.random.default_rng(1)
    frame = study.frame.assign(a=generator.random(len(study)), b=generator.random(len(study)))
    roles = {**study.roles, Role.LATITUDE: ("a",), Role.LONGITUDE: ("b",)}
    assert plan_methods(replace(study, frame=frame, roles=roles)).ranked[0][0] != "geographic"


@st.composite
def maps(draw: st.DrawFn) -> Study:
    """Small maps with ties, constants, collinear columns, islands, loops, huge and tiny scales."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(2, 40))
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    frame = pd.DataFrame({"unit": generator.permutation(n), "x": generator.standard_normal(n) * scale})
    frame["x2"] = draw(st.sampled_from([frame["x"] * 3, frame["x"] * 0 + 2, frame["x"] ** 2]))
    kind = draw(st.sampled_from(["arms", "dose", "three"]))
    codes = generator.integers(0, 3 if kind == "three" else 2, n) * 1.0
    frame["d"] = generator.standard_normal(n) * scale if kind == "dose" else codes
    frame["y"] = draw(st.sampled_from([generator.standard_normal(n) * scale, codes, frame["x"] + frame["d"]]))
    arms = {"arms": ("no", "yes"), "dose": (), "three": ("none", "low", "high")}[kind]
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x", "x2"), Role.UNIT: ("unit",)}
    if draw(st.booleans()):
        frame["a"], frame["b"] = np.round(generator.random(n) * draw(st.sampled_from([0.0, 3.0, 80.0]))), 0.0
        return Study(frame=frame, roles={**roles, Role.LATITUDE: ("a",), Role.LONGITUDE: ("b",)}, arms=arms)
    count = draw(st.sampled_from([1, n, 5 * n]))
    edges = pd.DataFrame({"source": generator.integers(0, n + 1, count), "target": generator.integers(0, n, count)})
    return Study(frame=frame, roles=roles, arms=arms, tables={"edges": edges})


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    study=maps(), model=st.sampled_from(["auto", "lag", "error", "slx", "durbin"]),
    islands=st.sampled_from(["refuse", "keep", "drop"]), cheap=st.booleans(),
)  # fmt: skip
def test_any_map_gets_an_answer_or_a_refusal(study: Study, model: str, islands: str, cheap: bool) -> None:
    form = {"lag": "2sls", "durbin": "2sls", "error": "gm"}.get(model, "auto") if cheap else "auto"
    outcome = run(SPATIAL, study, model=model, islands=islands, form=form)
    if isinstance(outcome, Refusal):
        assert outcome.code
        assert outcome.remedy
        return
    assert np.isfinite([effect.estimate for effect in outcome.effects]).all()
    assert "NaN" not in to_text(outcome.to_json())


def _at(latitude: np.ndarray, longitude: np.ndarray) -> Study:
    rng = np.random.default_rng(5)
    n = len(latitude)
    frame = pd.DataFrame({"lat": latitude, "lon": longitude, "d": rng.integers(0, 2, n) * 1.0})
    frame["y"] = frame["d"] + rng.standard_normal(n)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.LATITUDE: ("lat",), Role.LONGITUDE: ("lon",)}
    return Study(frame, roles, arms=("no", "yes"))


@pytest.mark.parametrize("values", [{}, {"band": 10.0}, {"planar": True}], ids=str)
def test_units_at_one_point_have_no_neighbours(values: dict[str, object]) -> None:
    found = refused(_at(np.full(60, 35.7), np.full(60, 139.7)), **values)
    assert found.code == "no_distance"
    assert "all 60 units" in found.reason


def test_shared_places_are_counted() -> None:
    rng = np.random.default_rng(6)
    apart = rng.uniform(30, 40, (60, 2))
    crowded = apart.copy()
    crowded[:20] = crowded[0]

    def said(places: np.ndarray, **values: object) -> list[str]:
        outcome = answer(SPATIAL, _at(places[:, 0], places[:, 1]), model="lag", **values)
        return [notice for notice in outcome.notices if "share their place" in notice]

    assert said(apart) == []
    for values in ({}, {"band": 800.0}):
        assert said(crowded, **values) == ["20 units share their place with others"]
    pairs = apart.copy()
    pairs[1::2] = pairs[::2]
    assert said(pairs) == ["60 units share their place with others"]


def test_neighbours_at_equal_distances_do_not_depend_on_the_order_of_rows() -> None:
    generator = np.random.default_rng(11)
    side = np.arange(12)
    frame = pd.DataFrame(
        {"lat": np.repeat(side, 12).astype(float), "lon": np.tile(side, 12).astype(float), "d": np.arange(144) % 2}
    )
    frame["y"] = frame["d"] + generator.standard_normal(144)
    frame = pd.concat([frame, frame.head(30)])  # places that are shared
    roles = {"outcome": "y", "treatment": "d", "latitude": "lat", "longitude": "lon"}
    found = [
        cqox.estimate("geographic", frame.sample(frac=1, random_state=seed), roles, planar=True, nearest=6)
        for seed in (0, 1, 2)
    ]
    for other in found[1:]:
        assert other.estimate == pytest.approx(found[0].estimate, rel=1e-6)
        assert other.std_error == pytest.approx(found[0].std_error, rel=1e-6)
