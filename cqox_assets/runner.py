"""Runs a catalogue entry on a study: roles, arms, bootstrap and bugs are handled here, once."""

import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.catalog import entry_named, load_estimators
from cqox_assets.errors import CatalogError, ContractError, CqoxError, MappingError
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.numerics.bootstrap import resampled_rows
from cqox_assets.numerics.inference import draws_effect
from cqox_assets.numerics.logit import SeparationError
from cqox_assets.numerics.sample import redundant_notice
from cqox_assets.numerics.threads import threads_for
from cqox_assets.result import Effect, EffectEstimate, Failure, Outcome, Refusal, with_provenance
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, build_params
from cqox_assets.study import Role, Study, TreatmentKind
from cqox_assets.suitability import compares_arms, refuse_early, separating_covariates, suited_to

_SEVERITY = {Status.PASS: 0, Status.NOT_RUN: 1, Status.WARN: 2, Status.FAIL: 3}


def run_estimator(
    spec: EstimatorSpec, study: Study, params: CommonParams | None = None, context: Context | None = None
) -> EffectEstimate | Refusal:
    """Run one estimator on one study.

    Roles that are missing or that the estimator cannot honour become a refusal; several arms become one
    contrast each against the reference arm, never an average; `inference` of the parameters may replace the
    analytic standard errors by resampling.
    """
    params = spec.params() if params is None else params
    context = runner_for() if context is None else context
    started = time.perf_counter()
    try:
        with threads_for(len(study)):
            outcome = _answer(spec, study, params, context)
    except (CatalogError, ContractError):
        raise  # a wrong parameter is said to the caller; a broken contract is a bug, never a refusal
    except CqoxError as error:
        outcome = _in_words(spec, study, error)
    facts = {
        "fingerprint": study.fingerprint,
        "params": asdict(params),
        "seed": params.seed,
        "seconds": round(time.perf_counter() - started, 6),
    }
    return with_provenance(outcome, **facts)  # type: ignore[return-value]


def _answer(spec: EstimatorSpec, study: Study, params: CommonParams, context: Context) -> EffectEstimate | Refusal:
    suited, notices = suited_to(spec, study)
    outcome = refuse_early(spec, suited) or _run_contrasts(spec, suited, params, context)
    if isinstance(outcome, EffectEstimate) and params.inference != "analytic" and not spec.resamples:
        outcome = _resample(spec, suited, params, context, outcome)
    if not isinstance(outcome, EffectEstimate):
        return outcome
    if study.has(Role.COVARIATES) and Role.COVARIATES in spec.accepts | spec.requires:
        notices = (*notices, *redundant_notice(study.matrix(), study.names(Role.COVARIATES), outcome.notices))
    said = dict.fromkeys((*study.notices, *notices, *outcome.notices))  # an estimate by way of another repeats its own
    return replace(outcome, notices=tuple(said))


def _in_words(spec: EstimatorSpec, study: Study, error: CqoxError) -> Refusal:
    """Turn data that a model cannot be fitted to into a refusal with the error's own words."""
    reason, _, remedy = error.message.partition("; ")
    culprits = separating_covariates(study) if isinstance(error, SeparationError) else []
    if culprits:
        reason += f"; {', '.join(repr(name) for name in culprits[:5])} does so alone"
    return spec.refuse(error.code, reason, remedy or "see the data diagnostics of this study")


def run_guarded(
    spec: EstimatorSpec,
    study: Study,
    params: Mapping[str, Any] | None = None,
    context: Context | None = None,
    run_id: str = "",
) -> Outcome:
    """Run one estimator and turn a bug into a `Failure`; the one place that catches broadly.

    `study.yaml` may pin methods (others are refused as `not_selected`) and parameters per estimator.
    """
    declared = study.declaration
    if declared.methods and spec.name not in declared.methods:
        return Refusal(
            spec.name,
            "not_selected",
            "study.yaml pins other methods",
            f"add '{spec.name}' to methods in study.yaml",
            {"fingerprint": study.fingerprint},
        )
    try:
        values = {**declared.params.get(spec.name, {}), **(params or {})}
        if declared.estimand in spec.estimands and "estimand" not in values:
            values["estimand"] = declared.estimand
        return run_estimator(spec, study, build_params(spec.params, values), context)
    except (CatalogError, MappingError) as error:
        return Refusal(
            spec.name, error.code, error.message, "correct study.yaml or the run config",
            {"fingerprint": study.fingerprint},
        )  # fmt: skip
    except Exception as error:  # a bug must become a recorded Failure, never a lost run
        return Failure(
            spec.name, f"{type(error).__name__}: {error}", traceback.format_exc(), run_id,
            {"fingerprint": study.fingerprint},
        )  # fmt: skip


def runner_for(context: Context | None = None) -> Context:
    """Return a context that runs any estimator of the catalogue by name, without shared nuisances, and ranks them.

    What it runs keeps the predictions that it fits in `context.fits`, if there are such.
    """
    fits = None if context is None else context.fits

    def run(name: str, study: Study, values: Mapping[str, Any]) -> Outcome:
        spec = entry_named(load_estimators(), name)
        return run_guarded(spec, study, values, runner_for(Context(fits=fits)))

    def catalogue(study: Study) -> Mapping[str, EstimatorSpec]:
        from cqox_assets.discovery.plan import plan_methods

        known = load_estimators()
        return {name: known[name] for name in plan_methods(study).names}

    return replace(context or Context.fresh(), runner=run, catalogue=catalogue)


