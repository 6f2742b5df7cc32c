"""The coefficient on d of y ~ 1 + d + Xc + d:Xc."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline, interval_form, standard_error, with_interval

KEYS = ("form", "centre")
PARAMS: tuple[str, ...] = ()
ROLES = ("outcome", "treatment", "covariates", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("form", {"fully_interacted": None, None: None})
    estimand = case.choose("centre", {"all": "ATE", "treated": "ATT"})
    se = standard_error(case, "classical", "HC0", "HC1", "HC2", "HC3", "HC0_superpopulation", "CR0", "CR1")
    form = interval_form(case, restated=True)
    own = headline(ask(case, "regression_adjustment", estimand=estimand, se=se, interval_form=form))
    assert case.frame is not None
    return with_interval(case, own, len(case.frame) - 2 * (1 + len(case.roles["covariates"])))
