"""Placebo outcome: an outcome from before the treatment cannot have been changed by it."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import AGAIN, RefitParams, check, effects_table, excludes, refit, result
from cqox_assets.spec import Context, SensitivitySpec
from cqox_assets.study import Role, Study

_AS_LARGE = 0.75


def run(study: Study, estimate: EffectEstimate, params: RefitParams, context: Context) -> SensitivityResult | Refusal:
    """Estimate the effect on each column of the role `pre_outcome`, which is no covariate meanwhile.

    Notes
    -----
    A placebo effect says that the groups still differ where they cannot (Lipsitch, Tchetgen Tchetgen & Cohen 2010,
    doi:10.1097/EDE.0b013e3181d61eeb). Judged is the largest effect, with Bonferroni's correction; it fails where it is
    nearly as large as the effect itself, in standard deviations of each outcome, and so explains it away.
    """
    refusal = check(SPEC, estimate, context)
    if refusal is not None:
        return refusal
    study = study.studied()
    names = [name for name in study.names(Role.PRE_OUTCOME) if study.frame[name].nunique() > 1]
    if not names:
        return Refusal(
            SPEC.name, "no_placebo_outcome", "no column is an outcome from before the treatment",
            "map one in study.yaml: roles: {pre_outcome: <column>}",
        )  # fmt: skip
    found = refit(estimate, (_of(study, name) for name in names), context)
    if not found.effects or found.refused:
        reason = f"{found.refused} of {found.asked} placebo outcomes could not be estimated"
        return Refusal(SPEC.name, "refits_refused", reason, "see why the estimator refuses them")
    ratios = np.array([abs(effect.estimate) / (effect.std_error or np.inf) for effect in found.effects])
    worst = int(ratios.argmax())
    effect = found.effects[worst]
    p = min(1.0, (effect.p_value if effect.p_value is not None else float(not excludes(effect))) * len(names))
    label = study.label(names[worst])
    meaning = (
        f"On '{label}', measured before the treatment, the estimator finds {effect.estimate:.4g}, {ratios[worst]:.1f} "
        f"standard errors from none (p {p:.3g} for {len(names)} such outcome{'s' if len(names) > 1 else ''})."
    )
    status = Status.PASS
    if p < 1 - params.level:
        share = _share_of_effect(study, estimate, effect.estimate, names[worst])
        status = Status.WARN if share < _AS_LARGE else Status.FAIL
        meaning = f"{meaning[:-1]}; that is {share:.0%} of the effect itself, each in standard deviations."
    advice = (
        "The groups do not differ where they cannot."
        if status is Status.PASS
        else f"The groups differed in '{label}' already: map what makes them differ, or compare changes from it."
    )
    table: pd.DataFrame = effects_table(found).assign(outcome=[study.label(name) for name in names])
    return result(
        SPEC, study, estimate, float(ratios[worst]), "standard errors of the largest placebo effect", status,
        (meaning, advice), table,
    )  # fmt: skip


def _share_of_effect(study: Study, estimate: EffectEstimate, placebo: float, name: str) -> float:
    """Return how large a placebo effect is beside the effect, each in standard deviations of its outcome."""
    own, other = (float(np.nanstd(study.frame[column])) for column in (study.name(Role.OUTCOME), name))
    size = abs(estimate.estimate - estimate.headline.null) / own if own > 0 else 0.0
    return abs(placebo) / other / size if size > 0 and other > 0 else np.inf


def _of(study: Study, name: str) -> Study:
    kept = tuple(column for column in study.names(Role.COVARIATES) if column != name)
    roles: dict[Role, tuple[str, ...]] = {
        role: names for role, names in study.roles.items() if role != Role.PRE_OUTCOME
    }
    return replace(study, roles={**roles, Role.OUTCOME: (name,), Role.COVARIATES: kept})


SPEC = SensitivitySpec(
    name="placebo_outcome",
    title="Placebo outcome",
    question="Does the estimator find an effect on an outcome from before the treatment?",
    run=run,
    holds="The groups were alike in what the treatment cannot have changed.",
    breaks="The groups differed before the treatment, and part of the effect may be that difference.",
    applies_to=AGAIN,
    reference="Lipsitch, Tchetgen Tchetgen & Cohen 2010, doi:10.1097/EDE.0b013e3181d61eeb",
    params=RefitParams,
    most=2,
    budget_seconds=0.6,
)
