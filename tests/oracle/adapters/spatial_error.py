"""Spatial error model: coefficients and impacts."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.spatial import ROLES as ROLES
from tests.oracle.spatial import answer_model

KEYS = ("edges", "form", "weights")
PARAMS = ("term",)


def answer(case: Case) -> Answer:
    return answer_model(case, "error", {"gm": "gm"})  # type: ignore[no-any-return]
