"""The few glyphs of a Japanese page that the reader's machine may lack, embedded so that the page stands alone."""

import base64
import importlib.util
import io
from pathlib import Path


def embedded_font(text: str) -> str:
    """Return a data URI of IPAexGothic cut to the text's East Asian glyphs, or nothing if it needs none.

    The font comes with matplotlib-fontja under the IPA Font License, which allows embedding in documents.
    """
    wanted = {ord(mark) for mark in text if ord(mark) >= 0x2E80}
    path = font_file()
    if not wanted or path is None:
        return ""
    from fontTools import subset  # type: ignore[import-untyped]

    options = subset.Options(flavor="woff", layout_features=[], hinting=False, notdef_outline=True, name_IDs=[1, 2])
    options.drop_tables += ["vhea", "vmtx", "VORG", "GSUB", "GPOS", "GDEF", "BASE"]
    font = subset.load_font(str(path), options, lazy=True)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=wanted)
    cutter.subset(font)
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    return f"data:font/woff;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def font_file() -> Path | None:
    """Return the file of IPAexGothic, or None where matplotlib-fontja is not installed."""
    spec = importlib.util.find_spec("matplotlib_fontja")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted((Path(folder) / "fonts").glob("*.ttf")):
            return path
    return None
