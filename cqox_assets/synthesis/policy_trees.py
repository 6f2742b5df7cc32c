"""Rules of at most three questions that say whom to treat, each valued on rows that did not choose it."""

import numpy as np
import pandas as pd

from cqox_assets.numerics.deep_policy import learn
from cqox_assets.numerics.inference import influence_std_error, interval_reach
from cqox_assets.numerics.targeting import Judge
from cqox_assets.study import Role
from cqox_assets.synthesis.contrasts import ScoredContrast

DEPTHS = (1, 2, 3)


def tree_rows(item: ScoredContrast, net: np.ndarray, judge: Judge, level: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Learn the best rule of each depth and value it.

    Parameters
    ----------
    item : ScoredContrast
    net : ndarray of shape (n,)
        Doubly robust score of what treating each unit is worth.
    judge : Judge
    level : float

    Returns
    -------
    DataFrame
        One row per depth: `depth`, `share_treated`, `net_benefit` (total for the rows of the contrast), `low`, `high`,
        `rows_judged`, and `recommended` for the shallowest whose value is within one standard error of the best.
    DataFrame
        One row per leaf of the rule that is learned from all rows: `depth`, `where`, `treat`.

    Notes
    -----
    The rule of folds 1..k is valued on fold k + 1, so the first fold only teaches (Luedtke & van der Laan 2016,
    doi:10.1214/15-AOS1384).
    """
    x, fold, size = item.study.matrix(), item.fold, len(net)
    names = [item.study.label(name) for name in item.study.names(Role.COVARIATES)]
    gains = (judge.weight * net)[:, None]
    judged, rows, leaves = fold > 0, [], []
    weight = (
        judge.weight[judged] / judge.weight[judged].mean() if judged.any() and judge.weight[judged].sum() > 0 else None
    )
    if weight is None:
        return pd.DataFrame(columns=["depth"]), pd.DataFrame(columns=["depth"])
    cluster = None if judge.cluster is None else np.unique(judge.cluster[judged], return_inverse=True)[1]
    for depth in DEPTHS:
        honest, last = learn(x, gains, fold, depth)
        treated = np.zeros(size)
        for k, tree in enumerate(honest, start=1):
            treated[fold == k] = tree.assign(x[fold == k])
        score = treated[judged] * net[judged]
        value = float(np.mean(weight * score))
        error = influence_std_error(weight * (score - value), cluster)
        half = interval_reach(level, cluster) * error
        rows.append(
            {"depth": depth, "share_treated": float(np.average(last.assign(x), weights=judge.weight)),
             "net_benefit": value * size, "low": (value - half) * size, "high": (value + half) * size,
             "std_error": error * size, "rows_judged": int(judged.sum())}
        )  # fmt: skip
        leaves += [
            {"depth": depth, "where": leaf["where"], "treat": leaf["arm"] == "yes"}
            for leaf in last.rows(names, ("no", "yes"))
        ]
    frame = pd.DataFrame(rows)
    best = int(frame["net_benefit"].to_numpy().argmax())
    enough = frame["net_benefit"] >= frame["net_benefit"].iloc[best] - frame["std_error"].iloc[best]
    return frame.assign(recommended=frame["depth"] == frame.loc[enough, "depth"].min()), pd.DataFrame(leaves)
