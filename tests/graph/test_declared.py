"""What study.yaml states reaches the card, and what it gets wrong is said before anything is computed."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cqox_assets.results import Results
from cqox_resources.settings import Settings
from tests.graph.helpers import card, deliver, errors, run


def study_frame(n=400, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    d = (rng.random(n) < 1 / (1 + np.exp(-x[:, 0] / 2))).astype(int)
    frame = pd.DataFrame(x, columns=["age", "visits", "score"])
    return frame.assign(treatment=d, outcome=2 * d + x.sum(axis=1) / 2 + rng.normal(size=n))


def analyse(home, tmp_path, frame, study, key="retail|2025-03"):
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    deliver(home, key, path, study=study)
    return run(key)


def test_a_declared_guardrail_is_measured_and_judged_on_the_card(home, tmp_path):
    frame = study_frame()
    frame["complaints"] = frame["treatment"] + np.random.default_rng(2).normal(size=len(frame))
    study = """
roles: {treatment: treatment, outcome: outcome, covariates: [age, visits, score]}
methods: [ols]
guardrails: {complaints: {margin: 0.1, direction: lower_is_better}}
"""
    result = analyse(home, tmp_path, frame, study)
    assert result.success, errors(result)
    found = card(home, "retail|2025-03")
    (rail,) = found["guardrails"]
    assert rail["estimator"] == "ols"
    assert 0.5 < rail["estimate"] < 1.5
    assert found["verdict"] == "HOLD"
    assert "complaints" in next(item["sentence"] for item in found["reasons"] if item["kind"] == "guardrail")
    page = (home / "reports" / "retail" / "2025-03" / "decision_card.html").read_text("utf-8")
    assert "it does." in page


def test_a_continuous_treatment_becomes_a_card(home, tmp_path):
    rng = np.random.default_rng(3)
    frame = study_frame().assign(treatment=lambda table: table["age"] + rng.normal(size=len(table)))
    result = analyse(home, tmp_path, frame, "roles: {treatment: treatment, outcome: outcome}\n")
    assert result.success, errors(result)
    found = card(home, "retail|2025-03")
    names = [row["estimator"] for row in found["estimates"]]
    assert names == ["dose_response", "double_ml", "ols", "bootstrap"]
    assert {row["estimand"] for row in found["estimates"]} == {"slope"}
    assert {row["code"] for row in found["refusals"]} == {"treatment_kind", "missing_role"}


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        ("methods: [olz]", "methods names 'olz', which does not exist; did you mean 'ols'?"),
        ("methods: PSM", "did you mean 'propensity_matching'?"),
        ("estimand: average", "estimand names 'average', which does not exist; known are ATE"),
        ("params: {nope: {draws: 5}}", "params names 'nope'"),
        ("params: {ols: {draw: 5}}", "params.ols: parameter 'draw' is not known"),
        ("minimum_effect: .nan", "'minimum_effect' is nan: Input should be a finite number"),
        ("money: 5", "'money' is 5: Input should be a mapping of names to values"),
    ],
)
def test_a_name_or_value_that_does_not_exist_stops_before_anything_is_computed(home, tmp_path, study, sentence):
    result = analyse(home, tmp_path, study_frame(), study)
    assert not result.success
    assert sentence in errors(result)
    assert (home / "inbox" / "retail" / "2025-03" / "study.yaml").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_whose_name_is_not_utf8_is_read_or_moved_with_its_name_as_text(home, suffix):
    folder = home / "inbox" / "retail" / "2025-03"
    folder.mkdir(parents=True)
    good, bad = (
        Path(os.fsdecode(os.fsencode(folder) + f"/{name}.{suffix}".encode("cp932"))) for name in ("売上", "壊")
    )
    with good.open("wb") as sink:
        study_frame().to_csv(sink) if suffix == "csv" else study_frame().to_parquet(sink)
    bad.write_bytes(b"")
    result = run("retail|2025-03", selection=["ingestion/raw_table"])
    assert result.success, errors(result)
    delivery = Results(Settings.from_env().warehouse).load("ingestion/raw_table", "retail|2025-03")
    assert [source["name"] for source in delivery.table.sources] == [f"売上.{suffix}"]
    (note,) = (home / "quarantine").rglob("*.reason.json")
    assert json.loads(note.read_text("utf-8"))["file"] == f"壊.{suffix}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932"])
def test_a_declaration_in_any_encoding_and_spelling_counts(home, tmp_path, encoding):
    table, folder = tmp_path / "table.csv", home / "inbox" / "retail" / "2025-03"
    study_frame().to_csv(table, index=False)
    deliver(home, "retail|2025-03", table)
    (folder / "Study.yml").write_bytes("question: 割引は効くか\n".encode(encoding))
    result = run("retail|2025-03", selection=["ingestion/raw_table"])
    assert result.success, errors(result)
    delivery = Results(Settings.from_env().warehouse).load("ingestion/raw_table", "retail|2025-03")
    assert delivery.declaration.question == "割引は効くか"
    (folder / "study.yaml").write_text("design: trial\n")
    assert "keep one of them" in errors(run("retail|2025-03", selection=["ingestion/raw_table"]))


def test_side_tables_are_taken_packed_and_in_any_case_and_never_half_written(home, tmp_path):
    table = tmp_path / "table.csv"
    study_frame().to_csv(table, index=False)
    folder = deliver(home, "retail|2025-03", table)
    (folder / "Edges.csv.gz").write_bytes(gzip.compress(b"source,target\n1,2\n2,3\n"))
    (folder / "edges.csv.part").write_bytes(b"source,tar")
    result = run("retail|2025-03", selection=["ingestion/raw_table"])
    assert result.success, errors(result)
    delivery = Results(Settings.from_env().warehouse).load("ingestion/raw_table", "retail|2025-03")
    assert len(delivery.tables["edges"]) == 2
    assert delivery.table.rows == 400
    (folder / "edges.csv").write_bytes(b"source,target\n1,2\n")
    assert "second side table" in errors(run("retail|2025-03", selection=["ingestion/raw_table"]))


@pytest.mark.parametrize(("design", "verdict"), [("observational", "CANARY"), ("trial", "GO")])
def test_an_unadjusted_comparison_is_enough_for_a_trial_only(home, tmp_path, design, verdict):
    frame = study_frame()[["treatment", "outcome"]]
    result = analyse(home, tmp_path, frame, f"design: {design}\n")
    assert result.success, errors(result)
    found = card(home, "retail|2025-03")
    assert found["verdict"] == verdict
    said = " ".join(item["sentence"] for item in found["reasons"])
    assert ("Nothing is adjusted for" in said) == (design == "observational")
