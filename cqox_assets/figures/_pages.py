"""Self-contained interactive pages: one drawing that turns and zooms without a network, usable on a phone."""

import html
from typing import Any

from cqox_assets.figures import _theme as theme


def page(figure: Any, title: str, caption: str) -> str:
    """Return a page with a plotly figure, the script inside, its title and its caption.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    title, caption : str
    """
    figure.update_layout(
        margin={"l": 0, "r": 0, "t": 8, "b": 0}, font={"family": "system-ui, sans-serif", "color": theme.INK},
        paper_bgcolor="white", legend={"orientation": "h", "y": 0.0},
    )  # fmt: skip
    drawing = figure.to_html(
        full_html=False, include_plotlyjs=True, div_id="drawing", default_width="100%", default_height="100%",
        config={"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["sendDataToCloud"]},
    )  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>"
        "html,body{margin:0;height:100%;font-family:system-ui,sans-serif;color:" + theme.INK + "}"
        "body{display:flex;flex-direction:column}h1{font-size:1.1rem;margin:.7rem .8rem .2rem}"
        "main{flex:1;min-height:320px}p{margin:.2rem .8rem .8rem;font-size:.9rem;line-height:1.4}</style></head>"
        f"<body><h1>{html.escape(title)}</h1><main>{drawing}</main><p>{html.escape(caption)}</p></body></html>\n"
    )


def scene(titles: tuple[str, str, str]) -> dict[str, Any]:
    """Return the three axes of a plotly scene with their words."""
    axes = {}
    for name, text in zip(("xaxis", "yaxis", "zaxis"), titles, strict=True):
        axes[name] = {"title": {"text": html.escape(theme.shorten(text, 44))}, "gridcolor": theme.GRID,
                      "backgroundcolor": "white", "zerolinecolor": theme.QUIET}  # fmt: skip
    return {**axes, "aspectmode": "cube", "camera": {"eye": {"x": 1.5, "y": -1.6, "z": 0.9}}}
