"""What the adapters of regression discontinuity share."""

from typing import Any

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask

KEYS = ("kernel", "vce", "bandwidth", "masspoints", "sharp_bandwidth", "sign")
PARAMS = ("cutoff", "p", "q", "h", "b", "nnmatch", "scaleregul", "stdvars")
ROLES = ("outcome", "treatment", "running_variable", "cluster")
_REPORTS = ("conventional", "bias_corrected", "robust", "h", "b", "first_stage_jump")


def answer(case: Case, design: str) -> Answer:
    report = case.choose("report", {name: name for name in _REPORTS})
    case.choose("sign", {None: None, "right_minus_left": None})
    case.choose("ci", {None: None, "normal": None})
    case.choose("se", {name: name for name in (None, "conventional", "bias_corrected", "robust")})
    result = ask(case, "regression_discontinuity", design=design, **_params(case))
    bandwidth = result.tables["bandwidth"].iloc[0]
    if report in ("h", "b"):
        return Answer(float(bandwidth[report]))
    jumps = result.tables["jumps"].set_index("jump")
    name = "treatment" if report == "first_stage_jump" else report
    if name not in jumps.index:
        raise UncoveredError("a sharp design has no first stage")
    row = jumps.loc[name]
    return Answer(float(row["estimate"]), float(row["std_error"]), (float(row["low"]), float(row["high"])))


def _params(case: Case) -> dict[str, Any]:
    given = case.choose("bandwidth", {"given": True, "mserd": False})
    numbers = {name: case.params[name] for name in ("h", "b") if given and case.params.get(name) is not None}
    vce = case.choose("vce", {name: name for name in ("nn", "hc0", "hc1", "hc2", "hc3")} | {None: "nn"})
    return {
        **{name: float(value) for name, value in numbers.items()},
        "cutoff": float(case.params.get("cutoff", 0)),
        "order": int(case.params.get("p", 1)),
        "bias_order": int(case.params.get("q", 2)),
        "kernel": case.choose("kernel", {name: name for name in ("triangular", "epanechnikov", "uniform")}),
        "noise": vce,
        "neighbours": int(case.params.get("nnmatch") or 3),
        "mass_points": case.choose("masspoints", {None: True, "adjust": True, True: True, "off": False}),
        "regularisation": float(case.params.get("scaleregul", 1)),
        "standardise": bool(case.params.get("stdvars", True)),
        "sharp_bandwidth": case.choose("sharp_bandwidth", {None: False, False: False, True: True}),
    }
