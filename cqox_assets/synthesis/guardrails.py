"""Measures the effect of the treatment on the guardrails: outcomes that must not get worse."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cqox_assets.catalog import load_estimators
from cqox_assets.declaration import Guardrail
from cqox_assets.discovery.plan import MethodPlan
from cqox_assets.result import Effect, EffectEstimate, Refusal
from cqox_assets.runner import run_guarded, runner_for
from cqox_assets.study import Role, Study

# These say how the outcome was measured, which is not how a guardrail was.
_OF_THE_OUTCOME = (Role.OFFSET, Role.EVENT)


@dataclass(frozen=True)
class GuardrailEffect:
    """The effect on an outcome that must not get worse by more than `margin`; None means it was not measured.

    `contrast` is empty when the effect speaks for every arm; `reason` says why nothing was measured.
    """

    name: str
    margin: float
    direction: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    contrast: str = ""
    estimator: str = ""
    reason: str = ""


def rails_of(study: Study) -> dict[str, Guardrail]:
    """Return the declared guardrails and the columns of that role, which without a declaration may not get worse."""
    undeclared = {name: Guardrail() for name in study.names(Role.GUARDRAILS)}
    return {**undeclared, **study.declaration.guardrails}


def measure_guardrails(study: Study, plan: MethodPlan) -> tuple[GuardrailEffect, ...]:
    """Estimate the effect on each guardrail with the first estimator of the plan that can.

    Parameters
    ----------
    study : Study
        With columns of role `guardrails`; rows without the guardrail's value are left out for it.
    plan : MethodPlan
        Its order decides; estimators of the estimand that the decision rests on come first.
    """
    found: list[GuardrailEffect] = []
    for name, rail in rails_of(study).items():
        found += _measure(study, plan, GuardrailEffect(name, rail.margin, rail.direction))
    return tuple(found)


def _measure(study: Study, plan: MethodPlan, rail: GuardrailEffect) -> list[GuardrailEffect]:
    if rail.name not in study.names(Role.GUARDRAILS):
        return [replace(rail, reason="no column of that name plays the role 'guardrails'")]
    own = _with_guardrail_as_outcome(study, rail.name)
    specs, reason = load_estimators(), "the plan ranks no estimator"
    for name in sorted((name for name, _ in plan.ranked), key=lambda name: plan.estimand not in specs[name].estimands):
        params = {"estimand": plan.estimand} if plan.estimand in specs[name].estimands else {}
        answer = run_guarded(specs[name], own, params, runner_for())
        if isinstance(answer, EffectEstimate) and (effects := list(_headlines(answer))):
            return [_filled(rail, effect, name) for effect in effects]
        reason = answer.reason if isinstance(answer, Refusal) else f"{name} gives no difference with an interval"
    return [replace(rail, reason=reason)]


def _with_guardrail_as_outcome(study: Study, name: str) -> Study:
    values = np.asarray(study.frame[name], dtype=np.float64)
    known = np.isfinite(values)
    own = study.take(known).with_column(name, values[known], Role.OUTCOME)
    roles = {role: names for role, names in own.roles.items() if role not in _OF_THE_OUTCOME}
    covariates = tuple(column for column in study.names(Role.COVARIATES) if column != name)
    return replace(own, roles={**roles, Role.COVARIATES: covariates})


def _headlines(answer: EffectEstimate) -> Iterable[Effect]:
    """Return the headline of each contrast that is a difference in the guardrail's units and has an interval."""
    seen = set()
    for effect in answer.effects:
        plain = effect.scale == "difference" and effect.interval is not None and set(effect.at) <= {"arm"}
        if plain and effect.estimand == answer.estimand and effect.contrast not in seen:
            seen.add(effect.contrast)
            yield effect


def _filled(rail: GuardrailEffect, effect: Effect, estimator: str) -> GuardrailEffect:
    ends = (effect.interval.low, effect.interval.high) if effect.interval is not None else (-np.inf, np.inf)
    low, high = (float(end) if np.isfinite(end) else None for end in ends)
    return replace(
        rail, estimate=float(effect.estimate), low=low, high=high, contrast=effect.contrast, estimator=estimator
    )


def from_document(document: Mapping[str, Any]) -> tuple[GuardrailEffect, ...]:
    """Return the effects that `{"effects": [...]}` holds."""
    return tuple(GuardrailEffect(**row) for row in document["effects"])
