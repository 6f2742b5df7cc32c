"""The sections of money, quality, review and systems, as a board reads them: real findings, both languages."""

import json
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.decisions.content import document_of
from cqox_assets.decisions.language import entry, in_language, known
from cqox_assets.decisions.page import render_html
from cqox_assets.decisions.pdf import render_pages
from cqox_assets.declaration import Money
from cqox_assets.measures import MEASURES
from cqox_assets.result import to_text
from cqox_assets.study import Role
from cqox_assets.synthesis.counterfactual import counterfactual_systems
from cqox_assets.synthesis.critique import Critique, Round
from cqox_assets.synthesis.objections import Objection
from cqox_assets.synthesis.policy import policy_value
from cqox_assets.synthesis.quality_change import with_comparison
from cqox_assets.synthesis.quality_score import QualityScore
from tests.unit.test_card import card_of, estimates_of, parsed, study_of
from tests.unit.test_policy_value import targeted

KEYS = ("policy", "quality_score", "critique", "counterfactual")
TRIM = "rows with a propensity below 0.1 or above 0.9 are left out"


def score(value, validity, zone):
    axes = {"validity": validity, "precision": 5.5, "robustness": None}
    zones = {"validity": zone, "precision": "warn", "robustness": "not_run"}
    rows = [{"name": f"gate {k}", "value": 1.0, "points": 1.0} for k in range(40)]
    target = {"contrast": "b - a", "estimand": "ATE", "scale": "difference", "estimate": value / 10, "std_error": 1.0}
    return QualityScore(value, axes, zone, zones, {"validity": rows}, [target])


@pytest.fixture(scope="module")
def card():
    money = Money(value_per_unit=1000, cost_per_treatment=200, budget=32_000, currency="JPY")
    study = targeted(800, money=money)
    region = np.where(np.arange(800) % 3 == 0, "north", "south")
    rounds = (
        Round(0, "ITERATE", 90, 3, objections=(Objection("data_quality", "concern", "Overlap warns.", "trim"),)),
        Round(1, "APPROVE", 81, 3, "trim", TRIM, objections=(Objection("significance", "note", "Clear."),)),
    )
    review = Critique("ITERATE", f"round 1: {TRIM}, which answers every check.", rounds)
    found = {
        "policy": policy_value(study.with_column("region", region, Role.SUBGROUP)).to_json(),
        "quality_score": asdict(with_comparison(score(80.0, 9.4, "pass"), score(62.0, 6.1, "warn"), ("May", "June"))),
        "critique": review.for_card(),
        "counterfactual": counterfactual_systems(study).to_json(),
    }
    return {**card_of(study_of(), estimates_of()), **json.loads(to_text(found))}


def sections(card, language="en"):
    return {section.key: section for section in document_of(card, language).sections if section.key in KEYS}


def whole(card, language="en"):
    return {section.key: section for section in document_of(card, language).sections}


def flat(blocks):
    return [item for block in blocks for item in (block, *flat(block.get("blocks", ())))]


def open_tables(section):
    return [block for block in section.blocks if block["kind"] == "table"]


def texts(row):
    return [cell["text"] for cell in row]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_no_cell_holds_a_structure_and_no_raw_name_is_shown(card, language):
    page = render_html(card, language=language)
    parsed(page)
    for key, section in sections(card, language).items():
        shown = json.dumps([block for block in section.blocks if block["kind"] != "fold"], ensure_ascii=False)
        assert not re.search(r"\b(treat_all|std_error|plug_in|net_benefit|break_even|settings|affordable)\b", shown), (
            key
        )
        for block in flat(section.blocks):
            if block["kind"] == "table":
                assert all(len(row) == len(block["head"]) for row in block["rows"])
                assert not any(";" in cell["text"] for row in block["rows"] for cell in row)
    if language == "ja":
        said = [block["text"] for section in sections(card, "ja").values() for block in section.blocks[:1]]
        assert all(re.search("[ぁ-ん一-龠]", text) for text in said)


def test_policy_says_the_sentence_then_a_table_then_limits(card):
    section = sections(card)["policy"]
    row = card["policy"]["contrasts"][0]
    assert section.blocks[0]["text"] == row["sentence"]
    choices = open_tables(section)[0]
    assert choices["head"] == ["", "Coverage", "Treated", "Spend", "Net benefit", "Interval"]
    assert [texts(line)[:3] for line in choices["rows"]] == [
        ["Treat everybody", "100%", "800"],
        ["Treat the best share", "20%", "160"],
    ]
    assert choices["rows"][0][0]["note"] == "beyond the budget"
    facts = {
        item["label"]: item["value"] for block in section.blocks if block["kind"] == "facts" for item in block["items"]
    }
    assert facts["Budget"] == "¥32,000"
    assert {"Break-even effect", "Shadow price of the budget"} <= set(facts)
    headings = [block["text"] for block in section.blocks if block["kind"] == "heading"]
    assert headings == ["By segment", "Evenness between the groups of region"]
    assert len(open_tables(section)[1]["rows"]) == len(card["policy"]["policy_matrix"])


@pytest.mark.parametrize("language", ["en", "ja"])
def test_what_the_budget_cannot_pay_is_not_quoted_as_a_choice(card, language):
    told = sections(card, language)["policy"].blocks[0]["text"]
    assert "¥32,000" in told
    assert f"{card['policy']['contrasts'][0]['treat_all']['net_benefit']:,.0f}".lstrip("-") not in told


