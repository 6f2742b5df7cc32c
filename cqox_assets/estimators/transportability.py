"""Transportability: the effect of a study in another population, whose covariates are known."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import worst_difference
from cqox_assets.diagnostics.overlap import effective_share, effective_size, largest_weight
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.nuisance.models import unused_propensity
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.linear import with_constant
from cqox_assets.numerics.logit import SeparationError
from cqox_assets.numerics.sample import check_clusters, collinear_notice
from cqox_assets.numerics.transport import Populations, Weighting, fit_arm, target_mean, weigh
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study


@dataclass(frozen=True)
class TransportabilityParams(CommonParams):
    """Parameters of the transport of an effect.

    Parameters
    ----------
    method : str
        `ipsw`: studied units weighted by their inverse odds (or probability) of being studied; `gformula`: an outcome
        model averaged over the target; `aipsw`: the model corrected by weighted residuals, right if either is.
    mode : str
        `transport`: the target are the rows with population 0; `generalize`: all rows, the studied ones included.
    outcome_model : str
        `ols_per_arm` or `logit_per_arm` (outcome of 0 and 1), main effects, fitted to the studied.
    treatment_model : str
        Probability of the own arm among the studied: `marginal` share, `logit` on the covariates, or `known` (role
        `propensity`).
    se : str
        `m_estimation`: all models stacked with the means; `influence`: models as known.
    """

    method: Literal["aipsw", "ipsw", "gformula"] = "aipsw"
    mode: Literal["transport", "generalize"] = "transport"
    outcome_model: Literal["ols_per_arm", "logit_per_arm"] = "ols_per_arm"
    treatment_model: Literal["marginal", "logit", "known"] = "marginal"
    se: Literal["m_estimation", "influence"] = "m_estimation"


def run(study: Study, params: TransportabilityParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect in the target population.

    Parameters
    ----------
    study : Study
        `population` 1 = studied, 0 = target; outcome and treatment (two arms) are read of studied rows only, covariates
        of all rows; optional weight, cluster, propensity.
    params : TransportabilityParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With tables `potential_outcomes` (target mean per arm), `comparison` (effect among the studied beside the
        target's), `balance` (studied against target, before and after weighting), `weights` and `selection` (chance of
        being studied). Refused: `one_population`, `perfect_separation`, `no_overlap`, `too_few_rows`.

    Raises
    ------
    CatalogError
        If `trim` is given.

    Notes
    -----
    With p(x) = P(studied | x), weights w = (1 - p) / p (transport) or 1 / p (generalize) over P(own arm), and m_a the
    outcome model of arm a: IPSW is the w-weighted mean of y in arm a, the g-formula the mean of m_a over the target,
    augmented IPSW the latter plus the w-weighted mean of y - m_a. Weights sum to one in each arm.

    References
    ----------
    Stuart, Cole, Bradshaw & Leaf (2011, doi:10.1111/j.1467-985X.2010.00673.x); Dahabreh, Robertson, Steingrimsson,
    Stuart & Hernan (2020, doi:10.1002/sim.8426).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but transportability does not trim; restrict the target instead")
    data = _populations(study, params)
    if isinstance(data, Refusal):
        return data
    cluster = study.codes(Role.CLUSTER)
    check_clusters(cluster)
    data.check()
    weights = _weights(study, data, params)
    uses = weights if params.method != "gformula" else None
    models = [None if params.method == "ipsw" else fit_arm(data, code, params.outcome_model) for code in (1, 0)]
    found = [
        target_mean(data, code, uses, model, stacked=params.se == "m_estimation")
        for code, model in zip((1, 0), models, strict=True)
    ]
    (one, psi_one), (zero, psi_zero) = found
    df = None if cluster is None else float(cluster.max())
    effect = wald(
        one - zero, influence_std_error(psi_one - psi_zero, cluster), estimand=SPEC.estimand(params),
        contrast=f"{study.arms[1]} - {study.arms[0]}", level=params.level, df=df,
    )  # fmt: skip
    dropped = dict.fromkeys([*(weights.dropped if weights else ()), *(n for m in models if m for n in m.dropped)])
    balance = _balance(study, data, weights)
    tables = {
        "balance": balance,
        "potential_outcomes": pd.DataFrame({
            "arm": [study.arms[1], study.arms[0]], "mean": [one, zero],
            "std_error": [influence_std_error(psi, cluster) for _, psi in found],
        }),
        "comparison": _comparison(data, effect.estimate, effect.std_error, cluster),
        **_weight_tables(data, weights),
    }  # fmt: skip
    how = "stacked estimating equations" if params.se == "m_estimation" else "influence function, models as known"
    return SPEC.estimate(
        study, [effect],
        inference=f"{_WORDS[params.method]}, {params.mode}; {how}" + (", clustered" if cluster is not None else ""),
        diagnostics=_diagnostics(study, data, weights, balance), tables=tables,
        notices=[*_notices(study, params, data, weights), *collinear_notice(list(dropped))],
        effective_size=None if weights is None else effective_size(weights.selection[data.studied]),
    )  # fmt: skip


_WORDS = {
    "aipsw": "augmented inverse odds weighting",
    "ipsw": "inverse odds weighting",
    "gformula": "g-formula",
}


def _populations(study: Study, params: TransportabilityParams) -> Populations | Refusal:
    population = study.column(Role.POPULATION)
    studied, name = population != 0, study.name(Role.POPULATION)
    if studied.all() or not studied.any():
        what, other = ("target", 0) if studied.all() else ("studied", 1)
        return SPEC.refuse(
            "one_population", f"column '{name}' has no {what} rows",
            f"add rows of the {what} population, with {name} = {other} and the same covariates",
        )  # fmt: skip
    if params.treatment_model == "known":
        refusal = SPEC.refuse_known_propensity(
            study.take(studied), "treatment_model: known", "treatment_model: marginal"
        )
        if refusal is not None:
            return refusal
    target = ~studied if params.mode == "transport" else np.ones(len(study), dtype=bool)
    sampling = study.weights()
    sampling = np.ones(len(study)) if sampling is None else sampling
    if not sampling[target].sum() > 0:
        return SPEC.refuse(
            "one_population", f"no target row has a positive '{study.name(Role.WEIGHT)}'", "correct the weights"
        )
    return Populations(
        study.matrix(), studied, target, study.column(Role.TREATMENT), study.column(Role.OUTCOME), sampling,
        study.names(Role.COVARIATES),
    )  # fmt: skip


def _weights(study: Study, data: Populations, params: TransportabilityParams) -> Weighting | None:
    """Return the weights; None where only the g-formula is asked for and they do not exist."""
    known = study.column(Role.PROPENSITY) if params.treatment_model == "known" else None
    try:
        return weigh(data, params.treatment_model, known)
    except SeparationError:
        if params.method != "gformula":
            raise
        return None


def _balance(study: Study, data: Populations, weights: Weighting | None) -> pd.DataFrame:
    """Studied against target, before and after weighting, over the pooled SD of studied and other units."""
    inside, goal = data.sampling * data.studied, data.sampling * data.target
    other = data.x[~data.studied]
    spread = np.sqrt((data.x[data.studied].var(axis=0, ddof=1) + other.var(axis=0, ddof=min(1, len(other) - 1))) / 2)
    wanted = np.average(data.x, axis=0, weights=goal)

    def gap(weight: np.ndarray) -> np.ndarray:
        found = np.abs(np.average(data.x, axis=0, weights=weight) - wanted)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread > 0, found / spread, np.where(found > 1e-12 * np.abs(wanted), np.inf, 0.0))

    before = gap(inside)
    return pd.DataFrame(
        {
            "covariate": [study.label(name) for name in data.names],
            "before": before,
            "after": before if weights is None else gap(weights.selection),
        }
    )


def _comparison(
    data: Populations, estimate: float, std_error: float | None, cluster: np.ndarray | None
) -> pd.DataFrame:
    """Difference of means among the studied beside the target's effect: how far the populations pull it."""
    influence, own = np.zeros(len(data.x)), 0.0
    for code, sign in ((1, 1.0), (0, -1.0)):
        rows = data.arm(code)
        weight = np.where(rows, data.sampling, 0.0)
        mean = float(np.average(data.outcome[rows], weights=data.sampling[rows]))
        own += sign * mean
        influence[rows] += sign * len(weight) * weight[rows] * (data.outcome[rows] - mean) / weight.sum()
    errors = [influence_std_error(influence, cluster), std_error or 0.0]
    return pd.DataFrame(
        {"population": ["studied, unadjusted", "target"], "estimate": [own, estimate], "std_error": errors}
    )


