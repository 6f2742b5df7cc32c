"""Group-time effects, their averages and the test of the periods before treatment."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask

KEYS = ("aggregation", "always_treated", "base_period", "control_group", "covariate_timing", "est_method")
KEYS += ("never_treated",)
PARAMS = ("anticipation", "at", "g", "t")
ROLES = ("outcome", "unit", "time", "cohort", "covariates", "weight", "cluster")


def answer(case: Case) -> Answer:
    case.choose("ci", {"normal": None, "published": None, None: None})
    case.choose("se", {"influence_clustered": None, "bootstrap": None, None: None})
    case.choose("always_treated", {"drop": None, None: None})
    case.choose("never_treated", {0: None, None: None})
    case.choose("covariate_timing", {"earlier_period": None, None: None})
    kinds = {name: name for name in ("simple", "group", "calendar", "dynamic")}
    kind = case.choose("aggregation", {None: "simple", **kinds})
    result = ask(
        case,
        "difference_in_differences",
        method="callaway_santanna",
        est_method=case.choose("est_method", {name: name for name in ("dr", "ipw", "reg")}),
        control_group=case.choose("control_group", {name: name for name in ("nevertreated", "notyettreated")}),
        base_period=case.choose("base_period", {name: name for name in ("varying", "universal")}),
        aggregation=kind,
        se="influence",
        anticipation=int(case.params.get("anticipation") or 0),
        draws=100,
    )
    report = case.choose("report", {name: name for name in ("att_gt", "overall", "effect_at", "pretest_p")})
    if report == "pretest_p":
        found = result.diagnostic("pretrend_p")
        assert found is not None
        assert found.value is not None
        return Answer(found.value)
    if report == "att_gt":
        table = result.tables["att_gt"]
        rows = table[(table["group"] == case.params["g"]) & (table["time"] == case.params["t"])]
    else:
        table = result.tables["aggregations"]
        table = table[table["aggregation"] == kind]
        rows = table[table["at"].isna() if report == "overall" else table["at"] == case.params["at"]]
    if len(rows) != 1:
        raise UncoveredError("the cell is not reported")
    row = rows.iloc[0]
    return Answer(row["estimate"], row["std_error"], (row["low"], row["high"]))
