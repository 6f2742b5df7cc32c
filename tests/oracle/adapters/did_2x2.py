"""Two groups before and after: interaction, first difference or cell means."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, interval_form, standard_error, with_interval

KEYS = ("balanced", "form")
PARAMS = ("term",)
ROLES = ("outcome", "treatment", "covariates", "unit", "time", "post", "cluster", "weight")
_KINDS = ("classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None, "coefficient": None})
    form = case.choose("form", {name: name for name in ("interaction_ols", "first_difference", "cell_means")})
    case.choose("balanced", {None: None, form == "first_difference": None})
    assert case.frame is not None
    roles = dict(case.roles)
    post = roles.pop("post", roles.get("time"))
    if post is None or ("unit" not in roles and form == "first_difference"):
        raise UncoveredError("there are no periods of units")
    roles.setdefault("time", post)
    if form != "first_difference" and "unit" not in roles:
        return _repeated_cross_sections(case, post[0])
    after, time = case.frame[post[0]], case.frame[roles["time"][0]]
    starts = float(time[after == after.max()].min())
    if not ((time >= starts) == (after == after.max())).all():
        raise UncoveredError("post is no threshold of time")
    se = "auto" if case.spec.get("se") == "placebo" else standard_error(case, *_KINDS)
    form_of = "normal" if case.spec.get("ci") == "published" else interval_form(case)
    result = ask(
        Case(case.spec, case.frame, roles), "difference_in_differences",
        method=form, se=se, interval_form=form_of, intervention_time=starts, always_treated="keep",
    )  # fmt: skip
    names = {"const": "const", roles["treatment"][0]: "treatment", post[0]: "post"}
    wanted = case.params.get("term")
    if wanted is None:
        interval = result.interval
        ends = None if interval is None else (interval.low, interval.high)
        return Answer(result.estimate, result.std_error, ends)
    table = result.tables["coefficients"].set_index("term")
    term = names.get(wanted, wanted)
    if term not in table.index:
        raise UncoveredError(f"params.term = {wanted!r} is not a term of the regression")
    row = table.loc[term]
    return Answer(row["estimate"], row["std_error"], (row["low"], row["high"]))


def _repeated_cross_sections(case: Case, post: str) -> Answer:
    """Answer the interaction of group and period for rows without units: a regression like any other."""
    assert case.frame is not None
    group = case.roles["treatment"][0]
    product = f"{group}:{post}"
    frame = case.frame.assign(**{product: case.frame[group] * case.frame[post]})
    kept = {role: names for role, names in case.roles.items() if role in ("outcome", "weight", "cluster")}
    covariates = [group, post, *(name for name in case.roles.get("covariates", []) if name not in (group, post))]
    roles = {**kept, "treatment": [product], "covariates": covariates}
    result = ask(
        Case(case.spec, frame, roles),
        "ols",
        se=standard_error(case, *_KINDS),
        interval_form=interval_form(case, restated=True),
    )
    term = case.params.get("term") or "treatment:post"
    wanted = {"const": "const", "treatment": group, "post": post, "treatment:post": product}.get(term, term)
    table = result.tables["coefficients"].set_index("term")
    if wanted not in table.index:
        raise UncoveredError(f"params.term = {term!r} is not a term of the regression")
    row = table.loc[wanted]
    own = Answer(row["estimate"], row["std_error"], (row["low"], row["high"]))
    return with_interval(case, own, len(frame) - len(table))
