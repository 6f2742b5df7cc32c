"""Area of the uplift curve of the T-learner's unit effects."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.learners import ranked

KEYS = ("baseline", "curve", "learner", "points", "rule", "scale")
PARAMS = ("round_score",)
ROLES = ("outcome", "treatment", "covariates")


def answer(case: Case) -> Answer:
    return ranked(case, "auuc", "uplift")
