"""Which simulated study an estimator is measured on, and how far its answer is from the truth."""

from collections.abc import Mapping

from cqox_assets.result import Effect
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role

COMMON = "confounded_linear"
_CONFOUNDED = (COMMON, "confounded_smooth")
_ROLES = frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES})


def design_for(spec: EstimatorSpec) -> str | None:
    """Return the design an estimator is measured on, None if it declares none.

    Estimators that adjust for covariates share one study of twelve covariates, so that nuisance models are fitted
    once for all of them; the others get the first design with an effect that they claim to recover.
    """
    claimed = [name for name in spec.truths if name in DESIGNS]
    if spec.requires <= _ROLES and any(name in _CONFOUNDED for name in claimed):
        return COMMON
    return next((name for name in claimed if not name.startswith("null_")), None)


def truth_of(effect: Effect, truth: Mapping[str, float]) -> float | None:
    """Return the known value of an effect: of its arm, mediator or period where the design knows it."""
    place = f"{effect.estimand}[{', '.join(map(str, effect.at.values()))}]"
    known = truth.get(place, truth.get(str(effect.estimand)))
    return None if known is None else float(known)


def against(estimate: float, std_error: float | None, truth: float | None) -> dict[str, float | None]:
    """Return an estimate beside its truth, and the error in standard errors where both are known."""
    off = None if truth is None or std_error is None else (estimate - truth) / std_error
    return {"estimate": estimate, "std_error": std_error, "truth": truth, "error_in_se": off}