def _run_contrasts(
    spec: EstimatorSpec, study: Study, params: CommonParams, context: Context
) -> EffectEstimate | Refusal:
    try:
        apart = study.treatment_kind is TreatmentKind.CATEGORICAL and not spec.joint_arms
        if not apart or not compares_arms(spec, study):
            return spec.run(study, params, context)
        answers = {}
        for arm, part in study.contrasts():
            answer = spec.run(part, params, replace(context, arm=arm))
            if isinstance(answer, Refusal):
                return replace(answer, reason=f"arm '{arm}': {answer.reason}")
            answers[arm] = answer
        return _merge(study, answers)
    except (CatalogError, ContractError):
        raise
    except CqoxError as error:
        return _in_words(spec, study, error)


def _merge(study: Study, answers: Mapping[str, EffectEstimate]) -> EffectEstimate:
    """Put the contrasts of several arms side by side; a diagnostic keeps its worst status and names the arm."""
    first = next(iter(answers.values()))
    effects: list[Effect] = []
    tables: dict[str, list[pd.DataFrame]] = {}
    worst: dict[str, Diagnostic] = {}
    for arm, answer in answers.items():
        effects += [replace(effect, at={**effect.at, "arm": arm}) for effect in answer.effects]
        for name, table in answer.tables.items():
            tables.setdefault(name, []).append(table.assign(arm=arm))
        for item in answer.diagnostics:
            named = replace(item, detail=f"Arm '{arm}': {item.detail}")
            if item.name not in worst or _SEVERITY[item.status] > _SEVERITY[worst[item.name].status]:
                worst[item.name] = named
    codes = study.column(Role.TREATMENT)
    sample = replace(
        first.sample,
        used=len(study),
        per_arm={arm: int((codes == code).sum()) for code, arm in enumerate(study.arms)},
    )
    pairwise = (
        f"{len(answers)} contrasts, each among the units of its arm and of the reference arm '{study.arms[0]}' only: "
        f"an average effect is over these units, not over all {len(study)}, and differs from it where effects vary"
    )
    notices = dict.fromkeys([pairwise, *(notice for answer in answers.values() for notice in answer.notices)])
    return replace(
        first,
        effects=tuple(effects),
        sample=sample,
        diagnostics=tuple(worst.values()),
        tables={name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        notices=tuple(notices),
    )


def _resample(
    spec: EstimatorSpec, study: Study, params: CommonParams, context: Context, point: EffectEstimate
) -> EffectEstimate | Refusal:
    """Replace analytic inference by the bootstrap of rows or clusters; the whole estimator is refitted each draw."""
    # Rows of one unit belong together where the entry reads them in time.
    panel = Role.UNIT in spec.requires or (study.repeats_units and {Role.UNIT, Role.TIME} <= spec.accepts)
    if params.inference == "cluster_bootstrap" and not (panel or study.has(Role.CLUSTER)):
        return spec.refuse(
            "missing_role",
            "cluster_bootstrap needs the role 'cluster'",
            "map it in study.yaml: roles: {cluster: <column>}",
        )
    cluster = study.codes(Role.CLUSTER) if params.inference == "cluster_bootstrap" else None
    if panel and cluster is None:
        cluster = study.codes(Role.UNIT)
    analytic = replace(params, inference="analytic")
    draws: list[list[float]] = []
    failed = 0
    for rows in resampled_rows(len(study), params.draws, params.seed, cluster):
        drawn = study.redrawn(rows) if panel else study.take(rows)
        answer = _run_contrasts(spec, drawn, analytic, replace(context, nuisance=None))
        if isinstance(answer, Refusal) or len(answer.effects) != len(point.effects):
            failed += 1
            continue
        draws.append([effect.estimate for effect in answer.effects])
    if failed > params.draws // 10:
        return spec.refuse(
            "bootstrap_failed",
            f"{failed} of {params.draws} bootstrap samples could not be estimated",
            "use the analytic inference, or a sample with more rows per arm",
        )
    values = np.array(draws)
    effects = [
        draws_effect(
            effect.estimate, values[:, k], estimand=effect.estimand, contrast=effect.contrast, level=params.level,
            at=effect.at, scale=effect.scale, null=effect.null,
        )
        for k, effect in enumerate(point.effects)
    ]  # fmt: skip
    notices = point.notices + (
        (f"{failed} bootstrap samples could not be estimated and were left out",) if failed else ()
    )
    if params.inference == "bootstrap" and study.has(Role.CLUSTER):
        notices += (
            "The bootstrap draws rows as asked for; the clusters do not enter it, cluster_bootstrap uses them.",
        )
    kind = ("clusters" if params.inference == "cluster_bootstrap" else "units") if cluster is not None else "rows"
    return replace(
        point, effects=tuple(effects), inference=f"percentile bootstrap of {kind}, {len(draws)} draws", notices=notices
    )
