"""Least squares of the outcome on treatment and covariates: one common effect, adjusted linearly."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.diagnostics.specification import reset_test
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.linear import LinearFit, dropped_names
from cqox_assets.numerics.replicates import pooled_contrast
from cqox_assets.numerics.sample import (
    check_arms,
    check_clusters,
    choose_covariance,
    collinear_notice,
    degrees_of_freedom,
    regress,
    words_of,
)
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example, Replicates
from cqox_assets.study import Role, Study, TreatmentKind


@dataclass(frozen=True)
class OlsParams(CommonParams):
    """Parameters of the regression.

    Parameters
    ----------
    se : str
        `auto` is CR1 when a cluster is mapped and HC1 otherwise.
    interval_form : str
        `normal`, or `t` with n - k (clusters - 1 for CR) degrees of freedom; `auto` is t for CR, normal otherwise.
    interactions : tuple of str
        Covariates whose product with the treatment enters as well.
    at : mapping of str to float
        Value of each interacted covariate at which the effect is reported; its (weighted) mean if not given.
    """

    se: Literal["auto", "classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1"] = "auto"
    interval_form: Literal["auto", "normal", "t"] = "auto"
    interactions: tuple[str, ...] = ()
    at: Mapping[str, float] = field(default_factory=dict)


def run(study: Study, params: OlsParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the coefficient on the treatment in y ~ 1 + d + X (+ d:Z).

    Parameters
    ----------
    study : Study
        Outcome, a treatment of two arms or continuous; optional covariates, weight, cluster.
    params : OlsParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With a table `coefficients` of all terms. Refused if the treatment is collinear with covariates or the
        rows are too few.

    Raises
    ------
    CatalogError
        If `interactions` or `at` name columns that are no covariates, or `trim` is given.

    Notes
    -----
    Under effects that vary with X the coefficient is a variance-weighted average of them, not the ATE
    (Angrist 1998, doi:10.2307/2998558). With `interactions` the effect is b_d + sum of at * b_interaction.

    References
    ----------
    MacKinnon & White (1985, doi:10.1016/0304-4076(85)90158-7); Liang & Zeger (1986, doi:10.1093/biomet/73.1.13).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but ols has no propensity to trim on")
    binary = study.treatment_kind is TreatmentKind.BINARY
    outcome, treatment = study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    weights, cluster = study.weights(), study.codes(Role.CLUSTER)
    if binary:
        check_arms(treatment, weights, least=1)
    check_clusters(cluster)
    kind, notices = choose_covariance(params.se, "HC1", cluster)
    design, names, gradient = _design(study, treatment, weights, params)
    term = 1 + len(study.names(Role.COVARIATES))
    fit = regress(design, outcome, weights, names, term=term, treatment=study.name(Role.TREATMENT))
    covariance, kind, more = _covariance(fit, kind, params, cluster)
    notices += collinear_notice(dropped_names(fit, names)) + more
    df = degrees_of_freedom(params.interval_form, kind, fit.df_residual, cluster)
    gradient = gradient[fit.kept]
    effect = wald(
        float(gradient @ fit.coef), float(np.sqrt(max(gradient @ covariance @ gradient, 0.0))),
        estimand=SPEC.estimand(params) if binary else Estimand.SLOPE,
        contrast=f"{study.arms[1]} - {study.arms[0]}" if binary else f"one unit of {study.name(Role.TREATMENT)}",
        level=params.level, df=df, scale="difference",
    )  # fmt: skip
    diagnostic, tables = _balance(study, binary)
    tables["coefficients"] = _coefficients(fit, names, covariance, params.level, df)
    return SPEC.estimate(
        study, [effect], inference=words_of(kind, cluster), tables=tables, notices=notices,
        diagnostics=[diagnostic, _specification(study, fit, cluster)],
    )  # fmt: skip


def _design(
    study: Study, treatment: np.ndarray, weights: np.ndarray | None, params: OlsParams
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return design (constant, covariates, treatment, products), its names and the effect's gradient."""
    covariates, listed = study.matrix(), list(study.names(Role.COVARIATES))
    unknown = sorted((set(params.interactions) | set(params.at)) - set(listed))
    if unknown:
        raise CatalogError(f"parameter 'interactions' or 'at' names '{unknown[0]}', which is not a covariate")
    positions = [listed.index(name) for name in params.interactions]
    moderators = covariates[:, positions]
    values = np.array(
        [params.at.get(listed[p], float(np.average(covariates[:, p], weights=weights))) for p in positions]
    )
    treated_name = study.name(Role.TREATMENT)
    design = np.column_stack([np.ones(len(treatment)), covariates, treatment, moderators * treatment[:, None]])
    names = ["const", *listed, treated_name, *(f"{treated_name}:{listed[p]}" for p in positions)]
    return design, names, np.concatenate([np.zeros(1 + len(listed)), [1.0], values])


