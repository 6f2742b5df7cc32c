"""Designs with a continuous dose d that moves with covariates which move the outcome as well.

Twelve covariates: x6 uniform on (-1.5, 1.5), x8 a coin of 0.4, the others standard normal. With
i(x) = 0.5 x0 - 0.4 x2 + 0.2 sin(2 x6) + 0.3 (x8 - 0.4) the dose is 5 + i(x) + normal noise, symmetric about 5 but for
the coin. The outcome is f(d) + g(x) + 0.3 x4 (d - 5) + noise with g = x0 + 0.5 x2 + 0.8 sin(2 x6) + 0.5 (x8 - 0.4), so
E[Y(t)] = f(t). `slope` is E[f'(d)]; `dose_contrast` and `dose_response` are at the two doses that each study declares,
4 and 6 where nothing else is said.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.declaration import Contrast, Declaration
from cqox_assets.study import Role, Study

Truth = Mapping[str, float]
_PAIR = (4.0, 6.0)
_PERIODS = 5


def confounded_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Let f(t) = t - 0.1 (t - 5)^2: slope 1, contrast 2, E[Y(4)] = 3.9, E[Y(6)] = 5.9."""
    return _level(n, seed, lambda t: t - 0.1 * (t - 5) ** 2), _truth(1.0, 3.9, 5.9)


def wavy_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Let f(t) = 2 sin(t - 5): slope 2 E[cos(d - 5)], contrast 4 sin(1)."""
    slope = 2 * math.exp(-0.5) * _mean_cosine()
    return _level(n, seed, lambda t: 2 * np.sin(t - 5)), _truth(slope, -2 * math.sin(1), 2 * math.sin(1))


def null_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep the confounding with f = 0 and no effect for anybody."""
    return _level(n, seed, lambda t: 0.0 * t, uneven=0.0), _truth(0.0, 0.0, 0.0)


def linear_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Let every unit gain 0.5 per unit of dose, the same for all."""
    return _level(n, seed, lambda t: 0.5 * t, uneven=0.0), _truth(0.5, 2.0, 3.0)


def skewed_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Let log d = 0.5 (i(x) + noise) and f(t) = 2 log t: slope 2 E[1 / d], contrast of the doses 0.7 and 1.5."""
    generator = np.random.default_rng(seed)
    x = _covariates(generator, n)
    place = 0.5 * (_index(x) + generator.standard_normal(n))
    y = 2 * place + _outcome(x) + generator.standard_normal(n)
    inverse = math.exp(0.125 * (1 + 0.25 + 0.16)) * _mean_exponential(-0.1) * _coin_exponential(-0.15)
    low, high = (2 * math.log(dose) for dose in (0.7, 1.5))
    truth = {
        "slope": 2 * inverse, "dose_contrast": high - low, "dose_response": low, "dose_response[0.7]": low,
        "dose_response[1.5]": high,
    }  # fmt: skip
    return _study(x, np.exp(place), y, pair=(0.7, 1.5)), truth


def weighted_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Draw units with probability 0.2 + 0.6 [x4 > 0] and weigh by the inverse; slope 1 + 0.5 x4: population 1.

    E[Y(t)] = t; without the weights the slope would be 1.24.
    """
    generator = np.random.default_rng(seed)
    x = _covariates(generator, 4 * n + 200)
    chance = 0.2 + 0.6 * (x[:, 4] > 0)
    drawn = np.flatnonzero(generator.random(len(x)) < chance)[:n]
    x, weight = x[drawn], 1 / chance[drawn]
    d = 5 + _index(x) + generator.standard_normal(n)
    y = 5 + (1 + 0.5 * x[:, 4]) * (d - 5) + _outcome(x) + generator.standard_normal(n)
    return _study(x, d, y, extra={Role.WEIGHT: weight}), _truth(1.0, 4.0, 6.0)


def clustered_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Clusters of five rows share half of the dose's noise variance and a shock of unit variance; f(t) = t."""
    generator = np.random.default_rng(seed)
    x = _covariates(generator, n)
    cluster = np.arange(n) // 5
    common = generator.standard_normal((int(cluster.max()) + 1, 2))[cluster]
    d = 5 + _index(x) + math.sqrt(0.5) * (common[:, 0] + generator.standard_normal(n))
    y = d + _outcome(x) + common[:, 1] + generator.standard_normal(n)
    return _study(x, d, y, extra={Role.CLUSTER: cluster}), _truth(1.0, 4.0, 6.0)


def peaked_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Let f(t) = -(t - 5.5)^2 and higher be better: the best dose is 5.5."""
    study = _level(n, seed, lambda t: -((t - 5.5) ** 2), direction="higher_is_better")
    return study, {**_truth(1.0, -2.25, -0.25), "optimal_dose": 5.5}


def dosed_panel(n: int, seed: int) -> tuple[Study, Truth]:
    """Follow units over five periods with a dose that goes with the unit's level: slope 0.5.

    With x1, x2 normal, persistent within units (correlation 0.5), a_i the unit's level and v, u noise:
    d = sin(x1) / 2 + x2 / 2 + a_i + v, y = 0.5 d + sin(x1) + x2 + x1 x2 / 2 + 2 a_i + 0.3 t + u.
    """
    return _panel(n, seed, 0.5), {"slope": 0.5}


def null_dosed_panel(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep the panel with no effect of the dose."""
    return _panel(n, seed, 0.0), {"slope": 0.0}


