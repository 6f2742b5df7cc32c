"""The report site of a partition: a gallery of its figures, a page per figure with its data, links to the card."""

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cqox_assets.fonts import embedded_font
from cqox_assets.spec import FRAMES, FigureSpec
from cqox_assets.stored import FigureRecord

INDEX, FOLDER = "index.html", "gallery"
THUMBNAIL = (480, 320)  # pixels: sharp on a phone of twice the density
_LINKS = (
    ("decision_card.html", "Decision card"),
    ("decision_card.pdf", "Card as PDF"),
    ("decision_card.json", "Card as JSON"),
    ("analysis.ipynb", "Notebook"),
)
_FAMILIES = {"diagnostics": "Data and comparability", "heterogeneity": "Whom it works for"}


def site_of(
    card: Mapping[str, Any],
    figures: Mapping[str, FigureRecord],
    moving: Mapping[str, FigureRecord],
    catalogue: Mapping[str, FigureSpec],
    read: Callable[[str], bytes | None],
) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the site: its path, relative to the partition's reports, and its content.

    Parameters
    ----------
    card : mapping
        The stored decision card.
    figures, moving : mapping of str to FigureRecord
        Printed figures, and those that turn or move, by name.
    catalogue : mapping of str to FigureSpec
    read : callable
        Returns the bytes of a report file of the partition, or None where there is none.

    Notes
    -----
    Links are relative, so a copied folder works without a server; there is no script and nothing from elsewhere.
    """
    drawn = {name: record for name, record in figures.items() if record.status == "drawn"}
    links = [{"file": file, "text": text} for file, text in _LINKS if read(file) is not None]
    page, names = _template(), _in_order(drawn, catalogue)
    said = [f"{record.title}{record.question}{record.reason}{record.alt}" for record in figures.values()]
    font = embedded_font("".join([_title(card), str(card["recommendation"]), *said]))
    shared = {"language": card.get("language", "en"), "links": links, "font": font}
    items = {name: _item(name, drawn[name], moving.get(name)) for name in names}
    yield INDEX, page(figure=None, title=_title(card), **_front(card, figures, items, catalogue), **shared)
    for place, name in enumerate(names):
        neighbours = {
            key: None if other is None else {"file": f"{other}.html", "text": items[other]["title"]}
            for key, other in (
                ("before", names[place - 1] if place else None),
                ("after", names[place + 1] if place + 1 < len(names) else None),
            )
        }
        item = items[name]
        yield f"{FOLDER}/{name}.html", page(figure=item, name=name, title=item["title"], **shared, **neighbours)
        yield f"{FOLDER}/{name}.csv", drawn[name].data.to_csv(index=False).encode("utf-8-sig")
        yield f"{FOLDER}/{name}.png", thumbnail(read(drawn[name].files["png"]))


def thumbnail(picture: bytes | None) -> bytes:
    """Return a small PNG of a picture.

    Raises
    ------
    FileNotFoundError
        If there is no picture.
    """
    from PIL import Image

    if picture is None:
        raise FileNotFoundError("a figure that was drawn has no PNG in the report store; draw it again")
    small, buffer = Image.open(io.BytesIO(picture)).convert("RGB"), io.BytesIO()
    small.thumbnail(THUMBNAIL, Image.Resampling.BOX, reducing_gap=2.0)
    small.save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def _template() -> Callable[..., bytes]:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("site.html.j2")
    return lambda **values: template.render(**values).encode()


def _title(card: Mapping[str, Any]) -> str:
    return str(card.get("question") or "Figures of the analysis")


def _front(
    card: Mapping[str, Any],
    figures: Mapping[str, FigureRecord],
    items: Mapping[str, Mapping[str, Any]],
    catalogue: Mapping[str, FigureSpec],
) -> dict[str, Any]:
    sections: dict[str, list[Mapping[str, Any]]] = {}
    for name, item in items.items():
        sections.setdefault(catalogue[name].family, []).append(item)
    return {
        "partition": card.get("partition", ""),
        "question": _title(card),
        "verdict": card["verdict"],
        "recommendation": card["recommendation"],
        "sections": [
            {"title": _FAMILIES.get(family, family.capitalize()), "figures": found}
            for family, found in sections.items()
        ],
        "missing": [
            {"title": item.title, "reason": item.reason} for item in figures.values() if item.status != "drawn"
        ],
    }


def _item(name: str, record: FigureRecord, moving: FigureRecord | None) -> dict[str, Any]:
    files = dict(moving.files) if moving is not None and moving.status == "drawn" else {}
    film = "gif" in files
    frames = [f"figures/{name}_frames/{place:02d}.png" for place in range(1, FRAMES + 1)] if film else []
    return {
        "title": record.title,
        "question": record.question,
        "caption": record.caption,
        "alt": record.alt,
        "rows": f"{len(record.data):,}",
        "files": record.files,
        "moving": {"html": files.get("html", ""), "gif": files.get("gif", ""), "frames": frames},
        "moves": ("Animated." if film else "Turns.") if files else "",
        "opens": "Play, stop and step through" if film else "Turn and zoom it",
        "page": f"{FOLDER}/{name}.html",
        "thumbnail": f"{FOLDER}/{name}.png",
    }


def _in_order(drawn: Mapping[str, FigureRecord], catalogue: Mapping[str, FigureSpec]) -> list[str]:
    """Return the figures by family, flagships first."""
    found = [name for name in catalogue if name in drawn]
    return sorted(found, key=lambda name: (catalogue[name].family != "flagship", catalogue[name].family, name))