def _weight_tables(data: Populations, weights: Weighting | None) -> dict[str, pd.DataFrame]:
    rows = np.flatnonzero(data.studied)
    weight = np.zeros(0) if weights is None else weights.weight[rows]
    chosen = rows if weights is not None else rows[:0]
    every = np.arange(len(data.x)) if weights is not None else rows[:0]
    probability = np.zeros(0) if weights is None else weights.probability
    return {
        "weights": pd.DataFrame({"row": chosen, "treated": data.treated[chosen].astype(int), "weight": weight}),
        "selection": pd.DataFrame({"row": every, "studied": data.studied[every] * 1, "probability": probability}),
    }


def _diagnostics(study: Study, data: Populations, weights: Weighting | None, balance: pd.DataFrame) -> list[Diagnostic]:
    if weights is None:
        words = "the covariates tell studied and target units apart perfectly"
        none = [SPEC.judge(study, name, None, words) for name in ("effective_sample_size", "weight_range")]
        return [SPEC.judge(study, "target_overlap", 0.0, words), *none, SPEC.judge(study, "adjusted_smd", None, words)]
    inside, other = weights.probability[data.studied], weights.probability[~data.studied]
    low, high = np.quantile(inside, [0.01, 0.99])
    share = float(np.average((other >= low - 1e-12) & (other <= high + 1e-12)))
    treated, weight = data.treated[data.studied], weights.weight[data.studied]
    size = effective_size(weights.selection[data.studied])
    worst, which = worst_difference(balance)
    return [
        SPEC.judge(study, "target_overlap", share),
        SPEC.judge(
            study, "effective_sample_size", effective_share(weight, treated),
            f"of the weights, in the arm where it is smaller; {size:.1f} of {len(weight)} studied units in all",
        ),
        SPEC.judge(study, "weight_range", largest_weight(weight, treated), "largest weight over the mean of its arm"),
        SPEC.judge(study, "adjusted_smd", worst, f"studied, weighted, against target; {which}"),
    ]  # fmt: skip


