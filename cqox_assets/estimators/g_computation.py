"""G-computation: predict every unit's outcome under both arms, average over the target and compare.

A treatment that is repeated in time (the role `treatment` lists its columns in order, or a long table has unit and
time) is answered by the g-formula: the mean outcome had everybody followed one regime, against another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, standardised_differences, worst_difference
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.nuisance.models import unused_propensity
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.logit import fit_logit
from cqox_assets.numerics.longitudinal import Course, Regime, assigned, read_course, read_regime
from cqox_assets.numerics.regimes import RegimeMean, interaction_p, regime_mean
from cqox_assets.numerics.replicates import per_arm_contrast
from cqox_assets.numerics.sample import check_arms, check_clusters, collinear_notice
from cqox_assets.numerics.standardise import fit_outcome, on_scale, standardised_mean
from cqox_assets.numerics.structural import g_estimate
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example, Replicates
from cqox_assets.study import Role, Study, TreatmentKind

_REPEATED = ("saturated", "sequential_ols", "parametric")


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
    form : str
        `auto`: `sequential_ols` for a repeated treatment, else `point`. `point`: one treatment, standardised.
        `saturated`: means of every full history. `sequential_ols`: iterated expectations by least squares.
        `parametric`: later covariates by logit, the outcome by least squares. Any of these three on one treatment
        column with unit and time reads a long table. `g_estimation`: one treatment, the common effect
        sum((d-e)y) / sum((d-e)d) from a propensity e instead of an outcome model.
    time_varying : tuple of tuple of str
        Per treatment of a wide table, the covariates first known just before it; others are known from the start.
        Empty: told by the numbers in the names (l0, l1 beside a0, a1), and said.
    regime, reference_regime : tuple of str
        `always` (the first compared arm in every period; with several arms one answer each), `never`, one arm or
        dose, or one per period; a rule such as `l1 > 0` treats where it holds. `reference_regime: none` reports the
        mean outcome under `regime`.
    propensity : str
        For g_estimation: `logit` (unpenalised, main effects) or `known` (the column of role `propensity`).
    se : str
        For g_estimation: `m_estimation` counts the estimated logit, `influence` takes the propensity as known; `auto`
        is the first with logit.
    """

    outcome_model: Literal["ols_per_arm", "ols_pooled_interacted", "logit_per_arm", "logit_pooled"] = "ols_per_arm"
    interactions: tuple[str, ...] = ()
    scale: Literal["difference", "log_risk_ratio", "log_odds_ratio"] = "difference"
    form: Literal["auto", "point", "saturated", "sequential_ols", "parametric", "g_estimation"] = "auto"
    time_varying: tuple[tuple[str, ...], ...] = ()
    regime: tuple[str, ...] = ("always",)
    reference_regime: tuple[str, ...] = ("never",)
    propensity: Literal["logit", "known"] = "logit"
    se: Literal["auto", "m_estimation", "influence"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("regime", "reference_regime"):  # one word in study.yaml is a regime of one word
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, (str, int, float)) else tuple(given))


