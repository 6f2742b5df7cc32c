"""Trials with skewed outcomes: symmetric intervals miss on one side, and with infinite variance all of them fail."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = Mapping[str, float]


def _trial(n: int, seed: int, share: float, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Study:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(n)
    d = (generator.random(n) < share).astype(float)
    y = 0.3 * x + 0.5 * d + np.where(d == 1, draw(generator, n), generator.standard_normal(n))
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x",)}
    return Study(pd.DataFrame({"x": x, "d": d, "y": y}), roles, arms=("control", "treated"))


def skewed_outcome(n: int, seed: int) -> tuple[Study, Truth]:
    """Give the treated (a tenth) exponential noise of mean 0 and variance 1; ATE = ATT = 0.5."""
    return _trial(n, seed, 0.1, lambda generator, m: generator.standard_exponential(m) - 1), {"ATE": 0.5, "ATT": 0.5}


def heavy_tails(n: int, seed: int) -> tuple[Study, Truth]:
    """Give the treated Pareto noise of index 1.2: mean 0 but no variance, so that single rows rule; ATE = 0.5."""

    def pareto(generator: np.random.Generator, m: int) -> np.ndarray:
        return np.asarray(generator.pareto(1.2, m) - 1 / 0.2)

    return _trial(n, seed, 0.5, pareto), {"ATE": 0.5, "ATT": 0.5}


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design for design in (skewed_outcome, heavy_tails)
}
