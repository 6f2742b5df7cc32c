"""What the estimators that follow units over time promise beyond the general contract."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, numbers, plus_covariate, replaced, run, small, without

DID = load_estimators()["difference_in_differences"]


def _panel(n: int = 600) -> Study:
    return small("staggered_panel", n)


def _two_periods() -> Study:
    """Half of the units are treated from period 2 on; the effect is 2 exactly, and the trend 1."""
    unit, time = np.repeat(np.arange(60), 2), np.tile([1.0, 2.0], 60)
    group = (unit % 2) * 1.0
    noise = np.random.default_rng(3).standard_normal(120)
    frame = pd.DataFrame({"unit": unit, "time": time, "g": group, "y": unit * 0.1 + time + 2 * group * (time - 1)})
    frame["y"] += 0.1 * noise
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("g",), Role.UNIT: ("unit",), Role.TIME: ("time",)}
    return Study(frame=frame, roles=roles, arms=("no", "yes"))


def _refused(study: Study, **values: object) -> Refusal:
    outcome = run(DID, study, **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.remedy
    return outcome


@pytest.mark.parametrize(("kind", "power"), [("HC2", 1), ("HC3", 2)])
def test_two_by_two_offers_leverage_adjusted_errors(kind: str, power: int) -> None:
    study = _two_periods()
    found = answer(DID, study, method="interaction_ols", se=kind, interval_form="normal")
    group, post, y = study.frame["g"], (study.frame["time"] == 2) * 1.0, study.frame["y"].to_numpy()
    x = np.column_stack([np.ones(len(y)), group, post, group * post])
    bread = np.linalg.inv(x.T @ x)
    left = y - x @ (bread @ x.T @ y)
    leverage = np.einsum("ij,jk,ik->i", x, bread, x)
    meat = x.T @ (x * (left**2 / (1 - leverage) ** power)[:, None])
    assert found.std_error == pytest.approx(float(np.sqrt((bread @ meat @ bread)[3, 3])), rel=1e-10)
    with pytest.raises(CatalogError, match="unit and period effects"):
        answer(DID, study, method="twfe", se=kind)


def test_a_cross_section_is_refused_and_not_planned() -> None:
    study = small("randomised_trial")
    rows = study.frame.assign(unit=np.arange(len(study)), time=np.arange(len(study)) % 2 * 1.0)
    flat = replace(study, frame=rows, roles={**study.roles, Role.UNIT: ("unit",), Role.TIME: ("time",)})
    assert _refused(flat).code == "no_panel"
    assert DID.name in plan_methods(flat).refused
    assert DID.name in plan_methods(study).refused


def test_a_panel_is_planned_first() -> None:
    plan = plan_methods(_panel())
    assert plan.ranked[0][0] == DID.name
    assert "2 different periods" in plan.ranked[0][1]


def test_cohort_and_treatment_say_the_same() -> None:
    study = _panel()
    start = study.frame.loc[study.frame["d"] == 1].groupby("unit")["time"].min()
    cohort = study.frame["unit"].map(start).fillna(0.0).to_numpy()
    told = without(study.with_column("first", cohort, Role.COHORT), Role.TREATMENT)
    assert numbers(answer(DID, told)) == pytest.approx(numbers(answer(DID, study)))
    both = study.with_column("first", np.where(cohort == 3, 4.0, cohort), Role.COHORT)
    assert _refused(both).code == "cohort_contradicts_treatment"


def test_neither_cohort_nor_treatment_is_a_missing_role() -> None:
    outcome = _refused(without(_panel(), Role.TREATMENT))
    assert outcome.code == "missing_role"
    assert "cohort" in outcome.reason
    assert "treatment" in outcome.reason


def test_units_treated_from_the_start_are_dropped_and_counted() -> None:
    study = _panel()
    early = study.frame["unit"].isin(study.frame.loc[study.frame["d"] == 1, "unit"].unique()[:7])
    outcome = answer(DID, replaced(study, Role.TREATMENT, np.where(early, 1.0, study.column(Role.TREATMENT))))
    assert outcome.sample.dropped["treated from the start"] == 35
    assert any(notice.startswith("7 units treated in the first period") for notice in outcome.notices)
    everybody = replaced(study, Role.TREATMENT, 1.0 * study.frame["unit"].isin(study.frame["unit"].unique()[:7]))
    assert _refused(everybody).code == "missing_intervention_time"
    cohort = np.where(study.frame["unit"] < 50, 1.0, 3.0)
    assert _refused(study.with_column("first", cohort, Role.COHORT).take(study.frame["d"] >= 0)).code in (
        "cohort_contradicts_treatment",
        "nobody_left",
    )


def _cohorts(study: Study, values: np.ndarray) -> Study:
    return without(study.with_column("first", values, Role.COHORT), Role.TREATMENT)


@pytest.mark.parametrize(
    ("first", "code", "word"),
    [
        (lambda unit, time: np.full(len(unit), 3.0), "no_untreated_units", "all units"),
        (lambda unit, time: np.full(len(unit), 0.0), "no_treated_units", "no unit"),
        (lambda unit, time: np.where(unit % 2 == 0, 3.5, 0.0), "cohort_no_period", "3.5"),
        (lambda unit, time: np.where(unit % 2 == 0, 3.0, -1.0), "cohort_no_period", "-1"),
        (lambda unit, time: np.where(time > 2, 3.0, 0.0), "cohort_varies", "changes within"),
        (lambda unit, time: np.where(unit < 50, 1.0, 3.0), "nobody_left", "from the start"),
        (lambda unit, time: np.where(unit == 5, 3.0, 0.0), "too_few_clusters", "one unit"),
    ],
)
def test_timing_that_allows_no_comparison_is_refused(first: object, code: str, word: str) -> None:
    study = _panel()
    unit, time = study.frame["unit"].to_numpy(), study.frame["time"].to_numpy()
    outcome = _refused(_cohorts(study, first(unit, time)))  # type: ignore[operator]
    assert outcome.code == code
    assert word in outcome.reason


def _marked(mark: object) -> tuple[pd.DataFrame, dict[str, str]]:
    frame = _panel().frame
    cohort = np.where(frame["unit"] % 2 == 0, 3.0, 0.0)
    frame = frame.assign(first=cohort, d=mark(cohort, frame["unit"]))  # type: ignore[operator]
    return frame, {"outcome": "y", "treatment": "d", "unit": "unit", "time": "time", "cohort": "first"}


def test_a_treatment_that_contradicts_the_cohort_is_said() -> None:
    def said(mark: object) -> list[str]:
        outcome = cqox.estimate("difference_in_differences", *_marked(mark))
        assert isinstance(outcome, EffectEstimate), outcome
        return [notice for notice in outcome.notices if "'d'" in notice and "'first'" in notice]

    units = _panel().frame["unit"].nunique()
    treated = int((np.unique(_panel().frame["unit"]) % 2 == 0).sum())
    assert said(lambda cohort, unit: (cohort > 0) * 1) == []
    for constant in (0, 1):
        (notice,) = said(lambda cohort, unit, value=constant: np.full(len(cohort), value))
        assert f"is '{constant}' in every row" in notice
        assert f"{treated} of {units} units start" in notice
    (notice,) = said(lambda cohort, unit: np.where(unit < 5, cohort == 0, cohort > 0) * 1)
    wrong = int((np.unique(_panel().frame["unit"]) < 5).sum())
    assert f"disagree in {wrong} of {units} units" in notice
    backwards = cqox.estimate("difference_in_differences", *_marked(lambda cohort, unit: (cohort == 0) * 1))
    assert isinstance(backwards, Refusal)
    assert backwards.code == "cohort_contradicts_treatment"


def test_negative_cohorts_are_periods_where_time_is_negative() -> None:
    study = _panel()
    time = study.frame["time"].to_numpy() - 10
    cohort = np.where(study.frame["unit"] % 2 == 0, -7.0, 0.0)
    shifted = _cohorts(replaced(study, Role.TIME, time), cohort)
    assert answer(DID, shifted).estimate == answer(DID, _cohorts(study, np.where(cohort < 0, 3.0, 0.0))).estimate


def test_cohorts_after_the_last_period_count_as_untreated() -> None:
    study = _panel()
    unit = study.frame["unit"].to_numpy()
    late = answer(DID, _cohorts(study, np.where(unit % 3 == 0, 3.0, np.where(unit % 3 == 1, 9.0, 0.0))))
    never = answer(DID, _cohorts(study, np.where(unit % 3 == 0, 3.0, 0.0)))
    assert late.estimate == never.estimate
    assert any("after the last period" in notice for notice in late.notices)


def test_duplicated_unit_periods_are_named() -> None:
    study = _panel()
    outcome = _refused(study.take(np.append(np.arange(len(study)), 12)))
    assert outcome.code == "duplicated_unit_periods"
    assert "unit '2'" in outcome.reason


def test_treatment_that_ends_again_is_refused_but_by_twfe() -> None:
    study = _panel()
    ended = np.where(study.frame["time"] == 5, 0.0, study.column(Role.TREATMENT))
    assert _refused(replaced(study, Role.TREATMENT, ended)).code == "treatment_reverses"
    assert isinstance(run(DID, replaced(study, Role.TREATMENT, ended), method="twfe"), EffectEstimate)


def test_weights_and_clusters_must_belong_to_units() -> None:
    weighted = small("weighted_panel")
    varied = replaced(weighted, Role.WEIGHT, np.linspace(1, 2, len(weighted)))
    assert _refused(varied).code == "weights_vary"
    assert isinstance(run(DID, varied, method="twfe"), EffectEstimate)
    study = _panel()
    split = study.with_column("day", study.column(Role.TIME), Role.CLUSTER)
    assert _refused(split).code == "cluster_splits_units"


def test_missing_periods_are_left_out_by_unit() -> None:
    study = _panel()
    holes = study.take(np.setdiff1d(np.arange(len(study)), [3, 4, 41]))
    outcome = answer(DID, holes)
    assert outcome.sample.dropped["unit without a row in every period"] == 3 + 4
    assert any("2 units that lack a period" in notice for notice in outcome.notices)
    assert answer(DID, holes, method="twfe").sample.used == len(study) - 3


@pytest.mark.parametrize("method", ["interaction_ols", "first_difference", "cell_means", "twfe", "callaway_santanna"])
def test_two_periods_give_one_number(method: str) -> None:
    study = _two_periods()
    change = study.frame.pivot(index="unit", columns="time", values="y").diff(axis=1)[2.0]
    wanted = change[1::2].mean() - change[0::2].mean()
    outcome = answer(DID, study, method=method)
    assert outcome.estimate == pytest.approx(wanted)
    assert abs(outcome.estimate - 2) < 4 * outcome.std_error  # type: ignore[operator]
    assert outcome.sample.clusters == 60
    assert outcome.diagnostic("pretrend_p").status is Status.NOT_RUN  # type: ignore[union-attr]
    assert "yes - no" in outcome.headline.contrast


def test_group_and_intervention_time_replace_a_cohort() -> None:
    study = _panel()
    group = 1.0 * study.frame["unit"].isin(study.frame.loc[study.frame["d"] == 1, "unit"])
    marked = replaced(study, Role.TREATMENT, group)
    assert _refused(marked).code == "missing_intervention_time"
    outcome = answer(DID, marked, intervention_time=3)
    stated = replace(marked, declaration=marked.declaration.model_copy(update={"intervention_time": 3.0}))
    assert numbers(answer(DID, stated)) == pytest.approx(numbers(outcome))
    assert _refused(marked, intervention_time=9).code == "no_change_over_time"


def test_one_treated_unit_has_a_placebo_error_only() -> None:
    study = _two_periods()
    lone = replaced(study, Role.TREATMENT, 1.0 * (study.frame["unit"] == 7))
    assert _refused(lone).code == "too_few_clusters"
    outcome = answer(DID, lone, method="cell_means")
    assert "placebo" in outcome.inference
    assert outcome.diagnostic("treated_clusters").status is Status.WARN  # type: ignore[union-attr]


def test_staggered_starts_have_no_one_before_and_after() -> None:
    assert _refused(_panel(), method="interaction_ols").code == "staggered_adoption"


def test_without_the_never_treated_the_later_ones_compare() -> None:
    study = _panel(2000)
    treated = study.frame.groupby("unit")["d"].transform("max").to_numpy() == 1
    outcome = answer(DID, study.take(treated))
    assert "not yet treated" in outcome.inference
    assert any("nobody to compare with" in notice for notice in outcome.notices)
    assert _refused(study.take(treated), control_group="nevertreated").code == "no_never_treated"


def test_covariate_that_tells_who_is_treated_is_refused() -> None:
    study = _panel()
    ever = study.frame.groupby("unit")["d"].transform("max").to_numpy()
    assert _refused(plus_covariate(study, "ever", ever)).code == "perfect_separation"


def test_band_is_wider_than_its_intervals_and_covers_all_at_once() -> None:
    for method in ("callaway_santanna", "event_study"):
        table = answer(DID, _panel(2000), method=method).tables["event_study"]
        assert (table["band_low"] < table["low"]).all()
        assert (table["band_high"] > table["high"]).all()
    missed = pointwise = 0
    for seed in range(60):
        study = DESIGNS["null_panel"](500, seed)[0]
        table = answer(DID, study, draws=500, est_method="reg").tables["event_study"]
        missed += bool(((table["band_low"] > 0) | (table["band_high"] < 0)).any())
        pointwise += bool(((table["low"] > 0) | (table["high"] < 0)).any())
    assert missed <= 9
    assert pointwise > missed


def test_averages_add_up() -> None:
    outcome = answer(DID, _panel(2000), aggregation="group")
    cells = outcome.tables["att_gt"]
    for effect in outcome.effects[1:]:
        own = cells[(cells["group"] == effect.at["cohort"]) & (cells["time"] >= effect.at["cohort"])]
        assert effect.estimate == pytest.approx(own["estimate"].mean())
    table = outcome.tables["aggregations"]
    dynamic = table[(table["aggregation"] == "dynamic") & (table["at"] >= 0)]
    overall = table[(table["aggregation"] == "dynamic") & table["at"].isna()]
    assert overall["estimate"].item() == pytest.approx(dynamic["estimate"].mean())


def test_twfe_agrees_with_dummies_in_an_unbalanced_weighted_panel() -> None:
    study = small("weighted_panel", 300)
    study = without(study.take(np.setdiff1d(np.arange(len(study)), [0, 7, 33])), Role.COVARIATES)
    frame = study.frame
    dummies = pd.get_dummies(frame[["unit", "time"]].astype(str), drop_first=True, dtype=float)
    root = np.sqrt(study.weights())  # type: ignore[arg-type]
    design = np.column_stack([frame["d"], np.ones(len(frame)), dummies]) * root[:, None]
    coef, *_ = np.linalg.lstsq(design, frame["y"] * root, rcond=None)
    assert answer(DID, study, method="twfe").estimate == pytest.approx(coef[0])


def test_bootstrap_draws_whole_units() -> None:
    study = _panel(1000)
    outcome = answer(DID, study, inference="bootstrap", draws=60, est_method="reg")
    assert "bootstrap of units" in outcome.inference
    assert outcome.std_error == pytest.approx(answer(DID, study, est_method="reg").std_error, rel=0.35)


def test_from_a_table_with_dates_and_words() -> None:
    study = _panel()
    frame = study.frame.assign(
        month=pd.to_datetime("2024-01-01") + study.frame["time"].map(lambda t: pd.DateOffset(months=int(t))),
        unit="shop " + study.frame["unit"].astype(str),
    )
    roles = {"outcome": "y", "treatment": "d", "unit": "unit", "time": "month", "covariates": ["w", "z"]}
    outcome = cqox.estimate("DiD", frame, roles)
    assert isinstance(outcome, EffectEstimate)
    assert outcome.estimate == pytest.approx(answer(DID, study).estimate)
