"""Mean effect and unit effects of the T-learner."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.learners import KEYS, PARAMS, ROLES, learned

__all__ = ["KEYS", "PARAMS", "ROLES", "answer"]


def answer(case: Case) -> Answer:
    return learned(
        case, "t_learner", {"ols": "ols", "logit_per_arm": "logit_per_arm", "random_forest": "random_forest"}
    )
