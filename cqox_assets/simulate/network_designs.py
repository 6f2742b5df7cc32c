"""Designs on a network where outcomes depend on the own treatment and on any treated neighbour.

Units stand on a ring in random order and are tied to the next two on each side; every fourth is tied to the fourth next
as well, so degrees are 4 and 6. y = 0.3 degree + x0 + noise, plus 1 with a treated neighbour (0.5 if treated itself)
and 2 if treated: direct = 2 without treated neighbours, indirect = 1, total = 2.5.
"""

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

Truth = dict[str, float]
_CHANCE = 0.3
_SIZE = 10


def network_trial(n: int, seed: int) -> tuple[Study, Truth]:
    """Treat each unit by a coin of 0.3: direct = 2, indirect = 1, total = 2.5; overall follows from the degrees."""
    return _study(n, seed, effects=(2.0, 1.0, 2.5))


def null_network(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep `network_trial` without any effect."""
    return _study(n, seed, effects=(0.0, 0.0, 0.0))


def network_of_clusters(n: int, seed: int) -> tuple[Study, Truth]:
    """Treat whole clusters of ten that share a shock (SD 0.7) by a coin of 0.3; ties lead to other clusters only."""
    return _study(n, seed, effects=(2.0, 1.0, 2.5), clustered=True)


def contagious_treatment(n: int, seed: int) -> tuple[Study, Truth]:
    """Give every other unit the treatment of its run of five although single coins are claimed: a test must warn."""
    return _study(n, seed, effects=(2.0, 1.0, 2.5), contagious=True)


DESIGNS = {
    design.__name__: design for design in (network_trial, null_network, network_of_clusters, contagious_treatment)
}


def _ties(n: int) -> np.ndarray:
    """Return the ring's ties as pairs of places, shape (m, 2); places of a tie lie at most four apart."""
    place = np.arange(n)
    fourth = place[: n - n % 4 : 4]
    far = np.column_stack([fourth, np.roll(fourth, -1)]) if len(fourth) > 2 else np.empty((0, 2), dtype=np.int64)
    steps = [np.column_stack([place, (place + step) % n]) for step in (1, 2)]
    return np.concatenate([*steps, far])


def _study(
    n: int,
    seed: int,
    *,
    effects: tuple[float, float, float],
    clustered: bool = False,
    contagious: bool = False,
) -> tuple[Study, Truth]:
    generator = np.random.default_rng(seed)
    ties = _ties(n)
    degree = np.bincount(ties.ravel(), minlength=n)
    x = generator.standard_normal((n, 2))
    # Units of a cluster stand n / 10 places apart, so that no tie stays within a cluster.
    groups = -(-n // _SIZE)
    cluster = np.arange(n) % groups
    d = (generator.random(n) < _CHANCE) * 1.0
    if clustered or contagious:
        block = cluster if clustered else np.arange(n) // 5
        together = (generator.random(int(block.max()) + 1) < _CHANCE)[block] * 1.0
        d = np.where((np.arange(n) % 2 == 0) | clustered, together, d)
    exposed = np.zeros(n)
    np.maximum.at(exposed, ties.ravel(), d[ties[:, ::-1].ravel()])
    direct, indirect, total = effects
    gain = np.where(d == 1, np.where(exposed == 1, total, direct), indirect * exposed)
    y = 0.3 * degree + x[:, 0] + generator.standard_normal(n) + gain
    if clustered:
        y = y + 0.7 * generator.standard_normal(groups)[cluster]
    order = generator.permutation(n)
    names = generator.permutation(n) + 1000
    frame = pd.DataFrame({"unit": names, "x0": x[:, 0], "x1": x[:, 1], "d": d, "y": y, "chance": _CHANCE})
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x0", "x1"), Role.UNIT: ("unit",),
        Role.PROPENSITY: ("chance",),
    }  # fmt: skip
    if clustered:
        frame["cluster"] = cluster
        roles[Role.CLUSTER] = ("cluster",)
    edges = pd.DataFrame({"source": names[ties[:, 0]], "target": names[ties[:, 1]]})
    study = Study(frame.iloc[order].reset_index(drop=True), roles, arms=("control", "treated"), tables={"edges": edges})
    truth = {"direct": direct, "indirect": indirect, "total": total, "direct[d11 - d01]": total - indirect}
    return study, truth | {"overall": _overall(degree, effects)}


def _overall(degree: np.ndarray, effects: tuple[float, float, float]) -> float:
    """Mean effect of the assignment as it is drawn, against nobody treated."""
    direct, indirect, total = effects
    alone = (1 - _CHANCE) ** degree
    return float(np.mean(_CHANCE * (alone * direct + (1 - alone) * total) + (1 - _CHANCE) * (1 - alone) * indirect))
