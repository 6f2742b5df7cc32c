"""A synthetic control of one unit: gaps, fit, donor weights, placebo test."""

import json
from typing import Any

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask

KEYS = ("placebo_pool", "predictors", "scaling", "v")
PARAMS = ("donor", "donors", "fit_times", "pre_rmspe", "predictors", "times", "treated_unit", "treatment_time", "v")
ROLES = ("outcome", "covariates", "unit", "time")
_FOUND: dict[str, Any] = {}


def answer(case: Case) -> Answer:
    names = ("mean_gap", "gap", "pre_rmspe", "rmspe_ratio", "donor_weight", "placebo_p")
    report = case.choose("report", {name: name for name in names})
    case.choose("placebo_pool", {None: None, "untreated_only": None})
    case.choose("se", {None: None, "placebo": None})
    listed = case.choose("predictors", {"outcomes_pre": False, "listed": True})
    case.choose("scaling", {"sample_sd": None} if listed else {"none": None, None: None})
    v = case.choose("v", {name: name for name in ("identity", "given", "nested")})
    if case.params.get("donors") not in (None, "all_others"):
        raise UncoveredError("donors are all other units")
    predictors = tuple((item["column"], tuple(item["times"])) for item in case.params.get("predictors") or ())
    roles = dict(case.roles)
    extra = [column for column, _ in predictors if column != roles["outcome"][0]]
    roles["covariates"] = list(dict.fromkeys([*roles.get("covariates", []), *extra]))
    fit_times = case.params.get("fit_times")
    asked = {key: value for key, value in case.params.items() if key not in ("donor", "times", "pre_rmspe")}
    varied = ("report", "params", "se", "ci", "compare", "placebo_pool", "target")
    key = json.dumps([{k: x for k, x in case.spec.items() if k not in varied}, asked], sort_keys=True)
    if key not in _FOUND:  # several entries ask about one fit, and the nested ones are slow
        _FOUND[key] = ask(
            Case(case.spec, case.frame, roles), "synthetic_control",
            treated_unit=str(case.params["treated_unit"]), treatment_time=float(case.params["treatment_time"]),
            predictors=predictors, v=v, importance=tuple(case.params.get("v") or ()) if v == "given" else (),
            fit_times=None if fit_times is None else tuple(fit_times),
        )  # fmt: skip
    result = _FOUND[key]
    return _number(case, result, report)


def _number(case: Case, result: Any, report: str) -> Answer:
    gaps, own = result.tables["gaps"], result.tables["placebos"].iloc[0]
    fit = {"pre_rmspe": float(own["pre_rmspe"])}
    if report == "placebo_p":
        return Answer(result.p_value)
    if report == "rmspe_ratio":
        return Answer(float(own["ratio"]))
    if report == "donor_weight":
        table = result.tables["donor_weights"].set_index("unit")["weight"]
        return Answer(float(table[str(case.params["donor"])]), extras=fit)
    first, last = case.params.get("times") or (None, None)
    inside = gaps[(gaps["time"] >= (-1e300 if first is None else first)) & (gaps["time"] <= (last or 1e300))]
    if report == "pre_rmspe":
        return Answer(float((inside["gap"] ** 2).mean() ** 0.5))
    interval = result.interval
    ends = None if interval is None else (interval.low, interval.high)
    return Answer(float(inside["gap"].mean()), result.std_error, ends, fit)
