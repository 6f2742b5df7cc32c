"""Omitted-variable bounds of a linear regression."""

from cqox_assets.numerics.omitted_variables import (
    adjusted,
    benchmark_bound,
    benchmark_strengths,
    fit_coefficient,
    robustness_value,
)
from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, with_interval

KEYS = ()
PARAMS = ("q", "alpha", "benchmark", "strength")
ROLES = ("outcome", "treatment", "covariates")
_REPORTS = (
    "estimate", "partial_r2", "partial_f2", "robustness_value", "bound_r2dz_x", "bound_r2yz_dx", "adjusted_estimate",
)  # fmt: skip


def answer(case: Case) -> Answer:
    report = case.choose("report", {name: name for name in _REPORTS})
    case.choose("se", {None: None, "classical": None, "adjusted": None})
    assert case.frame is not None
    y, d = (case.frame[case.roles[role][0]].to_numpy(float) for role in ("outcome", "treatment"))
    names = case.roles["covariates"]
    x = case.frame[names].to_numpy(float)
    found = fit_coefficient(y, d, x)
    if report == "estimate":
        return with_interval(case, Answer(found.estimate, found.std_error), found.df)
    if report == "robustness_value":
        return Answer(robustness_value(found, case.params.get("q") or 1.0, case.params.get("alpha")))
    if report in ("partial_r2", "partial_f2"):
        return Answer(getattr(found, report))
    return _bounded(case, report, (y, d, x, names), found)


def _bounded(case: Case, report: str, data: tuple, found) -> Answer:  # type: ignore[no-untyped-def, type-arg]
    y, d, x, names = data
    benchmark = case.params["benchmark"]
    listed = [benchmark] if isinstance(benchmark, str) else list(benchmark)
    missing = [name for name in listed if name not in names]
    if missing:
        raise UncoveredError(f"benchmark {missing[0]!r} is no covariate")
    strengths = benchmark_strengths(y, d, x, [names.index(name) for name in listed])
    bound = benchmark_bound(*strengths, float(case.params["strength"]))
    if bound is None:
        raise UncoveredError("no confounder can be that strong")
    if report in ("bound_r2dz_x", "bound_r2yz_dx"):
        return Answer(getattr(bound, report.removeprefix("bound_")))
    estimate, error = adjusted(found, bound.r2dz_x, bound.r2yz_dx)
    extras = {"r2dz_x": bound.r2dz_x, "r2yz_dx": bound.r2yz_dx}
    if error > 0:  # nothing of the outcome is left to chance where the bound is cut at 1
        extras["adjusted_t"] = estimate / error
    return with_interval(case, Answer(estimate, error, extras=extras), found.df)
