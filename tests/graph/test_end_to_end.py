"""Real studies through the whole graph, in one process."""

import json
from pathlib import Path

import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.decisions.audit import main
from cqox_assets.decisions.replay import headline_estimator
from cqox_assets.decisions.schema import violations
from cqox_assets.results import Results
from cqox_resources.settings import Settings
from tests.conftest import DATA
from tests.graph.helpers import card, deliver, errors, run

CARD_KEYS = {
    "schema_version", "question", "study", "gates", "estimates", "refusals", "failures", "sensitivity",
    "counterfactual", "summary", "quality_score", "critique", "verdict", "recommendation", "confidence_level",
    "key_findings", "reasons", "flips_if", "figures", "provenance",
}  # fmt: skip


def analyse(home: Path, key: str, *files: Path, study: str | None = None) -> dict:
    deliver(home, key, *files, study=study)
    result = run(key)
    assert result.success, errors(result)
    return card(home, key)


def reasons(found: dict, kind: str) -> str:
    return " ".join(item["sentence"] for item in found["reasons"] if item["kind"] == kind)


def test_nsw_becomes_a_card_that_is_not_hold(home):
    found = analyse(home, "policy|2025-01")
    assert set(found) >= CARD_KEYS
    assert found["verdict"] in ("GO", "CANARY")
    rows = {row["estimator"]: row for row in found["estimates"]}
    assert rows["difference_in_means"]["estimate"] == pytest.approx(1794.342404270271, rel=1e-9)
    assert not found["failures"]
    folder = home / "reports" / "policy" / "2025-01"
    page = (folder / "decision_card.html").read_text("utf-8")
    assert "1,794" in page
    assert "Did job training raise the earnings" in page
    for figure in ("ate_distribution", "covariate_balance", "propensity_overlap"):
        assert (folder / "figures" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{figure}." in page
    audit = [json.loads(line) for line in (folder / "audit.jsonl").read_text("utf-8").splitlines()]
    assert [entry["event"] for entry in audit] == ["declared", "decided"]
    assert violations(found) == []
    for name in ("decision_card.ja.html", "decision_card.ja.pdf", "decision_card.pdf", "decision_card.tex"):
        assert (folder / name).stat().st_size > 500, name
    assert f"Reproduced: {headline_estimator(found)} gives" in (folder / "analysis.ipynb").read_text("utf-8")
    assert main(["verify", str(home / "reports")]) == 0
    assert audit[0]["declaration"]["design"] == "trial"


def test_psid_is_hold_and_says_why(home):
    found = analyse(home, "policy_psid|2025-01")
    assert found["verdict"] == "HOLD"
    assert "Overlap" in reasons(found, "quality")


def test_japanese_shift_jis_with_holes_and_outliers(home):
    from cqox_assets.simulate.retail_jp import truth

    found = analyse(home, "retail|2025-01")
    assert found["study"]["rows"] > 500
    answers = {row["estimator"]: row for row in found["estimates"]}
    known = truth()
    known = known["ATE"] if isinstance(known, dict) else known
    assert abs(answers["aipw"]["estimate"] - known) < 4 * answers["aipw"]["std_error"]
    assert "クーポン" in (home / "reports" / "retail" / "2025-01" / "decision_card.html").read_text("utf-8")
    drawn = Results(Settings.from_env().warehouse).present("retail|2025-01").figures["covariate_balance"]
    assert drawn.status == "drawn"
    assert any(ord(mark) > 0x3000 for mark in "".join(drawn.data["covariate"].astype(str)))


def test_three_arms_stay_three(home):
    frame = pd.read_parquet(next((DATA / "marketing" / "2025-01").glob("*.parquet"))).iloc[::16]
    path = home / "small.csv"
    frame.to_csv(path, index=False)
    found = analyse(
        home, "marketing|2025-01", path,
        study=(DATA / "marketing" / "2025-01" / "study.yaml").read_text("utf-8"),
    )  # fmt: skip
    rows = [row for row in found["estimates"] if row["estimator"] == "difference_in_means"]
    contrasts = {effect["contrast"] for effect in rows[0]["effects"]}
    assert len(contrasts) == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda frame: frame.assign(treat=1), "nothing to compare"),
        (lambda frame: frame.assign(re78=5.0), "same in every row"),
        (lambda frame: pd.concat([frame.head(20), frame.tail(20)]), "50"),
        (lambda frame: frame[["age", "education", "black"]].rename(columns={"black": "zeta"}), "treatment"),
    ],
    ids=["one arm", "constant outcome", "too few rows", "no treatment column"],
)
def test_a_study_that_cannot_be_analysed_stops_at_the_gate_with_a_sentence(home, tmp_path, change, word):
    frame = pd.read_csv(DATA / "policy" / "2025-01" / "lalonde_nsw.csv")
    path = tmp_path / "changed.csv"
    change(frame).to_csv(path, index=False)
    deliver(home, "policy|2025-02", path)
    result = run("policy|2025-02")
    assert not result.success
    said = errors(result)
    assert word in said
    assert "study.yaml" in said or "Deliver" in said
    executed = {event.step_key for event in result.all_events if event.is_step_start}
    assert "gates__gated_study" not in executed
    assert not (home / "reports" / "policy").exists()


