"""What is left of the estimate for every strength of a hidden confounder, with known covariates as a measure."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.omitted_variables import Coefficient, adjusted
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Study

_CELLS = 41
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw contours (2d) or a surface that turns (3d) of the adjusted linear estimate, for the first contrast."""
    name, answer = next(iter(inputs.asked("partial_r2").items()))
    table = answer.table[answer.table["contrast"] == answer.table["contrast"].iloc[0]]
    first, bounds = table.iloc[0], table[table["strength"] > 0]
    linear = Coefficient(float(first["estimate"]), float(first["std_error"]), int(first["df"]))
    if linear.estimate == 0:
        raise NotDrawnError("the linear estimate is exactly none")
    ends = _ends(linear, bounds)
    grid = contour_grid(linear, *ends)
    figure, axis = theme.single(7.2, 5.2)
    theme.sides(axis)
    theme.title(figure, "What hidden confounding would leave of the estimate")
    _contours(figure, axis, grid, linear)
    axis.plot([0], [0], "D", color=theme.INK, markersize=6, clip_on=False, zorder=6)
    if len(bounds):
        _benchmarks(axis, bounds, ends)
    axis.set_xlim(0, ends[0])
    axis.set_ylim(0, ends[1])
    theme.numbers(axis)
    axis.set_xlabel("partial R² of the hidden confounder with the treatment")
    axis.set_ylabel("partial R² with the outcome")
    covers = float(grid["near_end"].iloc[0]) <= 0
    shown = [("no effect left", theme.LIMIT, "line")]
    shown += [] if covers else [("interval reaches no effect", theme.LIMIT, "dashes")]
    shown += [("as strong as a known covariate", theme.INK, "dot")] if len(bounds) else []
    marks.legend(figure, shown)
    caption = _caption(inputs.study, name, linear, bounds, answer.meaning)
    caption += " The interval of the linear estimate covers no effect already." if covers else ""
    beyond = int((~_inside(bounds, ends)).sum())
    caption += f" {beyond} of the {len(bounds)} strengths lie beyond the axes." if beyond else ""
    page = pages.page(_surface(grid, bounds, ends), SPEC.title, caption) if form == "3d" else ""
    return Drawing(figure, grid, caption, f"Contour plot of the estimate by strength of confounding. {caption}", page)


def contour_grid(linear: Coefficient, right: float, top: float) -> pd.DataFrame:
    """Return one row per cell: r2_treatment, r2_outcome, estimate and the end of its interval nearer to no effect.

    Both are in the direction of the estimate: negative where the sign turns.
    """
    x, y = np.meshgrid(np.linspace(0, right, _CELLS), np.linspace(0, top, _CELLS))
    sign, z = np.sign(linear.estimate), marks.errors(_LEVEL)
    found = [adjusted(linear, float(a), float(b)) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    estimate, error = (np.array(column) for column in zip(*found, strict=True))
    near = sign * estimate - z * error
    return pd.DataFrame(
        {"r2_treatment": x.ravel(), "r2_outcome": y.ravel(), "estimate": estimate, "near_end": sign * near}
    )


def _ends(linear: Coefficient, bounds: pd.DataFrame) -> tuple[float, float]:
    """Return how far the axes reach: past the benchmarks and past where half of the estimate is gone."""
    f2 = linear.partial_f2
    even = 0.5 * (np.sqrt(f2**2 + 4 * f2) - f2)  # both partial R2 at which nothing is left
    held = [1.25 * float(bounds[name].max()) if len(bounds) else 0.0 for name in ("r2dz_x", "r2yz_dx")]
    wanted = min(0.6, max(0.02, 1.6 * float(even)))
    return tuple(min(0.95, max(wanted, end)) for end in held)  # type: ignore[return-value]


def _contours(figure: Any, axis: Any, grid: pd.DataFrame, linear: Coefficient) -> None:
    shape = (_CELLS, _CELLS)
    x, y = (grid[name].to_numpy().reshape(shape) for name in ("r2_treatment", "r2_outcome"))
    z, near = (grid[name].to_numpy().reshape(shape) for name in ("estimate", "near_end"))
    reach = max(abs(linear.estimate), 1e-300)
    levels = np.linspace(-reach, reach, 21)
    filled = axis.contourf(x, y, z, levels=levels, cmap=theme.DIVERGING, alpha=0.55, extend="both", zorder=0.5)
    steps = sorted({float(np.round(share * linear.estimate, 12)) for share in (0.2, 0.4, 0.6, 0.8)})
    axis.contour(x, y, z, levels=steps, colors=theme.INK, linewidths=0.8, alpha=0.7)
    marks.colour_bar(figure, axis, filled, "estimate that would be left")
    if z.min() < 0 < z.max():
        axis.contour(x, y, z, levels=[0.0], colors=theme.LIMIT, linewidths=2.2)
    if near.min() < 0 < near.max():
        axis.contour(x, y, near, levels=[0.0], colors=theme.LIMIT, linewidths=1.6, linestyles=[(0, (4, 2.5))])


def _benchmarks(axis: Any, bounds: pd.DataFrame, ends: tuple[float, float]) -> None:
    """Draw those confounders as strong as a known covariate that the axes hold; close ones share a label."""
    bounds = bounds[_inside(bounds, ends)]
    if not len(bounds):
        return
    x, y = bounds["r2dz_x"].to_numpy(dtype=float), bounds["r2yz_dx"].to_numpy(dtype=float)
    axis.plot(x, y, "o", color=theme.INK, markersize=6.5, markeredgecolor="white", zorder=6)
    strengths = [f"{strength:g}x" for strength in bounds["strength"]]
    name = theme.squeeze(bounds["benchmark"].iloc[0], 24)
    apart = len(x) > 1 and min(np.hypot(np.diff(x) / ends[0], np.diff(y) / ends[1])) > 0.07
    labels = [*strengths[:-1], f"{strengths[-1]} {name}"] if apart else [""] * (len(x) - 1) + [
        f"{strengths[0]} to {strengths[-1]} {name}" if len(x) > 1 else f"{strengths[0]} {name}"
    ]  # fmt: skip
    for text, place in zip(labels, zip(x, y, strict=True), strict=True):
        late = place[0] > 0.6 * ends[0]
        axis.annotate(
            text, place, xytext=(-7 if late else 7, 5), textcoords="offset points", ha="right" if late else "left",
            fontsize=8, color=theme.INK, zorder=7,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1} if text else None,
        )  # fmt: skip


