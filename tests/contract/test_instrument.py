"""Instrumental variables: what the set of Anderson and Rubin looks like, what warns, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.diagnostics.instruments import AndersonRubin, effective_f, first_stage
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.instruments import fit_k_class, project
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, plus_covariate, replaced, run, small, without

IV = load_estimators()["iv"]
FORMS = ("2sls", "liml", "gmm")


def status(outcome: EffectEstimate, name: str) -> Status:
    return next(item.status for item in outcome.diagnostics if item.name == name)


def model_of(n: int, slope: np.ndarray, seed: int = 1, direct: float = 0.0, clusters: int = 0):
    generator = np.random.default_rng(seed)
    z, u = generator.standard_normal((n, len(slope))), generator.standard_normal(n)
    d = z @ slope + u + generator.standard_normal(n) * (1 + 0.5 * np.abs(z[:, 0]))
    y = 0.5 * d + u + direct * z[:, -1] + generator.standard_normal(n)
    names = ["const", *(f"z{j}" for j in range(len(slope)))]
    cluster = np.arange(n) % clusters if clusters else None
    return project(y, d, np.ones((n, 1)), z, names, treated="d", cluster=cluster)


@pytest.mark.parametrize("kind", ["classical", "HC0", "HC1", "CR1"])
@pytest.mark.parametrize("slope", [[0.6], [0.05], [0.5, 0.3], [0.05, 0.02], [0.03, 0.1, 0.2], [0.0, 0.01, 0.02]])
def test_the_set_holds_exactly_the_effects_that_are_not_rejected(kind: str, slope: list[float]) -> None:
    for seed in range(6):
        model = model_of(300, np.array(slope), seed, clusters=40 if kind == "CR1" else 0)
        rubin = AndersonRubin(model, kind, 0.3, 0.2)
        region = rubin.region(0.95)
        grid = 0.3 + np.sinh(np.linspace(-12, 12, 801))
        for effect in grid:
            p_value = rubin.test(effect).p_value
            inside = any(low <= effect <= high for low, high in region)
            assert inside == (p_value >= 0.05) or abs(p_value - 0.05) < 1e-6
        for low, high in region:
            for end in (low, high):
                assert not math.isfinite(end) or rubin.test(end).p_value == pytest.approx(0.05, abs=1e-5)


def test_weak_instruments_bring_the_set_and_a_warning() -> None:
    forms = set()
    for seed in range(40):
        outcome = answer(IV, DESIGNS["weak_instrument"](400, seed)[0])
        if status(outcome, "first_stage_f") is Status.PASS:
            continue
        assert "Anderson-Rubin" in outcome.headline.interval_source
        interval = outcome.interval
        assert interval is not None
        forms.add("union" if interval.region else ("finite" if math.isfinite(interval.high - interval.low) else "line"))
        told = " ".join(outcome.notices)
        assert ("not one interval" in told) == bool(interval.region)
    assert forms == {"union", "finite", "line"}


def test_the_set_covers_where_the_usual_interval_would_mislead() -> None:
    hits = sum(
        bool(item.interval and item.interval.covers(0.5))
        for item in (
            answer(IV, DESIGNS["weak_instrument"](300, seed)[0], interval="anderson_rubin") for seed in range(300)
        )
    )
    assert 0.92 * 300 < hits < 0.98 * 300


def test_an_empty_set_is_no_interval_and_is_said() -> None:
    outcome = answer(IV, small("invalid_instrument", 3000), interval="anderson_rubin")
    assert outcome.interval is None
    assert outcome.p_value is not None
    assert "empty" in " ".join(outcome.notices)
    assert outcome.tables["anderson_rubin"].empty
    assert status(outcome, "overidentification_p") is Status.WARN


def test_forms_agree_with_one_instrument_and_differ_with_two() -> None:
    one = small("instrumented_dose")
    first = [answer(IV, one, form=form).estimate for form in FORMS]
    assert first == pytest.approx([first[0]] * 3, rel=1e-9)
    several = [answer(IV, small("encouraged_uptake"), form=form).estimate for form in FORMS]
    assert len({round(value, 9) for value in several}) == 3
    assert max(several) - min(several) < 0.2


@pytest.mark.parametrize("kind", ["HC1", "CR1"])
def test_effective_f_is_the_robust_f_of_one_instrument(kind: str) -> None:
    model = model_of(200, np.array([0.4]), clusters=30 if kind == "CR1" else 0)
    assert effective_f(model, kind) == pytest.approx(first_stage(model, kind).statistic)


def test_the_instrument_itself_gives_least_squares() -> None:
    study = small("instrumented_dose")
    own = replace(
        study, roles={**study.roles, Role.INSTRUMENTS: ("d2",)}, frame=study.frame.assign(d2=study.frame["d"])
    )
    least = cqox.estimators()["ols"]
    assert answer(IV, own).estimate == pytest.approx(answer(least, without(study, Role.INSTRUMENTS)).estimate)


def test_liml_is_the_smallest_root() -> None:
    model = model_of(400, np.array([0.4, 0.2]))
    kappa = fit_k_class(model, "liml").kappa
    pair = np.column_stack([model.y, model.d])
    within = pair - model.basis @ (model.basis.T @ pair)
    assert kappa == pytest.approx(np.linalg.eigvals(np.linalg.solve(within.T @ within, pair.T @ pair)).real.min())


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (lambda s: replaced(s, Role.INSTRUMENTS, np.ones(len(s))), "irrelevant_instrument", "'z0'"),
        (lambda s: replaced(s, Role.INSTRUMENTS, 2 * s.frame["x0"].to_numpy() - 1), "irrelevant_instrument", "'z0'"),
        (lambda s: plus_covariate(s, "same", 3 * s.column(Role.TREATMENT)), "collinear_treatment", "'d'"),
        (lambda s: s.take(np.arange(5)), "too_few_rows", "5 rows"),
        (lambda s: replaced(s, Role.OUTCOME, np.ones(len(s))), "constant_outcome", "'y'"),
    ],
)
def test_refusals_name_what_is_wrong(change, code: str, named: str) -> None:
    outcome = run(IV, change(small("instrumented_dose")))
    assert isinstance(outcome, Refusal)
    assert outcome.code == code
    assert named in outcome.reason
    assert outcome.remedy


def test_several_arms_are_refused_because_choosing_arms_would_undo_the_instrument() -> None:
    study = small("encouraged_uptake")
    frame = study.frame.assign(d=np.arange(len(study)) % 3 * 1.0)
    outcome = run(IV, replace(study, frame=frame, arms=("a", "b", "c")))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "treatment_kind"


def test_a_copied_instrument_is_left_out_by_name() -> None:
    study = small("instrumented_dose")
    frame = study.frame.assign(again=2 * study.frame["z0"] + 1)
    outcome = answer(IV, replace(study, frame=frame, roles={**study.roles, Role.INSTRUMENTS: ("z0", "again")}))
    assert outcome.estimate == pytest.approx(answer(IV, study).estimate)
    assert "'again'" in " ".join(outcome.notices)


def test_trim_is_no_parameter() -> None:
    with pytest.raises(CatalogError, match="trim"):
        run(IV, small("instrumented_dose"), trim=0.1)


def test_a_plain_cross_section_has_no_instrument() -> None:
    frame = small("confounded_linear", 300).frame
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x0"]}
    assert "instruments" in cqox.plan(frame, roles).refused["iv"]
    outcome = cqox.estimate("iv", frame, roles)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "missing_role"
    assert "iv" in dict(cqox.plan(frame, {**roles, "covariates": [], "instruments": ["x3"]}).ranked)


def test_an_instrument_in_the_design_is_planned_first() -> None:
    study = small("encouraged_uptake", 400)
    frame = study.frame.assign(d=np.where(study.frame["d"] == 1, "yes", "no"))
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x0", "x1"], "instruments": ["z0", "z1"]}
    assert cqox.plan(frame, roles).ranked[0][0] == "iv"


@st.composite
def studies(draw: st.DrawFn) -> Study:
    n, k = draw(st.integers(2, 40)), draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-9, 1e9]))
    z = generator.standard_normal((n, k)) * scale
    shape = draw(st.sampled_from(["smooth", "tied", "constant", "copied", "treatment"]))
    d = (generator.random(n) < 0.5) * 1.0
    if shape == "tied":
        z = np.round(z / scale)
    elif shape == "constant":
        z[:] = scale
    elif shape == "copied":
        z[:, -1] = 2 * z[:, 0]
    elif shape == "treatment":
        z[:, 0] = d
    y = draw(st.sampled_from([generator.standard_normal(n) * scale, generator.integers(0, 2, n) * 1.0, d * 2.0]))
    names = tuple(f"z{j}" for j in range(k))
    frame = pd.DataFrame(z, columns=list(names)).assign(y=y, d=d, c=np.arange(n) % 5, w=np.arange(n) % 3 + 0.0)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.INSTRUMENTS: names}
    extra = draw(st.sampled_from([None, (Role.CLUSTER, "c"), (Role.WEIGHT, "w")]))
    if extra:
        roles[extra[0]] = (extra[1],)
    return Study(frame=frame, roles=roles, arms=("no", "yes"))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(study=studies())
def test_an_answer_or_a_refusal(form: str, study: Study) -> None:
    outcome = run(IV, study, form=form)
    if isinstance(outcome, Refusal):
        assert outcome.code
        assert outcome.remedy
        return
    assert np.isfinite(outcome.estimate)
    assert "NaN" not in to_text(outcome.to_json())
