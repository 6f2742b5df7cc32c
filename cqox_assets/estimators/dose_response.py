"""Dose-response: the mean outcome had every unit received a given dose, what another dose changes, and the best dose.

The doubly robust method regresses a pseudo-outcome on the dose and needs either the dose or the outcome given covariates
to be modelled well. The generalised propensity score (GPS) of Hirano & Imbens rests on both of its models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.nuisance.models import groups_of
from cqox_assets.numerics.dose import (
    BestDose,
    DoseData,
    DoseError,
    band_quantile,
    best_dose,
    choose_scale,
)
from cqox_assets.numerics.dose_fit import DoseFit, KernelSettings, doubly_robust_fit, gps_fit
from cqox_assets.numerics.dose_gps import TERMS
from cqox_assets.numerics.dose_support import commonest, dose_correlations, effective_rows, extrapolated_share
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.linear import dropped_names
from cqox_assets.numerics.sample import check_clusters, collinear_notice
from cqox_assets.result import Effect, EffectEstimate, Estimand, Interval, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_FEWEST_DOSES = 5
_MASS = 0.02
_LARGE_MASS = 0.1
_ENDS = (0.05, 0.95)
_TAILS = (0.01, 0.99)
_HALF = 0.5


@dataclass(frozen=True)
class DoseResponseParams(CommonParams):
    """Parameters of the dose-response curve.

    Parameters
    ----------
    method : str
        `doubly_robust`: cross-fitted pseudo-outcomes and local regression. `gps`: normal dose model and an outcome model
        quadratic in dose and score.
    scale : str
        Scale on which the dose is modelled: `log`, `level`, or `auto`, the less skewed of the two.
    doses : tuple of float
        Doses, in their units, whose mean outcome is listed as an effect of its own; within the observed range.
    contrast : tuple of float
        Two doses (reference, compared) whose mean outcomes are compared; by default those of `contrast` in study.yaml,
        else the quartiles.
    points : int
        Doses of the curve, equally spaced on the working scale from the 5th to the 95th percentile; at least 5.
    bandwidth : float, optional
        Half-width of the local regression, in units of the dose (of log dose on the log scale); by default as
        `bandwidth_rule` says.
    bandwidth_rule : str
        `plug_in` (rule of thumb) or `cross_validation` (leave one out).
    bias_correction : bool
        Take off the leading bias of the local line, so that intervals are about the curve itself; False leaves the
        local line, whose intervals are about its smoothed version.
    density : str
        Of the dose's residual in the doubly robust method: `kernel` or `normal`.
    ratio_limit : float
        Largest ratio of marginal to conditional dose density, in multiples of its mean; larger ones are cut.
    gps_variance : str
        Residual variance of the dose model of `gps`: `rss_over_n` or `rss_over_n_minus_k`.
    best : str
        Which outcome the best dose has: `highest`, `lowest`, or `auto`, as study.yaml declares under direction.
    nuisance : str
        Learner of the mean dose given covariates. The outcome surface is linear with `linear` and otherwise a spline in
        covariates and dose with products.
    """

    method: Literal["doubly_robust", "gps"] = "doubly_robust"
    scale: Literal["auto", "log", "level"] = "auto"
    doses: tuple[float, ...] = ()
    contrast: tuple[float, ...] = ()
    points: int = 25
    bandwidth: float | None = None
    bandwidth_rule: Literal["plug_in", "cross_validation"] = "plug_in"
    bias_correction: bool = True
    density: Literal["kernel", "normal"] = "kernel"
    ratio_limit: float = 20.0
    gps_variance: Literal["rss_over_n", "rss_over_n_minus_k"] = "rss_over_n"
    best: Literal["auto", "highest", "lowest"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("doses", "contrast"):
            values = np.asarray(getattr(self, name), dtype=float).reshape(-1)
            if not np.isfinite(values).all():
                raise CatalogError(f"parameter '{name}' is {getattr(self, name)}; it must hold finite doses")
            object.__setattr__(self, name, tuple(values.tolist()))
        checks = {
            "contrast": (len(self.contrast) in (0, 2) and len(set(self.contrast)) != 1, "two different doses"),
            "points": (5 <= self.points <= 500, "between 5 and 500"),
            "bandwidth": (self.bandwidth is None or self.bandwidth > 0, "positive"),
            "ratio_limit": (self.ratio_limit > 1, "above 1"),
            "trim": (
                self.trim is None,
                "left out: doses have no propensity to trim on, ratio_limit bounds the weights",
            ),
        }
        for name, (holds, wanted) in checks.items():
            if not holds:
                raise CatalogError(f"parameter '{name}' is {getattr(self, name)}; it must be {wanted}")


@dataclass(frozen=True)
class _Places:
    """Doses at which the curve is asked for: its grid, those listed by themselves, and the pairs that are compared."""

    grid: np.ndarray
    listed: tuple[float, ...]
    pairs: tuple[tuple[float, float], ...]

    @property
    def all(self) -> np.ndarray:
        """Every dose once, ascending."""
        return np.unique(np.concatenate([self.grid, self.listed, np.ravel(self.pairs)]))


def run(study: Study, params: DoseResponseParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the dose-response curve.

    Parameters
    ----------
    study : Study
        Outcome, covariates and a continuous dose (role `dose`, else `treatment`); optional weight, cluster.
    params : DoseResponseParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Effects: slope (average change per unit of dose), dose_contrast, dose_response at the listed doses, and
        optimal_dose where a direction is declared. Tables `curve`, `optimal_dose`, `dose_balance` and
        `generalised_propensity`; `gps_model` with the GPS. Refused if doses are few, asked for beyond the observed range,
        or determined by the covariates.

    Raises
    ------
    CatalogError
        If a parameter is out of range.

    Notes
    -----
    Doubly robust: with u the dose on its working scale and l the covariates, the pseudo-outcome
    p(u)/p(u|l) (y - mu(l,u)) + E[mu(l',u)] has the curve as its regression on u if p(u|l) or mu is right; mean, variance
    and residual density of the dose and mu are cross-fitted, and a local polynomial gives the curve. The slope is the
    doubly robust average of dmu/ddose over the units' own doses. GPS: see `numerics.dose_gps`; its slope is the curve's,
    averaged over the doses of the grid.

    References
    ----------
    Kennedy et al. (2017, doi:10.1111/rssb.12212); Hirano & Imbens (2004, doi:10.1002/0470090456.ch7).
    """
    dose, name = study.column(Role.TREATMENT), study.name(Role.TREATMENT)
    part, notices = _without_zeros(study, dose, params.scale)
    dose = part.column(Role.TREATMENT)
    levels = len(np.unique(dose))
    if levels < _FEWEST_DOSES:
        raise DoseError(
            f"dose '{name}' has {levels} different values, a curve needs at least {_FEWEST_DOSES}; "
            "code it in arms and use an estimator that compares arms"
        )
    check_clusters(part.codes(Role.CLUSTER))
    scale = choose_scale(dose, params.scale, name)
    data = DoseData(
        part.matrix(), part.column(Role.OUTCOME), dose, scale.place(dose), scale, part.weights(), groups_of(part)
    )
    places = _places(part, params, data)
    outside = [value for value in places.all if not dose.min() <= value <= dose.max()]
    if outside:
        return SPEC.refuse(
            "dose_outside_support",
            f"dose {outside[0]:g} lies outside the observed doses of '{name}', {dose.min():g} to {dose.max():g}",
            "ask for doses within the observed range (parameters doses and contrast, or contrast in study.yaml)",
        )
    sign = {"highest": 1.0, "lowest": -1.0}.get(params.best, 0.0)
    sign = sign or {"higher_is_better": 1.0, "lower_is_better": -1.0}.get(part.declaration.direction or "", 0.0)
    if SPEC.estimand(params) == Estimand.OPTIMAL_DOSE and not sign:
        return SPEC.refuse(
            "missing_direction",
            "whether a higher or a lower outcome is better is not declared, so no dose is the best",
            "state direction: higher_is_better or lower_is_better in study.yaml, or set best: highest or lowest",
        )
    fit = _fit(data, params, places)
    return _report(part, study, params, data, places, fit, sign, notices)


