"""Proximal two-stage least squares."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline, interval_form, renamed, standard_error, with_interval

KEYS = ("form",)
PARAMS: tuple[str, ...] = ()
ROLES = ("outcome", "treatment", "covariates", "outcome_proxies", "treatment_proxies", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("form", {None: None, "two_stage_least_squares": None})
    se = standard_error(case, "classical", "classical_n", "HC0", "HC1", "CR0", "CR1")
    own = renamed(case, outcome_proxies="outcome_proxy", treatment_proxies="treatment_proxy")
    found = headline(ask(own, "proximal", se=se, interval_form=interval_form(case, restated=True)))
    assert case.frame is not None
    columns = 2 + len(case.roles["covariates"]) + len(case.roles["outcome_proxies"])
    return with_interval(case, found, len(case.frame) - columns)
