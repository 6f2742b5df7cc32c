"""Proximal inference: the effect under a hidden confounder that two kinds of proxies (negative controls) reveal."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.numerics.bridge import OutcomeBridge, Proxies, Strength, arrange, fit_outcome_bridge, strength
from cqox_assets.numerics.bridge_weights import arm_mean, fit_treatment_bridge
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.numerics.sample import (
    check_arms,
    check_clusters,
    choose_covariance,
    collinear_notice,
    degrees_of_freedom,
    words_of,
)
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind


@dataclass(frozen=True)
class ProximalParams(CommonParams):
    """Parameters of proximal inference.

    Parameters
    ----------
    method : str
        `outcome_bridge`: two-stage least squares of the outcome on treatment, covariates and fitted outcome proxies;
        `treatment_bridge`: outcomes weighted by a function of the treatment proxies; `doubly_robust`: both, right if
        either bridge is.
    outcome_form : str
        `pooled`: one linear outcome bridge with a common effect; `per_arm`: one per arm, averaged over all rows.
    treatment_form : str
        `logistic` (1 + exp of a linear index, what a logistic treatment model implies) or `linear`, fitted in each arm.
        Its equations balance all that a linear outcome bridge consists of, so that `treatment_bridge` and
        `doubly_robust` agree; with as many proxies of both kinds and `linear`, so does the outcome bridge per arm.
    se : str
        Of the pooled outcome bridge: `auto` is CR1 when a cluster is mapped and HC1 otherwise; `classical` divides by
        n - k, `classical_n` by n. The other estimates use stacked estimating equations.
    interval_form : str
        `normal`, or `t` with n - k (clusters - 1 for CR) degrees of freedom; `auto` is t for CR, normal otherwise.
    """

    method: Literal["outcome_bridge", "treatment_bridge", "doubly_robust"] = "outcome_bridge"
    outcome_form: Literal["pooled", "per_arm"] = "pooled"
    treatment_form: Literal["logistic", "linear"] = "logistic"
    se: Literal["auto", "classical", "classical_n", "HC0", "HC1", "CR0", "CR1"] = "auto"
    interval_form: Literal["auto", "normal", "t"] = "auto"


def run(study: Study, params: ProximalParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect with bridge functions of proxies.

    Parameters
    ----------
    study : Study
        Outcome, treatment (two arms, or continuous for the pooled outcome bridge), one or more `treatment_proxy` and at
        most as many `outcome_proxy`; optional covariates, weight, cluster.
    params : ProximalParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With tables `completeness` (canonical correlations of the proxies), `proxies` (role and name), `comparison`
        (least squares without and with proxies beside the proximal estimate) and `bridge` (coefficients). Refused:
        `too_few_proxies`, `proxies_coincide`, `irrelevant_proxy`, `no_treatment_bridge`, `collinear_treatment`,
        `too_few_rows`, `treatment_kind`.

    Raises
    ------
    CatalogError
        If `trim` is given, or `se` for an estimate that has only stacked equations.

    Notes
    -----
    The outcome bridge h(w, d, x) = b0 + b_d d + b_w'w + b_x'x solves E[y - h | z, d, x] = 0: it is two-stage least
    squares with instruments z for w, and b_d is the effect. A treatment bridge q solves E[1(d = a) q - 1 | w, x] = 0;
    the doubly robust mean of arm a is that of h + 1(d = a) q (y - h).

    References
    ----------
    Tchetgen Tchetgen, Ying, Cui, Shi & Miao (2024, doi:10.1214/23-STS911); Cui, Pu, Shi, Miao & Tchetgen Tchetgen
    (2024, doi:10.1080/01621459.2023.2191817); Miao, Geng & Tchetgen Tchetgen (2018, doi:10.1093/biomet/asy038).
    """
    simple = params.method == "outcome_bridge" and params.outcome_form == "pooled"
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but proximal has no propensity to trim on")
    if params.se != "auto" and not simple:
        raise CatalogError(f"parameter 'se' is {params.se}, which only the pooled outcome bridge has; leave it at auto")
    binary = study.treatment_kind is TreatmentKind.BINARY
    if not binary and not simple:
        return SPEC.refuse(
            "treatment_kind", "the treatment is continuous, and only the pooled outcome bridge takes it",
            "use method: outcome_bridge with outcome_form: pooled, or code the treatment in arms",
        )  # fmt: skip
    cluster = study.codes(Role.CLUSTER)
    if binary:
        check_arms(study.column(Role.TREATMENT), study.weights(), least=1)
    check_clusters(cluster)
    kind, notices = choose_covariance(params.se, "HC1", cluster)
    data = _arrange(study, cluster if kind.startswith("CR") or not simple else None)
    bridge = fit_outcome_bridge(data)
    found = strength(data, bridge.residuals, kind)
    effect = _pooled(study, params, data, bridge, kind) if simple else _by_means(study, params, data, bridge)
    diagnostics = _diagnostics(study, data, found, kind)
    if diagnostics[0].status is not Status.PASS:
        notices.append(
            "the proxies are weak: the estimate leans towards the confounded one and its interval is too short"
        )
    how = words_of(kind.removesuffix("_n"), data.cluster)
    if not simple:
        how = "stacked estimating equations" + (", clustered" if cluster is not None else "")
    return SPEC.estimate(
        study, [effect], inference=f"{_words(params)}, {how}", diagnostics=diagnostics,
        tables=_tables(study, data, bridge, found, effect), notices=[*notices, *collinear_notice(data.dropped)],
    )  # fmt: skip


