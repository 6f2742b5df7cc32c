"""Causal forest: effects of single units with standard errors, by honest trees, and their doubly robust average."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.nuisance.econml_engine import forest_effects
from cqox_assets.nuisance.learners import (
    calibration_table,
    clipped_notice,
    effect_tables,
    judge_effects,
    with_groups,
)
from cqox_assets.nuisance.models import CLIP, Data, shared_or_own
from cqox_assets.numerics.forest import ForestSettings, fit_forest
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.sample import check_arms
from cqox_assets.numerics.scores import augmented_contrast
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_BAG = 4
_FEWEST_TREES = 10 * 2 * _BAG


@dataclass(frozen=True)
class CausalForestParams(CommonParams):
    """Parameters of the causal forest.

    Parameters
    ----------
    engine : str
        `own`; `econml`: its CausalForestDML, given the same cross-fitted nuisances.
    trees : int
        Trees in all, at least 80; half of them speak for each unit. Own trees come in eights.
    min_leaf : int, optional
        Rows that a leaf keeps, among those that choose the cuts and among those that fill the leaves; by default 5, and
        more in trees of more than 2,500 rows (55 at a million rows).
    tree_rows : int, optional
        Rows that a tree is grown on; by default half the rows up to 2,500, and 2,500 (rows / 10,000)^0.65 beyond 10,000
        rows.
    tries : int, optional
        Covariates tried at each cut; min(p, sqrt(p) + 20) by default.
    linear : str
        `auto`: half of the trees grow on what a linear effect leaves over, and both kinds are mixed by their R-loss;
        `never`: a forest without linear part.
    nuisance_params : mapping
        Arguments of scikit-learn's random forest for `nuisance: random_forest`.
    """

    engine: Literal["own", "econml"] = "own"
    trees: int = 400
    min_leaf: int | None = None
    tree_rows: int | None = None
    tries: int | None = None
    linear: Literal["auto", "never"] = "auto"
    nuisance_params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("trees", _FEWEST_TREES), ("min_leaf", 1), ("tree_rows", 4), ("tries", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise CatalogError(f"parameter '{name}' is {value}; it must be at least {least}")
        if self.trim is not None:
            raise CatalogError(
                "parameter 'trim' is given, but the effects of all units are asked for; use aipw to trim"
            )


@dataclass(frozen=True)
class _Grown:
    """Unit effects, their standard errors, and what the forest says about itself."""

    effect: np.ndarray
    std_error: np.ndarray
    importance: np.ndarray
    words: str


def run(study: Study, params: CausalForestParams, context: Context) -> EffectEstimate | Refusal:
    """Grow a forest on centred treatment and outcome, and average the doubly robust score that it gives.

    Parameters
    ----------
    study : Study
        Outcome, two arms, covariates; optional weight and cluster.
    params : CausalForestParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Headline: the ATE, or the ATT. Tables `unit_effects` (with standard error and interval), `calibration`,
        `best_linear_predictor`, `uplift`, `rank_weighted_effects` and `variable_importance`.

    Raises
    ------
    CatalogError
        If a parameter is out of range, or `trim` is given.

    Notes
    -----
    e(x) and m(x) = E[y | x] are cross-fitted. The forest estimates tau(x), the slope of y - m on d - e among the units
    that share leaves with x; a unit's effect comes from trees that have not seen it. The score of a unit is
    tau + (d - e)/(e (1 - e)) (y - m - (d - e) tau), the doubly robust one with outcome models m - e tau and
    m + (1 - e) tau; its mean is the ATE (Athey & Wager 2019, doi:10.1353/obs.2019.0001). Intervals of unit effects are
    pointwise. Over 150 draws of the design `confounded_smooth` they held 83% (1,000 rows) and 91% (4,000) of the true
    unit effects, 99% of `null_effect` at 4,000; another seed moves a unit's effect by about 0.3 of its standard error,
    and the average by 0.02 of its own.
    """
    estimand, data = SPEC.estimand(params), Data.of(study)
    check_arms(data.d, data.weight)
    held = _nuisances(study, data, params, context)
    e, m0, m1 = (held[name].to_numpy() for name in ("propensity", "outcome_reference", "outcome_compared"))
    t, left = data.d - e, data.y - (e * m1 + (1 - e) * m0)
    grown = _grow(data, t, left, params)
    tau, mean = grown.effect, data.y - left
    below, above = mean - e * tau, mean + (1 - e) * tau
    average = Estimand.ATE if estimand == Estimand.CATE else estimand
    point, influence = augmented_contrast(data.y, data.d, e, below, above, data.sampling, average)
    headline = wald(
        point, influence_std_error(influence, data.cluster), estimand=average,
        contrast=f"{study.arms[1]} - {study.arms[0]}", level=params.level,
        df=None if data.cluster is None else float(data.cluster.max()),
    )  # fmt: skip
    score = tau + t / (e * (1 - e)) * (left - t * tau)
    calibration = calibration_table(tau, score, data.sampling, data.cluster)
    return SPEC.estimate(
        study,
        with_groups(SPEC, headline, calibration, params),
        inference="influence function of the doubly robust score" + (", clustered" if data.cluster is not None else ""),
        diagnostics=judge_effects(SPEC, study, data, e, tau, score),
        tables={
            "unit_effects": _units(data, grown, score, params.level),
            "calibration": calibration,
            **effect_tables(study, data, tau, score, held["fold"].to_numpy()),
            "variable_importance": _importance(study, data, grown),
        },
        notices=[grown.words, *clipped_notice(e)],
    )


def _nuisances(study: Study, data: Data, params: CausalForestParams, context: Context) -> pd.DataFrame:
    """Return cross-fitted nuisances, shared where they are what is asked for."""
    if not params.nuisance_params:
        return shared_or_own(study, params, context)
    if params.nuisance != "random_forest":
        raise CatalogError(
            f"parameter 'nuisance_params' are for nuisance: random_forest, but nuisance is {params.nuisance}"
        )
    fold, settings = data.content_folds(params.folds, params.seed), params.nuisance_params
    folded = data.folded(fold, params.seed)
    return pd.DataFrame(
        {
            "propensity": np.clip(folded.probability(data.d, params.nuisance, settings), CLIP, 1 - CLIP),
            "outcome_reference": folded.mean(data.y, data.d == 0, params.nuisance, settings),
            "outcome_compared": folded.mean(data.y, data.d == 1, params.nuisance, settings),
            "fold": fold,
        }
    )


def _grow(data: Data, t: np.ndarray, left: np.ndarray, params: CausalForestParams) -> _Grown:
    if params.engine == "econml":
        effect, error, importance = forest_effects(data, t, left, params.trees, params.min_leaf or 5, params.seed)
        words = f"unit effects by econml's CausalForestDML, {params.trees} trees, on the platform's nuisance models"
        return _Grown(effect, error, importance, words)
    settings = ForestSettings(
        pairs=-(-params.trees // (2 * _BAG)), trees=_BAG, min_leaf=params.min_leaf, tries=params.tries,
        rows=params.tree_rows, linear=params.linear, seed=params.seed,
    )  # fmt: skip
    fit = fit_forest(data.x, t, left, data.weight, data.cluster, settings)
    words = (
        f"{2 * settings.pairs * _BAG} trees on {fit.rows_per_tree} rows each, at least {fit.rows_per_leaf} a leaf; "
        f"those that grew on what a linear effect leaves over have a share of {fit.linear_share:.2f}"
    )
    return _Grown(fit.effect, fit.std_error, fit.splits, words)


def _units(data: Data, grown: _Grown, score: np.ndarray, level: float) -> pd.DataFrame:
    """Return one row per unit: `row`, `treated`, `effect`, `std_error`, `low`, `high`, `score`."""
    from scipy.special import ndtri

    room = float(ndtri(0.5 + level / 2)) * grown.std_error
    return pd.DataFrame(
        {
            "row": np.arange(len(score)),
            "treated": data.d.astype(int),
            "effect": grown.effect,
            "std_error": grown.std_error,
            "low": grown.effect - room,
            "high": grown.effect + room,
            "score": score,
        }
    )


def _importance(study: Study, data: Data, grown: _Grown) -> pd.DataFrame:
    """Return one row per covariate, the most important first.

    `explained` is the share of the variance of the unit effects that the covariate's bins explain by themselves,
    `splits` its share of the cuts (of the importance that econml gives, with that engine).
    """
    from cqox_assets.numerics.forest_rows import bin_codes

    codes, weight = bin_codes(data.x, bins=20), data.sampling
    centred = grown.effect - np.average(grown.effect, weights=weight)
    total = float(weight @ centred**2)
    explained = []
    for j in range(codes.shape[1]):
        size, mass = np.bincount(codes[:, j], weight), np.bincount(codes[:, j], weight * centred)
        between = float(np.sum(mass[size > 0] ** 2 / size[size > 0]))
        explained.append(min(between / total, 1.0) if total > 0 else 0.0)
    table = pd.DataFrame(
        {
            "covariate": [study.label(name) for name in study.names(Role.COVARIATES)],
            "explained": explained,
            "splits": grown.importance,
        }
    )
    return table.sort_values(["explained", "splits"], ascending=False, kind="stable").reset_index(drop=True)


SPEC = EstimatorSpec(
    name="causal_forest",
    title="Causal forest",
    family="heterogeneity",
    estimands=(Estimand.ATE, Estimand.CATE, Estimand.ATT),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT}),
    aliases=("generalized random forest", "GRF", "CausalForestDML"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=(
        "Athey, Tibshirani & Wager 2019, doi:10.1214/18-AOS1709",
        "Wager & Athey 2018, doi:10.1080/01621459.2017.1319839",
        "Athey & Wager 2019, doi:10.1353/obs.2019.0001",
        "Nie & Wager 2021, doi:10.1093/biomet/asaa076",
        "Friedberg et al. 2021, doi:10.1080/10618600.2020.1831930",
    ),
    diagnostics=("overlap", "effect_calibration"),
    tables=(
        "unit_effects",
        "calibration",
        "best_linear_predictor",
        "uplift",
        "rank_weighted_effects",
        "variable_importance",
    ),
    truths=(
        "randomised_trial",
        "confounded_smooth",
        "weighted_sample",
        "clustered_trial",
        "three_arms",
        "null_effect",
    ),
    breaks=("no_overlap",),
    oracle=("causal_forest",),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "finds who gains more and who less, with a standard error for each unit"
        if study.has(Role.COVARIATES)
        else "needs covariates",
        0.7,
    ),
    params=CausalForestParams,
    shares_nuisance=True,
    question="How does the effect differ between units, what does it depend on, and what is it on average?",
    formula=(
        r"\hat\tau(x) = \frac{\sum_i \alpha_i(x)(\tilde d_i - \bar d_x)(\tilde y_i - \bar y_x)}"
        r"{\sum_i \alpha_i(x)(\tilde d_i - \bar d_x)^2}, \quad \tilde y = y - \hat m(x),\ \tilde d = d - \hat e(x), "
        r"\quad \hat\theta = \frac1n\sum_i \Big[\hat\tau(x_i) + \frac{\tilde d_i}{\hat e(1-\hat e)}"
        r"\big(\tilde y_i - \tilde d_i\hat\tau(x_i)\big)\Big]"
    ),
    reading=(
        "The headline is the average effect. Read the unit effects together with the calibration: a slope near 1 says "
        "that differences between units are as large as predicted, one near 0 that they are noise. Intervals of single "
        "units show sampling noise but not the pull towards similar units, which is strongest at the edge of the data: "
        "on a smooth simulated effect, 95% intervals held 83% of the true unit effects at 1,000 rows, 91% at 4,000. "
        "Rank units by `effect` only if the rank-weighted effects are clearly above 0."
    ),
    example=Example(
        "data/education/2025-01/ihdp.csv",
        {"outcome": "y_factual", "treatment": "treatment", "covariates": [f"x{j}" for j in range(1, 26)]},
    ),
    coverage_rows=4000,
    claim_designs={"confounded_smooth": (0.25, 0.93)},
    claim_note=(
        "The ATE is nominal everywhere. The ATT rests on the outcome model of the untreated alone, which is what the "
        "forest's shrunken effects leave of m(x); where effects bend, a bias of about a fifth of a standard error "
        "stays at 4,000 rows. For an ATT without it take aipw."
    ),
)
