"""mean(y | 1) - mean(y | 0)."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline, interval_form, is_amount, standard_error, with_interval, without

KEYS: tuple[str, ...] = ()
PARAMS: tuple[str, ...] = ()
ROLES = ("outcome", "treatment", "covariates", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    se = standard_error(case, "classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1")
    form = interval_form(case, restated=True)
    if is_amount(case):  # defined as y ~ 1 + d, whatever numbers d holds
        result = ask(without(case, "covariates"), "ols", se=se, interval_form=form)
    else:
        result = ask(case, "difference_in_means", se=se, interval_form=form)
    return with_interval(case, headline(result), result.sample.used - 2)
