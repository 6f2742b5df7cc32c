"""Designs with a studied and a target population: covariates x0, x1 normal, x2 a coin; outcomes of the target unknown.

The studied are drawn with logit 0.5 x0 - 0.3 x1 + 0.3 x2 - 0.3; tau = 1 + 0.8 x0 - 0.5 x2 and y = x0 + 0.5 x1 + tau d +
noise. The target ATE is that of the units not studied, by Gauss-Hermite quadrature; that of the studied is larger.
"""

from functools import cache

import numpy as np
import pandas as pd

from cqox_assets.numerics.logit import expit
from cqox_assets.study import Role, Study

Truth = dict[str, float]
_SLOPES = (0.5, -0.3, 0.3, -0.3)
_STEEP = (2.5, -1.5, 0.4, -1.5)


def transported_trial(n: int, seed: int) -> tuple[Study, Truth]:
    """Assign by a coin of one half among the studied."""
    return _study(n, seed), {"target_ATE": _target(_SLOPES, 1.0)}


def null_transported(n: int, seed: int) -> tuple[Study, Truth]:
    """Centre tau in the target: an effect of 0 there, although not among the studied."""
    return _study(n, seed, shift=-_target(_SLOPES, 1.0)), {"target_ATE": 0.0}


def transported_three_arms(n: int, seed: int) -> tuple[Study, Truth]:
    """Draw arms none, low, high with equal odds; low has tau / 2, high has tau."""
    low, high = 0.5 * _target(_SLOPES, 1.0), _target(_SLOPES, 1.0)
    truth = {"target_ATE": low, "target_ATE[low]": low, "target_ATE[high]": high}
    return _study(n, seed, arms=("none", "low", "high")), truth


def transported_weights(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep a unit of the target in the file with probability 1 if x2 = 1, else 0.4, and weigh it by the inverse."""
    study, truth = transported_trial(2 * n + 50, seed)
    generator = np.random.default_rng([seed, 1])
    chance = np.where((study.frame["s"] == 1) | (study.frame["x2"] == 1), 1.0, 0.4)
    kept = np.flatnonzero(generator.random(len(chance)) < chance)[:n]
    return study.take(kept).with_column("weight", 1 / chance[kept], Role.WEIGHT), truth


def transported_clusters(n: int, seed: int) -> tuple[Study, Truth]:
    """Let clusters of ten rows share treatment and a shock (SD 0.7) among the studied."""
    return _study(n, seed, clustered=True), {"target_ATE": _target(_SLOPES, 1.0)}


def transported_far(n: int, seed: int) -> tuple[Study, Truth]:
    """Draw the studied with logit 2.5 x0 - 1.5 x1 + 0.4 x2 - 1.5: few resemble the target, which must be said."""
    return _study(n, seed, slopes=_STEEP), {"target_ATE": _target(_STEEP, 1.0)}


DESIGNS = {
    design.__name__: design
    for design in (
        transported_trial,
        null_transported,
        transported_three_arms,
        transported_weights,
        transported_clusters,
        transported_far,
    )
}


@cache
def _target(slopes: tuple[float, ...], base: float) -> float:
    """E[tau | not studied] = E[tau (1 - p)] / E[1 - p]."""
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    total = mass = 0.0
    for x2, share in ((0.0, 0.5), (1.0, 0.5)):
        x0, x1 = np.meshgrid(node, node, indexing="ij")
        outside = share * np.outer(weight, weight) * (1 - expit(_index(slopes, x0, x1, np.full_like(x0, x2))))
        total += float(np.sum(outside * (base + 0.8 * x0 - 0.5 * x2)))
        mass += float(outside.sum())
    return total / mass


def _index(slopes: tuple[float, ...], x0: np.ndarray, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.asarray(slopes[0] * x0 + slopes[1] * x1 + slopes[2] * x2 + slopes[3])


def _study(
    n: int,
    seed: int,
    *,
    slopes: tuple[float, ...] = _SLOPES,
    shift: float = 0.0,
    arms: tuple[str, ...] = ("control", "treated"),
    clustered: bool = False,
) -> Study:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, 3))
    x[:, 2] = generator.random(n) < 0.5
    studied = generator.random(n) < expit(_index(slopes, *x.T))
    cluster = np.arange(n) // 10
    d = generator.integers(0, len(arms), n) * 1.0
    if clustered:
        d = generator.integers(0, 2, int(cluster.max()) + 1)[cluster] * 1.0
    tau = 1.0 + shift + 0.8 * x[:, 0] - 0.5 * x[:, 2]
    y = x[:, 0] + 0.5 * x[:, 1] + tau * d / (len(arms) - 1) + generator.standard_normal(n)
    if clustered:
        y = y + 0.7 * generator.standard_normal(int(cluster.max()) + 1)[cluster]
    frame = pd.DataFrame(x, columns=["x0", "x1", "x2"]).assign(s=studied * 1.0, d=d, y=y)
    frame.loc[~studied, ["d", "y"]] = np.nan
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x0", "x1", "x2"), Role.POPULATION: ("s",),
    }  # fmt: skip
    if clustered:
        frame["cluster"] = cluster
        roles[Role.CLUSTER] = ("cluster",)
    return Study(frame=frame, roles=roles, arms=arms)
