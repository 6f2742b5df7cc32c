"""Dose-response: the mean outcome had every unit received a given dose, what another dose changes, and the best dose.

The doubly robust method regresses a pseudo-outcome on the dose and needs either the dose or the outcome given
covariates to be modelled well. The generalised propensity score (GPS) of Hirano & Imbens rests on both of its models.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.nuisance.models import groups_of
from cqox_assets.numerics.dose import BestDose, DoseData, DoseError, choose_scale
from cqox_assets.numerics.dose_fit import DoseFit, KernelSettings, doubly_robust_fit, gps_fit
from cqox_assets.numerics.dose_report import DoseReport
from cqox_assets.numerics.dose_support import commonest, dose_correlations
from cqox_assets.numerics.linear import dropped_names
from cqox_assets.numerics.sample import check_clusters, collinear_notice
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_FEWEST_DOSES = 5
_MASS = 0.02
_LARGE_MASS = 0.1
_ENDS = (0.05, 0.95)
_TAILS = (0.01, 0.99)
_HALF = 0.5
_ENOUGH_ROWS = 100


@dataclass(frozen=True)
class DoseResponseParams(CommonParams):
    """Parameters of the dose-response curve.

    Parameters
    ----------
    method : str
        `doubly_robust`: cross-fitted pseudo-outcomes and local regression. `gps`: normal dose model and an outcome
        model quadratic in dose and score.
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
        covariates and dose with products; `stack` and `boosting` add boosted trees of the covariates.
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
        `generalised_propensity`; `gps_model` with the GPS. Refused if doses are few, asked for beyond the observed
        range, or determined by the covariates.

    Raises
    ------
    CatalogError
        If a parameter is out of range.

    Notes
    -----
    Doubly robust: with u the dose on its working scale and l the covariates, the pseudo-outcome
    p(u)/p(u|l) (y - mu(l,u)) + E[mu(l',u)] has the curve as its regression on u if p(u|l) or mu is right. Mean,
    variance and residual density of the dose, and mu, are cross-fitted; a local polynomial gives the curve. The slope
    is the doubly robust average of dmu/ddose over the units' own doses. GPS: see `numerics.dose_gps`; its slope is that
    of the curve, averaged over the doses of the grid.

    References
    ----------
    Kennedy et al. (2017, doi:10.1111/rssb.12212); Hirano & Imbens (2004, doi:10.1002/0470090456.ch7).
    """
    name = study.name(Role.TREATMENT)
    part, notices = _without_zeros(study, study.column(Role.TREATMENT), params.scale)
    dose = part.column(Role.TREATMENT)
    levels = len(np.unique(dose if part.weights() is None else dose[part.column(Role.WEIGHT) > 0]))
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
    sign = _direction(part, params)
    if SPEC.estimand(params) == Estimand.OPTIMAL_DOSE and not sign:
        return SPEC.refuse(
            "missing_direction",
            "whether a higher or a lower outcome is better is not declared, so no dose is the best",
            "state direction: higher_is_better or lower_is_better in study.yaml, or set best: highest or lowest",
        )
    return _report(part, params, data, places, notices, len(study) - len(part))


def _direction(study: Study, params: DoseResponseParams) -> float:
    """Return 1 if a higher outcome is better, -1 if a lower one is, 0 if nobody says."""
    asked = {"highest": 1.0, "lowest": -1.0}.get(params.best, 0.0)
    stated = {"higher_is_better": 1.0, "lower_is_better": -1.0}.get(study.declaration.direction or "", 0.0)
    return asked or stated


def _without_zeros(study: Study, dose: np.ndarray, scale: str) -> tuple[Study, list[str]]:
    """Leave out rows of dose zero where they are a group of their own among positive doses."""
    zero = dose == 0
    share = zero.mean()
    if scale == "level" or share < _MASS or zero.all() or dose.min() < 0:
        return study, []
    name = study.label(study.name(Role.TREATMENT))
    return study.take(~zero), [
        f"{int(zero.sum())} rows without any dose ('{name}' is 0) were left out: they are a group of their own and no "
        "point of the curve; scale: level keeps them"
    ]


def _places(study: Study, params: DoseResponseParams, data: DoseData) -> _Places:
    known = data.dose if data.weight is None else data.dose[data.weight > 0]
    low, high = np.quantile(known, _ENDS)
    if low == high:
        low, high = known.min(), known.max()
    ends = data.scale.place(np.array([low, high]))
    grid = data.scale.dose(np.linspace(float(ends[0]), float(ends[1]), params.points))
    grid = np.clip(grid, low, high)
    declared = study.declaration.contrast
    if params.contrast:
        pairs = [(params.contrast[0], params.contrast[1])]
    elif declared.reference is not None and declared.compared:
        stated = [_number(item) for item in (declared.reference, *declared.compared)]
        pairs = [(stated[0], item) for item in stated[1:]]
    else:
        quarter = np.quantile(known, [0.25, 0.75])
        apart = quarter if quarter[0] < quarter[1] else np.array([grid[0], grid[-1]])
        pairs = [(float(apart[0]), float(apart[1]))]
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
    study: Study, params: DoseResponseParams, data: DoseData, places: _Places, notices: list[str], dropped: int
) -> EffectEstimate:
    fit = _fit(data, params, places)
    report = DoseReport(data, fit, study.name(Role.TREATMENT), params.level, params.draws, params.seed)
    best, curve, sign = report.best(places.grid), report.curve_table(), _direction(study, params)
    effects = [report.slope(), *report.contrasts(places.pairs), *report.levels(places.listed)]
    chosen = best["highest" if sign > 0 else "lowest"] if sign else None
    if chosen is not None:
        effects.append(report.optimum(chosen))
    wanted = SPEC.estimand(params)
    effects.sort(key=lambda effect: effect.estimand != wanted)
    balance, found = _diagnostics(study, data, fit, curve)
    units = {"row": np.arange(len(study)), "dose": data.dose, "density": fit.density, "ratio": fit.ratio}
    tables = {
        "curve": curve,
        "optimal_dose": report.optimum_table(best),
        "dose_balance": balance,
        "generalised_propensity": pd.DataFrame(units),
    }
    if fit.gps is not None:
        tables["gps_model"] = report.gps_table()
        notices += collinear_notice(dropped_names(fit.gps[0].fit, ["const", *study.names(Role.COVARIATES)]))
    return SPEC.estimate(
        study,
        effects,
        inference=_words(params, data),
        diagnostics=found,
        tables=tables,
        notices=[*notices, *_notices(study, params, data, places, fit), *_warnings(curve, chosen)],
        dropped={"dose is zero": dropped} if dropped else None,
    )


def _words(params: DoseResponseParams, data: DoseData) -> str:
    if params.method == "gps":
        words = "stacked estimating equations of dose model, outcome model and curve"
    else:
        how = "robust bias-corrected local regression" if params.bias_correction else "local linear regression"
        words = f"influence functions: doubly robust score (slope), {how} of the pseudo-outcome (curve)"
    if params.repeats > 1 and params.method != "gps":
        words += f", median of {params.repeats} cross-fittings"
    return words + (", clustered" if data.cluster is not None else "")


def _diagnostics(
    study: Study, data: DoseData, fit: DoseFit, curve: pd.DataFrame
) -> tuple[pd.DataFrame, list[Diagnostic]]:
    before = np.abs(dose_correlations(data.x, data.place, data.sampling))
    after = np.abs(dose_correlations(data.x, data.place, data.sampling * fit.ratio))
    labels = [study.label(name) for name in study.names(Role.COVARIATES)]
    balance = pd.DataFrame({"covariate": labels, "before": before, "after": after})
    worst, name = int(after.argmax()), study.label(study.name(Role.TREATMENT))
    thin = curve.iloc[int(curve["effective_rows"].to_numpy().argmin())]
    middle = np.average(data.place, weights=data.sampling)
    total = float(np.average((data.place - middle) ** 2, weights=data.sampling))
    left = float(np.average((data.place - fit.mean) ** 2, weights=data.sampling)) / total
    span = f"over the curve from {curve['dose'].min():g} to {curve['dose'].max():g} of '{name}'"
    values = {
        "dose_balance": (float(after[worst]), f"the largest is {labels[worst]} at {after[worst]:.3f}"),
        "dose_overlap": (1 - float(curve["extrapolated"].mean()), span),
        "rows_near_dose": (float(thin["effective_rows"]), f"near dose {thin['dose']:g} of '{name}'"),
        "treatment_variation": (left, f"of the variance of '{name}' is left by the covariates"),
    }
    return balance, [SPEC.judge(study, key, value, detail) for key, (value, detail) in values.items()]


def _notices(study: Study, params: DoseResponseParams, data: DoseData, places: _Places, fit: DoseFit) -> list[str]:
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
    low, high = np.quantile(data.dose, _TAILS)
    far = [dose for dose in (*places.listed, *np.ravel(places.pairs)) if not low <= dose <= high]
    if far:
        listed = ", ".join(f"{dose:g}" for dose in dict.fromkeys(far))
        notices.append(f"dose {listed} lies among the most extreme 2% of doses; the others are {low:g} to {high:g}")
    return notices


def _warnings(curve: pd.DataFrame, best: BestDose | None) -> list[str]:
    notices = []
    bold = curve.loc[curve["extrapolated"] > _HALF, "dose"]
    if len(bold):
        listed = ", ".join(f"{dose:g}" for dose in bold.iloc[:5]) + (", ..." if len(bold) > 5 else "")
        notices.append(f"at dose {listed} more than half of the units never receive anything like it: extrapolation")
    if best is not None and best.at_edge:
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
        if len(study) >= _ENOUGH_ROWS
        else (True, f"the dose is continuous, but {len(study)} rows say little about a curve", 0.3)
    ),
    params=DoseResponseParams,
    question="How does the mean outcome change with the dose, and which dose is best?",
    formula=(
        r"\theta(t)=E[Y(t)]=E\left[\left.\frac{p(t)}{p(t\mid X)}\{Y-\mu(X,t)\}+\int\mu(x,t)\,dP(x)\,\right|\,T=t\right]"
    ),
    reading=(
        "Read the curve where its band is narrow and few units are extrapolated; its level is the mean outcome had "
        "every unit received that dose. The slope is the average effect of one more unit at the doses that units have. "
        "Do not trust the curve where dose_overlap or rows_near_dose warn, or where a hidden cause moves both dose and "
        "outcome."
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
        "The claim is about the default method. With method: gps the bias does not vanish where its parametric models "
        "are wrong; its standard errors count the estimated score. The interval of the optimal dose is a percentile "
        "interval of the redrawn curve."
    ),
    coverage_rows=2000,
)  # fmt: skip
