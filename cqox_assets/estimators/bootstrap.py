"""The bootstrap of a named estimator: its whole sampling distribution, and intervals that need not be symmetric.

Rows, clusters or units are drawn with replacement, or weighted by Dirichlet draws. Where the estimator says how its
estimate follows from weights (`replicates`), all draws are matrix products; else it runs once per draw.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.resampling import (
    DrawnEffect,
    canonical_order,
    histogram,
    jackknife_groups,
    resampling_groups,
    weight_blocks,
)
from cqox_assets.result import Effect, EffectEstimate, Estimand, Failure, Interval, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example, Replicates, build_params
from cqox_assets.study import Role, Study, TreatmentKind

_MOST_GROUPS = 2000
_MOST_JACKKNIFE = 100
_FEWEST_DRAWS = 100
_FAILED = 0.1
_MOST_REFITTED = 300
_MANY_LOST = 0.3
_AGREES = 1e-6


@dataclass(frozen=True)
class BootstrapParams(CommonParams):
    """Parameters of the bootstrap.

    Parameters
    ----------
    of : str
        Name or alias of the estimator that is resampled; by default the first in plan order (of no declared design)
        that can be recomputed from weights.
    of_params : mapping
        Parameters of that estimator.
    scheme : str
        `pairs` draws rows (whole units of a panel), `cluster` draws clusters, `bayesian` weights rows or clusters by
        Dirichlet(1, ..., 1) draws, which needs an estimator that takes weights. `auto`: cluster where clusters are
        mapped, else pairs.
    interval : str
        `bca`, `percentile`, `studentised` (needs the standard error of every draw), `basic` or `normal`.
    budget_seconds : float
        Wall time after which an estimator that runs once per draw stops; what was drawn so far is reported.
    """

    of: str = ""
    of_params: Mapping[str, Any] = field(default_factory=dict)
    scheme: Literal["auto", "pairs", "cluster", "bayesian"] = "auto"
    interval: Literal["bca", "percentile", "studentised", "basic", "normal"] = "bca"
    budget_seconds: float = 300.0


@dataclass(frozen=True)
class _Draws:
    """Draws of every effect, shape (B, E), NaN where failed; their standard errors; influences; how it was done."""

    values: np.ndarray
    errors: np.ndarray | None
    influences: list[np.ndarray] | None
    point_errors: list[float | None]
    words: str
    largest: float | None
    notices: tuple[str, ...] = ()


def run(study: Study, params: BootstrapParams, context: Context) -> EffectEstimate | Refusal:
    """Resample a named estimator.

    Parameters
    ----------
    study : Study
        Whatever the estimator needs.
    params : BootstrapParams
    context : Context
        Its `runner` runs the estimator, its `catalogue` knows it.

    Returns
    -------
    EffectEstimate or Refusal
        The estimator's effects with intervals, standard errors and p-values of the draws. Tables `draws`, `histogram`
        (ready to be drawn) and `intervals` (every kind that the draws allow). Refused if more than a tenth of the draws
        cannot be estimated.

    Raises
    ------
    CatalogError
        If the estimator is not known, or scheme, interval and estimator do not go together.

    Notes
    -----
    The acceleration of BCa is the skewness of the influence values, or of a jackknife over 100 groups. Of more than
    2,000 rows or clusters random groups are drawn by the matrix products: sums over groups vary as the rows do.
    """
    if params.inference != "analytic":
        raise CatalogError("parameter 'inference' does not apply: this entry resamples in any case; choose 'scheme'")
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but bootstrap trims nothing; give it in of_params")
    if context.runner is None or context.catalogue is None:
        raise CatalogError("bootstrap runs other estimators and needs a context with a runner")
    spec = _chosen(study, params, context)
    if Role.POPULATION not in spec.accepts | spec.requires:
        study = study.studied()
    scheme = _scheme(spec, study, params)
    if isinstance(scheme, Refusal):
        return scheme
    values = _values(spec, params)
    point = context.runner(spec.name, study, values)
    if isinstance(point, Refusal):
        return SPEC.refuse(point.code, f"{spec.name}: {point.reason}", point.remedy)
    if isinstance(point, Failure):
        raise RuntimeError(point.traceback)
    found = _fast(spec, study, params, scheme, point, values, context)
    if found is None:
        found = _slow(spec, study, params, scheme, point, values, context)
    return found if isinstance(found, Refusal) else _answer(study, params, spec, point, found)


def _chosen(study: Study, params: BootstrapParams, context: Context) -> EstimatorSpec:
    """Return the named entry, or the first in plan order that is cheap to redraw."""
    assert context.catalogue is not None
    # What is resampled by default follows from the data alone, so that a declared design changes no number.
    open_design = study.declaration.model_copy(update={"design": None})
    known = context.catalogue(replace(study, declaration=open_design))
    if params.of:
        wanted = params.of.lower()
        named = [spec for spec in known.values() if wanted in (spec.name, *(alias.lower() for alias in spec.aliases))]
        if not named:
            raise CatalogError(f"parameter 'of' is '{params.of}'; known are {', '.join(sorted(known))}")
        if named[0].name == SPEC.name:
            raise CatalogError("parameter 'of' is 'bootstrap' itself; name the estimator that is to be resampled")
        return named[0]
    able = [spec for spec in known.values() if spec.replicates is not None and study.treatment_kind in spec.treatment]
    if not able:
        raise CatalogError("no estimator can be recomputed from weights for this treatment; name one with 'of'")
    return able[0]


def _scheme(spec: EstimatorSpec, study: Study, params: BootstrapParams) -> str | Refusal:
    """Return the scheme that is asked for, if study and estimator allow it."""
    clustered = study.has(Role.CLUSTER)
    if params.scheme == "cluster" and not clustered:
        return SPEC.refuse(
            "missing_role", "the cluster bootstrap needs the role 'cluster'", "map it: roles: {cluster: <column>}"
        )
    if params.scheme == "bayesian" and Role.WEIGHT not in spec.accepts | spec.requires:
        raise CatalogError(f"parameter 'scheme' is bayesian, but {spec.name} takes no weights; choose pairs or cluster")
    if params.scheme == "bayesian" and params.interval == "studentised":
        raise CatalogError(
            "parameter 'interval' is studentised, which has no meaning for Dirichlet weights; choose bca"
        )
    return ("cluster" if clustered else "pairs") if params.scheme == "auto" else params.scheme


def _values(spec: EstimatorSpec, params: BootstrapParams) -> dict[str, Any]:
    """Return the estimator's parameters: level, seed and estimand are those of the bootstrap unless said otherwise."""
    values: dict[str, Any] = {"level": params.level, "seed": params.seed, **params.of_params}
    if params.estimand is not None:
        values.setdefault("estimand", params.estimand)
    if values.get("inference", "analytic") != "analytic":
        raise CatalogError("parameter 'of_params' asks for inference by resampling, which bootstrap does itself")
    build_params(spec.params, values)  # a wrong parameter is said before anything runs
    return values


