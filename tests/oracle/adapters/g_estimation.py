"""Robins' g-estimation: sum((d-e)y) / sum((d-e)d)."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline, with_propensity

KEYS = ("propensity",)
PARAMS: tuple[str, ...] = ()
ROLES = ("outcome", "treatment", "covariates", "propensity", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None, "coefficient": None})
    case.choose("ci", {"normal": None, None: None})
    known = case.choose("propensity", {"logit": "logit", "known": "known", None: "logit"})
    errors = {None: "auto", "influence": "influence", "m_estimation": "m_estimation"}
    if known == "known":  # without a propensity model only the effect's own equation is left
        errors["m_estimation"] = "influence"
    result = ask(
        with_propensity(case) if "propensity" in case.spec else case,
        "g_computation",
        form="g_estimation",
        propensity=known,
        se=case.choose("se", errors),
    )
    return headline(result)
