"""A card as a document: sections of plain blocks in one language, which the page, the PDF and LaTeX draw alike.

A block is a mapping with a `kind`: `text`, `notice`, `heading`, `list`, `facts` (label, value, note), `reasons`,
`table` (head, rows, right-aligned columns; a `wide` one scrolls within its box on a narrow screen), `standing` (a large
value or a label with words beside it), `bars` (0 to 10, with the limits of their zones), `forest`, `figure` and `fold`
(a summary over blocks that the page folds and the PDF leaves out). A cell is a text, or a mapping of `text` with
`note`, `status` (a coloured label, before the words `after` it) or `code`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cqox_assets.decisions.forest import forest
from cqox_assets.decisions.language import LANGUAGES, Said, in_language, word
from cqox_assets.wording import listed, short

Block = dict[str, Any]
MOST_ROWS = 30


@dataclass(frozen=True)
class Section:
    """A heading and its blocks; `key` names the section in every language."""

    key: str
    title: str
    blocks: list[Block]


class Speaker:
    """Says fixed words, terms and catalogue titles in one language."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else "en"

    def __call__(self, key: str, **facts: Any) -> str:
        """Return a fixed word of the table, with its places filled."""
        text = word(key, self.language)
        return text.format(**{name: self.said(value) for name, value in facts.items()}) if facts else text

    def said(self, text: Any) -> str:
        """Return a text in this language; a number as people read it."""
        if isinstance(text, Said):
            return in_language(text, self.language)
        return number(text) if isinstance(text, (int, float)) and not isinstance(text, bool) else str(text)

    def listed(self, names: Sequence[str], most: int = 40) -> str:
        """Return names as people list them; beyond `most`, how many more there are."""
        shown = [self.said(name) for name in names]
        more = [self("and_more", count=len(shown) - most)] if len(shown) > most else []
        if self.language == "ja":
            return "、".join([*shown[:most], *more])
        return " ".join([", ".join(shown[:most]), *more]) if more else listed(shown, most)


def number(value: Any, digits: int = 4) -> str:
    """Return a number with the digits that people read; a dash for None."""
    if value is None:
        return "–"
    return "∞" if abs(value) >= 1e300 else short(value, digits)


def text(content: str, *, quiet: bool = False) -> Block:
    """Return a paragraph."""
    return {"kind": "text", "text": content, "quiet": quiet}


def notice(content: str) -> Block:
    """Return a paragraph that stands out."""
    return {"kind": "notice", "text": content}


def heading(content: str, mark: str = "") -> Block:
    """Return a heading within a section."""
    return {"kind": "heading", "text": content, "mark": mark}


def bullets(items: Iterable[Any]) -> list[Block]:
    """Return a list, or nothing if it has no item."""
    found = [cell(item) for item in items]
    return [{"kind": "list", "items": found}] if found else []


def facts(items: Iterable[tuple[str, str] | tuple[str, str, str]]) -> list[Block]:
    """Return labels with values, or nothing if there is none."""
    found = [{"label": item[0], "value": item[1], "note": item[2] if len(item) > 2 else ""} for item in items]
    return [{"kind": "facts", "items": found}] if found else []


def grid(
    head: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[int] = (), *, wide: bool = False
) -> list[Block]:
    """Return a table, or nothing if it has no row; `right` numbers the columns of figures."""
    found = [[cell(item) for item in row] for row in rows]
    titles = [title[:1].upper() + title[1:] for title in head] if wide else list(head)
    table = {"kind": "table", "head": titles, "rows": found, "right": list(right), "wide": wide}
    return [table] if found else []


def standing(value: str, words: str, label: Mapping[str, str]) -> Block:
    """Return a large value, if there is one, with a coloured label and words beside it."""
    return {"kind": "standing", "value": value, "text": words, "label": cell(label)}


def bars(items: Iterable[Mapping[str, Any]]) -> Block:
    """Return bars of `label`, `share` (percent of the track), `shown`, `note`, `status` and `zone` in words."""
    return {"kind": "bars", "items": [dict(item) for item in items]}


def fold(summary: str, blocks: list[Block], *, opened: bool = False) -> list[Block]:
    """Return blocks under a summary, or nothing if there are none."""
    return [{"kind": "fold", "summary": summary, "blocks": blocks, "open": opened}] if blocks else []


def cell(item: Any) -> dict[str, str]:
    """Return a cell as `text`, `note`, `status`, `code`, `lead` and what comes after a label."""
    found = item if isinstance(item, Mapping) else {"text": item}
    return {key: str(found.get(key) or "") for key in ("text", "note", "status", "code", "lead", "lead_after", "after")}


def forest_blocks(card: Mapping[str, Any], speaker: Speaker, label: Any, name: Any, sentence: Any) -> list[Block]:
    """Return the forest plot of every question.

    Parameters
    ----------
    label, name, sentence : callable
        Say a group's question, an estimator's title and a group's sentence in the document's language.
    """
    groups = {group["label"]: group for group in card["synthesis"]["groups"]}
    blocks: list[Block] = []
    for block in forest(card):
        group = groups[block["label"]]
        blocks.append(heading(label(group), speaker("rests_on_this") if block["preferred"] else ""))
        lines = [{**line, "title": name(line["name"])} for line in block["lines"]]
        blocks.append({**block, "kind": "forest", "label": label(group), "lines": lines})
        blocks.append(text(sentence(group), quiet=True))
    return blocks
