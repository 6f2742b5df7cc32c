"""What a study and a parameter say about policies: known propensities, and which arm a rule or column gives."""

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.numerics.rules import read_rule
from cqox_assets.study import Role, Study


class PropensityError(CqoxError):
    """Known propensities that cannot be probabilities of the arms."""

    code = "bad_propensity"


def known_propensities(study: Study) -> np.ndarray:
    """Return the known probability of every arm, shape (n, A).

    The role `propensity` holds one column per compared arm or one per arm, in their order.

    Raises
    ------
    PropensityError
        If the number of columns is another one, or a row does not hold probabilities that add up to 1.
    """
    given, arms = study.matrix(Role.PROPENSITY), len(study.arms)
    if given.shape[1] == arms - 1:
        given = np.column_stack([1 - given.sum(axis=1), given])
    listed = ", ".join(f"'{name}'" for name in study.names(Role.PROPENSITY))
    if given.shape[1] != arms:
        raise PropensityError(
            f"{listed} are {given.shape[1]} propensities for {arms} arms; map one column per compared arm "
            f"({', '.join(study.arms[1:])}) or per arm, in that order"
        )
    outside = ~((given > 0) & (given < 1)).all(axis=1) | (np.abs(given.sum(axis=1) - 1) > 1e-3)
    if outside.any():
        raise PropensityError(
            f"{listed}: {int(outside.sum())} rows have a propensity that is not strictly between 0 and 1, or that does "
            "not add up to 1 over the arms; correct the column, or use propensity: model"
        )
    return given


def one_hot(codes: np.ndarray, arms: int) -> np.ndarray:
    """Return arm codes as probabilities of 0 and 1, shape (n, arms)."""
    return np.asarray(codes[:, None] == np.arange(arms), dtype=float)


def given_policy(study: Study, name: str, text: str) -> np.ndarray:
    """Read a policy from `column`, `column > number` or `arm if column > number else arm`, shape (n, A).

    Raises
    ------
    CatalogError
        If the column or arm is not known, or the column's values give no arm.
    """
    arms = [arm.casefold() for arm in study.arms]
    body, yes, no = text.strip(), 1, 0
    if " if " in body and " else " in body:
        first, rest = body.split(" if ", 1)
        body, last = rest.rsplit(" else ", 1)
        unknown = [word.strip() for word in (first, last) if word.strip().casefold() not in arms]
        if unknown:
            raise CatalogError(
                f"parameter 'policies': '{name}' gives arm '{unknown[0]}'; known are {', '.join(study.arms)}"
            )
        yes, no = arms.index(first.strip().casefold()), arms.index(last.strip().casefold())
    rule = None if body in study.frame.columns else read_rule(body)
    column = body if rule is None else rule.column
    if column not in study.frame.columns:
        raise CatalogError(
            f"parameter 'policies': '{name}' needs column '{column}', which the study does not have; map it as "
            "covariate, or as subgroup if it must not be adjusted for"
        )
    series = study.frame[column]
    if rule is None:
        return _of_column(study, name, series)
    if not pd.api.types.is_numeric_dtype(series):
        raise CatalogError(f"parameter 'policies': '{name}' compares column '{column}', which holds words")
    return one_hot(np.where(rule.holds(series.to_numpy(dtype=float)), yes, no), len(arms))


def _of_column(study: Study, name: str, series: pd.Series) -> np.ndarray:
    arms = [arm.casefold() for arm in study.arms]
    words = series.astype(str).str.casefold()
    if words.isin(arms).all():
        return one_hot(words.map({arm: code for code, arm in enumerate(arms)}).to_numpy(dtype=int), len(arms))
    values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=float)
    if np.isin(values, np.arange(len(arms))).all():
        return one_hot(values.astype(int), len(arms))
    if len(arms) == 2 and np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1:
        return np.column_stack([1 - values, values])
    raise CatalogError(
        f"parameter 'policies': column '{series.name}' of '{name}' holds neither arms ({', '.join(study.arms)}) nor "
        "codes" + (" nor probabilities" if len(arms) == 2 else "")
    )
