"""What the meta-learner adapters share."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cqox_assets.result import EffectEstimate
from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, with_propensity, without

KEYS = ("cross_fit", "learner", "propensity")
PARAMS = ("min_samples_leaf", "n_estimators", "replications", "round_score", "seed")
ROLES = ("outcome", "treatment", "covariates", "replication", "true_effect")
X_ROLES = (*ROLES, "propensity")


def learned(case: Case, name: str, learners: Mapping[Any, str]) -> Answer:
    """Answer the mean effect, or the median over replications of the root mean squared error of unit effects."""
    report = case.choose("report", {"ate": "ate", "median_root_pehe": "pehe"})
    case.choose("propensity", {"logit": None, None: None, **({"known": None} if name == "x_learner" else {})})
    if report == "pehe":
        column = case.roles["replication"][0]
        assert case.frame is not None
        errors = []
        for replication in case.params["replications"]:
            part = case.frame[case.frame[column] == replication].reset_index(drop=True)
            _, pehe = _one(Case(case.spec, part, case.roles), name, learners, replication)
            errors.append(pehe)
        return Answer(float(np.median(errors)))
    result, pehe = _one(case, name, learners, None)
    extras = {} if np.isnan(pehe) else {"pehe": pehe, "ate_error": abs(result.estimate - _truth(case).mean())}
    return Answer(result.estimate, result.std_error, None, extras)


def _one(case: Case, name: str, learners: Mapping[Any, str], replication: Any) -> tuple[EffectEstimate, float]:
    values: dict[str, Any] = {"learner": case.choose("learner", learners), "ate": "mean_effect"}
    values["cross_fit"] = case.choose("cross_fit", {False: False, True: True, None: False})
    sizes = {key: case.params[key] for key in ("n_estimators", "min_samples_leaf") if case.params.get(key)}
    if values["learner"] == "random_forest":
        values["learner_params"] = {"max_features": 1.0, **sizes}
    elif sizes:
        raise UncoveredError(f"learner {values['learner']} has no {next(iter(sizes))}")
    seed = case.params.get("seed")
    if seed is not None:
        values["seed"] = int(replication if seed == "replication" else seed)
    if case.params.get("round_score") is not None:
        values["round_score"] = int(case.params["round_score"])
    asked = case
    if name == "x_learner" and case.spec.get("propensity") is not None:
        asked = with_propensity(case)
        values["propensity"] = case.choose("propensity", {"logit": "auto", "known": "known"})
    for role in ("true_effect", "replication"):
        asked = without(asked, role)
    result = ask(asked, name, **values)
    if "true_effect" not in case.roles:
        return result, float("nan")
    return result, float(np.sqrt(np.mean((result.tables["unit_effects"]["effect"].to_numpy() - _truth(case)) ** 2)))


def _truth(case: Case) -> np.ndarray:
    assert case.frame is not None
    return np.asarray(case.frame[case.roles["true_effect"][0]].to_numpy(dtype=float))


def ranked(case: Case, measure: str, curve: str) -> Answer:
    """Answer the area of an uplift curve of the T-learner's effects."""
    case.choose("report", {"area": None})
    case.choose("curve", {curve: None})
    case.choose("points", {"distinct_scores": None})
    case.choose("rule", {"trapezoid": None})
    case.choose("baseline", {"random": None})
    case.choose("scale", {"n_squared": None})
    learner = case.choose("learner", {"logit_per_arm": "logit_per_arm", "ols": "ols"})
    decimals = case.params.get("round_score")
    result = ask(case, "t_learner", learner=learner, cross_fit=False, round_score=decimals)
    row = result.tables["uplift"].set_index("measure").loc[measure]
    extras = {"area_under_curve": float(row["area"])} | ({"final_Q": float(row["end"])} if measure == "qini" else {})
    return Answer(float(row["value"]), None, None, extras)
