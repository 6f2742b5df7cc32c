"""Values of treatment policies from data that another policy made: weighting, self-normalised weighting, doubly robust.

A policy is a matrix of probabilities, shape (n, A): which of A arms it gives to each row.
"""

from dataclasses import dataclass

import numpy as np

METHODS = ("IPS", "SNIPS", "DR")


@dataclass(frozen=True)
class Logged:
    """Outcomes under the logging policy, with its nuisances.

    Parameters
    ----------
    y : ndarray of shape (n,)
    arm : ndarray of int, shape (n,)
        Arm that each row had, 0..A-1.
    propensity : ndarray of shape (n, A)
        Probability of each arm given covariates, inside (0, 1).
    mean : ndarray of shape (n, A)
        Predicted outcome under each arm, by models that did not see the row.
    sampling : ndarray of shape (n,)
        Sampling weights of mean one.
    """

    y: np.ndarray
    arm: np.ndarray
    propensity: np.ndarray
    mean: np.ndarray
    sampling: np.ndarray

    @property
    def taken(self) -> np.ndarray:
        """Probability of the arm that was taken, shape (n,)."""
        return np.asarray(np.take_along_axis(self.propensity, self.arm[:, None], axis=1)[:, 0])

    def rows(self, chosen: np.ndarray) -> "Logged":
        """Return the chosen rows (boolean mask), sampling weights of mean one again."""
        sampling = self.sampling[chosen]
        return Logged(
            self.y[chosen], self.arm[chosen], self.propensity[chosen], self.mean[chosen], sampling / sampling.mean()
        )

    def scores(self) -> np.ndarray:
        """Doubly robust score of every arm, shape (n, A): m_a + [arm = a] (y - m_a) / e_a."""
        result = self.mean.copy()
        rows = np.arange(len(self.y))
        result[rows, self.arm] += (self.y - self.mean[rows, self.arm]) / self.taken
        return result


@dataclass(frozen=True)
class PolicyValue:
    """Mean outcome under a policy, its influence function, and the weights that it rests on."""

    value: float
    influence: np.ndarray
    weights: np.ndarray


def policy_value(logged: Logged, policy: np.ndarray, method: str, scores: np.ndarray | None = None) -> PolicyValue:
    """Return the mean outcome if arms were given by a policy.

    Parameters
    ----------
    logged : Logged
    policy : ndarray of shape (n, A)
    method : str
        `IPS`: mean of w y with w = policy(arm) / propensity(arm) (Horvitz & Thompson 1952). `SNIPS`: sum w y / sum w
        (Swaminathan & Joachims 2015). `DR`: mean of sum_a policy(a) score_a (Dudik, Erhan, Langford & Li 2014,
        doi:10.1214/14-STS500).
    scores : ndarray of shape (n, A), optional
        From `Logged.scores`, so that they are made once.
    """
    weight = np.take_along_axis(policy, logged.arm[:, None], axis=1)[:, 0] / logged.taken
    sampling = logged.sampling
    if method == "DR":
        each = (policy * (logged.scores() if scores is None else scores)).sum(axis=1)
    elif method == "IPS":
        each = weight * logged.y
    else:
        size = float(np.mean(sampling * weight))
        value = float(np.mean(sampling * weight * logged.y) / size) if size > 0 else np.nan
        return PolicyValue(value, sampling * weight * (logged.y - value) / size, sampling * weight)
    value = float(np.mean(sampling * each))
    return PolicyValue(value, sampling * (each - value), sampling * weight)
