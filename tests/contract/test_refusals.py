"""Data that do not allow an answer get a refusal whose code, reason and remedy a person can use."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.result import EffectEstimate, Refusal

N = 400
ROWS = {"outcome": "y", "treatment": "d", "covariates": ["x"]}
PANEL = {"outcome": "y", "unit": "u", "time": "t", "cohort": "c"}
CUTOFF = {"outcome": "y", "running_variable": "x"}


def rows() -> pd.DataFrame:
    generator = np.random.default_rng(5)
    x, d = generator.standard_normal(N), generator.integers(0, 2, N)
    return pd.DataFrame({"x": x, "d": d, "y": x + d + generator.standard_normal(N)})


def panel() -> pd.DataFrame:
    """40 units over periods 1 to 6; the first 20 are treated from period 4."""
    unit, time = np.repeat(np.arange(40), 6), np.tile(np.arange(1, 7), 40)
    y = np.random.default_rng(6).standard_normal(240)
    return pd.DataFrame({"u": unit, "t": time, "y": y, "c": np.where(unit < 20, 4, 0)})


def wide() -> pd.DataFrame:
    generator = np.random.default_rng(7)
    return rows().head(10).assign(**{f"z{k}": generator.standard_normal(10) for k in range(12)})


Case = tuple[str, pd.DataFrame, Mapping[str, Any], Mapping[str, Any], str, str]
CASES: dict[str, Callable[[], Case]] = {
    "one arm only": lambda: ("ols", rows().assign(d=1), ROWS, {}, "one_arm_only", "'d'"),
    "constant outcome": lambda: ("aipw", rows().assign(y=3.0), ROWS, {}, "constant_outcome", "'y'"),
    "constant covariate": lambda: ("aipw", rows().assign(x=1.0), ROWS, {}, "missing_role", "one value only"),
    "fewer rows than columns": lambda: (
        "ols", wide(), ROWS | {"covariates": [f"z{k}" for k in range(12)]}, {}, "too_few_rows", "14 columns"),
    "perfect separation": lambda: (
        "ipw", rows().assign(s=lambda f: 3.0 * f.d + 0.01 * f.x), ROWS | {"covariates": ["x", "s"]}, {},
        "perfect_separation", "'s' does so alone"),
    "no variation within strata": lambda: (
        "stratification", rows().assign(x=lambda f: np.round(f.x)), ROWS, {"strata": 80}, "empty_stratum", "stratum"),
    "all units treated at once": lambda: (
        "difference_in_differences", panel().assign(c=4), PANEL, {}, "no_untreated_units", "treated at once"),
    "nobody left": lambda: (
        "difference_in_differences", panel().assign(c=lambda f: np.where(f.u < 20, 1, 0)), PANEL, {}, "nobody_left",
        "20 units that are treated from the start"),
    "cohort that is no period": lambda: (
        "difference_in_differences", panel().assign(c=lambda f: np.where(f.u < 20, 3.5, 0)), PANEL, {},
        "cohort_no_period", "3.5"),
    "duplicated unit-periods": lambda: (
        "difference_in_differences", pd.concat([panel(), panel().head(2)]), PANEL, {}, "duplicated_unit_periods",
        "unit '0'"),
    "weights that vary over time": lambda: (
        "difference_in_differences", panel().assign(w=lambda f: 1.0 + f.t), PANEL | {"weight": "w"}, {},
        "weights_vary", "vary over time"),
    "no donors": lambda: (
        "synthetic_control", panel().assign(c=4), PANEL, {}, "no_untreated_units", "nobody shows"),
    "no rows near the cutoff": lambda: (
        "regression_discontinuity", rows().assign(x=lambda f: f.x + np.where(f.x > 0, 5, -5)), CUTOFF, {"cutoff": 0},
        "no_observations_near_cutoff", "nearest row"),
    "all rows on one side": lambda: (
        "regression_discontinuity", rows(), CUTOFF, {"cutoff": 50}, "no_observations_near_cutoff", "one side"),
    "no cutoff known": lambda: (
        "regression_discontinuity", rows().assign(x=lambda f: f.x + 9), CUTOFF, {}, "missing_cutoff", "no cutoff"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_refusal_names_what_was_found_and_what_to_do(case: Callable[[], Case]) -> None:
    name, frame, roles, params, code, words = case()
    outcome = cqox.estimate(name, frame, roles, **params)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.code == code
    assert words in outcome.reason
    assert len(outcome.remedy) > 15


def test_a_weak_instrument_is_reported_with_its_unbounded_set() -> None:
    frame = rows().assign(z=np.random.default_rng(8).integers(0, 2, N))
    outcome = cqox.estimate("iv", frame, ROWS | {"instruments": ["z"]})
    assert isinstance(outcome, EffectEstimate)
    assert outcome.interval is not None
    assert (outcome.interval.low, outcome.interval.high) == (-np.inf, np.inf)
    assert outcome.to_json()["effects"][0]["interval"]["unbounded"] == "both"
    strength = outcome.diagnostic("first_stage_f")
    assert strength is not None
    assert strength.status == "warn"


def test_a_collinear_column_is_named() -> None:
    outcome = cqox.estimate("ols", rows().assign(twice=lambda f: 2 * f.x + 1), ROWS | {"covariates": ["x", "twice"]})
    assert isinstance(outcome, EffectEstimate)
    assert any("'twice'" in notice for notice in outcome.notices)
