"""Subclassification on the propensity score: differences in means within strata, averaged over the target."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.diagnostics.overlap import overlap_share
from cqox_assets.errors import CatalogError
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.propensity import propensity_scores, weighted_quantiles, within_trim
from cqox_assets.numerics.sample import check_arms, check_clusters
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study


@dataclass(frozen=True)
class StratificationParams(CommonParams):
    """Parameters of the stratification.

    Parameters
    ----------
    strata : int
        Number of propensity strata, at least 2.
    quantiles_over : str
        Units whose quantiles cut the strata: `all`, `treated`, or `auto` (all for ATE, treated for ATT).
    weights : str
        Units whose share weighs a stratum: `all`, `treated`, or `auto` (what the estimand asks for). An explicit
        value decides the estimand.
    """

    strata: int = 5
    quantiles_over: Literal["auto", "all", "treated"] = "auto"
    weights: Literal["auto", "all", "treated"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strata < 2:
            raise CatalogError(f"parameter 'strata' is {self.strata}; it must be at least 2")
        wanted = {"all": Estimand.ATE, "treated": Estimand.ATT}.get(self.weights)
        if wanted is not None and self.estimand not in (None, wanted):
            raise CatalogError(
                f"parameter 'weights' is '{self.weights}', which gives the {wanted}, but 'estimand' is {self.estimand}"
            )


def run(study: Study, params: StratificationParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the average effect from strata of the propensity score.

    Parameters
    ----------
    study : Study
        Outcome, two arms, covariates; optional weight, cluster and known propensity.
    params : StratificationParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With a table `strata`. Refused if a stratum has fewer than two rows of an arm.

    Notes
    -----
    sum over strata of share * (mean y treated - mean y control); variance sum of share^2 (s1^2/n1 + s0^2/n0). Stratum k
    holds edge[k-1] < e <= edge[k]; a stratum that tied scores leave empty is none. Five strata remove about 90%
    of the bias of a measured confounder (Cochran 1968).

    References
    ----------
    Rosenbaum & Rubin (1984, doi:10.1080/01621459.1984.10478078); Cochran (1968, doi:10.2307/2528036).
    """
    estimand = {"all": Estimand.ATE, "treated": Estimand.ATT}.get(params.weights) or SPEC.estimand(params)
    check_arms(study.column(Role.TREATMENT), study.weights())
    check_clusters(study.codes(Role.CLUSTER))
    known = study.column(Role.PROPENSITY) if study.has(Role.PROPENSITY) else None
    scores = propensity_scores(study.matrix(), study.column(Role.TREATMENT), study.weights(), known)
    kept = within_trim(scores.probability, params.trim)
    part = study if kept.all() else study.take(kept)
    propensity, treated = scores.probability[kept], part.column(Role.TREATMENT)
    check_arms(treated, part.weights())
    check_clusters(part.codes(Role.CLUSTER))
    weight = part.weights()
    over = params.quantiles_over
    chosen = treated == 1 if over == "treated" or (over == "auto" and estimand == Estimand.ATT) else treated >= 0
    shares = np.arange(1, params.strata) / params.strata
    edges = weighted_quantiles(propensity[chosen], shares, None if weight is None else weight[chosen])
    edges = edges[np.unique(np.searchsorted(edges, propensity, side="left"))[:-1]]  # strata without any unit are none
    units = pd.DataFrame({"row": np.flatnonzero(kept), "treated": treated.astype(int), "propensity": propensity})
    units["stratum"] = 1 + np.searchsorted(edges, propensity, side="left")
    table = _strata(part, units, edges, estimand)
    thin = table.loc[table[["treated", "control"]].min(axis=1) < 2]
    if len(thin):
        return _thin(study, thin.iloc[0], params)
    trimmed = {"trimmed": int((~kept).sum())} if params.trim is not None else None
    return _estimate(part, table, units, estimand, params, words=scores.words, dropped=trimmed)


def _strata(part: Study, units: pd.DataFrame, edges: np.ndarray, estimand: str) -> pd.DataFrame:
    """Return one row per stratum: counts, share of the target, effect and its standard error."""
    outcome, treated, weight = part.column(Role.OUTCOME), part.column(Role.TREATMENT), _sampling(part)
    stratum, propensity = units["stratum"].to_numpy() - 1, units["propensity"]
    count = len(edges) + 1
    target = weight * (treated if estimand == Estimand.ATT else 1.0)
    columns: dict[str, np.ndarray] = {"stratum": np.arange(1, count + 1)}
    columns["low"] = np.concatenate([[propensity.min()], edges])
    columns["high"] = np.concatenate([edges, [propensity.max()]])
    variance = np.zeros(count)
    for arm, word in ((1, "treated"), (0, "control")):
        rows = (treated == arm) & (weight > 0)
        number = np.bincount(stratum[rows], minlength=count)
        total = np.bincount(stratum[rows], weights=weight[rows], minlength=count)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.bincount(stratum[rows], weights=(weight * outcome)[rows], minlength=count) / total
            spread = (weight[rows] * (outcome[rows] - mean[stratum[rows]])) ** 2
            squares = np.bincount(stratum[rows], weights=spread, minlength=count)
            variance = variance + squares / total**2 * number / np.maximum(number - 1, 0)
        columns[word], columns[f"mean_{word}"] = number, mean
    columns["share"] = np.bincount(stratum, weights=target, minlength=count) / target.sum()
    columns["effect"] = columns["mean_treated"] - columns["mean_control"]
    columns["std_error"] = np.sqrt(variance)
    return pd.DataFrame(columns)


