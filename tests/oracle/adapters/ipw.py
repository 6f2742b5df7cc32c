"""Inverse probability weighting, Hajek or Horvitz-Thompson."""

import numpy as np

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline, with_propensity

KEYS = ("propensity", "normalise", "stabilised")
PARAMS: tuple[str, ...] = ()
ROLES = ("outcome", "treatment", "covariates", "propensity", "weight")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("ci", {"normal": None, None: None})
    normalise = case.choose("normalise", {"hajek": "hajek", "none": "horvitz_thompson"})
    case.choose("stabilised", {False: None, None: None, **({True: None} if normalise == "hajek" else {})})
    errors = {
        None: "auto",
        "m_estimation": "m_estimation",
        "HC0_known_weights": "known_weights",
        "influence": "influence",
    }
    result = ask(
        with_propensity(case),
        "ipw",
        estimand=case.choose("estimand", {"ATE": "ATE", "ATT": "ATT", "ATO": "ATO"}),
        normalise=normalise,
        propensity=case.choose("propensity", {"logit": "logit", "known": "known"}),
        se=case.choose("se", errors),
    )
    if normalise != "hajek":
        return headline(result)
    return headline(result, **_by_products(case, result.tables["weights"].sort_values("row")))


def _by_products(case: Case, weights: object) -> dict[str, object]:
    """Return the weighted means and effective sizes that the reported weights imply."""
    outcome = case.frame[case.roles["outcome"][0]].to_numpy()  # type: ignore[index]
    weight, treated = weights["weight"].to_numpy(), weights["treated"].to_numpy()  # type: ignore[index]
    means, sizes = {}, {}
    for arm, mean, word in ((1, "mu1", "treated"), (0, "mu0", "control")):
        own = weight[treated == arm]
        means[mean] = float(np.average(outcome[treated == arm], weights=own))
        sizes[word] = float(own.sum() ** 2 / (own @ own))
    return {**means, "effective_sample_size": sizes}
