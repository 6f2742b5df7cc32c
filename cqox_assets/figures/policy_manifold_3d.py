"""Net benefit over coverage and budget: where the budget ends what can be done, and what one more unit would bring."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _pages as pages
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.wording import money


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw a map (2d) or a surface that turns (3d) of the first contrast's net benefit."""
    found = inputs.findings["policy_value"]
    row, grid = found.content["contrasts"][0], found.tables["grid"]
    data = grid[grid["arm"] == row["arm"]].reset_index(drop=True)
    if not len(data):
        missing = " and ".join(f"'{name}'" for name in found.content["missing"]) or "a cost above zero"
        raise NotDrawnError(f"there is no net benefit over budgets without {missing}")
    currency = found.content["settings"]["currency"] or ""
    edge = _edge(found.tables["curve"], row["arm"])
    sheets = _sheets(data, edge)
    caption = _caption(row, currency) + words.adjusting(inputs.study)
    figure = _map(row, sheets, edge, currency)
    page = pages.page(_surface(row, sheets, edge, currency), SPEC.title, caption) if form == "3d" else ""
    data = data.assign(shadow_price=sheets[3].ravel())
    return Drawing(figure, data, caption, f"Map of net benefit over coverage and budget. {caption}", page)


def _sheets(data: pd.DataFrame, edge: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Return coverage, budget, net benefit and shadow price; one row of each array per budget.

    The shadow price is the slope of the predicted net benefit along what is spent, and 0 where the budget is enough.
    """
    budgets = data["budget"].nunique()
    coverage, budget, net = (
        data[name].to_numpy(dtype=float).reshape(budgets, -1) for name in ("coverage", "budget", "net_benefit")
    )
    rising = edge[edge["spend"].diff().fillna(1.0) > 0]
    slope = np.gradient(rising["predicted"], rising["spend"]) if len(rising) > 2 else np.zeros(len(rising))
    price = np.interp(budget, rising["spend"], slope)
    return coverage, budget, net, np.where(data["binding"].to_numpy().reshape(budgets, -1), price, 0.0)


def _edge(curve: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return coverage, spend, net benefit and predicted net benefit where the budget is just enough."""
    rows = curve[(curve["arm"] == arm) & curve["spend"].notna()]
    return rows[["coverage", "spend", "net_benefit", "predicted"]].astype(float)


def _map(row: Mapping[str, Any], sheets: tuple[np.ndarray, ...], edge: pd.DataFrame, currency: str) -> Any:
    coverage, budget, net, price = sheets
    figure, axis = theme.single(7.2, 5.2)
    theme.sides(axis)
    theme.title(figure, SPEC.title)
    reach = float(np.abs(net).max()) or 1.0
    filled = axis.contourf(100 * coverage, budget, net, np.linspace(-reach, reach, 31), cmap=_TONES, extend="both")
    lines = axis.contour(100 * coverage, budget, price, _levels(price), colors=theme.QUIET, linewidths=0.9)
    axis.plot(100 * edge["coverage"], edge["spend"], color=theme.LIMIT, linewidth=1.6, linestyle=(0, (4, 2.5)))
    best, held = row["optimal"], row["budget"]
    _levels_named(axis, lines, None if held is None else held["amount"])
    if held is not None:
        marks.level(axis, held["amount"], f"budget {money(held['amount'], currency)}", theme.INK)
    axis.plot([100 * best["coverage"]], [best["spend"]], marker="*", markersize=15, color=theme.INK,
              markeredgecolor="white", zorder=6, clip_on=False)  # fmt: skip
    axis.set_xlim(0, 100)
    axis.set_ylim(0, float(budget.max()))
    theme.amounts(axis.yaxis)
    axis.set_xlabel("coverage: share of units treated, highest predicted gain per cost first (%)")
    axis.set_ylabel(f"budget ({currency or 'money'})")
    marks.colour_bar(figure, axis, filled, f"net benefit ({currency or 'money'})", theme.in_full)
    marks.legend(
        figure,
        [("left of it the budget is enough for the coverage", theme.LIMIT, "dashes"),
         ("net benefit of one more unit of budget", theme.QUIET, "line"), ("best plan", theme.INK, "dot")],
    )  # fmt: skip
    return figure


def _levels_named(axis: Any, lines: Any, taken: float | None) -> None:
    """Write the levels of the contours at their right ends, those that fit above one another and beside `taken`."""
    low, high = axis.get_ylim()
    last = low - (high - low)
    drawn = [(level, part) for level, parts in zip(lines.levels, lines.allsegs, strict=True) for part in parts]
    ends = [
        (float(part[part[:, 0].argmax(), 1]), level) for level, part in drawn if len(part) and part[:, 0].max() > 99
    ]
    for at, level in sorted(ends):
        apart = taken is None or not -0.03 < (at - taken) / (high - low) < 0.08
        if apart and at - last > 0.07 * (high - low) and at < high - 0.05 * (high - low):
            axis.annotate(f"{level:,.3g}", (98.5, at), fontsize=7.5, color=theme.INK, ha="right", va="center",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8})  # fmt: skip
            last = at


