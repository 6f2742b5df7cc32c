"""From a drawing to files: PNG at 300 dpi, SVG with the letters as shapes, and the frame that was drawn."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cqox_assets.errors import CatalogError
from cqox_assets.figures import _theme as theme
from cqox_assets.spec import Drawing

DPI = 300
SCREEN_WIDTH = 520


def render(drawing: Drawing, kind: str) -> bytes:
    """Return a drawing as the bytes of a file.

    Parameters
    ----------
    kind : str
        `png` or `svg`. The same drawing gives the same bytes.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    with theme.LOCK, mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "cqox"}):
        theme.settle(drawing.figure)
        if kind == "png":
            drawing.figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
        else:
            drawing.figure.savefig(buffer, format=kind, metadata={"Date": None})
    return _screen_sized(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def _screen_sized(svg: bytes) -> bytes:
    """Give a drawing the default width of the UI's metadata column; the view box keeps it scalable."""
    found = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if found is None:
        raise CatalogError("the SVG of this matplotlib version states its size in another way; adapt _screen_sized")
    high = SCREEN_WIDTH * float(found[2]) / float(found[1])
    return svg.replace(found[0], f'width="{SCREEN_WIDTH}px" height="{high:.0f}px"'.encode(), 1)


def save(drawing: Drawing, folder: Path, name: str) -> Mapping[str, Any]:
    """Write `<name>.png` and `<name>.svg` into a folder.

    Returns
    -------
    mapping
        `png` and `svg` (paths), `caption`, `alt`, `rows`, and `data`: the frame that was drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for kind in ("png", "svg"):
        path = folder / f"{name}.{kind}"
        part = path.with_suffix(f".{kind}.part")
        part.write_bytes(render(drawing, kind))
        part.replace(path)  # a killed run leaves the old figure or the new one
        paths[kind] = str(path)
    return {
        **paths, "caption": drawing.caption, "alt": drawing.alt, "rows": len(drawing.data), "data": drawing.data,
    }  # fmt: skip
