"""Augmented inverse probability weighting without cross-fitting."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline, with_propensity

KEYS = ("propensity", "outcome_model", "cross_fit")
PARAMS: tuple[str, ...] = ()
ROLES = ("outcome", "treatment", "covariates", "propensity", "weight")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("cross_fit", {False: None})
    case.choose("ci", {"normal": None, None: None})
    result = ask(
        with_propensity(case),
        "aipw",
        estimand=case.choose("estimand", {"ATE": "ATE", "ATT": "ATT"}),
        cross_fit=False,
        se=case.choose("se", {None: "influence", "influence": "influence", "m_estimation": "m_estimation"}),
        outcome_model=case.choose("outcome_model", {"ols_per_arm": "ols_per_arm"}),
        propensity=case.choose("propensity", {"logit": "logit", "known": "known"}),
    )
    return headline(result)
