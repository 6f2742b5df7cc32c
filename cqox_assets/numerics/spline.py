"""A flexible design: main effects, hinges at quantiles and pairwise interactions, in standardised columns."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

_MAX_PAIRS_FROM = 14
_MANY_COVARIATES = 30
_TOO_MANY_FOR_HINGES = 120
_WINSOR = 4.0
MAIN_EFFECT_PENALTY = 0.01


@dataclass(frozen=True)
class SplineBasis:
    """Columns of a linear spline with interactions; made by :meth:`fit`.

    Parameters
    ----------
    centre, scale : ndarray of shape (p,)
        Of the covariates.
    knots : tuple of ndarray
        Per covariate, in standardised units; empty for covariates with two values.
    pairs : tuple of (int, int)
        Covariates that are multiplied.
    mean, spread : ndarray of shape (q,)
        Of the raw columns; the constant has mean 0 and spread 1.
    """

    centre: np.ndarray
    scale: np.ndarray
    knots: tuple[np.ndarray, ...]
    pairs: tuple[tuple[int, int], ...]
    mean: np.ndarray
    spread: np.ndarray

    @property
    def width(self) -> int:
        """Columns, the constant included."""
        return 1 + len(self.centre) + sum(len(item) for item in self.knots) + len(self.pairs)

    @property
    def relative_penalty(self) -> np.ndarray:
        """Ridge penalty of each column relative to the common one, shape (q,): constant 0, main effects 0.01, rest 1.

        Main effects are all but free: shrinking them as the rest leaves a third of a standard error of bias under plain
        linear confounding at 1,000 rows, and freeing them costs nothing on smooth or stepped truths (measured).
        """
        result = np.ones(self.width)
        result[0], result[1 : 1 + len(self.centre)] = 0.0, MAIN_EFFECT_PENALTY
        return result

    @cached_property
    def groups(self) -> np.ndarray:
        """Group of each column, shape (q,): constant, main effects, the hinges of each covariate, each product."""
        hinges = [len(item) for item in self.knots if len(item)]
        sizes = [1, len(self.centre), *hinges, *([1] * len(self.pairs))]
        return np.repeat(np.arange(len(sizes)), sizes)

    @classmethod
    def fit(cls, x: np.ndarray, score: np.ndarray | None = None) -> "SplineBasis":
        """Place knots and choose interactions.

        Parameters
        ----------
        x : ndarray of shape (n, p)
        score : ndarray of shape (p,), optional
            Importance of each covariate. Only the 14 highest are multiplied with one another (91 products), so that
            60 covariates give 360 columns and not 2,100; with at most 14 covariates nothing is left out.

        Notes
        -----
        Four hinges per covariate at equally spaced quantiles (two when there are more than 30 covariates, none
        beyond 120). Products use covariates cut at four standard deviations, so that a heavy tail does not get
        leverage squared. Hinges were preferred to cubic pieces because they measured the same error at less cost
        and extrapolate linearly.
        """
        centre, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 1e-12 * np.abs(centre), scale, 1.0)
        z = (x - centre) / scale
        count = 4 if x.shape[1] <= _MANY_COVARIATES else 2 if x.shape[1] <= _TOO_MANY_FOR_HINGES else 0
        knots = tuple(_place_knots(z[:, j], count) for j in range(x.shape[1]))
        order = np.arange(x.shape[1]) if score is None else np.argsort(-score, kind="stable")
        chosen = np.sort(order[:_MAX_PAIRS_FROM]).tolist()
        pairs = tuple((a, b) for position, a in enumerate(chosen) for b in chosen[position + 1 :])
        width = 1 + x.shape[1] + sum(len(item) for item in knots) + len(pairs)
        bare = cls(centre, scale, knots, pairs, np.zeros(width), np.ones(width))
        raw = bare.columns(x)
        mean, spread = raw.mean(0), raw.std(0)
        mean[0], spread[0] = 0.0, 1.0
        # A column without variation carries nothing: an infinite spread turns it into zeros.
        spread = np.where(spread > 1e-9, spread, np.inf)
        return cls(centre, scale, knots, pairs, mean, spread)

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Return the standardised columns for rows of covariates, shape (m, q); the first one is constant."""
        p = len(self.centre)
        z = (x - self.centre) / self.scale
        result = np.empty((len(x), self.width), order="F")
        result[:, 0] = 1.0
        result[:, 1 : 1 + p] = z
        position = 1 + p
        for j, places in enumerate(self.knots):
            for knot in places:
                np.maximum(result[:, 1 + j] - knot, 0.0, out=result[:, position])
                position += 1
        cut = np.asfortranarray(np.clip(z, -_WINSOR, _WINSOR))
        for a, b in self.pairs:
            np.multiply(cut[:, a], cut[:, b], out=result[:, position])
            position += 1
        result -= self.mean
        result /= self.spread
        return result


def _place_knots(z: np.ndarray, count: int) -> np.ndarray:
    levels = np.unique(z[:2000])
    if len(levels) <= 2 and len(levels := np.unique(z)) <= 2:
        return np.empty(0)
    knots = np.unique(np.quantile(z, np.linspace(0, 1, count + 2)[1:-1]))
    return np.asarray(knots[(knots > z.min()) & (knots < z.max())])
