"""Propensity scores: known, or by logistic regression on all units."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.logit import LogitFit, fit_logit


@dataclass(frozen=True)
class PropensityScores:
    """Probability of the compared arm.

    Parameters
    ----------
    probability, linear : ndarray of shape (n,)
        e and its logit.
    fit : LogitFit or None
        None when the propensity is known.
    """

    probability: np.ndarray
    linear: np.ndarray
    fit: LogitFit | None

    @property
    def words(self) -> str:
        """How the propensity was obtained."""
        return "known propensity" if self.fit is None else "propensity by logistic regression, main effects"


def propensity_scores(
    covariates: np.ndarray,
    treated: np.ndarray,
    weights: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> PropensityScores:
    """Return the propensity of each unit.

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
    treated : ndarray of shape (n,)
        1 or 0.
    weights : ndarray of shape (n,), optional
        Sampling weights of the likelihood.
    known : ndarray of shape (n,), optional
        Propensities that the design fixed; used as they are.

    Raises
    ------
    SeparationError
        If the covariates tell the arms apart perfectly.
    CqoxError
        If a known propensity does not lie strictly between 0 and 1.
    """
    if known is None:
        fit = fit_logit(with_constant(covariates), treated, weights)
        return PropensityScores(fit.probability, fit.linear, fit)
    if not np.all((known > 0) & (known < 1)):
        wrong = known[~((known > 0) & (known < 1))][0]
        raise CqoxError(
            f"the known propensity holds {wrong:g}; it must lie strictly between 0 and 1 in every row",
            code="bad_propensity",
        )
    return PropensityScores(known, np.log(known) - np.log1p(-known), None)


def within_trim(probability: np.ndarray, trim: float | None) -> np.ndarray:
    """Return which rows have a propensity between `trim` and 1 - `trim`, shape (n,) of bool."""
    if trim is None:
        return np.ones(len(probability), dtype=bool)
    return np.asarray((probability >= trim) & (probability <= 1 - trim))


def weighted_quantiles(values: np.ndarray, shares: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return quantiles by linear interpolation (R type 7); with weights, positions are cumulated weights.

    Equal weights give type 7 exactly: value k of n sorted ones sits at the share of weight before it.
    """
    if weights is None:
        return np.asarray(np.quantile(values, shares))
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_weights = values[order], weights[order]
    before = np.cumsum(sorted_weights) - sorted_weights
    total = before[-1] if before[-1] > 0 else 1.0
    return np.asarray(np.interp(shares, before / total, sorted_values))
