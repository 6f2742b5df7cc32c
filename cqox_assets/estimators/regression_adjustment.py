"""Regression adjustment with all treatment-covariate interactions (Lin 2013): an average effect that may vary."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.diagnostics.specification import reset_test
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import LinearFit, dropped_names, independent_columns, with_constant
from cqox_assets.numerics.replicates import per_arm_contrast
from cqox_assets.numerics.sample import (
    TooFewRowsError,
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
from cqox_assets.study import Role, Study

_SUPERPOPULATION = "HC0_superpopulation"
_POPULATION = "population"
_LEVERAGE_ONE = 1e-10


@dataclass(frozen=True)
class RegressionAdjustmentParams(CommonParams):
    """Parameters of the regression adjustment.

    Parameters
    ----------
    se : str
        `auto` is the effect's own influence function: residuals as in HC2 (CR1 when a cluster is mapped) and, because
        another sample would have other covariates, those of the target. `HC0_superpopulation` adds the variance of
        the covariate means of all units to HC0 (for the ATT as well, where the default takes those of the treated);
        the others take the covariates of this sample as fixed, and are too small for the effect in the population where
        the effect varies with them.
    interval_form : str
        `normal`, or `t` with n - k (clusters - 1 for CR) degrees of freedom; `auto` is t for CR, normal otherwise.
    """

    se: Literal["auto", "classical", "HC0", "HC1", "HC2", "HC3", "HC0_superpopulation", "CR0", "CR1"] = "auto"
    interval_form: Literal["auto", "normal", "t"] = "auto"


def run(study: Study, params: RegressionAdjustmentParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect from y ~ 1 + d + Xc + d:Xc.

    Parameters
    ----------
    study : Study
        Outcome, two arms, covariates; optional weight and cluster.
    params : RegressionAdjustmentParams
        `estimand` ATE centres X on all units, ATT on the treated.
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Refused if the treatment is collinear with covariates or rows are fewer than columns.

    Raises
    ------
    CatalogError
        If `trim` is given: there is no propensity to trim on.

    Notes
    -----
    The coefficient on d with X centred at the target's mean is the average of the fitted effects over the target. HC2
    is not defined when a row has leverage one (it alone identifies a coefficient); HC1 is then reported and said. By
    default psi_i = n (Z'WZ)^-1 z_i w_i u_i / sqrt(1 - h_i) + t_i / mean(t) (x_i - x_t)'s, with t the weight in the
    target, x_t its covariate mean and s the slopes on d:Xc; the variance is sum psi^2 / n^2.

    References
    ----------
    Lin (2013, doi:10.1214/12-AOAS583); superpopulation term: Negi & Wooldridge (2021,
    doi:10.1080/07474938.2020.1824732).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but regression_adjustment has no propensity to trim on")
    estimand = SPEC.estimand(params)
    outcome, treated, covariates = study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.matrix()
    weights, cluster = study.weights(), study.codes(Role.CLUSTER)
    check_arms(treated, weights)
    check_clusters(cluster)
    kind, notices = (_POPULATION, []) if params.se == "auto" else choose_covariance(params.se, "HC2", cluster)
    target = (np.ones(len(treated)) if weights is None else weights) * (treated if estimand == Estimand.ATT else 1.0)
    centred = covariates - np.average(covariates, axis=0, weights=target) if covariates.shape[1] else covariates
    _check_rows(centred, treated, weights)
    design = np.column_stack([np.ones(len(treated)), centred, treated, centred * treated[:, None]])
    d, listed = study.name(Role.TREATMENT), list(study.names(Role.COVARIATES))
    names = ["const", *listed, d, *(f"{d}:{name}" for name in listed)]
    fit = regress(design, outcome, weights, names, term=1 + len(listed), treatment=d)
    position = int(np.flatnonzero(fit.kept == 1 + len(listed))[0])
    variance, kind, more = _variance(fit, position, kind, cluster, centred, target)
    words = _words(kind, cluster, fallen_back=bool(more))
    notices += collinear_notice(dropped_names(fit, names)) + more
    effect = wald(
        float(fit.coef[position]), float(np.sqrt(max(variance, 0.0))), estimand=estimand,
        contrast=f"{study.arms[1]} - {study.arms[0]}", level=params.level,
        df=degrees_of_freedom(params.interval_form, _residuals(kind, cluster), fit.df_residual, cluster),
    )  # fmt: skip
    balance = balance_table(study)
    raw, worst = worst_difference(balance, "before")
    return SPEC.estimate(
        study, [effect], inference=words,
        diagnostics=[SPEC.judge(study, "raw_smd", raw, worst), _specification(study, fit, cluster)],
        tables={"balance": balance, "unit_effects": _unit_effects(fit, names, centred, 1 + len(listed))},
        notices=notices,
    )  # fmt: skip


def _residuals(kind: str, cluster: np.ndarray | None) -> str:
    """Return how residuals enter a variance: the default's are HC2, or CR1 of clusters."""
    return kind if kind != _POPULATION else "HC2" if cluster is None else "CR1"


def _words(kind: str, cluster: np.ndarray | None, *, fallen_back: bool) -> str:
    residuals = "HC1" if fallen_back and kind == _POPULATION else _residuals(kind, cluster)
    words = words_of(residuals, cluster)
    return f"{words}, covariates drawn from a population" if kind == _POPULATION else words


