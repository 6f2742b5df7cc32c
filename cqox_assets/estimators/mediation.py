"""Mediation: how much of an effect runs through a mediator (ACME) and how much past it (ADE).

Linear mediator models and a linear or probit outcome model, after Baron & Kenny (1986) and Imai, Keele & Tingley
(2010). Several mediators enter the outcome model together and are shown side by side with their shares of the total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.inference import draws_effect, influence_std_error, wald
from cqox_assets.numerics.linear import LinearFit, dropped_names, fit_linear, with_constant
from cqox_assets.numerics.mediation import (
    Mean,
    Pathways,
    confounded_mediation,
    drawn_coefficients,
    expanded,
    joint_covariance,
    mean_outcome,
    simulated_mean,
)
from cqox_assets.numerics.probit import fit_probit
from cqox_assets.numerics.sample import (
    TooFewRowsError,
    check_arms,
    check_clusters,
    choose_covariance,
    collinear_notice,
    regress,
    words_of,
)
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_RHO = np.round(np.linspace(-0.9, 0.9, 37), 10)
_ARMS = {"control": (0.0,), "treated": (1.0,), "average": (0.0, 1.0)}
Combination = Mapping[tuple[float, tuple[float, ...]], float]


@dataclass(frozen=True)
class MediationParams(CommonParams):
    """Parameters of the mediation analysis.

    Parameters
    ----------
    interaction : bool
        Whether the mediator's effect on the outcome may differ between arms (product of treatment and mediator).
    outcome_model : str
        `ols`, or `probit` for an outcome of 0 and 1 (effects are differences of probabilities).
    at_treatment : str
        Arm at which ACME and ADE are taken: `control`, `treated` or the mean of both, `average`; they differ only
        with `interaction` or `probit`, and then both arms are listed as well.
    uncertainty : str
        `delta`: delta method. `quasi_bayesian`: coefficients drawn from their joint normal distribution `draws`
        times, percentile intervals; covariates are kept as they are.
    se : str
        Covariance of the coefficients; `auto` is CR1 when a cluster is mapped and HC1 otherwise.
    between_models : str
        `auto`: with clusters, the errors of mediator and outcome models may go together within them. `independent`:
        coefficients of different models are uncorrelated, as in the formula a^2 var(b) + b^2 var(a).
    covariates : str
        `drawn`: another sample would have other covariates, which matters where effects vary with them. `fixed`: the
        delta method counts the coefficients alone.
    interval_form : str
        `normal`, or `t` with n - k (clusters - 1 where a cluster is mapped) degrees of freedom; `auto` is t with mapped
        clusters, normal otherwise.
    """

    interaction: bool = False
    outcome_model: Literal["ols", "probit"] = "ols"
    at_treatment: Literal["average", "control", "treated"] = "average"
    uncertainty: Literal["delta", "quasi_bayesian"] = "delta"
    se: Literal["auto", "classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1"] = "auto"
    between_models: Literal["auto", "independent"] = "auto"
    covariates: Literal["drawn", "fixed"] = "drawn"
    interval_form: Literal["auto", "normal", "t"] = "auto"


@dataclass(frozen=True)
class _Models:
    """Fits of the mediators and the outcome, their pathways, joint covariance and column names."""

    mediators: tuple[LinearFit, ...]
    outcome: LinearFit
    paths: Pathways
    covariance: np.ndarray
    names: tuple[list[str], list[str]]


def run(study: Study, params: MediationParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate mediated, direct and total effect.

    Parameters
    ----------
    study : Study
        Outcome, two arms, one or more mediators; optional covariates, weight, cluster.
    params : MediationParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Effects ACME, ADE, total and proportion_mediated; of several mediators, ACME and share of each as well. Tables
        `mediators` (paths a and b), `coefficients` and `confounding` (ACME if the noises were correlated). Refused if a
        mediator is constant or restates treatment and covariates.

    Raises
    ------
    CatalogError
        If `trim` is given, or HC2 and HC3 are asked for a probit.

    Notes
    -----
    Models: m = (1, c, t) alpha + noise; y = (1, c, t, m, t m) beta + noise, or its probit. ACME(t) =
    E[Y(t, M(1)) - Y(t, M(0))], ADE(t) = E[Y(1, M(t)) - Y(0, M(t))], total = E[Y(1, M(1)) - Y(0, M(0))]; in linear
    models without interaction ACME = a b and ADE = c'. They are causal if treatment is as good as random given
    covariates and the mediator is so given treatment and covariates.

    References
    ----------
    Baron & Kenny (1986, doi:10.1037/0022-3514.51.6.1173); Imai, Keele & Tingley (2010, doi:10.1037/a0020761);
    VanderWeele & Vansteelandt (2014, doi:10.1515/em-2012-0010) for several mediators.
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but mediation has no propensity to trim on")
    cluster, probit = study.codes(Role.CLUSTER), params.outcome_model == "probit"
    kind, notices = choose_covariance(params.se, "HC1", cluster)
    if probit and kind in ("HC2", "HC3"):
        raise CatalogError(f"parameter 'se' is {kind}, which a probit has not; choose classical, HC0, HC1 or CR1")
    check_arms(study.column(Role.TREATMENT), study.weights())
    check_clusters(cluster)
    models = _fit(study, params, kind, cluster)
    if isinstance(models, Refusal):
        return models
    effects = _effects(study, params, models, cluster)
    total = next(effect for effect in effects if effect.estimand == Estimand.TOTAL)
    if total.interval is not None and total.interval.covers(0.0):
        notices.append("the total effect is not told from zero, so its mediated proportion is unstable")
    left_out = dict.fromkeys(
        name
        for fit, names in zip((models.mediators[0], models.outcome), models.names, strict=True)
        for name in dropped_names(fit, names)
    )
    how = "delta method" if params.uncertainty == "delta" else f"quasi-Bayesian simulation, {params.draws} draws"
    return SPEC.estimate(
        study, effects, inference=f"{how}, {words_of(kind, cluster)}",
        diagnostics=[_interaction(study, params, kind, cluster), _confounding(study, params, models)[0]],
        tables={"mediators": _mediators(study, models), "coefficients": _coefficients(study, models),
                "confounding": _confounding(study, params, models)[1]},
        notices=[*notices, *collinear_notice(list(left_out))],
    )  # fmt: skip


def _fit(study: Study, params: MediationParams, kind: str, cluster: np.ndarray | None) -> _Models | Refusal:
    y, t, c, m = (study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.matrix(), study.matrix(Role.MEDIATOR))
    weights, named = study.weights(), list(study.names(Role.MEDIATOR))
    treated = study.name(Role.TREATMENT)
    base = with_constant(c, t)
    names = ["const", *study.names(Role.COVARIATES), treated]
    term = len(names) - 1
    fits = tuple(regress(base, m[:, k], weights, names, term=term, treatment=treated) for k in range(len(named)))
    for k, fit in enumerate(fits):
        if float(np.dot(fit.weights, fit.residuals**2)) <= 1e-18 * max(
            float(np.dot(fit.weights, m[:, k] ** 2)), 1e-300
        ):
            return SPEC.refuse(
                "collinear_mediator",
                f"mediator '{named[k]}' is fixed by treatment and covariates, so its own part is not identified",
                "map a mediator that varies among units of equal treatment and covariates",
            )
    design = np.column_stack([base, m, *([m * t[:, None]] if params.interaction else [])])
    names_y = [*names, *named, *(f"{treated}:{name}" for name in named if params.interaction)]
    if len(y) <= design.shape[1] + 1:
        raise TooFewRowsError(
            f"{len(y)} rows for {design.shape[1]} columns of the outcome model; "
            "map fewer covariates or deliver more rows"
        )
    probit = params.outcome_model == "probit"
    fit_y = fit_probit(design, y, weights) if probit else fit_linear(design, y, weights)
    lost = [names_y[j] for j in range(term, term + 1 + len(named)) if j not in fit_y.kept]
    if lost:
        return SPEC.refuse(
            "collinear_mediator",
            f"'{lost[0]}' is a linear combination of the other mediators, the treatment and the covariates",
            f"leave '{lost[0]}' or what it is made of out of the mediators",
        )
    width, full = base.shape[1], base.shape[1] + 2 * len(named)
    noise = np.column_stack([fit.residuals for fit in fits])
    weight = np.ones(len(y)) if weights is None else weights
    spread = (noise * weight[:, None]).T @ noise / fits[0].df_residual
    paths = Pathways(
        base[:, :-1], np.stack([expanded(fit, width) for fit in fits]), expanded(fit_y, full), spread, noise,
        weight, probit,
    )  # fmt: skip
    widths = [*(width for _ in named), full]
    return _Models(
        fits, fit_y, paths,
        joint_covariance(
            fits, fit_y, widths, kind, cluster, probit=probit, independent=params.between_models == "independent"
        ),
        (names, names_y),
    )  # fmt: skip


def _combinations(
    params: MediationParams, named: Sequence[str], arms: Sequence[str]
) -> list[tuple[str, Any, Combination]]:
    """Return (estimand, place, weights of mean outcomes) of every effect; a proportion is listed by its numerator."""
    count = len(named)
    on, off = (1.0,) * count, (0.0,) * count

    def mediated(levels: Sequence[float], only: int | None = None) -> Combination:
        found: dict[tuple[float, tuple[float, ...]], float] = {}
        for t in levels:
            ends = [(s,) * count if only is None else (*(t,) * only, s, *(t,) * (count - only - 1)) for s in (1.0, 0.0)]
            for under, sign in zip(ends, (1.0, -1.0), strict=True):
                found[t, under] = found.get((t, under), 0.0) + sign / len(levels)
        return found

    def direct(levels: Sequence[float]) -> Combination:
        return {(t, (s,) * count): sign / len(levels) for s in levels for t, sign in ((1.0, 1.0), (0.0, -1.0))}

    levels = _ARMS[params.at_treatment]
    rows: list[tuple[str, Any, Combination]] = [
        (Estimand.ACME, {}, mediated(levels)), (Estimand.ADE, {}, direct(levels)),
        (Estimand.TOTAL, {}, {(1.0, on): 1.0, (0.0, off): -1.0}),
        (Estimand.PROPORTION_MEDIATED, {}, mediated(levels)),
    ]  # fmt: skip
    if count > 1:
        for k, name in enumerate(named):
            rows += [
                (estimand, {"mediator": name}, mediated(levels, k))
                for estimand in (Estimand.ACME, Estimand.PROPORTION_MEDIATED)
            ]
    if params.interaction or params.outcome_model == "probit":
        for arm, level in zip(arms, (0.0, 1.0), strict=True):
            rows += [
                (Estimand.ACME, {"treatment": arm}, mediated((level,))),
                (Estimand.ADE, {"treatment": arm}, direct((level,))),
            ]
    return rows


def _effects(study: Study, params: MediationParams, models: _Models, cluster: np.ndarray | None) -> list[Effect]:
    rows = _combinations(params, [study.label(name) for name in study.names(Role.MEDIATOR)], study.arms)
    keys = dict.fromkeys(key for _, _, parts in rows for key in parts)
    means = {key: mean_outcome(models.paths, *key) for key in keys}
    theta = np.concatenate([models.paths.alpha.ravel(), models.paths.beta])
    drawn: dict[Any, np.ndarray] = {}
    if params.uncertainty == "quasi_bayesian":
        draws = drawn_coefficients(theta, models.covariance, params.draws, params.seed)
        drawn = {key: simulated_mean(models.paths, draws, *key) for key in keys}
    total, total_draws = _sum(rows[2][2], means), _sum_draws(rows[2][2], drawn)
    chosen = SPEC.estimand(params)
    rows.sort(key=lambda row: bool(row[1]) or row[0] != chosen)
    effects = []
    for estimand, place, parts in rows:
        value, spread = _sum(parts, means), _sum_draws(parts, drawn)
        ratio = estimand == Estimand.PROPORTION_MEDIATED
        if ratio and abs(total.value) < 1e-300:
            continue
        if ratio:
            value, spread = value.over(total), None if spread is None else spread / total_draws
        facts: dict[str, Any] = {
            "estimand": estimand, "contrast": f"{study.arms[1]} - {study.arms[0]}", "at": place,
            "scale": "proportion" if ratio else "difference", "level": params.level,
        }  # fmt: skip
        facts["df"] = _df(params, models, cluster)
        if params.covariates == "fixed":
            value = replace(value, unit=np.zeros_like(value.unit))
        effects.append(_effect(value, spread, models, cluster, facts))
    return effects


def _df(params: MediationParams, models: _Models, cluster: np.ndarray | None) -> float | None:
    """Return the degrees of freedom of an interval; None is the normal distribution."""
    if params.interval_form == "normal" or (params.interval_form == "auto" and cluster is None):
        return None
    return float(models.outcome.df_residual if cluster is None else cluster.max())


def _effect(
    value: Mean, draws: np.ndarray | None, models: _Models, cluster: np.ndarray | None, facts: dict[str, Any]
) -> Effect:
    df = facts.pop("df")
    if draws is not None:
        found = draws_effect(value.value, draws, **facts)
        return replace(found, interval_source="quantiles of simulated draws", p_source="share of simulated draws")
    variance = float(value.gradient @ models.covariance @ value.gradient)
    own = influence_std_error(value.unit, cluster)
    std_error = float(np.sqrt(max(variance, 0.0) + own**2))
    negligible = std_error <= 1e-12 * abs(value.value)
    return wald(value.value, 0.0 if negligible else std_error, df=df, **facts)


def _sum(parts: Combination, means: Mapping[Any, Mean]) -> Mean:
    terms = [means[key].times(factor) for key, factor in parts.items()]
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def _sum_draws(parts: Combination, drawn: Mapping[Any, np.ndarray]) -> np.ndarray | None:
    return np.asarray(sum(drawn[key] * factor for key, factor in parts.items())) if drawn else None


def _interaction(study: Study, params: MediationParams, kind: str, cluster: np.ndarray | None) -> Diagnostic:
    """Judge whether the mediator's effect differs between arms although the model says that it does not."""
    if params.interaction:
        return replace(SPEC.judge(study, "mediator_interaction_p", None, "the interaction is modelled"), applies=False)
    t, m = study.column(Role.TREATMENT), study.matrix(Role.MEDIATOR)
    design = np.column_stack([with_constant(study.matrix(), t, m), m * t[:, None]])
    if len(t) <= design.shape[1] + 1:
        return SPEC.judge(study, "mediator_interaction_p", None, "too few rows to test for an interaction")
    fit_by = fit_probit if params.outcome_model == "probit" else fit_linear
    fit = fit_by(design, study.column(Role.OUTCOME), study.weights())
    tested = np.flatnonzero(fit.kept >= design.shape[1] - m.shape[1])
    covariance = fit.covariance(kind if kind not in ("HC2", "HC3", "classical") else "HC1", cluster)
    block = covariance[np.ix_(tested, tested)]
    if len(tested) == 0 or np.linalg.cond(block) > 1e14:
        return SPEC.judge(study, "mediator_interaction_p", None, "the products of treatment and mediator do not vary")
    from scipy.special import chdtrc

    statistic = float(fit.coef[tested] @ np.linalg.solve(block, fit.coef[tested]))
    return SPEC.judge(
        study, "mediator_interaction_p", float(chdtrc(len(tested), max(statistic, 0.0))), "Wald test of products"
    )


