"""The nuisance models that one study's estimators share, or why there are none."""

import traceback

from cqox_assets.errors import CqoxError
from cqox_assets.nuisance.models import fit_nuisance
from cqox_assets.result import Failure, Nuisance, Refusal
from cqox_assets.spec import CommonParams
from cqox_assets.study import Role, Study, TreatmentKind

_NAME = "nuisance_models"


def shared_nuisance(study: Study, run_id: str = "") -> Nuisance | Refusal | Failure:
    """Fit the default nuisance models once.

    Returns
    -------
    Nuisance, Refusal or Failure
        A refusal where the study has no arms, outcome or covariates, or where the models cannot be fitted; a failure
        where a bug was raised. Both leave it to each estimator to fit its own or to say what it lacks.
    """
    facts = {"fingerprint": study.fingerprint}
    if study.treatment_kind not in (TreatmentKind.BINARY, TreatmentKind.CATEGORICAL):
        reason, remedy = f"the treatment is {study.treatment_kind}", "code the treatment in arms"
        return Refusal(_NAME, "treatment_kind", reason, remedy, facts)
    for role in (Role.OUTCOME, Role.COVARIATES):
        if not study.has(role):
            remedy = f"map {role} in study.yaml if the arms may differ"
            return Refusal(_NAME, "missing_role", f"no column plays the role '{role}'", remedy, facts)
    try:
        return fit_nuisance(study, CommonParams())
    except CqoxError as error:
        reason, _, remedy = error.message.partition("; ")
        return Refusal(_NAME, error.code, reason, remedy or "see the data diagnostics", facts)
    except Exception as error:  # a bug is recorded; estimators that need no shared models must still answer
        return Failure(_NAME, f"{type(error).__name__}: {error}", traceback.format_exc(), run_id, facts)
