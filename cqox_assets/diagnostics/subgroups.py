"""Subgroups of a study that an effect may differ between, and the test that it does not."""

import numpy as np
import pandas as pd

from cqox_assets.study import Role, Study

_LEVELS = 8
_LEAST = 10  # units of either arm


def subgroups_of(study: Study, most: int) -> list[tuple[str, pd.Series]]:
    """Return (name, label of each row) per split: the role `subgroup`, else the covariates, at most `most` groups.

    A covariate of two values is split by them, another at its median; splits that leave fewer than 10 units of an arm
    on a side are left out. Covariates come in the order of their association with the outcome. A subgroup of many
    levels keeps its 8 largest.
    """
    splits = [(study.label(name), _levels(study, name)) for name in study.names(Role.SUBGROUP)]
    if not splits:
        splits = [(study.label(name), _halves(study, name)) for name in _ordered(study)]
    found, used = [], 1
    for name, labels in splits:
        labels = _enough(study, labels)
        count = int(labels.nunique())
        if count > 1 and used + count <= most:
            found.append((name, labels))
            used += count
    return found


def equal_p(block: pd.DataFrame) -> float | None:
    """Return Cochran's p-value that all estimates of independent groups are equal, None for fewer than two.

    Notes
    -----
    Q = sum ((b - mean) / se)^2, mean weighted by 1 / se^2 (Cochran 1954, doi:10.2307/3001666).
    """
    from scipy.special import chdtrc

    known = block[block["std_error"] > 0]
    if len(known) < 2:
        return None
    precision = 1 / known["std_error"] ** 2
    mean = float((precision * known["estimate"]).sum() / precision.sum())
    return float(chdtrc(len(known) - 1, float((precision * (known["estimate"] - mean) ** 2).sum())))


def _levels(study: Study, name: str) -> pd.Series:
    labels = study.frame[name].astype(object)
    largest = labels.value_counts().index[:_LEVELS]
    named: pd.Series = labels.where(labels.isin(largest)).map(str, na_action="ignore")
    return named


def _halves(study: Study, name: str) -> pd.Series:
    values, label = study.frame[name].to_numpy(dtype=float), study.label(name).partition(" (vs ")[0]
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) == 2:
        coin = set(distinct) == {0.0, 1.0}
        words = [f"not {label}", label] if coin else [f"{label} {value:g}" for value in distinct]
        return pd.Series(np.where(values == distinct[1], words[1], words[0]), dtype=object)
    middle = float(np.median(values[np.isfinite(values)])) if len(distinct) else 0.0
    high = values > middle
    words = [f"{label} up to {middle:.4g}", f"{label} above {middle:.4g}"]
    return pd.Series(np.where(high, words[1], words[0]), dtype=object).where(np.isfinite(values))


def _ordered(study: Study) -> list[str]:
    names, x, y = study.names(Role.COVARIATES), study.matrix(), study.column(Role.OUTCOME)
    if not names or not len(y):
        return []
    scale = x.std(axis=0)
    size = np.abs((x - x.mean(axis=0)).T @ (y - y.mean())) / np.where(scale > 0, scale, np.inf)
    return [names[place] for place in np.argsort(-size, kind="stable") if scale[place] > 0]


def _enough(study: Study, labels: pd.Series) -> pd.Series:
    """Return the labels without groups that have fewer than 10 units of an arm."""
    treated = study.column(Role.TREATMENT)
    counts = pd.crosstab(labels.to_numpy(), treated)
    if counts.empty:
        return pd.Series([None] * len(labels), dtype=object)
    kept = counts.index[(counts.min(axis=1) >= _LEAST) & (counts.shape[1] > 1)]
    return labels.where(labels.isin(kept))