def _without_zeros(study: Study, dose: np.ndarray, scale: str) -> tuple[Study, list[str]]:
    """Leave out rows of dose zero where they are a group of their own among positive doses."""
    zero = dose == 0
    share = zero.mean()
    if scale == "level" or share < _MASS or zero.all() or dose.min() < 0:
        return study, []
    name = study.label(study.name(Role.TREATMENT))
    return study.take(~zero), [
        f"{int(zero.sum())} rows without any dose ('{name}' is 0) were left out: they are a group of their own and no point "
        "of the curve; scale: level keeps them"
    ]


def _places(study: Study, params: DoseResponseParams, data: DoseData) -> _Places:
    known = data.dose if data.weight is None else data.dose[data.weight > 0]
    low, high = np.quantile(known, _ENDS)
    if low == high:
        low, high = known.min(), known.max()
    grid = data.scale.dose(np.linspace(*data.scale.place(np.array([low, high])), params.points))
    grid = np.clip(grid, low, high)
    declared = study.declaration.contrast
    if params.contrast:
        pairs = [(params.contrast[0], params.contrast[1])]
    elif declared.reference is not None and declared.compared:
        stated = [_number(item) for item in (declared.reference, *declared.compared)]
        pairs = [(stated[0], item) for item in stated[1:]]
    else:
        quarter = np.quantile(known, [0.25, 0.75])
        ends = quarter if quarter[0] < quarter[1] else np.array([grid[0], grid[-1]])
        pairs = [(float(ends[0]), float(ends[1]))]
    listed = params.doses
    if not listed and SPEC.estimand(params) == Estimand.DOSE_RESPONSE:
        listed = tuple(dict.fromkeys(np.ravel(pairs).tolist()))
    return _Places(grid, listed, tuple(pairs))


