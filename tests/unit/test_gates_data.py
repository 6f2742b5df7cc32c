"""What blocks, warns or informs before any model, on small studies built directly."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from cqox_assets.declaration import Declaration
from cqox_assets.diagnostics.collinearity import variance_inflation
from cqox_assets.diagnostics.structure import raw_balance
from cqox_assets.gates.data import BLOCKING, DATA_CHECKS, DATA_MEASURES, DataDiagnostics, diagnose
from cqox_assets.mapping.prepare import prepare
from cqox_assets.measures import MEASURES, Status, judge
from cqox_assets.result import to_text
from cqox_assets.study import Role, Study

ROLES = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x",)}


def small_study(rows=100, roles=None, arms=("control", "treated"), columns=None, **facts):
    """A healthy study of two arms; `columns` replaces or adds columns."""
    generator = np.random.default_rng(7)
    frame = pd.DataFrame({"y": generator.normal(size=rows), "x": generator.normal(size=rows)})
    frame["d"] = (np.arange(rows) % len(arms or (0, 1))).astype(float)
    frame = frame.drop(columns=[name for name in columns or {} if name in frame]).join(
        pd.DataFrame(columns or {}, index=frame.index)
    )
    return Study(frame, {**ROLES, **(roles or {})}, arms, missing=facts.pop("missing", {"y": 0.0}), **facts)


def status_of(study, name):
    return diagnose(study).diagnostic(name).status


def test_a_healthy_study_blocks_nothing_and_lists_every_measure_in_order():
    found = diagnose(small_study())
    assert tuple(item.name for item in found.diagnostics) == DATA_MEASURES
    assert found.blocking == ()
    statuses = {item.name: item.status for item in found.diagnostics}
    assert statuses.pop("duplicated_unit_periods") is Status.NOT_RUN  # there is no unit column
    assert set(statuses.values()) == {Status.PASS}


def test_the_declared_checks_are_measures_and_block_by_their_severity():
    assert DATA_CHECKS[-2:] == ("table_expectations", "declared_blocks")
    assert {name for name in DATA_CHECKS if MEASURES[name].severity == "block"} == BLOCKING
    assert "vif" not in BLOCKING


BLOCKED = {
    "rows": small_study(49),
    "rows_per_arm": small_study(columns={"d": np.r_[np.ones(9), np.zeros(91)]}),
    "arms": small_study(columns={"d": 1.0}),
    "outcome_levels": small_study(columns={"y": 3.0}),
    "treatment_confidence": small_study(confidence={Role.TREATMENT: 0.6}),
    "outcome_confidence": small_study(confidence={Role.OUTCOME: 0.2}),
    "duplicated_unit_periods": small_study(
        roles={Role.UNIT: ("u",), Role.TIME: ("t",)}, columns={"u": np.arange(100) // 2, "t": 2020}
    ),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_each_blocking_measure_blocks_and_says_what_to_do(name):
    item = diagnose(BLOCKED[name]).diagnostic(name)
    assert item.status is Status.FAIL
    assert item.severity == "block"
    assert item.detail.startswith(MEASURES[name].meaning)
    assert item.detail.endswith(MEASURES[name].remedy)


@pytest.mark.parametrize(
    ("study", "name"),
    [
        (small_study(50), "rows"),
        (small_study(columns={"d": np.r_[np.ones(10), np.zeros(90)]}), "rows_per_arm"),
        (small_study(confidence={Role.TREATMENT: 0.61}), "treatment_confidence"),
    ],
)
def test_the_limits_are_where_the_measures_say(study, name):
    assert status_of(study, name) is Status.PASS


def test_an_arm_without_rows_counts_as_the_smallest():
    study = small_study(arms=("a", "b", "c"), columns={"d": (np.arange(100) % 2).astype(float)})
    found = diagnose(study)
    assert found.diagnostic("rows_per_arm").value == 0
    assert found.diagnostic("rows_per_arm").status is Status.FAIL
    assert found.diagnostic("arms").value == 2
    assert "'c'" in found.diagnostic("rows_per_arm").detail


def test_an_unmapped_treatment_blocks_by_confidence_and_runs_nothing_about_arms():
    study = small_study(roles={Role.TREATMENT: ()}, arms=())
    found = diagnose(study)
    assert found.diagnostic("treatment_confidence").value == 0
    assert found.diagnostic("treatment_confidence").status is Status.FAIL
    for name in ("arms", "rows_per_arm", "raw_smd"):
        assert found.diagnostic(name).status is Status.NOT_RUN
        assert not found.diagnostic(name).applies


@pytest.mark.parametrize(
    ("role", "declared"),
    [
        (Role.COHORT, {}),
        (Role.DOSE, {}),
        (Role.RUNNING_VARIABLE, {"cutoff": 0.0}),
        (Role.TIME, {"intervention_time": 50}),
    ],
)
def test_another_column_may_say_who_is_treated(role, declared):
    study = small_study(roles={Role.TREATMENT: (), role: ("x",)}, arms=(), declaration=Declaration(**declared))
    assert status_of(study, "treatment_confidence") is Status.PASS


def test_a_running_variable_without_a_declared_cutoff_does_not():
    study = small_study(roles={Role.TREATMENT: (), Role.RUNNING_VARIABLE: ("x",)}, arms=())
    assert status_of(study, "treatment_confidence") is Status.FAIL


def test_an_unmapped_outcome_blocks():
    found = diagnose(small_study(roles={Role.OUTCOME: ()}))
    assert found.diagnostic("outcome_confidence").status is Status.FAIL
    assert found.diagnostic("outcome_levels").status is Status.NOT_RUN


def test_units_that_repeat_over_periods_are_a_panel():
    study = small_study(
        roles={Role.UNIT: ("u",), Role.TIME: ("t",)}, columns={"u": np.arange(100) // 2, "t": np.arange(100) % 2}
    )
    assert status_of(study, "duplicated_unit_periods") is Status.PASS


def test_units_that_repeat_without_time_warn_unless_they_are_the_cluster():
    repeats = {"columns": {"u": np.arange(100) // 2}}
    item = diagnose(small_study(roles={Role.UNIT: ("u",)}, **repeats)).diagnostic("duplicated_unit_periods")
    assert (item.status, item.severity, item.value) == (Status.WARN, "warn", 100)
    assert "as cluster" in item.detail
    clustered = small_study(roles={Role.UNIT: ("u",), Role.CLUSTER: ("u",)}, **repeats)
    item = diagnose(clustered).diagnostic("duplicated_unit_periods")
    assert (item.status, item.applies) == (Status.NOT_RUN, False)
    unique = small_study(roles={Role.UNIT: ("u",)}, columns={"u": np.arange(100)})
    assert status_of(unique, "duplicated_unit_periods") is Status.PASS


def test_a_continuous_treatment_is_judged_by_its_values():
    values = np.r_[np.zeros(95), np.linspace(1, 2, 5)]
    found = diagnose(small_study(arms=(), columns={"d": values}))
    assert found.diagnostic("arms").value == 6
    assert found.diagnostic("rows_per_arm").value == 5
    assert found.diagnostic("rows_per_arm").status is Status.FAIL
    assert status_of(small_study(arms=(), columns={"d": 2.5}), "arms") is Status.FAIL


def test_missing_cells_are_what_preparation_recorded():
    found = diagnose(small_study(missing={"y": 0.2, "x": 0.6, "d": 0.4}))
    item = found.diagnostic("missing_share")
    assert item.value == pytest.approx(0.4)
    assert item.status is Status.WARN
    assert "'x' (60.0%)" in item.detail
    assert found.tables["missingness"]["share"].tolist() == [0.2, 0.6, 0.4]
    assert status_of(small_study(missing={}), "missing_share") is Status.NOT_RUN


def test_duplicate_rows_warn_and_the_share_counts_repeats_only():
    study = small_study(60)
    copies = study.take(np.repeat(np.arange(20), 3))
    item = diagnose(copies).diagnostic("duplicate_rows")
    assert item.value == pytest.approx(40 / 60)
    assert item.status is Status.WARN


def test_thresholds_of_profile_or_declaration_replace_the_limits():
    assert status_of(small_study(40, thresholds={"rows": 30}), "rows") is Status.PASS
    assert status_of(small_study(thresholds={"rows": 500}), "rows") is Status.FAIL
    assert status_of(small_study(thresholds={"raw_smd": 1e-9}), "raw_smd") is Status.WARN


def test_severities_can_be_raised_and_lowered():
    assert status_of(small_study(49, severities={"rows": "warn"}), "rows") is Status.WARN
    strict = small_study(thresholds={"raw_smd": 1e-9}, severities={"raw_smd": "block"})
    assert [item.name for item in diagnose(strict).blocking] == ["raw_smd"]


def test_in_a_declared_trial_raw_imbalance_informs():
    limits = {"raw_smd": 1e-9, "raw_smd_fail": 1e-9}
    trial = small_study(thresholds=limits, declaration=Declaration(design="trial"))
    item = diagnose(trial).diagnostic("raw_smd")
    assert item.status is Status.PASS
    assert item.value > 0
    assert "trial" in item.detail
    assert status_of(small_study(thresholds=limits), "raw_smd") is Status.FAIL


def test_a_limit_that_no_measure_has_is_named():
    found = diagnose(small_study(thresholds={"overlapp": 0.9}, severities={"rows_fail": "warn"}))
    assert "'overlapp' is ignored" in found.notices[0]
    assert "'overlap'" in found.notices[0]
    assert len(found.notices) == 2
    assert diagnose(small_study(thresholds={"adjusted_smd_fail": 0.3})).notices == ()


def test_a_declared_limit_looser_than_the_default_fail_limit_replaces_it():
    assert judge("adjusted_smd", 0.3).status is Status.FAIL
    assert judge("adjusted_smd", 0.3, thresholds={"adjusted_smd": 0.5}).status is Status.PASS
    assert judge("adjusted_smd", 0.6, thresholds={"adjusted_smd": 0.5}).status is Status.WARN
    assert judge("adjusted_smd", 0.6, thresholds={"adjusted_smd": 0.5, "adjusted_smd_fail": 0.55}).status is Status.FAIL


def test_no_covariates_leave_balance_and_inflation_not_run():
    found = diagnose(small_study(roles={Role.COVARIATES: ()}))
    for name in ("raw_smd", "vif"):
        assert (found.diagnostic(name).status, found.diagnostic(name).applies) == (Status.NOT_RUN, False)
    assert found.tables["smd"].empty


def test_three_arms_are_compared_with_the_reference_each():
    codes = (np.arange(90) % 3).astype(float)
    shifted = np.random.default_rng(1).normal(size=90) + 5 * (codes == 2)
    study = small_study(90, arms=("none", "mail", "visit"), columns={"d": codes, "x": shifted})
    found = diagnose(study)
    table = found.tables["smd"]
    assert table["arm"].tolist() == ["mail", "visit"]
    assert found.diagnostic("raw_smd").value == table["smd"].max() == table["smd"].iloc[1]
    one, zero = shifted[codes == 2], shifted[codes == 0]
    pooled = math.sqrt((one.var(ddof=1) + zero.var(ddof=1)) / 2)
    assert table["smd"].iloc[1] == pytest.approx(abs(one.mean() - zero.mean()) / pooled)
    assert found.tables["arms"]["rows"].tolist() == [30, 30, 30]
    assert found.tables["arms"]["share"].sum() == pytest.approx(1)


def test_sampling_weights_count_in_the_raw_balance():
    x = np.r_[np.zeros(50), np.ones(50)] + np.tile([0.0, 0.1], 50)
    weights = np.where((np.arange(100) % 2 == 1) & (np.arange(100) < 50), 0.0, 1.0)
    study = small_study(columns={"x": x, "w": weights}, roles={Role.WEIGHT: ("w",)})
    unweighted = small_study(columns={"x": x})
    assert raw_balance(study)["smd"].iloc[0] > 2 * raw_balance(unweighted)["smd"].iloc[0]


def test_negative_weights_leave_the_balance_not_run_and_say_why():
    study = small_study(columns={"w": -1.0}, roles={Role.WEIGHT: ("w",)})
    item = diagnose(study).diagnostic("raw_smd")
    assert (item.status, item.applies) == (Status.NOT_RUN, True)
    assert "negative" in item.detail


def test_labels_name_columns_in_japanese():
    names = {"結果": "y", "処置": "d", "年齢": "x"}
    base = small_study()
    frame = base.frame.rename(columns={old: new for new, old in names.items()})
    roles = {Role.OUTCOME: ("結果",), Role.TREATMENT: ("処置",), Role.COVARIATES: ("年齢",)}
    found = diagnose(Study(frame, roles, ("なし", "あり"), missing={"年齢": 0.5}))
    assert found.blocking == ()
    assert "'年齢' in arm 'あり'" in found.diagnostic("raw_smd").detail
    assert "'年齢'" in found.diagnostic("missing_share").detail


def test_inflation_agrees_with_regressions_and_names_exact_combinations():
    generator = np.random.default_rng(3)
    a, b, c, e = generator.normal(size=(4, 200))
    x = np.column_stack([a, b, a + 0.3 * b + 0.1 * e, 1000 * c + 300 * a])
    for j in range(4):
        others = np.column_stack([np.ones(200), np.delete(x, j, axis=1)])
        rest = x[:, j] - others @ np.linalg.lstsq(others, x[:, j], rcond=None)[0]
        expected = ((x[:, j] - x[:, j].mean()) ** 2).sum() / (rest**2).sum()
        assert variance_inflation(x)[j] == pytest.approx(expected)
    exact = variance_inflation(np.column_stack([a, b, a - 2 * b, c, np.full(200, 4.0)]))
    assert np.isinf(exact).tolist() == [True, True, True, False, True]
    assert exact[3] == pytest.approx(variance_inflation(np.column_stack([a, b, c]))[2])


def test_inflation_does_not_depend_on_units():
    x = np.random.default_rng(5).normal(size=(80, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.9], [0, 0, 1]])
    scaled = x * [1e-9, 1.0, 1e9] + [1e-6, -3, 1e10]
    assert variance_inflation(scaled) == pytest.approx(variance_inflation(x), rel=1e-4)


def test_exact_collinearity_is_infinite_named_and_storable():
    x2 = {"twice": 2 * small_study().frame["x"]}
    found = diagnose(small_study(columns=x2, roles={Role.COVARIATES: ("x", "twice")}))
    item = found.diagnostic("vif")
    assert item.status is Status.WARN
    assert item.value == 1e308
    assert "'x', 'twice'" in item.detail
    assert found.tables["vif"]["vif"].tolist() == [math.inf, math.inf]


def test_two_hundred_covariates():
    values = np.random.default_rng(9).normal(size=(400, 200))
    names = [f"covariate {k}" for k in range(200)]
    study = small_study(400, columns=dict(zip(names, values.T, strict=True)), roles={Role.COVARIATES: tuple(names)})
    found = diagnose(study)
    assert len(found.tables["vif"]) == len(found.tables["smd"]) == 200
    assert 1 < found.diagnostic("vif").value < 10


def test_no_rows_at_all_is_a_sentence_and_not_an_error():
    found = diagnose(small_study().take(np.array([], dtype=int)))
    assert {item.name for item in found.blocking} >= {"rows", "arms", "rows_per_arm", "outcome_levels"}


def test_stored_diagnostics_read_back_equal():
    study = small_study(thresholds={"typo": 1.0})
    found = diagnose(study)
    again = DataDiagnostics.from_json(json.loads(to_text(found.to_json())), found.tables)
    assert again.diagnostics == found.diagnostics
    assert (again.fingerprint, again.notices) == (study.fingerprint, found.notices)
    assert set(again.tables) == {"arms", "missingness", "smd", "vif"}


def test_the_study_keeps_what_was_missing_when_it_is_stored():
    study = small_study(missing={"年齢": 0.25})
    assert Study.from_facts(json.loads(to_text(study.facts())), study.frame, {}).missing == {"年齢": 0.25}


def test_rows_of_the_target_population_need_no_outcome() -> None:
    generator = np.random.default_rng(1)
    frame = pd.DataFrame({"d": generator.integers(0, 2, 200), "y": generator.random(200), "s": np.arange(200) % 2})
    frame.loc[frame["s"] == 0, "y"] = np.nan
    report = diagnose(prepare(frame, {"outcome": "y", "treatment": "d", "population": "s"}))
    rows = next(item for item in report.diagnostics if item.name == "rows")
    assert rows.value == 100
    assert not [item.name for item in report.diagnostics if item.status is Status.FAIL]
