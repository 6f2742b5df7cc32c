"""A coefficient of y ~ 1 + treatment + covariates."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, interval_form, standard_error, with_interval

KEYS: tuple[str, ...] = ()
PARAMS = ("term",)
ROLES = ("outcome", "treatment", "covariates", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None, "coefficient": None})
    assert case.frame is not None
    roles = dict(case.roles)
    if "treatment" not in roles:
        # The product's regression has a treatment; any regressor can play it, best the one with the most values.
        lead = max(roles["covariates"], key=lambda name: case.frame[name].nunique())  # type: ignore[index]
        roles |= {"treatment": [lead], "covariates": [name for name in roles["covariates"] if name != lead]}
    term = case.params.get("term") or roles["treatment"][0]
    if term not in ("const", *roles["treatment"], *roles["covariates"]):
        raise UncoveredError(f"params.term = {term!r} is not a term of the regression")
    se = standard_error(case, "classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1")
    result = ask(Case(case.spec, case.frame, roles), "ols", se=se, interval_form=interval_form(case, restated=True))
    table = result.tables["coefficients"].set_index("term")
    if not table.index.is_unique:
        raise UncoveredError("the treatment has several arms, so the regression is not one")
    if term not in table.index:
        raise UncoveredError(f"params.term = {term!r} is a linear combination of other terms")
    row = table.loc[term]
    extras = {"t": row["estimate"] / row["std_error"], "p_value": row["p_value"]}
    own = Answer(row["estimate"], row["std_error"], (row["low"], row["high"]), extras)
    return with_interval(case, own, len(case.frame) - len(table))
