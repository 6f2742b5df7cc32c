"""What of an effect runs through a mediator."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer, ask, interval_form

KEYS = ("coef_vcov", "inference", "interaction", "mediator_model", "outcome_model")
PARAMS = ("at_treatment", "draws", "seed")
ROLES = ("outcome", "treatment", "covariates", "mediator", "weight", "cluster")


def answer(case: Case) -> Answer:
    estimands = {"acme": "ACME", "ade": "ADE", "total": "total", "proportion_mediated": "proportion_mediated"}
    wanted = case.choose("report", estimands)
    case.choose("mediator_model", {"ols": None, None: None})
    case.choose("se", {"delta": None, "quantiles_of_draws": None, None: None})
    drawn = ("quantiles_of_draws", "percentile")
    form = "auto" if case.spec.get("ci") in drawn else interval_form(case, clustered_se=case.spec.get("coef_vcov"))
    forms = ("classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1")
    places = {None: "average", "average": "average", "both": "average", 0: "control", 1: "treated"}
    at = case.params.get("at_treatment")
    extra = {}
    if case.params.get("draws"):
        extra["draws"] = int(case.params["draws"])
    if case.params.get("seed") is not None:
        extra["seed"] = int(case.params["seed"])
    result = ask(
        case,
        "mediation",
        interaction=case.choose("interaction", {True: True, False: False, None: False}),
        outcome_model=case.choose("outcome_model", {"ols": "ols", "probit": "probit", None: "ols"}),
        at_treatment=Case({"at_treatment": at}, None, {}).choose("at_treatment", places),
        uncertainty=case.choose("inference", {"delta": "delta", "quasi_bayesian": "quasi_bayesian", None: "delta"}),
        se=case.choose("coef_vcov", {None: "auto", **{name: name for name in forms}}),
        between_models="independent",  # the vocabulary's delta formula has no covariance of a and b
        covariates="fixed",
        interval_form=form,
        **extra,
    )
    effect = next(item for item in result.effects if item.estimand == wanted and not item.at)
    ends = None if effect.interval is None else (effect.interval.low, effect.interval.high)
    row = result.tables["mediators"].iloc[0]
    extras = {name: float(row[name]) for name in ("a", "b", "se_a", "se_b")}
    return Answer(effect.estimate, effect.std_error, ends, extras if wanted == "acme" else {})
