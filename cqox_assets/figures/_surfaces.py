"""The effect over two covariates: which two, the smoothed surface, and its highest and lowest places."""

from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.drivers import drivers_of
from cqox_assets.diagnostics.surface import effect_surface
from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _marks as marks
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _words as words
from cqox_assets.figures._units import UnitEffects
from cqox_assets.study import Role

LEVEL = 0.95
_VALUES = 8  # distinct values from which a covariate makes an axis
_LEAST = 100  # units
_NEAR = 4  # cells within which two extremes are one


def surface_of(item: UnitEffects) -> tuple[pd.DataFrame, tuple[str, str]]:
    """Return the surface (x, y, estimate, std_error, low, high on a square grid) and the labels of both covariates.

    Raises
    ------
    NotDrawnError
        If there are too few units, covariates or places with units.
    """
    if len(item.rows) < _LEAST:
        raise NotDrawnError(f"{len(item.rows)} units are too few for a surface")
    names = axes_of(item)
    x, y = (item.study.frame[name].to_numpy(dtype=float) for name in names)
    data = effect_surface(item.score, x, y, item.sampling, item.study.codes(Role.CLUSTER))
    z = marks.errors(LEVEL)
    data = data.assign(low=data["estimate"] - z * data["std_error"], high=data["estimate"] + z * data["std_error"])
    if data["estimate"].notna().sum() < 20:
        raise NotDrawnError("the rows lie along a line of both covariates, so there is no surface")
    return data, (item.study.label(names[0]), item.study.label(names[1]))


def axes_of(item: UnitEffects) -> tuple[str, str]:
    """Return the two covariates of at least 8 values that predicted effects depend on most."""
    names = item.study.names(Role.COVARIATES)
    found = drivers_of(item.study.matrix(), item.effect) if names else None
    if found is None:
        raise NotDrawnError("predicted effects do not depend on any single covariate")
    order = [names[place] for place in np.argsort(-found.importance, kind="stable")]
    wide = [name for name in order if item.study.frame[name].nunique() >= _VALUES]
    if len(wide) < 2:
        raise NotDrawnError(f"fewer than two covariates have {_VALUES} values or more")
    return wide[0], wide[1]


def sheets(data: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Return x, y, estimate, low and high as square arrays; rows of the arrays share y."""
    cells = int(np.sqrt(len(data)))
    columns = ("x", "y", "estimate", "low", "high")
    return tuple(data[name].to_numpy(dtype=float).reshape(cells, cells) for name in columns)


def axes_and_bar(figure: Any, axis: Any, filled: Any, item: UnitEffects, labels: tuple[str, str]) -> None:
    """Label both axes of a map and put the colour bar of the effect beside it."""
    theme.numbers(axis)
    axis.set_xlabel(theme.shorten(labels[0], 60))
    axis.set_ylabel(theme.shorten(labels[1], 44))
    marks.colour_bar(figure, axis, filled, words.effect(item.study, cells=40))


def extremes(z: np.ndarray, sign: int, most: int = 3) -> list[tuple[int, int]]:
    """Return the places that are above (sign 1) or below (sign -1) all their neighbours, the most extreme first.

    At an edge a place without neighbours on one side may be an extreme, because the surface ends there.
    """
    held = np.pad(np.where(np.isfinite(z), sign * z, -np.inf), 1, constant_values=-np.inf)
    rows, columns = z.shape
    around = np.max(
        [held[1 + a : 1 + a + rows, 1 + b : 1 + b + columns] for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b], axis=0
    )
    found = [(int(a), int(b)) for a, b in np.argwhere(np.isfinite(z) & (held[1:-1, 1:-1] > around))]
    kept: list[tuple[int, int]] = []
    for place in sorted(found, key=lambda place: -sign * z[place]):
        if all(max(abs(place[0] - other[0]), abs(place[1] - other[1])) > _NEAR for other in kept):
            kept.append(place)
    return kept[:most]


def ridge(z: np.ndarray, sign: int) -> list[tuple[int, int]]:
    """Return, per column in which it lies inside, the place of the largest (sign 1) or smallest (sign -1) value."""
    found = []
    for column in range(z.shape[1]):
        known = np.flatnonzero(np.isfinite(z[:, column]))
        if len(known) >= 3:
            row = int(known[np.argmax(sign * z[known, column])])
            if row not in (known[0], known[-1]):
                found.append((row, column))
    return found