def _confounding(study: Study, params: MediationParams, models: _Models) -> tuple[Diagnostic, pd.DataFrame]:
    """Return the correlation of the noises that would remove each mediated effect, and the effect along it."""
    columns = {"mediator": "str", "rho": "float64", "acme": "float64"}
    empty = pd.DataFrame({name: [] for name in columns}).astype(columns)
    if params.outcome_model == "probit" or params.interaction:
        words = "known in closed form only for a linear outcome model without interaction"
        return replace(SPEC.judge(study, "mediator_confounding", None, words), applies=False), empty
    base = with_constant(study.matrix(), study.column(Role.TREATMENT))
    weights = study.weights()
    root = 1.0 if weights is None else np.sqrt(weights)
    first = fit_linear(base, study.column(Role.OUTCOME), weights).residuals * root
    parts, found = [empty], {}
    for name, fit, alpha in zip(study.names(Role.MEDIATOR), models.mediators, models.paths.alpha, strict=True):
        second = fit.residuals * root
        if min(first.std(), second.std()) <= 1e-12 * max(float(np.abs(first).max()), 1e-300):
            return SPEC.judge(study, "mediator_confounding", None, "a model fits without error"), empty
        found[name] = abs(float(np.corrcoef(first, second)[0, 1]))
        bent = confounded_mediation(float(alpha[-1]), first, second, _RHO)
        parts.append(pd.DataFrame({"mediator": study.label(name), "rho": _RHO, "acme": bent}))
    weakest = min(found, key=lambda name: found[name])
    words = f"noises of '{weakest}' and the outcome so correlated would leave no mediated effect"
    return SPEC.judge(study, "mediator_confounding", found[weakest], words), pd.concat(parts, ignore_index=True)


