"""Every word of a card exists in every language, and sentences keep their parts."""

import copy
import json
import re
from string import Formatter

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators, load_figures, load_sensitivities
from cqox_assets.decisions import document
from cqox_assets.decisions.language import LANGUAGES, Said, in_language, known, listing, say, table, term, word
from cqox_assets.errors import CatalogError
from cqox_assets.measures import MEASURES
from cqox_assets.numerics.systems import SYSTEMS
from cqox_assets.result import Estimand, Refusal
from cqox_assets.spec import ASSUMPTIONS
from cqox_assets.study import Role
from cqox_assets.synthesis.counterfactual import robustness_class
from cqox_assets.synthesis.critique import APPROVE, ITERATE, REJECT
from cqox_assets.synthesis.quality_score import FORMULAS, WEIGHTS
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


def in_words(text):
    """Whether a text in Japanese still holds a stretch of English, other than names in quotes and code."""
    plain = re.sub("「[^」]*」|'[^']*'|inference: bootstrap", "", text)
    return re.search(r"(?:[A-Za-z]{2,}[ ,;.]+){3,}", plain) is not None


def test_what_the_catalogue_says_is_all_translated():
    catalogue = table()["catalogue"]
    assert set(catalogue["figures"]) == set(load_figures())
    for name, spec in load_sensitivities().items():
        assert catalogue["questions"][name].keys() == {"title", "question"}
        for sentence in (spec.holds, spec.breaks):
            assert in_language(known(sentence), "ja") != sentence
    assert set(catalogue["formulas"]) == {*FORMULAS, "consensus", "policy", "systems", "review"}


ANSWERED = [
    pytest.param(question, confounded, mapped, id=f"{question}-{'weak' if confounded else 'strong'}")
    for question in load_sensitivities()
    for confounded, mapped in ((0.0, True), (1.5, False))
]


@pytest.mark.parametrize(("question", "confounded", "mapped"), ANSWERED)
def test_answers_are_said_in_japanese(question, confounded, mapped):
    """Of an answer that holds and of one that does not: what came out, what it means, what to do, in which unit."""
    generator = np.random.default_rng(8)
    x, u, first, second = generator.standard_normal((4, 300))
    d = (generator.random(300) < 1 / (1 + np.exp(-x - confounded * u))) * 1
    frame = pd.DataFrame({"x": x, "z": second, "before": x + confounded * u, "d": d})
    frame["y"] = x + confounded * u + (0 if confounded else 2) * d + first
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x", "z"] if mapped else ["z"], "pre_outcome": "before"}
    estimators = ["propensity_matching"] if question == "rosenbaum_bounds" else ["ols", "aipw"]
    if question == "parallel_trend_bounds":
        frame, roles = over_time(generator, confounded), {"outcome": "y", "treatment": "d", "unit": "i", "time": "t"}
        estimators = ["difference_in_differences"]
    for name in estimators:
        estimate = cqox.estimate(name, frame, roles)
        params = {"refits": 5} if hasattr(load_sensitivities()[question].params(), "refits") else {}
        found = cqox.sensitivity(question, frame, roles, estimate, **params)
        said = (
            (found.reason, found.remedy)
            if isinstance(found, Refusal)
            else (found.meaning, found.implies, found.advice, found.unit)
        )
        for sentence in said:
            translated = in_language(known(sentence), "ja")
            assert translated != sentence, sentence
            assert not in_words(translated), translated


def over_time(generator, noise):
    """Units over six periods, half of them treated from the fourth on."""
    unit, time = np.repeat(np.arange(40), 6), np.tile(np.arange(6), 40)
    treated = ((unit % 2 == 1) & (time >= 3)) * 1
    outcome = 0.5 * time + 3.0 * treated + (0.3 + noise) * generator.standard_normal(len(unit))
    return pd.DataFrame({"i": unit, "t": time, "d": treated, "y": outcome})
