"""Bridges of proxies: what they are, when they are right, how their strength is told, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.logit import expit
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, plus_covariate, replaced, run, small

SPEC = load_estimators()["proximal"]
ROLES = {
    "outcome": "y", "treatment": "d", "covariates": ["x"], "treatment_proxy": ["z"], "outcome_proxy": ["w"],
}  # fmt: skip


def test_the_pooled_bridge_is_two_stage_least_squares():
    study = small("proxied_twice", 800)
    x, d, y = study.matrix(), study.column(Role.TREATMENT), study.column(Role.OUTCOME)
    w, z = study.matrix(Role.OUTCOME_PROXY), study.matrix(Role.TREATMENT_PROXY)
    exogenous = np.column_stack([np.ones(len(y)), d, x])
    first = np.column_stack([exogenous, z])
    fitted = first @ np.linalg.lstsq(first, w, rcond=None)[0]
    coef = np.linalg.lstsq(np.column_stack([exogenous, fitted]), y, rcond=None)[0]
    outcome = answer(SPEC, study)
    assert outcome.estimate == pytest.approx(coef[1], rel=1e-9)
    bridge = outcome.tables["bridge"].set_index("term")["coefficient"]
    assert bridge[["w0", "w1"]].to_numpy() == pytest.approx(coef[-2:], rel=1e-9)


def test_it_is_an_instrument_for_the_outcome_proxy():
    study = small("proxied_confounder", 800)
    covariates = (*study.names(Role.COVARIATES), "d")
    swapped = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("w0",), Role.COVARIATES: covariates, Role.INSTRUMENTS: ("z0",),
    }  # fmt: skip
    iv = answer(load_estimators()["iv"], Study(study.frame, swapped))
    outcome = answer(SPEC, study)
    assert outcome.tables["bridge"].set_index("term").loc["w0", "coefficient"] == pytest.approx(iv.estimate)
    assert outcome.diagnostic("proxy_f").value == pytest.approx(iv.diagnostic("first_stage_f").value)


def test_agreement_of_surplus_proxies_is_that_of_instruments():
    study = small("proxied_confounder", 800)
    frame = study.frame.assign(z1=study.frame["z0"] + np.random.default_rng(1).standard_normal(len(study)))
    proxies = {**study.roles, Role.TREATMENT_PROXY: ("z0", "z1")}
    found = answer(SPEC, Study(frame, proxies, arms=study.arms), se="classical").diagnostic("overidentification_p")
    swapped = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("w0",), Role.COVARIATES: ("x0", "x1", "d"),
        Role.INSTRUMENTS: ("z0", "z1"),
    }  # fmt: skip
    sargan = answer(load_estimators()["iv"], Study(frame, swapped), se="classical")
    assert found.value == pytest.approx(sargan.diagnostic("overidentification_p").value)


@pytest.mark.parametrize("design", ["proxied_confounder", "proxied_twice"])
def test_bridges_agree_as_their_equations_say(design):
    study = small(design, 2000)
    linear = {"treatment_form": "linear"}
    treatment = answer(SPEC, study, method="treatment_bridge", **linear)
    both = answer(SPEC, study, method="doubly_robust", **linear)
    assert treatment.estimate == pytest.approx(both.estimate, rel=1e-6)
    assert treatment.std_error == pytest.approx(both.std_error, rel=1e-6)
    if design == "proxied_confounder":
        outcome = answer(SPEC, study, outcome_form="per_arm")
        assert outcome.estimate == pytest.approx(both.estimate, rel=1e-6)
        assert outcome.std_error == pytest.approx(both.std_error, rel=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"outcome_form": "per_arm"},
        {"method": "treatment_bridge"},
        {"method": "doubly_robust"},
        {"method": "doubly_robust", "outcome_form": "per_arm"},
    ],
)
def test_stacked_standard_errors_are_those_of_the_bootstrap(values):
    study = small("proxied_confounder", 1500)
    stacked, drawn = answer(SPEC, study, **values), answer(SPEC, study, **values, inference="bootstrap", draws=300)
    assert stacked.std_error == pytest.approx(drawn.std_error, rel=0.15)


def _bent(seed: int, n: int = 40_000) -> tuple[Study, float]:
    """A treatment of logistic form, an effect of 1 + u^2 that no linear outcome bridge holds; and its average."""
    generator = np.random.default_rng(seed)
    u, x = generator.standard_normal((2, n))
    d = (generator.random(n) < expit(0.8 * u + 0.4 * x)) * 1.0
    frame = pd.DataFrame({"x": x, "d": d})
    frame["z"] = u + 0.5 * d + 0.5 * generator.standard_normal(n)
    frame["w"] = u + 0.3 * x + 0.5 * generator.standard_normal(n)
    effect = 1 + u**2
    frame["y"] = u + x + effect * d + generator.standard_normal(n)
    roles = {Role(role): (names,) if isinstance(names, str) else tuple(names) for role, names in ROLES.items()}
    return Study(frame, roles, arms=("no", "yes")), float(effect.mean())


def test_doubly_robust_is_right_where_only_the_treatment_bridge_is():
    study, truth = _bent(1)
    both, outcome = answer(SPEC, study, method="doubly_robust"), answer(SPEC, study)
    assert abs(both.estimate - truth) < 4 * both.std_error
    assert abs(outcome.estimate - truth) > 6 * outcome.std_error


def test_doubly_robust_is_right_where_only_the_outcome_bridge_is():
    generator = np.random.default_rng(2)
    n = 40_000
    u, x = generator.standard_normal((2, n))
    d = (generator.random(n) < 0.2 + 0.6 * (np.abs(u + 0.3) < 1)) * 1.0  # no logistic bridge in z
    frame = pd.DataFrame({"x": x, "d": d})
    frame["z"] = u + generator.standard_normal(n)
    frame["w"] = u + 0.3 * x + generator.standard_normal(n)
    frame["y"] = 2 * u + x + d + generator.standard_normal(n)
    for method in ("doubly_robust", "outcome_bridge"):
        outcome = cqox.estimate("proximal", frame, ROLES, method=method)
        assert abs(outcome.estimate - 1) < 4 * outcome.std_error
    plain = cqox.estimate("ols", frame, {"outcome": "y", "treatment": "d", "covariates": ["x"]})
    assert abs(plain.estimate - 1) > 6 * plain.std_error


def test_least_squares_is_off_and_stands_beside_it():
    study, truth = DESIGNS["proxied_confounder"](4000, 7)
    outcome = answer(SPEC, study)
    table = outcome.tables["comparison"].set_index("method")["estimate"]
    assert abs(outcome.estimate - truth["ATE"]) < 3 * outcome.std_error
    assert table["least squares without proxies"] > truth["ATE"] + 0.8
    assert table["proximal"] == outcome.estimate


@pytest.mark.parametrize("n", [500, 5000])
def test_irrelevant_proxies_are_said_to_be_weak(n):
    outcome = answer(SPEC, small("irrelevant_proxies", n))
    assert outcome.diagnostic("proxy_f").status is Status.WARN
    assert "weak" in " ".join(outcome.notices)
    strong = answer(SPEC, small("proxied_confounder", n))
    assert strong.diagnostic("proxy_f").status is Status.PASS
    assert strong.diagnostic("proxy_correlation").value > 0.3


def test_the_weakest_direction_counts():
    study = small("proxied_twice", 2000)
    noise = np.random.default_rng(5).standard_normal(len(study))
    outcome = answer(SPEC, Study(study.frame.assign(w1=noise), study.roles, arms=study.arms))
    assert outcome.diagnostic("proxy_f").status is Status.WARN
    assert len(outcome.tables["completeness"]) == 2


def test_roles_that_do_not_suffice_are_refused():
    study = small("proxied_twice", 400)

    def ask(**names):
        roles = {**study.roles, **{Role(role): columns for role, columns in names.items()}}
        return run(SPEC, Study(study.frame.assign(one=1.0), roles, arms=study.arms))

    few = ask(treatment_proxy=("z0",))
    assert few.code == "too_few_proxies"
    assert "2 outcome proxies" in few.reason
    flat = ask(treatment_proxy=("one",))
    assert flat.code == "irrelevant_proxy"
    assert "'one'" in flat.reason
    assert ask(outcome_proxy=("one",)).code == "irrelevant_proxy"
    restated = plus_covariate(study, "restated", 1 - 2 * study.column(Role.TREATMENT))
    assert run(SPEC, restated).code == "collinear_treatment"
    assert run(SPEC, study.take(np.arange(8))).code in ("too_few_rows", "one_arm_only")


def test_proxies_that_agree_perfectly_or_not_at_all():
    study = small("proxied_confounder", 400)
    assert run(SPEC, replaced(study, Role.OUTCOME_PROXY, study.frame["z0"].to_numpy())).code == "proxies_coincide"
    nearly = study.frame["z0"].to_numpy() + 1e-4 * study.frame["w0"].to_numpy()
    assert answer(SPEC, replaced(study, Role.OUTCOME_PROXY, nearly)).diagnostic("proxy_f").value > 1e6
    residue = study.frame["w0"].to_numpy()
    columns = np.column_stack([np.ones(400), study.matrix(), study.column(Role.TREATMENT), study.frame["z0"]])
    apart = residue - columns @ np.linalg.lstsq(columns, residue, rcond=None)[0]
    assert run(SPEC, replaced(study, Role.OUTCOME_PROXY, apart)).code == "irrelevant_proxy"


def test_a_continuous_treatment_has_a_slope():
    generator = np.random.default_rng(4)
    n = 3000
    u, x = generator.standard_normal((2, n))
    d = u + 0.5 * x + generator.standard_normal(n)
    frame = pd.DataFrame({"x": x, "d": d, "z": u + 0.5 * d + generator.standard_normal(n)})
    frame["w"] = u + generator.standard_normal(n)
    frame["y"] = u + x + 0.5 * d + generator.standard_normal(n)
    outcome = cqox.estimate("proximal", frame, ROLES)
    assert outcome.estimand == "slope"
    assert abs(outcome.estimate - 0.5) < 4 * outcome.std_error
    refused = cqox.estimate("proximal", frame, ROLES, method="doubly_robust")
    assert isinstance(refused, Refusal)
    assert refused.code == "treatment_kind"


def test_parameters_that_contradict_each_other():
    with pytest.raises(CatalogError, match="se"):
        run(SPEC, small("proxied_confounder", 100), method="doubly_robust", se="HC0")
    with pytest.raises(CatalogError, match="trim"):
        run(SPEC, small("proxied_confounder", 100), trim=0.1)


def test_ranked_first_where_both_proxies_are_mapped():
    frame = small("proxied_confounder", 300).frame
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x0", "x1"]}
    both = {**roles, "treatment_proxy": "z0", "outcome_proxy": "w0"}
    assert cqox.plan(frame, both).ranked[0][0] == "proximal"
    assert "outcome_proxy" in cqox.plan(frame, {**roles, "treatment_proxy": "z0"}).refused["proximal"]


@st.composite
def proxied(draw: st.DrawFn) -> Study:
    """Small studies whose proxies may be tied, constant, equal, collinear with the treatment or of another scale."""
    n, p, q = draw(st.integers(3, 40)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    d = (generator.random(n) < draw(st.sampled_from([0.1, 0.5]))) * 1.0
    u = generator.standard_normal(n)
    w = (u[:, None] + generator.standard_normal((n, p))) * scale
    z = u[:, None] + generator.standard_normal((n, q))
    shape = draw(st.sampled_from(["smooth", "tied", "constant", "equal", "restated", "copied"]))
    if shape == "tied":
        w, z = np.round(w / scale), np.round(z)
    elif shape == "constant":
        w[:, 0] = scale
    elif shape == "equal":
        z[:, 0] = w[:, 0]
    elif shape == "restated":
        z[:, -1] = d
    elif shape == "copied":
        w[:, -1] = w[:, 0] * 2
    y = draw(st.sampled_from([generator.standard_normal(n) * scale, u + d, d * 2.0, w[:, 0]]))
    names = {"w": [f"w{j}" for j in range(p)], "z": [f"z{j}" for j in range(q)]}
    frame = pd.DataFrame(np.column_stack([w, z]), columns=[*names["w"], *names["z"]]).assign(y=y, d=d, x=u * u)
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.TREATMENT_PROXY: tuple(names["z"]),
        Role.OUTCOME_PROXY: tuple(names["w"]),
    }  # fmt: skip
    extra = draw(st.sampled_from(["nothing", "covariates", "weight", "cluster"]))
    if extra == "covariates":
        roles[Role.COVARIATES] = ("x",)
    elif extra == "weight":
        frame["v"] = generator.integers(0, 3, n) * 1.0
        frame.loc[0, "v"] = 1.0
        roles[Role.WEIGHT] = ("v",)
    elif extra == "cluster":
        frame["c"] = generator.integers(0, 4, n)
        roles[Role.CLUSTER] = ("c",)
    return Study(frame=frame, roles=roles, arms=("no", "yes"))


@settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    study=proxied(),
    method=st.sampled_from(["outcome_bridge", "treatment_bridge", "doubly_robust"]),
    outcome_form=st.sampled_from(["pooled", "per_arm"]),
    treatment_form=st.sampled_from(["linear", "logistic"]),
)
def test_an_answer_or_a_refusal_on_any_proxies(study, method, outcome_form, treatment_form):
    outcome = run(SPEC, study, method=method, outcome_form=outcome_form, treatment_form=treatment_form)
    if isinstance(outcome, Refusal):
        assert outcome.reason
        assert outcome.remedy
        return
    assert isinstance(outcome, EffectEstimate)
    assert np.isfinite(outcome.estimate)
    assert "NaN" not in to_text(outcome.to_json())
    for table in outcome.tables.values():
        assert not table.isna().any().any()


@pytest.mark.parametrize("copy", [lambda z: z, lambda z: 3 - 1e6 * z], ids=["copy", "linear"])
@pytest.mark.parametrize("params", [{}, {"method": "doubly_robust"}], ids=["outcome", "robust"])
def test_one_variable_is_not_two_proxies(copy, params):
    frame = small("proxied_twice", 400).frame
    frame = frame.assign(again=copy(frame["z1"]))
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x0", "x1"], "treatment_proxy": ["z0", "z1"]}
    for outcome_proxy, named in (("again", "'z1'"), (["w0", "again"], "'z1'")):
        found = cqox.estimate("proximal", frame, {**roles, "outcome_proxy": outcome_proxy}, **params)
        assert isinstance(found, Refusal), found
        assert found.code == "proxies_coincide"
        assert "outcome_proxy 'again' is the same as treatment_proxy " + named in found.reason
        assert found.remedy
    same = cqox.estimate("proximal", frame, {**roles, "outcome_proxy": "z0"}, **params)
    assert isinstance(same, Refusal)
    assert "outcome_proxy 'z0' is the same as treatment_proxy 'z0'" in same.reason


def test_an_outcome_proxy_made_of_treatment_proxies_is_refused():
    frame = small("proxied_twice", 400).frame
    frame = frame.assign(index=frame["z0"] + frame["z1"])
    roles = {"outcome": "y", "treatment": "d", "treatment_proxy": ["z0", "z1"], "outcome_proxy": "index"}
    found = cqox.estimate("proximal", frame, roles)
    assert isinstance(found, Refusal)
    assert found.code == "proxies_coincide"
    assert "'index' is a linear combination of treatment_proxy 'z0', 'z1'" in found.reason
