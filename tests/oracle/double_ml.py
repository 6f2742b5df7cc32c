"""What the two double machine learning adapters share."""

from collections.abc import Mapping
from typing import Any

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline

KEYS = ("score", "aggregation", "folds", "outcome_learner", "treatment_learner", "trim")
PARAMS = ("n_folds", "seeds", "outcome_learner", "treatment_learner")
ROLES = ("outcome", "treatment", "covariates", "weight", "cluster")


def cross_fitted(case: Case, scores: Mapping[str, str]) -> Answer:
    """Run `double_ml` as the spec says."""
    case.choose("report", {"estimate": None})
    case.choose("aggregation", {"dml2": None, None: None})
    case.choose("ci", {"normal": None, None: None})
    case.choose("se", {"influence": None, "median_over_seeds": None, None: None})
    score = case.choose("score", scores)
    trees = {name: name for name in ("random_forest", "gradient_boosting")}
    outcome = case.choose("outcome_learner", {"ols": "ols", "ols_per_arm": "ols_per_arm", **trees})
    treatment = case.choose("treatment_learner", {"ols": "ols", "logit": "logit", **trees})
    sizes = {name: case.params[name] for name in ("outcome_learner", "treatment_learner") if case.params.get(name)}
    low, high = _clip(case.spec.get("trim"))
    result = ask(
        case,
        "double_ml",
        estimand="ATT" if score == "irm_atte" else "ATE",
        score=score,
        outcome_learner=outcome,
        treatment_learner=treatment,
        learner_params=sizes,
        folds=int(case.params.get("n_folds", 5)),
        folds_by=case.choose("folds", {"index_mod": "index_mod", "random": "random"}),
        seeds=tuple(case.params.get("seeds") or ()),
        se="influence",
        clip=low,
        clip_high=high,
    )
    if "propensity" not in result.tables:  # an amount has none
        return headline(result)
    e = result.tables["propensity"]["propensity"]
    return headline(result, e_range=[float(e.min()), float(e.max())])


def _clip(trim: Any) -> tuple[float, float | None]:
    """Return the bounds that propensities are moved to."""
    if trim is None:
        return 0.0, None
    if not isinstance(trim, list) or len(trim) != 2 or not 0 <= trim[0] < trim[1] <= 1:
        raise UncoveredError(f"trim = {trim!r} is no pair of bounds")
    return float(trim[0]), float(trim[1])
