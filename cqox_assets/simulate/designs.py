"""Data designs with a known effect; tests, benchmarks and coverage tables use them.

Every design is a function `(n, seed) -> (Study, truth)`. `truth` maps an estimand to its population value; of several
arms, `ATE` and `ATT` are those of the first compared arm, and `ATE[<arm>]` those of each. Twelve covariates x0..x11 are
common to most designs: x0, x2, x3, x4, x5, x7, x9 standard normal, x1 normal with correlation 0.5 to x0, x6 uniform on
(-1.5, 1.5), x8 a coin of 0.4, x10 exponential cut at 5, x11 uniform on 0..4. e(x) is the propensity, tau(x) the effect,
g(x) the mean outcome of the reference arm and noise is standard normal: y = g(x) + tau(x) d + noise.
ATE = E[tau]; ATT = E[tau e] / E[e], by closed form or by quadrature on a lattice of 131,071 points (error below 1e-3).
"""

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from cqox_assets.numerics.logit import expit
from cqox_assets.study import Role, Study

Truth = Mapping[str, float]
Design = Callable[[int, int], tuple[Study, Truth]]
Curve = Callable[[np.ndarray], np.ndarray]
_COVARIATES = 12
_LATTICE = 131_071


def randomised_trial(n: int, seed: int) -> tuple[Study, Truth]:
    """Coin of one half; tau = 1 + 0.5 x0, g = x0 + 0.5 x2: ATE = ATT = 1."""
    generator = np.random.default_rng(seed)
    x = _covariates(generator.random((n, _COVARIATES)))
    d = (generator.random(n) < 0.5).astype(float)
    y = x[:, 0] + 0.5 * x[:, 2] + (1 + 0.5 * x[:, 0]) * d + generator.standard_normal(n)
    return _study(x, d, y), {"ATE": 1.0, "ATT": 1.0}


def confounded_linear(n: int, seed: int) -> tuple[Study, Truth]:
    """Logit e = 0.5 x0 - 0.4 x2 + 0.3 x8 - 0.3 x4, g = x0 + 0.5 x2 - 0.5 x4 + 0.5 x8, tau = 1: ATE = ATT = 1."""
    return _observational(n, seed, _linear_index, _linear_outcome, lambda x: np.ones(len(x))), {"ATE": 1.0, "ATT": 1.0}


def confounded_smooth(n: int, seed: int) -> tuple[Study, Truth]:
    """Smooth, nonlinear confounding and effect: ATE = 1.25, ATT = 1.379.

    Logit e = 0.5 x0 - 0.4 x2 + 0.4 sin(2 x6) + 0.3 x8 + 0.3 x0 x2 - 0.2 (x10 - 1), cut at +-2.5;
    g = x0 + 0.5 x2 + sin(2 x6) + 0.5 x0 x2 + 0.5 x8 + 0.3 x10 + 0.2 x3; tau = 1 + 0.5 x0 + 0.5 [x6 > 0].
    """
    study = _observational(n, seed, _smooth_index, _smooth_outcome, _smooth_effect)
    return study, {"ATE": 1.25, "ATT": _att(_smooth_index, _smooth_effect)}


def confounded_step(n: int, seed: int) -> tuple[Study, Truth]:
    """Confounding and effect in steps: ATE = 1.3, ATT = 1.388.

    With a = [x0 > 0][x2 < 0.5], b = [x6 > 0.3]: logit e = 1.2 a - 0.6 + 0.8 b x8 - 0.5 [x4 > 0.7];
    g = 1.5 a + b [x4 > 0] + 0.8 [x10 > 1.5] - 0.5 [x4 > 0.7]; tau = 1 + [x0 > 0] - 0.5 b.
    """
    study = _observational(n, seed, _step_index, _step_outcome, _step_effect)
    return study, {"ATE": 1.3, "ATT": _att(_step_index, _step_effect)}


def three_arms(n: int, seed: int) -> tuple[Study, Truth]:
    """Arms none, low, high drawn with odds 1 : exp(0.4 x0) : exp(-0.4 x0); effects 0.5 and 1, g = x0 + 0.5 x2."""
    generator = np.random.default_rng(seed)
    x = _covariates(generator.random((n, _COVARIATES)))
    odds = np.column_stack([np.ones(n), np.exp(0.4 * x[:, 0]), np.exp(-0.4 * x[:, 0])])
    edges = np.cumsum(odds / odds.sum(1, keepdims=True), axis=1)
    d = (generator.random(n)[:, None] > edges[:, :2]).sum(1).astype(float)
    y = x[:, 0] + 0.5 * x[:, 2] + 0.5 * d + generator.standard_normal(n)
    truth = {"ATE": 0.5, "ATT": 0.5, "ATE[low]": 0.5, "ATT[low]": 0.5, "ATE[high]": 1.0, "ATT[high]": 1.0}
    return _study(x, d, y, arms=("none", "low", "high")), truth


