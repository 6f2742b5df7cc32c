"""Double machine learning: the effect left after outcome and treatment were predicted from covariates, cross-fitted.

`partialling_out` regresses outcome residuals on treatment residuals; with effects that differ between units it is an
average weighted by the variance of the treatment given covariates. Of a continuous treatment it is the slope per unit.
`irm_ate` and `irm_atte` average doubly robust scores of two arms and need no common effect. In a panel the partially
linear model has unit effects, which are taken out by differences, deviations from unit means or correlated random
effects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.nuisance.models import CLIP, Data, judge_weights, shared_or_own, splits_of
from cqox_assets.numerics.dose import dose_folds
from cqox_assets.numerics.folds import index_folds, random_folds
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.sample import ClusterError, TooFewRowsError
from cqox_assets.numerics.scores import augmented_contrast, balancing_weights, inside_support, partialled_out
from cqox_assets.numerics.splits import combined, split_notices, split_table
from cqox_assets.numerics.unit_effects import TRANSFORMATIONS, LongPanel, varies_within
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_FEWEST_ROWS = 2
_PARTIALLING = "partialling_out"
_AT_LEAST = 10


@dataclass(frozen=True)
class DoubleMlParams(CommonParams):
    """Parameters of double machine learning.

    Parameters
    ----------
    score : str
        `partialling_out`, `irm_ate`, `irm_atte`; `auto`: partialling_out for the ATE, irm_atte for the ATT.
    outcome_learner : str
        `auto`: the learner named by `nuisance`. `ols`: one regression on all rows (of each arm for an irm score);
        `ols_per_arm`; `random_forest`, `gradient_boosting` (scikit-learn), `stack`, `spline`, `boosting`.
    treatment_learner : str
        `auto`: the learner named by `nuisance`. `ols` (linear probability), `logit` (two arms only), `random_forest`,
        `gradient_boosting`, `stack`, `spline`, `boosting`.
    learner_params : mapping
        Keys `outcome_learner` and `treatment_learner`: arguments of scikit-learn's models.
    folds_by : str
        `content` (hash of the unit's content), `index_mod` (row number modulo folds; depends on the order of rows),
        `random` (a new equal-sized assignment per seed).
    seeds : tuple of int
        One cross-fitting each; by default seed, seed + 1, ... as many as `repeats`. The median estimate is reported
        with standard error median of sqrt(se^2 + (estimate - median)^2).
    se : str
        `HC1` (factor n / (n - 1)) or `influence` (no factor).
    clip : float, optional
        For irm scores, propensities are moved to [clip, 1 - clip]; by default 0.01, none with `logit`.
    clip_high : float, optional
        The upper bound instead of 1 - clip.
    trim : float, optional
        Rows with a propensity outside [trim, 1 - trim] are left out of the score; of two arms only.
    unit_effects : str
        Of a panel (role `unit` with several rows each): `first_difference` (changes between successive rows; any
        function of the covariates is allowed), `within` (deviations from unit means; an approximation where covariates
        act nonlinearly), `correlated_random_effects` (unit means of covariates and treatment as further covariates),
        `none`, or `auto`: first_difference where `time` is mapped and the treatment changes within units, else none.
    """

    score: Literal["auto", "partialling_out", "irm_ate", "irm_atte"] = "auto"
    outcome_learner: Literal[
        "auto", "ols", "ols_per_arm", "random_forest", "gradient_boosting", "stack", "spline", "boosting"
    ] = "auto"
    treatment_learner: Literal[
        "auto", "ols", "logit", "random_forest", "gradient_boosting", "stack", "spline", "boosting"
    ] = "auto"
    learner_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folds_by: Literal["content", "index_mod", "random"] = "content"
    seeds: tuple[int, ...] = ()
    se: Literal["HC1", "influence"] = "HC1"
    clip: float | None = None
    clip_high: float | None = None
    unit_effects: Literal["auto", "none", "first_difference", "within", "correlated_random_effects"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_high is not None and not (self.clip or 0.0) < self.clip_high <= 1:
            raise CatalogError(f"parameter 'clip_high' is {self.clip_high}; it must be above 'clip' and at most 1")


@dataclass(frozen=True)
class _Fit:
    """One cross-fitting.

    Parameters
    ----------
    point, std_error : float
    predicted : ndarray of shape (n,)
        Treatment given covariates; of an irm score the propensity as used.
    outcome : ndarray of shape (n,)
        Predicted outcome.
    stays : ndarray of bool, shape (n,)
    clipped : int
    """

    point: float
    std_error: float
    predicted: np.ndarray
    outcome: np.ndarray
    stays: np.ndarray
    clipped: int


@dataclass(frozen=True)
class _Design:
    """What is estimated from which rows.

    Parameters
    ----------
    data : Data
        Transformed where there are unit effects.
    rows : ndarray of int
        Positions in the study.
    score, estimand, contrast : str
    arms : bool
        Whether the treatment column holds two arms.
    effects : str
        The transformation, or `none`.
    lost : int
        Rows that the transformation leaves out.
    """

    data: Data
    rows: np.ndarray
    score: str
    estimand: str
    contrast: str
    arms: bool
    effects: str = "none"
    lost: int = 0


def run(study: Study, params: DoubleMlParams, context: Context) -> EffectEstimate | Refusal:
    """Cross-fit, solve the score, repeat, take the median.

    Parameters
    ----------
    study : Study
        Outcome, covariates and a treatment of two arms or continuous; optional weight, cluster, and unit and time of a
        panel.
    params : DoubleMlParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        ATE or ATT of two arms, slope per unit of a continuous treatment. Tables `splits` (a row per seed), `residuals`
        of the partially linear model and `propensity` of two arms. Refused if the covariates determine the
        treatment, or if the score needs arms that are not there.

    Raises
    ------
    CatalogError
        If parameters contradict one another.

    Notes
    -----
    Partially linear: theta = sum v u / sum v^2 with u = y - E[y | x], v = d - E[d | x], each predicted by models that
    never saw the row's fold; influence v (u - v theta) / mean(v^2). Of several cross-fittings the median is reported
    with standard error median of sqrt(se^2 + (theta - median)^2), which counts the spread between them.
    """
    design = _design(study, params)
    if isinstance(design, Refusal):
        return design
    seeds = params.seeds or tuple(params.seed + k for k in range(params.repeats))
    fits: dict[int, _Fit] = {}
    for seed in seeds:
        for used, nuisances in _nuisances(study, design, params, context, seed).items():
            fit = _fit_once(design, params, nuisances)
            if isinstance(fit, Refusal):
                return fit
            fits[used] = fit
    splits = split_table(list(fits), [fit.point for fit in fits.values()], [fit.std_error for fit in fits.values()])
    counted = splits[splits["seed"].isin(seeds)]
    point, error = combined(counted["estimate"].tolist(), counted["std_error"].tolist())
    cluster = design.data.cluster
    effect = wald(
        point,
        error,
        estimand=design.estimand,
        contrast=design.contrast,
        level=params.level,
        df=None if cluster is None else float(cluster.max()),
    )
    shown = fits[int(counted["seed"].iloc[int((counted["estimate"] - point).abs().argmin())])]
    return _report(study, design, params, effect, shown, splits)


def _design(study: Study, params: DoubleMlParams) -> _Design | Refusal:
    arms, effects = study.treatment_kind is TreatmentKind.BINARY, _unit_effects(study, params)
    name, data, rows = study.name(Role.TREATMENT), Data.of(study), np.arange(len(study))
    contrast = f"{study.arms[1]} - {study.arms[0]}" if arms else f"one unit of {name}"
    if arms and effects == "none":
        if SPEC.estimand(params) == Estimand.SLOPE:
            return SPEC.refuse(
                "treatment_kind",
                f"the treatment '{name}' has arms, a slope is per unit of a continuous one",
                "ask for the ATE, or map the amount that each unit received: roles: {dose: <column>}",
            )
        score, estimand = _score(params)
        return _Design(data, rows, score, estimand, contrast, arms=True)
    why = f"unit effects are taken out by {effects}" if arms else f"the treatment '{name}' is continuous"
    if params.score not in ("auto", _PARTIALLING) or SPEC.estimand(params) == Estimand.ATT:
        asked = "irm_atte" if params.score == "auto" else params.score
        return SPEC.refuse(
            "treatment_kind",
            f"{why}, so the {asked} score has no arms to compare",
            "leave score and estimand at their defaults, or map a treatment of two arms and set unit_effects: none",
        )
    _check_numeric(params, why)
    design = _Design(data, rows, _PARTIALLING, Estimand.ATE if arms else Estimand.SLOPE, contrast, arms, effects)
    return design if effects == "none" else _transformed(study, design)


def _check_numeric(params: DoubleMlParams, why: str) -> None:
    """Raise where a parameter is about arms although the treatment enters as a number."""
    barred = {"treatment_learner": "logit", "outcome_learner": "ols_per_arm"}
    for name, value in barred.items():
        if getattr(params, name) == value:
            raise CatalogError(f"parameter '{name}' is {value}, but {why}; choose ols or another learner")
    if params.trim is not None:
        raise CatalogError(f"parameter 'trim' is given, but {why}, so there is no propensity to trim on")


def _unit_effects(study: Study, params: DoubleMlParams) -> str:
    if params.unit_effects != "auto":
        return str(params.unit_effects)
    if not (study.repeats_units and len(study.names(Role.TIME)) == 1):
        return "none"
    unit = study.codes(Role.UNIT)
    changes = unit is not None and varies_within(study.column(Role.TREATMENT), unit)
    return "first_difference" if changes and params.score in ("auto", _PARTIALLING) else "none"


def _transformed(study: Study, design: _Design) -> _Design | Refusal:
    """Return the design after its unit effects are taken out; clusters contain whole units."""
    unit = study.codes(Role.UNIT)
    if unit is None:
        return SPEC.refuse(
            "missing_role",
            "no column plays the role 'unit', whose effects are to be taken out",
            "map it in study.yaml: roles: {unit: <column>}, or set unit_effects: none",
        )
    data = design.data
    time = study.column(Role.TIME) if study.has(Role.TIME) else None
    found = TRANSFORMATIONS[design.effects](LongPanel(data.x, data.y, data.d, unit, time))
    cluster = unit if data.cluster is None else data.cluster
    if varies_within(cluster * 1.0, unit):
        raise ClusterError(
            f"cluster column '{study.name(Role.CLUSTER)}' changes within units, so clusters would split a unit's own "
            "dependence over time; map a cluster that contains whole units, or unmap the role to cluster by unit",
            code="cluster_splits_units",
        )
    codes = np.unique(cluster[found.rows], return_inverse=True)[1]
    if codes.max() < 1:
        raise ClusterError("all rows lie in one unit or cluster; deliver several units")
    weight = None if data.weight is None else data.weight[found.rows] / data.weight[found.rows].mean()
    if not np.any(found.treatment != found.treatment[0]):
        return SPEC.refuse(
            "no_variation",
            f"the treatment '{study.name(Role.TREATMENT)}' does not change within units, so unit effects leave nothing "
            "of it",
            "set unit_effects: none, or deliver units whose treatment changes",
        )
    changed = Data(found.features, found.outcome, found.treatment, weight, codes)
    return replace(design, data=changed, rows=found.rows, lost=found.lost)


def _score(params: DoubleMlParams) -> tuple[str, str]:
    estimand = SPEC.estimand(params)
    score: str = params.score
    if score == "auto":
        score = _PARTIALLING if estimand == Estimand.ATE else "irm_atte"
    if score == "irm_atte" and params.estimand is None:
        estimand = Estimand.ATT
    if (score == "irm_atte") != (estimand == Estimand.ATT):
        raise CatalogError(f"parameter 'score' is {score}, which does not estimate the {estimand}; choose another")
    return score, estimand


def _fit_once(design: _Design, params: DoubleMlParams, nuisances: tuple[np.ndarray, ...]) -> _Fit | Refusal:
    data, score = design.data, design.score
    clip = params.clip if params.clip is not None else (0.0 if params.treatment_learner in ("logit", "ols") else CLIP)
    high = 1 - clip if params.clip_high is None else params.clip_high
    raw, m0, m1, mean = nuisances
    stays = inside_support(raw, params.trim, "bound")
    d, y, sampling = data.d[stays], data.y[stays], data.sampling[stays]
    if design.arms and design.effects == "none" and min((d == arm).sum() for arm in (0, 1)) < _FEWEST_ROWS:
        return SPEC.refuse(
            "nobody_left",
            f"after trimming at {params.trim} an arm has fewer than {_FEWEST_ROWS} rows",
            "choose a smaller trim, or compare groups that overlap",
        )
    if score == _PARTIALLING:
        residual = d - raw[stays]
        size = (
            1.0
            if design.arms and design.effects == "none"
            else float(np.average((d - d.mean()) ** 2, weights=sampling))
        )
        if not np.sum(sampling * residual**2) >= 1e-8 * len(d) * size > 0:
            return SPEC.refuse(
                "no_variation",
                "the covariates predict the treatment perfectly, so nothing of it is left to explain the outcome",
                "leave out the covariate that decides the treatment",
            )
        point, influence = partialled_out(y - mean[stays], residual, sampling)
        e, clipped = raw, 0
    else:
        e = np.clip(raw, clip, high)
        clipped = int(np.sum(((raw <= clip) | (raw >= high)) & stays)) if clip > 0 or high < 1 else 0
        if e.min() <= 0 or e.max() >= 1:
            return SPEC.refuse(
                "no_overlap", "some propensities are 0 or 1, so the score does not exist", "set clip or trim"
            )
        target = Estimand.ATT if score == "irm_atte" else Estimand.ATE
        point, influence = augmented_contrast(y, d, e[stays], m0[stays], m1[stays], sampling, target)
    cluster = None if data.cluster is None else np.unique(data.cluster[stays], return_inverse=True)[1]
    factor = np.sqrt(len(d) / (len(d) - 1)) if params.se == "HC1" and cluster is None else 1.0
    return _Fit(point, factor * influence_std_error(influence, cluster), e, mean, stays, clipped)


def _nuisances(
    study: Study, design: _Design, params: DoubleMlParams, context: Context, seed: int
) -> dict[int, tuple[np.ndarray, ...]]:
    """Treatment given covariates, outcome predictions of both arms (if any) and of everybody, by the folds' seed."""
    data, numeric = design.data, not design.arms or design.effects != "none"
    if numeric:
        return {seed: _numeric_nuisances(data, params, seed)}
    if params.folds_by == "content" and params.outcome_learner == params.treatment_learner == "auto":
        own_seed = None if seed == params.seed else seed
        held = shared_or_own(study, params, context, seed=own_seed, clip=min(CLIP, params.clip or CLIP))
        found: dict[int, tuple[np.ndarray, ...]] = {}
        for used, frame in splits_of(held, seed).items():
            e, m0, m1 = (frame[name].to_numpy() for name in ("propensity", "outcome_reference", "outcome_compared"))
            found[used] = e, m0, m1, e * m1 + (1 - e) * m0
        return found
    folded = data.folded(_folds(data, params, seed), seed)
    outcome, treatment = _learners(params)
    settings = [params.learner_params.get(name) for name in ("outcome_learner", "treatment_learner")]
    e = folded.probability(data.d, treatment, settings[1])
    if design.score == _PARTIALLING and params.outcome_learner not in ("auto", "ols_per_arm"):
        mean = folded.mean(data.y, None, outcome, settings[0])
        return {seed: (e, mean, mean, mean)}
    learner = "ols" if outcome == "ols_per_arm" else outcome
    m0, m1 = (folded.means(data.y, data.d == arm, learner, settings[0]).close for arm in (0, 1))
    return {seed: (e, m0, m1, e * m1 + (1 - e) * m0)}


def _numeric_nuisances(data: Data, params: DoubleMlParams, seed: int) -> tuple[np.ndarray, ...]:
    """Return predictions of a treatment that is a number, and of the outcome whatever the treatment."""
    if len(data.y) < _AT_LEAST:
        raise TooFewRowsError(f"{len(data.y)} rows cannot be cross-fitted; deliver at least {_AT_LEAST}")
    folded = data.folded(_folds(data, params, seed, numeric=True), seed)
    outcome, treatment = _learners(params)
    settings = [params.learner_params.get(name) for name in ("outcome_learner", "treatment_learner")]
    mean = folded.mean(data.y, None, outcome, settings[0])
    return folded.mean(data.d, None, treatment, settings[1]), mean, mean, mean


def _learners(params: DoubleMlParams) -> tuple[str, str]:
    chosen = (params.outcome_learner, params.treatment_learner)
    outcome, treatment = (params.nuisance if name == "auto" else str(name) for name in chosen)
    return outcome, treatment


def _folds(data: Data, params: DoubleMlParams, seed: int, *, numeric: bool = False) -> np.ndarray:
    if params.folds_by == "index_mod":
        return index_folds(len(data.y), params.folds)
    if params.folds_by == "random":
        return random_folds(len(data.y), params.folds, seed, data.cluster)
    if numeric:
        return dose_folds(data.x, data.y, data.d, params.folds, seed=seed, group=data.cluster, weight=data.weight)
    return data.content_folds(params.folds, seed)


def _report(
    study: Study, design: _Design, params: DoubleMlParams, effect: Any, fit: _Fit, splits: pd.DataFrame
) -> EffectEstimate:
    data, stays = design.data, fit.stays
    rows, trimmed = design.rows[stays], int((~stays).sum())
    words = f"{params.se} of the cross-fitted {design.score} score" + (
        ", clustered" if data.cluster is not None else ""
    )
    if design.effects != "none":
        words += f", unit effects by {design.effects.replace('_', ' ')}"
    repeats = len(params.seeds) or params.repeats
    if repeats > 1:
        words += f", median of {repeats} cross-fittings"
    tables = {"splits": splits}
    if design.score == _PARTIALLING:
        tables["residuals"] = pd.DataFrame(
            {"row": rows, "treatment": (data.d - fit.predicted)[stays], "outcome": (data.y - fit.outcome)[stays]}
        )
    if design.arms and design.effects == "none":
        treated = data.d[stays].astype(int)
        tables["propensity"] = pd.DataFrame({"row": rows, "treated": treated, "propensity": fit.predicted[stays]})
    dropped = {"trimmed": trimmed} if trimmed else {}
    if design.lost:
        reason = "first row of its unit" if design.effects == "first_difference" else "only row of its unit"
        dropped[reason] = design.lost
    whole = len(rows) == len(study) and design.effects == "none"
    return SPEC.estimate(
        study if whole else study.take(rows),
        [effect],
        inference=words,
        diagnostics=_diagnostics(study, design, fit),
        tables=tables,
        notices=_notices(design, params, fit, splits),
        dropped=dropped or None,
    )


def _notices(design: _Design, params: DoubleMlParams, fit: _Fit, splits: pd.DataFrame) -> list[str]:
    notices = []
    if design.score == _PARTIALLING:
        notices.append("with effects that differ between units this is a variance-weighted average, not the plain one")
    if not fit.stays.all():
        notices.append(
            f"{int((~fit.stays).sum())} rows with a propensity outside [{params.trim:g}, {1 - (params.trim or 0):g}] "
            "were left out"
        )
    if fit.clipped:
        notices.append(f"the propensity of {fit.clipped} rows was moved to the clipping bound")
    if design.effects == "within":
        notices.append(
            "deviations from unit means are exact only where covariates act linearly; compare first_difference"
        )
    return [*notices, *split_notices(splits)]


def _diagnostics(study: Study, design: _Design, fit: _Fit) -> list[Diagnostic]:
    data, stays = design.data, fit.stays
    d, sampling = data.d[stays], data.sampling[stays]
    total = float(np.average((d - np.average(d, weights=sampling)) ** 2, weights=sampling))
    left = float(np.average((d - fit.predicted[stays]) ** 2, weights=sampling)) / total
    name = study.label(study.name(Role.TREATMENT))
    what = f"of the variance of '{name}'" + (", unit effects taken out," if design.effects != "none" else "")
    variation = SPEC.judge(study, "treatment_variation", left, f"{what} is left by the covariates")
    if not design.arms or design.effects != "none":
        reason = "the treatment enters as a number, so there are no arms to compare"
        return [replace(SPEC.judge(study, "overlap", None, reason), applies=False), variation]
    target = Estimand.ATT if design.score == "irm_atte" else Estimand.ATE
    e = fit.predicted[stays]
    weight = balancing_weights(d, np.clip(e, CLIP, 1 - CLIP), target)[0] * sampling
    return [judge_weights(study, d, e, weight)[0], variation]


SPEC = EstimatorSpec(
    name="double_ml",
    title="Double machine learning",
    family="machine_learning",
    estimands=(Estimand.ATE, Estimand.ATT, Estimand.SLOPE),
    shares_nuisance=True,
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT, Role.TIME}),
    treatment=(TreatmentKind.BINARY, TreatmentKind.CATEGORICAL, TreatmentKind.CONTINUOUS),
    aliases=("DML", "PLR", "IRM", "TVCE"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "common_effect", "consistency", "no_interference"),
    references=(
        "Chernozhukov et al. 2018, doi:10.1111/ectj.12097",
        "Robinson 1988, doi:10.2307/1912705",
        "Clarke & Polselli 2025, doi:10.1093/ectj/utaf011",
    ),
    diagnostics=("overlap", "treatment_variation"),
    tables=("propensity", "residuals", "splits"),
    truths=(
        "randomised_trial", "confounded_linear", "clustered_trial", "weighted_sample", "three_arms", "null_effect",
        "linear_dose", "null_dose", "dosed_panel", "null_dosed_panel",
    ),
    breaks=("no_overlap", "steered_dose"),
    oracle=("dml_plr", "dml_irm"),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "covariates are mapped and may act nonlinearly" if study.has(Role.COVARIATES) else "needs covariates",
        0.85,
    ),
    params=DoubleMlParams,
    question=(
        "What is the effect of the treatment, per arm or per unit of a continuous one, once everything that the "
        "covariates say of treatment and outcome is taken out?"
    ),
    formula=(
        r"\hat\theta=\frac{\sum_i\hat v_i\,\hat u_i}{\sum_i\hat v_i^2},\qquad \hat u_i=Y_i-\hat E[Y\mid X_i],\quad "
        r"\hat v_i=D_i-\hat E[D\mid X_i]"
    ),
    reading=(
        "Read it as the effect common to all units; where effects differ it is their average weighted by how much the "
        "treatment varies given the covariates (score: irm_ate gives the plain average of two arms). Of a continuous "
        "treatment it is a slope: ask dose_response where the effect may bend. Do not trust it where "
        "treatment_variation or overlap warn, or where a hidden cause moves both treatment and outcome."
    ),
    example=Example(
        data="tests/oracle/data/pension_401k.csv",
        roles={
            "outcome": "net_tfa", "treatment": "e401",
            "covariates": ["age", "inc", "fsize", "educ", "db", "marr", "twoearn", "pira", "hown"],
        },
        params={"repeats": 3},
    ),
    claim_designs={"dosed_panel": (0.3, 0.93), "null_dosed_panel": (0.3, 0.93)},
    claim_note=(
        "With few clusters or units (below about 50) the intervals are somewhat short. With repeated units changes are "
        "learned from the covariates of two periods, and what the learners miss of a nonlinear confounder stays in "
        "both residuals: about a quarter of a standard error at 800 units of five periods."
    ),
    coverage_rows=4000,
)  # fmt: skip
