"""E-value of a ratio or a standardised difference."""

from cqox_assets.sensitivity.e_value import e_values, risk_ratio_from_data
from tests.oracle.cases import Case
from tests.oracle.harness import Answer

KEYS = ("measure",)
PARAMS = ("estimate", "lower", "upper", "se")
ROLES = ("outcome", "treatment", "covariates")


def answer(case: Case) -> Answer:
    case.choose("report", {"e_value": None})
    names = ("RR", "OR_common", "HR_common", "OR_rare", "HR_rare", "SMD")
    measure = case.choose("measure", {"risk_ratio_from_data": None, **{name: name for name in names}})
    if measure is None:
        assert case.frame is not None
        outcome, treated = (case.frame[case.roles[role][0]].to_numpy(float) for role in ("outcome", "treatment"))
        point, limit, ratios = e_values("RR", risk_ratio_from_data(outcome, treated))
    else:
        given = {name: case.params.get(name) for name in PARAMS}
        point, limit, ratios = e_values(measure, **given)
    return Answer(point, extras={"e_value_ci": limit, "rr_used": list(ratios)})
