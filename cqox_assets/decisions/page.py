"""The card as one self-contained page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def render_html(
    card: Mapping[str, Any],
    figures: Mapping[str, str] | None = None,
    language: str = "en",
    other: str = "",
) -> str:
    """Return the card as one self-contained page; figures are linked relative to it.

    Parameters
    ----------
    card : mapping
        From `build_card`.
    figures : mapping of str to str, optional
        Figure name to path, instead of the card's own.
    language : str
        `en` or `ja`.
    other : str
        Link to the same page in the other language; none by default.

    Notes
    -----
    Every value is escaped: column names, labels and free text are the user's data.
    """
    import jinja2

    from cqox_assets.decisions.content import document_of
    from cqox_assets.decisions.document import Speaker
    from cqox_assets.decisions.fonts import embedded_font
    from cqox_assets.wording import span, with_unit

    document = document_of(card if figures is None else {**card, "figures": dict(figures)}, language)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(with_unit=with_unit, span=span, speak=Speaker(document.language), other=other)
    spoken = json.dumps([vars(section) for section in document.sections], ensure_ascii=False, default=str)
    font = embedded_font(spoken + document.title + document.recommendation + document.verdict_words)
    return environment.get_template("card.html.j2").render(card=document, font=font)