def _inside(bounds: pd.DataFrame, ends: tuple[float, float]) -> np.ndarray:
    return np.asarray((bounds["r2dz_x"] <= ends[0]) & (bounds["r2yz_dx"] <= ends[1]), dtype=bool)


def _surface(grid: pd.DataFrame, bounds: pd.DataFrame, ends: tuple[float, float]) -> Any:
    import plotly.graph_objects as plotly

    x, y, z, near = (
        grid[name].to_numpy().reshape(_CELLS, _CELLS) for name in ("r2_treatment", "r2_outcome", "estimate", "near_end")
    )
    reach = float(np.abs(z[0, 0])) or 1.0
    figure = plotly.Figure(
        plotly.Surface(
            x=x[0], y=y[:, 0], z=z, colorscale="RdBu", reversescale=True, cmin=-reach, cmax=reach, name="estimate",
            colorbar={"title": {"text": "estimate left"}, "len": 0.6},
            hovertemplate="R² with treatment %{x:.3f}, with outcome %{y:.3f}<br>estimate left: %{z:.4g}<extra></extra>",
        )
    )  # fmt: skip
    pages.sheet(figure, (x[0], y[:, 0], near), "end of the interval nearer to no effect", 0.3)
    pages.sheet(figure, (x[0], y[:, 0], np.zeros_like(z)), "no effect", 0.25)
    held = bounds[_inside(bounds, ends)]
    figure.add_scatter3d(
        x=held["r2dz_x"], y=held["r2yz_dx"], z=held["adjusted_estimate"], mode="markers", hoverinfo="skip",
        name="as strong as a known covariate", marker={"size": 6, "color": theme.INK},
    )  # fmt: skip
    notes = [
        pages.note(
            row.r2dz_x, row.r2yz_dx, row.adjusted_estimate, f"{row.strength:g}x {pages.words(row.benchmark, 24)}"
        )
        for row in marks.each(held)
    ]
    titles = "R² with treatment", "R² with outcome", "estimate left"
    figure.update_layout(scene={**pages.scene(titles), "annotations": notes})
    return figure


def _caption(study: Study, name: str, linear: Coefficient, bounds: pd.DataFrame, meaning: str) -> str:
    worst = ""
    if len(bounds):
        row = bounds.iloc[-1]
        worst = (
            f" One {row['strength']:g} times as strong as '{row['benchmark']}' would leave "
            f"{words.amount(study, float(row['adjusted_estimate']))}."
        )
    return (
        f"Contours of the linear estimate, {words.amount(study, linear.estimate)} without hidden confounding (diamond)."
        f"{worst} {meaning} Asked about {words.estimator(name)}."
    )


SPEC = FigureSpec(
    name="confounding_contours",
    title="What hidden confounding would leave of the estimate",
    question="How strong must a hidden confounder be, measured by the covariates that are known?",
    draw=draw,
    needs=("partial_r2",),
    family="sensitivity",
    forms=("2d", "3d"),
    reference="Cinelli & Hazlett 2020, doi:10.1111/rssb.12348",
)
