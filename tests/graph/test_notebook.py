"""The notebook beside the card runs in a fresh kernel and gets the headline number again."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cqox_assets.decisions.notebook import HEADLINE, execute, make_notebook
from cqox_assets.decisions.replay import agree, headline_estimator, re_estimate
from cqox_assets.results import Results
from cqox_resources.settings import Settings
from tests.graph.helpers import card, deliver, errors, run

KEY = "policy|2025-01"
SECTIONS = ["Introduction", "Profile", "Exploration", "Graph", "Estimates", "Sensitivity", "Conclusions", "References"]
FEW = ["ingestion/raw_table", "mapping/column_profile", "mapping/domain_match", "mapping/column_roles", "mapping/study",
       "gates/data_diagnostics", "gates/gated_study", "discovery/method_plan", "nuisance/nuisance_models",
       "estimates/ols", "estimates/aipw", "sensitivity/e_value", "decisions/decision_card", "decisions/audit_record",
       "decisions/analysis_notebook"]  # fmt: skip


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """One analysis for the whole module; each test gets a copy of its home."""
    place = tmp_path_factory.mktemp("once") / "home"
    shutil.copytree(Path(os.environ["CQOX_HOME"]) / "domains", place / "domains")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CQOX_HOME", str(place))
        deliver(place, KEY)
        result = run(KEY, selection=FEW)
    assert result.success, errors(result)
    return place, checks_of(result)


@pytest.fixture
def analysed(once, tmp_path, monkeypatch):
    place = shutil.copytree(once[0], tmp_path / "home")
    monkeypatch.setenv("CQOX_HOME", str(place))
    return place, once[1]


def checks_of(result):
    found = [event.asset_check_evaluation_data for event in result.all_events
             if event.event_type_value == "ASSET_CHECK_EVALUATION"]  # fmt: skip
    return {check.check_name: check for check in found}


def outputs(notebook, cell_id):
    cell = next(cell for cell in notebook["cells"] if cell["id"] == cell_id)
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def test_the_stored_notebook_ran_and_says_that_the_number_came_out_again(analysed):
    home, checks = analysed
    text = (home / "reports" / "policy" / "2025-01" / "analysis.ipynb").read_text("utf-8")
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    titles = [line for cell in notebook["cells"] if cell["cell_type"] == "markdown" for line in "".join(cell["source"])
              .splitlines() if line.startswith("## ")]  # fmt: skip
    assert [title.removeprefix("## ") for title in titles] == SECTIONS
    found = card(home, KEY)
    name = headline_estimator(found)
    number = next(row["estimate"] for row in found["estimates"] if row["estimator"] == name)
    assert number == found["summary"]["ATE"]["consensus"]
    said = outputs(notebook, HEADLINE)
    assert said.startswith(f"Reproduced: {name} gives {number!r} again")
    assert checks["reproduces"].passed
    assert "Lin 2013" in text or "doi" in text


def test_a_changed_number_stops_the_notebook_and_is_an_error(analysed):
    home, _ = analysed
    warehouse = Settings.from_env().warehouse
    folder = Results(warehouse).folder("estimates/ols", KEY)
    document = next(path for path in folder.glob("*.json") if path.name != "manifest.json")
    stored = json.loads(document.read_text("utf-8"))
    stored["effects"][0]["estimate"] += 0.01
    document.write_text(json.dumps(stored), "utf-8")
    made = make_notebook(card(home, KEY), str(warehouse))
    for cell in made.cells:
        cell.source = cell.source.replace("'aipw'", "'ols'")
    done = execute(made)
    assert "not reproduced: stored" in done.error
    assert not done.reproduced
    assert "AssertionError" in done.content.decode()


def test_another_study_by_now_stops_the_notebook_with_a_sentence(analysed):
    home, _ = analysed
    found = card(home, KEY)
    found["study"]["fingerprint"] = "of an older study"
    done = execute(make_notebook(found, str(Settings.from_env().warehouse)))
    assert "another study" in done.error


def test_the_number_also_comes_out_with_fresh_nuisance_models(analysed):
    present = Results(Settings.from_env().warehouse).present(KEY)
    for name in ("ols", "aipw"):
        stored = present.estimates[name]
        assert agree(stored, re_estimate(present, name))
        assert agree(stored, re_estimate(present, name, refit_nuisance=False))
        moved = replace(stored, effects=(replace(stored.headline, estimate=stored.estimate * (1 + 1e-6)),))
        assert not agree(moved, re_estimate(present, name))


def test_a_card_without_estimates_has_a_notebook_that_says_so(home):
    deliver(home, KEY, study="design: trial\nmethods: [iv]\nroles: {outcome: re78, treatment: treat}\n")
    result = run(KEY, selection=[*(key for key in FEW if not key.startswith("estimates/")), "estimates/iv"])
    assert result.success, errors(result)
    found = card(home, KEY)
    assert (found["verdict"], found["estimates"]) == ("HOLD", [])
    text = (home / "reports" / "policy" / "2025-01" / "analysis.ipynb").read_text("utf-8")
    assert "no number to reproduce" in text
    stored = Results(Settings.from_env().warehouse).load("decisions/analysis_notebook", KEY)
    assert stored["error"] == stored["reproduced"] == ""


def test_a_japanese_study_has_a_japanese_notebook_and_card(analysed):
    home, _ = analysed
    made = make_notebook(card(home, KEY), "nowhere", "ja")
    titles = [cell.source.splitlines()[0] for cell in made.cells if cell.cell_type == "markdown"]
    assert "## はじめに" in titles
    assert "## 参考文献" in titles


def test_hostile_words_are_text_in_the_notebook(analysed):
    home, _ = analysed
    found = card(home, KEY)
    found["question"] = "<script>alert(1)</script> [x](javascript:y) `z`"
    made = make_notebook(found, "'); raise SystemExit('")
    text = "".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    assert "<script>" not in text
    assert "\\[x\\](javascript:y)" in text
    for cell in made.cells:
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec")
    assert "raise SystemExit" not in [line.strip() for line in made.cells[2].source.splitlines()]


def test_rerunning_adds_to_the_audit_record_and_breaking_it_is_an_error(analysed):
    home, checks = analysed
    assert checks["unbroken"].passed
    path = home / "reports" / "policy" / "2025-01" / "audit.jsonl"
    before = path.read_bytes()
    again = ["decisions/decision_card", "decisions/audit_record"]
    assert run(KEY, selection=[*again, "ingestion/raw_table"]).success
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == 3
    path.write_bytes(path.read_bytes().replace(b'"CANARY"', b'"GO"'))
    result = run(KEY, selection=[*again, "ingestion/raw_table"])
    assert "unbroken: audit.jsonl line 2" in errors(result)
