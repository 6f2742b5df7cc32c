"""What the adapters of spatial regressions share."""

from typing import Any

from cqox_assets.result import EffectEstimate
from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import ask

ROLES = ("outcome", "treatment", "covariates", "node")


def ask_spatial(case: Case, **params: Any) -> EffectEstimate:
    """Run the spatial regression on the case's map; the regressor of most values is the treatment if none is."""
    case.choose("weights", {"row_standardised": None, None: None})
    edges = case.spec.get("edges")
    if edges is None or case.edges is None or case.frame is None:
        raise UncoveredError("there are no edges")
    listed = {"once": False, "both_directions": True}
    if edges.get("listed") not in listed:
        raise UncoveredError(f"edges.listed = {edges.get('listed')!r} is not offered")
    if "node" not in case.roles:
        raise UncoveredError("no column plays the role 'node'")
    table = case.edges[[edges["source"], edges["target"]]].set_axis(["source", "target"], axis=1)
    roles = {role: names for role, names in case.roles.items() if role != "node"} | {"unit": case.roles["node"]}
    if "treatment" not in roles:
        # The product's regression has a treatment; any regressor can play it, best the one with the most values.
        lead = max(roles["covariates"], key=lambda name: case.frame[name].nunique())  # type: ignore[index]
        roles |= {"treatment": [lead], "covariates": [name for name in roles["covariates"] if name != lead]}
    asked = Case(case.spec, case.frame, roles)
    return ask(asked, "geographic", tables={"edges": table}, directed=listed[edges["listed"]], islands="keep", **params)


def answer_model(case: Case, model: str, forms: dict[str, str]) -> Any:
    """Return a coefficient or an impact of a lag or error model."""
    from tests.oracle.harness import Answer

    form = case.choose("form", {"ml": "ml", **{name: name for name in forms}})
    case.choose("se", {None: None, (forms | {"ml": "expected_information"})[form]: None})
    case.choose("ci", {None: None, "normal": None, "published": None})
    reports = {"coefficient": "", "estimate": ""} | ({f"{kind}_impact": kind for kind in _KINDS})
    report = case.choose("report", reports)
    term = case.params.get("term")
    result = ask_spatial(case, model=model, form=form)
    if report:
        table = result.tables["impacts"]
        rows = table[(table["term"] == term) & (table["impact"] == report)]
    else:
        rows = result.tables["coefficients"]
        rows = rows[rows["term"] == (term or result.tables["impacts"]["term"].iloc[-1])]
    if len(rows) != 1:
        raise UncoveredError(f"params.term = {term!r} is not reported")
    row = rows.iloc[0]
    fit = result.tables["fit"].set_index("quantity")["value"]
    extras = {"sigma2": fit["sigma2"], "loglik": fit.get("log_likelihood")}
    known = row["std_error"] == row["std_error"] and row["std_error"] is not None
    return Answer(
        row["estimate"], row["std_error"] if known else None, (row["low"], row["high"]) if known else None, extras
    )


_KINDS = ("direct", "indirect", "total")
