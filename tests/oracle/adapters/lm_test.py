"""Lagrange multiplier tests of the least-squares residuals."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.spatial import ROLES as ROLES
from tests.oracle.spatial import ask_spatial

KEYS = ("edges", "form", "weights")
PARAMS: tuple[str, ...] = ()


def answer(case: Case) -> Answer:
    names = ("lm_error", "lm_lag", "robust_lm_error", "robust_lm_lag", "lm_both")
    name = case.choose("report", {item: item for item in names})
    case.choose("form", {None: None})
    row = ask_spatial(case, model="lag").tables["tests"].set_index("test").loc[name]
    return Answer(float(row["statistic"]), extras={"p_value": float(row["p_value"])})