def _words(params: ProximalParams) -> str:
    if params.method == "outcome_bridge":
        return f"outcome bridge by two-stage least squares, {params.outcome_form.replace('_', ' ')}"
    if params.method == "treatment_bridge":
        return f"{params.treatment_form} treatment bridge"
    return (
        f"doubly robust, {params.outcome_form.replace('_', ' ')} outcome and {params.treatment_form} treatment bridge"
    )


def _arrange(study: Study, cluster: np.ndarray | None) -> Proxies:
    weights = study.weights()
    return arrange(
        {
            "y": study.column(Role.OUTCOME),
            "d": study.column(Role.TREATMENT),
            "x": study.matrix() if study.has(Role.COVARIATES) else np.zeros((len(study), 0)),
            "w": study.matrix(Role.OUTCOME_PROXY),
            "z": study.matrix(Role.TREATMENT_PROXY),
        },
        {
            "x": study.names(Role.COVARIATES),
            "w": study.names(Role.OUTCOME_PROXY),
            "z": study.names(Role.TREATMENT_PROXY),
        },
        np.ones(len(study)) if weights is None else weights,
        cluster,
        study.name(Role.TREATMENT),
    )


def _contrast(study: Study) -> str:
    if study.treatment_kind is TreatmentKind.BINARY:
        return f"{study.arms[1]} - {study.arms[0]}"
    return f"one unit of {study.name(Role.TREATMENT)}"


def _pooled(study: Study, params: ProximalParams, data: Proxies, bridge: OutcomeBridge, kind: str) -> Effect:
    position = 1 + data.x.shape[1]
    exact = float(bridge.residuals @ bridge.residuals) <= 1e-24 * float(data.weight @ data.y**2)
    spread = 0.0 if exact else float(np.sqrt(max(bridge.variance(data, position, kind), 0.0)))
    residual = data.n - bridge.fitted.shape[1]
    binary = study.treatment_kind is TreatmentKind.BINARY
    return wald(
        float(bridge.coef[position]), spread, estimand=SPEC.estimand(params) if binary else Estimand.SLOPE,
        contrast=_contrast(study), level=params.level,
        df=degrees_of_freedom(params.interval_form, kind, residual, data.cluster),
    )  # fmt: skip


def _by_means(study: Study, params: ProximalParams, data: Proxies, bridge: OutcomeBridge) -> Effect:
    pooled = params.outcome_form == "pooled"
    means, influences = [], []
    for arm in (1, 0):
        outcome = bridge if pooled else fit_outcome_bridge(data, data.d == arm)
        treatment = None
        if params.method != "outcome_bridge":
            treatment = fit_treatment_bridge(data, arm, params.treatment_form)
        used = None if params.method == "treatment_bridge" else outcome
        mean, influence = arm_mean(data, arm, used, treatment, pooled=pooled)
        means.append(mean)
        influences.append(influence)
    kind = "HC1" if data.cluster is None else "CR1"
    return wald(
        means[0] - means[1], influence_std_error(influences[0] - influences[1], data.cluster),
        estimand=SPEC.estimand(params), contrast=_contrast(study), level=params.level,
        df=degrees_of_freedom(params.interval_form, kind, data.n - bridge.fitted.shape[1], data.cluster),
    )  # fmt: skip


def _diagnostics(study: Study, data: Proxies, found: Strength, kind: str) -> list[Diagnostic]:
    p, q = data.w.shape[1], data.z.shape[1]
    weakest = float(found.correlations[-1])
    words = f"{q} treatment and {p} outcome proxies; F {found.f_weakest:.4g} ({kind})"
    if found.p_value is None:
        agreement = SPEC.judge(study, "overidentification_p", None, "as many treatment as outcome proxies: no surplus")
        agreement = replace(agreement, applies=False)
    else:
        said = f"{found.surplus} surplus treatment proxies agree with the others"
        agreement = SPEC.judge(study, "overidentification_p", found.p_value, f"p-value of the test that {said}")
    return [
        SPEC.judge(study, "proxy_f", found.f_weakest, words),
        SPEC.judge(study, "proxy_correlation", weakest, f"{weakest:.4g}; 0 would leave the effect unidentified"),
        agreement,
    ]