def _mediators(study: Study, models: _Models) -> pd.DataFrame:
    """Return one row per mediator: the paths into it (a) and out of it (b) with their standard errors."""
    width, rows = models.paths.alpha.shape[1], []
    errors = np.sqrt(np.maximum(np.diag(models.covariance), 0.0))
    start = models.paths.mediators * width + width
    for k, name in enumerate(study.names(Role.MEDIATOR)):
        rows.append(
            {
                "mediator": study.label(name),
                "a": float(models.paths.alpha[k, -1]), "se_a": float(errors[(k + 1) * width - 1]),
                "b": float(models.paths.beta[width + k]), "se_b": float(errors[start + k]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _coefficients(study: Study, models: _Models) -> pd.DataFrame:
    """Return one row per model and term that stayed."""
    width, errors = models.paths.alpha.shape[1], np.sqrt(np.maximum(np.diag(models.covariance), 0.0))
    named = [study.label(name) for name in study.names(Role.MEDIATOR)]
    fits = [*models.mediators, models.outcome]
    rows = []
    for k, (fit, model) in enumerate(zip(fits, [*named, study.label(study.name(Role.OUTCOME))], strict=True)):
        names = models.names[0] if k < len(named) else models.names[1]
        rows += [
            {"model": model, "term": names[j], "estimate": float(value), "std_error": float(errors[k * width + j])}
            for j, value in zip(fit.kept, fit.coef, strict=True)
        ]
    return pd.DataFrame(rows)


SPEC = EstimatorSpec(
    name="mediation",
    title="Mediation",
    family="mediation",
    estimands=(Estimand.ACME, Estimand.ADE, Estimand.TOTAL, Estimand.PROPORTION_MEDIATED),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.MEDIATOR}),
    aliases=("Baron-Kenny", "Imai", "mediation_linear"),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=("sequential_ignorability", "mediator_model", "no_interference", "consistency"),
    references=(
        "Baron & Kenny 1986, doi:10.1037/0022-3514.51.6.1173",
        "Imai, Keele & Tingley 2010, doi:10.1037/a0020761",
        "Imai, Keele & Yamamoto 2010, doi:10.1214/10-STS321",
        "VanderWeele & Vansteelandt 2014, doi:10.1515/em-2012-0010",
    ),
    diagnostics=("mediator_interaction_p", "mediator_confounding"),
    tables=("mediators", "coefficients", "confounding"),
    truths=(
        "mediated_trial",
        "null_mediated",
        "mediated_two_ways",
        "mediated_weighted",
        "mediated_clusters",
        "mediated_three_arms",
    ),
    breaks=("mediated_unevenly", "mediated_weakly"),
    oracle=("mediation",),
    applicable=lambda study: (
        study.has(Role.MEDIATOR),
        "a mediator is mapped, so the effect can be split into what runs through it and what does not"
        if study.has(Role.MEDIATOR)
        else "needs a mediator",
        0.7,
    ),
    params=MediationParams,
    question="How much of the effect runs through the mediator, and how much does not?",
    formula=r"m = \alpha + a d + x'\kappa + v,\quad y = \mu + c d + b m + x'\lambda + u:"
    r"\qquad \mathrm{ACME} = a b,\ \mathrm{ADE} = c,\ \mathrm{total} = a b + c",
    reading="Random treatment does not make the mediator random: a hidden common cause of mediator and outcome looks "
    "like mediation. mediator_confounding says how strong it would have to be to explain the mediated effect away. "
    "Allow an interaction where mediator_interaction_p is small. A proportion means little where the total is near "
    "zero.",
    coverage_rows=2000,
    example=Example(
        data="tests/oracle/data/framing.csv",
        roles={
            "outcome": "cong_mesg",
            "treatment": "treat",
            "mediator": "emo",
            "covariates": ["age", "educ", "gender", "income"],
        },
    ),
)
