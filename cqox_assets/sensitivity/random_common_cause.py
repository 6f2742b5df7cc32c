"""Random common cause: a covariate that is pure noise must not change the answer."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cqox_assets.measures import Status
from cqox_assets.numerics.perturb import noise
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import ROWS, RefitParams, check, effects_table, refit, result, too_few
from cqox_assets.spec import Context, SensitivitySpec
from cqox_assets.study import Role, Study

_COLUMN = "random common cause"
_LIMIT = 0.5


def run(study: Study, estimate: EffectEstimate, params: RefitParams, context: Context) -> SensitivityResult | Refusal:
    """Add a column of noise to the covariates and estimate again.

    Notes
    -----
    Judged is the typical change (root mean square) in standard errors of the estimate.
    """
    refusal = check(SPEC, estimate, context)
    if refusal is not None:
        return refusal
    study = study.studied()
    found = refit(
        estimate, (_with_noise(study, column) for column in noise(len(study), params.refits, params.seed)), context
    )
    refusal = too_few(SPEC, found)
    if refusal is not None:
        return refusal
    changes = (found.estimates - estimate.estimate) / (estimate.std_error or 1.0)
    typical = float(np.sqrt(np.mean(changes**2)))
    status = Status.WARN if typical > _LIMIT else Status.PASS
    meaning = (
        f"A covariate of pure noise changes the estimate {estimate.estimate:.4g} by {typical:.2f} standard errors on "
        f"average ({found.words})."
    )
    advice = (
        "The answer does not hang on such a column."
        if status is Status.PASS
        else "The answer is unstable: use more repeats of cross-fitting, fewer covariates, or more rows."
    )
    table: pd.DataFrame = effects_table(found).assign(change=changes)
    return result(SPEC, study, estimate, typical, "standard errors of change", status, (meaning, advice), table)


def _with_noise(study: Study, column: np.ndarray) -> Study:
    frame = study.frame.copy(deep=False)
    frame[_COLUMN] = column
    roles = {**study.roles, Role.COVARIATES: (*study.names(Role.COVARIATES), _COLUMN)}
    return replace(study, frame=frame, roles=roles)


SPEC = SensitivitySpec(
    name="random_common_cause",
    title="Random common cause",
    question="Does a covariate of pure noise change the answer?",
    run=run,
    holds="The answer does not depend on which irrelevant columns are there.",
    breaks="The answer depends on irrelevant columns, so it is less certain than its interval says.",
    applies_to=(*ROWS, "iv"),
    reference="Sharma & Kiciman 2020, doi:10.48550/arXiv.2011.04216",
    params=RefitParams,
    most=2,
    budget_seconds=0.6,
)
