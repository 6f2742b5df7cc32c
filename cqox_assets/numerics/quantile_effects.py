"""Effects on the quantiles of the outcome: how far treatment moves the low, middle and high outcomes."""

from statistics import NormalDist

import numpy as np
import pandas as pd

from cqox_assets.numerics.group_time import simultaneous_quantile

_DRAWS = 1000
_TIED = 0.05  # share of equal outcomes beyond which a quantile has no density
_MOST = 20_000  # rows that the band's draws use


def quantile_effects(
    outcome: np.ndarray,
    treated: np.ndarray,
    propensity: np.ndarray,
    places: np.ndarray,
    sampling: np.ndarray | None = None,
    *,
    cluster: np.ndarray | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the difference of weighted quantiles at each place, with pointwise intervals and a band.

    Parameters
    ----------
    outcome, treated, propensity : ndarray of shape (n,)
    places : ndarray of shape (m,)
        Between 0 and 1.
    sampling : ndarray of shape (n,), optional
    cluster : ndarray of int, shape (n,), optional
    level : float

    Returns
    -------
    DataFrame
        quantile, treated, control, estimate, std_error, low, high, band_low, band_high.

    Notes
    -----
    Quantiles of the outcome distributions that the whole population would have with and without treatment, by inverse
    propensity weights (Firpo 2007, doi:10.1111/j.1468-0262.2007.00738.x): q solves sum w (1{y <= q} - p) = 0, with
    influence -w (1{y <= q} - p) / f(q). The propensity is taken as known, which makes intervals wider than needed
    rather than narrower. The density is a Gaussian kernel's with Silverman's bandwidth; where it is 0, or more than 5 %
    of the outcomes equal the quantile, the error is unknown (NaN). They are effects on the distribution, not on units:
    those who are at a quantile may change.
    """
    weight = np.ones(len(outcome)) if sampling is None else sampling
    shares = [weight * treated / propensity, weight * (1 - treated) / (1 - propensity)]
    shares = [share / share.sum() for share in shares]
    order = np.argsort(outcome, kind="stable")
    quantiles = [_quantiles(outcome[order], share[order], places) for share in shares]
    densities = [_density(outcome, share, at) for share, at in zip(shares, quantiles, strict=True)]
    rows = np.linspace(0, len(outcome) - 1, min(len(outcome), _MOST)).astype(int)
    kept, error = [], np.full(len(places), np.nan)
    for m, place in enumerate(places):  # one place at a time: rows times places may not fit into memory
        tied = max(float(share[outcome == at[m]].sum()) for share, at in zip(shares, quantiles, strict=True))
        if not min(densities[0][m], densities[1][m]) > 0 or tied > _TIED:
            continue
        one, zero = (
            share * ((outcome <= at[m]) - place) / density[m]
            for share, at, density in zip(shares, quantiles, densities, strict=True)
        )
        influence = zero - one if cluster is None else np.bincount(cluster, weights=zero - one)
        error[m] = np.sqrt(influence @ influence)
        kept.append(influence[rows] if cluster is None else influence)
    error[~(error > 0)] = np.nan
    z = NormalDist().inv_cdf(0.5 + level / 2)
    wide = simultaneous_quantile(np.column_stack(kept), level, _DRAWS, 0) if len(kept) > 1 else z
    estimate = quantiles[0] - quantiles[1]
    return pd.DataFrame(
        {
            "quantile": places, "treated": quantiles[0], "control": quantiles[1], "estimate": estimate,
            "std_error": error, "low": estimate - z * error, "high": estimate + z * error,
            "band_low": estimate - wide * error, "band_high": estimate + wide * error,
        }
    )  # fmt: skip


def _quantiles(ordered: np.ndarray, share: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the smallest value whose cumulated share reaches each place, shape (m,)."""
    return np.asarray(ordered[np.minimum(np.searchsorted(np.cumsum(share), places, side="left"), len(ordered) - 1)])


def _density(outcome: np.ndarray, share: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return a kernel density of the weighted outcome at each place, from a histogram of 2,000 bins."""
    used = share > 0
    low, high = float(outcome[used].min()), float(outcome[used].max())
    mean = float(share @ outcome)
    spread = float(np.sqrt(share @ (outcome - mean) ** 2))
    order = np.argsort(outcome, kind="stable")
    quartiles = _quantiles(outcome[order], share[order], np.array([0.25, 0.75]))
    middle = float(quartiles[1] - quartiles[0]) / 1.349
    scale = min(spread, middle) if middle > 0 else spread
    effective = 1 / float((share**2).sum())
    h = 0.9 * scale * effective**-0.2
    if not h > 0:
        return np.zeros(len(at))
    # One outcome far away would leave all others in one bin; what is 8 bandwidths off weighs nothing.
    low, high = max(low, float(at.min()) - 8 * h), min(high, float(at.max()) + 8 * h)
    margin = 1e-9 * (high - low)
    mass, edges = np.histogram(outcome, 2000, (low - margin, high + margin), weights=share)
    centre = (edges[1:] + edges[:-1]) / 2
    kernel = np.exp(-0.5 * ((at[:, None] - centre) / h) ** 2) / (h * np.sqrt(2 * np.pi))
    return np.asarray(kernel @ mass)
