"""Designs with a hidden normal confounder u that proxies reveal; covariates x0, x1 normal are seen.

Treatment has logit 0.8 u + 0.4 x0; treatment proxies z = u + 0.5 d + 0.3 x0 + noise, outcome proxies w = u + 0.3 x1 +
noise, y = u + x0 + 0.5 w + effect d + noise. Least squares is off by about a half; both bridges exist in closed form.
"""

import numpy as np
import pandas as pd

from cqox_assets.numerics.logit import expit
from cqox_assets.study import Role, Study

Truth = dict[str, float]


def proxied_confounder(n: int, seed: int) -> tuple[Study, Truth]:
    """One proxy of each kind: ATE = 1."""
    return _study(n, seed), {"ATE": 1.0}


def null_proxied(n: int, seed: int) -> tuple[Study, Truth]:
    """Keep `proxied_confounder` without an effect: ATE = 0."""
    return _study(n, seed, effect=0.0), {"ATE": 0.0}


def proxied_twice(n: int, seed: int) -> tuple[Study, Truth]:
    """Two hidden confounders, three treatment proxies and two outcome proxies: ATE = 1."""
    return _study(n, seed, hidden=2, surplus=1), {"ATE": 1.0}


def proxied_three_arms(n: int, seed: int) -> tuple[Study, Truth]:
    """Arms none, low, high with odds 1 : exp(0.6 u) : exp(0.9 u); effects 0.5 and 1."""
    truth = {"ATE": 0.5, "ATE[low]": 0.5, "ATE[high]": 1.0}
    return _study(n, seed, arms=("none", "low", "high")), truth


def proxied_clusters(n: int, seed: int) -> tuple[Study, Truth]:
    """Let clusters of ten rows share u, treatment and a shock of the outcome (SD 0.7): ATE = 1."""
    return _study(n, seed, clustered=True), {"ATE": 1.0}


def irrelevant_proxies(n: int, seed: int) -> tuple[Study, Truth]:
    """Make both proxies pure noise, unrelated to u: their strength must warn."""
    return _study(n, seed, link=0.0), {"ATE": 1.0}


def invalid_proxy(n: int, seed: int) -> tuple[Study, Truth]:
    """Let the second of two treatment proxies move the outcome itself (0.8): the test of agreement must warn."""
    return _study(n, seed, surplus=1, leak=0.8), {"ATE": 1.0}


DESIGNS = {
    design.__name__: design
    for design in (
        proxied_confounder,
        null_proxied,
        proxied_twice,
        proxied_three_arms,
        proxied_clusters,
        irrelevant_proxies,
        invalid_proxy,
    )
}


def _study(
    n: int,
    seed: int,
    *,
    effect: float = 1.0,
    hidden: int = 1,
    surplus: int = 0,
    arms: tuple[str, ...] = ("control", "treated"),
    clustered: bool = False,
    link: float = 1.0,
    leak: float = 0.0,
) -> Study:
    generator = np.random.default_rng(seed)
    group = np.arange(n) // 10 if clustered else np.arange(n)
    groups = int(group[-1]) + 1
    x = generator.standard_normal((n, 2))
    u = generator.standard_normal((groups, hidden))[group]
    pull = u.sum(axis=1) / np.sqrt(hidden)
    if len(arms) > 2:
        odds = np.column_stack([np.ones(n), np.exp(0.6 * pull), np.exp(0.9 * pull)])
        edges = np.cumsum(odds / odds.sum(1, keepdims=True), axis=1)
        d = (generator.random(n)[:, None] > edges[:, :2]).sum(1) / 2
    else:
        index = 0.8 * pull + (0.0 if clustered else 0.4) * x[:, 0]
        d = (generator.random(groups)[group] < expit(index)) * 1.0
    sources = [*range(hidden), *([0] * surplus)]
    z = link * u[:, sources] + (0.5 * d + 0.3 * x[:, 0])[:, None] + generator.standard_normal((n, len(sources)))
    w = link * u + 0.3 * x[:, [1]] + generator.standard_normal((n, hidden))
    noise = generator.standard_normal(n)
    if clustered:
        noise = noise + 0.7 * generator.standard_normal(groups)[group]
    y = pull + x[:, 0] + 0.5 * w.sum(axis=1) + effect * d + leak * z[:, -1] + noise
    frame = pd.DataFrame(x, columns=["x0", "x1"]).assign(d=d * (len(arms) - 1), y=y)
    roles = {
        Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("x0", "x1"),
        Role.TREATMENT_PROXY: tuple(f"z{j}" for j in range(len(sources))),
        Role.OUTCOME_PROXY: tuple(f"w{j}" for j in range(hidden)),
    }  # fmt: skip
    frame = frame.assign(**{f"z{j}": z[:, j] for j in range(z.shape[1])}, **{f"w{j}": w[:, j] for j in range(hidden)})
    if clustered:
        frame["cluster"] = group
        roles[Role.CLUSTER] = ("cluster",)
    return Study(frame=frame, roles=roles, arms=arms)
