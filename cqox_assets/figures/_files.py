"""From a drawing to files: PNG at 300 dpi, SVG with the letters as shapes, Parquet of what was drawn, GIF and HTML."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cqox_assets.errors import CatalogError
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _theme as theme
from cqox_assets.spec import FRAMES, Drawing

DPI = 300
PRINTED = ("png", "svg", "parquet")
SCREEN_WIDTH = 520
GIF_SIZE = (8.0, 6.0)  # inches at 100 dpi: 800 x 600
MILLISECONDS = 200


def kinds(drawing: Drawing) -> tuple[str, ...]:
    """Return the kinds of file that a drawing has."""
    more = ("html", "gif") if drawing.frames is not None else ("html",) if drawing.page else ()
    return (*PRINTED, *more)


def render(drawing: Drawing, kind: str) -> bytes:
    """Return a drawing as the bytes of a file.

    Parameters
    ----------
    kind : str
        One of `kinds(drawing)`. The same drawing gives the same bytes.
    """
    import matplotlib as mpl

    if kind == "html":
        return (drawing.page or pages.player(stills(drawing), drawing.caption, _title(drawing))).encode()
    if kind == "parquet":
        return _table(drawing)
    if kind == "gif":
        return animation(stills(drawing))
    buffer = io.BytesIO()
    with theme.LOCK, mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "cqox"}):
        theme.settle(drawing.figure)
        if kind == "png":
            drawing.figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
        else:
            drawing.figure.savefig(buffer, format=kind, metadata={"Date": None})
    return _screen_sized(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def _title(drawing: Drawing) -> str:
    """Return the words of the figure's title."""
    return str(drawing.figure.get_suptitle()) or drawing.caption.partition(":")[0]


def _table(drawing: Drawing) -> bytes:
    buffer = io.BytesIO()
    drawing.data.to_parquet(buffer, index=False)
    return buffer.getvalue()


def moving_files(drawing: Drawing) -> dict[str, bytes]:
    """Return the files of a drawing that turns or moves, by what follows its name.

    `.html`, and for frames `.gif` and every single frame as `_frames/01.png`; each frame is drawn once.
    """
    if drawing.frames is None:
        return {".html": render(drawing, "html")}
    frames = stills(drawing)
    page = drawing.page or pages.player(frames, drawing.caption, _title(drawing))
    single = {f"_frames/{place:02d}.png": frame for place, frame in enumerate(frames, start=1)}
    return {".html": page.encode(), ".gif": animation(frames), **single}


def stills(drawing: Drawing) -> list[bytes]:
    """Return every frame as a PNG of 800 x 600.

    Raises
    ------
    CatalogError
        If the drawing has no frames.
    """
    if drawing.frames is None:
        raise CatalogError("the drawing has no frames")
    found = []
    for place in range(FRAMES):
        with theme.LOCK:
            figure, buffer = drawing.frames(place), io.BytesIO()
            figure.set_size_inches(*GIF_SIZE)
            theme.settle(figure)
            theme.set_fonts(figure)  # one figure that changes is laid out once, but its words change
            figure.savefig(buffer, format="png", dpi=100, pil_kwargs={"compress_level": 6})
        found.append(buffer.getvalue())
    return found


def animation(frames: Sequence[bytes]) -> bytes:
    """Return frames as an endless GIF, five of them per second, with one palette so that no colour flickers.

    A bar at the bottom shows how much has passed; without it equal frames would be joined into one.
    """
    from PIL import Image, ImageDraw

    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    for place, picture in enumerate(pictures, start=1):
        edge = picture.width * place // len(pictures) - 1
        ImageDraw.Draw(picture).rectangle((0, picture.height - 4, edge, picture.height), fill=theme.QUIET)
    last = pictures[-1].quantize(128, dither=Image.Dither.NONE)  # the last frame shows everything
    drawn = [picture.quantize(palette=last, dither=Image.Dither.NONE) for picture in pictures]
    moving = io.BytesIO()
    drawn[0].save(
        moving, format="GIF", save_all=True, append_images=drawn[1:], duration=MILLISECONDS, loop=0, optimize=False
    )
    return moving.getvalue()


def _screen_sized(svg: bytes) -> bytes:
    """Give a drawing the default width of the UI's metadata column; the view box keeps it scalable."""
    found = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if found is None:
        raise CatalogError("the SVG of this matplotlib version states its size in another way; adapt _screen_sized")
    high = SCREEN_WIDTH * float(found[2]) / float(found[1])
    return svg.replace(found[0], f'width="{SCREEN_WIDTH}px" height="{high:.0f}px"'.encode(), 1)


def save(drawing: Drawing, folder: Path, name: str) -> Mapping[str, Any]:
    """Write every kind of file of a drawing into a folder.

    Returns
    -------
    mapping
        The path of each kind, `caption`, `alt`, `rows`, and `data`: the frame that was drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for kind in kinds(drawing):
        path = folder / f"{name}.{kind}"
        part = path.with_suffix(f".{kind}.part")
        part.write_bytes(render(drawing, kind))
        part.replace(path)  # a killed run leaves the old figure or the new one
        paths[kind] = str(path)
    return {
        **paths, "caption": drawing.caption, "alt": drawing.alt, "rows": len(drawing.data), "data": drawing.data,
    }  # fmt: skip
