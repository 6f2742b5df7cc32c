"""Panel matching: the effect on the treated at one lead."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline

KEYS = ("forbid_reversal", "mahalanobis_covariance", "missing_covariates", "refinement")
PARAMS = ("covariate_lags", "draws", "lag", "lead", "leads_required", "size")
ROLES = ("outcome", "treatment", "covariates", "unit", "time", "cluster", "weight")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("ci", {"normal": None, "published": None, None: None})
    se = case.choose("se", {"bootstrap_units": "bootstrap", "bootstrap": "bootstrap", None: "bootstrap"})
    refinement = case.choose(
        "refinement", {name: name for name in ("none", "mahalanobis", "ps_weighting", "ps_matching")}
    )
    params, own = case.params, case.roles["outcome"][0]
    lags = [int(lag) for lag in params.get("covariate_lags") or ()]
    covariates = [name for name in case.roles.get("covariates", []) if name != own]
    lagged_outcome = own in case.roles.get("covariates", [])
    if any(params.get(name) is None for name in ("lag", "lead")):
        raise UncoveredError("lag or lead is not given")
    lead = int(params["lead"])
    result = ask(
        Case(case.spec, case.frame, {**case.roles, "covariates": covariates}),
        "panel_matching",
        lag=int(params["lag"]),
        leads=(lead,),
        leads_required=tuple(int(item) for item in params.get("leads_required") or ()),
        refinement=refinement,
        size=int(params.get("size") or 5),
        covariate_lags=tuple(lags),
        outcome_lags=tuple(lags) if lagged_outcome else (),
        mahalanobis_covariance=case.choose(
            "mahalanobis_covariance", {None: "full", "full": "full", "diagonal": "diagonal"}
        ),
        missing_covariates=case.choose(
            "missing_covariates",
            {None: "complete", **{name: name for name in ("listwise", "match_missing", "complete")}},
        ),
        forbid_reversal=bool(case.choose("forbid_reversal", {None: False, True: True, False: False})),
        se=se,
        draws=int(params.get("draws") or 1000),
    )
    return headline(result)
