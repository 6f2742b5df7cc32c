"""Treatments repeated in time: the g-formula, its layouts, its regimes, and what every other entry says to them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.errors import CatalogError
from cqox_assets.mapping.prepare import prepare
from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role, Study, TreatmentKind
from tests.contract.helpers import SEED, SPECS, answer, name_of, run

G = load_estimators()["g_computation"]
FORMS = ("saturated", "sequential_ols", "parametric")


def _study(n: int = 1500, design: str = "repeated_treatment") -> Study:
    return DESIGNS[design](n, SEED)[0]


def _discrete(n: int = 1500) -> Study:
    study = _study(n)
    return replace(study, roles={**study.roles, Role.COVARIATES: ("l0", "l1", "l2")})


def _refused(study: Study, **values: object) -> Refusal:
    outcome = run(G, study, **values)
    assert isinstance(outcome, Refusal), outcome
    return outcome


@pytest.mark.parametrize("spec", [spec for spec in SPECS if TreatmentKind.REPEATED not in spec.treatment], ids=name_of)
def test_other_entries_refuse_a_repeated_treatment_by_name(spec: EstimatorSpec) -> None:
    study = _study(300)
    extra = {role: ("x",) for role in spec.requires - set(study.roles)}
    outcome = run(spec, replace(study, roles={**study.roles, **extra}))
    assert isinstance(outcome, Refusal)
    assert outcome.code in ("treatment_kind", "cluster_not_supported")
    assert "'a0', 'a1', 'a2'" in outcome.reason
    assert "g_computation" in outcome.remedy


def test_the_plan_ranks_g_computation_and_no_comparison_of_arms() -> None:
    study = _study(300)
    plan = cqox.plan(study.frame, {str(role): list(names) for role, names in study.roles.items()})
    assert plan.ranked[0][0] == "g_computation"
    assert "repeated" in plan.ranked[0][1]
    assert "g_computation" in plan.refused["ols"]
    assert plan.estimand == "regime_contrast"


def test_the_whole_catalogue_answers_or_refuses_without_a_failure() -> None:
    study = _study(400)
    found = cqox.estimate_all(study.frame, {str(role): list(names) for role, names in study.roles.items()})
    assert not [name for name, item in found.items() if not isinstance(item, EffectEstimate | Refusal)]
    assert isinstance(found["g_computation"], EffectEstimate)


@pytest.mark.parametrize("form", FORMS)
def test_closed_form_standard_errors_are_those_of_the_bootstrap(form: str) -> None:
    study = _discrete(800)
    closed, drawn = answer(G, study, form=form), answer(G, study, form=form, inference="bootstrap", draws=150)
    assert drawn.estimate == closed.estimate
    assert closed.std_error == pytest.approx(drawn.std_error, rel=0.2)


def test_saturated_is_saturated_weighting() -> None:
    study = _discrete(3000)
    f = study.frame
    followed, weight = np.ones(len(f), dtype=bool), np.ones(len(f))
    for k in range(3):
        past = [f[f"l{j}"] for j in range(k + 1)] + [f[f"a{j}"] for j in range(k)]
        share = f[f"a{k}"].groupby(past).transform("mean")
        followed &= f[f"a{k}"] == 1
        weight = weight / share.clip(lower=1e-9)
    wanted = np.average(f.loc[followed, "y"], weights=weight[followed])
    outcome = answer(G, study, form="saturated", reference_regime=("none",))
    assert outcome.estimate == pytest.approx(wanted, rel=1e-9)
    assert outcome.estimand == "regime_mean"
    assert outcome.p_value is None


def test_sequential_regression_step_by_step() -> None:
    study = _discrete(500)
    f = study.frame

    def fit(y: np.ndarray, columns: list[str], changed: dict[str, float]) -> np.ndarray:
        design = np.column_stack([np.ones(len(f)), f[columns]])
        coef = np.linalg.lstsq(design, y, rcond=None)[0]
        return np.column_stack([np.ones(len(f)), f[columns].assign(**changed)]) @ coef

    level = f["y"].to_numpy()
    for columns, changed in (
        (["l0", "l1", "l2", "a0", "a1", "a2"], {"a2": 0.0}),
        (["l0", "l1", "a0", "a1"], {"a1": 1.0}),
        (["l0", "a0"], {"a0": 1.0}),
    ):
        level = fit(level, columns, changed)
    outcome = answer(G, study, regime=("treated", "1", "0"), reference_regime=("none",))
    assert outcome.estimate == pytest.approx(level.mean(), rel=1e-10)
    assert outcome.headline.contrast == "treated, treated, control"


def _long(study: Study) -> tuple[pd.DataFrame, dict[str, object]]:
    parts = [
        study.frame[["x", f"l{k}", f"a{k}", "y"]]
        .set_axis(["x", "l", "a", "y"], axis=1)
        .assign(unit=np.arange(len(study)), time=k + 2001, y=lambda part, k=k: part["y"] if k == 2 else -part["y"])
        for k in range(3)
    ]
    roles = {"outcome": "y", "treatment": "a", "unit": "unit", "time": "time", "covariates": ["x", "l"]}
    return pd.concat(parts, ignore_index=True), roles


def test_long_tables_answer_as_wide_ones() -> None:
    study = _study(400)
    frame, roles = _long(study)
    shuffled = frame.sample(frac=1, random_state=1)
    long = cqox.estimate("g_computation", shuffled, roles, form="sequential_ols")
    wide = answer(G, study)
    assert isinstance(long, EffectEstimate)
    assert (long.estimate, long.std_error) == pytest.approx((wide.estimate, wide.std_error), rel=1e-9)
    assert long.sample.used == 400
    point = cqox.estimate("g_computation", shuffled, roles)
    assert isinstance(point, EffectEstimate)
    assert point.estimand == "ATE"
    drawn = cqox.estimate("g_computation", frame, roles, form="sequential_ols", inference="bootstrap", draws=60)
    assert isinstance(drawn, EffectEstimate)
    assert drawn.std_error == pytest.approx(wide.std_error, rel=0.35)
    assert "units" in drawn.inference


def test_units_without_all_periods_are_left_out_and_counted() -> None:
    frame, roles = _long(_study(200))
    outcome = cqox.estimate("g_computation", frame.iloc[:-5], roles, form="sequential_ols")
    assert isinstance(outcome, EffectEstimate)
    assert outcome.sample.used == 195
    assert outcome.sample.dropped["units without a row in every period"] == 5
    twice = cqox.estimate("g_computation", pd.concat([frame, frame.iloc[[7]]]), roles, form="sequential_ols")
    assert isinstance(twice, Refusal)
    assert twice.code == "duplicated_unit_periods"
    assert "'7'" in twice.reason


def test_covariates_find_their_period_by_number_or_by_statement() -> None:
    study = _study()
    told = answer(G, study)
    assert any("'l1' before 'a1'" in notice for notice in told.notices)
    stated = answer(G, study, time_varying=(("l0",), ("l1",), ("l2",)))
    assert stated.estimate == told.estimate
    ignored = answer(G, study, time_varying=((), (), ()))  # everything known from the start: adjusts for consequences
    assert abs(ignored.estimate - told.estimate) > 0.2
    with pytest.raises(CatalogError, match="'zz', which is not a covariate"):
        run(G, study, time_varying=(("zz",), (), ()))
    with pytest.raises(CatalogError, match="2 lists for 3 treatments"):
        run(G, study, time_varying=(("l0",), ("l1",)))


def test_numbers_that_reach_beyond_the_periods_are_no_periods() -> None:
    study = _study(600)
    frame = study.frame.assign(**{f"z{k}": np.arange(600) * (k + 1) % 7 for k in range(5)})
    roles = {"outcome": "y", "treatment": ["a0", "a1", "a2"], "covariates": [*(f"z{k}" for k in range(5)), "l0", "l1"]}
    outcome = cqox.estimate("g_computation", frame, roles)
    assert isinstance(outcome, EffectEstimate)
    said = next(notice for notice in outcome.notices if "time-varying" in notice)
    assert "'l1' before 'a1'" in said
    assert "z1" not in said


def test_encoded_words_stay_in_their_period() -> None:
    study = _study(900)
    words = {f"l{k}": np.where(study.frame[f"l{k}"] == 1, "bad", "good") for k in range(3)}
    roles = {str(role): list(names) for role, names in study.roles.items()}
    outcome = cqox.estimate(
        "g_computation", study.frame.assign(**words), roles, time_varying=(("l0",), ("l1",), ("l2",))
    )
    assert isinstance(outcome, EffectEstimate)
    assert outcome.estimate == pytest.approx(answer(G, study).estimate, rel=1e-9)


def test_a_rule_follows_the_state() -> None:
    study = _discrete(60_000)
    found = {
        form: answer(G, study, form=form, regime=("l0 > 0", "l1 > 0", "l2 > 0"), reference_regime=("never",))
        for form in FORMS
    }
    assert found["saturated"].headline.contrast.startswith("treated if l0 > 0, treated if l1 > 0")
    for form in FORMS[1:]:
        assert abs(found[form].estimate - found["saturated"].estimate) < 0.15
    with pytest.raises(CatalogError, match="when it is not known"):
        run(G, study, regime=("l1 > 0", "l1 > 0", "l2 > 0"))
    with pytest.raises(CatalogError, match="not a covariate"):
        run(G, study, regime=("zz > 0",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"regime": ("1", "1")}, "2 treatments was given for 3 periods"),
        ({"regime": ("low",)}, "allowed are always, never"),
        ({"regime": ("never",)}, "are the same"),
        ({"estimand": "ATT"}, "allowed are regime_contrast"),
        ({"form": "point"}, "the treatment is repeated"),
        ({"form": "g_estimation"}, "the treatment is repeated"),
        ({"outcome_model": "logit_pooled"}, "do not apply"),
    ],
)
def test_wrong_parameters_are_said(values: dict[str, object], words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        run(G, _study(300), **values)


def test_three_arms_are_one_answer_each() -> None:
    generator = np.random.default_rng(3)
    a = generator.integers(0, 3, (3000, 2)) * 1.0
    y = a.sum(axis=1) + (a[:, 0] == 2) + generator.standard_normal(3000)
    frame = pd.DataFrame({"a0": a[:, 0], "a1": a[:, 1], "y": y})
    study = Study(frame, {Role.OUTCOME: ("y",), Role.TREATMENT: ("a0", "a1")}, arms=("none", "low", "high"))
    for form in ("sequential_ols", "saturated"):
        effects = {effect.at["arm"]: effect.estimate for effect in answer(G, study, form=form).effects}
        assert effects == pytest.approx({"low": 2.0, "high": 5.0}, abs=0.3)
    mixed = answer(G, study, regime=("low", "high"))
    assert mixed.headline.contrast == "low, high - always none"


def test_regimes_as_study_yaml_gives_them() -> None:
    study = _study(400)
    listed = answer(G, study, regime=[True, True, False], reference_regime="never")
    assert listed.headline.contrast == "treated, treated, control - always control"
    assert answer(G, study, regime="always").estimate == answer(G, study).estimate


def test_the_run_configuration_takes_lists_per_period() -> None:
    from cqox_assets.assets import config_for, given

    config = config_for("g_computation", G.params)(time_varying=[["l0"], [], ["l2"]], regime=["1", "0", "1"])
    assert given(config) == {"time_varying": [["l0"], [], ["l2"]], "regime": ["1", "0", "1"]}


def test_doses_need_a_regime() -> None:
    generator = np.random.default_rng(3)
    a = generator.standard_normal((2000, 2))
    frame = pd.DataFrame({"a0": a[:, 0], "a1": a[:, 1], "y": a @ [1.0, 2.0] + generator.standard_normal(2000)})
    study = Study(frame, {Role.OUTCOME: ("y",), Role.TREATMENT: ("a0", "a1")})
    with pytest.raises(CatalogError, match="needs numbers"):
        run(G, study)
    outcome = answer(G, study, regime=("1.5", "1"), reference_regime=("0",))
    assert outcome.estimate == pytest.approx(3.5, abs=0.2)


def test_histories_that_nobody_has_are_refused_with_the_history() -> None:
    study = _discrete(60)
    outcome = _refused(study, form="saturated")
    assert outcome.code == "empty_history"
    assert "l0=" in outcome.reason
    assert "sequential_ols" in outcome.remedy
    assert _refused(_study(), form="parametric", time_varying=((), ("x",), ())).code == "covariate_not_binary"


def test_periods_without_variation_are_refused_by_name() -> None:
    study = _study(400)
    constant = replace(study, frame=study.frame.assign(a1=0.0))
    assert _refused(constant).code == "one_arm_only"
    assert "'a1'" in _refused(constant).reason
    copied = replace(study, frame=study.frame.assign(a1=study.frame["a0"]))
    assert _refused(copied).code == "collinear_treatment"
    assert "'a1'" in _refused(copied).reason
    same = replace(study, frame=study.frame.assign(y=2.0))
    assert _refused(same).code == "constant_outcome"
    assert _refused(study.take(np.arange(5))).code in ("too_few_rows", "one_arm_only", "empty_arm")


def test_a_history_that_changes_the_effect_is_noticed() -> None:
    study, truth = DESIGNS["interacting_history"](4000, SEED)
    discrete = replace(study, roles={**study.roles, Role.COVARIATES: ("l0", "l1", "l2")})
    warned = answer(G, study).diagnostic("history_interaction_p")
    assert warned is not None
    assert warned.status is Status.WARN
    calm = answer(G, _study(4000)).diagnostic("history_interaction_p")
    assert calm is not None
    assert calm.status is Status.PASS
    saturated = answer(G, discrete, form="saturated")
    assert saturated.diagnostic("history_interaction_p") is None
    assert truth["regime_contrast"] > answer(G, study).estimate + 2 * (answer(G, study).std_error or 0)


def test_weights_and_clusters_enter() -> None:
    study = _discrete(2000)
    weight = np.where(study.frame["l0"] == 1, 3.0, 1.0)
    for form in FORMS:
        heavy = answer(G, study.with_column("w", weight, Role.WEIGHT), form=form)
        assert heavy.estimate != answer(G, study, form=form).estimate
        doubled = study.take(np.repeat(np.arange(len(study)), weight.astype(int)))
        assert heavy.estimate == pytest.approx(answer(G, doubled, form=form).estimate, rel=1e-9)
    clustered = answer(G, _study(1500, "repeated_clusters"))
    assert clustered.sample.clusters == 300
    assert "300 clusters" in clustered.inference


def test_prepared_tables_keep_the_order_of_treatments() -> None:
    study = _study(300)
    frame = study.frame[study.frame.columns[::-1]].assign(a1=np.where(study.frame["a1"] == 1, "yes", "no"))
    frame = frame.assign(a0=np.where(frame["a0"] == 1, "yes", "no"), a2=np.where(frame["a2"] == 1, "yes", "no"))
    roles = {"outcome": "y", "treatment": ["a0", "a1", "a2"], "covariates": ["x", "l0", "l1", "l2"]}
    prepared = prepare(frame, roles)
    assert prepared.arms == ("no", "yes")
    assert answer(G, prepared).estimate == pytest.approx(answer(G, study).estimate, rel=1e-9)


def test_g_estimation_solves_its_equation() -> None:
    study = DESIGNS["confounded_linear"](2000, SEED)[0]
    from sklearn.linear_model import LogisticRegression

    x, d, y = study.matrix(), study.column(Role.TREATMENT), study.column(Role.OUTCOME)
    e = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, d).predict_proba(x)[:, 1]
    outcome = answer(G, study, form="g_estimation")
    assert outcome.estimate == pytest.approx(((d - e) @ y) / ((d - e) @ d), rel=1e-4)
    drawn = answer(G, study, form="g_estimation", inference="bootstrap", draws=150)
    assert outcome.std_error == pytest.approx(drawn.std_error, rel=0.2)
    known = study.with_column("e", e, Role.PROPENSITY)
    told = answer(G, known, form="g_estimation", propensity="known")
    assert told.estimate == pytest.approx(outcome.estimate, rel=1e-4)
    assert told.std_error == pytest.approx(answer(G, study, form="g_estimation", se="influence").std_error, rel=1e-3)
    assert run(G, study, form="g_estimation", propensity="known").code == "missing_role"
    with pytest.raises(CatalogError, match="m_estimation"):
        run(G, known, form="g_estimation", propensity="known", se="m_estimation")


@st.composite
def courses(draw: st.DrawFn) -> Study:
    """Small courses with ties, constants, copies, empty arms and odd scales."""
    n, periods = draw(st.integers(2, 60)), draw(st.integers(2, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    columns: dict[str, np.ndarray] = {"x": generator.standard_normal(n) * scale}
    for k in range(periods):
        columns[f"l{k}"] = (generator.random(n) < draw(st.sampled_from([0.0, 0.5]))).astype(float)
        columns[f"a{k}"] = (generator.random(n) < draw(st.sampled_from([0.1, 0.5, 1.0]))).astype(float)
    if draw(st.booleans()):
        columns["l1"] = columns["l0"]
    y = draw(st.sampled_from([generator.standard_normal(n) * scale, columns["a0"] * 2, np.zeros(n)]))
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: tuple(f"a{k}" for k in range(periods)),
        Role.COVARIATES: ("x", *(f"l{k}" for k in range(periods))),
    }  # fmt: skip
    frame = pd.DataFrame(columns).assign(y=y)
    extra = draw(st.sampled_from(["nothing", "weight", "cluster"]))
    if extra == "weight":
        frame["w"] = np.append(1.0, generator.integers(0, 3, n - 1))
        roles[Role.WEIGHT] = ("w",)
    elif extra == "cluster":
        frame["c"] = generator.integers(0, 4, n)
        roles[Role.CLUSTER] = ("c",)
    return Study(frame=frame, roles=roles, arms=("no", "yes"))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(study=courses())
def test_an_answer_or_a_refusal(form: str, study: Study) -> None:
    outcome = run(G, study, form=form)
    if isinstance(outcome, Refusal):
        assert outcome.code
        assert outcome.remedy
        return
    assert isinstance(outcome, EffectEstimate)
    assert "NaN" not in to_text(outcome.to_json())
