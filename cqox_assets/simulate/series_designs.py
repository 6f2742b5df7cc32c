"""Designs of one interrupted series: trend, a covariate, and noise that may carry over between periods.

y_t = 2 + (6 / n) t + 0.5 x_t + level step_t + slope step_t (t - change) + e_t, the change at the middle of n periods,
x standard normal, e_t = rho e_{t-1} + N(0, 1).
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = Mapping[str, float]


def _series(n: int, seed: int, level: float, slope: float, rho: float) -> Study:
    from scipy.signal import lfilter

    generator = np.random.default_rng(seed)
    time = np.arange(1.0, n + 1)
    change = n // 2 + 1
    step = (time >= change) * 1.0
    covariate = generator.standard_normal(n)
    noise = lfilter([1.0], [1.0, -rho], generator.standard_normal(n + 100))[100:]
    y = 2 + 6 / n * time + 0.5 * covariate + level * step + slope * step * (time - change) + noise
    frame = pd.DataFrame({"time": time, "d": step, "y": y, "x": covariate})
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.TIME: ("time",), Role.COVARIATES: ("x",)}
    return Study(frame=frame, roles=roles, arms=("before", "after"))


def interrupted_series(n: int, seed: int) -> tuple[Study, Truth]:
    """Raise the level by 1 and the slope by 0.01, with a carry-over of 0.2."""
    return _series(n, seed, 1.0, 0.01, 0.2), {"level_change": 1.0, "slope_change": 0.01}


def null_series(n: int, seed: int) -> tuple[Study, Truth]:
    """Change nothing, with a carry-over of 0.2."""
    return _series(n, seed, 0.0, 0.0, 0.2), {"level_change": 0.0, "slope_change": 0.0}


def wandering_series(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the series wander (carry-over 0.98): its trend is not stable, and Durbin-Watson must warn."""
    return _series(n, seed, 0.0, 0.0, 0.98), {"level_change": 0.0, "slope_change": 0.0}


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design for design in (interrupted_series, null_series, wandering_series)
}
