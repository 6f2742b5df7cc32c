"""Specification curve: the answer under every combination of estimator, covariate set and sample one might choose."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.measures import Status, judge
from cqox_assets.result import Effect, EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import FEWEST, ROWS
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, SensitivitySpec
from cqox_assets.study import Role, Study, TreatmentKind
from cqox_assets.variants import covariate_sets, samples, with_covariates
from cqox_assets.wording import listed

# Learners of single units' effects report the doubly robust average of aipw, and resampling another's estimate.
_FAMILIES = ("experiment", "adjustment", "weighting", "matching", "doubly_robust", "machine_learning")
_NEEDS = {Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}
_COLUMNS = ("estimator", "estimand", "covariate_set", "sample", "learner", "contrast", "estimate", "std_error",
            "low", "high", "p_value", "n", "status", "code", "reason")  # fmt: skip


@dataclass(frozen=True)
class CurveParams(CommonParams):
    """Parameters of the specification curve.

    Parameters
    ----------
    refits : int
        Specifications at most; the time budget may end it earlier, which the answer says.
    learner : str
        Of the nuisance models beyond the estimate's own specification.
    """

    refits: int = 400
    learner: str = "linear"


@dataclass(frozen=True)
class _Specification:
    spec: EstimatorSpec
    covariates: str
    sample: str
    values: Mapping[str, Any]


def run(study: Study, estimate: EffectEstimate, params: CurveParams, context: Context) -> SensitivityResult | Refusal:
    """Estimate under each specification, every nuisance model refitted, and describe those of the same estimand.

    Notes
    -----
    The estimators of comparisons of rows, crossed with covariate sets (all, without each of the three strongest, the
    stronger half; none only in a trial) and samples (all rows, common support, no outlying covariates); which are
    tried is fixed before results are seen (Simonsohn, Simmons & Nelson 2020, doi:10.1038/s41562-020-0912-z). The
    estimate's own specification comes first, then quick estimators, then those that fit learners, so that a time
    budget leaves out the slowest. Specifications share their rows: their number is no evidence, and their spread no
    standard error.
    """
    if context.runner is None or context.catalogue is None:
        return Refusal(SPEC.name, "no_runner", "nothing can be estimated again here", "ask through cqox.sensitivity")
    if estimate.estimand not in SPEC.applies_to:
        reason = f"the question is not about the {estimate.estimand} of {estimate.estimator}"
        return Refusal(SPEC.name, "not_applicable", reason, f"ask it about {', '.join(SPEC.applies_to)}")
    fingerprint, study = study.fingerprint, study.studied()
    if study.treatment_kind is TreatmentKind.CATEGORICAL:
        study = dict(study.contrasts()).get(str(estimate.headline.at.get("arm")), study)
    started, rows, table = time.process_time(), samples(study), []
    sets = covariate_sets(study)
    planned = list(_planned(study, estimate, params, context, (tuple(sets), tuple(rows))))[: params.refits]
    parts = {name: study if kept.all() else study.take(kept) for name, kept in rows.items()}
    done = 0
    for item in planned:
        if context.left() <= 0 and done >= FEWEST:
            table.append(_row(item, estimate, None))
            continue
        done += 1
        table.append(_row(item, estimate, context.runner(
            item.spec.name, with_covariates(parts[item.sample], sets[item.covariates]), item.values
        )))  # fmt: skip
    frame = pd.DataFrame(table, columns=list(_COLUMNS))
    return _answer(study, estimate, frame, time.process_time() - started, fingerprint)


def _planned(
    study: Study, estimate: EffectEstimate, params: CurveParams, context: Context, choices: tuple[tuple[str, ...], ...]
) -> Iterator[_Specification]:
    """Yield each estimator's own specification first, then the quick estimators' others, then the learners'."""
    assert context.catalogue is not None
    able = [spec for spec in context.catalogue(study).values() if _compares_rows(spec, study)]
    sets, names = choices

    def values(spec: EstimatorSpec, own: bool) -> dict[str, Any]:
        chosen = {"estimand": estimate.estimand} if estimate.estimand in spec.estimands else {}
        if own:
            given = estimate.provenance.get("params", {})
            return {**{name: value for name, value in given.items() if value is not None}, **chosen}
        learner = {"nuisance": params.learner} if spec.shares_nuisance else {}
        return {**chosen, **learner, "seed": params.seed, "level": params.level}

    first = sets[0], names[0]
    for spec in sorted(able, key=lambda spec: spec.name != estimate.estimator):
        if spec.name == estimate.estimator or not spec.shares_nuisance:
            yield _Specification(spec, *first, values(spec, own=spec.name == estimate.estimator))
    for learns in (False, True):
        for sample in names:
            for covariates in sets:
                for spec in able:
                    done = (covariates, sample) == first and (not learns or spec.name == estimate.estimator)
                    varies = covariates == sets[0] or Role.COVARIATES in spec.accepts | spec.requires
                    if spec.shares_nuisance is learns and varies and not done:
                        yield _Specification(spec, covariates, sample, values(spec, own=False))


def _compares_rows(spec: EstimatorSpec, study: Study) -> bool:
    fits = spec.family in _FAMILIES and spec.requires <= _NEEDS and study.treatment_kind in spec.treatment
    adjusts = study.declaration.design == "trial" or spec.family != "experiment" or not study.has(Role.COVARIATES)
    return fits and adjusts and bool(set(spec.estimands) & set(ROWS)) and not spec.side_tables


