"""Panel designs with a known effect: staggered treatment, clusters, weights, trends that diverge.

Units i are followed over five periods t = 1..5 and start treatment in period 3 or 4, or never. With w_i a standard
normal trait that also drives who starts, a_i a normal level and noise of unit variance, the outcome without treatment
is y_it = a_i + 0.3 t + 0.2 w_i t + noise: trends are parallel given w. The effect is 1 in every treated period.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = Mapping[str, float]
_PERIODS = 5


def _panel(n: int, seed: int, effect: float = 1.0, drift: float = 0.0, size: int = 1, weights: bool = False) -> Study:
    """Return a panel of about n rows; `drift` is the extra slope of the treated, `size` the units per cluster."""
    generator = np.random.default_rng(seed)
    units = max(n // _PERIODS, 1)
    cluster = np.arange(units) // size
    groups = int(cluster[-1]) + 1
    trait = generator.standard_normal(groups)[cluster] if size > 1 else generator.standard_normal(units)
    index = np.clip(0.5 * trait, -1.5, 1.5)
    draw = generator.random(groups)[cluster]
    share = 1 / (1 + np.exp(-index))
    cohort = np.where(draw < 0.5 * share, 3, np.where(draw < share, 4, np.inf))
    time = np.tile(np.arange(1, _PERIODS + 1), units)
    unit = np.repeat(np.arange(units), _PERIODS)
    treated = (time >= cohort[unit]) * 1.0
    shock = generator.standard_normal((groups, _PERIODS))[cluster[unit], time - 1] * (1.0 if size > 1 else 0.0)
    level = generator.standard_normal(units) + trait
    trend = 0.3 + 0.2 * trait[unit] + drift * np.isfinite(cohort[unit])
    y = level[unit] + trend * time + effect * treated + shock + generator.standard_normal(len(unit))
    frame = pd.DataFrame({"unit": unit, "time": time * 1.0, "d": treated, "y": y, "w": trait[unit]})
    frame["z"] = generator.standard_normal(units)[unit]
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",), Role.TIME: ("time",),
        Role.COVARIATES: ("w", "z"),
    }  # fmt: skip
    if size > 1:
        frame["cluster"] = cluster[unit]
        roles[Role.CLUSTER] = ("cluster",)
    if weights:
        frame["weight"] = generator.uniform(0.5, 2.0, units)[unit]
        roles[Role.WEIGHT] = ("weight",)
    return Study(frame=frame, roles=roles, arms=("untreated", "treated"))


def staggered_panel(n: int, seed: int) -> tuple[Study, Truth]:
    """Two cohorts and the never treated: ATT = 1 in every treated period."""
    return _panel(n, seed), {"ATT": 1.0}


def clustered_panel(n: int, seed: int) -> tuple[Study, Truth]:
    """Clusters of four units start together and share shocks of unit variance in every period: ATT = 1."""
    return _panel(n, seed, size=4), {"ATT": 1.0}


def weighted_panel(n: int, seed: int) -> tuple[Study, Truth]:
    """Draw sampling weights between 0.5 and 2, one per unit: ATT = 1."""
    return _panel(n, seed, weights=True), {"ATT": 1.0}


def null_panel(n: int, seed: int) -> tuple[Study, Truth]:
    """Nothing happens when treatment starts: ATT = 0."""
    return _panel(n, seed, effect=0.0), {"ATT": 0.0}


def diverging_trends(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the treated gain 0.5 per period anyway: ATT = 1, nothing recovers it, and the pre-trend test must warn."""
    return _panel(n, seed, drift=0.5), {"ATT": 1.0}


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design
    for design in (staggered_panel, clustered_panel, weighted_panel, null_panel, diverging_trends)
}
