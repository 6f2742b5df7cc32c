"""Draw every figure of the shipped studies, small, onto one sheet: docs/images/contact_sheet.png."""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cqox_assets.catalog import load_figures
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _theme as theme

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "images" / "contact_sheet.png"
CELL, GAP, WORDS = (360, 270), 12, 30  # pixels
DPI = 60


def drawings(studies: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Yield name, study and figure: each figure of the first study that has it."""
    from tests.unit.figure_studies import inputs_of

    left = dict(load_figures())
    for study in studies:
        inputs = inputs_of(study)
        for name, spec in list(left.items()):
            try:
                drawing = spec.made(inputs)
            except NotDrawnError:
                continue
            del left[name]
            yield name, study, drawing.figure
    print("not drawn by any of these studies:", ", ".join(left) or "none")


def picture(figure: Any) -> Any:
    """Return a figure as a small picture."""
    from PIL import Image

    buffer = io.BytesIO()
    with theme.LOCK:
        theme.settle(figure)
        figure.savefig(buffer, format="png", dpi=2 * DPI)
    found = Image.open(buffer).convert("RGB")
    found.thumbnail(CELL, Image.Resampling.LANCZOS)
    return found


def sheet(found: list[tuple[str, str, Any]], columns: int) -> Any:
    """Return the pictures in a grid, each with its name and study."""
    from PIL import Image, ImageDraw, ImageFont

    wide, high = CELL[0] + GAP, CELL[1] + WORDS + GAP
    rows = -(-len(found) // columns)
    page = Image.new("RGB", (columns * wide + GAP, rows * high + GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for place, (name, study, small) in enumerate(sorted(found, key=lambda item: item[0])):
        x, y = GAP + place % columns * wide, GAP + place // columns * high
        pen.text((x, y), f"{name} ({study})", fill=theme.INK, font=font)
        page.paste(small, (x, y + WORDS - 8))
    return page


def main() -> None:
    """Write the sheet; simulated designs stand in where no shipped study has what a figure needs."""
    from tests.unit.figure_studies import LEDGER, SAMPLES, SIMULATED

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=TARGET)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("studies", nargs="*", default=[*SAMPLES, *SIMULATED, *LEDGER])
    given = parser.parse_args()
    found = [(name, study, picture(figure)) for name, study, figure in drawings(given.studies)]
    given.to.parent.mkdir(parents=True, exist_ok=True)
    sheet(found, given.columns).save(given.to, optimize=True)
    print(f"{len(found)} figures on {given.to}")


if __name__ == "__main__":
    main()
