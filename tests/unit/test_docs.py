"""Generated pages say what the catalogues say."""

import json
import subprocess
import sys

import pytest

from cqox_assets.catalog import load_estimators
from tests.conftest import ROOT
from tools import record_examples


def test_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "tools/write_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_shows_the_published_number():
    assert "1794.34" in (ROOT / "README.md").read_text("utf-8")


EVIDENCE = ROOT / "docs" / "evidence"


def test_every_estimator_says_what_it_is_for():
    for name, spec in load_estimators().items():
        for words in (spec.question, spec.formula, spec.reading):
            assert len(words) > 20, name
        assert spec.example is not None, name
        page = (ROOT / "docs" / "estimators" / f"{name}.md").read_text("utf-8")
        assert spec.question in page
        assert "none" not in page.partition("## Example")[2].partition("## Parameters")[0].split("\n")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, spec in load_estimators().items()
        if spec.family in ("weighting", "doubly_robust", "matching", "adjustment")
    ],
)
def test_the_formula_shows_every_average_that_is_offered(name):
    spec = load_estimators()[name]
    averages = [str(item) for item in spec.estimands if str(item) in ("ATE", "ATT", "ATC", "ATO")]
    assert not [item for item in averages if len(averages) > 1 and item not in spec.formula]
    assert spec.formula.count("{") == spec.formula.count("}")
    assert spec.formula.count(r"\begin") == spec.formula.count(r"\end")


@pytest.mark.parametrize("name", load_estimators())
def test_the_example_of_a_page_still_gives_its_number(name):
    recorded = json.loads((EVIDENCE / "examples.json").read_text("utf-8"))[name]
    found = record_examples.record(record_examples.answer(load_estimators()[name]))
    assert found["estimate"] == pytest.approx(recorded["estimate"], rel=2e-3)
    assert found["rows"] == recorded["rows"]


def test_no_reference_number_is_missed():
    record = json.loads((EVIDENCE / "oracle.json").read_text("utf-8"))
    assert sum(item["missed"] for item in record["methods"].values()) == 0
    pinned = {method for spec in load_estimators().values() for method in spec.oracle}
    assert {method for method in pinned if method in record["methods"]} >= {
        "aipw",
        "iv",
        "rd_sharp",
        "callaway_santanna",
    }


def test_the_page_of_decisions_has_every_formula():
    from cqox_assets.catalog import load_sensitivities
    from cqox_assets.synthesis.quality_score import FORMULAS

    page = (ROOT / "docs" / "decisions.md").read_text("utf-8")
    for text in (*FORMULAS.values(), *(spec.holds for spec in load_sensitivities().values())):
        assert text in page
