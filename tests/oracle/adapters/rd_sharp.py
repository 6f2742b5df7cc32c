"""The jump at a cutoff, sharp design."""

from tests.oracle import discontinuity
from tests.oracle.cases import Case
from tests.oracle.harness import Answer

KEYS, PARAMS, ROLES = discontinuity.KEYS, discontinuity.PARAMS, discontinuity.ROLES


def answer(case: Case) -> Answer:
    return discontinuity.answer(case, "sharp")
