"""The Great Expectations suites: statuses, texts, checks, and the report that collects all diagnostics."""

import io
import json
import logging
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.declaration import Declaration
from cqox_assets.errors import ContractError
from cqox_assets.gates.checks import BLOCKING, DATA_CHECKS, data_gates
from cqox_assets.gates.data import diagnose
from cqox_assets.gates.design import collect
from cqox_assets.gates.report import number
from cqox_assets.gates.suite import GateReport, Named, validate_diagnostics, validate_named, validate_table
from cqox_assets.measures import MEASURES, Diagnostic, Status, judge
from cqox_assets.result import (
    Effect,
    EffectEstimate,
    Failure,
    Nuisance,
    Refusal,
    Sample,
    SensitivityResult,
    to_text,
)
from cqox_assets.study import Role
from tests.unit.test_gates_data import BLOCKED, small_study


def checks_of(study):
    return {check.name: check for check in data_gates(study, diagnose(study)).checks}


def full_study(**facts):
    columns = {"u": np.arange(100) // 2, "t": np.arange(100) % 2, "w": 1.0, "g": np.arange(100) // 4}
    roles = {Role.UNIT: ("u",), Role.TIME: ("t",), Role.WEIGHT: ("w",), Role.CLUSTER: ("g",)}
    return small_study(columns={**columns, **facts.pop("columns", {})}, roles=roles, **facts)


def test_every_check_is_returned_once_and_a_healthy_study_passes_all():
    study = full_study()
    checks = data_gates(study, diagnose(study)).checks
    assert tuple(check.name for check in checks) == DATA_CHECKS
    assert all(check.passed for check in checks)
    assert not any(check.stops for check in checks)


@pytest.mark.parametrize("name", BLOCKED)
def test_each_blocking_measure_stops_the_run(name):
    check = checks_of(BLOCKED[name])[name]
    assert check.stops
    assert not check.passed


def test_what_was_not_run_neither_passes_nor_stops():
    check = checks_of(small_study())["duplicated_unit_periods"]
    assert (check.passed, check.stops, check.status) == (False, False, Status.NOT_RUN)


def test_a_warning_raised_to_block_stops_through_the_static_check_that_names_it():
    study = small_study(missing={"x": 0.9}, severities={"missing_share": "block"})
    checks = checks_of(study)
    assert (checks["missing_share"].status, checks["missing_share"].stops) == (Status.FAIL, False)
    assert checks["declared_blocks"].stops
    assert "Missing cells 0.9, wanted < 0.3" in checks["declared_blocks"].description


def test_a_block_lowered_to_warn_stops_nothing():
    checks = checks_of(small_study(40, severities={"rows": "warn"}))
    assert checks["rows"].status is Status.WARN
    assert checks["table_expectations"].status is Status.WARN
    assert not any(check.stops for check in checks.values())


TABLE_DEFECTS = {
    "rows": {"columns": {}},
    "missing_outcome": {"columns": {"y": np.r_[np.nan, np.arange(99.0)]}},
    "outcome_levels": {"columns": {"y": 1.0}},
    "unknown_treatment": {"columns": {"d": np.r_[np.nan, np.arange(99) % 2]}},
    "arms": {"columns": {"d": 0.0}},
    "duplicated_unit_periods": {"columns": {"t": 1}},
    "invalid_weights": {"columns": {"w": np.r_[-1.0, np.ones(99)]}},
    "missing_cells": {"columns": {"x": np.r_[np.nan, np.ones(99)]}},
}


@pytest.mark.parametrize("name", TABLE_DEFECTS)
def test_each_defect_of_the_table_fails_its_own_gate_only(name):
    limits = {"rows": 1000} if name == "rows" else {}
    study = full_study(thresholds=limits, **TABLE_DEFECTS[name])
    report = validate_table(study)
    assert [gate.name for gate in report.blocking] == [name]
    assert not report.having(Status.WARN)
    assert checks_of(study)["table_expectations"].stops
    assert {gate.name for gate in report.gates} == set(TABLE_DEFECTS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5])
def test_weights_must_be_zero_or_positive_numbers(bad):
    report = validate_table(full_study(columns={"w": np.r_[bad, bad, np.zeros(98)]}))
    assert report.gate("invalid_weights").value == 2
    assert report.gate("invalid_weights").status is Status.FAIL


