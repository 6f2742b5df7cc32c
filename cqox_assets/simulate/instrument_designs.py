"""Designs with instruments: a hidden normal u moves both treatment and outcome; covariates x0, x1 are seen.

In all of them y = x0 + u + effect * d + noise, with standard normal noise, x0, x1 and u.
"""

import numpy as np
import pandas as pd

from cqox_assets.numerics.logit import expit
from cqox_assets.study import Role, Study

Truth = dict[str, float]


def encouraged_uptake(n: int, seed: int) -> tuple[Study, Truth]:
    """Two coins z0, z1 encourage; uptake with logit 1.7 (1.4 z0 + 1.4 z1 + 0.3 x0 + 0.7 u - 1.4); LATE = 1."""
    return _uptake(n, seed, 1.0), {"LATE": 1.0}


def null_encouragement(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep `encouraged_uptake` without an effect: LATE = 0."""
    return _uptake(n, seed, 0.0), {"LATE": 0.0}


def instrumented_dose(n: int, seed: int) -> tuple[Study, Truth]:
    """One normal instrument; dose d = z + 0.5 x0 + 0.7 u + noise; effect 0.5 per unit: LATE = 0.5."""
    generator = np.random.default_rng(seed)
    x, u, z = generator.standard_normal((n, 2)), generator.standard_normal(n), generator.standard_normal((n, 1))
    d = z[:, 0] + 0.5 * x[:, 0] + 0.7 * u + generator.standard_normal(n)
    y = x[:, 0] + u + 0.5 * d + generator.standard_normal(n)
    return _study(x, z, d, y, arms=()), {"LATE": 0.5}


def weighted_encouragement(n: int, seed: int) -> tuple[Study, Truth]:
    """Units are sampled with probability 0.2 + 0.6 [x0 > 0] and carry the inverse as weight.

    Effect 0.5 + [x0 > 0]; a coin z moves uptake alike on both sides of x0 = 0, so the population's LATE = 1.
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((4 * n + 200, 2))
    chance = 0.2 + 0.6 * (x[:, 0] > 0)
    drawn = np.flatnonzero(generator.random(len(x)) < chance)[:n]
    x, weight = x[drawn], 1 / chance[drawn]
    u, z = generator.standard_normal(n), (generator.random((n, 1)) < 0.5) * 1.0
    d = (2.5 * z[:, 0] + 0.7 * u + generator.standard_normal(n) > 1.25) * 1.0
    y = x[:, 0] + u + (0.5 + (x[:, 0] > 0)) * d + generator.standard_normal(n)
    return _study(x, z, d, y, extra={Role.WEIGHT: weight}), {"LATE": 1.0}


def clustered_encouragement(n: int, seed: int) -> tuple[Study, Truth]:
    """Clusters of ten rows share the coin z and a normal shock (SD 0.7); effect 1: LATE = 1."""
    generator = np.random.default_rng(seed)
    x, u = generator.standard_normal((n, 2)), generator.standard_normal(n)
    cluster = np.arange(n) // 10
    groups = int(cluster.max()) + 1
    z = (generator.random(groups) < 0.5)[cluster, None] * 1.0
    d = (2.5 * z[:, 0] + 0.7 * u + generator.standard_normal(n) > 1.25) * 1.0
    y = x[:, 0] + u + d + 0.7 * generator.standard_normal(groups)[cluster] + generator.standard_normal(n)
    return _study(x, z, d, y, extra={Role.CLUSTER: cluster}), {"LATE": 1.0}


def weak_instrument(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the instrument move the dose by 2 / sqrt(n) of its SD only: the first-stage F is about 4 at every n."""
    generator = np.random.default_rng(seed)
    x, u, z = generator.standard_normal((n, 2)), generator.standard_normal(n), generator.standard_normal((n, 1))
    d = 2 / np.sqrt(n) * z[:, 0] + 0.8 * u + 0.6 * generator.standard_normal(n)
    return _study(x, z, d, x[:, 0] + u + 0.5 * d + generator.standard_normal(n), arms=()), {"LATE": 0.5}


def invalid_instrument(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the second of two instruments reach the outcome directly (0.5): the test of agreement must warn."""
    generator = np.random.default_rng(seed)
    x, u, z = generator.standard_normal((n, 2)), generator.standard_normal(n), generator.standard_normal((n, 2))
    d = z[:, 0] + z[:, 1] + 0.7 * u + generator.standard_normal(n)
    y = x[:, 0] + u + 0.5 * d + 0.5 * z[:, 1] + generator.standard_normal(n)
    return _study(x, z, d, y, arms=()), {"LATE": 0.5}


DESIGNS = {
    design.__name__: design
    for design in (
        encouraged_uptake,
        null_encouragement,
        instrumented_dose,
        weighted_encouragement,
        clustered_encouragement,
        weak_instrument,
        invalid_instrument,
    )
}


def _uptake(n: int, seed: int, effect: float) -> Study:
    generator = np.random.default_rng(seed)
    x, u = generator.standard_normal((n, 2)), generator.standard_normal(n)
    z = (generator.random((n, 2)) < 0.5) * 1.0
    push = 1.4 * z.sum(1) + 0.3 * x[:, 0] + 0.7 * u - 1.4
    d = (generator.random(n) < expit(1.7 * push)) * 1.0
    return _study(x, z, d, x[:, 0] + u + effect * d + generator.standard_normal(n))


def _study(
    x: np.ndarray,
    z: np.ndarray,
    d: np.ndarray,
    y: np.ndarray,
    arms: tuple[str, ...] = ("not taken", "taken"),
    extra: dict[Role, np.ndarray] | None = None,
) -> Study:
    covariates = tuple(f"x{j}" for j in range(x.shape[1]))
    instruments = tuple(f"z{j}" for j in range(z.shape[1]))
    frame = pd.DataFrame(np.column_stack([x, z]), columns=[*covariates, *instruments]).assign(d=d, y=y)
    roles = {
        Role.OUTCOME: ("y",),
        Role.TREATMENT: ("d",),
        Role.COVARIATES: covariates,
        Role.INSTRUMENTS: instruments,
    }
    for role, values in (extra or {}).items():
        frame[str(role)] = values
        roles[role] = (str(role),)
    return Study(frame=frame, roles=roles, arms=arms)
