"""Exposure conditions in a network: contrasts, condition means and exposure probabilities."""

from dataclasses import replace
from typing import Any

import pandas as pd

from cqox_assets.result import EffectEstimate
from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, Z, ask, renamed

KEYS = ("edges", "exposure", "design", "normalise")
PARAMS = ("probability", "contrast", "condition")
ROLES = ("outcome", "treatment", "covariates", "node", "propensity")
_ESTIMANDS = {("d10", "d00"): "direct", ("d01", "d00"): "indirect", ("d11", "d00"): "total"}


def answer(case: Case) -> Answer:
    report = case.choose("report", {name: name for name in ("contrast", "condition_mean", "mean_exposure_probability")})
    case.choose("exposure", {"own_by_any_treated_neighbour": None})
    case.choose("design", {"bernoulli": None})
    case.choose("se", {None: None, "aronow_samii": None})
    case.choose("ci", {None: None, "normal": None})
    forms = ("hajek", "horvitz_thompson", "unweighted")
    settings: dict[str, Any] = {
        "normalise": case.choose("normalise", {None: "hajek", **{name: name for name in forms}}),
        "probability": case.params.get("probability"),
        "units": "all",  # the vocabulary's means are over all nodes, whether they have neighbours or not
    }
    if report == "contrast":
        return _contrast(case, settings)
    result = ask(_on_network(case), "network_effects", **settings)
    table, column = ("condition_means", "mean") if report == "condition_mean" else ("conditions", "mean_probability")
    rows = result.tables[table].set_index("condition")
    condition = case.params.get("condition")
    if condition not in rows.index:
        raise UncoveredError(f"params.condition = {condition!r} is not among {', '.join(rows.index)}")
    value = float(rows.loc[condition, column])
    if report != "condition_mean":
        return Answer(value)
    error = float(rows.loc[condition, "std_error"])
    return Answer(value, error, (value - Z * error, value + Z * error))


def _contrast(case: Case, settings: dict[str, Any]) -> Answer:
    asked = tuple(case.params.get("contrast") or ())
    estimand = _ESTIMANDS.get(asked, _ESTIMANDS.get(asked[::-1]))  # type: ignore[call-overload]
    result = ask(_on_network(case), "network_effects", estimand=estimand, **settings)
    table = result.tables["contrasts"]
    for sign, pair in ((1.0, asked), (-1.0, asked[::-1])):
        row = table[[(one, other) == pair for one, other in zip(table["compared"], table["reference"], strict=True)]]
        if len(row):
            found = row.iloc[0]
            if pd.isna(found["std_error"]):
                return Answer(sign * found["estimate"], extras=_counts(result))
            low, high = sorted((sign * found["low"], sign * found["high"]))
            return Answer(sign * found["estimate"], found["std_error"], (low, high), _counts(result))
    raise UncoveredError(f"params.contrast = {asked!r} is not reported")


def _counts(result: EffectEstimate) -> dict[str, object]:
    return {"counts": result.tables["conditions"].set_index("condition")["units"].to_dict()}


def _on_network(case: Case) -> Case:
    """Name the nodes `unit` and the ends of the edges `source` and `target`; both listings mean the same ties."""
    said = case.spec.get("edges") or {}
    if case.edges is None or said.get("listed") not in ("once", "both_directions"):
        raise UncoveredError(f"edges listed {said.get('listed')!r} are not offered")
    strange = sorted(set(said) - {"file", "source", "target", "listed"})
    if strange:
        raise UncoveredError(f"edges.{strange[0]} is not known to the adapter")
    if not {said["source"], said["target"]} <= set(case.edges.columns):
        raise UncoveredError(f"the edges have no columns '{said['source']}' and '{said['target']}'")
    edges = case.edges[[said["source"], said["target"]]].set_axis(["source", "target"], axis=1)
    return replace(renamed(case, node="unit"), edges=edges)
