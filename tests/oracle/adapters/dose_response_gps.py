"""The dose-response curve by the generalised propensity score."""

from typing import Any

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask

KEYS = ("gps", "gps_variance", "outcome_model")
PARAMS = ("doses",)
ROLES = ("outcome", "treatment", "covariates", "dose", "weight", "cluster")


def answer(case: Case) -> Answer:
    report = case.choose("report", {"curve": "curve", "curve_point": "point"})
    case.choose("outcome_model", {"quadratic_in_dose_and_gps": None})
    case.choose("se", {"m_estimation": None, None: None})
    case.choose("ci", {"normal": None, None: None})
    doses = [float(dose) for dose in case.params.get("doses") or ()]
    if not doses or (report == "point" and len(doses) != 1):
        raise UncoveredError(f"params.doses = {doses} does not say which point is asked for")
    result = ask(
        case,
        "dose_response",
        method="gps",
        scale=case.choose("gps", {"ols_log_dose_normal": "log"}),
        gps_variance=case.choose("gps_variance", {"rss_over_n": "rss_over_n"}),
        doses=doses,
    )
    points = {effect.at["dose"]: effect for effect in result.effects if effect.estimand == "dose_response"}
    model = result.tables["gps_model"].set_index("term")["estimate"]
    extras: dict[str, Any] = {
        "gps_sigma2": float(model["gps_variance"]),
        "outcome_coef": model.drop("gps_variance").tolist(),
    }
    if report == "curve":
        curve = [points[dose].estimate for dose in doses]
        return Answer(curve[0], extras=extras, curve=curve)
    found = points[doses[0]]
    ends = None if found.interval is None else (found.interval.low, found.interval.high)
    return Answer(found.estimate, found.std_error, ends, extras)
