"""Log-determinant and traces of spatial multipliers: exact where that is cheap, by probes elsewhere.

A = (I - r W)^-1 is how a shock spreads from neighbour to neighbour, and G = W A. W is sparse; A is never formed for
more than a thousand rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.polynomial import chebyshev

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_DENSE = 1_000
_FACTORED = 50_000
EDGE = 1 - 1e-6


def _factors(matrix: "csr_matrix", rate: float) -> Any:
    """Return sparse triangular factors of I - rate W; its diagonal outweighs its rows, so nothing needs pivoting."""
    from scipy.sparse import csc_matrix, identity
    from scipy.sparse.linalg import splu

    full = csc_matrix(identity(matrix.shape[0]) - rate * matrix)
    return splu(full, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


def solver(matrix: "csr_matrix", rate: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function b -> (I - rate W)^-1 b, for columns b of shape (n,) or (n, m).

    By sparse factors up to 50,000 rows; beyond, by summing what comes back from ever farther neighbours.
    """
    if matrix.shape[0] <= _FACTORED:
        factors = _factors(matrix, rate)
        return lambda columns: np.asarray(factors.solve(np.ascontiguousarray(columns)))

    def spread(columns: np.ndarray) -> np.ndarray:
        total, step = columns.copy(), columns
        for _ in range(5_000):
            step = rate * (matrix @ step)
            total += step
            if np.abs(step).max() <= 1e-12 * np.abs(total).max():
                break
        return total

    return spread


def log_determinant(matrix: "csr_matrix", rate: float) -> float:
    """Return ln |I - rate W| from sparse triangular factors."""
    return float(np.log(np.abs(_factors(matrix, rate).U.diagonal())).sum())


@dataclass(frozen=True)
class Determinant:
    """ln |I - r W| as a polynomial on a window of r.

    Parameters
    ----------
    low, high : float
        The window.
    series : ndarray
        Chebyshev coefficients.
    """

    low: float
    high: float
    series: np.ndarray

    def __call__(self, rate: float) -> float:
        """Return the log-determinant at a rate of the window."""
        return float(chebyshev.chebval(self._at(rate), self.series))

    def slope(self, rate: float) -> float:
        """Return its derivative, which is minus the trace of G."""
        return float(chebyshev.chebval(self._at(rate), chebyshev.chebder(self.series))) * 2 / (self.high - self.low)

    def _at(self, rate: float) -> float:
        return (2 * rate - self.low - self.high) / (self.high - self.low)


def determinant_near(matrix: "csr_matrix", centre: float, half: float, nodes: int) -> Determinant:
    """Return the log-determinant on a window around a rate, from its exact values at Chebyshev nodes."""
    low, high = max(centre - half, -EDGE), min(centre + half, EDGE)
    place = np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    rates = (low + high) / 2 + (high - low) / 2 * place
    values = np.array([log_determinant(matrix, rate) for rate in rates])
    return Determinant(low, high, chebyshev.chebfit(place, values, nodes - 1))


def series_determinant(matrix: "csr_matrix", terms: int = 60) -> Callable[[float], float]:
    """Return ln |I - r W| = -sum_k r^k tr(W^k) / k by probes, the traces up to the fourth power exact.

    References
    ----------
    Barry & Pace (1999, doi:10.1016/S0024-3795(97)10009-X).
    """
    exact = _leading(matrix)
    probe = _probes(matrix.shape[0])
    step, traces = probe, []
    for _ in range(terms):
        step = matrix @ step
        traces.append(float(np.einsum("ij,ij->", probe, step)) / probe.shape[1])
    traces[: len(exact)] = exact
    powers = np.arange(1, terms + 1)
    weights = np.array(traces) / powers
    return lambda rate: -float(rate**powers @ weights)


