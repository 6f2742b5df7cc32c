"""Mean effect and unit effects of the X-learner."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.learners import KEYS, PARAMS, learned
from tests.oracle.learners import X_ROLES as ROLES

__all__ = ["KEYS", "PARAMS", "ROLES", "answer"]


def answer(case: Case) -> Answer:
    return learned(case, "x_learner", {"ols": "ols", "random_forest": "random_forest"})
