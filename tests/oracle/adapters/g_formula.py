"""Mean outcomes under regimes of a treatment that is repeated in time."""

from typing import Any

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline

KEYS = ("form",)
PARAMS = ("regime", "reference_regime", "draws", "max_bootstrap_se")
ROLES = ("outcome", "treatment", "covariates", "time_varying_covariates", "weight", "cluster")
_DRAWS = 200


def answer(case: Case) -> Answer:
    report = case.choose("report", {name: name for name in ("mean_under_regime", "contrast", "bootstrap_se")})
    case.choose("ci", {"normal": None, "percentile": None, None: None})
    resampled = case.choose("se", {None: False, "m_estimation": False, "bootstrap_pairs": True})
    resampled = resampled or report == "bootstrap_se" or case.spec.get("compare") == "bootstrap_se"
    forms = ("saturated", "sequential_ols", "parametric")
    settings: dict[str, Any] = {
        "form": case.choose("form", {name: name for name in forms}),
        "time_varying": _periods(case),
        "regime": _regime(case, "regime"),
        "reference_regime": ("none",) if report == "mean_under_regime" else _regime(case, "reference_regime"),
    }
    if resampled:
        settings |= {"inference": "bootstrap", "draws": int(case.params.get("draws") or _DRAWS)}
    result = ask(_plain(case), "g_computation", **settings)
    if report == "bootstrap_se":
        assert result.std_error is not None
        return Answer(result.std_error)
    return headline(result)


def _periods(case: Case) -> tuple[tuple[str, ...], ...]:
    """Return the covariates per period as the spec nests them; without any, the treatments follow one another."""
    treatments = case.roles["treatment"]
    nested = (case.spec.get("roles") or {}).get("time_varying_covariates") or [[] for _ in treatments]
    if len(nested) != len(treatments):
        raise UncoveredError("time_varying_covariates and treatment have different numbers of periods")
    return tuple((names,) if isinstance(names, str) else tuple(names) for names in nested)


def _regime(case: Case, name: str) -> tuple[str, ...]:
    given = case.params.get(name)
    if given is None:
        raise UncoveredError(f"param '{name}' is needed")
    return tuple(f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in given)


def _plain(case: Case) -> Case:
    """Return the case with time-varying covariates among the covariates, as the product maps them."""
    roles = {role: names for role, names in case.roles.items() if role != "time_varying_covariates"}
    both = [*roles.get("covariates", []), *case.roles.get("time_varying_covariates", [])]
    return Case(case.spec, case.frame, {**roles, "covariates": list(dict.fromkeys(both))}, case.edges)
