"""Panels in which treatment starts and ends again, with a known effect.

Units are followed over seven periods. An untreated unit enters in period 3, 4 or 5 with probability
expit(-1.2 + 0.6 x), x its covariate of the period before, standard normal and new in every period; a treated unit
leaves with probability 0.3 per period. With a_i a normal level and noise of unit variance
y_it = a_i + 0.3 t + 0.5 x_it + effect D_it + noise, so trends are parallel given the last x. Who enters is likelier to
be treated later than who does not, so the effect at a lead is that of treatment times the difference in chances: a
recursion gives it.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.numerics.logit import expit
from cqox_assets.study import Role, Study

Truth = Mapping[str, float]
_PERIODS, _OPEN, _STAY = 7, (3, 4, 5), 0.7


def _study(frame: pd.DataFrame) -> Study:
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",), Role.TIME: ("time",),
        Role.COVARIATES: ("x",),
    }  # fmt: skip
    return Study(frame=frame, roles=roles, arms=("untreated", "treated"))


def _returning(n: int, seed: int, effect: float) -> Study:
    generator = np.random.default_rng(seed)
    units = max(n // _PERIODS, 1)
    x = generator.standard_normal((units, _PERIODS))
    draw = generator.random((units, _PERIODS))
    d = np.zeros((units, _PERIODS))
    for t in range(1, _PERIODS):
        enters = (draw[:, t] < expit(-1.2 + 0.6 * x[:, t - 1])) & (t + 1 in _OPEN)
        d[:, t] = np.where(d[:, t - 1] == 1, draw[:, t] < _STAY, enters)
    time = np.arange(1, _PERIODS + 1)
    noise = generator.standard_normal((units, _PERIODS))
    y = generator.standard_normal(units)[:, None] + 0.3 * time + 0.5 * x + effect * d + noise
    frame = pd.DataFrame({"unit": np.repeat(np.arange(units), _PERIODS), "time": np.tile(time * 1.0, units)})
    return _study(frame.assign(d=d.ravel(), x=x.ravel(), y=y.ravel()))


def _truth(effect: float) -> Truth:
    """Return the effect by lead, averaged over who enters when, and its mean over leads 0 to 2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    enter = float(expit(-1.2 + 0.6 * nodes) @ weights / weights.sum())
    untreated, starts = 1.0, []
    for _ in _OPEN:
        starts.append(untreated * enter)
        untreated = untreated * (1 - enter) + (1 - untreated) * (1 - _STAY)
    gaps = []
    for start in _OPEN:
        gap = [1.0]
        for lead in (1, 2):
            gap.append(gap[-1] * (_STAY - enter * (start + lead in _OPEN)))
        gaps.append(gap)
    by_lead = effect * np.average(gaps, axis=0, weights=starts)
    return {"ATT": float(by_lead.mean()), **{f"ATT[{lead}]": float(value) for lead, value in enumerate(by_lead)}}


def returning_treatment(n: int, seed: int) -> tuple[Study, Truth]:
    """Treatment of effect 1 that starts and ends again."""
    return _returning(n, seed, 1.0), _truth(1.0)


def null_returning(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the same treatment do nothing."""
    return _returning(n, seed, 0.0), _truth(0.0)


def all_at_once(n: int, seed: int) -> tuple[Study, Truth]:
    """One unit in ten starts in period 3 and all others in period 4, where nobody is left: matched share must warn."""
    generator = np.random.default_rng(seed)
    units = max(n // _PERIODS, 1)
    start = np.where(np.arange(units) % 10 == 0, 3, 4)
    unit, time = np.repeat(np.arange(units), _PERIODS), np.tile(np.arange(1, _PERIODS + 1), units)
    d = (time >= start[unit]) * 1.0
    y = generator.standard_normal(units)[unit] + 0.3 * time + d + generator.standard_normal(len(unit))
    frame = pd.DataFrame({"unit": unit, "time": time * 1.0, "d": d, "y": y})
    return _study(frame.assign(x=generator.standard_normal(len(unit)))), {"ATT": 1.0}


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design for design in (returning_treatment, null_returning, all_at_once)
}
