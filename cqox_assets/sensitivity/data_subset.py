"""Data subset: on random parts of the data the answer must scatter no more than chance makes it."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.measures import Status
from cqox_assets.nuisance.models import groups_of
from cqox_assets.numerics.perturb import subsets
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import AGAIN, RefitParams, check, effects_table, refit, result, too_few
from cqox_assets.spec import Context, SensitivitySpec
from cqox_assets.study import Study

_LIMIT = 2.0


@dataclass(frozen=True)
class SubsetParams(RefitParams):
    """Parameters of the data subset question.

    Parameters
    ----------
    share : float
        Share of the rows (or clusters, or units) in each subset, between 0 and 1.
    """

    share: float = 0.8


def run(study: Study, estimate: EffectEstimate, params: SubsetParams, context: Context) -> SensitivityResult | Refusal:
    """Estimate on random subsets of rows, of whole clusters, or of units with all their periods.

    Notes
    -----
    An estimate on a share s of the rows differs from the whole's by a standard deviation of SE sqrt(1 / s - 1) if the
    standard error is right. Judged is the ratio of the root mean square difference to that.
    """
    refusal = check(SPEC, estimate, context)
    if refusal is not None:
        return refusal
    study = study.studied()
    whole = groups_of(study)
    parts = (study.take(rows) for rows in subsets(len(study), params.share, params.refits, params.seed, whole))
    found = refit(estimate, parts, context)
    refusal = too_few(SPEC, found)
    if refusal is not None:
        return refusal
    expected = (estimate.std_error or 1.0) * np.sqrt(1 / params.share - 1)
    ratio = float(np.sqrt(np.mean((found.estimates - estimate.estimate) ** 2)) / expected)
    null = estimate.headline.null
    same = float(np.mean(np.sign(found.estimates - null) == np.sign(estimate.estimate - null)))
    status = Status.WARN if ratio > _LIMIT else Status.PASS
    meaning = (
        f"On random subsets of {params.share:.0%} ({found.words}) the estimate scatters {ratio:.2f} times as much as "
        f"its standard error says it should, and keeps its sign in {same:.0%}."
    )
    advice = (
        "The answer does not hang on a few rows."
        if status is Status.PASS
        else "A few rows or clusters move the answer: look for outliers and extreme weights, and map clusters."
    )
    return result(
        SPEC, study, estimate, ratio, "observed over expected scatter", status, (meaning, advice), effects_table(found)
    )


SPEC = SensitivitySpec(
    name="data_subset",
    title="Data subset",
    question="Does the answer hold on random parts of the data?",
    run=run,
    holds="The rows agree with one another as far as chance lets them.",
    breaks="Some rows pull the answer more than chance does, so it speaks for them more than for the rest.",
    applies_to=AGAIN,
    reference="Sharma & Kiciman 2020, doi:10.48550/arXiv.2011.04216",
    params=SubsetParams,
    most=2,
    budget_seconds=0.6,
)
