"""The test that a running variable's density is continuous at the cutoff."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer

KEYS = ("bandwidth", "fit", "kernel", "masspoints", "regularise", "vce")
PARAMS = ("cutoff", "p", "q", "h_left", "h_right")
ROLES = ("running_variable",)


def answer(case: Case) -> Answer:
    from cqox_assets.diagnostics.density import density_test

    for key, offered in {"fit": "unrestricted", "vce": "jackknife", "regularise": True}.items():
        case.choose(key, {None: None, offered: None})
    given = case.choose("bandwidth", {None: False, "comb": False, "given": True})
    mass_points = case.choose("masspoints", {None: True, True: True, False: False})
    kernel = case.choose("kernel", {name: name for name in ("triangular", "epanechnikov", "uniform")})
    p = int(case.params.get("p", 2))
    q = int(case.params.get("q", p + 1))
    assert case.frame is not None
    x = case.frame[case.roles["running_variable"][0]].to_numpy(float) - float(case.params.get("cutoff", 0))
    bandwidths = (float(case.params["h_left"]), float(case.params["h_right"])) if given else None
    found = density_test(x, order=p, kernel=kernel, bandwidths=bandwidths, mass_points=mass_points, test_order=q)
    value = case.choose("report", {"p_value": found.p_value, "t_statistic": found.statistic})
    return Answer(value, extras={"h_left": found.h_left, "h_right": found.h_right})
