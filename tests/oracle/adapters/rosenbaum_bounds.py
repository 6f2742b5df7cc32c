"""Rosenbaum bounds of the signed rank test."""

from cqox_assets.numerics.signed_rank import lower_p, signed_ranks, upper_p
from tests.oracle.cases import Case
from tests.oracle.harness import Answer

KEYS = ("statistic", "alternative", "zeros")
PARAMS = ("gamma",)
ROLES = ("pair", "exposed", "control")


def answer(case: Case) -> Answer:
    test = case.choose("report", {"p_value_upper": upper_p, "p_value_lower": lower_p})
    case.choose("statistic", {"wilcoxon_signed_rank_normal": None})
    sign = case.choose("alternative", {"greater": 1.0, "less": -1.0})
    zeros = case.choose("zeros", {"keep": "keep", "drop": "drop"})
    assert case.frame is not None
    exposed, control = (case.frame[case.roles[role][0]].to_numpy(float) for role in ("exposed", "control"))
    ranks = signed_ranks(sign * (exposed - control), zeros)
    return Answer(test(ranks, float(case.params["gamma"])), extras={"statistic": ranks.statistic})
