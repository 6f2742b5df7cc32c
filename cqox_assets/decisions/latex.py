"""The card's estimates as a LaTeX table with booktabs, every text escaped."""

import re
from collections.abc import Mapping
from typing import Any

from cqox_assets.decisions.content import effect_label, title_of
from cqox_assets.decisions.document import Speaker, number
from cqox_assets.decisions.language import between, term

_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "∞": r"$\infty$", "–": "--", "²": r"\textsuperscript{2}", "～": r"--",
}  # fmt: skip
_SPECIAL = re.compile("|".join(re.escape(mark) for mark in _ESCAPED))
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


def escape(text: str) -> str:
    """Return a text that LaTeX prints as it is; line breaks and control characters become spaces."""
    return _SPECIAL.sub(lambda found: _ESCAPED[found[0]], _CONTROL.sub(" ", text))


def render_latex(card: Mapping[str, Any], language: str = "en") -> str:
    """Return one `table` with every estimator's headline and the consensus of each question.

    Notes
    -----
    Needs the package booktabs; a Japanese table needs an engine with Japanese fonts, such as LuaLaTeX with luatexja.
    """
    speak = Speaker(language)
    head = [speak(key) for key in ("estimator", "effect", "estimate", "std_error", "interval", "p_value")]
    rows = [
        _row(title_of(row["estimator"], speak), effect, speak)
        for row in card["estimates"]
        for effect in row["effects"][:1]
    ]
    groups = [group for group in card["synthesis"]["groups"] if group["consensus"] is not None]
    totals = [_row(speak("consensus"), {**group, "estimate": group["consensus"]}, speak) for group in groups]
    question = _told_question(card, speak)
    verdict = term("verdict", card["verdict"])
    caption = speak("table_caption", question=question.rstrip("。"), verdict=verdict)
    lines = [
        r"% needs \usepackage{booktabs}"
        + (r" and, for Japanese, \usepackage{luatexja}" if speak.language == "ja" else ""),
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape(caption)}}}",
        r"  \begin{tabular}{llrrlr}",
        r"    \toprule",
        f"    {_line(head)}",
        r"    \midrule",
        *(f"    {_line(row)}" for row in rows),
        *([r"    \midrule"] if rows and totals else []),
        *(f"    {_line(row)}" for row in totals),
        *([] if rows or totals else [rf"    \multicolumn{{6}}{{l}}{{{escape(speak('no_estimate'))}}} \\"]),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _told_question(card: Mapping[str, Any], speak: Speaker) -> str:
    return str((card.get("translations") or {}).get(speak.language, {}).get("question", card["question"]))


def _row(name: str, effect: Mapping[str, Any], speak: Speaker) -> list[str]:
    ends = effect.get("interval") or effect
    low, high = ends.get("low"), ends.get("high")
    bounded = effect.get("interval") is not None or low is not None or high is not None
    span = speak.said(between(low, high)) if bounded else "–"
    p_value = number(effect.get("p_value"), 3)
    return [name, effect_label(effect, speak), number(effect["estimate"]), number(effect["std_error"]), span, p_value]


def _line(cells: list[str]) -> str:
    return " & ".join(escape(cell) for cell in cells) + r" \\"
