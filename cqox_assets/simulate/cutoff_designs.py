"""Designs with a cutoff at 0 of a running variable r, uniform on (-1, 1); covariates x0, x1 are normal.

In all of them y = sin(2 r) + 0.5 r^2 + 0.5 x0 + effect * d + noise, with normal noise of SD 0.5.
"""

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = dict[str, float]


def sharp_cutoff(n: int, seed: int) -> tuple[Study, Truth]:
    """Everyone from 0 on is treated; effect 1 + r, so LATE = 1 at the cutoff."""
    return _sharp(n, seed, 1.0), {"LATE": 1.0}


def null_cutoff(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep `sharp_cutoff` with an effect of r, which is zero at the cutoff: LATE = 0."""
    return _sharp(n, seed, 0.0), {"LATE": 0.0}


def fuzzy_cutoff(n: int, seed: int) -> tuple[Study, Truth]:
    """Uptake is 0.15 left of the cutoff and 0.85 from it on; takers have 0.5 more anyway; effect 1: LATE = 1."""
    generator = np.random.default_rng(seed)
    x, r, rank = generator.standard_normal((n, 2)), generator.uniform(-1, 1, n), generator.random(n)
    d = (rank < np.where(r >= 0, 0.85, 0.15)) * 1.0
    y = _curve(r, x) + 0.5 * (rank < 0.15) + d + 0.5 * generator.standard_normal(n)
    return _study(x, r, d, y), {"LATE": 1.0}


def clustered_cutoff(n: int, seed: int) -> tuple[Study, Truth]:
    """Clusters of ten rows share r and a normal shock (SD 0.5); effect 1: LATE = 1."""
    generator = np.random.default_rng(seed)
    cluster = np.arange(n) // 10
    groups = int(cluster.max()) + 1
    x, r = generator.standard_normal((n, 2)), generator.uniform(-1, 1, groups)[cluster]
    d = (r >= 0) * 1.0
    y = _curve(r, x) + d + 0.5 * generator.standard_normal(groups)[cluster] + 0.5 * generator.standard_normal(n)
    return _study(x, r, d, y, {Role.CLUSTER: cluster}), {"LATE": 1.0}


def manipulated_cutoff(n: int, seed: int) -> tuple[Study, Truth]:
    """Three of four just left of the cutoff move to just right of it: the density test must warn."""
    generator = np.random.default_rng(seed)
    x, r = generator.standard_normal((n, 2)), generator.uniform(-1, 1, n)
    moves = (r > -0.15) & (r < 0) & (generator.random(n) < 0.75)
    r = np.where(moves, -r, r)
    d = (r >= 0) * 1.0
    return _study(x, r, d, _curve(r, x) + moves + d + 0.5 * generator.standard_normal(n)), {"LATE": 1.0}


def sorted_cutoff(n: int, seed: int) -> tuple[Study, Truth]:
    """Let x0 be larger by one from the cutoff on: the test of covariates must warn."""
    generator = np.random.default_rng(seed)
    x, r = generator.standard_normal((n, 2)), generator.uniform(-1, 1, n)
    d = (r >= 0) * 1.0
    x[:, 0] += d
    return _study(x, r, d, _curve(r, x) + d + 0.5 * generator.standard_normal(n)), {"LATE": 1.0}


DESIGNS = {
    design.__name__: design
    for design in (sharp_cutoff, null_cutoff, fuzzy_cutoff, clustered_cutoff, manipulated_cutoff, sorted_cutoff)
}


def _curve(r: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(2 * r) + 0.5 * r**2 + 0.5 * x[:, 0])


def _sharp(n: int, seed: int, effect: float) -> Study:
    generator = np.random.default_rng(seed)
    x, r = generator.standard_normal((n, 2)), generator.uniform(-1, 1, n)
    d = (r >= 0) * 1.0
    return _study(x, r, d, _curve(r, x) + (effect + r) * d + 0.5 * generator.standard_normal(n))


def _study(
    x: np.ndarray, r: np.ndarray, d: np.ndarray, y: np.ndarray, extra: dict[Role, np.ndarray] | None = None
) -> Study:
    from cqox_assets.declaration import Declaration

    frame = pd.DataFrame(x, columns=["x0", "x1"]).assign(r=r, d=d, y=y)
    roles = {
        Role.OUTCOME: ("y",),
        Role.TREATMENT: ("d",),
        Role.COVARIATES: ("x0", "x1"),
        Role.RUNNING_VARIABLE: ("r",),
    }
    for role, values in (extra or {}).items():
        frame[str(role)] = values
        roles[role] = (str(role),)
    declared = Declaration(cutoff=0.0, design="cutoff")
    return Study(frame=frame, roles=roles, arms=("control", "treated"), declaration=declared)
