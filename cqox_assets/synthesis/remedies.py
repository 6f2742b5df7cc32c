"""The remedies that a review may carry out, fixed beforehand: what each answers to, and how it changes a study."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cqox_assets.measures import MEASURES
from cqox_assets.study import Role, Study
from cqox_assets.variants import SUPPORT, bent, common_support, not_collinear

MOST_ROUNDS = 3
_FEWEST_ROWS, _FEWEST_PER_ARM = 50, 10


@dataclass(frozen=True)
class Remedy:
    """One change of a study.

    Parameters
    ----------
    name, title : str
    answers : frozenset of str
        Measures that it may improve. None of them knows the effect or its significance.
    apply : callable
        Study -> the changed study, or None where there is nothing to change.
    """

    name: str
    title: str
    answers: frozenset[str]
    apply: Callable[[Study], Study | None]


def _trim(study: Study) -> Study | None:
    kept = common_support(study)
    if kept is None or kept.all() or kept.sum() < _FEWEST_ROWS:
        return None
    counts = np.bincount(study.column(Role.TREATMENT)[kept].astype(int), minlength=2)
    return study.take(kept) if counts.min() >= _FEWEST_PER_ARM else None


def _fewer(study: Study) -> Study | None:
    return not_collinear(study, study.thresholds.get("vif", MEASURES["vif"].limit))


REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "trim",
        f"rows with a propensity below {SUPPORT:g} or above {1 - SUPPORT:g} are left out",
        frozenset({"overlap", "effective_sample_size", "weight_range"}),
        _trim,
    ),
    Remedy(
        "richer_covariates",
        "squares and products of the strongest covariates are added",
        frozenset({"adjusted_smd", "specification_p"}),
        bent,
    ),
    Remedy("fewer_covariates", "covariates that others all but determine are left out", frozenset({"vif"}), _fewer),
)


def remedy_for(measure: str) -> Remedy | None:
    """Return the first remedy on the list that answers to a measure."""
    return next((item for item in REMEDIES if measure in item.answers), None)
