"""Synthetic difference in differences of one unit."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline

KEYS = ("time_weights", "unit_weights", "zeta_rule")
PARAMS = ("donors", "time_ridge_factor", "treated_unit", "treatment_time")
ROLES = ("outcome", "unit", "time")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("se", {None: None, "placebo": None})
    case.choose("zeta_rule", {"arkhangelsky": None, None: None})
    for key in ("unit_weights", "time_weights"):
        case.choose(key, {"simplex_intercept_ridge": None, None: None})
    if case.params.get("donors") not in (None, "all_others"):
        raise UncoveredError("donors are all other units")
    result = ask(
        case, "synthetic_control", method="synthetic_did", treated_unit=str(case.params["treated_unit"]),
        treatment_time=float(case.params["treatment_time"]),
        time_ridge=float(case.params.get("time_ridge_factor") or 1e-6),
    )  # fmt: skip
    return headline(result)