def _fast(
    spec: EstimatorSpec,
    study: Study,
    params: BootstrapParams,
    scheme: str,
    point: EffectEstimate,
    values: Mapping[str, Any],
    context: Context,
) -> _Draws | Refusal | None:
    """Draw by matrix products; None where the entry offers none, they would give another number or often fail."""
    if spec.replicates is None or len(point.effects) != 1 or study.treatment_kind is TreatmentKind.REPEATED:
        return None
    copies: Replicates | None = spec.replicates(study, build_params(spec.params, values))
    scale = point.std_error or 0.0
    if copies is None or not abs(copies.estimate - point.estimate) <= _AGREES * max(scale, abs(point.estimate)):
        return None
    cluster = study.codes(Role.CLUSTER) if scheme != "pairs" else None
    content = study.matrix() if study.has(Role.COVARIATES) else np.empty((len(study), 0))
    order = canonical_order(content, study.column(Role.OUTCOME), cluster)
    group = resampling_groups(order, cluster, _MOST_GROUPS, params.seed)
    groups = int(group.max()) + 1
    pairs, members = [], np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    assert context.runner is not None
    failed = refitted = 0
    for block in weight_blocks(groups, params.draws, params.seed, bayesian=scheme == "bayesian"):
        value, error = copies.draws(block, group, errors=params.interval == "studentised")
        lost = np.flatnonzero(~np.isfinite(value))
        if len(lost) > _MANY_LOST * len(block) or refitted + len(lost) > _MOST_REFITTED:
            return None  # a rare level is seldom drawn; the estimator itself leaves such a column out, draw by draw
        for b in lost:  # an arm or a level was not drawn: perhaps it does without
            refitted += 1
            if failed > _FAILED * params.draws:
                return _refuse_failed(spec, failed, params.draws)
            sample = _sample(study, block[b], members, group, scheme, False)
            (value[b],), (error[b],) = _one(context.runner(spec.name, sample, values), 1)
            failed += not np.isfinite(value[b])
        pairs.append((value, error))
    drawn, errors = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    influence = copies.influence(group)
    own = float(np.sqrt(influence @ influence))
    single = copies.influence(np.arange(len(study)) if cluster is None else cluster)
    return _Draws(
        drawn[:, None], errors[:, None] if params.interval == "studentised" else None, [influence], [own],
        _words(scheme, study, groups, spec), _largest(single),
    )  # fmt: skip