def _notices(study: Study, params: TransportabilityParams, data: Populations, weights: Weighting | None) -> list[str]:
    notices = unused_propensity(study, params.treatment_model)
    notices = [text.replace("propensity: known", "treatment_model: known") for text in notices]
    watched = int((~data.studied & np.isfinite(data.outcome)).sum())
    if watched:
        notices.append(f"the outcomes of {watched} target rows were not used")
    if weights is not None:
        weight = weights.selection[data.studied]
        size, share = effective_size(weight), float(weight.max() / weight.sum())
        if size < 0.5 * len(weight):
            notices.append(
                f"{len(weight)} studied units stand for the target like {size:.1f} would; the largest weight carries "
                f"{share:.1%} of all"
            )
    elif len(with_constant(data.x)):
        notices.append("no studied unit resembles the target, so the answer is an extrapolation of the outcome model")
    return notices


def _applicable(study: Study) -> tuple[bool, str, float]:
    if len(study.names(Role.POPULATION)) != 1:
        return False, "map the population (1 = studied, 0 = target) in study.yaml", 0.0
    values = study.column(Role.POPULATION)
    if (values != 0).all() or (values == 0).all():
        lacking = "target rows (0)" if (values != 0).all() else "studied rows (1)"
        return False, f"'{study.name(Role.POPULATION)}' has no {lacking}; add them with the same covariates", 0.0
    return True, "the study has studied and target rows, so its effect can be carried to the target", 1.0


SPEC = EstimatorSpec(
    name="transportability",
    title="Transportability",
    family="transport",
    estimands=(Estimand.TARGET_ATE,),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES, Role.POPULATION}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.PROPENSITY}),
    aliases=("IPSW", "AIPSW", "transport_gformula", "generalizability"),
    invariances=("row_order", "affine_outcome", "relabelled_arms", "duplicated_rows"),
    assumptions=(
        "randomised_among_studied",
        "selection_ignorability",
        "selection_positivity",
        "selection_model",
        "no_interference",
        "consistency",
    ),
    references=(
        "Stuart, Cole, Bradshaw & Leaf 2011, doi:10.1111/j.1467-985X.2010.00673.x",
        "Dahabreh et al. 2020, doi:10.1002/sim.8426",
    ),
    diagnostics=("target_overlap", "effective_sample_size", "weight_range", "adjusted_smd"),
    tables=("balance", "potential_outcomes", "comparison", "weights", "selection"),
    truths=(
        "transported_trial",
        "transported_three_arms",
        "transported_weights",
        "transported_clusters",
        "null_transported",
    ),
    breaks=("transported_far",),
    oracle=("ipsw", "aipsw", "transport_gformula"),
    applicable=_applicable,
    params=TransportabilityParams,
    question="What would the treatment do, on average, in a population other than the one that was studied?",
    formula=r"\begin{aligned}"
    r"\hat\mu_a &= \frac{1}{|T|}\sum_{i \in T} \hat m_a(x_i) + "
    r"\frac{\sum_{S_i = 1, D_i = a} w_i (y_i - \hat m_a(x_i))}{\sum_{S_i = 1, D_i = a} w_i}, \qquad "
    r"\hat\tau = \hat\mu_1 - \hat\mu_0 \\"
    r"w &= \frac{1 - \hat p(x)}{\hat p(x)\, \hat P(D = a)} \ (\text{transport}, T = \{S = 0\}), \qquad "
    r"\frac{1}{\hat p(x)\, \hat P(D = a)} \ (\text{generalize}, T = \text{all}) \\"
    r"&\text{gformula: the first term alone}; \qquad \text{ipsw: } \hat m_a = 0"
    r"\end{aligned}",
    reading="The effect in the target population if the mapped covariates hold everything that changes the effect and "
    "differs between the populations. Do not trust it when few target units have a studied unit like them: overlap, "
    "effective sample size and the largest weight say so, and the g-formula then extrapolates.",
    example=Example(
        "tests/oracle/data/transport_sim.csv",
        {"outcome": "Y", "treatment": "A", "covariates": ["L", "W"], "population": "S"},
        {"outcome_model": "logit_per_arm"},
    ),
    coverage_rows=2000,
)
