"""Designs in which some units gain from treatment and others lose, so that a policy matters; values are known."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = Mapping[str, float]
_NAMES = ("x0", "x1", "x2", "x3")


def _expit(value: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-value)))


def benefit(x: np.ndarray) -> np.ndarray:
    """Effect of treatment in `targeted_benefit`, shape (n,)."""
    return np.asarray(np.where((x[:, 0] > 0) & (x[:, 1] > -0.5), 1.0, -0.6))


def targeted_benefit(n: int, seed: int) -> tuple[Study, Truth]:
    """Treat those with x0 > 0 and x1 > -0.5 to gain 1; all others lose 0.6; logit e = 0.5 x0 + 0.3 x2, g = 1 + x2.

    With q = 0.5 P(x1 > -0.5): nobody 1, everybody 1 + q - 0.6 (1 - q), the best policy 1 + q.
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, len(_NAMES)))
    d = (generator.random(n) < _expit(0.5 * x[:, 0] + 0.3 * x[:, 2])).astype(float)
    y = 1 + x[:, 2] + benefit(x) * d + generator.standard_normal(n)
    gain = 0.25 * (1 + math.erf(0.5 / math.sqrt(2)))
    ate = gain - 0.6 * (1 - gain)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: _NAMES}
    study = Study(pd.DataFrame(x, columns=list(_NAMES)).assign(d=d, y=y), roles, arms=("control", "treated"))
    return study, {"ATE": ate, "nobody": 1.0, "everybody": 1 + ate, "best": 1 + gain}


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design for design in (targeted_benefit,)
}