def test_an_arm_that_the_study_does_not_have_is_an_unknown_treatment():
    report = validate_table(small_study(columns={"d": np.r_[2.0, np.nan, np.arange(98) % 2]}))
    assert report.gate("unknown_treatment").value == 2


@pytest.mark.parametrize(("allowed", "status"), [(2, Status.FAIL), (3, Status.PASS)])
def test_a_declared_number_of_bad_rows_is_allowed(allowed, status):
    outcome = np.r_[np.nan, np.nan, np.arange(98.0)]
    report = validate_table(small_study(columns={"y": outcome}, thresholds={"missing_outcome": allowed}))
    assert report.gate("missing_outcome").status is status
    panel = {"u": np.r_[7, 7, np.arange(100, 198)], "t": 1}
    study = small_study(
        columns=panel, roles={Role.UNIT: ("u",), Role.TIME: ("t",)}, thresholds={"duplicated_unit_periods": allowed}
    )
    assert validate_table(study).gate("duplicated_unit_periods").status is status
    assert diagnose(study).diagnostic("duplicated_unit_periods").status is status


def test_missing_cells_are_named_in_the_words_of_the_user():
    study = small_study(columns={"x": np.nan}, labels={"x": "年齢"})
    assert "'年齢'" in validate_table(study).gate("missing_cells").detail


def test_a_column_that_is_called_like_ours_does_not_confuse_the_suite():
    study = small_study(columns={"missing cells": 1.0}, roles={Role.COVARIATES: ("missing cells", "x")})
    assert validate_table(study).gate("missing_cells").status is Status.PASS


def test_a_study_without_rows_is_judged():
    study = full_study().take(np.array([], dtype=int))
    assert validate_table(study).gate("rows").status is Status.FAIL


def test_a_continuous_treatment_needs_values_but_no_arms():
    study = small_study(arms=(), columns={"d": np.r_[np.nan, np.linspace(0, 1, 99)]})
    assert validate_table(study).gate("unknown_treatment").value == 1


def test_the_page_says_what_failed_what_it_means_and_what_to_do():
    study = small_study(40, columns={"a|b<c>\nd": 0.5}, roles={Role.COVARIATES: ("x", "a|b<c>\nd")})
    gates = data_gates(study, diagnose(study))
    page = gates.markdown()
    measure = MEASURES["rows"]
    assert "1 failed (1 of them stops the run)" in page
    assert f"| {measure.title} | fail, stops the run | 40: 40 rows can be analysed | &gt; 49 |" in page
    assert f"| {measure.meaning} | {measure.remedy} |" in page
    assert "a\\|b&lt;c&gt; d" in page
    widths = {line.replace("\\|", "").count("|") for line in page.splitlines() if line.startswith("|")}
    assert widths == {7, 5}  # six columns for what was missed, four for what passed
    assert "It does not apply to this study." in page
    assert "#### The prepared table" in page


def test_a_report_reads_back_equal_and_holds_plain_values():
    report = validate_table(full_study(columns={"y": 1.0}))
    text = to_text(report.to_json())
    assert json.dumps(report.to_json(), allow_nan=False)
    assert GateReport.from_json(json.loads(text)) == report
    assert report.rows[0]["status"] == "pass"
    assert type(report.rows[0]["value"]) is float
    assert list(report.frame()["name"]) == [gate.name for gate in report.gates]


def test_an_expectation_that_cannot_be_evaluated_is_a_bug_and_no_pass():
    from cqox_assets.gates.engine import Expected, validate

    broken = Expected("rows", "limit", "ExpectColumnMaxToBeBetween", "critical", {"column": "nope", "max_value": 1})
    with pytest.raises(ContractError, match="nope"):
        validate(pd.DataFrame({"a": [1.0]}), "broken", [broken])


def test_two_gates_of_one_name_are_a_bug():
    item = judge("rows", 100.0)
    with pytest.raises(ContractError, match="listed twice"):
        validate_diagnostics([item, item])


def test_no_gates_at_all():
    assert validate_diagnostics([]).headline() == "There are no gates to judge."