def _leading(matrix: "csr_matrix") -> list[float]:
    """Return the exact traces of the first four powers of W, or of the first two where the third costs too much."""
    second = float(matrix.multiply(matrix.T).sum())
    if float((matrix.getnnz(axis=1).astype(float) ** 2).sum()) > 3e7:
        return [0.0, second]
    square = (matrix @ matrix).tocsr()
    return [0.0, second, float(square.multiply(matrix.T).sum()), float(square.multiply(square.T).sum())]


def _probes(n: int) -> np.ndarray:
    """Return random signs, shape (n, m), always the same ones."""
    count = int(np.clip(round(200_000 / n), 4, 32))
    return np.asarray(np.random.default_rng(20_240_229).integers(0, 2, (n, count)) * 2.0 - 1.0)


@dataclass(frozen=True)
class Traces:
    """Traces of G = W (I - r W)^-1, and row sums, per unit where that is said.

    Parameters
    ----------
    g, gg, cross, coupling : float
        tr(G), tr(G G), tr(G'G), tr((W + W') G).
    sums : tuple of three float
        Mean row sums of A, G, G G.
    n : int
    rate : float
    """

    g: float
    gg: float
    cross: float
    coupling: float
    sums: tuple[float, float, float]
    n: int
    rate: float

    def direct(self) -> tuple[float, float, float, float]:
        """Return the mean diagonals of A and G and their derivatives in the rate."""
        a = 1 + self.rate * self.g / self.n
        return a, self.g / self.n, (self.g + self.rate * self.gg) / self.n, self.gg / self.n

    def total(self) -> tuple[float, float, float, float]:
        """Return the mean row sums of A and G and their derivatives in the rate."""
        a, g, gg = self.sums
        return a, g, g + self.rate * gg, gg


def traces_of(matrix: "csr_matrix", rate: float, solve: Callable[[np.ndarray], np.ndarray] | None = None) -> Traces:
    """Return the traces at a rate; exact up to 1,000 rows, beyond by probes of what the leading terms leave.

    `solve` is the solver of the rate, if there is one already.
    """
    n = matrix.shape[0]
    solve = solver(matrix, rate) if solve is None else solve
    if n <= _DENSE:
        dense = matrix.toarray()
        spread = matrix @ solve(np.eye(n))
        g, gg, cross = np.trace(spread), np.sum(spread * spread.T), np.sum(spread**2)
        coupling = np.sum(dense * spread.T) + np.sum(dense * spread)
    else:
        g, gg, cross, coupling = _probed(matrix, rate, solve)
    one = matrix @ solve(np.ones(n))
    two = matrix @ solve(one)
    sums = 1 + rate * float(one.mean()), float(one.mean()), float(two.mean())
    return Traces(float(g), float(gg), float(cross), float(coupling), sums, n, rate)


def _probed(
    matrix: "csr_matrix", rate: float, solve: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float, float, float]:
    """Return tr(G), tr(GG), tr(G'G), tr((W + W')G): of G = W + r W W + ... the first two terms' traces are exact."""
    probe = _probes(matrix.shape[0])
    once = matrix @ probe
    twice = matrix @ once
    spread = matrix @ solve(probe)
    again = matrix @ solve(spread)
    square = (matrix @ matrix).tocsr()
    t2, t3 = float(matrix.multiply(matrix.T).sum()), float(square.multiply(matrix.T).sum())
    f1, f2 = float(matrix.multiply(matrix).sum()), float(matrix.multiply(square).sum())

    def mean(left: np.ndarray, right: np.ndarray) -> float:
        return float(np.einsum("ij,ij->", left, right) / probe.shape[1])

    rest = spread - once - rate * twice
    g = rate * t2 + mean(probe, rest)
    gg = t2 + 2 * rate * t3 + mean(probe, again - twice - 2 * rate * (matrix @ twice))
    cross = f1 + 2 * rate * f2 + mean(spread, spread) - mean(once, once) - 2 * rate * mean(once, twice)
    coupling = t2 + rate * t3 + mean(probe, matrix @ rest) + f1 + rate * f2 + mean(once, rest)
    return g, gg, cross, coupling
