"""b_d + sum of at * b_interaction from y ~ 1 + d + X + d:interactions."""

from collections.abc import Mapping

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline, interval_form, standard_error, with_interval

KEYS: tuple[str, ...] = ()
PARAMS = ("at", "interactions")
ROLES = ("outcome", "treatment", "covariates", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None, "coefficient": None})
    listed, at = case.params.get("interactions"), case.params.get("at")
    names = [listed] if isinstance(listed, str) else list(listed or ())
    if at is None or not names:
        raise UncoveredError("params 'interactions' and 'at' are needed")
    if not isinstance(at, Mapping):
        values = at if isinstance(at, list) else [at]
        if len(values) != len(names):
            raise UncoveredError("params 'interactions' and 'at' have different lengths")
        at = dict(zip(names, values, strict=True))
    se = standard_error(case, "classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1")
    result = ask(
        case, "ols", se=se, interval_form=interval_form(case, restated=True), interactions=tuple(names), at=dict(at)
    )
    columns = len(result.tables["coefficients"])
    return with_interval(case, headline(result), len(case.frame) - columns)  # type: ignore[arg-type]
