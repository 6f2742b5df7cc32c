"""What the three transport methods of the references have in common."""

from typing import Any

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline, renamed

KEYS = ("mode", "normalise", "outcome_model", "selection_model", "treatment_model")
PARAMS = ("draws", "seed", "seeds")
ROLES = ("outcome", "treatment", "covariates", "selection", "weight", "cluster")
_MODELS = {name: name for name in ("ols_per_arm", "logit_per_arm")}


def transported(case: Case, method: str) -> Answer:
    """Answer a case by one method of `transportability`."""
    report = case.choose("report", {"estimate": "estimate", "bootstrap_se": "bootstrap_se"})
    weighted, modelled = method != "gformula", method != "ipsw"
    case.choose("selection_model", {"logit": None} | ({} if weighted else {None: None}))
    case.choose("normalise", {"hajek": None} | ({} if weighted else {None: None}))
    none = {None: "marginal"}
    settings: dict[str, Any] = {
        "method": method,
        "mode": case.choose("mode", {"transport": "transport", "generalize": "generalize"}),
        "treatment_model": case.choose("treatment_model", {"marginal": "marginal", "logit": "logit"} | none),
        "outcome_model": case.choose("outcome_model", _MODELS if modelled else {None: "ols_per_arm", **_MODELS}),
    }
    case.choose("ci", {None: None, "normal": None, "percentile": None})
    se = case.choose("se", {None: "m_estimation", "m_estimation": "m_estimation", "influence": "influence",
                            "bootstrap": "bootstrap", "bootstrap_pairs": "bootstrap"})  # fmt: skip
    if case.params.get("seeds") and len(case.params["seeds"]) > 1:
        raise UncoveredError("params.seeds names several seeds")
    own = renamed(case, selection="population")
    if report == "estimate" and se != "bootstrap":
        return headline(ask(own, "transportability", se=se, **settings))
    seed = int((case.params.get("seeds") or [case.params.get("seed", 0)])[0])
    draws = int(case.params.get("draws", 2000))
    result = ask(own, "transportability", inference="bootstrap", draws=draws, seed=seed, **settings)
    if report == "estimate":
        return headline(result)
    if result.std_error is None:
        raise UncoveredError("the bootstrap has no spread")
    return Answer(result.std_error)
