"""The card: its keys, its page, and that the user's words stay words."""

import html.parser
import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from cqox_assets.decisions.card import CardParts, build_card, question_of, render_html
from cqox_assets.decisions.evidence import gather
from cqox_assets.decisions.rule import decide
from cqox_assets.declaration import Declaration
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.fonts import embedded_font
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.result import Assumption, Effect, EffectEstimate, Failure, Interval, Refusal, Sample, SensitivityResult
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.effect_summary import summarise
from cqox_assets.synthesis.quality_score import score_quality

KEYS = (
    "schema_version", "question", "study", "gates", "estimates", "refusals", "failures", "sensitivity",
    "counterfactual", "summary", "quality_score", "critique", "verdict", "recommendation", "confidence_level",
    "key_findings", "reasons", "flips_if", "figures", "provenance",
)  # fmt: skip
HOSTILE = '<script>alert("x")</script>{{ 7 * 7 }}'


def study_of(name="y", arms=("a", "b"), **declared):
    rows = np.arange(90)
    frame = pd.DataFrame({name: rows * 1.0, "d": rows % len(arms), "x": rows % 5}).astype(float)
    roles = {Role.OUTCOME: (name,), Role.TREATMENT: ("d",), Role.COVARIATES: ("x",)}
    return Study(frame, roles, arms=arms, declaration=Declaration(**declared), dropped={"missing outcome": 3})


def estimates_of(arms=("a", "b")):
    contrasts = [(arm, f"{arm} - {arms[0]}") for arm in arms[1:]]
    effects = tuple(Effect("ATE", words, 5.0, 1.0, Interval(3, 7), at={"arm": arm}) for arm, words in contrasts)
    rule = Assumption("positivity", "Every unit could have had either treatment.", True, ("overlap",))
    warns = Diagnostic("overlap", 0.85, 0.9, Status.WARN, "share")
    open_end = (Effect("ATE", contrasts[0][1], 4.0, None, Interval(-math.inf, 9.0)),)
    return {
        "aipw": EffectEstimate("aipw", "1", effects, "stated", Sample(90), (warns,), (rule,), notices=("mind",)),
        "bounds": EffectEstimate("bounds", "1", open_end, "inverted", Sample(90)),
        "iv": Refusal("iv", "missing_role", "no instrument", "map one"),
        "ols": Failure("ols", "ValueError: boom", "trace", "run-1"),
    }


def card_of(study, estimates, gates=(), **facts):
    plan = plan_methods(study)
    sensitivity = {
        "e_value: aipw": SensitivityResult("e_value", "aipw", "ATE", 1.4, "risk ratio", Status.PASS, "means", "do"),
        "e_value: iv": Refusal("e_value", "not_applicable", "no", "other"),
    }
    summary = summarise(plan, estimates, gates)
    verdict = decide(gather(study, gates, estimates, summary, sensitivity))
    return build_card(
        CardParts(study, gates, plan, estimates, sensitivity, summary, verdict, provenance={"run_id": "r"},
                  quality_score=score_quality(gates, summary, sensitivity), **facts)
    )  # fmt: skip


class Tags(html.parser.HTMLParser):
    """Checks that tags are balanced and collects links."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "br", "img", "line", "circle", "polygon", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    return tags


def test_the_card_has_its_keys_and_plain_values():
    card = card_of(study_of(), estimates_of(), [{"name": "rows", "value": 90, "threshold": 49, "status": "pass"}])
    assert [key for key in KEYS if key not in card] == []
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["estimates"][0]["estimate"] == card["estimates"][0]["effects"][0]["estimate"] == 5.0
    assert card["refusals"] == [
        {"estimator": "iv", "code": "missing_role", "reason": "no instrument", "remedy": "map one"}
    ]
    assert card["failures"][0]["run_id"] == "run-1"
    assert card["summary"]["ATE"]["estimators"] == ["aipw", "bounds"]
    assert card["counterfactual"] is None
    assert set(card["not_computed"]) == {"counterfactual", "critique"}
    assert card["gates"][0]["limit"] == "above 49"
    assert card["study"]["per_arm"] == {"a": 45, "b": 45}


def test_the_page_stands_alone():
    figures = {
        "f": {"title": "F", "question": "q", "status": "drawn", "caption": "c", "alt": "an alt",
              "files": {"png": "figures/f.png"}},
        "g": {"title": "G", "question": "q", "status": "not_drawn", "reason": "needs nuisance", "files": {}},
    }  # fmt: skip
    card = card_of(study_of(), estimates_of(), figures=figures)
    page = render_html(card)
    tags = parsed(page)
    assert card["figures"] == {"f": "figures/f.png"}
    assert set(tags.links) == {"figures/f.png"}
    assert "script" not in tags.seen
    assert not re.search(r"https?://", page)
    assert 'alt="an alt"' in page
    assert "not drawn, needs nuisance" in page
    assert 'name="viewport"' in page
    assert "@media print" in page


def test_everything_that_was_found_is_on_the_page():
    page = render_html(card_of(study_of(question="Does it pay?"), estimates_of()))
    for words in ("Does it pay?", "CANARY", "Changes if", "no instrument", "map one", "ValueError: boom",
                  "missing outcome", "-∞ to 9", "mind", "Overlap"):  # fmt: skip
        assert words in page, words


@pytest.mark.parametrize("place", ["name", "arm", "question", "unit", "reason"])
def test_hostile_words_stay_words(place):
    arms = ("a", HOSTILE) if place == "arm" else ("a", "b")
    declared = {"question": HOSTILE} if place == "question" else {}
    declared |= {"unit_of_outcome": HOSTILE} if place == "unit" else {}
    study = study_of(HOSTILE if place == "name" else "y", arms, **declared)
    estimates = estimates_of(arms)
    if place == "reason":
        estimates["iv"] = Refusal("iv", "x", HOSTILE, HOSTILE)
    page = render_html(card_of(study, estimates))
    assert "script" not in parsed(page).seen
    assert "&lt;script&gt;" in page
    assert "49" not in re.findall(r"</?script&gt;(\d+)", page)


def test_three_arms_are_three_contrasts_in_their_colours():
    arms = ("対照", "メール", "電話")
    page = render_html(card_of(study_of(arms=arms), estimates_of(arms)))
    assert "#0072B2" in page
    assert "#D55E00" in page
    assert "data:font/woff;base64," in page


def test_a_study_without_any_answer_still_has_a_card():
    card = card_of(study_of(), {"iv": Refusal("iv", "missing_role", "no instrument", "map one")})
    assert card["verdict"] == "HOLD"
    parsed(render_html(card))


def test_latin_pages_embed_no_font():
    assert embedded_font("plain words, £ and é") == ""


def test_the_question_is_the_declared_one_or_follows_from_the_roles():
    assert question_of(study_of(question="Why?")) == "Why?"
    assert question_of(study_of()) == "What is the effect of d on y?"


def test_the_quality_score_falls_with_each_worse_status():
    summary = summarise(plan_methods(study_of()), estimates_of())
    scores = [
        score_quality([{"name": "overlap", "status": status}], summary).score
        for status in ("pass", "warn", "not_run", "fail")
    ]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4
    assert 0 <= scores[-1] < scores[0] <= 100
