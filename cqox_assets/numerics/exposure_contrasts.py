"""Means of exposure conditions, their contrasts, and whether the treatment looks assigned as stated."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.numerics.exposure import Reach, distinct


@dataclass(frozen=True)
class Contrast:
    """A difference of condition means, as the value that each unit adds under its own condition.

    Parameters
    ----------
    estimate : float
    value : ndarray of shape (n,)
        The estimate's linear part is the sum of value / (probability of the own condition) over `units`.
    involved : ndarray of bool, shape (4,)
    included : ndarray of bool, shape (n,)
        Units that the means are about: those that can have both conditions, or all.
    """

    estimate: float
    value: np.ndarray
    involved: np.ndarray
    included: np.ndarray

    @property
    def units(self) -> int:
        """Number of units that the contrast is about."""
        return int(self.included.sum())


def contrast(
    outcome: np.ndarray, condition: np.ndarray, probability: np.ndarray, compared: int | None, reference: int | None,
    form: str, *, everybody: bool = False,
) -> Contrast:  # fmt: skip
    """Compare two conditions among the units that can have both, or each among the units that can have it.

    Parameters
    ----------
    outcome : ndarray of shape (n,)
    condition : ndarray of int, shape (n,)
    probability : ndarray of shape (n, 4)
    compared : int or None
        None is the mixture of conditions as they were assigned: the plain mean.
    reference : int or None
        None compares with nothing: the mean itself.
    form : str
        `hajek`, `horvitz_thompson` or `unweighted`.
    everybody : bool
        Whether a unit that can have only one of the conditions enters the mean of that one; Horvitz-Thompson means are
        then sums over the number of all units.
    """
    ends = [end for end in (compared, reference) if end is not None]
    included = np.all(probability[:, ends] > 0, axis=1) | everybody
    involved = np.zeros(4, dtype=bool)
    involved[ends if compared is not None else slice(None)] = True
    estimate, value = 0.0, np.zeros(len(outcome))
    for end, sign in ((compared, 1.0), (reference, -1.0)):
        if end is None and sign < 0:
            continue
        rows = included if end is None else included & (condition == end)
        own = probability[np.flatnonzero(rows), condition[rows]]
        mean, part = _mean(outcome[rows], own, int(included.sum()), "mixture" if end is None else form)
        estimate += sign * mean
        value[rows] += sign * part
    return Contrast(estimate, value, involved, included)


def _mean(outcome: np.ndarray, probability: np.ndarray, units: int, form: str) -> tuple[float, np.ndarray]:
    """Return the mean of one condition and the value that each of its units adds, shape (m,)."""
    if form == "mixture":
        mean = float(outcome.mean())
        return mean, probability * (outcome - mean)
    if form == "horvitz_thompson":
        return float(np.sum(outcome / probability) / units), outcome
    if form == "hajek":
        mean = float(np.sum(outcome / probability) / np.sum(1 / probability))
        return mean, outcome - mean
    mean = float(outcome.mean())
    return mean, probability * (units / len(outcome)) * (outcome - mean)


def design_p(reach: Reach, treated: np.ndarray, *, known: bool) -> tuple[float | None, str]:
    """Test whether blocks were treated independently with the stated chances.

    Parameters
    ----------
    reach : Reach
    treated : ndarray of shape (n,)
    known : bool
        Whether the chances were stated; else they are the observed share, which their number cannot contradict.

    Returns
    -------
    float or None
        Smallest p-value times the number of tests: as many treated as stated; treated and untreated blocks as much
        tied to their like as independence says. None if nothing can be tested.
    str
        What was found.
    """
    from scipy.special import ndtr

    chance = reach.chance
    rest = (np.bincount(reach.own, weights=treated, minlength=len(chance)) > 0) - chance
    variance = chance * (1 - chance)
    found: list[tuple[float, str]] = []
    if known and variance.sum() > 0:
        z = float(rest.sum() / np.sqrt(variance.sum()))
        found.append((z, f"{int((rest + chance).sum())} treated where {chance.sum():.1f} are expected"))
    one, other = np.repeat(reach.own, np.diff(reach.start)), reach.block
    low, high = np.minimum(one, other), np.maximum(one, other)
    key = distinct((low * len(chance) + high)[low != high])
    low, high = key // len(chance), key % len(chance)
    spread = float(np.sum(variance[low] * variance[high]))
    if spread > 0:
        z = float(np.sum(rest[low] * rest[high]) / np.sqrt(spread))
        found.append((z, f"treatment of tied units is correlated, {np.sum(rest[low] * rest[high]) / len(key):+.3f}"))
    if not found:
        return None, "there is nothing random to test"
    z, words = max(found, key=lambda item: abs(item[0]))
    return min(1.0, len(found) * 2 * float(ndtr(-abs(z)))), f"{words} (z = {z:.2f})"
