"""Mean propensity of the controls, as the matching estimator reports propensities."""

import numpy as np

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, with_propensity

KEYS = ("propensity",)
PARAMS: tuple[str, ...] = ()
ROLES = ("outcome", "treatment", "covariates", "propensity")


def answer(case: Case) -> Answer:
    case.choose("report", {"mean_propensity_of_controls": None})
    table = ask(with_propensity(case), "propensity_matching", caliper=None).tables["propensity"]
    shares = ("0", "0.01", "0.25", "0.5", "0.75", "0.99", "1")
    quantiles = {share: float(np.quantile(table["propensity"], float(share))) for share in shares}
    mean = float(table.loc[table["treated"] == 0, "propensity"].mean())
    return Answer(mean, extras={"propensity_quantiles_all": quantiles})
