"""The known mean effect of a simulated file: arithmetic on the file, no estimator."""

from tests.oracle.cases import Case
from tests.oracle.harness import Answer

KEYS: tuple[str, ...] = ()
PARAMS: tuple[str, ...] = ()
ROLES = ("treatment", "true_effect")


def answer(case: Case) -> Answer:
    case.choose("report", {"mean": None})
    assert case.frame is not None
    effect = case.frame[case.roles["true_effect"][0]]
    treated = case.frame[case.roles["treatment"][0]] == 1 if "treatment" in case.roles else None
    extras = {} if treated is None else {"satt": float(effect[treated].mean()), "n_treated": int(treated.sum())}
    return Answer(float(effect.mean()), None, None, extras)
