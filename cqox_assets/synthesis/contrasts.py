"""What counterfactual systems and policies start from: contrasts with shared nuisances and doubly robust scores."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.measures import Status
from cqox_assets.nuisance.models import Data
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.numerics.inference import influence_std_error, interval_reach, wald
from cqox_assets.result import Effect, Failure, Findings, Nuisance, Refusal
from cqox_assets.study import Role, Study

_ASSUMES = ("cutoff", "instrument", "panel", "time_series", "network", "spatial")


class NotComputedError(CqoxError):
    """The study does not allow it; `code` says why and the message is `reason; remedy`."""

    code = "not_applicable"


@dataclass(frozen=True)
class ScoredContrast:
    """A compared arm and the reference arm, with cross-fitted nuisances.

    Parameters
    ----------
    arm : str
        Compared arm.
    contrast : str
        Such as `treated - control`.
    study : Study
        Rows of the two arms.
    held : DataFrame
        Shared predictions, one row per unit: see :class:`~cqox_assets.result.Nuisance`.
    rows : ndarray of int, shape (n,)
        Their places among the rows of the whole study.
    """

    arm: str
    contrast: str
    study: Study
    held: pd.DataFrame
    rows: np.ndarray

    @cached_property
    def data(self) -> Data:
        """Columns of the rows."""
        return Data.of(self.study)

    @cached_property
    def fold(self) -> np.ndarray:
        """Fold of each row, 0..K-1, shape (n,)."""
        return np.asarray(np.unique(self.held["fold"].to_numpy(), return_inverse=True)[1])

    @cached_property
    def scores(self) -> np.ndarray:
        """Doubly robust score of each row's effect, shape (n,), in units of the outcome."""
        return self.scores_with(self.held["outcome_reference"].to_numpy(), self.held["outcome_compared"].to_numpy())

    def scores_with(self, m0: np.ndarray, m1: np.ndarray, outcome: np.ndarray | None = None) -> np.ndarray:
        """Return the scores m1 - m0 + d (y - m1)/e - (1 - d)(y - m0)/(1 - e) of other models, shape (n,).

        `outcome` is something else than the study's outcome that the treatment may change, such as a cost.
        """
        d, e = self.data.d, self.held["propensity"].to_numpy()
        y = self.data.y if outcome is None else outcome
        return np.asarray(m1 - m0 + np.where(d == 1, (y - m1) / e, -(y - m0) / (1 - e)))

    def reach(self, level: float) -> float:
        """Return how many standard errors an interval reaches: Student's quantile where there are clusters."""
        return interval_reach(level, self.data.cluster)

    def mean(self, values: np.ndarray) -> Effect:
        """Return the mean of scores with its interval, weighted and clustered as the study says."""
        data = self.data
        value = float(np.mean(data.sampling * values))
        error = influence_std_error(data.sampling * (values - value), data.cluster)
        df = None if data.cluster is None else float(data.cluster.max())
        return wald(value, error, estimand="ATE", contrast=self.contrast, df=df)


def scored_contrasts(
    study: Study, nuisance: Nuisance | Refusal | Failure | None
) -> tuple[list[ScoredContrast], tuple[str, ...]]:
    """Return the contrasts of a study with their shared predictions, and what the reader must know.

    Parameters
    ----------
    study : Study
    nuisance : Nuisance, Refusal or Failure, optional
        The stored ones; without any they are fitted.

    Raises
    ------
    NotComputedError
        If the study has no arms, outcome or covariates, or its nuisance models cannot be fitted.
    """
    if nuisance is None or (isinstance(nuisance, Nuisance) and not nuisance.predictions):
        nuisance = shared_nuisance(study)
    if isinstance(nuisance, Refusal):
        raise NotComputedError(f"{nuisance.reason}; {nuisance.remedy}", code=nuisance.code)
    if isinstance(nuisance, Failure):
        raise NotComputedError(
            f"the nuisance models failed ({nuisance.exception}); report the bug and materialize nuisance_models again",
            code="nuisance_failed",
        )
    found = []
    inside = (
        np.ones(len(study), dtype=bool) if len(study.studied()) == len(study) else study.column(Role.POPULATION) != 0
    )
    codes = study.column(Role.TREATMENT)
    for code, (arm, part) in enumerate(study.studied().contrasts(), start=1):
        held = nuisance.predictions.get(arm)
        if held is None or len(held) != len(part):
            raise NotComputedError(
                f"the nuisance models say nothing about arm '{arm}'; materialize nuisance_models again",
                code="nuisance_stale",
            )
        rows = np.flatnonzero(inside & np.isin(codes, (0, code)))
        found.append(ScoredContrast(arm, f"{arm} - {part.arms[0]}", part, held, rows))
    return found, notices_of(study, nuisance)


def notices_of(study: Study, nuisance: Nuisance) -> tuple[str, ...]:
    """Return what stands in the way of believing anything that rests on the nuisance models."""
    said = []
    if study.declaration.design in _ASSUMES:
        said.append(
            f"the declared design is {study.declaration.design}; these numbers assume instead that treatment is as "
            "good as random given the covariates"
        )
    for item in nuisance.diagnostics:
        if item.name == "overlap" and item.status in (Status.WARN, Status.FAIL):
            said.append(
                f"overlap is {item.value:.2g} ({item.status.value}): some units have no counterpart in the other arm"
            )
    return (*said, *nuisance.notices)


def not_computed(error: CqoxError) -> Findings:
    """Return the state of what could not be computed: code, reason and remedy."""
    reason, _, remedy = error.message.partition("; ")
    return Findings({"status": "not_computed", "code": error.code, "reason": reason,
                     "remedy": remedy or "see the data diagnostics of this study"})  # fmt: skip