def _number(stated: Any) -> float:
    try:
        return float(stated)
    except ValueError as error:
        raise DoseError(
            f"contrast in study.yaml names '{stated}', which is no dose; state two doses, such as "
            "contrast: {reference: 10, compared: 20}",
            code="bad_declaration",
        ) from error


def _fit(data: DoseData, params: DoseResponseParams, places: _Places) -> DoseFit:
    if params.method == "gps":
        return gps_fit(data, places.all, places.grid, params.gps_variance, params.ratio_limit)
    settings = KernelSettings(
        learner=params.nuisance,
        folds=params.folds,
        seeds=tuple(params.seed + k for k in range(params.repeats)),
        density=params.density,
        ratio_limit=params.ratio_limit,
        bandwidth=None if params.bandwidth is None else params.bandwidth / data.scale.unit,
        rule=params.bandwidth_rule,
        order=2 if params.bias_correction else 1,
    )
    return doubly_robust_fit(data, places.all, settings)


def _report(
    part: Study,
    study: Study,
    params: DoseResponseParams,
    data: DoseData,
    places: _Places,
    fit: DoseFit,
    sign: float,
    notices: list[str],
) -> EffectEstimate:
    covariance = data.covariance(fit.curve.influence)
    covariance[np.diag_indices_from(covariance)] += fit.curve.spread
    inside = np.isin(fit.curve.doses, places.grid)
    doses, values = fit.curve.doses[inside], fit.curve.estimate[inside]
    best = {
        word: best_dose(doses, values, covariance[np.ix_(inside, inside)], way, params.draws, params.seed)
        for word, way in (("highest", 1.0), ("lowest", -1.0))
    }
    curve = _curve_table(data, fit, covariance, params)
    effects = _effects(part, params, data, places, fit)
    if sign:
        effects.append(_optimum(part, params, best["highest" if sign > 0 else "lowest"]))
    wanted = SPEC.estimand(params)
    effects.sort(key=lambda effect: effect.estimand != wanted)
    balance, found = _diagnostics(part, data, fit, curve)
    tables = {
        "curve": curve,
        "optimal_dose": _optimum_table(best, params.level),
        "dose_balance": balance,
        "generalised_propensity": pd.DataFrame(
            {"row": _rows_of(study, part), "dose": data.dose, "density": fit.density, "ratio": fit.ratio}
        ),
    }
    if fit.gps is not None:
        tables["gps_model"] = _gps_table(fit, data)
        notices += collinear_notice(dropped_names(fit.gps[0].fit, ["const", *part.names(Role.COVARIATES)]))
    dropped = len(study) - len(part)
    return SPEC.estimate(
        part, effects, inference=_words(params, data), diagnostics=found, tables=tables,
        notices=[*notices, *_notices(part, params, data, places, fit, curve, best, sign)],
        dropped={"dose is zero": dropped} if dropped else None,
    )  # fmt: skip


