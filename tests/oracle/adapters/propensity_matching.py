"""Matching on the logit of the propensity."""

from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, headline, with_propensity

KEYS = ("propensity", "score", "replacement", "ties", "order", "bias_adjustment")
PARAMS = ("ratio", "tie_tolerance")  # a caliper has no unit in the vocabulary, so an entry with one stays uncovered
ROLES = ("outcome", "treatment", "covariates", "propensity")


def answer(case: Case) -> Answer:
    case.choose("report", {"estimate": None})
    case.choose("score", {"linear_predictor": None, None: None})
    case.choose("ci", {"normal": None, None: None})
    replacement = case.choose("replacement", {True: True, False: False})
    ties = case.choose("ties", {"average": "average", "first_in_file": "first_in_file"})
    if not replacement and ties == "average":
        raise UncoveredError("without replacement ties cannot be averaged")
    kinds = {None: "auto", "abadie_imbens_homoskedastic": "abadie_imbens_homoskedastic", "paired": "paired"}
    result = ask(
        with_propensity(case),
        "propensity_matching",
        estimand=case.choose("estimand", {"ATT": "ATT", "ATE": "ATE", "ATC": "ATC"}),
        method="nearest",
        ratio=int(case.params.get("ratio", 1)),
        caliper=None,
        replacement=replacement,
        ties=ties,
        tie_tolerance=float(case.params.get("tie_tolerance", 1e-9)),
        order=case.choose("order", {None: "descending_score", "descending_score": "descending_score"}),
        bias_adjustment=bool(case.choose("bias_adjustment", {True: True, False: False, None: False})),
        standard_error=case.choose("se", kinds),
    )
    weights, matches = result.tables["weights"], result.tables["matches"]
    used = int(((weights["treated"] == 0) & (weights["weight"] > 0)).sum())
    return headline(result, n_controls_used=used, n_pairs=len(matches))
