"""The card's files: both languages, the PDF, the LaTeX table and the published schema."""

import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest

from cqox_assets.decisions import schema
from cqox_assets.decisions.files import files_of
from cqox_assets.decisions.latex import escape, render_latex
from cqox_assets.decisions.page import render_html
from cqox_assets.decisions.pdf import MOST_FIGURES, render_pages, render_pdf
from cqox_assets.result import Refusal
from tests.conftest import ROOT
from tests.unit.test_card import HOSTILE, card_of, estimates_of, parsed, study_of

FURTHER = {
    "critique": {"sentence": "Two axes are weak.", "verdict": "ITERATE", "rounds": [
        {"round": 0, "remedy": None, "status": "fail", "estimate": 1.5},
        {"round": 1, "remedy": "trim", "status": "pass"}]},
    "counterfactual": {"systems": {"linear": {"ate": 1.0, "r2": 0.4}, "forest": {"ate": 1.2, "r2": 0.5}}, "high": True},
    "policy": {"title": "Policy", "curve": [{"share": k / 100, "net": float(k)} for k in range(60)], "fair": None},
}  # fmt: skip
NOTHING = {"iv": Refusal("iv", "missing_role", "no column plays the role 'instruments'", "map it")}


def picture(_file):
    """Return a PNG of one pixel."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "navy").save(buffer, format="PNG")
    return buffer.getvalue()


def drawn(count):
    facts = {"question": "q", "status": "drawn", "caption": "a caption", "alt": "alt"}
    return {f"f{k}": {"title": f"Figure {k}", **facts, "files": {"png": f"figures/f{k}.png"}} for k in range(count)}


@pytest.fixture(scope="module")
def card():
    return card_of(study_of(unit_of_outcome="円", language="ja"), estimates_of(), figures=drawn(MOST_FIGURES + 2))


def test_every_file_is_there_and_the_studys_language_comes_first(card):
    files = files_of(card, picture)
    names = {f"decision_card{middle}.{kind}" for kind in ("html", "pdf", "tex") for middle in ("", ".en", ".ja")}
    assert set(files) == {"decision_card.json", *names}
    assert files["decision_card.html"] == files["decision_card.ja.html"] != files["decision_card.en.html"]
    assert json.loads(files["decision_card.json"]) == card
    assert 'href="decision_card.ja.html"' in files["decision_card.en.html"].decode()
    assert files["decision_card.pdf"].startswith(b"%PDF-")


def test_the_japanese_page_is_japanese(card):
    page = render_html(card, language="ja")
    parsed(page)
    assert '<html lang="ja">' in page
    for words in (
        "意思決定カード",
        "判定が変わる条件",
        "平均処置効果（ATE）",
        "拡張逆確率重み付け",
        "推定値",
        "品質ゲート",
    ):
        assert words in page, words
    for words in ("Changes if", "Key findings", "the whole interval", "Estimates that answer"):
        assert words not in page, words
    assert "data:font/woff;base64," in page


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_section_that_a_stage_adds_is_shown(language):
    found = {**card_of(study_of(), estimates_of()), **FURTHER}
    page = render_html(found, language=language)
    parsed(page)
    for words in ("Two axes are weak.", "ITERATE", "trim", "forest", "0.28"):
        assert words in page, words
    assert len(render_pages(found, language)) >= 2
    assert ("30 more rows" in page) is (language == "en")


@pytest.mark.parametrize("found", ["", [], {}, None, "a sentence", 3.5, [1, 2], [{"a": [1, {"b": None}]}],
                                   {"a": {"b": {"c": {"d": 1}}}}])  # fmt: skip
def test_whatever_a_stage_stores_is_shown_or_left_out(found):
    made = {**card_of(study_of(), estimates_of()), "critique": found}
    parsed(render_html(made))
    render_pdf(made)


def test_the_pdf_has_its_own_fonts_and_is_quick(card):
    render_pdf(card, "ja", picture)
    started = time.process_time()
    made = render_pdf(card, "ja", picture)
    assert time.process_time() - started < 2
    fonts = {name.split(b"+")[-1] for name in re.findall(rb"/BaseFont\s*/([\w+-]+)", made)}
    assert any(name.startswith(b"IPAexGothic") for name in fonts)
    assert {name.split(b"-")[0] for name in fonts} <= {b"IPAexGothic", b"DejaVuSans", b"DejaVuSansMono"}


def test_the_pdf_prints_the_first_figures_and_names_the_rest(card):
    pages = render_pages(card, "en", picture)
    assert all(page.startswith(b"\x89PNG") for page in pages)
    assert len(render_pdf(card, "en", picture)) > len(render_pdf(card, "en"))

    def gone(file):
        raise FileNotFoundError(file)

    assert render_pdf(card, "en", gone).startswith(b"%PDF-")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_hostile_words_are_no_markup_in_the_pdf(language):
    words = f"#panic() $x$ *b* @a <l> {HOSTILE} \\ `r`"
    found = card_of(study_of(words, ("a", words), question=words), estimates_of(("a", words)))
    assert len(render_pages(found, language)) >= 2


def test_latex_escapes_every_special_character():
    assert escape("50% & $5 #1 a_b {x} ~^\\ <b>") == (
        r"50\% \& \$5 \#1 a\_b \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}b\textgreater{}"
    )
    assert escape("a\nb\x00c") == "a b c"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_latex_table_is_whole(language):
    question = r"Does \input{x} raise 50% of $y_1$ & more?"
    text = render_latex(card_of(study_of(question=question), estimates_of()), language)
    body = text.partition("\\toprule")[2].partition("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 2 + 1
    assert all(len(re.findall(r"(?<!\\)&", row)) == 5 for row in rows)
    assert r"\input" not in text.replace(r"\textbackslash{}input", "")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert r"$\infty$ to 9" in text or r"$\infty$ -- 9" in text
    if shutil.which("pdflatex"):
        document = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + text + r"\end{document}"
        assert subprocess.run(["pdflatex", "-halt-on-error"], input=document.encode(), check=False).returncode == 0


def test_a_card_without_estimates_has_all_files():
    files = files_of(card_of(study_of(), NOTHING), picture)
    assert r"No estimator answered." in files["decision_card.en.tex"].decode()
    assert "推定できた手法はありません" in files["decision_card.ja.html"].decode()


@pytest.mark.parametrize("estimates", [estimates_of(), NOTHING, {}], ids=["answers", "refusals", "nothing"])
def test_cards_keep_to_the_published_schema(estimates):
    gates = [{"name": "rows", "value": 90, "threshold": 49, "status": "pass", "severity": "block"}]
    assert schema.violations(card_of(study_of(), estimates, gates)) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda card: card.pop("verdict"), "verdict"),
        (lambda card: card.update(verdict="MAYBE"), "$.verdict"),
        (lambda card: card["estimates"][0].update(p_value=1.5), "$.estimates[0]"),
        (lambda card: card["estimates"][0].update(estimate=None), "$.estimates[0]"),
        (lambda card: card.update(reasons=[]), "$.reasons"),
        (lambda card: card.update(override={"by": "", "reason": "x", "verdict": "GO", "rule": "HOLD"}), "$.override"),
        (lambda card: card.update(schema_version=2), "$.schema_version"),
    ],
)  # fmt: skip
def test_the_schema_names_what_is_wrong(change, place):
    found = card_of(study_of(), estimates_of())
    change(found)
    assert any(place in sentence for sentence in schema.violations(found))


def test_the_schema_is_published_as_it_is_shipped():
    assert (ROOT / "docs" / schema.SCHEMA.name).read_bytes() == schema.SCHEMA.read_bytes()
    assert json.loads(schema.SCHEMA.read_text("utf-8"))["$id"].endswith(":1")


def test_the_schema_command_has_an_exit_code(tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    found = card_of(study_of(), estimates_of())
    good.write_text(json.dumps(found), "utf-8")
    bad.write_text(json.dumps({**found, "verdict": 3}), "utf-8")
    assert [schema.main([str(path)]) for path in (good, bad, tmp_path / "none.json")] == [0, 1, 2]
    assert schema.main([]) == 2
    assert "$.verdict" in capsys.readouterr().out


def test_numbers_of_a_card_are_finite_json(card):
    text = json.dumps(card, allow_nan=False)
    assert np.isfinite([float(number) for number in re.findall(r"-?\d+\.\d+", text)]).all()