def clustered_trial(n: int, seed: int) -> tuple[Study, Truth]:
    """Clusters of ten rows share a coin of one half and a normal shock (SD 0.7); tau = 1, g = x0 + 0.5 x2."""
    generator = np.random.default_rng(seed)
    x = _covariates(generator.random((n, _COVARIATES)))
    cluster = np.arange(n) // 10
    groups = int(cluster.max()) + 1
    d = (generator.random(groups) < 0.5).astype(float)[cluster]
    shock = 0.7 * generator.standard_normal(groups)[cluster]
    y = x[:, 0] + 0.5 * x[:, 2] + d + shock + generator.standard_normal(n)
    return _study(x, d, y, extra={Role.CLUSTER: cluster}), {"ATE": 1.0, "ATT": 1.0}


def weighted_sample(n: int, seed: int) -> tuple[Study, Truth]:
    """Units are sampled with probability 0.2 + 0.6 [x0 > 0] and carry the inverse as weight; population ATE = 1.

    Coin of one half, tau = 1 + [x0 > 0] - 0.5, g = x0 + 0.5 x2. Without the weights the answer would be 1.3.
    """
    generator = np.random.default_rng(seed)
    x = _covariates(generator.random((4 * n + 200, _COVARIATES)))
    chance = 0.2 + 0.6 * (x[:, 0] > 0)
    drawn = np.flatnonzero(generator.random(len(x)) < chance)[:n]
    x, weight = x[drawn], 1 / chance[drawn]
    d = (generator.random(len(x)) < 0.5).astype(float)
    y = x[:, 0] + 0.5 * x[:, 2] + (0.5 + (x[:, 0] > 0)) * d + generator.standard_normal(len(x))
    return _study(x, d, y, extra={Role.WEIGHT: weight}), {"ATE": 1.0, "ATT": 1.0}


def no_overlap(n: int, seed: int) -> tuple[Study, Truth]:
    """Logit e = 4 x0 + 2 x2, g = x0 + 0.5 x2, tau = 1: few units have a counterpart; overlap and weights must warn."""
    study = _observational(
        n, seed, lambda x: 4 * x[:, 0] + 2 * x[:, 2], lambda x: x[:, 0] + 0.5 * x[:, 2], lambda x: np.ones(len(x))
    )
    return study, {"ATE": 1.0, "ATT": 1.0}


def hidden_confounder(n: int, seed: int) -> tuple[Study, Truth]:
    """Hide a normal u that drives both: logit e = 0.5 x0 + u, g = x0 + u, tau = 1.

    No adjustment for what is seen recovers 1; a sensitivity analysis must say how strong such a u may be.
    """
    generator = np.random.default_rng(seed)
    x = _covariates(generator.random((n, _COVARIATES)))
    u = generator.standard_normal(n)
    d = (generator.random(n) < expit(0.5 * x[:, 0] + u)).astype(float)
    y = x[:, 0] + u + d + generator.standard_normal(n)
    return _study(x, d, y), {"ATE": 1.0, "ATT": 1.0}