def _check_rows(covariates: np.ndarray, treated: np.ndarray, weights: np.ndarray | None) -> None:
    """Refuse an arm that its own regression fits without error: it would seem to be known exactly."""
    counted = np.ones(len(treated), dtype=bool) if weights is None else weights > 0
    for arm in (0, 1):
        rows = counted & (treated == arm)
        if rows.sum() > 1 + covariates.shape[1]:
            continue
        columns = len(independent_columns(with_constant(covariates[rows])))
        if rows.sum() <= columns:
            raise TooFewRowsError(
                f"an arm has {int(rows.sum())} rows for the {columns} coefficients of its own regression; "
                "map fewer covariates or deliver more rows per arm"
            )


def _variance(
    fit: LinearFit, position: int, kind: str, cluster: np.ndarray | None, centred: np.ndarray, target: np.ndarray
) -> tuple[float, str, list[str]]:
    """Return the variance of the coefficient on d, the covariance used and notices."""
    if kind == _POPULATION:
        return _population_variance(fit, position, cluster, centred, target)
    if kind == _SUPERPOPULATION:
        slopes = _effect_slopes(fit, centred.shape[1])
        # d'Sd/n of all units, whatever the target: the formula's S is the covariance of X, not of a part of it.
        share = fit.weights / fit.weights.sum()
        moved = centred @ slopes - float(share @ (centred @ slopes))
        extra = float(share @ moved**2) * float(share @ share)
        return float(fit.covariance("HC0")[position, position]) + extra, kind, []
    try:
        return float(fit.covariance(kind, cluster)[position, position]), kind, []
    except ZeroDivisionError as error:
        return float(fit.covariance("HC1")[position, position]), "HC1", [f"{error}; HC1 is reported instead."]


def _population_variance(
    fit: LinearFit, position: int, cluster: np.ndarray | None, centred: np.ndarray, target: np.ndarray
) -> tuple[float, str, list[str]]:
    """Return the variance from the influence of residuals and of the target's covariates, which need not be apart."""
    n, notices = len(target), []
    rest = n * fit.weights * fit.residuals * (fit.design @ fit.bread[:, position])
    if cluster is None:
        room = 1 - fit.leverage()
        if room.min() < _LEVERAGE_ONE:
            notices = [f"row {int(room.argmin())} has leverage one; residuals enter as in HC1 instead of HC2."]
            rest = rest * np.sqrt(n / fit.df_residual)
        else:
            rest = rest / np.sqrt(room)
    else:
        rest = rest * np.sqrt((n - 1) / fit.df_residual)
    moved = target / target.mean() * (centred @ _effect_slopes(fit, centred.shape[1]))
    return influence_std_error(rest + moved, cluster) ** 2, _POPULATION, notices


def _effect_slopes(fit: LinearFit, covariates: int) -> np.ndarray:
    """Return the coefficients on d:Xc, shape (covariates,); 0 for a product that was left out."""
    full = np.zeros(2 + 2 * covariates)
    full[fit.kept] = fit.coef
    return full[2 + covariates :]


def _specification(study: Study, fit: LinearFit, cluster: np.ndarray | None) -> Diagnostic:
    test = reset_test(fit, cluster)
    if test is None:
        words = "the model is saturated, or the rows are too few to add terms"
        return replace(SPEC.judge(study, "specification_p", None, words), applies=False)
    return SPEC.judge(study, "specification_p", *test)


def _unit_effects(fit: LinearFit, names: list[str], centred: np.ndarray, term: int) -> pd.DataFrame:
    full = np.zeros(len(names))
    full[fit.kept] = fit.coef
    return pd.DataFrame({"effect": full[term] + centred @ full[term + 1 :]})


def replicates(study: Study, params: RegressionAdjustmentParams) -> Replicates | None:
    """Return the effect for resampling: the fully interacted regression is one regression per arm."""
    treated = study.column(Role.TREATMENT)
    target = treated if SPEC.estimand(params) == Estimand.ATT else np.ones(len(treated))
    return per_arm_contrast(study.matrix(), treated, study.column(Role.OUTCOME), study.weights(), target)


SPEC = EstimatorSpec(
    name="regression_adjustment",
    title="Regression adjustment (interacted)",
    family="adjustment",
    estimands=(Estimand.ATE, Estimand.ATT),
    run=run,
    replicates=replicates,
    aliases=("RA", "regression_adjustment_lin2013"),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=("unconfoundedness", "outcome_model", "no_interference", "consistency"),
    references=(
        "Lin 2013, doi:10.1214/12-AOAS583",
        "Negi & Wooldridge 2021, doi:10.1080/07474938.2020.1824732",
    ),
    diagnostics=("raw_smd", "specification_p"),
    tables=("balance", "unit_effects"),
    truths=("randomised_trial", "confounded_linear", "weighted_sample", "clustered_trial", "three_arms", "null_effect"),
    breaks=("confounded_smooth",),
    oracle=("regression_adjustment",),
    applicable=lambda study: (
        (True, "adjusts for covariates separately in each arm, so the effect may vary", 0.7)
        if study.has(Role.COVARIATES)
        else (True, "without covariates it equals the difference in means", 0.2)
    ),
    params=RegressionAdjustmentParams,
    question="What is the average effect when each arm has its own regression on the covariates?",
    formula=r"y_i = \alpha + \tau d_i + (x_i - \bar x)'\beta + d_i (x_i - \bar x)'\gamma + u_i, \qquad"
    r" \bar x \text{ over all units } (\mathrm{ATE}) \text{ or the treated } (\mathrm{ATT})",
    reading="In a trial it is never less precise than the difference in means in large samples, whatever the "
    "outcome's true form. Without randomisation it rests on the straight line of each arm: look at specification_p, "
    "and at raw_smd for how far the lines must be extended. Its interval is for the population that the rows were "
    "drawn from.",
    example=Example(
        data="data/policy/2025-01/lalonde_nsw.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
