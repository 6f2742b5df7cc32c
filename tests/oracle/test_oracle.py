"""The reference numbers that come with the repository are met, and the judge tells a hit from a miss."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.__main__ import DATA, REFERENCES, data_folders, main, run_all
from tests.oracle.cases import read_entries
from tests.oracle.harness import Answer, Verdict, judge_answer, load_adapters, run_entry

# Every exact entry of these methods, counted in the files that the references come from.
EXACT = {
    "difference_in_means": 39,
    "ols": 38,
    "regression_adjustment": 43,
    "propensity_stratification": 15,
    "propensity_matching": 9,
    "propensity_score": 6,
    "g_computation": 13,
    "g_formula": 8,
    "ipw": 37,
    "aipw": 16,
    "dml_plr": 2,
    "dml_irm": 4,
    "dose_response_gps": 2,
    "e_value": 6,
    "iv": 42,
    "did_2x2": 12,
    "did_twfe": 4,
    "event_study_twfe": 8,
    "callaway_santanna": 278,
    "panel_matching": 5,
    "spatial_lag": 14,
    "spatial_error": 4,
    "lm_test": 2,
    "moran_test": 1,
    "its": 36,
    "mediation": 7,
    "s_learner": 10,
    "t_learner": 11,
    "x_learner": 10,
    "uplift_qini": 1,
    "uplift_auuc": 1,
    "truth": 21,
    "synthetic_control": 19,
    "synthetic_did": 1,
    "rd_sharp": 23,
    "rd_fuzzy": 16,
    "rd_density_test": 4,
    "network_exposure": 16,
    "ipsw": 3,
    "aipsw": 2,
    "transport_gformula": 3,
    "proximal": 24,
    "sensitivity_ovb": 14,
    "rosenbaum_bounds": 16,
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    """Verdicts on all entries but the resampled and forest ones, which take most of the time."""
    chosen = [entry for entry in read_entries(REFERENCES) if not entry["spec"].get("params", {}).get("seeds")]
    folder = tmp_path_factory.mktemp("references")
    (folder / "chosen.json").write_text(json.dumps(chosen), encoding="utf-8")
    return run_all(folder, list(DATA))


def test_every_exact_entry_is_met(verdicts: list[Verdict]) -> None:
    missed = [f"{item.entry}: {item.detail}" for item in verdicts if item.status != "met"]
    assert not missed, "\n".join(missed)
    met = Counter(item.method for item in verdicts if item.status == "met" and item.kind == "exact")
    assert {method: met[method] for method in EXACT} == EXACT


@pytest.mark.slow
def test_every_entry_is_met() -> None:
    assert [item.entry for item in run_all(REFERENCES, list(DATA)) if item.status != "met"] == []


def _entry(**changes: Any) -> dict[str, Any]:
    spec = {
        "method": "difference_in_means", "report": "estimate", "target": "sample", "file": "lalonde_nsw.csv",
        "roles": {"outcome": "re78", "treatment": "treat", "covariates": []}, "params": {}, "se": "HC1",
        "ci": "normal", "estimand": "ATE", "compare": "tolerance", "rows": 445,
    } | changes.pop("spec", {})  # fmt: skip
    entry = {
        "id": "x",
        "kind": "exact",
        "value": 1794.342404,
        "se": 670.8245,
        "tolerance": {"value_rtol": 1e-6, "se_rtol": 1e-5},
    }
    return entry | changes | {"spec": spec}


def _status(entry: dict[str, Any]) -> tuple[str, str]:
    verdict = run_entry(entry, data_folders(list(DATA)), load_adapters())
    return verdict.status, verdict.detail


def test_a_wrong_number_is_missed() -> None:
    assert _status(_entry())[0] == "met"
    assert _status(_entry(value=1794.40))[0] == "missed"
    assert _status(_entry(se=671.0))[0] == "missed"
    assert _status(_entry(ci=[479.5, 3109.2]))[0] == "missed"
    assert _status(_entry(spec={"rows": 444}))[0] == "missed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec": {"method": "witchcraft"}}, "no adapter"),
        ({"spec": {"file": "missing.csv"}}, "is not there"),
        ({"spec": {"se": "HC9"}}, "se = 'HC9'"),
        ({"spec": {"ci": "fiducial"}}, "ci = 'fiducial'"),
        ({"spec": {"report": "mood"}}, "report = 'mood'"),
        ({"spec": {"winsorise": 0.01}}, "key 'winsorise'"),
        ({"spec": {"params": {"knots": 3}}}, "param 'knots'"),
        ({"spec": {"roles": {"outcome": "re78", "treatment": "treat", "moon": "age"}}}, "role 'moon'"),
        ({"spec": {"roles": {"outcome": "re99", "treatment": "treat"}}}, "no column 're99'"),
        ({"data_available": False}, "not available"),
    ],
)
def test_what_is_not_known_is_uncovered(changes: dict[str, Any], words: str) -> None:
    status, detail = _status(_entry(**changes))
    assert status == "uncovered"
    assert words in detail


def test_a_refusal_where_a_number_is_known_is_missed() -> None:
    entry = _entry(spec={"method": "propensity_stratification", "quantile_rule": "linear", "quantiles_over": "all",
                         "strata_weights": "all", "propensity": "logit", "se": "stratified",
                         "params": {"strata": 200}})  # fmt: skip
    entry["spec"]["roles"]["covariates"] = ["age", "re74"]
    status, detail = _status(entry)
    assert status == "missed"
    assert "empty_stratum" in detail


@pytest.mark.parametrize(
    ("compare", "own", "tolerance", "params", "hit"),
    [
        ("interval", Answer(5, ci=(1.0, 9.0)), {}, {}, False),
        ("interval", Answer(5, ci=(1.0, 11.0)), {}, {}, True),
        ("bootstrap_se", Answer(12, se=1.0), {}, {"max_bootstrap_se": 3}, True),
        ("bootstrap_se", Answer(14, se=1.0), {}, {"max_bootstrap_se": 3}, False),
        ("upper_bound", Answer(11), {"value_upper_bound": 12}, {}, True),
        ("upper_bound", Answer(13), {"value_upper_bound": 12}, {}, False),
        ("not_worse", Answer(10.4), {"value_rtol": 0.05}, {}, True),
        ("not_worse", Answer(10.6), {"value_rtol": 0.05}, {}, False),
        ("tolerance_or_fit", Answer(20, extras={"pre_rmspe": 1.01}), {"value_rtol": 0.1}, {"pre_rmspe": 1.0}, True),
        ("tolerance_or_fit", Answer(20, extras={"pre_rmspe": 1.1}), {"value_rtol": 0.1}, {"pre_rmspe": 1.0}, False),
        ("tolerance", Answer(10.5), {"value_abs": 0.6}, {}, True),
        ("tolerance", Answer(10.5), {"value_abs": 0.4}, {}, False),
        ("report", Answer(99), {"value_rtol": 1e-9}, {}, True),
    ],
)
def test_compares_as_the_spec_says(
    compare: str, own: Answer, tolerance: dict[str, float], params: dict[str, float], hit: bool
) -> None:
    entry = {"id": "x", "kind": "exact", "value": 10.0, "tolerance": tolerance}
    assert (judge_answer(entry | {"spec": {"compare": compare, "params": params}}, own) == []) is hit


def test_random_standard_errors_get_room() -> None:
    entry = _entry(value=1.0, se=1.0, spec={"se": "bootstrap_pairs"})
    assert judge_answer(entry, Answer(1.0, 1.14)) == []
    assert judge_answer(entry, Answer(1.0, 1.16)) != []


def test_command_writes_counts_and_fails_on_a_missed_exact_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references, report = tmp_path / "references", tmp_path / "report.json"
    references.mkdir()
    arguments = ["--references", str(references), "--data", str(DATA[1]), "--json", str(report)]
    (references / "a.json").write_text(json.dumps([_entry(), _entry(spec={"method": "witchcraft"})]), encoding="utf-8")
    assert main(arguments) == 0
    written = json.loads(report.read_text(encoding="utf-8"))
    assert (written["met"], written["missed"], written["uncovered"]) == (1, 0, 1)
    assert [entry["status"] for entry in written["entries"]] == ["met", "uncovered"]
    (references / "b.json").write_text(json.dumps([_entry(value=1.0)]), encoding="utf-8")
    assert main(arguments) == 1
    (references / "b.json").write_text(json.dumps([_entry(value=1.0, kind="statistical")]), encoding="utf-8")
    assert main(arguments) == 0
    assert "missed 1" in capsys.readouterr().out