def _rows_of(study: Study, part: Study) -> np.ndarray:
    if len(study) == len(part):
        return np.arange(len(study))
    return np.flatnonzero(study.column(Role.TREATMENT) != 0)


def _words(params: DoseResponseParams, data: DoseData) -> str:
    if params.method == "gps":
        words = "stacked estimating equations of dose model, outcome model and curve"
    else:
        how = "robust bias-corrected local regression" if params.bias_correction else "local linear regression"
        words = f"influence functions: doubly robust score (slope), {how} of the pseudo-outcome (curve)"
    if params.repeats > 1 and params.method != "gps":
        words += f", median of {params.repeats} cross-fittings"
    return words + (", clustered" if data.cluster is not None else "")


def _effects(study: Study, params: DoseResponseParams, data: DoseData, places: _Places, fit: DoseFit) -> list[Effect]:
    name, curve = study.name(Role.TREATMENT), fit.curve
    facts: dict[str, Any] = {"level": params.level, "df": None if data.cluster is None else float(data.cluster.max())}
    steep = float(np.hypot(data.std_error(curve.slope_influence), np.sqrt(curve.slope_spread)))
    effects = [wald(curve.slope, steep, estimand=Estimand.SLOPE, contrast=f"one unit of {name}", **facts)]
    for low, high in places.pairs:
        gap, influence, spread = curve.between(low, high)
        error = float(np.hypot(data.std_error(influence), np.sqrt(spread)))
        effects.append(
            wald(
                gap,
                error,
                estimand=Estimand.DOSE_CONTRAST,
                contrast=f"{high:g} - {low:g} of {name}",
                at={"dose": high} if len(places.pairs) > 1 else {},
                **facts,
            )  # fmt: skip
        )
    for dose in places.listed:
        at = int(np.flatnonzero(curve.doses == dose)[0])
        error = float(np.hypot(data.std_error(curve.influence[:, at]), np.sqrt(curve.spread[at])))
        level = wald(
            float(curve.estimate[at]), error, estimand=Estimand.DOSE_RESPONSE, contrast=f"mean outcome at {name}",
            at={"dose": dose}, scale="level", **facts,
        )  # fmt: skip
        effects.append(replace(level, p_value=None))  # that a mean is zero is nobody's question
    return effects


def _optimum(study: Study, params: DoseResponseParams, best: BestDose) -> Effect:
    low, high, spread = _ends_of(best, params.level)
    return Effect(
        Estimand.OPTIMAL_DOSE, f"best dose of {study.name(Role.TREATMENT)}", best.dose, spread or None,
        Interval(low, high, params.level), scale="dose", interval_source="percentile of multiplier draws",
    )  # fmt: skip


def _ends_of(best: BestDose, level: float) -> tuple[float, float, float]:
    low, high = np.quantile(best.draws, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high), float(best.draws.std(ddof=1))


