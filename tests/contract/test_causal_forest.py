"""What the causal forest promises beyond the general contract, and what econml says to the same questions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.mapping.prepare import prepare
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.result import EffectEstimate, Nuisance, Refusal
from cqox_assets.runner import run_estimator, run_guarded
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import Context, EstimatorSpec
from cqox_assets.study import Role, Study
from tests.contract.helpers import SEED, answer, numbers, replaced, run, small, without

FOREST = load_estimators()["causal_forest"]
NAMES = ("s_learner", "t_learner", "x_learner", "dr_learner")
LEARNERS = [load_estimators()[name] for name in NAMES]
each_learner = pytest.mark.parametrize("spec", LEARNERS, ids=lambda spec: spec.name)


def unit_truth(study: Study) -> np.ndarray:
    return np.asarray(1 + 0.5 * study.frame["x0"] + 0.5 * (study.frame["x6"] > 0))


def effects(outcome: EffectEstimate) -> np.ndarray:
    return outcome.tables["unit_effects"]["effect"].to_numpy()


@pytest.fixture(scope="module")
def smooth() -> tuple[Study, EffectEstimate]:
    study = small("confounded_smooth", 3000)
    return study, answer(FOREST, study)


def test_unit_effects_find_the_heterogeneity(smooth: tuple[Study, EffectEstimate]) -> None:
    study, outcome = smooth
    truth, table = unit_truth(study), outcome.tables["unit_effects"]
    assert np.mean((table["effect"] - truth) ** 2) < 0.3 * truth.var()
    assert np.corrcoef(table["effect"], truth)[0, 1] > 0.85
    assert 0.8 < outcome.diagnostic("effect_calibration").value < 1.3  # type: ignore[operator, union-attr]
    ranked = outcome.tables["rank_weighted_effects"].set_index("measure")
    assert (ranked["estimate"] > 3 * ranked["std_error"]).all()


def test_intervals_of_units_cover_most_true_effects(smooth: tuple[Study, EffectEstimate]) -> None:
    study, outcome = smooth
    table, truth = outcome.tables["unit_effects"], unit_truth(study)
    assert (table["std_error"] > 0).all()
    assert np.allclose(table["high"] - table["effect"], 1.959964 * table["std_error"])
    assert np.allclose(table["effect"] - table["low"], 1.959964 * table["std_error"])
    assert np.mean((table["low"] <= truth) & (truth <= table["high"])) > 0.8
    wide = answer(FOREST, study, level=0.99).tables["unit_effects"]
    assert (wide["high"] > table["high"]).all()


def test_the_average_is_that_of_the_score(smooth: tuple[Study, EffectEstimate]) -> None:
    study, outcome = smooth
    score = outcome.tables["unit_effects"]["score"]
    assert score.mean() == pytest.approx(outcome.estimate)
    assert score.std(ddof=0) / np.sqrt(len(study)) == pytest.approx(outcome.std_error)
    table = outcome.tables["calibration"]
    assert table["observed"] @ table["rows"] / len(study) == pytest.approx(outcome.estimate)
    aipw = answer(load_estimators()["aipw"], study)
    assert abs(outcome.estimate - aipw.estimate) < 0.5 * aipw.std_error  # type: ignore[operator]


def test_the_most_important_covariates_come_first(smooth: tuple[Study, EffectEstimate]) -> None:
    table = smooth[1].tables["variable_importance"]
    assert set(table["covariate"]) == {f"x{j}" for j in range(12)}
    assert table["covariate"][0] == "x0"
    assert "x6" in table["covariate"][:3].tolist()
    assert table["splits"].sum() == pytest.approx(1)
    assert table["explained"].between(0, 1).all()
    assert table["splits"].idxmax() == 0


def test_effect_on_the_treated() -> None:
    study, truth = DESIGNS["confounded_smooth"](4000, SEED)
    outcome = answer(FOREST, study, estimand="ATT")
    assert outcome.estimand == "ATT"
    assert abs(outcome.estimate - truth["ATT"]) < 4 * outcome.std_error  # type: ignore[operator]
    assert outcome.estimate > answer(FOREST, study).estimate
    table = outcome.tables["unit_effects"]
    assert outcome.estimate == pytest.approx(table["effect"][table["treated"] == 1].mean(), abs=0.15)


def test_shared_nuisances_give_the_same_answer() -> None:
    study = small("confounded_smooth", 800)
    shared = shared_nuisance(study)
    assert isinstance(shared, Nuisance)
    assert np.array_equal(numbers(run_estimator(FOREST, study, None, Context(nuisance=shared))),  # type: ignore[arg-type]
                          numbers(answer(FOREST, study)))  # fmt: skip


def test_without_heterogeneity_ranks_promise_nothing() -> None:
    wrong = 0
    for seed in range(SEED, SEED + 6):
        ranked = answer(FOREST, DESIGNS["null_effect"](1000, seed)[0]).tables["rank_weighted_effects"]
        wrong += int((ranked["estimate"].abs() > 1.96 * ranked["std_error"]).any())
    assert wrong <= 1


def test_the_seed_moves_the_average_little() -> None:
    study = small("confounded_smooth", 1000)
    shared = shared_nuisance(study)
    values = [answer(FOREST, study, seed=seed, nuisance="linear") for seed in range(4)]
    assert isinstance(shared, Nuisance)
    assert len({value.estimate for value in values}) == 4
    assert np.std([value.estimate for value in values]) < 0.3 * values[0].std_error  # type: ignore[operator]


def test_ties_and_order_of_rows() -> None:
    study = small("confounded_linear", 600)
    frame = study.frame.copy()
    for name in study.names(Role.COVARIATES):
        frame[name] = np.round(frame[name])
    tied = Study(frame=frame, roles=study.roles, arms=study.arms)
    order = np.random.default_rng(1).permutation(600)
    first, second = answer(FOREST, tied, nuisance="linear"), answer(FOREST, tied.take(order), nuisance="linear")
    assert numbers(second) == pytest.approx(numbers(first), rel=1e-9)
    assert effects(second) == pytest.approx(effects(first)[order], rel=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trees": 40}, "'trees' is 40"),
        ({"min_leaf": 0}, "'min_leaf' is 0"),
        ({"tries": 0}, "'tries' is 0"),
        ({"trim": 0.1}, "trim"),
        ({"engine": "grf"}, "engine"),
        ({"nuisance_params": {"n_estimators": 5}}, "nuisance_params"),
        ({"nuisance": "random_forest", "nuisance_params": {"branches": 5}}, "learner_params"),
    ],
)
def test_parameters_out_of_range(values: dict[str, object], words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        run(FOREST, small("confounded_linear", 200), **values)


def test_options_are_followed() -> None:
    study = small("confounded_smooth", 800)
    base = answer(FOREST, study, nuisance="linear")
    for values in ({"trees": 160}, {"min_leaf": 20}, {"tree_rows": 100}, {"tries": 2}, {"linear": "never"}):
        other = answer(FOREST, study, nuisance="linear", **values)
        assert not np.array_equal(effects(other), effects(base))
    spread = [np.std(effects(answer(FOREST, study, nuisance="linear", linear="never", min_leaf=k))) for k in (5, 50)]
    assert spread[1] < 0.9 * spread[0]
    sized = answer(FOREST, study, nuisance="random_forest", nuisance_params={"n_estimators": 20, "min_samples_leaf": 5})
    assert abs(sized.estimate - base.estimate) < 4 * base.std_error  # type: ignore[operator]


def test_the_plan_wants_covariates() -> None:
    plan = plan_methods(without(small("confounded_linear", 200), Role.COVARIATES))
    assert "covariates" in plan.refused["causal_forest"]
    names = plan_methods(small("confounded_linear", 200)).names
    assert names.index("aipw") < names.index("causal_forest") < names.index("s_learner")


# --- both engines --------------------------------------------------------------------------------------------------


def test_forests_of_both_engines_agree(smooth: tuple[Study, EffectEstimate]) -> None:
    study, own = smooth
    other = answer(FOREST, study, engine="econml")
    assert abs(other.estimate - own.estimate) < 0.5 * own.std_error  # type: ignore[operator]
    assert other.std_error == pytest.approx(own.std_error, rel=0.1)
    assert np.corrcoef(effects(own), effects(other))[0, 1] > 0.85
    assert set(other.tables) == set(own.tables)
    for name, table in own.tables.items():
        assert list(other.tables[name].columns) == list(table.columns)
    assert "econml" in " ".join(other.notices)
    truth = unit_truth(study)
    error, peer = (np.mean((effects(item) - truth) ** 2) for item in (own, other))
    assert error < 1.05**2 * peer
    never = answer(FOREST, study, linear="never")
    assert np.corrcoef(effects(never), effects(other))[0, 1] > 0.95


@each_learner
def test_learners_of_both_engines_agree(spec: EstimatorSpec) -> None:
    study = small("confounded_smooth", 4000)  # scores of fewer rows are mostly noise
    own, other = (answer(spec, study, learner="boosting", nuisance="linear", engine=name) for name in ("own", "econml"))
    assert numbers(other)[0] == pytest.approx(numbers(own)[0])  # the average of the same doubly robust score
    assert np.corrcoef(effects(own), effects(other))[0, 1] > (0.5 if spec.name == "dr_learner" else 0.7)
    assert set(other.tables) == set(own.tables)
    assert 0.8 < np.mean(effects(other)) / np.mean(effects(own)) < 1.25


@each_learner
def test_least_squares_is_the_same_in_both_engines(spec: EstimatorSpec) -> None:
    study = small("randomised_trial", 800)
    values = {"learner": "ols", "nuisance": "linear"}
    own, other = (answer(spec, study, engine=name, **values) for name in ("own", "econml"))
    if spec.name in ("s_learner", "t_learner"):
        assert effects(other) == pytest.approx(effects(own), rel=1e-6)
        return
    # These fit nuisances of their own in econml, on other folds.
    assert np.corrcoef(effects(other), effects(own))[0, 1] > 0.9
    fitted = answer(spec, study, engine="econml", cross_fit=False, **values)
    assert np.corrcoef(effects(fitted), effects(other))[0, 1] > 0.9


@each_learner
def test_what_econml_does_not_offer_is_an_error(spec: EstimatorSpec) -> None:
    study = small("randomised_trial", 300)
    with pytest.raises(CatalogError, match="engine econml"):
        run(spec, study, engine="econml", learner="spline")
    with pytest.raises(CatalogError, match="learner_params"):
        run(spec, study, engine="econml", learner="random_forest", learner_params={"branches": 3}, nuisance="linear")
    outcome = run(spec, small("weighted_sample", 400), engine="econml", learner="ols", nuisance="linear")
    if spec.name == "dr_learner":
        assert isinstance(outcome, EffectEstimate)
    else:
        assert isinstance(outcome, Refusal)
        assert outcome.code == "weight_not_supported"


def test_econml_s_forest_honours_weights_and_refuses_clusters() -> None:
    weighted = small("weighted_sample", 600)
    outcome = answer(FOREST, weighted, engine="econml", nuisance="linear")
    constant = answer(FOREST, replaced(weighted, Role.WEIGHT, np.ones(600)), engine="econml", nuisance="linear")
    assert abs(outcome.estimate - constant.estimate) > 1e-6
    refused = run(FOREST, small("clustered_trial", 400), engine="econml", nuisance="linear")
    assert isinstance(refused, Refusal)
    assert refused.code == "cluster_not_supported"


# --- bad input -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(8, 80),
    levels=st.sampled_from([0, 1, 2, 5]),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    copies=st.booleans(),
    outcome=st.sampled_from(["noise", "binary", "treatment", "covariate"]),
    seed=st.integers(0, 10_000),
)
def test_any_study_has_an_answer_or_a_refusal(
    n: int, levels: int, scale: float, copies: bool, outcome: str, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, 2)) if levels == 0 else generator.integers(0, levels, (n, 2)).astype(float)
    d = generator.integers(0, 2, n)
    y = {
        "noise": generator.standard_normal(n),
        "binary": generator.integers(0, 2, n).astype(float),
        "treatment": d * 2.0,
        "covariate": x[:, 0],
    }[outcome]
    frame = pd.DataFrame({"y": y * scale, "d": d, "a": x[:, 0] * scale, "b": x[:, 1]})
    if copies:
        frame["c"] = 3 * frame["a"]
    covariates = [name for name in ("a", "b", "c") if name in frame]
    study = prepare(frame, {"outcome": "y", "treatment": "d", "covariates": covariates})
    found = run_guarded(FOREST, study, {"trees": 80})
    assert isinstance(found, (EffectEstimate, Refusal)), found
    if isinstance(found, EffectEstimate):
        table = found.tables["unit_effects"]
        assert np.isfinite(table[["effect", "std_error", "low", "high", "score"]]).all(axis=None)
        assert np.isfinite(found.tables["variable_importance"][["explained", "splits"]]).all(axis=None)
    else:
        assert found.remedy
