"""Large-sample variance of matching estimators (Abadie & Imbens 2006, 2016)."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.linear import fit_linear
from cqox_assets.numerics.logit import LogitFit
from cqox_assets.numerics.matching import Matches, nearest_points, nearest_scores

_NEIGHBOURS = 2


@dataclass(frozen=True)
class MatchedSample:
    """What a matching estimator did, unit by unit.

    Parameters
    ----------
    outcome, treated : ndarray of shape (n,)
    difference : ndarray of shape (n,)
        Treated minus control for each matched target unit, its own outcome against the imputed one; NaN elsewhere.
    target : ndarray of bool, shape (n,)
        Units of the estimand that were matched.
    load, load2 : ndarray of shape (n,)
        Sum and sum of squares of the weights with which a unit stands in for others.
    """

    outcome: np.ndarray
    treated: np.ndarray
    difference: np.ndarray
    target: np.ndarray
    load: np.ndarray
    load2: np.ndarray

    @property
    def estimate(self) -> float:
        """Mean difference over the matched target units."""
        return float(self.difference[self.target].mean())

    def variance(self, noise: np.ndarray) -> float:
        """Return the variance of the estimate.

        Parameters
        ----------
        noise : ndarray of shape (n,)
            Conditional variance of each unit's outcome.

        Notes
        -----
        sum over targets (difference - estimate)^2 / N^2 + sum (K^2 - K2 + 2 K [unit is a target]) noise / N^2, which is
        theorem 7 of Abadie & Imbens (2006, doi:10.1111/j.1468-0262.2006.00655.x) for any match weights.
        """
        size = self.target.sum()
        spread = np.sum((self.difference[self.target] - self.estimate) ** 2)
        carried = self.load**2 - self.load2 + 2 * self.load * self.target
        return float((spread + carried @ noise) / size**2)


class LocalDeviation:
    """Deviations from the mean of a unit's nearest neighbours in its own arm, scaled to be unbiased in the square.

    Parameters
    ----------
    treated : ndarray of shape (n,)
    position : ndarray of shape (n,) or (n, k)
        Score, or points in space.
    tolerance : float
        Units as close as the second neighbour up to this enter too.
    """

    def __init__(self, treated: np.ndarray, position: np.ndarray, tolerance: float = 1e-9) -> None:
        self.arms: list[tuple[np.ndarray, Matches]] = []
        for arm in (0, 1):
            rows = np.flatnonzero(treated == arm)
            if position.ndim == 1:
                rows = rows[np.argsort(position[rows], kind="stable")]  # sorted, they are faster to search and to sum
            here = position[rows]
            find = nearest_scores if position.ndim == 1 else nearest_points
            self.arms.append((rows, find(here, here, _NEIGHBOURS + 1, tolerance=tolerance)))
        self.size = len(treated)

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return (v - mean of its ball) * sqrt(c / (c - 1)), c units in the ball, shape (n,)."""
        result = np.zeros(self.size)
        for rows, ball in self.arms:
            count = np.maximum(ball.count, 2)
            result[rows] = (values[rows] - ball.impute(values[rows])) * np.sqrt(count / (count - 1))
        return result


def equal_noise(sample: MatchedSample, imputed: np.ndarray, imputed_square: np.ndarray) -> np.ndarray:
    """Return one common conditional variance for all units, shape (n,).

    Half the mean over target units of the mean over their ties of (y_i - y_j - effect)^2; `imputed` and
    `imputed_square` are the means of y_j and y_j^2 over the ties.
    """
    sign = np.where(sample.treated == 1, 1.0, -1.0)
    own = (sample.outcome - sign * sample.estimate)[sample.target]
    squares = own**2 - 2 * own * imputed[sample.target] + imputed_square[sample.target]
    return np.full(len(sample.outcome), float(np.maximum(squares, 0.0).mean()) / 2)


def estimated_score_term(sample: MatchedSample, fit: LogitFit, deviation: LocalDeviation, estimand: str) -> float:
    """Return what must be added to the variance because the propensity was estimated by a logit.

    Parameters
    ----------
    sample : MatchedSample
        With the differences of ALL units for the ATT and ATC (see Notes), targets as matched.
    fit : LogitFit
    deviation : LocalDeviation
        On the propensity score.
    estimand : str
        ATE, ATT or ATC.

    Returns
    -------
    float
        Negative or zero for the ATE; of either sign for the ATT and ATC.

    Notes
    -----
    Abadie & Imbens (2016, doi:10.3982/ECTA11293): ATE -c'V c; ATT -c'V c + g'V g, V the inverse information. With
    f = e(1 - e), local covariances between covariates and outcome given the score come from each unit's neighbours in
    its own arm, and expectations over all units from that arm's units over their propensity. g, the derivative of the
    ATT in the coefficients, needs E[f x (mu1(x) - mu0(x))]; least squares weighted by 1 - e among the treated and by e
    among the controls gives that moment exactly, whatever the shape of mu1 and mu0.
    """
    e, x, y, treated = fit.probability, fit.design, sample.outcome, sample.treated
    e = np.clip(e, 1e-9, 1 - 1e-9)
    if estimand == "ATC":  # the ATT of the mirrored arms, with the sign of effect and score turned
        e, treated = 1 - e, 1 - treated
    local = np.column_stack([deviation.of(column) for column in x.T]) * deviation.of(y)[:, None]
    one = treated == 1
    if estimand == "ATE":
        weight = np.where(one, (1 - e) / e, e / (1 - e))
        c = (weight @ local) / len(y)
        return -float(c @ fit.bread @ c)
    size = one.sum()
    effect = sample.estimate if estimand == "ATT" else -sample.estimate
    difference = sample.difference if estimand == "ATT" else -sample.difference
    density = e * (1 - e)
    known = np.isfinite(difference)
    c = (density * (np.where(known, difference, effect) - effect)) @ x
    c = (c + np.where(one, 1 - e, e**2 / (1 - e)) @ local) / size
    fits = [fit_linear(x[rows], y[rows], weight[rows]) for rows, weight in ((one, 1 - e), (~one, e)) if rows.sum() > 1]
    slope = np.zeros(x.shape[1])
    slope[fits[0].kept] += fits[0].coef
    slope[fits[1].kept] -= fits[1].coef
    g = (density * (x @ slope - effect)) @ x / size
    return float(g @ fit.bread @ g - c @ fit.bread @ c)