def _optimum_table(best: Mapping[str, BestDose], level: float) -> pd.DataFrame:
    rows = []
    for word, item in best.items():
        low, high, spread = _ends_of(item, level)
        rows.append(
            {"outcome": word, "dose": item.dose, "std_error": spread, "low": low, "high": high,
             "mean_outcome": item.outcome, "at_edge": item.at_edge}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _curve_table(data: DoseData, fit: DoseFit, covariance: np.ndarray, params: DoseResponseParams) -> pd.DataFrame:
    """Return one row per dose: estimate, pointwise interval, simultaneous band, and what it rests on."""
    curve, error = fit.curve, np.sqrt(np.diag(covariance))
    df = None if data.cluster is None else float(data.cluster.max())
    pointwise = _quantile(params.level, df)
    band = max(band_quantile(covariance, params.level, params.draws, params.seed), pointwise)
    places = data.scale.place(curve.doses)
    weight = data.sampling * fit.ratio
    return pd.DataFrame(
        {
            "dose": curve.doses,
            "estimate": curve.estimate,
            "std_error": error,
            "low": curve.estimate - pointwise * error,
            "high": curve.estimate + pointwise * error,
            "band_low": curve.estimate - band * error,
            "band_high": curve.estimate + band * error,
            "effective_rows": effective_rows(places, data.place, weight, fit.bandwidth),
            "extrapolated": extrapolated_share(places, fit.mean, fit.deviation, fit.residual, data.sampling),
        }
    )


def _quantile(level: float, df: float | None) -> float:
    from scipy.special import ndtri, stdtrit

    upper = 0.5 + level / 2
    return float(ndtri(upper) if df is None else stdtrit(df, upper))


def _gps_table(fit: DoseFit, data: DoseData) -> pd.DataFrame:
    assert fit.gps is not None
    model, found = fit.gps
    rows = [
        {"term": term, "estimate": float(value), "std_error": float(error) if error > 0 else None}
        for term, value, error in zip(TERMS, found.coef, found.std_error, strict=True)
    ]
    error = float(np.sqrt(np.mean(model.influence[:, -1] ** 2) / len(data.y)))
    unit = data.scale.unit**2
    rows.append({"term": "gps_variance", "estimate": model.variance * unit, "std_error": error * unit})
    return pd.DataFrame(rows)


def _diagnostics(
    study: Study, data: DoseData, fit: DoseFit, curve: pd.DataFrame
) -> tuple[pd.DataFrame, list[Diagnostic]]:
    before = np.abs(dose_correlations(data.x, data.place, data.sampling))
    after = np.abs(dose_correlations(data.x, data.place, data.sampling * fit.ratio))
    labels = [study.label(name) for name in study.names(Role.COVARIATES)]
    balance = pd.DataFrame({"covariate": labels, "before": before, "after": after})
    worst = int(after.argmax())
    thin = curve.iloc[int(curve["effective_rows"].to_numpy().argmin())]
    supported = 1 - float(curve["extrapolated"].mean())
    middle = np.average(data.place, weights=data.sampling)
    total = float(np.average((data.place - middle) ** 2, weights=data.sampling))
    left = float(np.average((data.place - fit.mean) ** 2, weights=data.sampling)) / total
    name = study.label(study.name(Role.TREATMENT))
    return balance, [
        SPEC.judge(study, "dose_balance", float(after[worst]), f"the largest is {labels[worst]} at {after[worst]:.3f}"),
        SPEC.judge(study, "dose_overlap", supported, f"over the curve from {curve['dose'].min():g} to "
                   f"{curve['dose'].max():g} of '{name}'"),
        SPEC.judge(study, "rows_near_dose", float(thin["effective_rows"]), f"near dose {thin['dose']:g} of '{name}'"),
        SPEC.judge(study, "treatment_variation", left, f"of the variance of '{name}' is left by the covariates"),
    ]  # fmt: skip


def _notices(
    study: Study,
    params: DoseResponseParams,
    data: DoseData,
    places: _Places,
    fit: DoseFit,
    curve: pd.DataFrame,
    best: Mapping[str, BestDose],
    sign: float,
) -> list[str]:
    name = study.label(study.name(Role.TREATMENT))
    notices = [f"the dose '{name}' is modelled on the {data.scale.name} scale"]
    if params.method == "gps":
        notices.append(
            "the GPS curve rests on the dose model and on an outcome model quadratic in dose and score; where they are "
            "wrong its bias does not shrink with more rows"
        )
    value, share = commonest(data.dose)
    if share > _LARGE_MASS:
        notices.append(f"{share:.0%} of the rows have the dose {value:g}, so doses are not spread as a density assumes")
    if fit.cut:
        notices.append(f"the density ratio of {fit.cut} rows was cut at {params.ratio_limit:g} times its mean")
    tails = np.quantile(data.dose, _TAILS)
    far = [dose for dose in (*places.listed, *np.ravel(places.pairs)) if not tails[0] <= dose <= tails[1]]
    if far:
        listed = ", ".join(f"{dose:g}" for dose in dict.fromkeys(far))
        notices.append(
            f"dose {listed} lies among the most extreme 2% of doses ({tails[0]:g} to {tails[1]:g} hold the rest)"
        )
    bold = curve.loc[curve["extrapolated"] > _HALF, "dose"]
    if len(bold):
        listed = ", ".join(f"{dose:g}" for dose in bold.iloc[:5]) + (", ..." if len(bold) > 5 else "")
        notices.append(f"at dose {listed} more than half of the units never receive anything like it: extrapolation")
    if sign and best["highest" if sign > 0 else "lowest"].at_edge:
        notices.append("the best dose lies at the end of the curve, so doses beyond it may be better still")
    return notices


SPEC = EstimatorSpec(
    name="dose_response",
    title="Dose-response curve",
    family="dose",
    estimands=(Estimand.SLOPE, Estimand.DOSE_CONTRAST, Estimand.DOSE_RESPONSE, Estimand.OPTIMAL_DOSE),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.DOSE, Role.WEIGHT, Role.CLUSTER}),
    treatment=(TreatmentKind.CONTINUOUS,),
    aliases=("GPS", "hirano_imbens", "dose_response_gps"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "dose_positivity", "smooth_curve", "consistency", "no_interference"),
    references=(
        "Kennedy, Ma, McHugh & Small 2017, doi:10.1111/rssb.12212",
        "Hirano & Imbens 2004, doi:10.1002/0470090456.ch7",
        "Takatsu & Westling 2025, doi:10.48550/arXiv.2210.06448",
        "Chernozhukov, Newey & Singh 2022, doi:10.3982/ECTA18515",
    ),
    diagnostics=("dose_balance", "dose_overlap", "rows_near_dose", "treatment_variation"),
    tables=("curve", "optimal_dose", "dose_balance", "generalised_propensity"),
    truths=(
        "confounded_dose", "skewed_dose", "wavy_dose", "weighted_dose", "clustered_dose", "null_dose",
    ),
    breaks=("steered_dose",),
    oracle=("dose_response_gps",),
    applicable=lambda study: (
        (True, "the dose is continuous, so the whole curve can be asked for and not only a slope", 0.95)
        if study.has(Role.COVARIATES)
        else (False, "map covariates in study.yaml: roles: {covariates: [<column>, ...]}", 0.0)
    ),
    params=DoseResponseParams,
    question="How does the mean outcome change with the dose, and which dose is best?",
    formula=(
        r"\theta(t)=E[Y(t)]=E\left[\left.\frac{p(t)}{p(t\mid X)}\{Y-\mu(X,t)\}+\int\mu(x,t)\,dP(x)\,\right|\,T=t\right]"
    ),
    reading=(
        "Read the curve where its band is narrow and few units are extrapolated; its level is the mean outcome had every "
        "unit received that dose. The slope is the average effect of one more unit at the doses that units have. Do not "
        "trust the curve where dose_overlap or rows_near_dose warn, or where a hidden cause moves both dose and outcome."
    ),
    example=Example(
        data="tests/oracle/data/lottery.csv",
        roles={
            "outcome": "yearn_7", "dose": "yearlpr",
            "covariates": ["agew", "educ", "male", "workthen", "tixbot", "yearw", "xearn_1", "xearn_2", "xearn_3",
                           "xearn_4", "xearn_5", "xearn_6"],
        },
        params={"doses": (10.0, 50.0, 100.0), "contrast": (20.0, 50.0)},
    ),
    claim_note=(
        "The claim is about the default method. With method: gps the bias does not vanish where its parametric models are "
        "wrong; its standard errors count the estimated score. The interval of the optimal dose is a percentile interval "
        "of the redrawn curve."
    ),
    coverage_rows=2000,
)  # fmt: skip
