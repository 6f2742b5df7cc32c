"""Reproduces what a card says from the stored study: the headline number again, and the rule's verdict again."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cqox_assets.catalog import load_estimators
from cqox_assets.result import EffectEstimate, Nuisance, Refusal
from cqox_assets.runner import run_estimator, runner_for
from cqox_assets.spec import Context, build_params

if TYPE_CHECKING:
    from cqox_assets.results import Present


def headline_estimator(card: Mapping[str, Any]) -> str | None:
    """Return the estimator to reproduce: the one whose number the consensus of the preferred question is.

    The consensus is a weighted median, so it usually is one estimator's number; if it lies between two, the first that
    counts is taken. None if nothing was estimated.
    """
    for group in card["synthesis"]["groups"]:
        if group["preferred"]:
            return next(
                (name for name in group["estimators"] if _number(card, name, group) == group["consensus"]),
                next(iter(group["estimators"]), None),
            )
    return card["estimates"][0]["estimator"] if card["estimates"] else None


def _number(card: Mapping[str, Any], name: str, group: Mapping[str, Any]) -> float | None:
    wanted = ("estimand", "contrast", "scale")
    for row in card["estimates"]:
        if row["estimator"] == name:
            same = [effect for effect in row["effects"] if all(effect[key] == group[key] for key in wanted)]
            return float(same[0]["estimate"]) if same else None
    return None


def re_estimate(present: "Present", name: str, *, refit_nuisance: bool = True) -> EffectEstimate | Refusal:
    """Run an estimator again on the stored study, with the parameters that its stored result records.

    Parameters
    ----------
    refit_nuisance : bool
        Whether shared nuisance models are fitted again too, so that nothing but the study and the parameters is taken
        over; else their stored predictions are used, as the run itself did.
    """
    from cqox_assets.nuisance.shared import shared_nuisance

    spec, stored, held = load_estimators()[name], present.estimates[name], None
    if spec.shares_nuisance:
        held = shared_nuisance(present.study) if refit_nuisance else present.nuisance
    context = runner_for(Context(nuisance=held if isinstance(held, Nuisance) else None))
    return run_estimator(spec, present.study, build_params(spec.params, stored.provenance["params"]), context)


def agree(stored: EffectEstimate, again: EffectEstimate | Refusal, tolerance: float = 1e-9) -> bool:
    """Whether two answers have the same effects, each equal relative to its size within the tolerance."""
    if isinstance(again, Refusal) or len(again.effects) != len(stored.effects):
        return False
    return all(
        one.label == other.label and abs(one.estimate - other.estimate) <= tolerance * max(1.0, abs(one.estimate))
        for one, other in zip(stored.effects, again.effects, strict=True)
    )
