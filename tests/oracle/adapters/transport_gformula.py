"""Outcome models of a trial averaged over a target population."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer
from tests.oracle.transport import KEYS, PARAMS, ROLES, transported

__all__ = ["KEYS", "PARAMS", "ROLES", "answer"]


def answer(case: Case) -> Answer:
    return transported(case, "gformula")
