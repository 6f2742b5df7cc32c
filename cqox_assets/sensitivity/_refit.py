"""What questions share that estimate again on changed data: refits within a time budget, and the result."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.measures import Status
from cqox_assets.numerics.perturb import histories, permutations
from cqox_assets.result import Effect, EffectEstimate, Refusal, SensitivityResult
from cqox_assets.spec import CommonParams, Context, SensitivitySpec
from cqox_assets.study import Role, Study

FEWEST = 3
# Estimands of comparisons of rows or units. A series, a cutoff or a network have placebos of their own.
ROWS = ("ATE", "ATT", "ATC", "ATO", "slope")
# A comparison at a cutoff or by an instrument can be made again on part of the rows, or on another outcome.
AGAIN = (*ROWS, "iv", "regression_discontinuity")
_AS_IF_RANDOM = {"unconfoundedness", "random_assignment"}


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
        usual = (time.process_time() - started) / max(asked, 1)
        if context.left() <= usual / 2 and asked >= FEWEST:  # no refit is begun that would mostly be over the budget
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


def confoundable(estimate: EffectEstimate) -> bool:
    """Whether an estimate rests on treatment that is as good as random, so that a hidden cause of it would bias it."""
    made = {item.name for item in estimate.assumptions}
    return not made or bool(made & _AS_IF_RANDOM)


def reassigned(study: Study, draws: int, seed: int) -> Iterator[Study]:
    """Yield the study with its treatment dealt out anew at random.

    Rows exchange their treatment; clusters, or units that repeat, do so as wholes where they were treated as wholes;
    over time, they exchange their histories, with the period in which treatment began.
    """
    treatment, name = study.column(Role.TREATMENT), study.name(Role.TREATMENT)
    over_time = study.repeats_units and len(study.names(Role.TIME)) == 1
    time = pd.factorize(study.frame[study.name(Role.TIME)], sort=True)[0] if over_time else np.zeros(len(study), int)
    group = next((codes for codes in _groups(study) if _treated_as_one(treatment, codes, time)), None)
    if group is None:
        drawn = permutations(len(study), draws, seed)
    elif over_time:
        drawn = histories(group, time, draws, seed)
    else:
        drawn = permutations(len(study), draws, seed, group)
    cohort = study.name(Role.COHORT) if study.has(Role.COHORT) else None
    for rows in drawn:
        made = study.with_column(name, treatment[rows], Role.TREATMENT)
        yield made if cohort is None else made.with_column(cohort, study.frame[cohort].to_numpy()[rows], Role.COHORT)


def _groups(study: Study) -> Iterator[np.ndarray]:
    """Yield what may have been treated as a whole: clusters, then units that repeat."""
    if (cluster := study.codes(Role.CLUSTER)) is not None:
        yield cluster
    if study.repeats_units and (unit := study.codes(Role.UNIT)) is not None:
        yield unit


def _treated_as_one(treatment: np.ndarray, group: np.ndarray, time: np.ndarray) -> bool:
    """Whether all rows of a group have the same treatment at each time."""
    return bool((pd.Series(treatment).groupby([group, time]).nunique() == 1).all())


def excludes(effect: Effect, value: float = 0.0) -> bool:
    """Whether an effect's interval leaves out a value."""
    return effect.interval is not None and not effect.interval.covers(value)