def _thin(study: Study, row: pd.Series, params: StratificationParams) -> Refusal:
    word = "treated" if row["treated"] < 2 else "control"
    arm = study.arms[1] if word == "treated" else study.arms[0]
    number = int(row[word])
    return SPEC.refuse(
        "empty_stratum",
        f"propensity stratum {int(row['stratum'])} of {params.strata} (e from {row['low']:.3f} to {row['high']:.3f}) "
        f"has {number} {'row' if number == 1 else 'rows'} of arm '{arm}', at least 2 are needed",
        "use fewer strata, trim to the common support (trim: 0.05), or cut the strata over the treated",
    )


def _sampling(part: Study) -> np.ndarray:
    weight = part.weights()
    return np.ones(len(part)) if weight is None else weight


def _estimate(
    part: Study,
    table: pd.DataFrame,
    units: pd.DataFrame,
    estimand: str,
    params: StratificationParams,
    *,
    words: str,
    dropped: dict[str, int] | None,
) -> EffectEstimate:
    treated, cluster = part.column(Role.TREATMENT), part.codes(Role.CLUSTER)
    stratum = units["stratum"].to_numpy() - 1
    share = table["share"].to_numpy()
    value = float(share @ table["effect"].to_numpy())
    implied = _implied_weights(treated, _sampling(part), stratum, share)
    if cluster is None:
        error, how = float(np.sqrt((share**2) @ (table["std_error"].to_numpy() ** 2))), "within-stratum variances"
    else:
        one, zero = (table[name].to_numpy()[stratum] for name in ("mean_treated", "mean_control"))
        fitted = np.where(treated == 1, one, zero)
        influence = len(part) * (2 * treated - 1) * implied * (part.column(Role.OUTCOME) - fitted)
        error, how = influence_std_error(influence, cluster), f"cluster-robust, {int(cluster.max()) + 1} clusters"
    effect = wald(
        value, error, estimand=estimand, contrast=f"{part.arms[1]} - {part.arms[0]}", level=params.level,
        df=None if cluster is None else float(cluster.max()),
    )  # fmt: skip
    balance = balance_table(part, implied)
    after, worst = worst_difference(balance)
    least = int(table[["treated", "control"]].to_numpy().min())
    diagnostics = [
        SPEC.judge(part, "adjusted_smd", after, worst),
        SPEC.judge(part, "overlap", overlap_share(units["propensity"].to_numpy(), treated)),
        SPEC.judge(part, "stratum_arms", least, f"the thinnest cell has {least} rows"),
    ]
    return SPEC.estimate(
        part, [effect], inference=f"{how}; {words}, {len(table)} strata", diagnostics=diagnostics,
        tables={"strata": table, "balance": balance,
                "weights": units[["row", "treated", "stratum"]].assign(weight=implied),
                "propensity": units[["row", "treated", "propensity"]]},
        dropped=dropped,
    )  # fmt: skip


def _implied_weights(treated: np.ndarray, weight: np.ndarray, stratum: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the weights, summing to one in each arm, whose difference in means is the estimate."""
    implied = np.zeros(len(treated))
    for arm in (0, 1):
        rows = treated == arm
        total = np.bincount(stratum[rows], weights=weight[rows], minlength=len(share))
        implied[rows] = weight[rows] * (share / total)[stratum[rows]]
    return implied


SPEC = EstimatorSpec(
    name="stratification",
    title="Propensity stratification",
    family="matching",
    estimands=(Estimand.ATE, Estimand.ATT),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.PROPENSITY}),
    aliases=("subclassification", "propensity_stratification"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "propensity_model", "no_interference", "consistency"),
    references=(
        "Rosenbaum & Rubin 1984, doi:10.1080/01621459.1984.10478078",
        "Cochran 1968, doi:10.2307/2528036",
    ),
    diagnostics=("adjusted_smd", "overlap", "stratum_arms"),
    tables=("strata", "balance", "weights", "propensity"),
    truths=("randomised_trial", "confounded_linear", "weighted_sample", "clustered_trial", "null_trial"),
    breaks=("no_overlap",),
    oracle=("propensity_stratification",),
    applicable=lambda study: (
        (True, "compares like with like in strata of the propensity score", 0.4)
        if study.has(Role.COVARIATES)
        else (False, "needs covariates for a propensity score", 0.0)
    ),
    params=StratificationParams,
    question="What is the average effect when units are compared only within groups of similar propensity?",
    formula=r"\begin{aligned}"
    r"\hat\tau &= \sum_{k=1}^{K} s_k (\bar y_{1k} - \bar y_{0k}),\qquad"
    r" \hat V = \sum_k s_k^2 \Bigl(\frac{\hat\sigma_{1k}^2}{n_{1k}} + \frac{\hat\sigma_{0k}^2}{n_{0k}}\Bigr) \\"
    r"s_k &= \frac{n_k}{n} \ (\mathrm{ATE}), \qquad \frac{n_{1k}}{n_1} \ (\mathrm{ATT})"
    r"\end{aligned}",
    reading="The table of strata shows where the effect comes from and is easy to explain. Five strata leave about a "
    "tenth of the confounding behind; adjusted_smd says how much of it is to be seen. Where it matters, use more "
    "strata, or an estimator that models the outcome as well.",
    interval_claim="conservative",
    claim_note="Five strata leave about a tenth of the confounding (Cochran 1968), which is up to 0.8 standard "
    "deviations of the estimate on 1,000 rows; the variance within strata takes what covariates explain of the "
    "outcome for noise, so the intervals are wide enough to cover nevertheless.",
    claim_bias=0.8,
    example=Example(
        data="data/policy/2025-01/lalonde_nsw.csv",
        roles={
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