def _largest(influence: np.ndarray) -> float | None:
    """Return the share of the squared influences that the largest has."""
    squares = (influence - influence.mean()) ** 2
    return float(squares.max() / squares.sum()) if squares.sum() > 0 else None


def _words(scheme: str, study: Study, groups: int, spec: EstimatorSpec) -> str:
    clusters = study.codes(Role.CLUSTER)
    clustered = scheme == "cluster" or (scheme == "bayesian" and clusters is not None)
    count = int(clusters.max()) + 1 if clustered and clusters is not None else len(study)
    what = "clusters" if clustered else "units" if Role.UNIT in spec.requires else "rows"
    drawn = f"{count} {what}" if groups >= count or what == "units" else f"{count} {what} in {groups} random groups"
    return f"{'Bayesian' if scheme == 'bayesian' else scheme} bootstrap of {drawn}"


def _slow(
    spec: EstimatorSpec,
    study: Study,
    params: BootstrapParams,
    scheme: str,
    point: EffectEstimate,
    values: Mapping[str, Any],
    context: Context,
) -> _Draws | Refusal:
    """Run the estimator once per draw, as far as the budget goes."""
    assert context.runner is not None
    panel = Role.UNIT in spec.requires or (study.repeats_units and {Role.UNIT, Role.TIME} <= spec.accepts)
    unit = study.codes(Role.CLUSTER) if scheme != "pairs" else study.codes(Role.UNIT) if panel else None
    count, stop = len(point.effects), time.monotonic() + min(params.budget_seconds, context.left())
    content = study.matrix() if study.has(Role.COVARIATES) else np.empty((len(study), 0))
    order = canonical_order(content, study.column(Role.OUTCOME), unit)
    group = resampling_groups(order, unit, len(order), params.seed)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    drawn: list[list[float]] = []
    errors: list[list[float]] = []
    failed = 0
    for block in weight_blocks(len(members), params.draws, params.seed, bayesian=scheme == "bayesian"):
        for weights in block:
            late = time.monotonic() > stop and len(drawn) >= _FEWEST_DRAWS
            if late or failed > _FAILED * params.draws:
                break
            sample = _sample(study, weights, members, group, scheme, panel)
            value, error = _one(context.runner(spec.name, sample, values), count)
            failed += not np.isfinite(value).all()
            drawn.append(value)
            errors.append(error)
    notices = []
    if failed > _FAILED * params.draws:
        return _refuse_failed(spec, failed, len(drawn))
    if len(drawn) < params.draws:
        notices.append(f"the budget of {params.budget_seconds:g} seconds allowed {len(drawn)} of {params.draws} draws")
    masks = jackknife_groups(group, _MOST_JACKKNIFE, params.seed)
    table = np.array([_one(context.runner(spec.name, study.take(mask), values), count)[0] for mask in masks])
    sound = np.isfinite(table).all(axis=1)
    # Leaving a group out moves the estimate against its influence.
    influences = [table[sound, k].mean() - table[sound, k] for k in range(count)] if sound.sum() > 1 else None
    told = np.array(errors, dtype=float)
    return _Draws(
        np.array(drawn), None if scheme == "bayesian" else told, influences,
        [effect.std_error for effect in point.effects], _words(scheme, study, len(members), spec),
        None if influences is None else _largest(influences[0]), tuple(notices),
    )  # fmt: skip


