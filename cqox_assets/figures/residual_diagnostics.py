"""Residuals of the linear regression: against fitted values, against the normal distribution, and their scale."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.residuals import residual_table
from cqox_assets.errors import MappingError, NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.loess import loess
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role

_DRAWN = 2000


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw three panels: residual vs fitted, normal quantiles, and scale vs fitted."""
    try:
        rows = residual_table(inputs.study)
    except MappingError as error:
        raise NotDrawnError(error.message) from error
    if len(rows) < 10:
        raise NotDrawnError(f"{len(rows)} rows are too few to look at residuals")
    rows["normal"] = normal_places(rows["studentised"].to_numpy())
    figure, ((one, two, three),) = theme.grid(1, 3, (9.0, 3.7))
    theme.title(figure, "Residuals of the linear regression")
    drawn = _sample(rows)
    unit = words.outcome(inputs.study, 26)
    _panel(one, drawn["fitted"], drawn["residual"], loess(rows["fitted"].to_numpy(), rows["residual"].to_numpy()))
    one.axhline(0, color=theme.INK, linewidth=1)
    one.set_xlabel("fitted")
    one.set_ylabel(f"residual of {unit}")
    _quantiles(two, drawn)
    size = np.sqrt(np.abs(rows["studentised"].to_numpy()))
    _panel(three, drawn["fitted"], np.sqrt(np.abs(drawn["studentised"])), loess(rows["fitted"].to_numpy(), size))
    three.set_ylim(bottom=0)
    three.set_xlabel("fitted")
    three.set_ylabel("root of the studentised size")
    for axis, text in ((one, "Is it straight?"), (two, "Is it normal?"), (three, "Is the scale even?")):
        marks.heading(axis, text, 30)
        theme.numbers(axis, nbins=4)
    far = int((np.abs(rows["studentised"]) > 4).sum())
    z = (rows["studentised"] - rows["studentised"].mean()) / rows["studentised"].std(ddof=0)
    skew = float((z**3).mean())
    said = "" if len(drawn) == len(rows) else f" {len(drawn):,} of {len(rows):,} rows are drawn, the outermost all."
    caption = (
        f"{words.label(inputs.study, Role.OUTCOME)} on treatment and covariates, {len(rows):,} rows: skewness "
        f"{skew:.2g}, {far:,} residuals beyond 4 standard deviations.{said} Red lines are local regressions with "
        "95% bands."
    )
    return Drawing(figure, drawn, caption, f"Three scatter plots of regression residuals. {caption}")


def normal_places(values: np.ndarray) -> np.ndarray:
    """Return the normal quantile at each value's rank (Blom 1958), shape (n,)."""
    from scipy.special import ndtri

    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
    return np.asarray(ndtri((rank - 0.375) / (len(values) + 0.25)))


def _sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Return at most about `_DRAWN` rows: the 50 largest residuals of either sign, and evenly spaced others."""
    if len(rows) <= _DRAWN:
        return rows
    order = np.argsort(rows["studentised"].to_numpy(), kind="stable")
    picked = np.union1d(np.concatenate([order[:50], order[-50:]]), marks.evenly(len(rows), _DRAWN))
    return rows.iloc[picked].reset_index(drop=True)


def _panel(axis: Any, x: Any, y: Any, line: pd.DataFrame) -> None:
    theme.sides(axis)
    marks.cloud(axis, x, y, theme.QUIET, 6)
    marks.band(
        axis, line["x"], (line["fit"] - 1.96 * line["std_error"], line["fit"] + 1.96 * line["std_error"]), theme.LIMIT
    )
    axis.plot(line["x"], line["fit"], color=theme.LIMIT, linewidth=1.8, zorder=4)


def _quantiles(axis: Any, rows: pd.DataFrame) -> None:
    theme.sides(axis)
    marks.cloud(axis, rows["normal"], rows["studentised"], theme.QUIET, 6)
    ends = np.array([rows["normal"].min(), rows["normal"].max()])
    axis.plot(ends, ends, color=theme.LIMIT, linewidth=1.5, zorder=4)
    axis.set_xlabel("normal quantile")
    axis.set_ylabel("studentised residual")


SPEC = FigureSpec(
    name="residual_diagnostics",
    title="Residuals of the linear regression",
    question="Does the linear regression bend, scatter unevenly or have heavy tails?",
    draw=draw,
    needs=("outcome", "treatment"),
    family="diagnostics",
    reference="Cook & Weisberg 1982, Residuals and Influence in Regression",
)
