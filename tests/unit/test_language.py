"""Every word of a card exists in every language, and sentences keep their parts."""

import copy
import json
import re
from string import Formatter

import pytest

from cqox_assets.catalog import load_estimators, load_figures, load_sensitivities
from cqox_assets.decisions import document
from cqox_assets.decisions.language import LANGUAGES, Said, in_language, known, listing, say, table, term, word
from cqox_assets.errors import CatalogError
from cqox_assets.measures import MEASURES
from cqox_assets.numerics.systems import SYSTEMS
from cqox_assets.result import Estimand
from cqox_assets.spec import ASSUMPTIONS
from cqox_assets.study import Role
from cqox_assets.synthesis.counterfactual import robustness_class
from cqox_assets.synthesis.critique import APPROVE, ITERATE, REJECT
from cqox_assets.synthesis.quality_score import WEIGHTS
from cqox_assets.synthesis.remedies import REMEDIES
from tests.conftest import ROOT

FORMS = [
    pytest.param(forms, id=f"{group}.{name}")
    for group, entries in (("fixed", table()["fixed"]), ("sentences", table()["sentences"]),
                           *((f"terms.{key}", names) for key, names in table()["terms"].items()))
    for name, forms in entries.items()
]  # fmt: skip
# Where English takes a whole sentence of another stage, the other language builds its own of the parts.
OWN_PARTS = {"asked", "counts", "counts_why", "group_none", "group_single", "group_several", "group_sampling",
             "group_aside", "holds", "holds_no_longer", "policy_said", "policy_none", "policy_best", "policy_beyond",
             "policy_all", "policy_even", "score_moved", "score_unmoved", "review_approves", "review_stuck",
             "review_iterates", "review_rejects"}  # fmt: skip


def places(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("forms", FORMS)
def test_every_word_has_every_language(forms, request):
    assert set(forms) == set(LANGUAGES)
    name = request.node.callspec.id.rpartition(".")[2]
    if name not in OWN_PARTS and name not in ("english_parts", "because"):
        assert all(str(text).strip() for text in forms.values())
        assert len({frozenset(places(str(text))) for text in forms.values()}) == 1


def test_what_the_code_says_is_in_the_table_and_nothing_else_is():
    code = "".join(path.read_text("utf-8") for path in (ROOT / "cqox_assets").rglob("*.py"))
    code += (ROOT / "cqox_assets" / "decisions" / "card.html.j2").read_text("utf-8")
    quoted = set(re.findall(r"[\"']([a-z0-9_]+)[\"']", code))
    unused = {key for key in table()["fixed"] if key not in quoted and not key.startswith(("nb_", "below", "above"))}
    assert unused == set()
    said = {key for key in table()["sentences"] if key not in quoted and not key.startswith("override_")}
    assert said == set()
    with pytest.raises(CatalogError):
        say("no such sentence")
    with pytest.raises(CatalogError):
        word("no such word", "ja")


@pytest.mark.parametrize(("group", "names"), [("role", list(Role)), ("estimand", list(Estimand)),
                                              ("status", ["pass", "warn", "fail", "not_run"]),
                                              ("axis", [*WEIGHTS]), ("review", [APPROVE, ITERATE, REJECT]),
                                              ("remedy", [item.name for item in REMEDIES]),
                                              ("robust", [robustness_class(size) for size in (0, 0.07, 1)]),
                                              ("system", [*SYSTEMS])])  # fmt: skip
def test_closed_lists_are_complete(group, names):
    assert [str(name) for name in names if str(name) not in table()["terms"][group]] == []


def test_assumptions_are_all_translated_and_no_translation_is_stale():
    catalogue = table()["catalogue"]
    assert set(catalogue["assumptions"]) == set(ASSUMPTIONS)
    for kind, entries in (("estimators", load_estimators()), ("measures", MEASURES), ("figures", load_figures())):
        assert [name for name in catalogue[kind] if name not in entries] == []
    # Two questions are named by the design and may arrive later.
    awaited = {"parallel_trend_bounds", "specification_curve"}
    assert set(catalogue["questions"]) - awaited <= set(load_sensitivities())


@pytest.mark.parametrize("row", table()["patterns"], ids=lambda row: row["example"][:30])
def test_each_shape_of_a_sentence_matches_its_example(row):
    said = known(row["example"])
    assert str(said) == row["example"]
    assert in_language(said, "ja") != row["example"]
    assert "{" not in in_language(said, "ja").replace("roles: {", "")


def test_a_sentence_that_nobody_knows_stays_english():
    assert in_language(known("a new sentence"), "ja") == "a new sentence"
    assert term("estimand", "NEW_ONE") == "NEW ONE"


def test_a_text_is_a_string_everywhere():
    said = say("head", estimand=term("estimand", "ATE"), contrast="b - a", now="1", span=say("span_none"))
    assert said == "ATE of b - a: 1, without an interval"
    assert in_language(said, "ja") == "「b - a」の平均処置効果（ATE）は 1（信頼区間なし）"
    assert json.loads(json.dumps({"text": said})) == {"text": str(said)}
    assert in_language(copy.deepcopy(said), "ja") == in_language(said, "ja")
    assert isinstance(copy.copy(said), Said)


def test_names_with_braces_cannot_fill_places():
    assert say("rail", name="{margin}") == "Guardrail '{margin}'"


def test_lists_are_listed_in_each_language():
    names = listing([term("role", "unit"), "b", "c"], 2)
    assert names == "unit, b and 1 more"
    assert in_language(names, "ja") == "個体、b ほか1件"
    assert document.Speaker("ja").listed(["a", "b"]) == "a、b"
    assert document.Speaker("en").listed(["a", "b"]) == "a and b"
    assert document.Speaker("xx").language == "en"