def null_effect(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep the confounding of `confounded_linear` with tau = 0: ATE = ATT = 0."""
    return _observational(n, seed, _linear_index, _linear_outcome, lambda x: np.zeros(len(x))), {"ATE": 0.0, "ATT": 0.0}


def null_trial(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep the trial of `randomised_trial` with tau = 0: for estimators that need randomisation."""
    generator = np.random.default_rng(seed)
    x = _covariates(generator.random((n, _COVARIATES)))
    d = (generator.random(n) < 0.5).astype(float)
    return _study(x, d, x[:, 0] + 0.5 * x[:, 2] + generator.standard_normal(n)), {"ATE": 0.0, "ATT": 0.0}


_COMMON: Mapping[str, Design] = {
    design.__name__: design
    for design in (
        randomised_trial,
        confounded_linear,
        confounded_smooth,
        confounded_step,
        three_arms,
        clustered_trial,
        weighted_sample,
        no_overlap,
        hidden_confounder,
        null_effect,
        null_trial,
    )
}


def _families() -> dict[str, Design]:
    """Return the designs of the modules beside this one whose names end in `_designs`."""
    found: dict[str, Design] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.endswith("_designs"):
            found |= import_module(f"cqox_assets.simulate.{module.name}").DESIGNS
    return found


DESIGNS: Mapping[str, Design] = {**_COMMON, **_families()}


def _linear_index(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x[:, 0] - 0.4 * x[:, 2] + 0.3 * x[:, 8] - 0.3 * x[:, 4])


def _linear_outcome(x: np.ndarray) -> np.ndarray:
    return np.asarray(x[:, 0] + 0.5 * x[:, 2] - 0.5 * x[:, 4] + 0.5 * x[:, 8])


def _smooth_index(x: np.ndarray) -> np.ndarray:
    wave, product = np.sin(2 * x[:, 6]), x[:, 0] * x[:, 2]
    index = 0.5 * x[:, 0] - 0.4 * x[:, 2] + 0.4 * wave + 0.3 * x[:, 8] + 0.3 * product - 0.2 * (x[:, 10] - 1)
    return np.asarray(np.clip(index, -2.5, 2.5))


def _smooth_outcome(x: np.ndarray) -> np.ndarray:
    bent = np.sin(2 * x[:, 6]) + 0.5 * x[:, 0] * x[:, 2]
    return np.asarray(x[:, 0] + 0.5 * x[:, 2] + bent + 0.5 * x[:, 8] + 0.3 * x[:, 10] + 0.2 * x[:, 3])


def _smooth_effect(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 + 0.5 * x[:, 0] + 0.5 * (x[:, 6] > 0))


def _step_index(x: np.ndarray) -> np.ndarray:
    corner, late = (x[:, 0] > 0) & (x[:, 2] < 0.5), x[:, 6] > 0.3
    return np.asarray(1.2 * corner - 0.6 + 0.8 * late * x[:, 8] - 0.5 * (x[:, 4] > 0.7))


def _step_outcome(x: np.ndarray) -> np.ndarray:
    corner, late = (x[:, 0] > 0) & (x[:, 2] < 0.5), x[:, 6] > 0.3
    return np.asarray(1.5 * corner + late * (x[:, 4] > 0) + 0.8 * (x[:, 10] > 1.5) - 0.5 * (x[:, 4] > 0.7))


def _step_effect(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 + 1.0 * (x[:, 0] > 0) - 0.5 * (x[:, 6] > 0.3))


def _covariates(uniform: np.ndarray) -> np.ndarray:
    """Turn uniforms of shape (n, 12) into the covariates that the module's docstring describes."""
    from scipy.special import ndtri

    x = np.asarray(ndtri(np.clip(uniform, 1e-12, 1 - 1e-12)))
    x[:, 1] = 0.5 * x[:, 0] + np.sqrt(0.75) * x[:, 1]
    x[:, 6] = 3 * uniform[:, 6] - 1.5
    x[:, 8] = uniform[:, 8] < 0.4
    x[:, 10] = np.minimum(-np.log1p(-uniform[:, 10]), 5)
    x[:, 11] = np.floor(5 * uniform[:, 11])
    return np.asarray(x)


@cache
def _att(index: Curve, effect: Curve) -> float:
    """E[tau e] / E[e] on a Korobov lattice."""
    powers = [pow(17_364, j, _LATTICE) for j in range(_COVARIATES)]
    steps = np.arange(_LATTICE, dtype=np.int64)[:, None] * np.array(powers, dtype=np.int64) % _LATTICE
    x = _covariates((steps + 0.5) / _LATTICE)
    propensity = expit(index(x))
    return float((effect(x) @ propensity) / propensity.sum())


def _observational(n: int, seed: int, index: Curve, outcome: Curve, effect: Curve) -> Study:
    generator = np.random.default_rng(seed)
    x = _covariates(generator.random((n, _COVARIATES)))
    d = (generator.random(n) < expit(index(x))).astype(float)
    return _study(x, d, outcome(x) + effect(x) * d + generator.standard_normal(n))


def _study(
    x: np.ndarray,
    d: np.ndarray,
    y: np.ndarray,
    arms: tuple[str, ...] = ("control", "treated"),
    extra: Mapping[Role, np.ndarray] | None = None,
) -> Study:
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    frame = pd.DataFrame(x, columns=list(names)).assign(d=d, y=y)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: names}
    for role, values in (extra or {}).items():
        frame[str(role)] = values
        roles[role] = (str(role),)
    return Study(frame=frame, roles=roles, arms=arms)
