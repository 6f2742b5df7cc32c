"""What differs between two cards, why a verdict changed, and the command that says so."""

import copy
import json

import pytest

from cqox_assets.decisions.diff import diff_cards, main, to_markdown
from cqox_assets.ledger.history import build_history, verdict_changes
from cqox_assets.ledger.network import build_network, clusters
from tests.unit.test_hard_cards import CLEAR, CONTRADICTING, REFUSED, WRITTEN, answer, card_of, study_of
from tests.unit.test_ledger import months


def at(card, period, code="0.1.0 abc"):
    found = copy.deepcopy(card)
    found["provenance"] |= {"partition": f"policy|{period}", "created": f"{period}-28T00:00:00+00:00"}
    found["basis"]["code"] = code
    return found


GO, HOLD = at(card_of(study_of(), CLEAR), "2025-01"), at(card_of(study_of(), CONTRADICTING), "2025-02")
STRICT = at(card_of(study_of(minimum_effect=4.0), CLEAR), "2025-02")


@pytest.mark.parametrize(
    ("after", "parts"),
    [
        (GO, []),
        (STRICT, ["thresholds"]),
        (at(GO, "2025-02", "0.2.0"), ["code"]),
        (at(card_of(study_of(design="trial"), CLEAR), "2025-02"), ["declaration"]),
        (at(card_of(study_of(override=WRITTEN), CONTRADICTING), "2025-02"), ["override"]),
        ({**HOLD, "basis": {**HOLD["basis"], "data": "other"}}, ["data"]),
    ],
    ids=["nothing", "thresholds", "code", "declaration", "override", "data"],
)
def test_what_the_verdict_depends_on_is_told_apart(after, parts):
    assert diff_cards(GO, after).changed == parts


def test_a_worse_verdict_is_explained_by_what_decides_now():
    found = diff_cards(GO, HOLD)
    assert "changes from GO to HOLD" in found.sentence
    assert "disagree strongly" in found.sentence
    assert any("disagree strongly" in sentence for sentence in found.gained)
    assert found.effects[0]["before"]["consensus"] == pytest.approx(5.05)
    assert (
        found.effects[0]["change"] == found.effects[0]["after"]["consensus"] - found.effects[0]["before"]["consensus"]
    )


def test_a_better_verdict_is_explained_by_what_no_longer_decides():
    found = diff_cards(HOLD, GO)
    assert "changes from HOLD to GO" in found.sentence
    assert "No longer decides: The 2 estimators" in found.sentence
    assert found.lost
    assert not found.gained


def test_only_equal_questions_are_set_against_each_other():
    other = copy.deepcopy(GO)
    other["study"]["roles"]["outcome"] = ["sales"]
    rows = diff_cards(GO, other).effects
    assert [(row["before"] is None, row["after"] is None, row["change"]) for row in rows] == [
        (False, True, None), (True, False, None),
    ]  # fmt: skip


def test_gates_and_estimators_that_differ_are_listed():
    one, other = (
        copy.deepcopy(GO),
        at(card_of(study_of(), REFUSED | {"aipw": answer("aipw", 5.1, 3.1, 7.1)}), "2025-02"),
    )
    gate = {"name": "overlap", "title": "Overlap", "threshold": 0.8}
    one["gates"], other["gates"] = (
        [{**gate, "value": 0.9, "status": "pass"}],
        [{**gate, "value": 0.5, "status": "fail"}],
    )
    found = diff_cards(one, other)
    assert found.gates[0]["after"] == {"status": "fail", "value": 0.5, "threshold": 0.8}
    assert [(row["estimator"], row["before"]) for row in found.estimators] == [("ols", "estimated")]
    text = to_markdown(found)
    assert "fail: 0.5, limit 0.8" in text
    assert "refused: no column plays the role" in text


def test_the_markdown_survives_hostile_words():
    words = "a | b\n<script>"
    one = at(card_of(study_of(), {"ols": answer("ols", 5.0, 3.0, 7.0)}), "2025-01")
    other = copy.deepcopy(one)
    other["reasons"].append({"kind": "quality", "allows": "HOLD", "sentence": words, "flips_if": ""})
    text = to_markdown(diff_cards(one, other))
    assert "<script>" not in text
    assert "a \\| b &lt;script&gt;" in text


def test_the_command_prints_markdown_or_json_and_has_an_exit_code(tmp_path, capsys):
    paths = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for path, content in zip(paths, (GO, HOLD, {"verdict": "GO"}), strict=True):
        path.write_text(json.dumps(content), "utf-8")
    a, b, c = map(str, paths)
    assert main([a, b]) == 1
    assert capsys.readouterr().out.startswith("# policy|2025-01 and policy|2025-02")
    assert main([a, a, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == []
    assert [main([a, c]), main([a, str(tmp_path / "none")])] == [2, 2]
    assert "it lacks" in capsys.readouterr().err


def test_a_history_says_why_a_verdict_changed():
    cards = [HOLD, GO, at(card_of(study_of(), CLEAR), "2025-03")]
    rows = verdict_changes(cards).to_dict("records")
    assert [row["period"] for row in rows] == ["2025-01", "2025-02", "2025-03"]
    assert "first period of policy" in rows[0]["verdict_change"]
    assert (rows[1]["previous_verdict"], rows[1]["verdict"]) == ("GO", "HOLD")
    assert "changes from GO to HOLD" in rows[1]["verdict_change"]
    history = build_history(cards)
    last = history[history["period"] == "2025-03"]
    assert set(last["previous_verdict"]) == {"HOLD"}
    assert all("changes from HOLD to GO" in words for words in last["verdict_change"])


def test_a_threshold_that_changes_the_verdict_is_named():
    rows = verdict_changes([GO, STRICT]).to_dict("records")
    assert (rows[1]["changed_by"], rows[1]["verdict"]) == ("thresholds", "CANARY")
    assert "other thresholds or money" in rows[1]["verdict_change"]


def test_cards_of_an_earlier_version_have_no_cause_and_none_is_made_up():
    old = [{key: card[key] for key in ("verdict", "study", "provenance")} for card in (GO, HOLD)]
    rows = verdict_changes(old).to_dict("records")
    assert rows[1]["changed_by"] == ""
    assert "was not recorded" in rows[1]["verdict_change"]


def test_domains_are_clustered_by_what_they_share():
    placed = clusters(["a", "b", "c", "d", "e"], [("a", "c"), ("c", "a"), ("b", "d")])
    assert placed["a"] == placed["c"] == 1
    assert placed["b"] == placed["d"] == 2
    assert placed["e"] == 3
    assert clusters([], []) == {}
    assert clusters(["x", "y"], []) == {"x": 1, "y": 2}


def test_two_groups_with_one_thread_between_them_are_two_clusters():
    inside = [("a", "b"), ("b", "c"), ("a", "c"), ("d", "e"), ("e", "f"), ("d", "f")]
    placed = clusters(list("abcdef"), [*inside, ("c", "d")])
    assert placed == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2, "f": 2}


def test_every_node_of_the_network_has_a_cluster():
    nodes, edges = build_network(
        {"retail": months("retail", [1.0, 2.0]), "marketing": months("marketing", [3.0]),
         "policy": months("policy", [1.0], outcome="wage", treatment="training")}
    )  # fmt: skip
    assert len(edges) == 1
    assert dict(zip(nodes["domain"], nodes["cluster"], strict=True)) == {"marketing": 1, "policy": 2, "retail": 1}
