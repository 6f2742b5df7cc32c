"""The card as one self-contained page."""

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
    from cqox_assets.decisions.language import between
    from cqox_assets.fonts import embedded_font
    from cqox_assets.wording import with_unit

    document = document_of(card if figures is None else {**card, "figures": dict(figures)}, language)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        with_unit=with_unit, between=between, speak=Speaker(document.language), other=other, embedded=embedded_font
    )
    return environment.get_template("card.html.j2").render(card=document)
