"""Dummy outcome: with pure noise for an outcome there is no effect to be found."""

import numpy as np

from cqox_assets.measures import Status
from cqox_assets.numerics.perturb import noise
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import AGAIN, RefitParams, check, effects_table, refit, result, too_few
from cqox_assets.spec import Context, SensitivitySpec
from cqox_assets.study import Role, Study


def run(study: Study, estimate: EffectEstimate, params: RefitParams, context: Context) -> SensitivityResult | Refusal:
    """Replace the outcome by noise of the same mean and spread and estimate again.

    Notes
    -----
    The treatment keeps its covariates, so an estimator that overfits the assignment or whose weights explode shows.
    """
    refusal = check(SPEC, estimate, context)
    if refusal is not None:
        return refusal
    if estimate.headline.scale != "difference":
        reason = f"an effect on the scale '{estimate.headline.scale}' needs an outcome of its own kind"
        return Refusal(SPEC.name, "unknown_scale", reason, "estimate the effect as a difference")
    study = study.studied()
    y, name = study.column(Role.OUTCOME), study.name(Role.OUTCOME)
    made = (
        study.with_column(name, y.mean() + y.std() * column, Role.OUTCOME)
        for column in noise(len(study), params.refits, params.seed)
    )
    found = refit(estimate, made, context)
    refusal = too_few(SPEC, found)
    if refusal is not None:
        return refusal
    errors = np.array([effect.std_error or np.nan for effect in found.effects])
    standardised = found.estimates / errors
    distance = abs(float(np.nanmean(standardised))) * np.sqrt(np.isfinite(standardised).sum())
    status = Status.WARN if distance > 3 else Status.PASS
    meaning = (
        f"With noise for an outcome ({found.words}) the mean effect is {found.estimates.mean():.4g}, {distance:.1f} of "
        f"its standard errors from none (outcome: SD {y.std():.4g})."
    )
    advice = (
        "The estimator finds nothing in noise, as it should."
        if status is Status.PASS
        else "The estimator finds effects in noise: trim extreme propensities, or use fewer covariates."
    )
    return result(
        SPEC, study, estimate, distance, "standard errors of the mean effect on noise", status, (meaning, advice),
        effects_table(found),
    )  # fmt: skip


SPEC = SensitivitySpec(
    name="dummy_outcome",
    title="Dummy outcome",
    question="Does the estimator find an effect on an outcome that is pure noise?",
    run=run,
    holds="The effect is not one that the estimator makes out of noise.",
    breaks="Part of the effect may be one that the estimator makes out of noise.",
    applies_to=AGAIN,
    reference="Sharma & Kiciman 2020, doi:10.48550/arXiv.2011.04216",
    params=RefitParams,
    most=2,
    budget_seconds=0.6,
)