def test_the_old_card_stays_when_a_new_delivery_is_blocked(home, tmp_path):
    before = analyse(home, "policy|2025-01")
    frame = pd.read_csv(DATA / "policy" / "2025-01" / "lalonde_nsw.csv")
    frame.assign(treat=1).to_csv(home / "inbox" / "policy" / "2025-01" / "lalonde_nsw.csv", index=False)
    assert not run("policy|2025-01").success
    assert card(home, "policy|2025-01")["study"]["fingerprint"] == before["study"]["fingerprint"]


def test_a_bad_file_goes_to_quarantine_and_the_good_one_is_analysed(home, tmp_path):
    bad = tmp_path / "broken.csv"
    bad.write_bytes(b"\x00\x01\x02\x03" * 500)
    deliver(home, "policy|2025-01")
    deliver(home, "policy|2025-01", bad)
    result = run("policy|2025-01")
    assert result.success, errors(result)
    kept = home / "quarantine" / "policy" / "2025-01"
    assert (kept / "broken.csv").read_bytes() == bad.read_bytes()
    assert json.loads((kept / "broken.csv.reason.json").read_text("utf-8"))["reason"]
    checks = {event.asset_check_evaluation_data.check_name: event.asset_check_evaluation_data.passed
              for event in result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"}  # fmt: skip
    assert checks["every_file_read"] is False


def test_only_bad_files_stop_with_their_sentence_and_nothing_is_lost(home, tmp_path):
    bad = tmp_path / "empty.csv"
    bad.write_bytes(b"")
    deliver(home, "policy|2025-01", bad)
    result = run("policy|2025-01")
    assert not result.success
    assert "empty" in errors(result)
    assert (home / "quarantine" / "policy" / "2025-01" / "empty.csv").exists()


def test_a_wrong_declaration_stops_and_stays_where_it_is(home):
    folder = deliver(home, "policy|2025-01", study="desing: trial\n")
    result = run("policy|2025-01")
    assert not result.success
    assert "did you mean 'design'" in errors(result)
    assert (folder / "study.yaml").exists()


def test_roles_are_corrected_in_the_launchpad(home, tmp_path):
    frame = pd.read_csv(DATA / "policy" / "2025-01" / "lalonde_nsw.csv").rename(columns={"treat": "q7", "re78": "q8"})
    path = tmp_path / "renamed.csv"
    frame.to_csv(path, index=False)
    deliver(home, "policy|2025-03", path)
    roles = {"treatment": ["q7"], "outcome": ["q8"]}
    result = run("policy|2025-03", config={"ops": {"mapping__column_roles": {"config": {"roles": roles}}}})
    assert result.success, errors(result)
    assert card(home, "policy|2025-03")["study"]["roles"]["treatment"] == ["q7"]


def test_assets_and_api_give_equal_numbers(home):
    analyse(home, "policy|2025-01")
    present = Results(Settings.from_env().warehouse).present("policy|2025-01")
    study = present.study
    roles = {str(role): list(names) for role, names in study.roles.items()}
    answers = cqox.estimate_all(study.frame, roles)
    assert set(answers) == set(present.estimates)
    for name, stored in present.estimates.items():
        if hasattr(stored, "effects"):
            pairs = zip(answers[name].effects, stored.effects, strict=True)
            for mine, theirs in pairs:
                assert mine.estimate == pytest.approx(theirs.estimate, rel=1e-12), name
                assert mine.std_error == pytest.approx(theirs.std_error, rel=1e-12), name


def test_one_question_one_estimator_or_one_figure_alone(home):
    analyse(home, "policy|2025-01")
    for key in ("sensitivity/e_value", "estimates/ols", "figures/covariate_balance"):
        result = run("policy|2025-01", selection=[key])
        assert result.success, errors(result)
        assert [event.asset_key.to_user_string() for event in result.all_events
                if event.event_type_value == "ASSET_MATERIALIZATION"] == [key]  # fmt: skip


def test_results_of_an_older_study_are_not_mixed_in(home):
    analyse(home, "policy|2025-01")
    frame = pd.read_csv(DATA / "policy" / "2025-01" / "lalonde_nsw.csv")
    frame.iloc[:-20].to_csv(home / "inbox" / "policy" / "2025-01" / "lalonde_nsw.csv", index=False)
    stages = ["ingestion/raw_table", "mapping/column_profile", "mapping/domain_match", "mapping/column_roles",
              "mapping/study", "gates/data_diagnostics", "gates/gated_study", "estimates/ols"]  # fmt: skip
    result = run("policy|2025-01", selection=stages)
    assert result.success, errors(result)
    present = Results(Settings.from_env().warehouse).present("policy|2025-01")
    assert len(present.study) == 425
    assert set(present.estimates) == {"ols"}
    assert present.plan is None
    assert not present.figures


def test_parameters_of_run_config_beat_the_declaration(home):
    text = (DATA / "policy" / "2025-01" / "study.yaml").read_text("utf-8") + "\nparams: {ols: {se: HC1}}\n"
    deliver(home, "policy|2025-01")
    deliver(home, "policy|2025-01", study=text)
    assert run("policy|2025-01").success
    results = Results(Settings.from_env().warehouse)
    declared = results.present("policy|2025-01").estimates["ols"].std_error
    config = {"ops": {"estimates__ols": {"config": {"se": "HC3"}}}}
    assert run("policy|2025-01", selection=["estimates/ols"], config=config).success
    assert results.present("policy|2025-01").estimates["ols"].std_error > declared


def test_an_estimator_with_a_bug_is_a_failure_on_the_card_and_an_alert(home, monkeypatch):
    from dataclasses import replace

    from cqox_assets.catalog import load_estimators

    spec = load_estimators()["ols"]

    def broken(study, params, context):
        raise RuntimeError("a bug in the estimator")

    monkeypatch.setitem(spec.__dict__, "run", broken)
    found = analyse(home, "policy|2025-01")
    monkeypatch.undo()
    assert [item["estimator"] for item in found["failures"]] == ["ols"]
    alerts = [json.loads(path.read_text("utf-8")) for path in (home / "alerts").glob("*.json")]
    assert [alert["kind"] for alert in alerts] == ["bug"]
    assert "a bug in the estimator" in alerts[0]["message"]
    assert replace(spec).run is not broken


def test_roll_up_joins_the_months(home):
    for period in ("2025-01", "2025-02"):
        analyse(home, f"healthcare|{period}")
    from dagster import DagsterInstance

    from dagster_deploy.definitions import defs

    result = defs.resolve_job_def("roll_up").execute_in_process(
        partition_key="healthcare", instance=DagsterInstance.ephemeral(), raise_on_error=False
    )
    assert result.success, errors(result)
    history = Results(Settings.from_env().warehouse).load("ledger/effect_history", "healthcare")
    assert set(history["period"]) == {"2025-01", "2025-02"}
    network = Results(Settings.from_env().warehouse)._warehouse / "ledger" / "domain_network" / "manifest.json"
    assert network.exists()


def test_a_bug_in_the_nuisance_models_costs_no_other_answer(home, monkeypatch):
    def broken(study, params=None):
        raise RuntimeError("a bug in the models")

    monkeypatch.setattr("cqox_assets.nuisance.shared.fit_nuisance", broken)
    found = analyse(home, "policy|2025-01")
    answered = {row["estimator"] for row in found["estimates"]}
    assert {"difference_in_means", "ols", "ipw"} <= answered
    alerts = [json.loads(path.read_text("utf-8")) for path in (home / "alerts").glob("*.json")]
    assert ["a bug in the models" in alert["message"] for alert in alerts if alert["kind"] == "bug"] == [True]