def run(study: Study, params: GComputationParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect by standardising an outcome model over the target units.

    Parameters
    ----------
    study : Study
        Outcome, two arms; optional covariates, weight and cluster. Or a treatment repeated in time: several columns,
        or one with unit and time.
    params : GComputationParams
        `estimand` ATE averages over all units, ATT over the treated, ATC over the controls; of a repeated treatment
        regime_contrast or regime_mean.
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With tables `potential_outcomes` (mean per arm or regime) and, for one treatment, `unit_effects`; for repeated
        ones `followers` (rows that followed each regime, period by period).

    Raises
    ------
    CatalogError
        If `interactions` or `time_varying` names no covariate, a regime does not fit the periods, or `trim` is given.

    Notes
    -----
    mu_a = sum w m_a(x) / sum w over the target. The standard error is that of the stacked estimating equations of model
    and means: influence w (m_a(x) - mu_a) / mean w + gradient' (influence of the coefficients), without small-sample
    factor; ratios by the delta method. Repeated: Q_k = E[Q_{k+1} | past, treatment of period k as the regime has it],
    Q_{K+1} = y, and the answer is the mean of Q_0; influences are stacked over the periods alike.

    References
    ----------
    Robins (1986, doi:10.1016/0270-0255(86)90088-6); Stefanski & Boos (2002, doi:10.1198/000313002753631330); Bang &
    Robins (2005, doi:10.1111/j.1541-0420.2005.00377.x); Robins, Mark & Newey (1992, doi:10.2307/2532304).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but g_computation has no propensity to trim on")
    repeated = study.treatment_kind is TreatmentKind.REPEATED
    form = params.form if params.form != "auto" else ("sequential_ols" if repeated else "point")
    if repeated and form not in _REPEATED:
        raise CatalogError(f"parameter 'form' is {form}, but the treatment is repeated; choose {', '.join(_REPEATED)}")
    if form in _REPEATED:
        return _regimes(study, params, form)
    if study.treatment_kind is TreatmentKind.CONTINUOUS:
        return SPEC.refuse(
            "treatment_kind",
            "the treatment is continuous, a comparison of arms needs two",
            "code the treatment in arms, or use an estimator for doses",
        )
    return _g_estimation(study, params) if form == "g_estimation" else _point(study, params)


def _unused(study: Study) -> list[str]:
    return unused_propensity(study, "none", "form: g_estimation and propensity: known")


def _point(study: Study, params: GComputationParams) -> EffectEstimate | Refusal:
    """Standardise an outcome model of one treatment."""
    estimand = _estimand(params, _OF_ARMS)
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
    how = "stacked estimating equations" + (f", {int(cluster.max()) + 1} clusters" if cluster is not None else "")
    return SPEC.estimate(
        study, [effect], inference=f"{how}; outcome model {params.outcome_model}",
        diagnostics=_arm_diagnostics(study, balance, treated, weights),
        tables={"balance": balance, "potential_outcomes": _means(study, means, influences, cluster),
                "unit_effects": pd.DataFrame({"effect": model.prediction[1] - model.prediction[0]})},
        notices=[*collinear_notice(model.dropped), *_unused(study)],
    )  # fmt: skip


def _estimand(params: GComputationParams, offered: Sequence[str]) -> str:
    """Return the estimand asked for, if this form offers it."""
    chosen = offered[0] if params.estimand is None else SPEC.estimand(params)
    if chosen not in offered:
        raise CatalogError(f"parameter 'estimand' is {chosen}; for these treatments allowed are {', '.join(offered)}")
    return str(chosen)


def _arm_diagnostics(
    study: Study, balance: pd.DataFrame, treated: np.ndarray, weights: np.ndarray | None
) -> list[Diagnostic]:
    raw, worst = worst_difference(balance, "before")
    counted = np.ones(len(treated), dtype=bool) if weights is None else weights > 0
    fewest = float(min((counted & (treated == arm)).sum() for arm in (0, 1)))
    return [
        SPEC.judge(study, "raw_smd", raw, worst),
        SPEC.judge(study, "regime_rows", fewest, f"{fewest:g} rows in the smaller arm"),
    ]


def _g_estimation(study: Study, params: GComputationParams) -> EffectEstimate | Refusal:
    """Estimate the common effect from the propensity alone."""
    if params.propensity == "known":
        refusal = SPEC.refuse_known_propensity(study, "propensity: known", "propensity: logit")
        if refusal is not None:
            return refusal
    if params.se == "m_estimation" and params.propensity == "known":
        raise CatalogError("parameter 'se' is m_estimation, but the propensity is known; choose influence")
    estimand = _estimand(params, (Estimand.ATE,))
    outcome, treated, cluster = study.column(Role.OUTCOME), study.column(Role.TREATMENT), study.codes(Role.CLUSTER)
    weights = study.weights()
    check_arms(treated, weights)
    check_clusters(cluster)
    model = None
    if params.propensity == "logit":
        fit = fit_logit(with_constant(study.matrix()), treated, weights)
        e, model = fit.probability, (fit.design, fit.influence())
    else:
        e = study.column(Role.PROPENSITY)
    sampling = np.ones(len(treated)) if weights is None else weights
    value, influence = g_estimate(outcome, treated, e, sampling, None if params.se == "influence" else model)
    effect = wald(
        value, influence_std_error(influence, cluster), estimand=estimand,
        contrast=f"{study.arms[1]} - {study.arms[0]}", level=params.level,
        df=None if cluster is None else float(cluster.max()),
    )  # fmt: skip
    counted = model is not None and params.se != "influence"
    balance = balance_table(study)
    how = "stacked estimating equations of propensity and effect" if counted else "influence, propensity as known"
    return SPEC.estimate(
        study, [effect], inference=how + (f", {int(cluster.max()) + 1} clusters" if cluster is not None else ""),
        diagnostics=_arm_diagnostics(study, balance, treated, weights), tables={"balance": balance},
        notices=["G-estimation rests on the propensity and on a common effect, not on an outcome model.",
                 *unused_propensity(study, params.propensity)],
    )  # fmt: skip


def _regimes(study: Study, params: GComputationParams, form: str) -> EffectEstimate | Refusal:
    """Compare mean outcomes under regimes of a repeated treatment."""
    if params.outcome_model != "ols_per_arm" or params.interactions:
        raise CatalogError(f"parameters 'outcome_model' and 'interactions' do not apply to form {form}")
    course = read_course(study, params.time_varying)
    check_clusters(course.cluster)
    if len(course) < 2 or np.ptp(course.outcome) == 0:
        name = study.name(Role.OUTCOME)
        return SPEC.refuse("constant_outcome", f"outcome '{name}' is the same in every row", "map one that varies")
    regimes, reference = _asked(params, course)
    unfilled = _unfilled(course, [*regimes, *([reference] if reference else [])])
    if unfilled is not None:
        return unfilled
    found = {item.label: regime_mean(course, item, form) for item in (*regimes, *([reference] if reference else []))}
    effects = [_contrast(params, course, item, reference, found, len(regimes) > 1) for item in regimes]
    clusters = "" if course.cluster is None else f", {int(course.cluster.max()) + 1} clusters"
    balance = _start(course, regimes[0], reference)
    dropped = tuple(dict.fromkeys(name for item in found.values() for name in item.dropped))
    plain = replace(study, roles={role: names for role, names in study.roles.items() if role != Role.CLUSTER})
    answer = SPEC.estimate(
        study if course.cluster is not None else plain, effects,
        inference=f"stacked estimating equations of {course.periods} periods, form {form}{clusters}",
        diagnostics=_regime_diagnostics(study, course, form, found, balance),
        tables={"balance": balance, "potential_outcomes": _regime_table(found, course, params.level),
                "followers": _followers(found, course)},
        notices=[*course.notices, *collinear_notice(dropped), *_unused(study)],
        used=len(course), dropped=course.dropped,
    )  # fmt: skip
    return answer


def _asked(params: GComputationParams, course: Course) -> tuple[list[Regime], Regime | None]:
    """Return the compared regimes, one per compared arm by default, and the reference regime, if there is one."""
    estimand = _estimand(params, _OF_REGIMES)
    alone = estimand == Estimand.REGIME_MEAN or tuple(params.reference_regime) == ("none",)
    reference = None if alone else read_regime(params.reference_regime, course)
    if tuple(params.regime) == ("always",) and len(course.arms) > 2:
        return [read_regime((arm,), course) for arm in course.arms[1:]], reference
    regimes = [read_regime(params.regime, course)]
    if reference is not None and regimes[0].steps == reference.steps:
        raise CatalogError(f"parameters 'regime' and 'reference_regime' are the same: {reference.label}")
    return regimes, reference


def _unfilled(course: Course, regimes: Sequence[Regime]) -> Refusal | None:
    """Refuse a regime that asks for an arm which nobody has in that period."""
    if not course.arms:
        return None
    counted = course.sampling > 0
    for regime in regimes:
        plan = assigned(course, regime)
        for k, name in enumerate(course.treatment_names):
            for code in np.unique(plan[:, k]):
                if not (counted & (course.treatments[:, k] == code)).any():
                    arms = np.unique(course.treatments[counted, k])
                    return SPEC.refuse(
                        "one_arm_only" if len(arms) < 2 else "empty_arm",
                        f"'{regime.label}' asks for arm '{course.arms[int(code)]}' in '{name}', which no row has there",
                        "compare other regimes, or leave the period out of the role treatment",
                    )
    return None


def _contrast(
    params: GComputationParams,
    course: Course,
    regime: Regime,
    reference: Regime | None,
    found: dict[str, RegimeMean],
    several: bool,
) -> Effect:
    own, df = found[regime.label], None if course.cluster is None else float(course.cluster.max())
    step = regime.steps[0]
    at = {"arm": course.arms[int(step)]} if several and isinstance(step, float) else {}
    if reference is None:
        effect = wald(
            own.value, influence_std_error(own.influence, course.cluster), estimand=Estimand.REGIME_MEAN,
            contrast=regime.label, level=params.level, df=df, at=at, scale="mean",
        )  # fmt: skip
        return replace(effect, p_value=None)  # whether a mean is zero is no question about an effect
    other = found[reference.label]
    value, influence = on_scale(params.scale, (own.value, other.value), (own.influence, other.influence))
    return wald(
        value, influence_std_error(influence, course.cluster), estimand=Estimand.REGIME,
        contrast=f"{regime.label} - {reference.label}", level=params.level, df=df, at=at, scale=params.scale,
    )  # fmt: skip


def _start(course: Course, regime: Regime, reference: Regime | None) -> pd.DataFrame:
    """Compare the first covariates of those who followed the two regimes to the end."""
    empty = pd.DataFrame({"covariate": [], "before": [], "after": []}).astype(
        {"covariate": "str", "before": "float64", "after": "float64"}
    )
    if reference is None or not course.names[0]:
        return empty
    groups = [(course.treatments == assigned(course, item)).all(axis=1) for item in (reference, regime)]
    if min(group.sum() for group in groups) < 2:
        return empty
    rows = groups[0] | groups[1]
    smd = standardised_differences(
        course.covariates[0][rows],
        groups[1][rows].astype(float),
        None if course.weight is None else course.sampling[rows],
    )
    return pd.DataFrame({"covariate": list(course.names[0]), "before": np.abs(smd), "after": np.abs(smd)})


def _regime_diagnostics(
    study: Study, course: Course, form: str, found: dict[str, RegimeMean], balance: pd.DataFrame
) -> list[Diagnostic]:
    raw, worst = worst_difference(balance, "before")
    rarest = min(found, key=lambda label: int(found[label].followers[-1]))
    rows = float(found[rarest].followers[-1])
    judged = [
        SPEC.judge(study, "raw_smd", raw, worst),
        SPEC.judge(study, "regime_rows", rows, f"{rows:g} of {len(course)} rows followed '{rarest}' to the end")
        if course.arms
        else replace(SPEC.judge(study, "regime_rows", None, "doses are hardly ever followed exactly"), applies=False),
    ]
    if form != "saturated":
        words = "products of the last treatment with covariates and earlier treatments, added to the outcome model"
        judged.append(SPEC.judge(study, "history_interaction_p", interaction_p(course), words))
    return judged


def _regime_table(found: dict[str, RegimeMean], course: Course, level: float) -> pd.DataFrame:
    df = None if course.cluster is None else float(course.cluster.max())
    rows = []
    for label, item in found.items():
        error = influence_std_error(item.influence, course.cluster)
        effect = wald(item.value, error, estimand=Estimand.REGIME_MEAN, contrast=label, level=level, df=df)
        ends = (effect.interval.low, effect.interval.high) if effect.interval else (None, None)
        rows.append({"arm": label, "mean": item.value, "std_error": error, "low": ends[0], "high": ends[1]})
    return pd.DataFrame(rows).astype({"low": "float64", "high": "float64"})


def _followers(found: dict[str, RegimeMean], course: Course) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"regime": label, "period": k + 1, "treatment": name, "rows": int(item.followers[k])}
            for label, item in found.items()
            for k, name in enumerate(course.treatment_names)
        ]
    )


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


