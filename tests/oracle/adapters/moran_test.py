"""Moran's I of the least-squares residuals."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.spatial import ROLES as ROLES
from tests.oracle.spatial import ask_spatial

KEYS = ("edges", "form", "weights")
PARAMS: tuple[str, ...] = ()


def answer(case: Case) -> Answer:
    column = case.choose("report", {"moran_i": "statistic", "p_value": "p_value"})
    case.choose("form", {None: None})
    row = ask_spatial(case, model="lag").tables["tests"].set_index("test").loc["moran_i"]
    return Answer(float(row[column]), extras={"p_value": float(row["p_value"])} if column == "statistic" else {})
