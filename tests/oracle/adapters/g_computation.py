"""Standardised means of an outcome model."""

import numpy as np

from cqox_assets.result import EffectEstimate
from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, headline

KEYS = ("outcome_model", "scale", "standardise_over")
PARAMS = ("interactions", "draws", "seeds")
ROLES = ("outcome", "treatment", "covariates", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    models = ("ols_per_arm", "ols_pooled_interacted", "logit_pooled", "logit_per_arm")
    scales = ("difference", "log_risk_ratio", "log_odds_ratio")
    settings = {
        "estimand": case.choose("standardise_over", {"all": "ATE", "treated": "ATT", "controls": "ATC", None: "ATE"}),
        "outcome_model": case.choose("outcome_model", {name: name for name in models}),
        "scale": case.choose("scale", {None: "difference", **{name: name for name in scales}}),
        "interactions": tuple(case.params.get("interactions") or ()),
    }
    case.choose("ci", {"normal": None, "percentile": None, None: None})
    if case.choose("se", {None: False, "m_estimation": False, "bootstrap_pairs": True}):
        draws, seeds = int(case.params.get("draws", 2000)), case.params.get("seeds") or [0]
        runs = [ask(case, "g_computation", inference="bootstrap", draws=draws, seed=seed, **settings) for seed in seeds]
        return _average(runs)
    result = ask(case, "g_computation", **settings)
    compared, reference = result.tables["potential_outcomes"]["mean"]
    return headline(result, mu1=compared, mu0=reference, risk1=compared, risk0=reference)


def _average(runs: list[EffectEstimate]) -> Answer:
    errors = [run.std_error for run in runs if run.std_error is not None]
    ends = np.mean([(run.interval.low, run.interval.high) for run in runs if run.interval is not None], axis=0)
    return Answer(runs[0].estimate, float(np.mean(errors)), (float(ends[0]), float(ends[1])))
