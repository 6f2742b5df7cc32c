"""One look for every figure: fonts, colours and axes; the global state of matplotlib is left alone."""

import importlib.util
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2933", "#667483", "#e3e7eb"
REFERENCE = "#7b8794"
# Okabe & Ito's palette without black and yellow, darkened where needed for thin lines on white.
ARMS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#B8860B", "#2F9BD0", "#8C510A", "#332288")
LIMIT = "#B22222"
SURE, UNSURE, WRONG = "#00735c", "#946200", "#B22222"  # passed, warned, failed: told apart by their marks as well
DIVERGING, SEQUENTIAL = "RdBu_r", "cividis"
LOCK = threading.RLock()  # matplotlib's font objects and settings are shared by all threads


def arm_colour(arms: Sequence[str], arm: str) -> str:
    """Return the colour of an arm: grey for the reference, else by the arm's place in the study."""
    names = list(arms)
    place = names.index(arm) if arm in names else 1
    return REFERENCE if place == 0 else ARMS[(place - 1) % len(ARMS)]


def single(width: float = 7.2, height: float = 4.2) -> "tuple[Figure, Axes]":
    """Return a figure of one axis, in inches."""
    figure, axes = panels(1, width, height)
    return figure, axes[0]


def panels(
    count: int, width: float, height: float, ratios: Sequence[float] | None = None
) -> "tuple[Figure, list[Axes]]":
    """Return a figure of `count` axes above one another.

    Parameters
    ----------
    ratios : sequence of float, optional
        Relative heights of the axes; equal by default.
    """
    figure, rows = grid(count, 1, (width, height), heights=ratios)
    return figure, [row[0] for row in rows]


def grid(
    rows: int,
    columns: int,
    size: tuple[float, float],
    heights: Sequence[float] | None = None,
    widths: Sequence[float] | None = None,
) -> "tuple[Figure, list[list[Axes]]]":
    """Return a figure of rows x columns axes; `size` in inches, relative heights and widths equal by default."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with LOCK:
        layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.05)
        figure = Figure(figsize=size, layout=layout, facecolor="white")
        FigureCanvasAgg(figure)
        shares = {"height_ratios": list(heights or [1.0] * rows), "width_ratios": list(widths or [1.0] * columns)}
        made = figure.subplots(rows, columns, squeeze=False, gridspec_kw=shares)
        axes = [list(row) for row in made]
        for axis in (axis for row in axes for axis in row):
            _dress(axis)
    return figure, axes


def title(figure: "Figure", text: str) -> None:
    """Put the figure's title flush left."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=11.5, fontweight="bold", color=INK)


def numbers(axis: "Axes", which: str = "xy", nbins: int = 6) -> None:
    """Write plain numbers with thousands set apart on the axes named, at few enough places to stay apart."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for name in which:
        part = axis.xaxis if name == "x" else axis.yaxis
        part.set_major_locator(MaxNLocator(nbins=nbins if name == "x" else 6))
        part.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """Return a number as an axis says it: five significant digits, whole millions in full, then powers of ten."""
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e9 else f"{value:,.5g}"


def in_full(value: float) -> str:
    """Return an amount without powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:,.4g}"


def amounts(part: "XAxis | YAxis") -> None:
    """Write amounts of money in full, without powers of ten."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    part.set_major_locator(MaxNLocator(nbins=6))
    part.set_major_formatter(FuncFormatter(lambda value, _: in_full(value)))


def whole(axis: "Axes") -> None:
    """Put the places of the horizontal axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def times(axis: "Axes", values: "Iterable[float]") -> None:
    """Write plain numbers on both axes; periods that are whole numbers have places at whole numbers."""
    numbers(axis)
    if all(float(value).is_integer() for value in values):
        whole(axis)


def sides(axis: "Axes") -> None:
    """Give an axis of two scales its left line and horizontal guides."""
    axis.spines["left"].set_visible(True)
    axis.spines["left"].set_color(QUIET)
    axis.grid(axis="y", color=GRID, linewidth=0.8)


def settle(figure: "Figure") -> None:
    """Give every text its fonts and lay the figure out once, so that every file shows it alike."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        set_fonts(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def set_fonts(figure: "Figure") -> None:
    """Give every text of the figure the families that have its glyphs, Latin first, then Japanese."""
    from matplotlib.text import Text

    families = font_families()
    for text in figure.findobj(Text):
        latin = text.get_text().isascii()
        text.set_fontfamily(families[:1] if latin else families)
        if not latin:
            text.set_fontweight("normal")  # the Japanese font has one weight; asking for another only warns
        text.set_parse_math(False)  # a column called `a$b$` is a name, not a formula


@cache
def font_families() -> list[str]:
    """Return DejaVu Sans and, where its file is installed, IPAexGothic; registering adds and replaces nothing."""
    from matplotlib import font_manager

    spec = importlib.util.find_spec("matplotlib_fontja")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted((Path(folder) / "fonts").glob("*.ttf")):
            with LOCK:
                font_manager.fontManager.addfont(str(path))
            return ["DejaVu Sans", font_manager.FontProperties(fname=str(path)).get_name()]
    return ["DejaVu Sans"]


def shorten(text: str, cells: int = 34) -> str:
    """Return the text cut to a width in half-width cells, with an ellipsis; Japanese characters take two."""
    text = " ".join(str(text).split())
    if width(text) <= cells:
        return text
    kept, used = "", 1
    for mark in text:
        used += _cells(mark)
        if used > cells:
            break
        kept += mark
    return f"{kept.rstrip()}…"


def squeeze(text: str, cells: int = 34) -> str:
    """Return the text cut in its middle, so that names which differ only at their ends stay apart."""
    text = " ".join(str(text).split())
    if width(text) <= cells:
        return text
    tail = ""
    for mark in reversed(text):
        if width(tail) + _cells(mark) > 0.4 * cells:
            break
        tail = mark + tail
    return f"{shorten(text, cells - width(tail))}{tail}"


def width(text: str) -> int:
    """Return the width of a text in half-width cells."""
    return sum(_cells(mark) for mark in text)


def _cells(mark: str) -> int:
    return 2 if unicodedata.east_asian_width(mark) in "WF" else 1


def _dress(axis: "Axes") -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(QUIET)
    axis.tick_params(colors=INK, labelsize=8.5, length=3, color=QUIET, labelfontfamily=font_families(), pad=3)
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.xaxis.label.set_fontsize(9)
    axis.yaxis.label.set_fontsize(9)
    axis.xaxis.label.set_color(INK)
    axis.yaxis.label.set_color(INK)
