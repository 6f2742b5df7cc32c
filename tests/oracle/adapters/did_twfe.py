"""Treatment beside unit and period effects."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline, interval_form, standard_error

KEYS = ("dof",)
PARAMS = ("k",)
ROLES = ("outcome", "treatment", "covariates", "unit", "time", "cluster", "weight")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    se = standard_error(case, "classical", "HC0", "HC1", "CR0", "CR1")
    if se.startswith("CR") and "cluster" not in case.roles:
        raise UncoveredError("a clustered standard error needs a cluster")
    dof = {None: "time_effects_only", "time_effects_only": "time_effects_only", "all_effects": "all_effects"}
    result = ask(
        case, "difference_in_differences", method="twfe", se=se, interval_form=interval_form(case),
        dof=case.choose("dof", dof), always_treated="keep",
    )  # fmt: skip
    return headline(result)
