"""Mean effect and unit effects of the causal forest."""

from typing import Any

import numpy as np

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, without

KEYS = ("cross_fit", "learner")
PARAMS = (
    "cv", "min_samples_leaf", "n_estimators", "nuisance_estimators", "nuisance_leaf", "replications", "seed", "seeds",
)  # fmt: skip
ROLES = ("outcome", "treatment", "covariates", "replication", "true_effect")
_LEARNERS = {
    None: "stack",
    "random_forest": "random_forest",
    "gradient_boosting": "boosting",
    "boosting": "boosting",
    "spline": "spline",
    "stack": "stack",
    "ols": "linear",
    "ols_per_arm": "linear",
    "linear": "linear",
}


def answer(case: Case) -> Answer:
    """Answer the mean effect (averaged over seeds), or the median over replications of the root PEHE."""
    report = case.choose("report", {"ate": "ate", "estimate": "ate", "median_root_pehe": "pehe"})
    case.choose("cross_fit", {True: True, None: True})
    case.choose("se", {None: None, "forest_doubly_robust": "analytic"})
    estimand = case.choose("estimand", {None: "ATE", "ATE": "ATE", "ATT": "ATT", "CATE": "ATE"})
    if report == "pehe":
        return Answer(_median_error(case, estimand))
    seeds = case.params.get("seeds") or [case.params.get("seed", 0)]
    found = [_one(case, estimand, int(seed)) for seed in seeds]
    value = float(np.mean([item[0] for item in found]))
    se = float(np.mean([item[1] for item in found]))
    room = 1.959963984540054 * se
    extras = {"pehe": float(np.mean([item[2] for item in found]))} if "true_effect" in case.roles else {}
    return Answer(value, se, (value - room, value + room), extras)


def _median_error(case: Case, estimand: str) -> float:
    if "true_effect" not in case.roles:
        raise UncoveredError("the root PEHE needs the role 'true_effect'")
    if "replication" not in case.roles:
        return _one(case, estimand, int(case.params.get("seed") or 0))[2]
    assert case.frame is not None
    column, errors = case.frame[case.roles["replication"][0]], []
    for replication in case.params.get("replications") or sorted(column.unique()):
        part = Case(case.spec, case.frame[column == replication].reset_index(drop=True), case.roles)
        seed = case.params.get("seed", 0)
        errors.append(_one(part, estimand, int(replication if seed == "replication" else seed))[2])
    return float(np.median(errors))


def _one(case: Case, estimand: str, seed: int) -> tuple[float, float, float]:
    """Return estimate, standard error and, where the truth is known, the root PEHE."""
    params = case.params
    values: dict[str, Any] = {"seed": seed, "estimand": estimand, "nuisance": case.choose("learner", _LEARNERS)}
    named = {"n_estimators": "trees", "min_samples_leaf": "min_leaf", "cv": "folds"}
    values |= {own: int(params[name]) for name, own in named.items() if params.get(name)}
    sizes = {"nuisance_estimators": "n_estimators", "nuisance_leaf": "min_samples_leaf"}
    nuisance = {own: int(params[name]) for name, own in sizes.items() if params.get(name)}
    if nuisance and values["nuisance"] != "random_forest":
        raise UncoveredError(f"learner {values['nuisance']} has no {next(iter(nuisance))}")
    if values["nuisance"] == "random_forest":
        values["nuisance_params"] = {"max_features": 1.0, **nuisance}
    asked = case
    for role in ("true_effect", "replication"):
        asked = without(asked, role)
    result = ask(asked, "causal_forest", **values)
    pehe = float("nan")
    if "true_effect" in case.roles:
        assert case.frame is not None
        truth = case.frame[case.roles["true_effect"][0]].to_numpy(dtype=float)
        pehe = float(np.sqrt(np.mean((result.tables["unit_effects"]["effect"].to_numpy() - truth) ** 2)))
    return result.estimate, float(result.std_error or 0.0), pehe
