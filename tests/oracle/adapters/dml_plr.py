"""Double machine learning of the partially linear model."""

from tests.oracle.cases import Case
from tests.oracle.double_ml import KEYS, PARAMS, ROLES, cross_fitted
from tests.oracle.harness import Answer

__all__ = ["KEYS", "PARAMS", "ROLES", "answer"]


def answer(case: Case) -> Answer:
    return cross_fitted(case, {"partialling_out": "partialling_out"})
