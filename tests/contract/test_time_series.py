"""What the regression of an interrupted series promises beyond the general contract."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, numbers, replaced, run, small, without

ITS = load_estimators()["interrupted_time_series"]


def _series(n: int = 240) -> Study:
    return small("interrupted_series", n)


def _counts(n: int = 240, seed: int = 5) -> Study:
    """Monthly counts with a season; the intervention lowers the rate by a fifth from the middle on."""
    generator = np.random.default_rng(seed)
    time = np.arange(1.0, n + 1)
    step = (time > n // 2) * 1.0
    people = 1e5 * (1 + 0.002 * time)
    rate = 1e-3 * np.exp(0.001 * time + 0.2 * np.sin(2 * np.pi * time / 12) + np.log(0.8) * step)
    frame = pd.DataFrame({"y": generator.poisson(people * rate) * 1.0, "d": step, "time": time, "o": np.log(people)})
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.TIME: ("time",), Role.OFFSET: ("o",)}
    return Study(frame=frame, roles=roles, arms=("before", "after"))


def _refused(study: Study, **values: object) -> Refusal:
    outcome = run(ITS, study, **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.remedy
    return outcome


def test_rates_are_recovered_with_their_season() -> None:
    study = _counts()
    outcome = answer(ITS, study, seasonality="harmonic", harmonics=1)
    assert outcome.headline.scale == "log_rate_ratio"
    assert "quasi_poisson" in outcome.inference
    assert abs(outcome.estimate - np.log(0.8)) < 4 * outcome.std_error  # type: ignore[operator]
    ratios = outcome.tables["rate_ratios"].set_index("term")
    assert ratios.loc["step", "rate_ratio"] == pytest.approx(np.exp(outcome.estimate))
    level = answer(ITS, study, seasonality="harmonic", harmonics=1, slope_change=False)
    averted = level.tables["impact"]["events_averted"].item()
    after = study.frame["d"] == 1
    assert averted == pytest.approx(study.frame.loc[after, "y"].sum() * (1 / 0.8 - 1), rel=0.15)
    dummies = answer(ITS, study, seasonality="dummies")
    assert dummies.estimate == pytest.approx(outcome.estimate, abs=0.02)


def test_the_variance_asked_for_is_used() -> None:
    study = _counts()
    found = {se: answer(ITS, study, family="poisson", seasonality="harmonic", se=se) for se in ("model", "hac")}
    assert len({outcome.estimate for outcome in found.values()}) == 1
    assert "its own" in found["model"].inference
    assert "Newey-West" in found["hac"].inference
    none = answer(ITS, study, se="hac", lags=0).std_error
    assert none != pytest.approx(answer(ITS, study, se="hac", lags=6).std_error)
    larger = answer(ITS, study, se="hac_nk", lags=6).std_error
    assert larger == pytest.approx(answer(ITS, study, se="hac", lags=6).std_error * np.sqrt(240 / 236))


def test_an_intervention_time_replaces_the_treatment() -> None:
    study = _series()
    bare = without(study, Role.TREATMENT)
    outcome = _refused(bare)
    assert outcome.code == "missing_role"
    assert "intervention_time" in outcome.remedy
    wanted = numbers(answer(ITS, study))
    assert numbers(answer(ITS, bare, intervention_time=121)) == pytest.approx(wanted)
    stated = replace(bare, declaration=bare.declaration.model_copy(update={"intervention_time": 121.0}))
    assert numbers(answer(ITS, stated)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: replaced(s, Role.TREATMENT, np.arange(len(s)) % 2 * 1.0), "no_single_step"),
        (lambda s: replaced(s, Role.TREATMENT, (np.arange(len(s)) > len(s) - 3) * 1.0), "too_few_rows"),
        (lambda s: replaced(s, Role.TIME, np.floor(np.arange(len(s)) / 2)), "several_rows_per_period"),
        (lambda s: s.with_column("copy", s.column(Role.TREATMENT), Role.COVARIATES), "collinear_copy"),
    ],
)
def test_what_is_no_interrupted_series_is_refused(change: object, code: str) -> None:
    study = change(_series())  # type: ignore[operator]
    if code == "collinear_copy":  # the copy comes after the step, so it is the copy that goes
        outcome = answer(ITS, study)
        assert any("copy" in notice for notice in outcome.notices)
        return
    assert _refused(study).code == code
    assert ITS.name in plan_methods(study).refused


def test_a_cross_section_is_not_planned() -> None:
    assert ITS.name in plan_methods(small("randomised_trial")).refused
    assert ITS.name in plan_methods(small("staggered_panel")).refused
    assert plan_methods(_series()).ranked[0][0] == ITS.name


def test_counts_that_are_none_and_sides_without_events() -> None:
    assert _refused(replaced(_counts(), Role.OUTCOME, -_counts().column(Role.OUTCOME))).code == "outcome_no_count"
    study = _counts()
    silent = replaced(study, Role.OUTCOME, study.column(Role.OUTCOME) * (1 - study.column(Role.TREATMENT)))
    assert _refused(silent).code == "perfect_separation"


def test_the_slope_can_be_the_headline_or_absent() -> None:
    study = _series()
    outcome = answer(ITS, study, estimand="slope_change")
    assert [effect.estimand for effect in outcome.effects] == ["slope_change", "level_change"]
    assert [effect.estimand for effect in answer(ITS, study, slope_change=False).effects] == ["level_change"]
    with pytest.raises(CatalogError, match="slope_change"):
        run(ITS, study, slope_change=False, estimand="slope_change")
    with pytest.raises(CatalogError, match="harmonics"):
        run(ITS, study, harmonics=0)


def test_gaps_are_said() -> None:
    study = _series()
    outcome = answer(ITS, study.take(np.setdiff1d(np.arange(240), [50, 51])))
    assert any("evenly spaced" in notice for notice in outcome.notices)


def test_from_a_table_with_dates() -> None:
    study = _series(120)
    frame = study.frame.assign(month=pd.date_range("2015-01-01", periods=120, freq="MS"))
    roles = {"outcome": "y", "treatment": "d", "time": "month", "covariates": "x"}
    outcome = cqox.estimate("ITS", frame, roles)
    assert isinstance(outcome, EffectEstimate)
    assert outcome.estimate == pytest.approx(answer(ITS, study).estimate)
