"""One figure that changes: laid out once, repainted for every frame."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _theme as theme
from cqox_assets.spec import FRAMES, Inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HELD = 4  # last frames that show the end, so that it can be read before the film starts again


def film(figure: "Figure", axes: "Sequence[Axes]", paint: Callable[[float], None]) -> "Callable[[int], Figure]":
    """Return a function from frame to figure that removes what the last frame drew and paints the next one.

    Parameters
    ----------
    figure, axes
        With everything that stays: limits, labels, legends.
    paint : callable
        Share of the film that has passed, above 0 to 1 -> None; it draws on the axes, and may not change their limits.
    """
    staying = {id(child) for axis in axes for child in axis.get_children()}

    def frame(place: int) -> "Figure":
        for axis in axes:
            for child in list(axis.get_children()):
                if id(child) not in staying:
                    child.remove()
        paint(passed(place))
        return figure

    return frame


def passed(place: int) -> float:
    """Return the share of the film that has passed with a frame: above 0 in the first one, 1 in the last ones."""
    return min(1.0, (place + 1) / (FRAMES - HELD))


Scene = tuple["Figure", "Sequence[Axes]", Callable[[float], None]]
Timed = tuple["Figure", "Sequence[Axes]"]
_STILL, _FILM = (7.2, 4.8), (8.0, 6.0)  # inches


def pictures(
    make: "Callable[[tuple[float, float]], Scene]", form: str
) -> "tuple[Figure, Callable[[int], Figure] | None]":
    """Return the end of a film as a figure, and for the form `animated` the film.

    Parameters
    ----------
    make : callable
        Size in inches -> the figure with everything that stays, its axes, and what paints a share of the film.
    form : str
    """
    figure, _, paint = make(_STILL)
    paint(1.0)
    return figure, film(*make(_FILM)) if form == "animated" else None


def unveiled(
    make: "Callable[[tuple[float, float]], Timed]", size: tuple[float, float], form: str
) -> "tuple[Figure, Callable[[int], Figure] | None]":
    """Return a figure over time, and for the form `animated` the film that unveils it from left to right.

    Parameters
    ----------
    make : callable
        Size in inches -> the whole figure and those of its axes whose horizontal scale is time.
    size : tuple of float
        Of the still figure, in inches.
    form : str
    """
    figure, _ = make(size)
    if form != "animated":
        return figure, None
    moving, axes = make(_FILM)
    curtains = [_Curtain(axis) for axis in axes]

    def frame(place: int) -> "Figure":
        for curtain in curtains:
            curtain.draw(passed(place))
        return moving

    return figure, frame


class _Curtain:
    """Hides what lies right of a moment on one axis; limits, guides and lines across the axis stay."""

    def __init__(self, axis: "Axes") -> None:
        from matplotlib.patches import Rectangle

        left, right = axis.get_xlim()
        across = axis.transData
        lines = [line for line in axis.lines if all(line.get_transform().contains_branch_seperately(across))]
        self._held = [*lines, *axis.collections, *axis.patches]
        axis.set_xlim(left, right)
        axis.set_ylim(*axis.get_ylim())
        self._ends = left, right
        self._window = Rectangle((left, 0), 0, 1, transform=axis.get_xaxis_transform())
        self._now = axis.axvline(left, color=theme.QUIET, linewidth=0.8, zorder=5)

    def draw(self, share: float) -> None:
        """Show the share of the axis that has passed; at the end nothing is hidden and the moment's line is gone."""
        left, right = self._ends
        self._window.set_width(share * (right - left))
        for artist in self._held:
            artist.set_clip_path(self._window)
        self._now.set_xdata([left + share * (right - left)] * 2)
        self._now.set_visible(share < 1)


def only_for(inputs: Inputs, domain: str) -> None:
    """Refuse studies of other domains.

    Raises
    ------
    NotDrawnError
        If the study is of another domain.
    """
    if inputs.study.domain != domain:
        raise NotDrawnError(f"it speaks the language of {domain}; this study is of the domain '{inputs.study.domain}'")