def _tables(
    study: Study, data: Proxies, bridge: OutcomeBridge, found: Strength, effect: Effect
) -> dict[str, pd.DataFrame]:
    outcome, treatment, covariates = data.names
    own = study.name(Role.TREATMENT)
    plain = fit_linear(with_constant(data.x, data.d), data.y, data.weight, drop_collinear=False)
    both = fit_linear(with_constant(data.x, data.d, data.w, data.z), data.y, data.weight)
    rows: list[tuple[str, float]] = [("least squares without proxies", float(plain.coef[-1]))]
    place = np.flatnonzero(both.kept == 1 + data.x.shape[1])
    if len(place):
        rows.append(("least squares with proxies as covariates", float(both.coef[place[0]])))
    rows.append(("proximal", effect.estimate))
    return {
        "completeness": pd.DataFrame(
            {"direction": np.arange(1, len(found.correlations) + 1), "canonical_correlation": found.correlations}
        ),
        "proxies": pd.DataFrame(
            {
                "role": ["treatment_proxy"] * len(treatment) + ["outcome_proxy"] * len(outcome),
                "column": [study.label(name) for name in (*treatment, *outcome)],
            }
        ),
        "comparison": pd.DataFrame(rows, columns=["method", "estimate"]),
        "bridge": pd.DataFrame({"term": ["const", *covariates, own, *outcome], "coefficient": bridge.coef}),
    }


def _applicable(study: Study) -> tuple[bool, str, float]:
    treatment, outcome = len(study.names(Role.TREATMENT_PROXY)), len(study.names(Role.OUTCOME_PROXY))
    if not treatment or not outcome:
        return False, "map treatment_proxy and outcome_proxy in study.yaml", 0.0
    if treatment < outcome:
        return False, f"map at least as many treatment proxies ({treatment}) as outcome proxies ({outcome})", 0.0
    if study.declaration.design == "trial":
        return True, "proxies of a hidden confounder are mapped, but in a trial none is expected", 0.1
    return True, "proxies reveal a hidden confounder, which adjusting for covariates cannot", 1.0


SPEC = EstimatorSpec(
    name="proximal",
    title="Proximal inference",
    family="proxies",
    estimands=(Estimand.ATE, Estimand.SLOPE),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.TREATMENT_PROXY, Role.OUTCOME_PROXY}),
    treatment=(TreatmentKind.BINARY, TreatmentKind.CATEGORICAL, TreatmentKind.CONTINUOUS),
    aliases=("negative_controls", "P2SLS", "proximal_2sls"),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=("proxy_exclusion", "proxy_completeness", "bridge_model", "no_interference", "consistency"),
    references=(
        "Tchetgen Tchetgen et al. 2024, doi:10.1214/23-STS911",
        "Cui, Pu, Shi, Miao & Tchetgen Tchetgen 2024, doi:10.1080/01621459.2023.2191817",
        "Miao, Geng & Tchetgen Tchetgen 2018, doi:10.1093/biomet/asy038",
    ),
    diagnostics=("proxy_f", "proxy_correlation", "overidentification_p"),
    tables=("completeness", "proxies", "comparison", "bridge"),
    truths=("proxied_confounder", "proxied_twice", "proxied_three_arms", "proxied_clusters", "null_proxied"),
    breaks=("irrelevant_proxies", "invalid_proxy"),
    oracle=("proximal",),
    applicable=_applicable,
    params=ProximalParams,
    question="What is the effect when a confounder was not measured, but variables that it moves were?",
    formula=r"E[y - h(w, d, x) \mid z, d, x] = 0, \quad h = b_0 + b_d d + b_w^\top w + b_x^\top x, \quad "
    r"\hat\tau = \hat b_d \ \text{by two-stage least squares with instruments } z \text{ for } w",
    reading="The effect if the treatment proxies do not touch outcome or outcome proxies, the treatment does not touch "
    "the outcome proxies, and both vary with the hidden confounder. Compare it with least squares in the table: the "
    "gap is the confounding that the proxies reveal. Do not trust it when the proxies are weak (proxy_f).",
    example=Example(
        "tests/oracle/data/proxy_sim.csv",
        {
            "outcome": "y",
            "treatment": "d",
            "covariates": ["x0", "x1"],
            "treatment_proxy": ["z0", "z1", "z2"],
            "outcome_proxy": ["w0", "w1"],
            "cluster": "cluster",
        },
    ),
    coverage_rows=2000,
)
