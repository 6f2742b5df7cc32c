"""Placebo treatment: a treatment that was dealt out anew at random has no effect to be found."""

import numpy as np

from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import (
    ROWS,
    RefitParams,
    check,
    effects_table,
    reassigned,
    refit,
    result,
    too_few,
)
from cqox_assets.spec import Context, SensitivitySpec
from cqox_assets.study import Study


def run(study: Study, estimate: EffectEstimate, params: RefitParams, context: Context) -> SensitivityResult | Refusal:
    """Permute the treatment (over clusters or histories of units where these were treated) and estimate again.

    Notes
    -----
    Placebo effects should scatter around no effect. What is judged is their mean against its own standard error; the
    share of placebo effects as large as the estimate is a permutation p-value of the sharp null.
    """
    refusal = check(SPEC, estimate, context)
    if refusal is not None:
        return refusal
    study = study.studied()
    found = refit(estimate, reassigned(study, params.refits, params.seed), context)
    refusal = too_few(SPEC, found)
    if refusal is not None:
        return refusal
    null = estimate.headline.null
    moved = found.estimates - null
    spread = float(moved.std(ddof=1))
    distance = abs(float(moved.mean())) / (spread / np.sqrt(len(moved))) if spread > 0 else 0.0
    as_large = float(np.mean(np.abs(moved) >= abs(estimate.estimate - null)))
    status = Status.WARN if distance > 3 else Status.PASS
    meaning = (
        f"With the treatment dealt out at random ({found.words}) the mean effect is {moved.mean() + null:.4g}, "
        f"{distance:.1f} of its standard errors from none; {as_large:.0%} of the placebo effects are as large as the "
        f"estimate {estimate.estimate:.4g}."
    )
    advice = (
        "The estimator finds nothing where there is nothing, as it should."
        if status is Status.PASS
        else "The estimator finds effects where there are none: read its diagnostics, and prefer another one."
    )
    return result(
        SPEC, study, estimate, distance, "standard errors of the mean placebo effect", status, (meaning, advice),
        effects_table(found),
    )  # fmt: skip


SPEC = SensitivitySpec(
    name="placebo_treatment",
    title="Placebo treatment",
    question="Does the estimator find an effect of a treatment that was dealt out at random?",
    run=run,
    holds="The effect is not one that the estimator finds for any treatment.",
    breaks="Part of the effect may be one that the estimator finds for any treatment.",
    applies_to=ROWS,
    reference="Eggers, Tunon & Dafoe 2024, doi:10.1111/ajps.12818",
    params=RefitParams,
    most=2,
    budget_seconds=0.6,
)