def _covariance(
    fit: LinearFit, kind: str, params: OlsParams, cluster: np.ndarray | None
) -> tuple[np.ndarray, str, list[str]]:
    try:
        return fit.covariance(kind, cluster), kind, []
    except ZeroDivisionError as error:
        return fit.covariance("HC1"), "HC1", [f"{error}; HC1 is reported instead of {params.se}."]


def _balance(study: Study, binary: bool) -> tuple[Diagnostic, dict[str, pd.DataFrame]]:
    if not binary:
        return SPEC.judge(study, "raw_smd", None, "the treatment is continuous, so there are no arms to compare"), {}
    table = balance_table(study)
    raw, worst = worst_difference(table, "before")
    return SPEC.judge(study, "raw_smd", raw, worst), {"balance": table}


def _specification(study: Study, fit: LinearFit, cluster: np.ndarray | None) -> Diagnostic:
    test = reset_test(fit, cluster)
    if test is None:
        words = "the model is saturated, or the rows are too few to add terms"
        return replace(SPEC.judge(study, "specification_p", None, words), applies=False)
    return SPEC.judge(study, "specification_p", *test)


def _coefficients(
    fit: LinearFit, names: list[str], covariance: np.ndarray, level: float, df: float | None
) -> pd.DataFrame:
    """Return one row per kept term; a term that is fitted without error has no standard error."""
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    rows = []
    for position, coef, error in zip(fit.kept, fit.coef, errors, strict=True):
        effect = wald(float(coef), float(error), estimand=Estimand.SLOPE, contrast=names[position], level=level, df=df)
        interval = effect.interval
        rows.append(
            {
                "term": names[position],
                "estimate": effect.estimate,
                "std_error": effect.std_error,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "p_value": effect.p_value,
            }
        )
    return pd.DataFrame(rows)


def replicates(study: Study, params: OlsParams) -> Replicates | None:
    """Return the effect for resampling; at means of interacted covariates the means are drawn as well."""
    treatment, weights = study.column(Role.TREATMENT), study.weights()
    design, _, gradient = _design(study, treatment, weights, params)
    free = [j for j, name in enumerate(params.interactions) if name not in params.at]
    contrast = gradient
    if free:
        contrast = np.tile(gradient, (len(design), 1))
        own = [list(study.names(Role.COVARIATES)).index(params.interactions[j]) for j in free]
        contrast[:, [len(gradient) - len(params.interactions) + j for j in free]] = study.matrix()[:, own]
    return pooled_contrast(design, study.column(Role.OUTCOME), weights, contrast)


SPEC = EstimatorSpec(
    name="ols",
    title="Linear regression",
    family="adjustment",
    estimands=(Estimand.ATE, Estimand.SLOPE),
    run=run,
    replicates=replicates,
    treatment=(TreatmentKind.BINARY, TreatmentKind.CATEGORICAL, TreatmentKind.CONTINUOUS),
    aliases=("OLS", "ols_adjustment"),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=("unconfoundedness", "linearity", "no_interference", "consistency"),
    references=(
        "MacKinnon & White 1985, doi:10.1016/0304-4076(85)90158-7",
        "Angrist 1998, doi:10.2307/2998558",
    ),
    diagnostics=("raw_smd", "specification_p"),
    tables=("balance", "coefficients"),
    truths=("randomised_trial", "confounded_linear", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("confounded_smooth",),
    oracle=("ols", "ols_interaction_contrast"),
    applicable=lambda study: (
        (True, "adjusts linearly for the mapped covariates, assuming one common effect", 0.5)
        if study.has(Role.COVARIATES)
        else (True, "without covariates it equals the difference in means", 0.2)
    ),
    params=OlsParams,
    question="How much does the outcome differ between the arms when the covariates are held fixed, by one straight "
    "model?",
    formula=r"y_i = \alpha + \tau d_i + x_i'\beta + u_i,\qquad"
    r" \hat V = (X'X)^{-1} \Bigl(\sum_i \hat u_i^2 x_i x_i'\Bigr) (X'X)^{-1} \frac{n}{n-k}",
    reading="Read the coefficient as the effect only if everything that drives both treatment and outcome is among "
    "the covariates. Where effects differ between units it is an average weighted by how uncertain treatment is "
    "given the covariates, not the average effect. A small specification_p says that the straight lines do not fit.",
    example=Example(
        data="data/policy/2025-01/lalonde_nsw.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
