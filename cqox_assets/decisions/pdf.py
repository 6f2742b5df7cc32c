"""The card as a PDF: typst with the fonts that come with our packages, never those of the machine."""

import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cqox_assets.decisions.content import document_of
from cqox_assets.decisions.document import Block, Speaker
from cqox_assets.decisions.language import between, word
from cqox_assets.fonts import font_file
from cqox_assets.wording import with_unit

if TYPE_CHECKING:
    import typst

TEMPLATE = Path(__file__).with_name("card.typ")
MOST_FIGURES = 8
_LATIN = "DejaVu Sans"


def render_pdf(card: Mapping[str, Any], language: str = "en", read: Callable[[str], bytes] | None = None) -> bytes:
    """Return the card as a PDF.

    Parameters
    ----------
    card : mapping
        From `build_card`.
    language : str
        `en` or `ja`.
    read : callable, optional
        Returns the bytes of a figure's file; a figure that cannot be read is named instead of shown, and so is every
        figure without it.

    Notes
    -----
    At most eight figures are printed, so that a board can read the card and typst stays fast; the card names the
    others. What the page folds is left out.
    """
    import typst

    with _laid_out(card, language, read) as (source, content):
        made = typst.compile(
            str(source), root=str(source.parent), format="pdf", sys_inputs={"card": content}, font_paths=_fonts()
        )
    return bytes(made)


def render_pages(
    card: Mapping[str, Any], language: str = "en", read: Callable[[str], bytes] | None = None
) -> list[bytes]:
    """Return the pages of the PDF as PNG, at 110 dots per inch."""
    import typst

    with _laid_out(card, language, read) as (source, content):
        made: Any = typst.compile(
            str(source),
            root=str(source.parent),
            format="png",
            sys_inputs={"card": content},
            font_paths=_fonts(),
            ppi=110,
        )
    return list(made) if isinstance(made, list) else [made]


@contextmanager
def _laid_out(
    card: Mapping[str, Any], language: str, read: Callable[[str], bytes] | None
) -> Iterator[tuple[Path, str]]:
    """Yield the template, in a folder with the figures, and what it shows."""
    with tempfile.TemporaryDirectory(prefix="cqox-") as folder:
        place = Path(folder)
        (place / TEMPLATE.name).write_bytes(TEMPLATE.read_bytes())
        yield place / TEMPLATE.name, json.dumps(_printed(card, language, place, read), ensure_ascii=False)


@cache
def _fonts() -> "typst.Fonts":
    """Return IPAexGothic and DejaVu Sans, which come with matplotlib-fontja and matplotlib."""
    import typst

    folders = [path.parent for path in [font_file()] if path is not None]
    spec = importlib.util.find_spec("matplotlib")
    folders += (
        [Path(place) / "mpl-data" / "fonts" / "ttf" for place in (spec.submodule_search_locations or [])]
        if spec
        else []
    )
    return typst.Fonts(include_system_fonts=False, font_paths=[str(folder) for folder in folders])


def _printed(
    card: Mapping[str, Any], language: str, folder: Path, read: Callable[[str], bytes] | None
) -> dict[str, Any]:
    document = document_of(card, language)
    speak = Speaker(document.language)
    content = asdict(document)
    for section in content["sections"]:
        section["blocks"] = _blocks(section["blocks"], speak)
        if section["key"] == "figures":
            section["blocks"] = _figures(section["blocks"], speak, folder, read)
    content["sections"] = [section for section in content["sections"] if section["blocks"]]
    content["fonts"] = [_LATIN, "IPAexGothic"]
    content["page"] = word("page", document.language)
    return content


def _blocks(blocks: Iterable[Block], speak: Speaker) -> list[Block]:
    found = [dict(block) for block in blocks if block["kind"] != "fold"]
    for block in found:
        if block["kind"] == "forest":
            _label_forest(block, speak)
    return found


def _label_forest(block: Block, speak: Speaker) -> None:
    """Write a forest plot's numbers in words, which typst cannot format itself."""
    unit = block["unit"]
    if block["consensus"]:
        block["consensus"] = {**block["consensus"], "title": speak("consensus"), "counted": True}
    for item in [*block["lines"], *([block["consensus"]] if block["consensus"] else [])]:
        item["shown"] = with_unit(item["estimate"], unit)
        ends = between(item["low"], item["high"], unit)
        item["span"] = speak.said(ends) if item["has_interval"] else speak("no_interval")
    block["ends_shown"] = [with_unit(end, unit) for end in block["ends"]]


def _figures(blocks: list[Block], speak: Speaker, folder: Path, read: Callable[[str], bytes] | None) -> list[Block]:
    """Put the first figures beside the template and name those that are left."""
    kept: list[Block] = []
    left: list[str] = []
    for block in blocks:
        if block["kind"] != "figure":
            continue
        content = _content(block["file"], read) if len(kept) < MOST_FIGURES else None
        if content is None:
            left.append(block["title"])
            continue
        name = f"figure_{len(kept)}{Path(block['file']).suffix}"
        (folder / name).write_bytes(content)
        kept.append({**block, "file": name})
    more = [{"kind": "text", "quiet": True, "text": speak("more_figures", names=speak.listed(left))}] if left else []
    return [*kept, *more]


def _content(file: str, read: Callable[[str], bytes] | None) -> bytes | None:
    if read is None or Path(file).suffix not in (".png", ".svg", ".jpg", ".gif"):
        return None
    try:
        return read(file)
    except OSError:
        return None
