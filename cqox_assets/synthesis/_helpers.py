"""Small mathematics that summaries share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cqox_assets.gates.report import GateReport, Named, gate_of
from cqox_assets.measures import Diagnostic
from cqox_assets.result import Effect, EffectEstimate, Nuisance, Outcome

if TYPE_CHECKING:
    from cqox_assets.results import Present


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the value at which half of the weight lies on either side; between two values, their mean."""
    order = np.argsort(values, kind="stable")
    sorted_values = np.asarray(values, dtype=float)[order]
    below = np.cumsum(np.asarray(weights, dtype=float)[order])
    half = below[-1] / 2
    place = int(np.searchsorted(below, half * (1 - 1e-12)))
    if math.isclose(below[place], half, rel_tol=1e-9) and place + 1 < len(sorted_values):
        return float((sorted_values[place] + sorted_values[place + 1]) / 2)
    return float(sorted_values[place])


def normal_quantile(level: float) -> float:
    """Return z with P(|Z| < z) = level."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def spread_of(effect: Effect) -> float | None:
    """Return an effect's standard error, or the one that its finite interval implies, or None."""
    if effect.std_error is not None:
        return effect.std_error
    if effect.interval is None:
        return None
    width = effect.interval.high - effect.interval.low
    if not (math.isfinite(width) and width > 0):
        return None
    return width / (2 * normal_quantile(effect.interval.level))


def weighing_gates(
    gates: Iterable[Mapping[str, Any]], estimates: Mapping[str, Outcome], counted: Iterable[str]
) -> list[Mapping[str, Any]]:
    """Return the judged diagnostics that speak about an answer: of data, shared models and its own estimators.

    Left out are raw imbalance, which adjustment is for, gates that only inform, answers of sensitivity questions, and
    gates of the nuisance models where no counted estimator needs units that could have had either treatment.
    """
    names = set(counted)
    held = [item for name in names if isinstance(item := estimates.get(name), EffectEstimate)]
    weighs = not held or any(made.name == "positivity" for item in held for made in item.assumptions)
    return [
        row
        for row in gates
        if str(row.get("measure") or row["name"]) != "raw_smd"
        and not row.get("informs")
        and not str(row["name"]).startswith("sensitivity:")
        and (not row.get("estimator") or row["estimator"] in names or not names)
        and (row.get("stage") != "nuisance" or weighs)
    ]


def judged_rows(present: "Present") -> list[dict[str, Any]]:
    """Return the rows of a study's gate report; without one, the diagnostics as they judged themselves."""
    from cqox_assets.gates.data import diagnose

    report = present.find("synthesis/design_gates")
    if report is not None:
        return list(report.rows)
    data = present.data or diagnose(present.study)
    return diagnostic_rows(data.diagnostics, present.nuisance, present.estimates)


def diagnostic_rows(
    data: Iterable[Diagnostic], nuisance: Nuisance | None, estimates: Mapping[str, Outcome]
) -> list[dict[str, Any]]:
    """Return diagnostics as rows of a gate report, each with the status that it judged itself."""
    named = [Named(item.name, item) for item in data]
    if nuisance is not None:
        named += [Named(f"nuisance: {item.name}", item, stage="nuisance") for item in nuisance.diagnostics]
    for name, answer in estimates.items():
        if isinstance(answer, EffectEstimate):
            named += [Named(f"{name}: {item.name}", item, name, "estimates") for item in answer.diagnostics]
    return GateReport("own", "", tuple(gate_of(item, item.item.status, ()) for item in named)).rows
