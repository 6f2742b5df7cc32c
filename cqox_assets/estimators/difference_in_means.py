"""Difference in mean outcome between the compared and the reference arm, with CUPED when a pre-outcome is mapped."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.diagnostics.specification import assignment_test
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.linear import LinearFit, fit_linear, with_constant
from cqox_assets.numerics.replicates import pooled_contrast
from cqox_assets.numerics.sample import check_arms, check_clusters, choose_covariance, degrees_of_freedom, words_of
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example, Replicates
from cqox_assets.study import Role, Study


@dataclass(frozen=True)
class DifferenceInMeansParams(CommonParams):
    """Parameters of the difference in means.

    Parameters
    ----------
    se : str
        `auto` is CR1 when a cluster is mapped and HC1 otherwise.
    cuped : str
        `auto` adjusts for the role `pre_outcome` when it is mapped; `off` never does.
    interval_form : str
        `normal`, or `t` with n - 2 (clusters - 1 for CR) degrees of freedom; `auto` is t for CR, normal otherwise.
    """

    se: Literal["auto", "classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1"] = "auto"
    cuped: Literal["auto", "off"] = "auto"
    interval_form: Literal["auto", "normal", "t"] = "auto"


def run(study: Study, params: DifferenceInMeansParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect of a randomised treatment.

    Parameters
    ----------
    study : Study
        Outcome (units of the answer), two arms; optional weight, cluster, pre_outcome and covariates (balance only).
    params : DifferenceInMeansParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Headline: the CUPED estimate if a pre-outcome is mapped, with the unadjusted one second; else unadjusted.

    Raises
    ------
    CatalogError
        If `trim` is given: there is no propensity to trim on.

    Notes
    -----
    mean(y | 1) - mean(y | 0) is the slope of y ~ 1 + d. CUPED replaces y by y - (x - mean x)'theta, theta the slope of
    y ~ 1 + d + x, which leaves the estimand of a trial unchanged and removes the variance that x predicts.

    References
    ----------
    Neyman (1923, doi:10.1214/ss/1177012031); Deng, Xu, Kohavi & Walker (2013, doi:10.1145/2433396.2433413).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but difference_in_means has no propensity to trim on")
    outcome, treated = study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    weights, cluster = study.weights(), study.codes(Role.CLUSTER)
    check_arms(treated, weights)
    check_clusters(cluster)
    estimand = SPEC.estimand(params)
    kind, notices = choose_covariance(params.se, "HC1", cluster)

    def effect_of(values: np.ndarray, **facts: Any) -> Effect:
        fit = fit_linear(with_constant(treated), values, weights, drop_collinear=False)
        return _effect(study, fit, kind, cluster, params, estimand=estimand, **facts)

    effects, tables = [effect_of(outcome)], {"balance": balance_table(study)}
    how = words_of(kind, cluster)
    if params.cuped == "auto" and study.has(Role.PRE_OUTCOME):
        adjusted, theta = _cuped(outcome, treated, study.matrix(Role.PRE_OUTCOME), weights)
        headline, plain = effect_of(adjusted), effect_of(outcome, at={"adjustment": "none"})
        effects = [headline, plain]
        tables["cuped"] = pd.DataFrame({"column": list(study.names(Role.PRE_OUTCOME)), "theta": theta})
        how = f"{how}, after CUPED adjustment for {', '.join(study.names(Role.PRE_OUTCOME))}"
        notices.append(_reduction(headline, plain))
    raw, worst = worst_difference(tables["balance"], "before")
    return SPEC.estimate(
        study, effects, inference=how, tables=tables, notices=notices,
        diagnostics=[SPEC.judge(study, "raw_smd", raw, worst), _assignment(study, treated, cluster)],
    )  # fmt: skip


def _effect(
    study: Study,
    fit: LinearFit,
    kind: str,
    cluster: np.ndarray | None,
    params: DifferenceInMeansParams,
    **facts: Any,
) -> Effect:
    try:
        variance = float(fit.covariance(kind, cluster)[1, 1])
    except ZeroDivisionError as error:
        raise CatalogError(f"parameter 'se' is {kind}, and {error}; use HC1") from error
    df = degrees_of_freedom(params.interval_form, kind, fit.df_residual, cluster)
    return wald(
        float(fit.coef[1]), float(np.sqrt(max(variance, 0.0))), contrast=f"{study.arms[1]} - {study.arms[0]}",
        level=params.level, df=df, **facts,
    )  # fmt: skip


def _cuped(
    outcome: np.ndarray, treated: np.ndarray, before: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the adjusted outcome and theta; a pre-outcome that is constant or collinear has theta 0."""
    fit = fit_linear(with_constant(treated, before), outcome, weights)
    slopes = np.zeros(2 + before.shape[1])
    slopes[fit.kept] = fit.coef
    return outcome - (before - np.average(before, axis=0, weights=weights)) @ slopes[2:], slopes[2:]


