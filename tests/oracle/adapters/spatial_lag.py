"""Spatial lag model: coefficients and impacts."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.spatial import ROLES as ROLES
from tests.oracle.spatial import answer_model

KEYS = ("edges", "form", "weights", "instruments_rule")
PARAMS = ("term",)


def answer(case: Case) -> Answer:
    case.choose("instruments_rule", {None: None, "x_and_wx": None})
    return answer_model(case, "lag", {"2sls": "sigma2_n"})  # type: ignore[no-any-return]
