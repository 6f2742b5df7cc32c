"""Effects carried to a target population: which rows are read, when the answer is right, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.gates.data import diagnose
from cqox_assets.measures import Status
from cqox_assets.numerics.logit import expit
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, replaced, run, small, without
from tests.oracle.__main__ import DATA

SPEC = load_estimators()["transportability"]
ROLES = {"outcome": "y", "treatment": "d", "covariates": ["x0", "x1", "x2"], "population": "s"}


@pytest.mark.parametrize("mode", ["transport", "generalize"])
@pytest.mark.parametrize("treatment_model", ["marginal", "logit"])
@pytest.mark.parametrize("method", ["ipsw", "gformula", "aipsw"])
def test_stacked_standard_errors_are_those_of_the_bootstrap(method, mode, treatment_model):
    study = small("transported_trial", 1200)
    values = {"method": method, "mode": mode, "treatment_model": treatment_model}
    stacked, drawn = answer(SPEC, study, **values), answer(SPEC, study, **values, inference="bootstrap", draws=300)
    assert stacked.std_error == pytest.approx(drawn.std_error, rel=0.15)
    assert stacked.estimate == drawn.estimate


def test_known_models_have_other_standard_errors():
    study = small("transported_trial", 1200)
    values = {"method": "ipsw", "treatment_model": "logit"}
    stacked, known = answer(SPEC, study, **values), answer(SPEC, study, **values, se="influence")
    assert stacked.estimate == known.estimate
    assert stacked.std_error < 0.95 * known.std_error


def test_augmented_is_right_when_either_model_is():
    generator = np.random.default_rng(3)
    n = 40_000
    x = generator.standard_normal(n)

    def ask(index, tau, method):
        studied = generator.random(n) < expit(index)
        d = (generator.random(n) < 0.5) * 1.0
        y = x + tau * d + generator.standard_normal(n)
        frame = pd.DataFrame({"x": x, "d": d, "y": y, "s": studied * 1.0})
        roles = {"outcome": "y", "treatment": "d", "covariates": ["x"], "population": "s"}
        outcome = cqox.estimate("transportability", frame, roles, method=method)
        return (outcome.estimate - tau[~studied].mean()) / outcome.std_error

    straight, bent = 0.5 * x - 0.5, np.minimum(x**2, 3) - 1.5 + 0.5 * x
    linear, square = 1 + 0.8 * x, 1 + 0.8 * x + 0.7 * x**2
    assert abs(ask(straight, square, "aipsw")) < 4
    assert abs(ask(straight, square, "ipsw")) < 4
    assert abs(ask(straight, square, "gformula")) > 6
    assert abs(ask(bent, linear, "aipsw")) < 4
    assert abs(ask(bent, linear, "gformula")) < 4
    assert abs(ask(bent, square, "ipsw")) > 6


def test_target_rows_survive_preparation_without_arm_and_outcome():
    study = small("transported_trial", 500)
    frame = study.frame.assign(d=study.frame["d"].map({0.0: "control", 1.0: "treated"}))
    outcome = cqox.estimate("transportability", frame, ROLES)
    assert isinstance(outcome, EffectEstimate)
    assert outcome.estimate == pytest.approx(answer(SPEC, study).estimate)
    assert outcome.sample.used == 500
    assert outcome.sample.per_arm == {arm: int((frame["d"] == arm).sum()) for arm in ("control", "treated")}
    every = cqox.estimate_all(frame, ROLES, only=["transportability", "ols"])
    assert every["ols"].sample.used == int(study.frame["s"].sum())


def test_gates_judge_the_studied_rows_only():
    found = diagnose(small("transported_trial", 500))
    assert not found.blocking
    assert found.diagnostic("rows").value == small("transported_trial", 500).frame["s"].sum()


def test_outcomes_of_the_target_are_not_read():
    study = small("transported_trial", 500)
    outside = study.frame["s"] == 0
    frame = study.frame.copy()
    frame.loc[outside, "y"] = 1e6
    frame.loc[outside, "d"] = 1.0
    outcome = answer(SPEC, Study(frame, study.roles, arms=study.arms))
    assert outcome.estimate == answer(SPEC, study).estimate
    assert f"outcomes of {int(outside.sum())} target rows were not used" in " ".join(outcome.notices)


def test_a_constant_outcome_among_the_studied_is_seen():
    study = small("transported_trial", 500)
    frame = study.frame.assign(y=np.where(study.frame["s"] == 1, 2.0, np.nan))
    assert run(SPEC, Study(frame, study.roles, arms=study.arms)).code == "constant_outcome"


def test_poor_overlap_is_said_with_its_effective_size():
    folder = next(place for place in DATA if (place / "nsw_cps_transport.csv").is_file())
    frame = pd.read_csv(folder / "nsw_cps_transport.csv")
    names = ["age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75"]
    roles = {"outcome": "re78", "treatment": "treat", "covariates": names, "population": "trial"}
    outcome = cqox.estimate("transportability", frame, roles, method="ipsw")
    assert outcome.diagnostic("target_overlap").status is Status.FAIL
    assert outcome.diagnostic("effective_sample_size").status is Status.FAIL
    assert outcome.diagnostic("adjusted_smd").status is Status.FAIL
    assert outcome.sample.effective_size == pytest.approx(1.65862511, rel=1e-6)
    assert "445 studied units stand for the target like 1.7 would; the largest weight carries 77.5%" in " ".join(
        outcome.notices
    )
    assert cqox.plan(frame, roles).ranked[0][0] == "transportability"


def test_weighting_brings_the_studied_closer_to_the_target():
    table = answer(SPEC, small("transported_trial", 4000)).tables["balance"]
    assert table["before"].max() > 0.3
    assert table["after"].max() < 0.08
    pulled = answer(SPEC, small("transported_trial", 4000)).tables["comparison"].set_index("population")["estimate"]
    assert pulled["studied, unadjusted"] > pulled["target"] + 0.2


def test_a_known_propensity_enters_when_asked_for():
    study = small("transported_trial", 1200).with_column("chance", np.full(1200, 0.5), Role.PROPENSITY)
    assert any("treatment_model: known" in notice for notice in answer(SPEC, study).notices)
    known = answer(SPEC, study, treatment_model="known")
    assert known.estimate == pytest.approx(answer(SPEC, study).estimate)
    assert run(SPEC, small("transported_trial", 1200), treatment_model="known").code == "missing_role"
    wrong = replaced(study, Role.PROPENSITY, np.ones(1200))
    assert run(SPEC, wrong, treatment_model="known").code == "bad_propensity"


@pytest.mark.parametrize(("value", "word"), [(1.0, "target"), (0.0, "studied")])
def test_one_population_is_refused(value, word):
    study = small("transported_trial", 500)
    frame = study.frame.assign(s=value).fillna({"d": 1.0, "y": 0.5})
    outcome = run(SPEC, Study(frame, study.roles, arms=study.arms))
    assert outcome.code == "one_population"
    assert word in outcome.reason
    assert "'s'" in outcome.reason


def test_populations_that_covariates_tell_apart():
    study = small("transported_trial", 500)
    frame = study.frame.assign(x0=np.where(study.frame["s"] == 1, 5.0, -5.0) + study.frame["x0"] / 10)
    apart = Study(frame, study.roles, arms=study.arms)
    assert run(SPEC, apart).code == "perfect_separation"
    outcome = answer(SPEC, apart, method="gformula")
    assert outcome.diagnostic("target_overlap").status is Status.FAIL
    assert "extrapolation" in " ".join(outcome.notices)


def test_a_logistic_outcome_model_needs_a_binary_outcome():
    assert run(SPEC, small("transported_trial", 500), outcome_model="logit_per_arm").code == "outcome_not_binary"


def test_missing_covariates_and_clusters_of_target_rows():
    study = small("transported_trial", 500)
    frame = study.frame.copy()
    frame.loc[::7, "x1"] = np.nan
    outcome = cqox.estimate("transportability", frame, ROLES)
    assert isinstance(outcome, EffectEstimate)
    frame["group"] = np.where(frame["s"] == 1, np.arange(500) % 40, np.nan)
    outcome = cqox.estimate("transportability", frame, {**ROLES, "cluster": "group"})
    assert isinstance(outcome, (EffectEstimate, Refusal))


def test_missing_population_is_named():
    assert "population" in run(SPEC, without(small("transported_trial", 100), Role.POPULATION)).reason


@st.composite
def populations(draw: st.DrawFn) -> Study:
    """Small studies with ties, constants, collinear columns, tiny arms and populations, weights and clusters."""
    n, k = draw(st.integers(4, 50)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    x = generator.standard_normal((n, k)) * scale
    studied = generator.random(n) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    d = (generator.random(n) < draw(st.sampled_from([0.1, 0.5]))) * 1.0
    shape = draw(st.sampled_from(["smooth", "tied", "constant", "collinear", "apart", "restated"]))
    if shape == "tied":
        x = np.round(x / scale)
    elif shape == "constant":
        x[:, 0] = scale
    elif shape == "collinear":
        x[:, -1] = x[:, 0] * 3
    elif shape == "apart":
        x[:, 0] = studied
    elif shape == "restated":
        x[:, 0] = d
    y = draw(st.sampled_from([generator.standard_normal(n) * scale, generator.integers(0, 2, n) * 1.0, d * 2.0]))
    names = tuple(f"x{j}" for j in range(k))
    frame = pd.DataFrame(x, columns=list(names)).assign(
        y=np.where(studied, y, np.nan), d=np.where(studied, d, np.nan), s=studied * 1.0
    )
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: names, Role.POPULATION: ("s",)}
    extra = draw(st.sampled_from(["nothing", "weight", "cluster"]))
    if extra == "weight":
        frame["w"] = generator.integers(0, 3, n) * 1.0
        roles[Role.WEIGHT] = ("w",)
    elif extra == "cluster":
        frame["c"] = generator.integers(0, 4, n)
        roles[Role.CLUSTER] = ("c",)
    return Study(frame=frame, roles=roles, arms=("no", "yes"))


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    study=populations(),
    method=st.sampled_from(["ipsw", "gformula", "aipsw"]),
    mode=st.sampled_from(["transport", "generalize"]),
    outcome_model=st.sampled_from(["ols_per_arm", "logit_per_arm"]),
    treatment_model=st.sampled_from(["marginal", "logit"]),
)
def test_an_answer_or_a_refusal_on_any_populations(study, method, mode, outcome_model, treatment_model):
    outcome = run(SPEC, study, method=method, mode=mode, outcome_model=outcome_model, treatment_model=treatment_model)
    if isinstance(outcome, Refusal):
        assert outcome.reason
        assert outcome.remedy
        return
    assert np.isfinite(outcome.estimate)
    assert "NaN" not in to_text(outcome.to_json())
    for table in outcome.tables.values():
        assert not table.isna().any().any()


def test_designs_are_what_they_say():
    study, truth = DESIGNS["transported_trial"](200_000, 9)
    outside = study.frame[study.frame["s"] == 0]
    tau = 1 + 0.8 * outside["x0"] - 0.5 * outside["x2"]
    assert truth["target_ATE"] == pytest.approx(tau.mean(), abs=0.01)
