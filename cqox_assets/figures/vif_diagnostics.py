"""Variance inflation of the covariates and their correlations."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.collinearity import variance_inflation
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.measures import MEASURES
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_MOST = 30  # covariates that a page can carry legibly


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw the factors as bars on a logarithmic axis and the correlations of the same covariates beside them."""
    study = inputs.study
    names, x = study.names(Role.COVARIATES), study.matrix()
    if len(names) < 2:
        raise NotDrawnError("there is one covariate only, which cannot be a combination of others")
    factors = variance_inflation(x)
    if np.isnan(factors).all():
        raise NotDrawnError("the covariates have missing cells or no rows")
    order = np.argsort(-np.where(np.isnan(factors), -np.inf, factors), kind="stable")[:_MOST]
    labels = [study.label(names[place]) for place in order]
    correlation = _correlation(x[:, order])
    count = len(order)
    figure, ((left, right),) = theme.grid(1, 2, (9.4, max(2.6, 1.3 + 0.2 * count)), widths=[1, 1.25])
    theme.title(figure, "Variance inflation and correlation of the covariates")
    limit = study.thresholds.get("vif", MEASURES["vif"].limit)
    _bars(left, labels, factors[order], limit)
    _heat(figure, right, correlation)
    worst = f"{labels[0]}, {'infinite' if np.isinf(factors[order[0]]) else f'{factors[order[0]]:.3g}'}"
    pairs = np.abs(np.triu(correlation, 1))
    a, b = np.unravel_index(int(np.nanargmax(pairs)), pairs.shape)
    shown = f" The {count} largest of {len(names)} are shown." if len(names) > count else ""
    caption = (
        f"Largest factor: {worst}; {int((factors > limit).sum())} of {len(names)} above {limit:g}. Strongest "
        f"correlation: {correlation[a, b]:.2f} of {labels[a]} with {labels[b]}.{shown}"
    )
    data = pd.DataFrame({"covariate": labels, "vif": factors[order]}).assign(
        **{f"with {place + 1}": correlation[:, place] for place in range(count)}
    )
    return Drawing(figure, data, caption, f"Bars of variance inflation factors and a correlation heat map. {caption}")


def _correlation(x: np.ndarray) -> np.ndarray:
    """Return correlations, shape (k, k); 0 for a column that does not vary."""
    scale = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    return np.asarray(np.clip(z.T @ z / len(x), -1, 1))


def _bars(axis: Any, labels: list[str], factors: np.ndarray, limit: float) -> None:
    count = len(labels)
    places = list(range(count - 1, -1, -1))
    finite = factors[np.isfinite(factors)]
    right = max(1.5 * limit, 1.3 * float(finite.max(initial=1.0)))
    shown = np.where(np.isfinite(factors), factors, right)
    colours = [theme.LIMIT if factor > limit else theme.ARMS[0] for factor in factors]
    axis.hlines(places, 1, shown, color=theme.GRID, linewidth=2)
    for place, value, factor, colour in zip(places, shown, factors, colours, strict=True):
        axis.plot(
            [value], [place], marker="o" if np.isfinite(factor) else ">", color=colour, markersize=5, clip_on=False
        )
    axis.set_xscale("log")
    axis.set_xlim(0.95, right)
    axis.set_ylim(-0.6, count - 0.4)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 1000, 10_000, 100_000) if tick <= right]
    axis.set_xticks(ticks[:: max(1, len(ticks) // 6)], [f"{tick:,}" for tick in ticks][:: max(1, len(ticks) // 6)])
    axis.xaxis.set_minor_locator(_none())
    visuals.threshold(axis, limit, f"limit {limit:g}")
    visuals.names(axis, labels, places, 8 if count <= 22 else 7, 26)
    axis.set_xlabel("variance inflation factor")


def _none() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _heat(figure: Any, axis: Any, correlation: np.ndarray) -> None:
    count = len(correlation)
    picture = axis.imshow(correlation, cmap=theme.DIVERGING, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axis.grid(visible=False)
    axis.set_yticks([])
    axis.set_xticks(range(count), [str(place + 1) for place in range(count)], fontsize=7 if count <= 20 else 5.5)
    axis.spines["bottom"].set_visible(False)
    axis.set_xlabel("covariate by its place in the list, from the top")
    bar = figure.colorbar(picture, ax=axis, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5, color=theme.QUIET)
    bar.set_label("correlation", fontsize=8.5, color=theme.INK)
    if count <= 12:
        for row in range(count):
            for column in range(count):
                value = correlation[row, column]
                axis.text(column, row, f"{value:.2f}".replace("0.", ".", 1), ha="center", va="center", fontsize=6.5,
                          color="white" if abs(value) > 0.6 else theme.INK)  # fmt: skip
    marks.heading(axis, "Correlations", 30)


SPEC = FigureSpec(
    name="vif_diagnostics",
    title="Variance inflation and correlation of the covariates",
    question="Are covariates nearly combinations of one another?",
    draw=draw,
    needs=("covariates",),
    family="diagnostics",
    reference="Belsley, Kuh & Welsch 1980, doi:10.1002/0471725153",
)