def test_a_status_that_is_worse_than_the_limits_say_stands():
    stricter = replace(judge("overlap", 0.95), status=Status.WARN)
    assert validate_diagnostics([stricter]).gate("overlap").status is Status.WARN


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1e308, "∞"), (-1e308, "-∞"), (10000.0, "10,000"), (0.12345, "0.123"), (12345.6, "12,346")],
)
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text


def estimate(name, *diagnostics):
    return EffectEstimate(name, "1", (Effect("ATE", "b - a", 1.0),), "normal", Sample(10), diagnostics)


def sensitivity(status=Status.WARN):
    return SensitivityResult("e_value", "ipw", "ATE", 1.1, "ratio", status, "It is weak.", "Measure more.")


def test_the_design_report_holds_every_diagnostic_with_its_source():
    study = small_study()
    data = diagnose(study)
    nuisance = Nuisance({}, "stack", 0, 5, study.fingerprint, (judge("overlap", 0.6),))
    estimates = {
        "ipw": estimate("ipw", judge("adjusted_smd", 0.3), judge("overlap", 0.85, thresholds={"overlap": 0.9})),
        "ols": Refusal("ols", "code", "reason", "remedy"),
        "aipw": Failure("aipw", "ValueError: x", "trace"),
    }
    answers = {
        "e_value": sensitivity(),
        "placebo": {"ipw": Refusal("placebo", "code", "no rows", "deliver rows"), "ols": Failure("p", "E: x", "")},
    }
    report = collect(data, nuisance, estimates, answers)
    found = {gate.name: (gate.measure, gate.stage, gate.estimator, gate.status) for gate in report.gates}
    assert found["nuisance: overlap"] == ("overlap", "nuisance", "", Status.WARN)
    assert found["ipw: adjusted_smd"] == ("adjusted_smd", "estimates", "ipw", Status.FAIL)
    assert found["ipw: overlap"] == ("overlap", "estimates", "ipw", Status.WARN)
    assert found["sensitivity: e_value"] == ("e_value", "sensitivity", "ipw", Status.WARN)
    assert found["sensitivity: placebo (ipw)"][3] is Status.NOT_RUN
    assert found["sensitivity: placebo (ols)"][3] is Status.NOT_RUN
    assert set(found) >= {item.name for item in data.diagnostics}
    assert report.gate("ipw: overlap").threshold == 0.9
    assert report.fingerprint == study.fingerprint
    assert report.gate("duplicated_unit_periods").informs
    assert report.notices == (
        "ols refused, so there are no gates of this",
        "aipw failed, so there are no gates of this",
    )
    assert "Imbalance after adjustment (ipw)" in report.markdown()


def test_the_design_report_without_models_holds_the_data_gates():
    data = diagnose(small_study())
    assert [gate.name for gate in collect(data, None, {}, {}).gates] == [item.name for item in data.diagnostics]


def test_a_diagnostic_that_no_measure_defines_keeps_its_status():
    report = validate_named(
        [Named("mine", Diagnostic("own_test", 0.2, None, status, "words")) for status in [Status.FAIL]], suite="x"
    )
    assert report.gate("mine").status is Status.FAIL
    assert report.gate("mine").title == "Own test"


def test_validating_prints_and_logs_nothing(caplog):
    study, out, err = full_study(declaration=Declaration(design="trial")), io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), caplog.at_level(logging.WARNING):
        data_gates(study, diagnose(study))
    assert (out.getvalue(), err.getvalue(), caplog.records) == ("", "", [])


def test_importing_the_gates_does_not_import_great_expectations():
    code = (
        "import sys, cqox_assets.gates.checks, cqox_assets.gates.design; sys.exit('great_expectations' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_analytics_are_off_in_a_fresh_process_that_opens_no_connection():
    code = """
import socket
def refuse(*_, **__):
    raise SystemExit("a connection was opened")
socket.socket.connect = socket.create_connection = refuse
from cqox_assets.gates.suite import validate_diagnostics
from cqox_assets.measures import judge
print(validate_diagnostics([judge("rows", 100.0)]).counts()["pass"])
import os
print(os.environ["GX_ANALYTICS_ENABLED"])
"""
    done = subprocess.run([sys.executable, "-W", "error::ResourceWarning", "-c", code], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["1", "false"], "")


def test_blocking_checks_are_declared_before_any_data_are_seen():
    assert {"rows", "table_expectations", "declared_blocks"} < BLOCKING < set(DATA_CHECKS)
