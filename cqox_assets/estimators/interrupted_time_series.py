"""Change of level and slope of one series when an intervention starts."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.time_series import SeriesError, SeriesFit, fit_series, seasonal_terms
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_LEAST = 4


@dataclass(frozen=True)
class InterruptedTimeSeriesParams(CommonParams):
    """Parameters of the segmented regression.

    Parameters
    ----------
    family : str
        `gaussian`, `poisson` or `quasi_poisson` (log link); `auto` is quasi-Poisson with an offset, else gaussian.
    slope_change : bool
        Whether the slope may change as well as the level.
    change_point : float, optional
        Time at which the change of level is read; the first treated period by default.
    intervention_time : float, optional
        First treated period where no treatment is mapped; study.yaml may state it instead.
    seasonality : str
        `none`, `harmonic` (sine and cosine pairs) or `dummies`.
    harmonics : int
        Pairs of `harmonic`.
    period : float
        Length of a season in units of time.
    se : str
        `ar1` (residuals carry over from one period to the next), `hac` (Newey-West), `hac_nk` (times n / (n - k)) or
        `model` (the family's own); `auto` is `ar1`, and `hac_nk` where `lags` are given.
    lags : int, optional
        Newey-West lags; floor(4 (n / 100)^(2/9)) by default.
    interval_form : str
        `normal`, or `t` with n - k degrees of freedom (for `ar1` fewer, the more carries over); `auto` is t for
        gaussian and for `ar1`, normal otherwise.
    """

    family: Literal["auto", "gaussian", "poisson", "quasi_poisson"] = "auto"
    slope_change: bool = True
    change_point: float | None = None
    intervention_time: float | None = None
    seasonality: Literal["none", "harmonic", "dummies"] = "none"
    harmonics: int = 2
    period: float = 12
    se: Literal["auto", "ar1", "model", "hac", "hac_nk"] = "auto"
    lags: int | None = None
    interval_form: Literal["auto", "normal", "t"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("harmonics", 1), ("period", 2), ("lags", 0)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise CatalogError(f"parameter '{name}' is {value}; it must be at least {low}")


@dataclass(frozen=True)
class _Series:
    """Rows in time order, the step and the moment of the change."""

    time: np.ndarray
    outcome: np.ndarray
    step: np.ndarray
    covariates: np.ndarray
    offset: np.ndarray | None
    starts: float


def run(study: Study, params: InterruptedTimeSeriesParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate how level and slope of a series change at the intervention.

    Parameters
    ----------
    study : Study
        Outcome and time of one series, one row per period; a treatment that switches on once, or a stated
        intervention time; optional covariates and offset (a logarithm).
    params : InterruptedTimeSeriesParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Change of level at the change point and of slope per unit of time; on the scale log_rate_ratio for counts.
        Tables: `coefficients`, `counterfactual` (observed, fitted and expected without the intervention), `impact`
        (events averted) and, for counts, `rate_ratios`. Refused if a period repeats, treatment does not switch on
        once, or fewer than four periods lie on one side.

    Notes
    -----
    g(E[y_t]) = b0 + b1 t + b2 step_t + b3 step_t (t - change point) + season_t + covariates (+ offset).

    References
    ----------
    Lopez Bernal, Cummins & Gasparrini (2017, doi:10.1093/ije/dyw098); Newey & West (1987, doi:10.2307/1913610).
    """
    series = _read(study, params)
    family = params.family
    if family == "auto":
        family = "quasi_poisson" if series.offset is not None else "gaussian"
    point = series.starts if params.change_point is None else params.change_point
    season, labels = seasonal_terms(series.time, params.seasonality, params.period, params.harmonics)
    slope = [series.step * (series.time - point)] if params.slope_change else []
    design = np.column_stack([np.ones(len(series.time)), series.time, series.step, *slope, season, series.covariates])
    names = ["const", "time", "step", *(["slope"] * len(slope)), *labels, *study.names(Role.COVARIATES)]
    fit = fit_series(design, series.outcome, counts=family != "gaussian", offset=series.offset)
    kept = [names[k] for k in fit.kept]
    lost = [name for k, name in enumerate(names) if k not in set(fit.kept.tolist())]
    needed = ["step", "slope"][: 1 + len(slope)]
    if set(needed) & set(lost):
        return SPEC.refuse(
            "collinear_treatment",
            "the change is a combination of trend, season and covariates",
            "leave out covariates that restate the intervention, or seasonal terms",
        )
    covariance, df = _covariance(fit, family, params)
    table = _terms(fit, kept, params, covariance, df)
    wanted = SPEC.estimand(params)
    if wanted == Estimand.SLOPE_CHANGE and not slope:
        raise CatalogError("parameter 'estimand' is 'slope_change', but 'slope_change' is false")
    terms = sorted(needed, key=lambda name: _ESTIMAND[name] != wanted)
    notices = [f"left out as combinations of other terms: {', '.join(lost)}"] if lost else []
    gaps = np.diff(series.time)
    if len(gaps) and gaps.max() > 1.5 * gaps.min():
        notices.append("periods are not evenly spaced; lags count rows, not time")
    statistic = fit.durbin_watson()
    return SPEC.estimate(
        _counted(study, series),
        [table[name] for name in terms],
        inference=_words(family, params, fit),
        diagnostics=[
            SPEC.judge(study, "durbin_watson", min(statistic, 4 - statistic), f"Durbin-Watson {statistic:.3f}")
        ],
        tables=_tables(series, fit, kept, table, covariance),
        notices=notices,
    )


_ESTIMAND = {"step": Estimand.LEVEL_CHANGE, "slope": Estimand.SLOPE_CHANGE}


def _read(study: Study, params: InterruptedTimeSeriesParams) -> _Series:
    time, outcome = study.column(Role.TIME), study.column(Role.OUTCOME)
    name = study.name(Role.TIME)
    if not np.isfinite(time).all():
        raise SeriesError(f"time column '{name}' has missing values; fill them or drop those rows")
    values, counts = np.unique(time, return_counts=True)
    if len(values) < len(time):
        raise SeriesError(
            f"period {values[counts > 1][0]:g} of '{name}' has {counts.max()} rows, so this is no single series; "
            "aggregate to one row per period",
            code="several_rows_per_period",
        )
    order = np.argsort(time)
    time, outcome = time[order], outcome[order]
    if len(outcome) and np.ptp(outcome) == 0:
        raise SeriesError(
            f"outcome '{study.name(Role.OUTCOME)}' is the same in every row; map an outcome that varies",
            code="constant_outcome",
        )
    step = _step(study, time, order, params)
    for side, word in ((0.0, "before"), (1.0, "after")):
        if (step == side).sum() < _LEAST:
            raise SeriesError(
                f"{int((step == side).sum())} periods lie {word} the intervention, at least {_LEAST} are needed; "
                "deliver a longer series",
                code="too_few_rows",
            )
    offset = study.column(Role.OFFSET)[order] if study.has(Role.OFFSET) else None
    return _Series(time, outcome, step, study.matrix()[order], offset, float(time[step == 1][0]))


def _step(study: Study, time: np.ndarray, order: np.ndarray, params: InterruptedTimeSeriesParams) -> np.ndarray:
    """Return 0 before and 1 from the intervention on."""
    starts = params.intervention_time
    if starts is None and not study.has(Role.TREATMENT) and study.declaration.intervention_time is not None:
        starts = float(study.declaration.intervention_time)
    if starts is not None:
        return (time >= starts) * 1.0
    if not study.has(Role.TREATMENT):
        raise SeriesError(
            "no column plays the role 'treatment' and no intervention_time is stated; "
            "state intervention_time in study.yaml or map treatment",
            code="missing_role",
        )
    if study.treatment_kind is not TreatmentKind.BINARY:
        raise SeriesError(
            f"the treatment is {study.treatment_kind}, an interruption has two states; code it as before and after",
            code="treatment_kind",
        )
    step = np.asarray(study.column(Role.TREATMENT)[order])
    if np.ptp(step) == 0:
        raise SeriesError(
            f"every row of '{study.name(Role.TREATMENT)}' has the same treatment: '{study.arms[int(step[0])]}'; "
            "map a treatment column that varies",
            code="one_arm_only",
        )
    if (np.diff(step) < 0).any():
        raise SeriesError(
            f"treatment '{study.name(Role.TREATMENT)}' does not switch on once and stay on "
            f"(it changes {int((np.diff(step) != 0).sum())} times); use another design, or state intervention_time",
            code="no_single_step",
        )
    return step


def _covariance(fit: SeriesFit, family: str, params: InterruptedTimeSeriesParams) -> tuple[np.ndarray, float | None]:
    """Return the covariance of the coefficients and the degrees of freedom of their intervals, None for normal."""
    kind, df = _kind(params), float(fit.df_residual)
    if kind == "ar1":
        covariance, df = fit.autoregressive()
    else:
        own = "poisson" if family == "poisson" else "scaled"
        covariance = fit.covariance(own if kind == "model" else kind, _lags(params, len(fit.outcome)))
    student = params.interval_form == "t" or (
        params.interval_form == "auto" and (family == "gaussian" or kind == "ar1")
    )
    return covariance, df if student else None


def _terms(
    fit: SeriesFit, names: list[str], params: InterruptedTimeSeriesParams, covariance: np.ndarray, df: float | None
) -> dict[str, Effect]:
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return {
        name: wald(
            float(fit.coef[k]), float(errors[k]), estimand=_ESTIMAND.get(name, Estimand.SLOPE),
            contrast="after - before" if name in _ESTIMAND else name, level=params.level,
            df=df, scale="log_rate_ratio" if fit.counts else "difference",
        )
        for k, name in enumerate(names)
    }  # fmt: skip


def _kind(params: InterruptedTimeSeriesParams) -> str:
    """Return the standard error that `auto` stands for."""
    if params.se != "auto":
        return params.se
    return "ar1" if params.lags is None else "hac_nk"


def _lags(params: InterruptedTimeSeriesParams, n: int) -> int:
    return int(4 * (n / 100) ** (2 / 9)) if params.lags is None else params.lags


def _words(family: str, params: InterruptedTimeSeriesParams, fit: SeriesFit) -> str:
    kind = _kind(params)
    if kind == "model":
        return f"{family} regression, its own standard errors"
    if kind == "ar1":
        return f"{family} regression, standard errors for residuals of which {fit.carry_over():.2f} carries over"
    return f"{family} regression, Newey-West standard errors with {_lags(params, len(fit.outcome))} lags"


def _tables(
    series: _Series, fit: SeriesFit, names: list[str], terms: dict[str, Effect], covariance: np.ndarray
) -> dict[str, pd.DataFrame]:
    rows = []
    for name, effect in terms.items():
        interval = effect.interval
        ends = (interval.low, interval.high) if interval else (None, None)
        rows.append((name, effect.estimate, effect.std_error, *ends, effect.p_value))
    coefficients = pd.DataFrame(rows, columns=["term", "estimate", "std_error", "low", "high", "p_value"])
    change = [k for k, name in enumerate(names) if name in _ESTIMAND]
    gone = fit.design[:, change] @ fit.coef[change]
    without = fit.mean / np.exp(gone) if fit.counts else fit.mean - gone
    old = fit.design.copy()
    old[:, change] = 0.0
    errors = [np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", x, covariance, x), 0.0)) for x in (fit.design, old)]
    scale = (fit.mean, without) if fit.counts else (1.0, 1.0)  # of counts the errors are those of the logarithm
    averted = float((without - fit.mean)[series.step == 1].sum())
    tables = {
        "coefficients": coefficients,
        "counterfactual": pd.DataFrame(
            {"time": series.time, "treated": series.step, "observed": series.outcome, "fitted": fit.mean,
             "without": without, "fitted_error": scale[0] * errors[0], "without_error": scale[1] * errors[1]}
        ),
        "impact": pd.DataFrame({"events_averted": [averted], "periods": [int(series.step.sum())]}),
    }  # fmt: skip
    if fit.counts:
        columns = {"rate_ratio": "estimate", "low": "low", "high": "high"}
        ratios = {name: np.exp(coefficients[source].astype(float)) for name, source in columns.items()}
        tables["rate_ratios"] = pd.DataFrame({"term": coefficients["term"], **ratios})
    return tables


def _counted(study: Study, series: _Series) -> Study:
    """Return a study whose arms are the periods before and after, for the counts in the sample."""
    frame = pd.DataFrame({"step": series.step})
    return Study(frame=frame, roles={Role.TREATMENT: ("step",)}, arms=("before", "after"), dropped=study.dropped)


def _applicable(study: Study) -> tuple[bool, str, float]:
    try:
        series = _read(study, InterruptedTimeSeriesParams())
    except CqoxError as error:
        return False, error.message, 0.0
    before, after = int((series.step == 0).sum()), int(series.step.sum())
    return True, f"one series with {before} periods before the intervention and {after} after it", 1.0


SPEC = EstimatorSpec(
    name="interrupted_time_series",
    title="Interrupted time series",
    family="time_series",
    estimands=(Estimand.LEVEL_CHANGE, Estimand.SLOPE_CHANGE),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TIME}),
    accepts=frozenset({Role.TREATMENT, Role.COVARIATES, Role.OFFSET}),
    treatment=(TreatmentKind.BINARY,),
    aliases=("ITS", "segmented_regression"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("stable_trend", "no_anticipation", "consistency"),
    references=(
        "Lopez Bernal, Cummins & Gasparrini 2017, doi:10.1093/ije/dyw098",
        "Newey & West 1987, doi:10.2307/1913610",
    ),
    diagnostics=("durbin_watson",),
    tables=("coefficients", "counterfactual", "impact"),
    truths=("interrupted_series", "null_series"),
    breaks=("wandering_series",),
    oracle=("its",),
    applicable=_applicable,
    params=InterruptedTimeSeriesParams,
    question="Did the level or the slope of a series change when the intervention started?",
    formula=r"g(E[y_t]) = \beta_0 + \beta_1 t + \beta_2\, 1[t \ge T] + \beta_3\, 1[t \ge T] (t - T) + s_t + x_t'\gamma",
    reading="The answer compares with the old trend going on, so anything else that happened at that time counts as "
    "the effect. Let seasons in where there are any; a Durbin-Watson statistic far from 2 says that the series "
    "wanders by itself. Short series tell little about slopes.",
    coverage_rows=240,
    example=Example(
        data="tests/oracle/data/sicily_its.csv",
        roles={"outcome": "aces", "treatment": "smokban", "time": "time"},
        params={"family": "quasi_poisson", "seasonality": "harmonic"},
    ),
)
