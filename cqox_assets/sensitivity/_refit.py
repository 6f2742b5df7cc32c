"""What questions share that estimate again on changed data: refits within a time budget, and the result."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.measures import Status
from cqox_assets.result import Effect, EffectEstimate, Refusal, SensitivityResult
from cqox_assets.spec import CommonParams, Context, SensitivitySpec
from cqox_assets.study import Role, Study

FEWEST = 3
# Estimands of comparisons of rows. Units over time, a series, a cutoff or a network have placebos of their own.
ROWS = ("ATE", "ATT", "ATC", "ATO", "slope")


@dataclass(frozen=True)
class RefitParams(CommonParams):
    """Parameters of a question that estimates again on changed data.

    Parameters
    ----------
    refits : int
        How often; the time budget may end it earlier, which the answer says.
    """

    refits: int = 20


@dataclass(frozen=True)
class Refits:
    """Effects on changed data, one per refit that was answered.

    Parameters
    ----------
    effects : tuple of Effect
        The headline of each refit.
    asked, refused : int
        Refits that were tried, and those without an answer.
    seconds : float
        CPU time.
    complete : bool
        Whether the time budget sufficed.
    """

    effects: tuple[Effect, ...]
    asked: int
    refused: int
    seconds: float
    complete: bool

    @property
    def estimates(self) -> np.ndarray:
        """Estimates of the refits, shape (k,)."""
        return np.array([effect.estimate for effect in self.effects])

    @property
    def words(self) -> str:
        """How many refits there were, for sentences."""
        cut = "" if self.complete else ", as many as the time budget allowed"
        lost = f", {self.refused} without an answer" if self.refused else ""
        return f"{len(self.effects)} refits in {self.seconds:.1f} s{cut}{lost}"


def refit(
    estimate: EffectEstimate, studies: Iterable[Study], context: Context, changes: Mapping[str, Any] | None = None
) -> Refits:
    """Run the estimate's own estimator with its own parameters on changed studies; nuisance models are refitted.

    Parameters
    ----------
    estimate : EffectEstimate
    studies : iterable of Study
    context : Context
        Its runner and time budget are used; at least `FEWEST` refits are made.
    changes : mapping, optional
        Parameters that differ.
    """
    started, effects, asked, complete = time.process_time(), [], 0, True
    given = {name: value for name, value in estimate.provenance.get("params", {}).items() if value is not None}
    for study in studies:
        if context.left() <= 0 and asked >= FEWEST:
            complete = False
            break
        asked += 1
        assert context.runner is not None
        answer = context.runner(estimate.estimator, study, {**given, **(changes or {})})
        if isinstance(answer, EffectEstimate):
            found = [item for item in answer.effects if item.contrast == estimate.headline.contrast] or [
                answer.headline
            ]
            effects.append(found[0])
    return Refits(tuple(effects), asked, asked - len(effects), time.process_time() - started, complete)


def check(spec: SensitivitySpec, estimate: EffectEstimate, context: Context) -> Refusal | None:
    """Return why the question cannot be asked of this estimate, or None."""
    if context.runner is None:
        return Refusal(spec.name, "no_runner", "nothing can be estimated again here", "ask through cqox.sensitivity")
    if estimate.estimand not in spec.applies_to and estimate.estimator not in spec.applies_to:
        reason = f"the question is not about the {estimate.estimand} of {estimate.estimator}"
        return Refusal(spec.name, "not_applicable", reason, f"ask it about {', '.join(spec.applies_to)}")
    if estimate.std_error is None:
        reason = f"the estimate of {estimate.estimator} has no standard error to compare changes with"
        return Refusal(spec.name, "no_std_error", reason, "use an inference with a standard error")
    return None


def too_few(spec: SensitivitySpec, found: Refits) -> Refusal | None:
    """Return a refusal where hardly any refit was answered."""
    if len(found.effects) >= FEWEST:
        return None
    reason = f"only {len(found.effects)} of {found.asked} refits were answered"
    return Refusal(spec.name, "refits_refused", reason, "see why the estimator refuses such data, or ask of another")


def result(
    spec: SensitivitySpec,
    study: Study,
    estimate: EffectEstimate,
    value: float,
    unit: str,
    status: Status,
    words: tuple[str, str],
    table: pd.DataFrame,
) -> SensitivityResult:
    """Assemble the answer for the estimate's headline; `words` are the meaning and the advice."""
    return SensitivityResult(
        name=spec.name, estimator=estimate.estimator, estimand=estimate.estimand, value=float(value), unit=unit,
        status=status, meaning=words[0], advice=words[1], table=table.assign(contrast=estimate.headline.contrast),
        provenance={"fingerprint": study.fingerprint},
    )  # fmt: skip


def effects_table(found: Refits) -> pd.DataFrame:
    """Return one row per refit: estimate, standard error and interval."""
    return pd.DataFrame(
        {
            "refit": range(len(found.effects)),
            "estimate": found.estimates,
            "std_error": [effect.std_error for effect in found.effects],
            "low": [effect.interval.low if effect.interval else None for effect in found.effects],
            "high": [effect.interval.high if effect.interval else None for effect in found.effects],
        }
    ).astype(float)


def assigned_clusters(study: Study) -> np.ndarray | None:
    """Return cluster codes where whole clusters share the treatment, so that a permutation must keep them whole."""
    cluster = study.codes(Role.CLUSTER)
    if cluster is None:
        return None
    treatment = pd.Series(study.column(Role.TREATMENT))
    return cluster if (treatment.groupby(cluster).nunique() == 1).all() else None


def excludes(effect: Effect, value: float = 0.0) -> bool:
    """Whether an effect's interval leaves out a value."""
    return effect.interval is not None and not effect.interval.covers(value)
