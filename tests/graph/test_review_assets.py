"""Quality score and critique in the graph: they reach the card, months are compared, and nothing is invented."""

import json

from cqox_assets.results import Results
from cqox_assets.synthesis.quality_score import WEIGHTS
from cqox_resources.settings import Settings
from tests.conftest import DATA
from tests.graph.helpers import card, deliver, errors, run


def _analysed(home, key, *files, study=None):
    deliver(home, key, *files, study=study)
    result = run(key)
    assert result.success, errors(result)
    return card(home, key)


def test_two_months_are_scored_reviewed_and_compared(home):
    first = _analysed(home, "policy|2025-01")
    assert first["quality_score"]["comparison"] is None
    assert set(first["quality_score"]["axes"]) == set(WEIGHTS)
    assert 0 <= first["quality_score"]["score"] <= 100
    assert first["critique"]["verdict"] in ("APPROVE", "ITERATE")
    assert first["critique"]["rounds"][0]["number"] == 0
    assert "critique" not in first["not_computed"]
    answers = {row["name"]: row for row in first["sensitivity"] if row["status"] != "not_run"}
    assert {"asked", "meaning", "implies", "advice"} <= set(answers["specification_curve"])
    assert {"estimator", "estimand", "covariate_set", "sample", "n"} <= set(answers["specification_curve"]["table"][0])
    second = _analysed(home, "policy|2025-02", *sorted((DATA / "policy" / "2025-01").iterdir()))
    compared = second["quality_score"]["comparison"]
    assert compared["scenarios"] == ["2025-01", "2025-02"]
    assert compared["score"]["before"] == first["quality_score"]["score"]
    present = Results(Settings.from_env().warehouse).present("policy|2025-02")
    assert present.quality is not None
    assert present.critique is not None
    assert present.quality.score == second["quality_score"]["score"]
    assert json.loads(json.dumps(present.critique.for_card(), allow_nan=False)) == second["critique"]


def test_where_nothing_can_be_estimated_the_card_says_so(home):
    study = (DATA / "policy" / "2025-01" / "study.yaml").read_text("utf-8") + "methods: [iv]\n"
    found = _analysed(home, "policy|2025-01", next((DATA / "policy" / "2025-01").glob("*.csv")), study=study)
    assert found["verdict"] == "HOLD"
    assert found["critique"]["verdict"] == "REJECT"
    assert "Nothing could be estimated" in found["critique"]["sentence"]
    assert found["quality_score"]["zone"] == "fail"
    assert found["quality_score"]["axes"]["precision"] is None
    assert any("critique rejects" in reason["sentence"] for reason in found["reasons"])
