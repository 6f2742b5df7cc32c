"""Differences in means within propensity strata, averaged."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline, standard_error, with_propensity

KEYS = ("propensity", "quantiles_over", "quantile_rule", "strata_weights")
PARAMS = ("strata",)
ROLES = ("outcome", "treatment", "covariates", "propensity", "weight")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("quantile_rule", {"linear": None})
    case.choose("ci", {"normal": None, None: None})
    standard_error(case, "stratified")
    over = case.choose("quantiles_over", {"all": "all", "treated": "treated"})
    weights = case.choose("strata_weights", {"all": "all", "treated": "treated"})
    strata = int(case.params.get("strata", 5))
    result = ask(with_propensity(case), "stratification", strata=strata, quantiles_over=over, weights=weights)
    table = result.tables["strata"]
    return headline(
        result,
        strata_counts_treated_control=table[["treated", "control"]].to_numpy().tolist(),
        edges=table["high"].tolist()[:-1],
    )
