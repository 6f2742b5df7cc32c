"""What any figure must look like: something is drawn, and every text is inside the picture and legible."""

import io

import numpy as np


def problems(figure) -> list[str]:
    """Return what is wrong with a figure: blank, text cut off at the edge, upon other text or on another panel."""
    from cqox_assets.figures import _theme as theme

    theme.settle(figure)
    found = [] if _drawn(figure) else ["blank"]
    figure.draw_without_rendering()
    boxes = list(_texts(figure))
    edge = figure.bbox
    for text, box in boxes:
        outside = box.x0 < edge.x0 - 1 or box.y0 < edge.y0 - 1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1
        if outside:
            found.append(f"cut off: {text!r}")
    for place, (text, box) in enumerate(boxes):
        for other, second in boxes[place + 1 :]:
            wide = min(box.x1, second.x1) - max(box.x0, second.x0)
            high = min(box.y1, second.y1) - max(box.y0, second.y0)
            if wide > 1.5 and high > 0.22 * min(box.height, second.height):
                found.append(f"{text!r} upon {other!r}")
    return found + list(_strays(figure))


def _strays(figure):
    """Yield words of one panel that lie on another one: they would be read as that panel's."""
    renderer = figure.canvas.get_renderer()
    panels = [axis for axis in figure.axes if axis.get_visible()]
    for axis in panels:
        for text in axis.texts:
            if not text.get_visible() or not text.get_text().strip():
                continue
            box = text.get_window_extent(renderer)
            for other in panels:
                area = other.get_window_extent(renderer)
                wide = min(box.x1, area.x1) - max(box.x0, area.x0)
                high = min(box.y1, area.y1) - max(box.y0, area.y0)
                if other is not axis and wide > 2 and high > 2:
                    yield f"{text.get_text()!r} on another panel"


def _texts(figure):
    """Yield every text that is drawn, with its box; ticks beyond the limits of their axis are not."""
    renderer = figure.canvas.get_renderer()
    for text in _shown(figure):
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(renderer)
            if np.isfinite([box.x0, box.x1, box.y0, box.y1]).all() and box.width > 0:
                yield text.get_text(), box


def _shown(figure):
    legends = list(figure.legends)
    yield from figure.texts  # the title of the figure is one of them
    for axis in figure.axes:
        if not axis.get_visible():
            continue
        yield from axis.texts
        yield from (axis.title, axis._left_title, axis._right_title)
        legends += [axis.get_legend()] if axis.get_legend() else []
        if axis.axison:
            yield from (axis.xaxis.label, axis.yaxis.label)
            for tick in [*axis.xaxis._update_ticks(), *axis.yaxis._update_ticks()]:
                yield from (tick.label1, tick.label2)
    for legend in legends:
        yield from legend.get_texts()


def _drawn(figure) -> bool:
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    pixels = np.asarray(Image.open(buffer).convert("L"))
    return float((pixels < 235).mean()) > 0.003
