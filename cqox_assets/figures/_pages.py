"""Self-contained interactive pages: one drawing that turns and zooms without a network, usable on a phone."""

import base64
import html
import json
from collections.abc import Sequence
from typing import Any

from cqox_assets.figures import _theme as theme
from cqox_assets.fonts import embedded_font


def page(figure: Any, title: str, caption: str) -> str:
    """Return a page with a plotly figure, the script inside, its title and its caption.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    title, caption : str
    """
    from plotly.offline import get_plotlyjs

    legend = {"orientation": "h", "y": 0.0, "yanchor": "bottom", "bgcolor": "rgba(255,255,255,0.7)"}
    figure.update_layout(
        margin={"l": 0, "r": 0, "t": 8, "b": 0}, font={"family": _FAMILY, "color": theme.INK}, paper_bgcolor="white",
        legend=legend,
    )  # fmt: skip
    held = json.dumps(json.loads(figure.to_json()), ensure_ascii=False).replace("<", "\\u003c")  # ends no script
    config = {"responsive": True, "scrollZoom": True, "displaylogo": False}
    body = (
        f'<h1>{html.escape(title)}</h1><main><div id="drawing"></div></main>'
        f"<script>{get_plotlyjs()}</script><script>const held={held},config={json.dumps(config)};{_DRAWING}</script>"
    )
    return _whole(title, body, caption, held)


def words(text: str, cells: int = 44) -> str:
    """Return a name as it may stand in a drawing, whose words are read as HTML."""
    return html.escape(theme.squeeze(text, cells), quote=False).replace("%{", "% {")


def sheet(figure: Any, places: tuple[Any, Any, Any], name: str, opacity: float, tone: str = theme.REFERENCE) -> None:
    """Add a see-through sheet: x of shape (n,), y of shape (m,), z of shape (m, n)."""
    x, y, z = places
    figure.add_surface(
        x=x, y=y, z=z, showscale=False, opacity=opacity, name=name, hoverinfo="skip", showlegend=True,
        colorscale=[[0, tone], [1, tone]],
    )  # fmt: skip


def player(frames: Sequence[bytes], caption: str, title: str) -> str:
    """Return a page that plays PNG frames five times a second, with a button to stop and a slider to step through."""
    pictures = ["data:image/png;base64," + base64.b64encode(frame).decode() for frame in frames]
    body = (
        f'<main class="film"><img id="frame" alt="{html.escape(caption, quote=True)}" src="{pictures[-1]}"></main>'
        '<div class="bar"><button id="play" type="button">Play</button>'
        f'<input id="place" type="range" min="1" max="{len(frames)}" value="{len(frames)}" aria-label="frame">'
        f'<output id="shown">{len(frames)} of {len(frames)}</output></div>'
        f"<script>const frames={json.dumps(pictures)};{_PLAYER}</script>"
    )
    return _whole(title, body, caption)


# On a phone the scene moves away to fit into the width, and the scale of its colours stands above it.
# The letters of the drawing are painted once, so they wait for the font, and its size for the caption below.
_DRAWING = """
if(innerWidth<600){
const eye=held.layout.scene&&held.layout.scene.camera.eye;
if(eye)for(const name in eye)eye[name]*=1.6;
held.layout.margin.t=70;
for(const trace of held.data)for(const part of [trace,trace.marker||{}])if(part.colorbar)
Object.assign(part.colorbar,{orientation:'h',x:0.5,y:1,yanchor:'bottom',len:0.9,thickness:10});}
const draw=()=>Plotly.newPlot('drawing',held.data,held.layout,config);
addEventListener('load',()=>document.fonts.load('12px "Embedded"','\u3042').then(draw,draw));
"""
_FAMILY = "system-ui, Embedded, 'Hiragino Sans', 'Yu Gothic', Meiryo, 'Noto Sans CJK JP', sans-serif"
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
    "html,body{margin:0;height:100%;font-family:" + _FAMILY + ";color:" + theme.INK + "}"
    "body{display:flex;flex-direction:column}h1{font-size:1.1rem;margin:.7rem .8rem .2rem}"
    "main{flex:1;min-height:420px;position:relative}#drawing{position:absolute;inset:0}"
    "p{margin:.2rem .8rem .8rem;font-size:.9rem;line-height:1.4}"
    ".film{min-height:0;text-align:center}.film img{max-width:100%;max-height:100%;object-fit:contain}"
    ".bar{display:flex;gap:.8rem;align-items:center;margin:.4rem .8rem}.bar input{flex:1}"
    ".bar button{font:inherit;padding:.4rem 1rem;min-width:5rem}"
)


def _whole(title: str, body: str, caption: str, drawn: str = "") -> str:
    font = embedded_font(title + caption + drawn)
    face = f"@font-face{{font-family:Embedded;src:url({font})}}" if font else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{face}{_STYLE}</style></head>"
        f"<body>{body}<p>{html.escape(caption)}</p></body></html>\n"
    )


def note(x: float, y: float, z: float, text: str) -> dict[str, Any]:
    """Return words beside a place of a scene; unlike the text of a mark they are never hidden by a surface."""
    return {"x": x, "y": y, "z": z, "text": text, "showarrow": True, "arrowhead": 0, "arrowwidth": 1, "ax": 26,
            "ay": -26, "arrowcolor": theme.INK, "bgcolor": "rgba(255,255,255,0.8)", "font": {"size": 12}}  # fmt: skip


def scene(titles: tuple[str, str, str]) -> dict[str, Any]:
    """Return the three axes of a plotly scene with their words."""
    axes = {}
    for name, text in zip(("xaxis", "yaxis", "zaxis"), titles, strict=True):
        axes[name] = {"title": {"text": words(text), "font": {"size": 12}}, "gridcolor": theme.GRID,
                      "backgroundcolor": "white", "zerolinecolor": theme.QUIET, "tickfont": {"size": 10}}  # fmt: skip
    return {**axes, "aspectmode": "cube", "camera": {"eye": {"x": 1.5, "y": -1.7, "z": 0.9}, "center": {"z": -0.15}}}
