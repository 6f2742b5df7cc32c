"""Designs with a mediator: m = 0.5 x0 + a t + noise, y = x0 + 0.5 x1 + c t + b m + noise; x0, x1, noises normal.

ACME = a b, ADE = c, total = a b + c; treatment is a coin of expit(0.5 x0).
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from cqox_assets.numerics.logit import expit
from cqox_assets.study import Role, Study

Truth = Mapping[str, float]


def mediated_trial(n: int, seed: int) -> tuple[Study, Truth]:
    """Take a = 0.8, b = 0.5, c = 0.6: ACME = 0.4, ADE = 0.6, total = 1, proportion 0.4."""
    return _one(n, seed, 0.8, 0.5, 0.6), _truth(0.4, 0.6)


def null_mediated(n: int, seed: int) -> tuple[Study, Truth]:
    """Take a = 0, b = 0.5, c = 0.6: nothing runs through the mediator."""
    return _one(n, seed, 0.0, 0.5, 0.6), _truth(0.0, 0.6)


def mediated_weakly(n: int, seed: int) -> tuple[Study, Truth]:
    """Take a = 0.8, b = 0.04, c = 0.6: a weak hidden common cause could remove it; its measure must warn."""
    return _one(n, seed, 0.8, 0.04, 0.6), _truth(0.032, 0.6)


def mediated_unevenly(n: int, seed: int) -> tuple[Study, Truth]:
    """Take b = 0.2 in the control arm and 0.8 in the treated one, a = 0.8, c = 0.6.

    ACME = 0.16 and 0.64 (mean 0.4), ADE = 0.6 and 1.08 (mean 0.84), total 1.24.
    """
    return _one(n, seed, 0.8, 0.2, 0.6, bend=0.6), {
        "ACME": 0.4, "ADE": 0.84, "total": 1.24, "proportion_mediated": 0.4 / 1.24, "ACME[control]": 0.16,
        "ACME[treated]": 0.64, "ADE[control]": 0.6, "ADE[treated]": 1.08,
    }  # fmt: skip


def mediated_two_ways(n: int, seed: int) -> tuple[Study, Truth]:
    """Two mediators: a = 0.8 and -0.5, b = 0.5 and 0.4, c = 0.8: ACME 0.4 and -0.2, together 0.2; total 1."""
    generator = np.random.default_rng(seed)
    x, t = _units(generator, n)
    noise = generator.standard_normal((n, 3))
    first, second = 0.8 * t + 0.5 * x[:, 0] + noise[:, 0], -0.5 * t + 0.3 * x[:, 1] + noise[:, 1] + 0.3 * noise[:, 0]
    y = x[:, 0] + 0.5 * x[:, 1] + 0.8 * t + 0.5 * first + 0.4 * second + noise[:, 2]
    study = _study(x, t, y, {"m1": first, "m2": second})
    return study, {
        **_truth(0.2, 0.8), "ACME[m1]": 0.4, "ACME[m2]": -0.2, "proportion_mediated[m1]": 0.4,
        "proportion_mediated[m2]": -0.2,
    }  # fmt: skip


def mediated_weighted(n: int, seed: int) -> tuple[Study, Truth]:
    """Draw units with probability 0.2 + 0.6 [u < 1/2], weigh by the inverse; a = 0.4 + 0.8 [u < 1/2]: population 0.8.

    Without the weights the mediated effect would be 0.5 (0.4 + 0.8 * 0.8) = 0.52 instead of 0.4.
    """
    generator = np.random.default_rng(seed)
    often = generator.random(n) < 0.8  # of the drawn units; half of the population
    x, t = _units(generator, n)
    noise = generator.standard_normal((n, 2))
    m = (0.4 + 0.8 * often) * t + 0.5 * x[:, 0] + noise[:, 0]
    y = x[:, 0] + 0.5 * x[:, 1] + 0.6 * t + 0.5 * m + noise[:, 1]
    study = _study(x, t, y, {"m": m})
    frame = study.frame.assign(weight=np.where(often, 1.25, 5.0))
    return Study(frame, {**study.roles, Role.WEIGHT: ("weight",)}, arms=study.arms), _truth(0.4, 0.6)


def mediated_clusters(n: int, seed: int) -> tuple[Study, Truth]:
    """Clusters of ten rows share a coin of one half and shocks (SD 0.7); a, b, c as in the trial."""
    generator = np.random.default_rng(seed)
    cluster = np.arange(n) // 10
    groups = int(cluster.max()) + 1
    x, _ = _units(generator, n)
    t = (generator.random(groups) < 0.5).astype(float)[cluster]
    shock = 0.7 * generator.standard_normal((groups, 2))[cluster]
    noise = generator.standard_normal((n, 2)) + shock
    m = 0.8 * t + 0.5 * x[:, 0] + noise[:, 0]
    y = x[:, 0] + 0.5 * x[:, 1] + 0.6 * t + 0.5 * m + noise[:, 1]
    study = _study(x, t, y, {"m": m})
    return (
        Study(study.frame.assign(cluster=cluster), {**study.roles, Role.CLUSTER: ("cluster",)}, arms=study.arms),
        _truth(0.4, 0.6),
    )


def mediated_three_arms(n: int, seed: int) -> tuple[Study, Truth]:
    """Arms none, low and high at random; a = 0.4 and 0.8, b = 0.5, c = 0.3 and 0.6."""
    generator = np.random.default_rng(seed)
    x, _ = _units(generator, n)
    arm = generator.integers(0, 3, n)
    noise = generator.standard_normal((n, 2))
    m = 0.4 * arm + 0.5 * x[:, 0] + noise[:, 0]
    y = x[:, 0] + 0.5 * x[:, 1] + 0.3 * arm + 0.5 * m + noise[:, 1]
    truth = {
        f"{key}[{name}]": value
        for name, k in (("low", 1), ("high", 2))
        for key, value in _truth(0.2 * k, 0.3 * k).items()
    }
    return _study(x, arm.astype(float), y, {"m": m}, ("none", "low", "high")), {**_truth(0.2, 0.3), **truth}


def _one(n: int, seed: int, a: float, b: float, c: float, bend: float = 0.0) -> Study:
    generator = np.random.default_rng(seed)
    x, t = _units(generator, n)
    noise = generator.standard_normal((n, 2))
    m = a * t + 0.5 * x[:, 0] + noise[:, 0]
    y = x[:, 0] + 0.5 * x[:, 1] + c * t + (b + bend * t) * m + noise[:, 1]
    return _study(x, t, y, {"m": m})


def _units(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    x = generator.standard_normal((n, 3))
    return x, (generator.random(n) < expit(0.5 * x[:, 0])).astype(float)


def _truth(acme: float, ade: float) -> dict[str, float]:
    return {"ACME": acme, "ADE": ade, "total": acme + ade, "proportion_mediated": acme / (acme + ade)}


def _study(
    x: np.ndarray,
    t: np.ndarray,
    y: np.ndarray,
    mediators: Mapping[str, np.ndarray],
    arms: tuple[str, ...] = ("control", "treated"),
) -> Study:
    names = tuple(f"x{j}" for j in range(x.shape[1]))
    frame = pd.DataFrame(x, columns=list(names)).assign(d=t, y=y, **mediators)
    roles = {
        Role.OUTCOME: ("y",),
        Role.TREATMENT: ("d",),
        Role.COVARIATES: names,
        Role.MEDIATOR: tuple(mediators),
    }
    return Study(frame=frame, roles=roles, arms=arms)


DESIGNS: Mapping[str, Callable[[int, int], tuple[Study, Truth]]] = {
    design.__name__: design
    for design in (
        mediated_trial,
        null_mediated,
        mediated_weakly,
        mediated_unevenly,
        mediated_two_ways,
        mediated_weighted,
        mediated_clusters,
        mediated_three_arms,
    )
}
