"""Treatments repeated in time with a known effect of always against never treating.

Before each of three treatments a binary state l_k is seen; it drives the treatment and the outcome, and earlier
treatments change it, so that adjusting for it as a plain covariate is wrong and leaving it out is, too::

    l_0 ~ coin 0.4           l_k ~ coin expit(-0.2 + l_{k-1} - 0.9 a_{k-1})
    a_k ~ coin expit(s (-0.6 + 1.1 l_k + 0.9 a_{k-1}))
    y = 10 + x + b (l_0 + l_1 + l_2) - c (a_0 + 1.5 a_1 + 2 a_2) + m a_2 l_2 + noise

with x a standard normal trait that also moves every treatment by 0.3 x. The truth is summed over all paths of the
states. By default s = 1, b = 2, c = 1, m = 0.
"""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = Mapping[str, float]
_EFFECTS = np.array([-1.0, -1.5, -2.0])


def _expit(value: np.ndarray | float) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.asarray(value, dtype=float))))


def _truth(effect: float, feedback: float, product_effect: float, burden: float = 2.0) -> float:
    """Mean outcome under always minus under never treating, summed over the eight paths of the states."""
    means = []
    for a in (1.0, 0.0):
        total = 0.0
        for states in product((0.0, 1.0), repeat=3):
            chance = 0.4 if states[0] else 0.6
            for k in (1, 2):
                one = float(_expit(-0.2 + states[k - 1] - feedback * a))
                chance *= one if states[k] else 1 - one
            total += chance * (burden * sum(states) + effect * a * _EFFECTS.sum() + product_effect * a * states[2])
        means.append(total)
    return float(means[0] - means[1])


def _course(
    n: int,
    seed: int,
    *,
    effect: float = 1.0,
    feedback: float = 0.9,
    product_effect: float = 0.0,
    strength: tuple[float, float, float] = (-0.6, 1.1, 0.9),
    size: int = 1,
    weights: bool = False,
) -> Study:
    generator = np.random.default_rng(seed)
    cluster = np.arange(n) // size
    shared = generator.standard_normal(int(cluster[-1]) + 1)[cluster] if size > 1 else np.zeros(n)
    x = shared if size > 1 else generator.standard_normal(n)
    start, by_state, by_treatment = strength
    columns: dict[str, np.ndarray] = {"x": x}
    state, a = np.zeros(n), np.zeros(n)
    y = 10 + x + generator.standard_normal(n)
    for k in range(3):
        chance = np.full(n, 0.4) if k == 0 else _expit(-0.2 + state - feedback * a)
        state = (generator.random(n) < chance).astype(float)
        a = (generator.random(n) < _expit(start + by_state * state + by_treatment * a + 0.3 * x)).astype(float)
        columns |= {f"l{k}": state, f"a{k}": a}
        y = y + 2 * state + effect * _EFFECTS[k] * a
    y = y + product_effect * a * state
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("a0", "a1", "a2"), Role.COVARIATES: ("x", "l0", "l1", "l2"),
    }  # fmt: skip
    if size > 1:
        y = y + generator.standard_normal(int(cluster[-1]) + 1)[cluster]
        columns["cluster"] = cluster
        roles[Role.CLUSTER] = ("cluster",)
    return Study(frame=pd.DataFrame(columns).assign(y=y), roles=roles, arms=("control", "treated"))


def repeated_treatment(n: int, seed: int) -> tuple[Study, Truth]:
    """Let early treatment improve later states: always against never is -5.42, -4.5 of it direct."""
    return _course(n, seed), {"regime_contrast": _truth(1.0, 0.9, 0.0)}


def repeated_clusters(n: int, seed: int) -> tuple[Study, Truth]:
    """Share trait and a shock of unit variance within clusters of five rows."""
    return _course(n, seed, size=5), {"regime_contrast": _truth(1.0, 0.9, 0.0)}


def null_repeated(n: int, seed: int) -> tuple[Study, Truth]:
    """Let treatments follow the states but change nothing: the contrast is 0."""
    return _course(n, seed, effect=0.0, feedback=0.0), {"regime_contrast": 0.0}


def interacting_history(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the last treatment act only by its state (m = 4): main effects are wrong, and their test must warn."""
    return _course(n, seed, product_effect=4.0), {"regime_contrast": _truth(1.0, 0.9, 4.0)}


def rare_regime(n: int, seed: int) -> tuple[Study, Truth]:
    """Let treatment be rare and never repeated at once: hardly anybody is always treated, and the rows must warn."""
    return _course(n, seed, strength=(-1.5, 0.5, -2.5)), {"regime_contrast": _truth(1.0, 0.9, 0.0)}


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design
    for design in (repeated_treatment, repeated_clusters, null_repeated, interacting_history, rare_regime)
}