def _sample(
    study: Study, weights: np.ndarray, members: list[np.ndarray], group: np.ndarray, scheme: str, panel: bool
) -> Study:
    if scheme == "bayesian":
        own = study.weights()
        combined = weights[group] * (np.ones(len(study)) if own is None else own)
        return study.with_column("bootstrap weight", combined, Role.WEIGHT)
    rows = np.concatenate([np.tile(members[g], int(weights[g])) for g in np.flatnonzero(weights)])
    return study.redrawn(rows) if panel or scheme == "cluster" else study.take(rows)


def _one(outcome: object, count: int) -> tuple[list[float], list[float]]:
    """Return estimates and standard errors of one draw, NaN where it was refused or answered something else."""
    if isinstance(outcome, EffectEstimate) and len(outcome.effects) == count:
        return (
            [effect.estimate for effect in outcome.effects],
            [np.nan if effect.std_error is None else effect.std_error for effect in outcome.effects],
        )
    if isinstance(outcome, Failure):
        raise RuntimeError(outcome.traceback)
    return [np.nan] * count, [np.nan] * count


def _answer(
    study: Study, params: BootstrapParams, spec: EstimatorSpec, point: EffectEstimate, found: _Draws
) -> EffectEstimate | Refusal:
    sound = np.isfinite(found.values).all(axis=1)
    many, failed = len(sound), int((~sound).sum())
    if failed > _FAILED * many or sound.sum() < 2:
        return _refuse_failed(spec, failed, many)
    drawn = []
    for k, effect in enumerate(point.effects):
        errors = None if found.errors is None else found.errors[sound, k]
        influence = None if found.influences is None else found.influences[k]
        drawn.append(DrawnEffect(effect.estimate, found.values[sound, k], found.point_errors[k], errors, influence))
    if params.interval not in drawn[0].kinds():
        return SPEC.refuse(
            "no_standard_error",
            f"the {params.interval} interval needs a standard error in every draw, which {spec.name} does not give",
            "choose interval: bca or percentile",
        )
    effects = [_effect(params, effect, own) for effect, own in zip(point.effects, drawn, strict=True)]
    notices = [*point.notices, *found.notices]
    if failed:
        notices.append(f"{failed} of {many} resampled data sets could not be estimated and were left out")
    answer = SPEC.estimate(
        study, effects,
        inference=f"{params.interval} interval, {found.words}, {len(drawn[0].draws)} draws of {spec.name}",
        diagnostics=_diagnostics(study, drawn[0], failed / many, found.largest), tables=_tables(params, point, drawn),
        notices=notices, used=point.sample.used, dropped=point.sample.dropped,
        effective_size=point.sample.effective_size,
    )  # fmt: skip
    # Drawing anew frees an answer of none of what the resampled estimator assumes.
    return replace(answer, assumptions=(*point.assumptions, *answer.assumptions))


def _refuse_failed(spec: EstimatorSpec, failed: int, many: int) -> Refusal:
    return SPEC.refuse(
        "bootstrap_failed",
        f"{failed} of {many} resampled data sets could not be estimated by {spec.name}",
        "use scheme: bayesian where the estimator takes weights, or deliver more rows of the smallest group",
    )


def _effect(params: BootstrapParams, effect: Effect, drawn: DrawnEffect) -> Effect:
    ends = sorted(drawn.interval(params.interval, params.level))
    return replace(
        effect,
        std_error=drawn.spread if drawn.spread > 1e-13 * abs(effect.estimate) else None,
        interval=Interval(ends[0], ends[1], params.level),
        p_value=drawn.p_value(params.interval, effect.null),
        # The two agree up to the resolution of the draws, so they are not held against each other.
        interval_source=f"{params.interval} of bootstrap draws",
        p_source=f"{params.interval} of bootstrap draws, inverted",
    )