def _levels(price: np.ndarray) -> np.ndarray:
    """Return at most six levels of the shadow price, strictly inside its range."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(price.min()), float(price.max())
    found = np.asarray(MaxNLocator(nbins=6).tick_values(low, high))
    inside = found[(found > low) & (found < high)]
    return inside if len(inside) else np.array([(low + high) / 2])


def _surface(row: Mapping[str, Any], sheets: tuple[np.ndarray, ...], edge: pd.DataFrame, currency: str) -> Any:
    import plotly.graph_objects as plotly

    coverage, budget, net, price = sheets
    reach = float(np.abs(net).max()) or 1.0
    unit = currency or "money"
    figure = plotly.Figure(
        plotly.Surface(
            x=100 * coverage[0], y=budget[:, 0], z=net, colorscale="PuOr", reversescale=False, cmin=-reach, cmax=reach,
            customdata=price, colorbar={"title": {"text": "net benefit"}, "len": 0.6}, name="net benefit",
            hovertemplate=f"coverage %{{x:.0f}} %, budget %{{y:,.0f}} {unit}<br>net benefit %{{z:,.0f}} {unit}<br>"
            "one more unit of budget: %{customdata:.3g}<extra></extra>",
        )
    )  # fmt: skip
    lift = 0.01 * reach
    figure.add_scatter3d(
        x=100 * edge["coverage"], y=edge["spend"], z=edge["net_benefit"] + lift, mode="lines",
        name="budget just enough", line={"color": theme.LIMIT, "width": 7},
    )  # fmt: skip
    for level, parts in _contours(coverage, budget, price):
        for place, part in enumerate(parts):
            figure.add_scatter3d(
                x=100 * part[:, 0], y=part[:, 1], z=_height(sheets, part) + lift, mode="lines", showlegend=place == 0,
                name=f"one more unit brings {level:.3g}", legendgroup=f"{level:.3g}",
                line={"color": theme.INK, "width": 3},
            )  # fmt: skip
    best = row["optimal"]
    figure.add_scatter3d(
        x=[100 * best["coverage"]], y=[best["spend"]], z=[best["net_benefit"] + lift], mode="markers",
        name="best plan, 95% interval",
        marker={"size": 7, "color": theme.INK, "symbol": "diamond"},
        error_z={"type": "data", "symmetric": False, "array": [best["high"] - best["net_benefit"]],
                 "arrayminus": [best["net_benefit"] - best["low"]], "color": theme.INK, "thickness": 3},
    )  # fmt: skip
    said = f"best plan: {money(best['net_benefit'], currency)}"
    notes = [pages.note(100 * best["coverage"], best["spend"], best["net_benefit"] + lift, said)]
    titles = "coverage (%)", f"budget ({unit})", f"net benefit ({unit})"
    figure.update_layout(scene={**pages.scene(titles), "annotations": notes})
    return figure


def _contours(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> list[tuple[float, list[np.ndarray]]]:
    from contourpy import contour_generator

    found = contour_generator(x, y, z)
    return [(float(level), [np.asarray(part) for part in found.lines(float(level))]) for level in _levels(z)]


def _height(sheets: tuple[np.ndarray, ...], line: np.ndarray) -> np.ndarray:
    from scipy.interpolate import RegularGridInterpolator

    coverage, budget, net, _ = sheets
    return np.asarray(RegularGridInterpolator((budget[:, 0], coverage[0]), net)(line[:, ::-1]))


def _caption(row: Mapping[str, Any], currency: str) -> str:
    best, held = row["optimal"], row["budget"]
    text = (
        f"{row['contrast']}: the best plan treats {best['coverage']:.0%} at a cost of {money(best['spend'], currency)} "
        f"and brings {money(best['net_benefit'], currency)} net ({money(best['low'], currency)} to "
        f"{money(best['high'], currency)}, 95%)."
    )
    if held is None:
        return text + " No budget is declared, so only the coverage is chosen."
    if not held["binding"]:
        return text + f" The budget of {money(held['amount'], currency)} is more than that."
    price = held["shadow_price"]
    more = f", where one more unit of money would bring {price:.3g} net" if price is not None else ""
    return text + f" The budget of {money(held['amount'], currency)} stops it{more}."


_TONES = "PuOr"

SPEC = FigureSpec(
    name="policy_manifold_3d",
    title="Net benefit by coverage and budget",
    question="How many should be treated, and what would more budget bring?",
    draw=draw,
    needs=("policy_value",),
    family="flagship",
    forms=("2d", "3d"),
    reference="Sun, Du & Wager 2021, Treatment Allocation under Uncertain Costs",
)
