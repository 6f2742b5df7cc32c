"""One coefficient per time since treatment beside unit and period effects, and the test of all leads."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, interval_form, standard_error

KEYS = ("dof", "never_treated")
PARAMS = ("bins", "event_time", "event_times", "k", "reference_event_time")
ROLES = ("outcome", "cohort", "covariates", "unit", "time", "cluster", "weight")


def answer(case: Case) -> Answer:
    report = case.choose("report", {"coefficient": "coefficient", "pretrend_p_chi2": "p"})
    case.choose("never_treated", {0: None, None: None})
    dof = {None: "time_effects_only", "time_effects_only": "time_effects_only", "all_effects": "all_effects"}
    bins = case.params.get("bins")
    result = ask(
        case, "difference_in_differences", method="event_study", always_treated="keep", draws=100,
        se=standard_error(case, "classical", "HC0", "HC1", "CR0", "CR1"), interval_form=interval_form(case),
        dof=case.choose("dof", dof), reference_event_time=float(case.params.get("reference_event_time", -1)),
        bins=None if bins is None else tuple(bins),
    )  # fmt: skip
    table = result.tables["event_study"].set_index("event_time")
    wanted = case.params.get("event_times")
    if wanted is not None and sorted(wanted) != list(table.index):
        raise UncoveredError(f"the event times are {list(table.index)}")
    if report == "p":
        found = result.diagnostic("pretrend_p")
        assert found is not None
        assert found.value is not None
        return Answer(found.value)
    row = table.loc[case.params["event_time"]]
    return Answer(row["estimate"], row["std_error"], (row["low"], row["high"]))
