"""The public functions: names, errors, sharing, and what importing them costs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.errors import CatalogError, MappingError
from cqox_assets.result import EffectEstimate, Failure, Refusal, SensitivityResult
from cqox_assets.study import Role, TreatmentKind
from tests.contract.helpers import small

ROLES = {"outcome": "y", "treatment": "d", "covariates": [f"x{j}" for j in range(12)]}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    study = small("confounded_linear", 600)
    table = study.frame.copy()
    table["d"] = np.where(table["d"] == 1, "treated", "control")
    return table


def _imported(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("statement", ["import cqox_assets", "import cqox_assets; cqox_assets.estimators()"])
def test_importing_is_light(statement: str) -> None:
    heavy = "dagster sklearn lightgbm matplotlib great_expectations statsmodels econml duckdb scipy.stats scipy.spatial"
    assert not _imported(statement) & set(heavy.split())


def test_every_public_name_resolves() -> None:
    for name in cqox.__all__:
        assert callable(getattr(cqox, name))
    assert set(cqox.estimators()) >= {"difference_in_means", "ols", "propensity_matching", "g_computation"}
    assert "e_value" in cqox.sensitivities()
    assert cqox.figures()


def test_estimate_prepares_and_keeps_the_frame(frame: pd.DataFrame) -> None:
    before = frame.copy(deep=True)
    result = cqox.estimate("OLS", frame, ROLES, se="HC3")
    assert isinstance(result, EffectEstimate)
    assert result.headline.contrast == "treated - control"
    assert result.provenance["params"]["se"] == "HC3"
    pd.testing.assert_frame_equal(frame, before)


def test_wrong_names_are_said(frame: pd.DataFrame) -> None:
    with pytest.raises(CatalogError, match="'witchcraft' is not in the catalogue"):
        cqox.estimate("witchcraft", frame, ROLES)
    with pytest.raises(CatalogError, match="parameter 'calliper' is not known"):
        cqox.estimate("propensity_matching", frame, ROLES, calliper=0.2)
    with pytest.raises(CatalogError, match="'level'"):
        cqox.estimate("ols", frame, ROLES, level=95)
    with pytest.raises(CatalogError, match="'estimand'"):
        cqox.estimate("ols", frame, ROLES, estimand="LATE")
    with pytest.raises(CatalogError, match="parameter 'calliper'"):
        cqox.estimate_all(frame, ROLES, params={"propensity_matching": {"calliper": 0.2}})
    with pytest.raises(CatalogError, match="'witchcraft'"):
        cqox.estimate_all(frame, ROLES, only=["witchcraft"])
    with pytest.raises(MappingError, match="z9"):
        cqox.estimate("ols", frame, {**ROLES, "covariates": ["z9"]})


def test_missing_role_is_a_refusal(frame: pd.DataFrame) -> None:
    outcome = cqox.estimate("propensity_matching", frame, {"outcome": "y", "treatment": "d"})
    assert isinstance(outcome, Refusal)
    assert outcome.code == "missing_role"


UNUSABLE = {
    "words": (lambda y: "level " + y.round().astype(str), "outcome_not_numeric"),
    "dates": (lambda y: pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(y)), "D"), "outcome_is_date"),
}


@pytest.mark.parametrize(("change", "code"), UNUSABLE.values(), ids=UNUSABLE)
def test_values_that_cannot_be_used_are_refused_not_raised(frame: pd.DataFrame, change: Any, code: str) -> None:
    bad = frame.assign(y=change(frame["y"]))
    alone = cqox.estimate("ols", bad, ROLES)
    assert isinstance(alone, Refusal)
    assert (alone.estimator, alone.code) == ("ols", code)
    assert "'y'" in alone.reason
    assert alone.remedy.startswith("give ")
    together = cqox.estimate_all(bad, ROLES)
    assert set(together) == set(cqox.estimators())
    for name, outcome in together.items():
        assert outcome == replace(alone, estimator=name)
    plan = cqox.plan(bad, ROLES)
    assert plan.ranked == ()
    assert set(plan.refused) == set(cqox.estimators())
    assert all(alone.remedy in remedy for remedy in plan.refused.values())
    with pytest.raises(CatalogError, match="'calliper'"):
        cqox.estimate("propensity_matching", bad, ROLES, calliper=0.2)
    estimate = cqox.estimate("ols", frame, ROLES)
    assert isinstance(estimate, EffectEstimate)
    asked = cqox.sensitivity("e_value", bad, ROLES, estimate)
    assert isinstance(asked, Refusal)
    assert asked.code == code


@pytest.mark.parametrize("column", ["y", "d"])
@pytest.mark.parametrize("value", [np.nan, None, "same", np.inf])
def test_columns_that_say_nothing_are_refused(frame: pd.DataFrame, column: str, value: object) -> None:
    bad = frame.assign(**{column: pd.Series([value] * len(frame), dtype=object)})
    for outcome in cqox.estimate_all(bad, ROLES).values():
        assert isinstance(outcome, Refusal)
        assert outcome.reason
        assert outcome.remedy
    cqox.plan(bad, ROLES)


def test_two_columns_of_one_name_are_refused(frame: pd.DataFrame) -> None:
    twice = pd.concat([frame, frame[["x0"]]], axis=1)
    outcome = cqox.estimate("ols", twice, ROLES)
    assert isinstance(outcome, Refusal)
    assert outcome.code == "column_name_twice"


def test_mistakes_of_the_caller_are_raised(frame: pd.DataFrame) -> None:
    for roles, said in (({**ROLES, "nonsense": "x1"}, "nonsense"), ({**ROLES, "outcome": "lacking"}, "lacking")):
        with pytest.raises(MappingError, match=said):
            cqox.estimate("ols", frame, roles)
        with pytest.raises(MappingError, match=said):
            cqox.estimate_all(frame, roles)
        with pytest.raises(MappingError, match=said):
            cqox.plan(frame, roles)


def spec_fits(name: str) -> bool:
    spec = cqox.estimators()[name]
    chosen = not spec.one_of or any(set(group) <= set(ROLES) for group in spec.one_of)
    arms = TreatmentKind.BINARY in spec.treatment
    return arms and chosen and all(str(role) in ROLES for role in spec.requires)


def test_estimate_all_agrees_with_estimate(frame: pd.DataFrame) -> None:
    params = {"PSM": {"caliper": None}}
    together = cqox.estimate_all(frame, ROLES, params=params)
    assert set(together) == set(cqox.estimators())
    assert not [item for item in together.values() if isinstance(item, Failure)]
    for name, outcome in together.items():
        alone = cqox.estimate(name, frame, ROLES, **(params["PSM"] if name == "propensity_matching" else {}))
        if not spec_fits(name):
            assert isinstance(outcome, Refusal)
            assert isinstance(alone, Refusal)
            assert alone.code == outcome.code
            assert alone.code in ("missing_role", "treatment_kind")
            continue
        assert isinstance(outcome, EffectEstimate)
        assert isinstance(alone, EffectEstimate)
        assert alone.effects == outcome.effects, name


def test_only_runs_what_is_named(frame: pd.DataFrame) -> None:
    assert set(cqox.estimate_all(frame, ROLES, only=["OLS", "difference_in_means"])) == {"ols", "difference_in_means"}


def test_plan_and_sensitivity(frame: pd.DataFrame) -> None:
    plan = cqox.plan(frame, ROLES)
    assert {name for name, _ in plan.ranked} | set(plan.refused) == set(cqox.estimators())
    estimate = cqox.estimate("g_computation", frame, ROLES)
    assert isinstance(estimate, EffectEstimate)
    answer = cqox.sensitivity("e_value", frame, ROLES, estimate)
    assert isinstance(answer, SensitivityResult)
    assert answer.value > 1
    with pytest.raises(CatalogError, match="'strength'"):
        cqox.sensitivity("e_value", frame, ROLES, estimate, strength=2)


def test_roles_are_proposed(frame: pd.DataFrame) -> None:
    proposal = cqox.infer_roles(frame.rename(columns={"y": "outcome", "d": "treatment"}))
    assert proposal.roles[Role.OUTCOME] == ("outcome",)
    assert proposal.roles[Role.TREATMENT] == ("treatment",)


def test_read_table_reads(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "study.csv"
    frame.to_csv(path, index=False)
    table = cqox.read_table(path)
    assert len(table.frame) == len(frame)
