"""Instrumental variables: estimates, first-stage strength and tests."""

import math

from cqox_assets.result import EffectEstimate
from tests.oracle.adapters import ols
from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline, interval_form, standard_error, with_interval

KEYS = ("form", "first_stage_vcov")
PARAMS = ("beta0", "level", "term", "instrument")
ROLES = ("outcome", "treatment", "covariates", "instruments", "weight", "cluster")
_COEFFICIENTS = {"first_stage_coefficient": "treatment", "reduced_form_coefficient": "outcome"}
_TESTS = {"wu_hausman_F": "wu_hausman", "sargan": "sargan", "hansen_j": "hansen_j"}


def answer(case: Case) -> Answer:
    form = case.choose("form", {None: "2sls", "2sls": "2sls", "liml": "liml", "gmm": "gmm"})
    report = case.choose("report", {name: name for name in (*_TESTS, *_OTHERS)})
    if report == "estimate":
        se = standard_error(case, "classical", "classical_n", "HC0", "HC1", "CR0", "CR1")
        result = ask(case, "iv", form=form, se=se, interval="wald", interval_form=interval_form(case, restated=True))
        found = _fit(result)
        return with_interval(case, headline(result, **found), len(case.frame) - found["n_params"])  # type: ignore
    if report == "anderson_rubin_F":
        return _anderson_rubin(case, form)
    if report == "first_stage_F":
        vcov = case.choose(
            "first_stage_vcov", {None: "classical", "classical": "classical", "HC0": "HC0", "HC1": "HC1"}
        )
        result = ask(case, "iv", form=form, se=vcov)
        return Answer(_test(result, f"first_stage_F_{vcov}")[0], extras=_fit(result))
    if report in _COEFFICIENTS:
        return _coefficient(case, _COEFFICIENTS[report])
    result = ask(case, "iv", form=form, se="HC0" if report == "hansen_j" else "classical")
    if report in _TESTS:
        statistic, p_value = _test(result, _TESTS[report])
        return Answer(statistic, extras={"p_value": p_value} | _fit(result))
    return Answer(_fit(result)["partial_r2"])  # type: ignore[arg-type]


_OTHERS = (
    "estimate",
    "anderson_rubin_F",
    "first_stage_F",
    "partial_r2",
    "first_stage_coefficient",
    "reduced_form_coefficient",
)


def _test(result: EffectEstimate, name: str) -> tuple[float, float]:
    row = result.tables["tests"].set_index("test").loc[name]
    return float(row["statistic"]), float(row["p_value"])


def _fit(result: EffectEstimate) -> dict[str, object]:
    values = result.tables["fit"].set_index("quantity")["value"].to_dict()
    found = {name: values[name] for name in ("kappa", "partial_r2")}
    found["n_params"] = values["parameters"]
    found["first_stage_coef"] = result.tables["first_stage"]["first_stage"].tolist()
    if "gmm_estimate" in values:
        found["gmm2_value"] = values["gmm_estimate"]
    return found


def _anderson_rubin(case: Case, form: str) -> Answer:
    case.choose("ci", {None: None, "anderson_rubin": None})
    level, beta0 = case.params.get("level", 0.95), case.params.get("beta0", 0)
    result = ask(
        case, "iv", form=form, se="classical", interval="anderson_rubin", level=float(level), beta0=float(beta0)
    )
    statistic, p_value = _test(result, "anderson_rubin")
    pieces = result.tables["anderson_rubin"].to_numpy().tolist()
    extras: dict[str, object] = {"p_value": p_value, "ci_form": _form(pieces)}
    if len(pieces) == 1 and all(map(math.isfinite, pieces[0])):
        extras["ci"] = pieces[0]
    return Answer(statistic, extras=extras)


def _form(pieces: list[list[float]]) -> str:
    if not pieces:
        return "empty"
    if len(pieces) > 1:
        return "complement of interval"
    return "interval" if all(map(math.isfinite, pieces[0])) else "real line"


def _coefficient(case: Case, role: str) -> Answer:
    """Answer a coefficient of treatment or outcome on instruments and covariates, by least squares."""
    instruments = case.roles["instruments"]
    name = case.params.get("term") or case.params.get("instrument") or instruments[0]
    if name not in instruments:
        raise UncoveredError(f"params.term = {name!r} is not an instrument")
    others = [other for other in instruments if other != name]
    kept = {key: names for key, names in case.roles.items() if key in ("weight", "cluster")}
    own = {"outcome": case.roles[role], "treatment": [name], "covariates": [*case.roles["covariates"], *others]}
    spec = {**case.spec, "report": "coefficient", "params": {"term": name}}
    return ols.answer(Case(spec, case.frame, {**own, **kept}))