def steered_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """Let covariates all but decide the dose, d = 5 + 4 x0 + 2 x2 + noise: overlap and variation must warn."""
    generator = np.random.default_rng(seed)
    x = _covariates(generator, n)
    d = 5 + 4 * x[:, 0] + 2 * x[:, 2] + generator.standard_normal(n)
    y = 0.5 * d + _outcome(x) + generator.standard_normal(n)
    return _study(x, d, y), _truth(0.5, 2.0, 3.0)


def _panel(n: int, seed: int, slope: float) -> Study:
    generator = np.random.default_rng(seed)
    units = max(n // _PERIODS, 2)
    unit, time = np.repeat(np.arange(units), _PERIODS), np.tile(np.arange(1.0, _PERIODS + 1), units)
    own = generator.standard_normal((units, 2))
    x = math.sqrt(0.5) * (own[unit] + generator.standard_normal((len(unit), 2)))
    level = (0.5 * own[:, 0] + generator.standard_normal(units))[unit]
    noise = generator.standard_normal((len(unit), 2))
    d = 0.5 * np.sin(x[:, 0]) + 0.5 * x[:, 1] + level + noise[:, 0]
    y = slope * d + np.sin(x[:, 0]) + x[:, 1] + 0.5 * x[:, 0] * x[:, 1] + 2 * level + 0.3 * time + noise[:, 1]
    frame = pd.DataFrame({"unit": unit, "time": time, "x1": x[:, 0], "x2": x[:, 1], "d": d, "y": y})
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.UNIT: ("unit",), Role.TIME: ("time",),
        Role.COVARIATES: ("x1", "x2"),
    }  # fmt: skip
    return Study(frame=frame, roles=roles)


def _truth(slope: float, low: float, high: float) -> dict[str, float]:
    first, second = (f"dose_response[{dose}]" for dose in _PAIR)
    return {"slope": slope, "dose_contrast": high - low, "dose_response": low, first: low, second: high}


def _mean_cosine() -> float:
    """E[cos(i(x))]: the product of the parts' characteristic functions, real ones but for the coin's small tilt."""
    normal = math.exp(-0.5 * (0.25 + 0.16))
    grid = (np.arange(200_000) + 0.5) / 200_000 * 3 - 1.5
    wave = float(np.mean(np.cos(0.2 * np.sin(2 * grid))))
    coin = 0.6 * math.cos(0.12) + 0.4 * math.cos(0.18)
    return normal * wave * coin


def _mean_exponential(size: float) -> float:
    """E[exp(size sin(2 x6))]."""
    grid = (np.arange(200_000) + 0.5) / 200_000 * 3 - 1.5
    return float(np.mean(np.exp(size * np.sin(2 * grid))))


def _coin_exponential(size: float) -> float:
    """E[exp(size (x8 - 0.4))]."""
    return 0.6 * math.exp(-0.4 * size) + 0.4 * math.exp(0.6 * size)


def _covariates(generator: np.random.Generator, n: int) -> np.ndarray:
    x = generator.standard_normal((n, 12))
    x[:, 6] = generator.uniform(-1.5, 1.5, n)
    x[:, 8] = generator.random(n) < 0.4
    return x


def _index(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x[:, 0] - 0.4 * x[:, 2] + 0.2 * np.sin(2 * x[:, 6]) + 0.3 * (x[:, 8] - 0.4))


def _outcome(x: np.ndarray) -> np.ndarray:
    return np.asarray(x[:, 0] + 0.5 * x[:, 2] + 0.8 * np.sin(2 * x[:, 6]) + 0.5 * (x[:, 8] - 0.4))


def _level(
    n: int,
    seed: int,
    response: Callable[[np.ndarray], np.ndarray],
    uneven: float = 0.3,
    direction: str | None = None,
) -> Study:
    generator = np.random.default_rng(seed)
    x = _covariates(generator, n)
    d = 5 + _index(x) + generator.standard_normal(n)
    y = response(d) + _outcome(x) + uneven * x[:, 4] * (d - 5) + generator.standard_normal(n)
    return _study(x, d, y, direction=direction)


def _study(
    x: np.ndarray,
    d: np.ndarray,
    y: np.ndarray,
    extra: Mapping[Role, np.ndarray] | None = None,
    direction: str | None = None,
    pair: tuple[float, float] = _PAIR,
) -> Study:
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    frame = pd.DataFrame(x, columns=list(names)).assign(d=d, y=y)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: names}
    for role, values in (extra or {}).items():
        frame[str(role)] = values
        roles[role] = (str(role),)
    stated = Declaration(contrast=Contrast(reference=pair[0], compared=(pair[1],)), direction=direction)
    return Study(frame=frame, roles=roles, declaration=stated)


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design
    for design in (
        confounded_dose, wavy_dose, null_dose, linear_dose, skewed_dose, weighted_dose, clustered_dose, peaked_dose,
        steered_dose, dosed_panel, null_dosed_panel,
    )
}  # fmt: skip
