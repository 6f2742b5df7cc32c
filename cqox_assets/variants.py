"""Other covariate sets and samples of a study that one might as well have chosen, fixed before any result is seen."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.study import Role, Study, TreatmentKind

SUPPORT = 0.1  # Crump, Hotz, Imbens & Mitnik 2009, doi:10.1093/biomet/asn055
_FAR = 4.0
_LEFT_OUT = 3
_BENT = 5


def ranked_covariates(study: Study) -> tuple[str, ...]:
    """Return the covariates that vary, those most correlated with both treatment and outcome first."""
    names = study.names(Role.COVARIATES)
    if not names:
        return ()
    x, d, y = study.matrix(), study.column(Role.TREATMENT), study.column(Role.OUTCOME)
    spread = x.std(0)
    z = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    size = np.abs(z.T @ (y - y.mean())) * np.abs(z.T @ (d - d.mean()))
    return tuple(names[k] for k in np.argsort(-size, kind="stable") if spread[k] > 0)


def covariate_sets(study: Study) -> dict[str, tuple[str, ...]]:
    """Return names of covariate sets to their columns: all, without each of the strongest, the stronger half.

    In a declared trial no covariate at all is a choice as well.
    """
    every, ranked = study.names(Role.COVARIATES), ranked_covariates(study)
    sets = {"all": every}
    if len(ranked) > 1:
        for name in ranked[:_LEFT_OUT]:
            sets[f"without {study.label(name)}"] = tuple(column for column in every if column != name)
    if len(ranked) > 3:
        half = set(ranked[: len(ranked) // 2])
        sets["stronger half"] = tuple(column for column in every if column in half)
    if every and study.declaration.design == "trial":
        sets["none"] = ()
    return sets


def with_covariates(study: Study, names: tuple[str, ...]) -> Study:
    """Return the study with other covariates."""
    return (
        study
        if names == study.names(Role.COVARIATES)
        else replace(study, roles={**study.roles, Role.COVARIATES: names})
    )


def samples(study: Study) -> dict[str, np.ndarray]:
    """Return names of samples to the rows that they keep, shape (n,) of bool; none that keeps all or few."""
    every = np.ones(len(study), dtype=bool)
    found = {"all rows": every}
    for name, kept in (("common support", common_support(study)), ("no outlying covariates", _near(study))):
        if kept is not None and len(study) / 2 <= kept.sum() < len(study):
            found[name] = kept
    return found


def common_support(study: Study, edge: float = SUPPORT) -> np.ndarray | None:
    """Return which rows have a logit propensity between `edge` and 1 - `edge`, or None without covariates."""
    if study.treatment_kind is not TreatmentKind.BINARY or not study.has(Role.COVARIATES):
        return None
    from cqox_assets.numerics.propensity import propensity_scores

    try:
        scores = propensity_scores(study.matrix(), study.column(Role.TREATMENT), study.weights())
    except CqoxError:
        return None
    return np.asarray((scores.probability >= edge) & (scores.probability <= 1 - edge))


def _near(study: Study) -> np.ndarray | None:
    x = study.matrix()
    if x.shape[1] == 0:
        return None
    many = np.array([len(np.unique(column[:1000])) > 10 for column in x.T])  # indicators have no outliers
    spread = x.std(0)
    z = np.abs(x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    return np.asarray((z[:, many] <= _FAR).all(axis=1))


def bent(study: Study) -> Study | None:
    """Return the study with squares and products of its strongest covariates; None if there are none to add."""
    names = ranked_covariates(study)[:_BENT]
    columns: Mapping[str, np.ndarray] = {name: study.frame[name].to_numpy(dtype=float) for name in names}
    made: dict[str, np.ndarray] = {}
    for k, first in enumerate(names):
        for second in names[k:]:
            one, two = columns[first], columns[second]
            product = (one - one.mean()) * (two - two.mean())
            if len(np.unique(one)) > 2 or first != second:
                made[f"{first} x {second}"] = product
    made = {name: values for name, values in made.items() if values.std() > 0 and name not in study.frame}
    if not made:
        return None
    frame = pd.concat([study.frame, pd.DataFrame(made, index=study.frame.index)], axis=1)
    return replace(study, frame=frame, roles={**study.roles, Role.COVARIATES: (*study.names(Role.COVARIATES), *made)})


def not_collinear(study: Study, limit: float) -> Study | None:
    """Return the study without the worst covariates until no variance inflation is above a limit; None if none is."""
    from cqox_assets.diagnostics.collinearity import variance_inflation

    names = list(study.names(Role.COVARIATES))
    x = study.matrix()
    while len(names) > 1:
        inflation = variance_inflation(x)
        worst = int(np.nanargmax(inflation))
        if not inflation[worst] > limit:
            break
        names.pop(worst)
        x = np.delete(x, worst, axis=1)
    return None if len(names) == len(study.names(Role.COVARIATES)) else with_covariates(study, tuple(names))
