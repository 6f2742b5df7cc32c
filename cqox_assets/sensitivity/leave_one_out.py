"""Leave one out: the answer must not hang on a single covariate or a single cluster."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pandas as pd

from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import AGAIN, FEWEST, RefitParams, check, effects_table, refit, result
from cqox_assets.spec import Context, SensitivitySpec
from cqox_assets.study import Role, Study

_LIMIT = 1.0


def run(study: Study, estimate: EffectEstimate, params: RefitParams, context: Context) -> SensitivityResult | Refusal:
    """Leave out each covariate and each cluster in turn, `refits` of each at most: the most important come first.

    Notes
    -----
    Judged is the largest change in standard errors of the estimate. Covariates that change nothing at all are not used
    by the estimator, so nothing was left out. A covariate whose absence changes the answer is a
    confounder that the answer rests on; whether all such are mapped is the question behind it.
    """
    refusal = check(SPEC, estimate, context)
    if refusal is not None:
        return refusal
    study = study.studied()
    # In turn, so that a time budget cuts both kinds alike.
    pairs = zip_longest(_covariates(study, params.refits), _clusters(study, params.refits))
    left, started = [item for pair in pairs for item in pair if item is not None], time.process_time()
    if not left:
        return Refusal(SPEC.name, "nothing_to_leave_out", "there are neither covariates nor clusters", "map them")
    rows: list[pd.DataFrame] = []
    tried = 0
    for what, name, part in left:
        if context.left() <= 0 and len(rows) >= FEWEST:
            break
        tried += 1
        found = refit(estimate, [part], context)
        if found.effects:
            rows.append(effects_table(found).assign(left_out=name, kind=what))
    if not rows:
        return Refusal(SPEC.name, "refits_refused", "no refit was answered", "see why the estimator refuses such data")
    table = pd.concat(rows, ignore_index=True)
    table["change"] = (table["estimate"] - estimate.estimate) / (estimate.std_error or 1.0)
    table = table[(table["kind"] == "cluster") | (table["change"] != 0)].reset_index(drop=True)
    if table.empty:
        reason = f"{estimate.estimator} uses none of the covariates, and there are no clusters"
        return Refusal(SPEC.name, "nothing_to_leave_out", reason, "ask about an estimate that adjusts for them")
    worst = table.iloc[int(np.abs(table["change"].to_numpy()).argmax())]
    null = estimate.headline.null
    turned = np.sign(table["estimate"] - null) != np.sign(estimate.estimate - null)
    largest = abs(float(worst["change"]))
    status = Status.WARN if largest > _LIMIT or turned.any() else Status.PASS
    meaning = (
        f"Of {len(table)} covariates and clusters left out in turn ({_spent(started, len(left) - tried)}), "
        f"'{worst['left_out']}' changes the answer most: "
        f"from {estimate.estimate:.4g} to {worst['estimate']:.4g}, {largest:.1f} standard errors"
        + ("; the sign turns." if turned.any() else ".")
    )
    advice = (
        "The answer hangs on no single covariate or cluster."
        if status is Status.PASS
        else f"Make sure that '{worst['left_out']}' is measured well, and ask what else acts as it does."
    )
    return result(
        SPEC, study, estimate, largest, "standard errors of the largest change", status, (meaning, advice), table
    )


def _spent(started: float, missed: int) -> str:
    cut = f", {missed} not tried as the time budget ended" if missed else ""
    return f"{time.process_time() - started:.1f} s{cut}"


def _covariates(study: Study, most: int) -> Iterator[tuple[str, str, Study]]:
    names = study.names(Role.COVARIATES)
    if len(names) < 2:
        return
    x, d, y = study.matrix(), study.column(Role.TREATMENT), study.column(Role.OUTCOME)
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0)
    size = np.abs(z.T @ (y - y.mean())) * np.abs(z.T @ (d - d.mean()))
    for place in np.argsort(-size, kind="stable")[:most]:
        kept = tuple(name for name in names if name != names[place])
        yield "covariate", study.label(names[place]), replace(study, roles={**study.roles, Role.COVARIATES: kept})


def _clusters(study: Study, most: int) -> Iterator[tuple[str, str, Study]]:
    cluster = study.codes(Role.CLUSTER)
    if cluster is None or cluster.max() < 2:
        return
    labels = pd.Series(study.frame[study.name(Role.CLUSTER)]).groupby(cluster).first()
    for code in np.argsort(-np.bincount(cluster), kind="stable")[:most]:
        yield "cluster", str(labels.iloc[code]), study.take(cluster != code)


SPEC = SensitivitySpec(
    name="leave_one_out",
    title="Leave one out",
    question="Does the answer hang on a single covariate or cluster?",
    run=run,
    holds="No single covariate or cluster carries the conclusion.",
    breaks="One covariate or cluster carries the conclusion, which is as good as that one is.",
    applies_to=AGAIN,
    reference="Belsley, Kuh & Welsch 1980, doi:10.1002/0471725153",
    params=RefitParams,
    most=2,
    budget_seconds=0.6,
)
