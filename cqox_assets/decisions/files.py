"""The files of a card: JSON for programs, pages and PDF for people, a LaTeX table for papers, in every language."""

from collections.abc import Callable, Mapping
from typing import Any

from cqox_assets.decisions.language import LANGUAGES
from cqox_assets.decisions.latex import render_latex
from cqox_assets.decisions.page import render_html
from cqox_assets.decisions.pdf import render_pdf
from cqox_assets.result import to_text


def files_of(card: Mapping[str, Any], read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Return every file of a card by name.

    Parameters
    ----------
    card : mapping
        From `build_card`; its `language` is that of the files without a language in their names.
    read : callable
        Returns the bytes of a figure's file, whose path is relative to the card.

    Notes
    -----
    `decision_card.html` shows the study's language and links to the other; so do `.pdf` and `.tex` without a link.
    """
    main, pages = str(card["language"]), dict[str, bytes]()
    names = {language: f"decision_card.{language}" for language in LANGUAGES}
    for language, name in names.items():
        other = next(f"{names[key]}.html" for key in LANGUAGES if key != language)
        pages[f"{name}.html"] = render_html(card, language=language, other=other).encode()
        pages[f"{name}.pdf"] = render_pdf(card, language, read)
        pages[f"{name}.tex"] = render_latex(card, language).encode()
    copies = {f"decision_card.{kind}": pages[f"{names[main]}.{kind}"] for kind in ("html", "pdf", "tex")}
    return {"decision_card.json": to_text(card).encode(), **pages, **copies}
