"""What a unit of a regressor does to a unit itself, to its neighbours and in all, with standard errors or draws."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cqox_assets.numerics.spatial_models import (
    SpatialError,
    SpatialFit,
    fit_error_gm,
    fit_error_ml,
    fit_lag_ml,
    fit_lag_two_stage,
    fit_slx,
)
from cqox_assets.numerics.spatial_traces import Determinant, determinant_near, solver

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

KINDS = ("direct", "indirect", "total")


@dataclass(frozen=True)
class Multiplier:
    """How coefficients become impacts: factors of a regressor and of its neighbours' mean, and their derivatives.

    Parameters
    ----------
    direct, total : tuple of four float
        Mean diagonal (row sum) of A and of A W, and the derivatives of both in the rate.
    """

    direct: tuple[float, float, float, float]
    total: tuple[float, float, float, float]

    def impacts(self, own: int, near: int | None, coef: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return direct, indirect and total impact and their gradients in coefficients and rate, shapes (3,), (3, k+1).

        Parameters
        ----------
        own, near : int, int or None
            Positions of the regressor and of its neighbours' mean among the coefficients.
        """
        values, slopes = np.zeros(3), np.zeros((3, len(coef) + 1))
        for row, (a, g, da, dg) in ((0, self.direct), (2, self.total)):
            beyond = 0.0 if near is None else float(coef[near])
            values[row] = coef[own] * a + beyond * g
            slopes[row, own] = a
            if near is not None:
                slopes[row, near] = g
            slopes[row, -1] = coef[own] * da + beyond * dg
        values[1], slopes[1] = values[2] - values[0], slopes[2] - slopes[0]
        return values, slopes


def multiplier_of(fit: SpatialFit, matrix: "csr_matrix") -> Multiplier:
    """Return the multiplier of a fit; without a lag of the outcome nothing spreads beyond the neighbours."""
    if fit.model == "lag" and fit.traces is not None:
        return Multiplier(fit.traces.direct(), fit.traces.total())
    near = float(matrix.sum()) / matrix.shape[0]
    return Multiplier((1.0, 0.0, 0.0, 0.0), (1.0, near, 0.0, 0.0))


@dataclass(frozen=True)
class Refit:
    """What a bootstrap repeats: the data and the fit; `turn` takes coefficients to the units asked for."""

    outcome: np.ndarray
    x: np.ndarray
    matrix: "csr_matrix"
    instruments: np.ndarray
    fit: SpatialFit
    turn: np.ndarray

    def resampled(self, pairs: list[tuple[int, int | None]], draws: int, seed: int) -> np.ndarray:
        """Return impacts of resampled innovations, shape (draws, len(pairs), 3); draws without a fit are left out.

        Parameters
        ----------
        pairs : list of (int, int or None)
            Positions of a regressor and of its neighbours' mean among the coefficients.
        draws, seed : int

        Notes
        -----
        Rows depend on one another, so it is the innovations that are drawn, and outcomes are rebuilt from them
        (Anselin 1990, doi:10.1111/j.1435-5597.1990.tb01215.x).
        """
        generator = np.random.default_rng(seed)
        n, k = self.x.shape
        noise = (self.fit.innovations - self.fit.innovations.mean()) * np.sqrt(n / max(n - k, 1))
        window = self._window()
        spread = solver(self.matrix, self.fit.rate)
        mean, found = self.x @ self.fit.coef, []
        for _ in range(draws):
            drawn = noise[generator.integers(0, n, n)]
            outcome = spread(mean + drawn) if self.fit.model == "lag" else mean + spread(drawn)
            try:
                again = self._again(outcome, window)
            except SpatialError:
                continue
            multiplier = self._multiplier(again, window)
            found.append([multiplier.impacts(own, near, self.turn @ again.coef)[0] for own, near in pairs])
        return np.array(found)

    def _window(self) -> Determinant | None:
        if self.fit.model == "slx" or self.fit.form == "gm":
            return None
        error = float(np.sqrt(self.fit.covariance[-1, -1]))
        return determinant_near(self.matrix, self.fit.rate, min(max(8 * error, 0.05), 0.9), 25)

    def _again(self, outcome: np.ndarray, window: Determinant | None) -> SpatialFit:
        if self.fit.model == "slx":
            return fit_slx(outcome, self.x)
        if self.fit.model == "error":
            if self.fit.form == "gm":
                return fit_error_gm(outcome, self.x, self.matrix)
            return fit_error_ml(outcome, self.x, self.matrix, window, brief=True)
        if self.fit.form == "2sls":
            return fit_lag_two_stage(outcome, self.x, self.matrix, self.instruments, brief=True)
        return fit_lag_ml(outcome, self.x, self.matrix, window, brief=True)

    def _multiplier(self, fit: SpatialFit, window: Determinant | None) -> Multiplier:
        if fit.model != "lag" or window is None:
            return multiplier_of(fit, self.matrix)
        n, rate = self.matrix.shape[0], float(np.clip(fit.rate, window.low, window.high))
        g = -window.slope(rate) / n
        sums = np.asarray(self.matrix.sum(axis=1)).ravel()
        near = 1 / (1 - rate)
        if not np.allclose(sums, 1):
            near = float((self.matrix @ solver(self.matrix, rate)(np.ones(n))).mean())
        return Multiplier((1 + rate * g, g, 0.0, 0.0), (1 + rate * near, near, 0.0, 0.0))
