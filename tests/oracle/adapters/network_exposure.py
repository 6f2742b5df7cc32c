"""Exposure conditions in a network: contrasts, condition means and exposure probabilities."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cqox_assets.result import EffectEstimate
from tests.oracle.cases import Case, UncoveredError
from tests.oracle.harness import Answer, ask, renamed

KEYS = ("edges", "exposure", "design", "normalise")
PARAMS = ("probability", "contrast", "condition")
ROLES = ("outcome", "treatment", "covariates", "node", "propensity")
# Contrasts that the product reports, by estimand and exposure.
_CONTRASTS: Mapping[tuple[str, str], tuple[str, str | None]] = {
    ("d10", "d00"): ("direct", None),
    ("d01", "d00"): ("indirect", None),
    ("d11", "d00"): ("total", None),
    ("d11", "d01"): ("direct", "d11 - d01"),
}


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
    }
    if report == "contrast":
        return _contrast(case, settings)
    result = ask(_on_network(case), "network_effects", **settings)
    table, column = ("condition_means", "mean") if report == "condition_mean" else ("conditions", "mean_probability")
    rows = result.tables[table].set_index("condition")
    condition = case.params.get("condition")
    if condition not in rows.index:
        raise UncoveredError(f"params.condition = {condition!r} is not among {', '.join(rows.index)}")
    return Answer(float(rows.loc[condition, column]))


def _contrast(case: Case, settings: dict[str, Any]) -> Answer:
    asked = tuple(case.params.get("contrast") or ())
    sign, pair = (1.0, asked) if asked in _CONTRASTS else (-1.0, asked[::-1])
    if pair not in _CONTRASTS:
        raise UncoveredError(f"params.contrast = {asked!r} is not reported")
    estimand, exposure = _CONTRASTS[pair]
    result = ask(_on_network(case), "network_effects", estimand=estimand, **settings)
    effect = next(item for item in result.effects if item.estimand == estimand and item.at.get("exposure") == exposure)
    ends = None if effect.interval is None else sorted((sign * effect.interval.low, sign * effect.interval.high))
    counts = _counts(result)
    return Answer(sign * effect.estimate, effect.std_error, None if ends is None else (ends[0], ends[1]), counts)


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