def _assignment(study: Study, treated: np.ndarray, cluster: np.ndarray | None) -> Diagnostic:
    known = [study.matrix(role) for role in (Role.COVARIATES, Role.PRE_OUTCOME) if study.has(role)]
    test = assignment_test(np.column_stack(known), treated, cluster) if known else None
    if test is None:
        words = "no covariate varies, or clusters are too few for the number of covariates"
        return replace(SPEC.judge(study, "assignment_p", None, words), applies=bool(known))
    return SPEC.judge(study, "assignment_p", *test)


def _reduction(adjusted: Effect, plain: Effect) -> str:
    if adjusted.std_error is None or plain.std_error is None:
        return "The headline is the CUPED estimate; the second effect is the unadjusted difference."
    share = 1 - (adjusted.std_error / plain.std_error) ** 2
    return (
        f"The headline is the CUPED estimate; the second effect is the unadjusted difference. "
        f"CUPED reduced the variance by {100 * share:.1f}%."
    )


def replicates(study: Study, params: DifferenceInMeansParams) -> Replicates | None:
    """Return the slope of y ~ 1 + d for resampling; None with CUPED, whose adjustment is drawn as well."""
    if params.cuped == "auto" and study.has(Role.PRE_OUTCOME):
        return None
    design = with_constant(study.column(Role.TREATMENT))
    return pooled_contrast(design, study.column(Role.OUTCOME), study.weights(), np.array([0.0, 1.0]))


SPEC = EstimatorSpec(
    name="difference_in_means",
    title="Difference in means",
    family="experiment",
    estimands=(Estimand.ATE,),
    run=run,
    replicates=replicates,
    accepts=frozenset({Role.COVARIATES, Role.WEIGHT, Role.CLUSTER, Role.PRE_OUTCOME}),
    aliases=("CUPED",),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=("random_assignment", "no_interference", "consistency"),
    references=(
        "Neyman 1923, doi:10.1214/ss/1177012031",
        "Deng, Xu, Kohavi & Walker 2013, doi:10.1145/2433396.2433413",
    ),
    diagnostics=("raw_smd", "assignment_p"),
    tables=("balance",),
    truths=("randomised_trial", "weighted_sample", "clustered_trial", "null_trial"),
    breaks=("confounded_linear",),
    oracle=("difference_in_means",),
    applicable=lambda study: (
        (True, "a declared trial: arms are comparable by design", 1.0)
        if study.declaration.design == "trial"
        else (True, "compares the arms as they are; a benchmark where assignment was not random", 0.3)
    ),
    params=DifferenceInMeansParams,
    question="How much higher is the outcome, on average, among those who were given the treatment at random?",
    formula=r"\hat\tau = \bar y_1 - \bar y_0,\qquad"
    r" \hat\tau_{\mathrm{CUPED}} = \hat\tau - \hat\theta' (\bar x_1 - \bar x_0)",
    reading="In a trial the difference is the effect, and nothing else is assumed. A small assignment_p says that "
    "the arms differed before treatment: then the difference mixes the effect with who was treated, and no sample "
    "size helps.",
    example=Example(
        data="data/policy/2025-01/lalonde_nsw.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