def _applicable(study: Study) -> tuple[bool, str, float]:
    if study.treatment_kind is TreatmentKind.REPEATED:
        return True, "the treatment is repeated in time, so covariates between treatments are cause and effect", 0.95
    if study.has(Role.COVARIATES):
        return True, "averages an outcome model over the units, so the effect may vary", 0.6
    return True, "without covariates it equals the difference in means", 0.2


def replicates(study: Study, params: GComputationParams) -> Replicates | None:
    """Return the effect for resampling; None but for differences of least squares per arm of one treatment."""
    plain = (params.form, params.outcome_model, params.scale)
    if study.treatment_kind is TreatmentKind.REPEATED or plain not in (
        ("auto", "ols_per_arm", "difference"),
        ("point", "ols_per_arm", "difference"),
    ):
        return None
    treated = study.column(Role.TREATMENT)
    targets = {Estimand.ATT: treated, Estimand.ATC: 1 - treated}
    target = targets.get(Estimand(_estimand(params, _OF_ARMS)), np.ones(len(treated)))
    return per_arm_contrast(study.matrix(), treated, study.column(Role.OUTCOME), study.weights(), target)


_OF_ARMS = (Estimand.ATE, Estimand.ATT, Estimand.ATC)
_OF_REGIMES = (Estimand.REGIME, Estimand.REGIME_MEAN)