def _diagnostics(study: Study, drawn: DrawnEffect, failed: float, largest: float | None) -> list[Diagnostic]:
    spread = drawn.spread
    bias = abs(drawn.draws.mean() - drawn.estimate) / spread if spread > 0 else None
    words = f"skewness {drawn.skewness:.2f}, excess kurtosis {drawn.kurtosis:.2f}"
    return [
        SPEC.judge(study, "bootstrap_bias", bias, "mean of the draws against the estimate"),
        SPEC.judge(study, "draws_skewness", abs(drawn.skewness), words),
        SPEC.judge(study, "largest_influence", largest),
        SPEC.judge(study, "failed_draws", failed),
    ]


def _tables(params: BootstrapParams, point: EffectEstimate, drawn: list[DrawnEffect]) -> dict[str, pd.DataFrame]:
    draws, bins, intervals = [], [], []
    for effect, own in zip(point.effects, drawn, strict=True):
        place = ", ".join(map(str, effect.at.values()))
        label = f"{effect.estimand}" + (f" [{place}]" if place else "")
        draws.append(pd.DataFrame({"effect": label, "draw": np.arange(len(own.draws)), "estimate": own.draws}))
        bins.append(histogram(own.draws).assign(effect=label))
        for kind in own.kinds():
            low, high = sorted(own.interval(kind, params.level))
            chosen = kind == params.interval
            intervals.append({"effect": label, "kind": kind, "low": low, "high": high, "chosen": chosen})
    return {
        "draws": pd.concat(draws, ignore_index=True),
        "histogram": pd.concat(bins, ignore_index=True),
        "intervals": pd.DataFrame(intervals),
    }


SPEC = EstimatorSpec(
    name="bootstrap",
    title="Bootstrap",
    family="resampling",
    estimands=(Estimand.ATE, Estimand.ATT),
    run=run,
    accepts=frozenset(Role) - {Role.EVENT, Role.OFFSET, Role.PAIR},
    treatment=(TreatmentKind.BINARY, TreatmentKind.CATEGORICAL, TreatmentKind.CONTINUOUS, TreatmentKind.REPEATED),
    aliases=("resampling", "bca", "bayesian_bootstrap"),
    invariances=("row_order", "affine_outcome", "relabelled_arms"),
    assumptions=("resampling",),
    references=(
        "Efron 1987, doi:10.1080/01621459.1987.10478410",
        "Davison & Hinkley 1997, doi:10.1017/CBO9780511802843",
        "Rubin 1981, doi:10.1214/aos/1176345338",
        "Cameron, Gelbach & Miller 2008, doi:10.1162/rest.90.3.414",
    ),
    diagnostics=("bootstrap_bias", "draws_skewness", "largest_influence", "failed_draws"),
    tables=("draws", "histogram", "intervals"),
    truths=(
        "randomised_trial",
        "confounded_linear",
        "weighted_sample",
        "clustered_trial",
        "three_arms",
        "null_effect",
        "skewed_outcome",
    ),
    breaks=("heavy_tails",),
    applicable=lambda study: (True, "draws the distribution of another estimator, whose answer it repeats", 0.1),
    params=BootstrapParams,
    question="How would an estimate vary if the data were drawn anew, without assuming that it is normal?",
    formula=r"\hat\theta^{*}_b = \hat\theta(w^{*}_b),\quad w^{*}_b \sim \mathrm{Multinomial}(n, 1/n);\qquad "
    r"\alpha_{1,2} = \Phi\!\left(z_0 + \frac{z_0 + z_{\alpha}}{1 - a(z_0 + z_{\alpha})}\right)",
    reading="The estimate is that of the estimator named in `inference`; what is new are its interval and the draws "
    "behind it. Where outcomes are skewed, read BCa or studentised intervals, which are not symmetric. It cures "
    "neither confounding nor too few clusters, and it fails where a few rows decide it (`largest_influence`).",
    example=Example(
        "data/policy/2025-01/lalonde_nsw.csv",
        {
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
        {"of": "regression_adjustment", "interval": "studentised"},
    ),
)
