"""The outcome over the covariate that explains most of it, by arm, with local regressions."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.numerics.loess import loess
from cqox_assets.numerics.partial import binned_means
from cqox_assets.spec import Drawing, FigureSpec, Inputs
from cqox_assets.study import Role, Study

_DRAWN = 3000
_MOST = 5  # arms
_LEVEL = 0.95


def draw(inputs: Inputs, form: str = "2d") -> Drawing:
    """Draw rows as dots and one line with its band per arm; beyond 3,000 rows some are drawn, evenly spaced."""
    study = inputs.study.studied()
    column, share = strongest(study)
    x, y = study.frame[column].to_numpy(dtype=float), study.column(Role.OUTCOME)
    arms = _arms(study)
    names = [arm for arm in study.arms if (arms == arm).any()] or ["all"]
    figure, axis = theme.single(7.2, 4.6)
    theme.sides(axis)
    theme.title(figure, "Outcome and its strongest covariate")
    kept, lines, coin = marks.evenly(len(x), _DRAWN), [], len(np.unique(y)) <= 2
    heights: list[float] = [] if coin else list(y)
    z = marks.errors(_LEVEL)
    for name in names[:_MOST]:
        colour = theme.arm_colour(study.arms, name) if name in study.arms else theme.ARMS[0]
        rows = kept[arms[kept] == name]
        if coin:
            heights += _shares(axis, x[arms == name], y[arms == name], colour)
        else:
            marks.cloud(axis, x[rows], y[rows], colour, 7)
        line = loess(x[arms == name], y[arms == name], 0.6)
        marks.band(
            axis, line["x"], (line["fit"] - z * line["std_error"], line["fit"] + z * line["std_error"]), colour, 0.25
        )
        axis.plot(line["x"], line["fit"], color=colour, linewidth=2.4, zorder=4)
        lines.append(line.assign(arm=name))
    limits = marks.extent(x, 0.03), marks.extent(heights, 0.04)
    axis.set_xlim(*limits[0])
    axis.set_ylim(*limits[1])
    theme.numbers(axis)
    axis.set_xlabel(theme.shorten(study.label(column), 70))
    axis.set_ylabel(words.outcome(study))
    marks.legend(figure, [(f"{name}: rows and local regression", theme.arm_colour(study.arms, name) if study.arms
                           else theme.ARMS[0], "line") for name in names[:_MOST]])  # fmt: skip
    said = f" {len(kept):,} of {len(x):,} rows are drawn, evenly spaced in the table." if len(kept) < len(x) else ""
    said = " Dots are means of rows of similar values, with 95% intervals." if coin else said
    said += _outside(x, None if coin else y, limits)
    caption = (
        f"{study.label(column)} alone explains {share:.1%} of the outcome's variance, the most of "
        f"{len(study.names(Role.COVARIATES))} covariates. Lines are local regressions with 95% bands.{said}"
    )
    data = pd.concat(lines, ignore_index=True)
    if data.empty:
        raise NotDrawnError(f"'{study.label(column)}' does not vary within the arms")
    return Drawing(figure, data, caption, f"Scatter plot of the outcome with a smooth line per arm. {caption}")


def _outside(x: np.ndarray, y: np.ndarray | None, limits: tuple[tuple[float, float], tuple[float, float]]) -> str:
    """Return how many rows the axes do not hold, for the caption."""
    beyond = (x < limits[0][0]) | (x > limits[0][1])
    if y is not None:
        beyond = beyond | (y < limits[1][0]) | (y > limits[1][1])
    return f" {int(beyond.sum()):,} rows lie outside the picture." if beyond.any() else ""


def strongest(study: Study) -> tuple[str, float]:
    """Return the covariate of most distinct values that explains most of the outcome, and the share it explains.

    Covariates of three or more values come before coins, on which a smooth line says nothing.
    """
    y, x, names = study.column(Role.OUTCOME), study.matrix(), study.names(Role.COVARIATES)
    if len(y) < 10:
        raise NotDrawnError(f"{len(y)} rows are too few for a line")
    spread = y.std()
    scale = x.std(axis=0)
    if not spread > 0 or not (scale > 0).any():
        raise NotDrawnError("the outcome or every covariate is constant")
    r2 = ((x - x.mean(axis=0)).T @ (y - y.mean()) / len(y) / np.where(scale > 0, scale, np.inf) / spread) ** 2
    many = np.array([len(np.unique(x[:20_000, place])) > 2 for place in range(x.shape[1])])
    if not many.any():
        raise NotDrawnError("every covariate has two values at most, so there is no line to draw")
    best = int(np.where(many, r2, -1.0).argmax())
    return names[best], float(r2[best])


def _shares(axis: Any, x: np.ndarray, y: np.ndarray, colour: str) -> list[float]:
    """Draw means of an outcome of two values over bins of the covariate; return the ends of their intervals."""
    rows = binned_means(x, y, 15)
    low, high = (rows["mean"] + sign * marks.errors(_LEVEL) * rows["std_error"].fillna(0.0) for sign in (-1, 1))
    axis.vlines(rows["x"], low, high, color=colour, linewidth=0.9, alpha=0.5)
    axis.scatter(rows["x"], rows["mean"], s=14, color=colour, alpha=0.8, linewidths=0, zorder=3)
    return [*low, *high]


def _arms(study: Study) -> np.ndarray:
    if not study.arms or len(study.names(Role.TREATMENT)) != 1:
        return np.full(len(study), "all", dtype=object)
    return np.asarray(np.array(study.arms, dtype=object)[study.column(Role.TREATMENT).astype(int)])


SPEC = FigureSpec(
    name="scatter_regression",
    title="Outcome and its strongest covariate",
    question="How does the outcome depend on the covariate that explains most of it?",
    draw=draw,
    needs=("outcome", "covariates"),
    family="diagnostics",
    reference="Cleveland 1979, doi:10.1080/01621459.1979.10481038",
)