SPEC = EstimatorSpec(
    name="g_computation",
    title="G-computation",
    family="adjustment",
    estimands=(*_OF_ARMS, *_OF_REGIMES),
    run=run,
    replicates=replicates,
    accepts=frozenset({Role.COVARIATES, Role.WEIGHT, Role.CLUSTER, Role.UNIT, Role.TIME, Role.PROPENSITY}),
    treatment=(TreatmentKind.BINARY, TreatmentKind.CATEGORICAL, TreatmentKind.REPEATED),
    aliases=(
        "parametric g-formula",
        "g_formula",
        "iterated conditional expectations",
        "standardisation",
        "g_computation_bootstrap",
        "g_estimation",
    ),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=("unconfoundedness", "positivity", "outcome_model", "no_interference", "consistency"),
    references=(
        "Robins 1986, doi:10.1016/0270-0255(86)90088-6",
        "Stefanski & Boos 2002, doi:10.1198/000313002753631330",
        "Bang & Robins 2005, doi:10.1111/j.1541-0420.2005.00377.x",
        "Robins, Mark & Newey 1992, doi:10.2307/2532304",
    ),
    diagnostics=("raw_smd", "regime_rows"),
    tables=("balance", "potential_outcomes", "unit_effects"),
    truths=(
        "randomised_trial",
        "confounded_linear",
        "weighted_sample",
        "clustered_trial",
        "three_arms",
        "null_effect",
        "repeated_treatment",
        "repeated_clusters",
        "null_repeated",
    ),
    breaks=("rare_regime",),
    oracle=("g_computation", "g_formula", "g_estimation"),
    applicable=_applicable,
    params=GComputationParams,
    question="What would the average outcome be if everybody had been treated, or had followed one course of treatment "
    "over time, instead of another?",
    formula=r"\begin{aligned}"
    r"\hat\mu_g &= \frac{1}{n}\sum_i Q_{0}(l_{0i}),\quad Q_k(\bar l_k, \bar a_{k-1}) = "
    r"E\left[Q_{k+1} \mid \bar l_k, \bar a_{k-1}, a_k = g_k\right],\quad Q_{K+1} = y \\"
    r"&\text{one treatment: } \hat\mu_a = \frac{1}{|T|}\sum_{i \in T} \hat m_a(x_i), \quad"
    r" T = \text{all } (\mathrm{ATE}),\ \text{treated } (\mathrm{ATT}),\ \text{untreated } (\mathrm{ATC}) \\"
    r"&\text{scale: } \hat\mu_1 - \hat\mu_0, \quad \log\frac{\hat\mu_1}{\hat\mu_0}, \quad"
    r" \log\frac{\hat\mu_1 / (1 - \hat\mu_1)}{\hat\mu_0 / (1 - \hat\mu_0)}; \qquad \text{g\_estimation: }"
    r" \hat\tau = \frac{\sum_i (d_i - \hat e_i) y_i}{\sum_i (d_i - \hat e_i) d_i}"
    r"\end{aligned}",
    reading="Read the contrast as the difference in mean outcome between two worlds. With one treatment it is as good "
    "as the outcome model. With repeated treatments every cause of each treatment must be among what was recorded "
    "before it, and enough rows must have followed each regime (`regime_rows`): where few did, the model extrapolates.",
    example=Example(
        "tests/oracle/data/gformula_sim.csv",
        {"outcome": "y", "treatment": ["a0", "a1", "a2"], "covariates": ["l0", "l1", "l2"]},
        {"time_varying": (("l0",), ("l1",), ("l2",))},
    ),
)
