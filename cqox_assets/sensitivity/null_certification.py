"""Null certification: how often the interval excludes no effect on these very data without one."""

import math
from dataclasses import dataclass, replace

import numpy as np

from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import (
    ROWS,
    RefitParams,
    check,
    effects_table,
    excludes,
    reassigned,
    refit,
    result,
    too_few,
)
from cqox_assets.spec import Context, SensitivitySpec
from cqox_assets.study import Study

_ENOUGH = 40


@dataclass(frozen=True)
class CertificationParams(RefitParams):
    """Parameters of null certification.

    Parameters
    ----------
    refits : int
        Permutations; with 200 a size of 5% is known to within 3 points.
    """

    refits: int = 200


def run(
    study: Study, estimate: EffectEstimate, params: CertificationParams, context: Context
) -> SensitivityResult | Refusal:
    """Permute the treatment and report the share of intervals that exclude no effect, against the nominal size.

    Notes
    -----
    The user's own outcomes, covariates and sample size, with no effect by construction. Warns where the share is
    above what chance allows at the nominal size (three binomial standard errors). The first permutations are those of
    `placebo_treatment`, so that both questions share their fits.
    """
    refusal = check(SPEC, estimate, context)
    if refusal is not None:
        return refusal
    study = study.studied()
    found = refit(estimate, reassigned(study, params.refits, params.seed), context)
    refusal = too_few(SPEC, found)
    if refusal is not None:
        return refusal
    nominal = 1 - params.level
    rejected = np.array([excludes(effect, estimate.headline.null) for effect in found.effects])
    share, noise = float(rejected.mean()), math.sqrt(nominal * params.level / len(rejected))
    status = Status.WARN if share > nominal + 3 * noise else Status.PASS
    meaning = (
        f"On these data with a permuted treatment {share:.1%} of the {params.level:.0%} intervals exclude no effect "
        f"({found.words}); {nominal:.0%} is nominal, give or take {2 * noise:.1%} by chance."
    )
    few = status is Status.PASS and len(rejected) < _ENOUGH
    advice = (
        "The interval keeps its promise on data like these."
        if status is Status.PASS and not few
        else f"Nothing speaks against the interval, but {len(rejected)} refits are too few to certify it."
        if status is Status.PASS
        else "The interval is too narrow on data like these: use inference: bootstrap, or an estimator that holds."
    )
    told = result(
        SPEC, study, estimate, share, "share of intervals that exclude no effect", status, (meaning, advice),
        effects_table(found),
    )  # fmt: skip
    return replace(told, implies="Whether the interval keeps its promise on these data is still open.") if few else told


SPEC = SensitivitySpec(
    name="null_certification",
    title="Null certification",
    question="On these data without an effect, how often would the interval claim one?",
    run=run,
    holds="What the interval calls an effect is one as rarely by mistake as it promises.",
    breaks="The interval calls chance an effect more often than it promises, so significance is overstated.",
    applies_to=ROWS,
    reference="Young 2019, doi:10.1093/qje/qjy029",
    params=CertificationParams,
    most=2,
    budget_seconds=1.2,
)
