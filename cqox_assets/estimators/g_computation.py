"""G-computation: predict every unit's outcome under both arms, average over the target and compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.errors import CatalogError
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.sample import check_arms, check_clusters, collinear_notice
from cqox_assets.numerics.standardise import fit_outcome, on_scale, standardised_mean
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study


@dataclass(frozen=True)
class GComputationParams(CommonParams):
    """Parameters of the g-computation.

    Parameters
    ----------
    outcome_model : str
        `ols_per_arm`, `ols_pooled_interacted` (1 + d + X + d:interactions), `logit_per_arm` or `logit_pooled`
        (1 + d + X); the logits need an outcome of 0 and 1.
    interactions : tuple of str
        Covariates that interact with the treatment in `ols_pooled_interacted`; all of them if empty.
    scale : str
        `difference`, `log_risk_ratio` or `log_odds_ratio` of the two standardised means.
    """

    outcome_model: Literal["ols_per_arm", "ols_pooled_interacted", "logit_per_arm", "logit_pooled"] = "ols_per_arm"
    interactions: tuple[str, ...] = ()
    scale: Literal["difference", "log_risk_ratio", "log_odds_ratio"] = "difference"


def run(study: Study, params: GComputationParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect by standardising an outcome model over the target units.

    Parameters
    ----------
    study : Study
        Outcome, two arms; optional covariates, weight and cluster.
    params : GComputationParams
        `estimand` ATE averages over all units, ATT over the treated, ATC over the controls.
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With tables `potential_outcomes` (mean per arm) and `unit_effects`.

    Raises
    ------
    CatalogError
        If `interactions` names no covariate, or `trim` is given.

    Notes
    -----
    mu_a = sum w m_a(x) / sum w over the target. The standard error is that of the stacked estimating equations of model
    and means: influence w (m_a(x) - mu_a) / mean w + gradient' (influence of the coefficients), without small-sample
    factor; ratios by the delta method.

    References
    ----------
    Robins (1986, doi:10.1016/0270-0255(86)90088-6); Stefanski & Boos (2002, doi:10.1198/000313002753631330).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but g_computation has no propensity to trim on")
    estimand = SPEC.estimand(params)
    outcome, treated, covariates = study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.matrix()
    weights, cluster = study.weights(), study.codes(Role.CLUSTER)
    check_arms(treated, weights)
    check_clusters(cluster)
    model = fit_outcome(
        covariates, treated, outcome, weights, kind=params.outcome_model, moderators=_positions(study, params),
        names=study.names(Role.COVARIATES),
    )  # fmt: skip
    target = np.ones(len(treated)) if weights is None else weights
    target = target * {Estimand.ATT: treated, Estimand.ATC: 1 - treated}.get(Estimand(estimand), 1.0)
    means, influences = zip(*(standardised_mean(model, arm, target) for arm in (1, 0)), strict=True)
    value, influence = on_scale(params.scale, means, influences)
    effect = wald(
        value, influence_std_error(influence, cluster), estimand=estimand,
        contrast=f"{study.arms[1]} - {study.arms[0]}", level=params.level, scale=params.scale,
        df=None if cluster is None else float(cluster.max()),
    )  # fmt: skip
    balance = balance_table(study)
    raw, worst = worst_difference(balance, "before")
    how = "stacked estimating equations" + (f", {int(cluster.max()) + 1} clusters" if cluster is not None else "")
    return SPEC.estimate(
        study, [effect], inference=f"{how}; outcome model {params.outcome_model}",
        diagnostics=[SPEC.judge(study, "raw_smd", raw, worst)],
        tables={"balance": balance, "potential_outcomes": _means(study, means, influences, cluster),
                "unit_effects": pd.DataFrame({"effect": model.prediction[1] - model.prediction[0]})},
        notices=collinear_notice(model.dropped),
    )  # fmt: skip


def _positions(study: Study, params: GComputationParams) -> list[int]:
    listed = list(study.names(Role.COVARIATES))
    unknown = sorted(set(params.interactions) - set(listed))
    if unknown:
        raise CatalogError(f"parameter 'interactions' names '{unknown[0]}', which is not a covariate")
    return [listed.index(name) for name in params.interactions] or list(range(len(listed)))


def _means(
    study: Study, means: Sequence[float], influences: Sequence[np.ndarray], cluster: np.ndarray | None
) -> pd.DataFrame:
    errors = [influence_std_error(influence, cluster) for influence in influences]
    return pd.DataFrame({"arm": [study.arms[1], study.arms[0]], "mean": list(means), "std_error": errors})


SPEC = EstimatorSpec(
    name="g_computation",
    title="G-computation",
    family="adjustment",
    estimands=(Estimand.ATE, Estimand.ATT, Estimand.ATC),
    run=run,
    aliases=("parametric g-formula", "standardisation", "g_computation_bootstrap"),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=("unconfoundedness", "positivity", "outcome_model", "no_interference", "consistency"),
    references=(
        "Robins 1986, doi:10.1016/0270-0255(86)90088-6",
        "Stefanski & Boos 2002, doi:10.1198/000313002753631330",
    ),
    diagnostics=("raw_smd",),
    tables=("balance", "potential_outcomes", "unit_effects"),
    truths=("randomised_trial", "confounded_linear", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    oracle=("g_computation",),
    applicable=lambda study: (
        (True, "averages an outcome model over the units, so the effect may vary", 0.6)
        if study.has(Role.COVARIATES)
        else (True, "without covariates it equals the difference in means", 0.2)
    ),
    params=GComputationParams,
    question="What would the mean outcome be if everyone, or no one, were treated?",
    formula=r"\hat\tau = \frac{1}{n} \sum_i \bigl(\hat m_1(x_i) - \hat m_0(x_i)\bigr),\qquad"
    r" \hat m_d(x) = \hat E[y \mid d, x]",
    reading="The answer is as good as the outcome model, also where an arm has few units like those it predicts for. "
    "Compare with ipw, which models treatment instead, and with aipw, which needs only one of the two to be right.",
    example=Example(
        data="data/policy/2025-01/lalonde_nsw.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