def _row(item: _Specification, estimate: EffectEstimate, answer: Any) -> dict[str, Any]:
    """Return one line of the table; what was refused, failed or not tried has a code and no numbers."""
    learner = item.values.get("nuisance", "stack") if item.spec.shares_nuisance else ""
    base: dict[str, Any] = {
        "estimator": item.spec.name, "covariate_set": item.covariates, "sample": item.sample, "learner": str(learner),
        "estimand": str(item.values.get("estimand", item.spec.estimands[0])), "contrast": estimate.headline.contrast,
        "code": "", "reason": "",
    }  # fmt: skip
    if isinstance(answer, EffectEstimate):
        return base | {"status": "estimated", "n": answer.sample.used} | _numbers(answer.headline)
    nothing = dict.fromkeys(("estimate", "std_error", "low", "high", "p_value"), np.nan) | {"n": 0}
    if answer is None:
        words = {"status": "not_run", "code": "time_budget", "reason": "the time budget ended before it"}
    elif isinstance(answer, Refusal):
        words = {"status": "refused", "code": answer.code, "reason": answer.reason}
    else:
        words = {"status": "failed", "code": "failure", "reason": answer.exception}
    return base | nothing | words


def _numbers(effect: Effect) -> dict[str, Any]:
    low, high = (effect.interval.low, effect.interval.high) if effect.interval else (np.nan, np.nan)
    numbers = {"estimate": effect.estimate, "std_error": effect.std_error, "low": low, "high": high,
               "p_value": effect.p_value}  # fmt: skip
    plain = {name: np.nan if value is None else float(value) for name, value in numbers.items()}
    return {"estimand": str(effect.estimand), **plain}


def _answer(
    study: Study,
    estimate: EffectEstimate,
    table: pd.DataFrame,
    seconds: float,
    fingerprint: str,
) -> SensitivityResult | Refusal:
    same = table[(table["status"] == "estimated") & (table["estimand"] == estimate.estimand)]
    digits = same["estimate"].map("{:.10g}".format)  # one calculation under two names counts once
    same = same[~same.assign(digits=digits).duplicated(["covariate_set", "sample", "digits"])]
    if len(same) < FEWEST:
        reason = f"only {len(same)} specifications of the {estimate.estimand} could be estimated"
        return Refusal(SPEC.name, "too_few_specifications", reason, "map covariates, or ask of another estimand")
    null = estimate.headline.null
    side = np.sign(estimate.estimate - null) or 1.0
    moved = (same["estimate"].to_numpy() - null) * side
    ends = np.where(side > 0, same["low"] - null, null - same["high"])
    agree, significant = float((moved > 0).mean()), float((ends > 0).mean())
    judged = judge("specification_agreement", agree, thresholds=study.thresholds, severities=study.severities)
    quarters = np.quantile(same["estimate"], [0, 0.25, 0.5, 0.75, 1])
    low, first, median, third, high = (float(value) for value in quarters)
    meaning = (
        f"Of {len(same)} specifications of the {estimate.estimand} ({_count(same, 'estimator')}, "
        f"{_count(same, 'covariate_set')}, {_count(same, 'sample')}; {seconds:.1f} s"
        f"{_left_words(table)}) {agree:.0%} have the estimate's sign and {significant:.0%} an interval beyond no "
        f"effect on that side; their median is {median:.4g}, half lie between {first:.4g} and {third:.4g}, all between "
        f"{low:.4g} and {high:.4g}."
    )
    advice = (
        "The answer does not hang on one choice of estimator, covariates or rows."
        if judged.status is Status.PASS
        else "Read the specifications that differ, and decide by the subject, not by the result, which choice is right."
    )
    return SensitivityResult(
        SPEC.name, estimate.estimator, estimate.estimand, agree, "share of specifications with the estimate's sign",
        judged.status, meaning, advice, table, {"fingerprint": fingerprint},
    )  # fmt: skip


def _count(table: pd.DataFrame, column: str) -> str:
    found = table[column].nunique()
    return f"{found} {column.replace('_', ' ')}{'' if found == 1 else 's'}"


def _left_words(table: pd.DataFrame) -> str:
    """Return what was refused, with codes, and what the time budget left out."""
    words = ""
    refused = table[table["status"].isin(["refused", "failed"])]
    if len(refused):
        words += f"; {len(refused)} refused: {listed(tuple(dict.fromkeys(refused['code'])), 4)}"
    left = int((table["status"] == "not_run").sum())
    return words + (f"; {left} left out by the time budget" if left else "")


SPEC = SensitivitySpec(
    name="specification_curve",
    title="Specification curve",
    question="Does the answer hold for other estimators, covariates and samples that one might have chosen?",
    run=run,
    holds="The direction of the effect is the same whichever of these choices is made.",
    breaks="The direction of the effect depends on choices that could have been made otherwise.",
    applies_to=ROWS,
    reference="Simonsohn, Simmons & Nelson 2020, doi:10.1038/s41562-020-0912-z",
    params=CurveParams,
    most=1,
    budget_seconds=1.2,
)
