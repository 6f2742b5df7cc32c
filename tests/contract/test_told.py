"""What preparation did to the data is said by every estimate, once; covariates that cannot be used are never silent."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.decisions.content import _notices
from cqox_assets.decisions.document import Speaker
from cqox_assets.discovery.plan import MethodPlan
from cqox_assets.mapping.prepare import prepare
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.runner import run_guarded
from cqox_assets.study import Role, Study
from tests.contract.helpers import SPECS, base, name_of, plus_covariate, run

ROLES = {"outcome": "y", "treatment": "d", "covariates": ["x1", "x2"]}
N = 160


def table(**columns: object) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    x1, x2 = generator.standard_normal(N), generator.standard_normal(N)
    d = (generator.random(N) < 1 / (1 + np.exp(-0.5 * x1))).astype(int)
    y = 1 + 2 * d + x1 + generator.standard_normal(N)
    return pd.DataFrame({"y": y, "d": d, "x1": x1, "x2": x2}).assign(**columns)


def stray() -> pd.Series:
    values = table()["x1"].astype(object)
    values[4] = "oops"
    return values


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_every_estimator_passes_on_what_preparation_noted(spec):
    study = replace(base(spec), notices=("covariate 'lost' was left out",))
    outcome = run(spec, study)
    assert isinstance(outcome, EffectEstimate), outcome
    assert outcome.notices.count("covariate 'lost' was left out") == 1


@pytest.mark.parametrize("name", ["ols", "ipw", "aipw"])
def test_a_stray_word_among_numbers_is_a_missing_value(name):
    outcome = cqox.estimate(name, table(x1=stray()), ROLES)
    assert any("1 value that is none ('oops') counts as missing" in notice for notice in outcome.notices)
    assert any(notice.endswith("indicator: x1 (1)") for notice in outcome.notices)
    holes = table().astype({"x1": float})
    holes.loc[4, "x1"] = np.nan
    assert outcome.estimate == pytest.approx(cqox.estimate(name, holes, ROLES).estimate, rel=1e-12)


def test_numbers_as_text_are_numbers():
    text = cqox.estimate("ols", table(x1=table()["x1"].map(repr)), ROLES)
    assert text.estimate == pytest.approx(cqox.estimate("ols", table(), ROLES).estimate, rel=1e-12)
    assert any("'x1' holds numbers as text" in notice for notice in text.notices)


def test_codes_and_few_levels_stay_words():
    codes = [f"0{k % 50}" for k in range(N)]
    study = prepare(table(x1=[str(k % 5) for k in range(N)], x2=codes), ROLES)
    assert {"x1=1", "x2=010"} <= set(study.frame.columns)


UNUSABLE = {
    "ids": lambda: [f"id {k}" for k in range(N)],
    "lists": lambda: [[k, k + 1] for k in range(N)],
    "complex": lambda: np.arange(N) * (1 + 2j),
    "empty": lambda: [None] * N,
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_covariate_is_named_by_every_way_to_an_estimate(kind):
    frame = table(x1=UNUSABLE[kind]())
    stored = json.loads(json.dumps(prepare(frame, ROLES).facts()))
    study = Study.from_facts(stored, prepare(frame, ROLES).frame, {})
    by_name = {spec.name: spec for spec in SPECS}
    for name in ("ols", "ipw", "g_computation"):
        for outcome in (
            cqox.estimate(name, frame, ROLES),
            cqox.estimate_all(frame, ROLES, only=[name])[name],
            run_guarded(by_name[name], study),
        ):
            assert isinstance(outcome, EffectEstimate), outcome
            assert len([notice for notice in outcome.notices if "x1" in notice and "left out" in notice]) == 1


def test_the_plan_lists_it_and_the_card_says_it_once():
    frame = table(x1=UNUSABLE["ids"]())
    plan = cqox.plan(frame, ROLES)
    assert "'x1' has 160 different values in 160 rows" in plan.markdown()
    assert MethodPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    said = list(plan.notices)
    card = {"study": {"notices": said}, "estimates": [{"estimator": "ols", "notices": [*said, "own"]}]}
    shown = json.dumps(_notices(card, Speaker("en")))
    assert "own" in shown
    assert "x1" not in shown


@pytest.mark.parametrize("name", ["ols", "difference_in_means", "aipw"])
def test_mostly_unusable_covariates_are_refused_where_they_are_adjusted_for(name):
    frame = table(x1=UNUSABLE["ids"](), x2=UNUSABLE["lists"](), x3=table()["x2"])
    outcome = cqox.estimate(name, frame, ROLES | {"covariates": ["x1", "x2", "x3"]})
    plan = cqox.plan(frame, ROLES | {"covariates": ["x1", "x2", "x3"]})
    if name == "difference_in_means":
        assert isinstance(outcome, EffectEstimate)
        return
    assert isinstance(outcome, Refusal)
    assert outcome.code == "unusable_covariates"
    assert "2 of 3 covariates" in outcome.reason
    assert "'x1' has 160 different values" in outcome.reason
    assert "2 of 3 covariates" in plan.refused[name]


def test_an_estimate_by_way_of_another_says_it_once():
    outcome = cqox.estimate("bootstrap", table(x1=table()["x1"].map(repr)), ROLES, of="ols", draws=200)
    assert isinstance(outcome, EffectEstimate), outcome
    assert len(set(outcome.notices)) == len(outcome.notices)
    assert len([notice for notice in outcome.notices if "numbers as text" in notice]) == 1


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_every_estimator_names_collinear_covariates_once(spec):
    study = base(spec)
    takes = Role.COVARIATES in spec.accepts | spec.requires
    if not study.has(Role.COVARIATES):
        generator = np.random.default_rng(4)
        study = plus_covariate(study, "plain", generator.standard_normal(len(study)))
    first = study.frame[study.names(Role.COVARIATES)[0]].to_numpy()
    study = plus_covariate(plus_covariate(study, "twin", 2 * first + 1), "fixed", np.ones(len(study)))
    outcome = run(spec, study)
    assert isinstance(outcome, EffectEstimate), outcome
    for name in ("twin", "fixed"):
        said = [notice for notice in outcome.notices if f"'{name}'" in notice and "linear combinations" in notice]
        assert len(said) == takes, outcome.notices
