"""Self-contained interactive pages: one drawing that turns and zooms without a network, usable on a phone."""

import base64
import html
import json
from collections.abc import Sequence
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
    return _whole(title, f"<main>{drawing}</main>", caption)


def player(frames: Sequence[bytes], caption: str, title: str = "") -> str:
    """Return a page that plays PNG frames five times a second, with a button to stop and a slider to step through."""
    words = title or caption.partition(":")[0]
    pictures = ["data:image/png;base64," + base64.b64encode(frame).decode() for frame in frames]
    body = (
        f'<main class="film"><img id="frame" alt="{html.escape(caption, quote=True)}" src="{pictures[-1]}"></main>'
        '<div class="bar"><button id="play" type="button">Play</button>'
        f'<input id="place" type="range" min="1" max="{len(frames)}" value="{len(frames)}" aria-label="frame">'
        f'<output id="shown">{len(frames)} of {len(frames)}</output></div>'
        f"<script>const frames={json.dumps(pictures)};{_PLAYER}</script>"
    )
    return _whole(words, body, caption)


_PLAYER = """
const image=document.getElementById('frame'),place=document.getElementById('place'),
shown=document.getElementById('shown'),play=document.getElementById('play');let timer=null;
function show(k){image.src=frames[k-1];place.value=k;shown.textContent=k+' of '+frames.length;}
function stop(){clearInterval(timer);timer=null;play.textContent='Play';}
play.onclick=()=>{if(timer){stop();return;}play.textContent='Pause';
timer=setInterval(()=>show(Number(place.value)%frames.length+1),200);};
place.oninput=()=>{stop();show(Number(place.value));};
"""
_STYLE = (
    "html,body{margin:0;height:100%;font-family:system-ui,sans-serif;color:" + theme.INK + "}"
    "body{display:flex;flex-direction:column}h1{font-size:1.1rem;margin:.7rem .8rem .2rem}"
    "main{flex:1;min-height:320px}p{margin:.2rem .8rem .8rem;font-size:.9rem;line-height:1.4}"
    ".film{min-height:0;text-align:center}.film img{max-width:100%;max-height:100%;object-fit:contain}"
    ".bar{display:flex;gap:.8rem;align-items:center;margin:.4rem .8rem}.bar input{flex:1}"
    ".bar button{font:inherit;padding:.4rem 1rem;min-width:5rem}"
)


def _whole(title: str, body: str, caption: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{body}<p>{html.escape(caption)}</p></body></html>\n"
    )


def scene(titles: tuple[str, str, str]) -> dict[str, Any]:
    """Return the three axes of a plotly scene with their words."""
    axes = {}
    for name, text in zip(("xaxis", "yaxis", "zaxis"), titles, strict=True):
        axes[name] = {"title": {"text": html.escape(theme.shorten(text, 44))}, "gridcolor": theme.GRID,
                      "backgroundcolor": "white", "zerolinecolor": theme.QUIET}  # fmt: skip
    return {**axes, "aspectmode": "cube", "camera": {"eye": {"x": 1.5, "y": -1.6, "z": 0.9}}}