def test_what_is_not_stated_is_one_sentence():
    found = policy_value(targeted(400, money=Money(value_per_unit=5, budget=9, currency="EUR")))
    made = {**card_of(study_of(), estimates_of()), "policy": json.loads(to_text(found.to_json()))}
    section = sections(made)["policy"]
    assert "the cost of a treatment" in section.blocks[1]["text"]
    assert "Spend" not in open_tables(section)[0]["head"]
    assert open_tables(section)[0]["head"][3] == "Benefit before costs"
    assert any("処置の費用" in block.get("text", "") for block in sections(made, "ja")["policy"].blocks)


def test_quality_is_a_number_with_its_zone_and_bars(card):
    section = sections(card)["quality_score"]
    standing, bars = section.blocks[:2]
    assert (standing["value"], standing["label"]["status"]) == ("80", "pass")
    rows = [(item["label"], item["shown"], item["share"], item["status"], item["note"]) for item in bars["items"]]
    assert rows[0] == ("Validity", "9.4", 94.0, "pass", "before 6.1")
    assert rows[1][1:4] == ("5.5", 55.0, "warn")
    assert rows[2] == ("Robustness", "–", 0.0, "not_run", "")
    assert texts(open_tables(section)[0]["rows"][0]) == ["b - a", "ATE", "6.2", "8", "1.8", "1.414"]
    (evidence,) = [block for block in section.blocks if block["kind"] == "fold"]
    assert len(flat([evidence])) > 2
    assert "gate 1" not in json.dumps([block for block in section.blocks if block["kind"] != "fold"])


def test_the_review_is_a_label_a_table_of_rounds_and_objections(card):
    section = sections(card)["critique"]
    assert (section.blocks[0]["label"]["text"], section.blocks[0]["label"]["status"]) == ("ITERATE", "warn")
    (rounds,) = open_tables(section)
    assert [texts(row) for row in rounds["rows"]] == [
        ["0", "ITERATE", "90", "3", "–", "as declared"],
        ["1", "APPROVE", "81", "3", "trim", TRIM],
    ]
    (listed,) = [block for block in section.blocks if block["kind"] == "list"]
    assert (listed["items"][0]["status"], listed["items"][0]["after"]) == ("warn", "Overlap warns.")
    assert [block["summary"] for block in section.blocks if block["kind"] == "fold"] == [
        "Objections in round 1",
        "Rules of the review",
    ]


def test_the_systems_are_one_table_and_one_sentence(card):
    section, row = sections(card)["counterfactual"], card["counterfactual"]["contrasts"][0]
    (table,) = open_tables(section)
    assert [line[0]["text"].split()[0] for line in table["rows"]] == ["Linear", "Nonlinear", "Machine-learned"]
    assert table["head"][4:] == ["R²", "RMSE", "Calibration slope"]
    told = section.blocks[0]["text"]
    assert all(part in told for part in ("consensus", "spread", "range", f"robustness is {row['robustness']}"))


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_stage_that_could_not_answer_says_why(card, language):
    stated = {"status": "not_computed", "reason": "the study has one arm", "remedy": "deliver rows of a second arm"}
    section = sections({**card, "policy": stated}, language)["policy"]
    assert in_language(known("the study has one arm"), language) in section.blocks[0]["text"]
    assert in_language(known("deliver rows of a second arm"), language) in section.blocks[1]["text"]


def test_wide_tables_scroll_in_their_box_and_the_pdf_leaves_the_folds_out(card):
    page = render_html(card)
    assert "<details open" not in page
    assert page.count('<table class="wide"') == page.count('<div class="scroll far" tabindex="0">') >= 5
    assert "gate 39" in page
    without = {**card, "quality_score": {**card["quality_score"], "evidence": {}, "formula": {}}}
    assert render_pages(card, "en") == render_pages(without, "en")


@pytest.mark.parametrize("found", [{"contrasts": [1]}, {"contrasts": []}, {"rounds": [3]}, {"axes": 4},
                                   {"axes": {"a": 1}, "zones": 3}])  # fmt: skip
def test_another_form_falls_back_to_its_parts(found):
    for key in KEYS:
        made = {**card_of(study_of(), estimates_of()), key: found}
        parsed(render_html(made))


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_gate_that_could_not_run_is_not_said_to_have_failed(card, language):
    measure = MEASURES["overidentification_p"]
    gate = {
        "name": "iv: overidentification_p", "measure": "overidentification_p", "estimator": "iv", "status": "not_run",
        "value": None, "limit": "above 0.05", "title": measure.title, "meaning": measure.meaning,
        "remedy": measure.remedy, "detail": "with one instrument there is nothing to compare it with",
    }  # fmt: skip
    said = str(whole({**card, "gates": [gate]}, language)["gates"].blocks)
    assert in_language(known(gate["detail"]), language) in said
    assert in_language(entry("measures", gate["measure"], measure.meaning, "meaning"), language) not in said


def test_each_answer_says_question_result_meaning_and_advice(card):
    frame = pd.DataFrame({"d": np.arange(80) % 2, "x": np.arange(80) % 7})
    frame["y"] = 3.0 * frame["d"] + frame["x"] + np.sin(np.arange(80.0))
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x"]}
    estimate = cqox.estimate("ols", frame, roles)
    answer, refused = (cqox.sensitivity(name, frame, roles, estimate) for name in ("e_value", "placebo_outcome"))
    rows = [
        {**answer.to_json(), "key": "e_value: ols", "table": []},
        {**refused.to_json(), "key": "placebo_outcome: ols", "name": "placebo_outcome", "status": "not_run"},
    ]
    said = str(whole({**card, "sensitivity": rows})["sensitivity"].blocks)
    for sentence in (answer.asked, answer.meaning, answer.implies, answer.advice, refused.reason, refused.remedy):
        assert sentence
        assert str(sentence) in said.replace("\\'", "'")
    assert "Placebo outcome: ols" in said  # of which estimate it was asked, not which question refused
