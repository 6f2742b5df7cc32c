"""Designs with one treated unit among donors: y_it = 2 a_i f_t + b_i g_t + 0.5 noise, a and b uniform on (0, 1).

f and g are random walks over 20 periods; unit 1 is treated from period 16 on.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = Mapping[str, float]
_PERIODS, _STARTS = 20, 16


def _donors(n: int, seed: int, effect: float, outlying: float = 0.0) -> Study:
    generator = np.random.default_rng(seed)
    units = max(n // _PERIODS, 4)
    loadings = generator.uniform(0, 1, (units, 2))
    loadings[1] += outlying
    factors = 3 + generator.standard_normal((2, _PERIODS)).cumsum(axis=1)
    unit, time = np.repeat(np.arange(units), _PERIODS), np.tile(np.arange(1.0, _PERIODS + 1), units)
    treated = ((unit == 1) & (time >= _STARTS)) * 1.0
    y = (loadings * [2, 1]) @ factors + 0.5 * generator.standard_normal((units, _PERIODS))
    frame = pd.DataFrame({"unit": unit, "time": time, "d": treated, "y": y.ravel() + effect * treated})
    frame["x"] = generator.standard_normal(len(frame))
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",), Role.TIME: ("time",),
        Role.COVARIATES: ("x",),
    }  # fmt: skip
    return Study(frame=frame, roles=roles, arms=("untreated", "treated"))


def one_treated_unit(n: int, seed: int) -> tuple[Study, Truth]:
    """Raise the treated unit's outcome by 1: ATT = 1."""
    return _donors(n, seed, 1.0), {"ATT": 1.0}


def null_unit(n: int, seed: int) -> tuple[Study, Truth]:
    """Change nothing: ATT = 0."""
    return _donors(n, seed, 0.0), {"ATT": 0.0}


def outlying_unit(n: int, seed: int) -> tuple[Study, Truth]:
    """Give the treated unit loadings that no average of donors has: the fit before treatment must warn."""
    return _donors(n, seed, 1.0, outlying=3.0), {"ATT": 1.0}


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design for design in (one_treated_unit, null_unit, outlying_unit)
}
