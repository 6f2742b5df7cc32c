"""Instrumental variables: the effect among units whose treatment an instrument moves."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.instruments import (
    AndersonRubin,
    Test,
    chi2_test,
    effective_f,
    first_stage,
    partial_r2,
    sargan,
    wu_hausman,
)
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.instruments import (
    GmmFit,
    InstrumentFit,
    Projected,
    fit_gmm,
    fit_k_class,
    project,
    variance,
)
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.sample import (
    check_arms,
    check_clusters,
    choose_covariance,
    collinear_notice,
    degrees_of_freedom,
    words_of,
)
from cqox_assets.result import Effect, EffectEstimate, Estimand, Interval, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind


@dataclass(frozen=True)
class IvParams(CommonParams):
    """Parameters of instrumental variables.

    Parameters
    ----------
    form : str
        `2sls` two-stage least squares, `liml` limited information maximum likelihood, `gmm` two-step GMM.
    se : str
        `auto` is CR1 when a cluster is mapped and HC1 otherwise; `classical` divides by n - k, `classical_n` by n. The
        first stage, the effective F and the Anderson-Rubin set follow it.
    interval : str
        `wald`; `anderson_rubin`, which holds however weak the instruments are; `auto` is Anderson-Rubin where the
        effective F misses its limit, Wald otherwise.
    interval_form : str
        Of the Wald interval: `normal`, or `t` with n - k (clusters - 1 for CR) degrees of freedom; `auto` is t for CR,
        normal otherwise.
    beta0 : float
        Effect that the p-value tests, in outcome units per unit of treatment.
    """

    form: Literal["2sls", "liml", "gmm"] = "2sls"
    se: Literal["auto", "classical", "classical_n", "HC0", "HC1", "CR0", "CR1"] = "auto"
    interval: Literal["auto", "wald", "anderson_rubin"] = "auto"
    interval_form: Literal["auto", "normal", "t"] = "auto"
    beta0: float = 0.0


def run(study: Study, params: IvParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate b in y = a + b d + X g + u with instruments Z for d.

    Parameters
    ----------
    study : Study
        Outcome, a treatment of two arms or continuous, instruments; optional covariates, weight, cluster.
    params : IvParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With tables `first_stage` (coefficients of treatment and outcome on each instrument), `tests` (first stage,
        Wu-Hausman, Sargan, Hansen's J, Anderson-Rubin), `fit` (kappa, partial R2, effective F) and `anderson_rubin`
        (the pieces of the confidence set; ends may be infinite, no row is an empty set).

    Raises
    ------
    CatalogError
        If `trim` is given.
    CqoxError
        `irrelevant_instrument`, `collinear_treatment`, `too_few_rows`: the runner turns these into refusals.

    Notes
    -----
    Two-stage least squares is b = d'Py / d'Pd, with covariates partialled out and P the projection on the instruments.
    Under monotonicity it is a weighted average of effects among units whose treatment the instruments move (Imbens &
    Angrist 1994, doi:10.2307/2951620). With weak instruments its interval is misleading; the Anderson-Rubin set is not,
    and it may be unbounded, two rays, or empty when no effect agrees with all instruments
    (Andrews, Stock & Sun 2019, doi:10.1146/annurev-economics-080218-025643).

    References
    ----------
    Imbens & Angrist (1994); Anderson & Rubin (1949, doi:10.1214/aoms/1177730090); Montiel Olea & Pflueger (2013,
    doi:10.1080/00401706.2013.806694).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but iv has no propensity to trim on")
    treatment, weights, cluster = study.column(Role.TREATMENT), study.weights(), study.codes(Role.CLUSTER)
    if study.treatment_kind is TreatmentKind.BINARY:
        check_arms(treatment, weights, least=1)
    check_clusters(cluster)
    kind, notices = choose_covariance(params.se, "HC1", cluster)
    exogenous = with_constant(study.matrix()) if study.has(Role.COVARIATES) else np.ones((len(study), 1))
    model = project(
        study.column(Role.OUTCOME), treatment, exogenous, study.matrix(Role.INSTRUMENTS),
        ["const", *study.names(Role.COVARIATES), *study.names(Role.INSTRUMENTS)],
        treated=study.name(Role.TREATMENT), weights=weights, cluster=cluster if kind.startswith("CR") else None,
    )  # fmt: skip
    fit = fit_k_class(model, "liml" if params.form == "liml" else "2sls")
    gmm = fit_gmm(model, fit, kind) if params.form == "gmm" else None
    tests = _tests(model, fit, kind)
    strength = effective_f(model, kind)
    diagnostics = _diagnostics(study, tests, strength, kind)
    effect = _wald(study, params, model, fit, gmm, kind)
    rubin = AndersonRubin(model, kind, effect.estimate, effect.std_error or max(abs(effect.estimate), 1.0))
    region = rubin.region(params.level)
    tests.append(rubin.test(params.beta0))
    if params.interval == "anderson_rubin" or (params.interval == "auto" and diagnostics[0].status is not Status.PASS):
        effect, more = _with_region(effect, region, tests[-1], params.level)
        notices += more
    return SPEC.estimate(
        study, [effect], inference=f"{_FORMS[params.form]}, {words_of(kind.removesuffix('_n'), model.cluster)}",
        diagnostics=diagnostics, tables=_tables(model, fit, tests, strength, region),
        notices=[*notices, *collinear_notice(model.dropped)],
    )  # fmt: skip


_FORMS = {"2sls": "two-stage least squares", "liml": "LIML", "gmm": "two-step GMM"}


def _wald(
    study: Study, params: IvParams, model: Projected, fit: InstrumentFit, gmm: GmmFit | None, kind: str
) -> Effect:
    estimate = fit.estimate if gmm is None else gmm.estimate
    spread = variance(model, fit, kind) if gmm is None else gmm.variance
    exact = float(fit.residuals @ fit.residuals) <= 1e-24 * float(model.y @ model.y)
    binary = study.treatment_kind is TreatmentKind.BINARY
    return wald(
        estimate,
        0.0 if exact else float(np.sqrt(max(spread, 0.0))),
        estimand=SPEC.estimand(params),
        contrast=f"{study.arms[1]} - {study.arms[0]}" if binary else f"one unit of {study.name(Role.TREATMENT)}",
        level=params.level,
        df=degrees_of_freedom(params.interval_form, kind, model.df_second, model.cluster),
        null=params.beta0,
    )


def _tests(model: Projected, fit: InstrumentFit, kind: str) -> list[Test]:
    tests = [first_stage(model, kind), wu_hausman(model), sargan(model, fit)]
    if tests[-1] is not None and not kind.startswith("classical"):
        tests.append(chi2_test("hansen_j", fit_gmm(model, fit, kind).hansen_j, model.q - 1))
    return [test for test in tests if test is not None]


def _diagnostics(study: Study, tests: list[Test], strength: float, kind: str) -> list[Diagnostic]:
    found = {test.name: test for test in tests}
    over, hausman = found.get("hansen_j", found.get("sargan")), found.get("wu_hausman")
    f_words = f"effective F of the instruments is {strength:.4g} ({kind})"
    if over is None:
        words = "with one instrument there is nothing to compare it with"
        agreement = replace(SPEC.judge(study, "overidentification_p", None, words), applies=False)
    else:
        words = f"{over.name} is {over.statistic:.4g} with {over.df1:g} degrees of freedom"
        agreement = SPEC.judge(study, "overidentification_p", over.p_value, words)
    need = "" if hausman is None else f"Wu-Hausman F is {hausman.statistic:.4g}; a small p speaks against least squares"
    return [
        SPEC.judge(study, "first_stage_f", strength, f_words),
        agreement,
        SPEC.judge(study, "endogeneity_p", None if hausman is None else hausman.p_value, need),
    ]


def _with_region(
    effect: Effect, region: tuple[tuple[float, float], ...], test: Test, level: float
) -> tuple[Effect, list[str]]:
    """Return the effect with the Anderson-Rubin set and p-value, and what the reader must know about the set."""
    source = f"Anderson-Rubin F({test.df1:g}, {test.df2:g})"
    facts = {"p_value": test.p_value, "p_source": source, "interval_source": source}
    if not region:
        words = "The Anderson-Rubin set is empty: no effect agrees with all instruments, so not all of them are valid."
        return replace(effect, interval=None, **facts), [words]  # type: ignore[arg-type]
    low, high = region[0][0], region[-1][1]
    interval = Interval(low, high, level, region if len(region) > 1 else ())
    notices = [f"The interval is the {level:.0%} Anderson-Rubin set, which holds however weak the instruments are."]
    if len(region) > 1:
        pieces = " or ".join(f"({a:.4g}, {b:.4g})" for a, b in region)
        notices.append(f"The set is not one interval: the effect lies in {pieces}.")
    elif np.isinf(low) or np.isinf(high):
        notices.append("The set is unbounded: the instruments are too weak to bound the effect.")
    return replace(effect, interval=interval, **facts), notices  # type: ignore[arg-type]


def _tables(
    model: Projected, fit: InstrumentFit, tests: list[Test], strength: float, region: tuple[tuple[float, float], ...]
) -> dict[str, pd.DataFrame]:
    fits = {
        "kappa": fit.kappa,
        "partial_r2": partial_r2(model),
        "effective_F": min(strength, 1e308),
        "parameters": float(model.exogenous.shape[1] + 1),
    }
    over = next((test for test in tests if test.name == "hansen_j"), None)
    if over is not None:
        fits["gmm_estimate"] = fit_gmm(model, fit, "HC0" if model.cluster is None else "CR0").estimate
    rows = [
        {
            "test": test.name,
            "statistic": test.statistic,
            "distribution": f"chi2({test.df1:g})" if test.df2 is None else f"F({test.df1:g}, {test.df2:g})",
            "p_value": test.p_value,
        }
        for test in tests
    ]
    coefficients = {"instrument": list(model.kept), "first_stage": model.slopes[1], "reduced_form": model.slopes[0]}
    return {
        "first_stage": pd.DataFrame(coefficients),
        "tests": pd.DataFrame(rows),
        "fit": pd.DataFrame({"quantity": list(fits), "value": list(fits.values())}),
        "anderson_rubin": pd.DataFrame(list(region), columns=["low", "high"], dtype=float),
    }


def _applicable(study: Study) -> tuple[bool, str, float]:
    if not study.has(Role.INSTRUMENTS):
        return False, "map instruments in study.yaml: roles: {instruments: <column>}", 0.0
    if study.declaration.design == "trial":
        return True, "assignment is an instrument for what was taken; the effect is that on those who comply", 0.5
    return True, "an instrument is mapped, so hidden confounding of the treatment need not bias the answer", 0.95


SPEC = EstimatorSpec(
    name="iv",
    title="Instrumental variables",
    family="instrument",
    estimands=(Estimand.LATE,),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.INSTRUMENTS}),
    treatment=(TreatmentKind.BINARY, TreatmentKind.CONTINUOUS),
    aliases=("2SLS", "LIML", "GMM", "iv_2sls", "instrumental_variables"),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=(
        "instrument_relevance",
        "instrument_independence",
        "exclusion",
        "monotonicity",
        "no_interference",
        "consistency",
    ),
    references=(
        "Imbens & Angrist 1994, doi:10.2307/2951620",
        "Andrews, Stock & Sun 2019, doi:10.1146/annurev-economics-080218-025643",
        "Montiel Olea & Pflueger 2013, doi:10.1080/00401706.2013.806694",
        "Anderson & Rubin 1949, doi:10.1214/aoms/1177730090",
    ),
    diagnostics=("first_stage_f", "overidentification_p", "endogeneity_p"),
    tables=("first_stage", "tests", "fit", "anderson_rubin"),
    truths=(
        "encouraged_uptake",
        "instrumented_dose",
        "weighted_encouragement",
        "clustered_encouragement",
        "null_encouragement",
    ),
    breaks=("weak_instrument", "invalid_instrument"),
    oracle=("iv",),
    applicable=_applicable,
    params=IvParams,
    question="What does the treatment do to those whom the instrument moves to take it?",
    formula=r"\hat\tau = \frac{d' P_Z y}{d' P_Z d}\ \text{(covariates partialled out)},\qquad"
    r" \mathrm{AR}(b) = \{b : F_{y - b d\,\sim\,Z} \le F_{1-\alpha}\}",
    reading="The effect is that of compliers, not of everyone. With an effective F below 10 only the Anderson-Rubin "
    "set can be trusted, and it is reported instead; it may be unbounded, which means that the data do not say. That "
    "the instrument reaches the outcome only through the treatment is argued, not tested.",
    example=Example(
        data="tests/oracle/data/angrist_evans.parquet",
        roles={
            "outcome": "weeks_worked",
            "treatment": "morekids",
            "instruments": ["samesex"],
            "covariates": ["age", "afam", "hispanic", "other"],
        },
    ),
)
