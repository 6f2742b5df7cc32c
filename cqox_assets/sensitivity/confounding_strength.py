"""Confounding strength: what is left of the effect as hidden confounding grows, and where nothing is."""

import numpy as np
import pandas as pd

from cqox_assets.measures import Status, judge
from cqox_assets.numerics.omitted_variables import adjusted, fit_coefficient, robustness_value
from cqox_assets.result import EffectEstimate, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import ROWS, confoundable
from cqox_assets.spec import CommonParams, Context, SensitivitySpec
from cqox_assets.study import Role, Study, TreatmentKind

_GRID = np.round(np.linspace(0.0, 0.95, 39), 4)


def run(study: Study, estimate: EffectEstimate, params: CommonParams, context: Context) -> SensitivityResult | Refusal:
    """Let a hidden confounder's partial correlation with treatment and outcome grow together, from none to 0.95.

    Notes
    -----
    In the linear regression of the outcome on treatment and covariates, a confounder with partial correlation r with
    both biases the coefficient by se sqrt(df) r^2 / sqrt(1 - r^2) (Cinelli & Hazlett 2020, doi:10.1111/rssb.12348). The
    estimate is reduced by the same share as the regression's. The critical threshold is the r at which the interval
    reaches no effect.
    """
    from scipy.special import stdtrit

    fits = estimate.estimand in SPEC.applies_to and confoundable(estimate)
    if not fits or estimate.headline.scale != "difference":
        reason = f"the {estimate.estimand} of '{estimate.estimator}' does not rest on unconfounded treatment"
        return Refusal(SPEC.name, "not_applicable", reason, f"ask it about {', '.join(SPEC.applies_to)}")
    fingerprint, study = study.fingerprint, study.studied()
    if study.treatment_kind is TreatmentKind.CATEGORICAL:
        arm = estimate.headline.at.get("arm")
        study = dict(study.contrasts()).get(str(arm), study)
    y, d, x = study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.matrix()
    if len(y) < x.shape[1] + 4:
        return Refusal(SPEC.name, "too_few_rows", f"{len(y)} rows for {x.shape[1]} covariates", "map fewer covariates")
    linear = fit_coefficient(y, d, x, study.weights())
    reach = float(stdtrit(linear.df - 1, 0.5 + params.level / 2))
    rows = []
    for r in _GRID:
        value, error = adjusted(linear, r**2, r**2)
        share = value / linear.estimate if linear.estimate else 0.0
        rows.append((float(r), share * estimate.estimate, share, value, value - reach * error, value + reach * error))
    table = pd.DataFrame(rows, columns=["strength", "residual_effect", "share_left", "linear_effect", "low", "high"])
    point, limit = (np.sqrt(robustness_value(linear, 1.0, alpha)) for alpha in (None, 1 - params.level))
    judged = judge("robustness_value", float(limit) ** 2, thresholds=study.thresholds, severities=study.severities)
    meaning = (
        f"A hidden confounder correlated by {point:.2f} with what is left of treatment and outcome would leave no "
        f"effect; by {limit:.2f}, the interval would reach none."
    )
    advice = _advice(study, float(limit), judged.status)
    return SensitivityResult(
        SPEC.name, estimate.estimator, estimate.estimand, float(limit), "partial correlation, critical threshold",
        judged.status, meaning, advice, table.assign(contrast=estimate.headline.contrast),
        {"fingerprint": fingerprint},
    )  # fmt: skip


def _advice(study: Study, limit: float, status: Status) -> str:
    if study.declaration.design == "trial":
        return "Assignment was random, so this informs about drop-out and broken randomisation only."
    if limit == 0:
        return "Gather more rows before asking about hidden confounding: chance alone explains the result."
    if status is Status.PASS:
        return "Ask whether any unmeasured cause could be that strongly related to both; if none is known, rely on it."
    return "Measure and map the likeliest confounders, or run a trial."


SPEC = SensitivitySpec(
    name="confounding_strength",
    title="Confounding strength",
    question="What is left of the effect as hidden confounding grows?",
    run=run,
    holds="A hidden confounder would have to be strong to leave no effect.",
    breaks="A weak hidden confounder, or chance alone, could leave no effect.",
    applies_to=ROWS,
    informs_in_trial=True,
    reference="Cinelli & Hazlett 2020, doi:10.1111/rssb.12348",
)
