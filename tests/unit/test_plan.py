"""The method plan ranks the whole catalogue and says why."""

import numpy as np
import pandas as pd
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Declaration
from cqox_assets.discovery.plan import MethodPlan, plan_methods, preferred_estimand
from cqox_assets.study import Role, Study


def study_of(covariates=True, arms=("no", "yes"), **declared):
    rows = np.arange(120)
    frame = pd.DataFrame({"y": rows * 0.5, "d": rows % len(arms or "ab"), "x": rows % 7, "w": 1.0}).astype(float)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",)} | ({Role.COVARIATES: ("x",)} if covariates else {})
    return Study(frame, roles, arms=arms, declaration=Declaration(**declared))


def order(plan):
    return [name for name, _ in plan.ranked]


def test_every_entry_appears_once_with_words():
    plan = plan_methods(study_of())
    assert sorted(plan.names) == sorted(load_estimators())
    assert all(reason for _, reason in plan.ranked)
    assert all(plan.refused.values())


def test_a_trial_prefers_the_arms_as_they_are():
    assert order(plan_methods(study_of(design="trial")))[:2] == ["difference_in_means", "regression_adjustment"]


def test_observational_data_prefer_doubly_robust_methods():
    names = order(plan_methods(study_of()))
    assert set(names[:2]) == {"aipw", "double_ml"}
    assert names[-1] == "difference_in_means"


def test_refusals_name_what_to_map():
    study = study_of()
    bare = Study(study.frame, {Role.OUTCOME: ("y",)}, declaration=study.declaration)
    plan = plan_methods(bare)
    assert not plan.ranked
    assert "treatment: <column>" in plan.refused["ols"]


def test_pinned_methods_keep_the_others_in_sight():
    plan = plan_methods(study_of(methods=("ols",)))
    assert order(plan) == ["ols"]
    assert "methods" in plan.refused["ipw"]
    assert len(plan.names) == len(load_estimators())


def test_a_continuous_treatment_is_told_to_those_that_need_arms():
    plan = plan_methods(study_of(arms=()))
    assert "continuous" in plan.refused["difference_in_means"]
    assert plan.estimand == "slope"


@pytest.mark.parametrize(
    ("declared", "overlap", "expected"),
    [
        ({"design": "trial"}, 0.2, "ATE"),
        ({}, None, "ATE"),
        ({}, 0.95, "ATE"),
        ({}, 0.4, "ATT"),
        ({"estimand": "ATO"}, 0.4, "ATO"),
        ({"design": "instrument"}, None, "LATE"),
    ],
)
def test_the_preferred_estimand_has_a_reason(declared, overlap, expected):
    estimand, reason = preferred_estimand(study_of(**declared), overlap)
    assert estimand == expected
    assert reason


def test_a_stored_plan_reads_back_equal():
    plan = plan_methods(study_of())
    assert MethodPlan.from_json(plan.to_json()) == plan
    assert "| 1 | `" in plan.markdown()
