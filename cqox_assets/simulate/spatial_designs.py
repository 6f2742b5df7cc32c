"""Maps with a known effect: a square lattice with its eight neighbours each, or scattered places with coordinates.

x is standard normal, d a coin with odds exp(0.5 x), e noise of unit variance, W the row-standardised neighbours:
y = (I - 0.4 W)^-1 (1 + x + effect d + e) where outcomes depend on neighbours, and
y = 1 + x + effect d + (I - 0.6 W)^-1 e where noise does. Truths: `total` effect / (1 - 0.4), `direct` effect times the
mean diagonal of the inverse, `indirect` the rest.
A lattice has the largest square number of units that is not above n.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cqox_assets.numerics.logit import expit
from cqox_assets.numerics.spatial_traces import solver, traces_of
from cqox_assets.numerics.spatial_weights import NeighbourRule, find_neighbours
from cqox_assets.study import Role, Study

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Truth = Mapping[str, float]
_RHO, _LAMBDA = 0.4, 0.6
_SOLVED = 5_000


@cache
def _lattice(side: int) -> "tuple[csr_matrix, pd.DataFrame]":
    """Return W and the edges, each once, of a square lattice."""
    place = np.arange(side * side)
    row, column = place // side, place % side
    pairs = []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        inside = (row + down < side) & (column + right < side) & (column + right >= 0)
        pairs.append(np.column_stack([place[inside], place[inside] + down * side + right]))
    edges = pd.DataFrame(np.concatenate(pairs) + 1000, columns=["source", "target"])
    frame = pd.DataFrame({"unit": place + 1000})
    study = Study(frame=frame, roles={Role.UNIT: ("unit",)}, tables={"edges": edges})
    return find_neighbours(study, NeighbourRule("edges")).matrix, edges


@cache
def _diagonal(side: int) -> float:
    """Return the mean diagonal of (I - 0.4 W)^-1 of a lattice."""
    matrix = _lattice(side)[0]
    n = matrix.shape[0]
    if n > _SOLVED:
        return traces_of(matrix, _RHO).direct()[0]
    solve, total = solver(matrix, _RHO), 0.0
    for start in range(0, n, 500):
        block = np.zeros((n, min(500, n - start)))
        block[start + np.arange(block.shape[1]), np.arange(block.shape[1])] = 1.0
        total += float(solve(block)[start + np.arange(block.shape[1]), np.arange(block.shape[1])].sum())
    return total / n


def _truth(effect: float, diagonal: float, rate: float) -> Truth:
    total = effect / (1 - rate)
    return {"direct": effect * diagonal, "indirect": total - effect * diagonal, "total": total}


def _side(n: int) -> int:
    return max(int(np.sqrt(n)), 2)


def _map(n: int, seed: int, effect: float = 1.0, rho: float = 0.0, noise: float = 0.0, kind: str = "coin") -> Study:
    generator = np.random.default_rng(seed)
    matrix, edges = _lattice(_side(n))
    units = matrix.shape[0]
    x, e = generator.standard_normal(units), generator.standard_normal(units)
    if kind == "dose":
        d = 0.5 * x + generator.standard_normal(units)
    elif kind == "arms":
        d = generator.integers(0, 3, units).astype(float)
    else:
        d = (generator.random(units) < expit(0.5 * x)).astype(float)
    mean = 1 + x + effect * d + (solver(matrix, noise)(e) if noise else e)
    y = solver(matrix, rho)(mean) if rho else mean
    frame = pd.DataFrame({"unit": np.arange(units) + 1000, "d": d, "x": x, "y": y})
    frame["z"] = generator.standard_normal(units)
    arms = {"dose": (), "arms": ("none", "low", "high")}.get(kind, ("untreated", "treated"))
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",), Role.COVARIATES: ("x", "z")}
    return Study(frame=frame, roles=roles, arms=arms, tables={"edges": edges})


def lattice_lag(n: int, seed: int) -> tuple[Study, Truth]:
    """Outcomes depend on neighbours' outcomes; effect 1."""
    return _map(n, seed, rho=_RHO), _truth(1.0, _diagonal(_side(n)), _RHO)


def lattice_error(n: int, seed: int) -> tuple[Study, Truth]:
    """Let noise depend on neighbours' noise; effect 1, and nothing spills over."""
    return _map(n, seed, noise=_LAMBDA), {"direct": 1.0, "total": 1.0}


def lattice_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Give a dose 0.5 x + normal in place of the coin; effect 1 per unit."""
    return _map(n, seed, rho=_RHO, kind="dose"), _truth(1.0, _diagonal(_side(n)), _RHO)


def lattice_arms(n: int, seed: int) -> tuple[Study, Truth]:
    """Draw the arms none, low and high with equal chances; effects 0.5 and 1 in a map of the lag."""
    low, high = (_truth(effect, _diagonal(_side(n)), _RHO) for effect in (0.5, 1.0))
    truth = {**low, **{f"{key}[low]": value for key, value in low.items()}}
    study = _map(n, seed, effect=0.5, rho=_RHO, kind="arms")
    return study, {**truth, **{f"{key}[high]": value for key, value in high.items()}}


def null_lattice(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the treatment do nothing where outcomes depend on neighbours."""
    return _map(n, seed, effect=0.0, rho=_RHO), _truth(0.0, 1.0, _RHO)


def lattice_lag_and_error(n: int, seed: int) -> tuple[Study, Truth]:
    """Let outcomes and noise both depend on neighbours, which neither model allows: the test of the rest must warn."""
    return _map(n, seed, rho=_RHO, noise=_LAMBDA), _truth(1.0, _diagonal(_side(n)), _RHO)


def scattered_lag(n: int, seed: int) -> tuple[Study, Truth]:
    """Scatter places over ten by fifteen degrees; outcomes depend on those of the eight nearest; effect 1."""
    generator = np.random.default_rng(seed)
    latitude, longitude = 40 + 10 * generator.random(n), 15 * generator.random(n)
    x, e = generator.standard_normal(n), generator.standard_normal(n)
    d = (generator.random(n) < expit(0.5 * x)).astype(float)
    frame = pd.DataFrame({"latitude": latitude, "longitude": longitude, "d": d, "x": x, "y": 0.0})
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.LATITUDE: ("latitude",), Role.LONGITUDE: ("longitude",),
        Role.COVARIATES: ("x",),
    }  # fmt: skip
    study = Study(frame=frame, roles=roles, arms=("untreated", "treated"))
    matrix = find_neighbours(study, NeighbourRule("nearest", nearest=8)).matrix
    frame["y"] = solver(matrix, _RHO)(1 + x + d + e)
    return study, _truth(1.0, traces_of(matrix, _RHO).direct()[0], _RHO)


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design
    for design in (
        lattice_lag,
        lattice_error,
        lattice_dose,
        lattice_arms,
        null_lattice,
        lattice_lag_and_error,
        scattered_lag,
    )
}
