"""Regression discontinuity: the jump of the outcome where a running variable crosses the cutoff of the treatment."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.density import DensityTest, density_test
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.discontinuity import (
    Arrangement,
    Jump,
    Recipe,
    bandwidths_of,
    cutoff_between,
    estimate_jumps,
)
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.local_polynomial import (
    FewNearCutoffError,
    Residuals,
    Side,
    fit_local,
    noise,
    powers_of,
    spread,
)
from cqox_assets.numerics.sample import check_clusters
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_FEWEST_ROWS = 8
# Beyond this share of the bandwidth the limit at the cutoff is extrapolated; even a coarse running variable is nearer.
_WIDEST_GAP = 0.5


@dataclass(frozen=True)
class DiscontinuityParams(CommonParams):
    """Parameters of regression discontinuity.

    Parameters
    ----------
    cutoff : float, optional
        In units of the running variable; by default the declared one, else what parts the arms if they are parted.
    design : str
        `sharp`: the side decides the treatment; `fuzzy`: it moves it; `auto` is what the data show.
    report : str
        `robust`: bias-corrected estimate with the standard error that counts the noise of the bias; `bias_corrected`:
        the same estimate with the conventional standard error; `conventional`: neither.
    order, bias_order : int
        Orders of the local polynomials of the jump and of its bias; the second is larger.
    h, b : float, optional
        Their bandwidths in units of the running variable; chosen to minimise the mean squared error if not given. With
        h alone, b equals it.
    kernel : str
        Weights of rows by their distance from the cutoff.
    noise : str
        `nn`: variance from nearest neighbours; `hc0` to `hc3`: from residuals; `auto` is nn, with clusters hc3, there
        of a fit without the own cluster.
    neighbours : int
        Neighbours of `nn`.
    mass_points : bool
        Count distinct values of the running variable when the bandwidth is chosen.
    regularisation : float
        Weight of the term that keeps h small where the estimated bias is about zero.
    standardise : bool
        Choose bandwidths in units of standard deviations.
    sharp_bandwidth : bool
        In a fuzzy design, choose the bandwidth for the jump of the outcome alone.
    """

    cutoff: float | None = None
    design: Literal["auto", "sharp", "fuzzy"] = "auto"
    report: Literal["robust", "bias_corrected", "conventional"] = "robust"
    order: int = 1
    bias_order: int = 2
    h: float | None = None
    b: float | None = None
    kernel: Literal["triangular", "epanechnikov", "uniform"] = "triangular"
    noise: Literal["auto", "nn", "hc0", "hc1", "hc2", "hc3"] = "auto"
    neighbours: int = 3
    mass_points: bool = True
    regularisation: float = 1.0
    standardise: bool = True
    sharp_bandwidth: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checks = {
            "order": (0 <= self.order <= 4, "between 0 and 4"),
            "bias_order": (self.order < self.bias_order <= 6, "above order and at most 6"),
            "h": (self.h is None or self.h > 0, "positive"),
            "b": (self.b is None or (self.b > 0 and self.h is not None), "positive, and given together with h"),
            "neighbours": (self.neighbours >= 1, "at least 1"),
            "regularisation": (self.regularisation >= 0, "zero or positive"),
        }
        for name, (holds, wanted) in checks.items():
            if not holds:
                raise CatalogError(f"parameter '{name}' is {getattr(self, name)}; it must be {wanted}")


@dataclass(frozen=True)
class _Design:
    """Rows around the cutoff: x is centred there, `above` is the side, `sign` what crossing does if sharp."""

    x: np.ndarray
    above: np.ndarray
    cutoff: float
    sharp: bool
    sign: float
    cluster: np.ndarray | None

    @cached_property
    def _rows(self) -> Arrangement:
        return Arrangement(self.x, self.above, self.cluster)

    def sides(self, *columns: np.ndarray) -> tuple[Side, Side]:
        return self._rows.sides(np.column_stack(columns))


def run(study: Study, params: DiscontinuityParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the effect of treatment at the cutoff from the jumps of outcome and treatment.

    Parameters
    ----------
    study : Study
        Outcome, a running variable, a treatment of two arms or continuous; optional cluster, and covariates, which are
        only tested for jumps of their own. The cutoff is declared or a parameter. Without a treatment column the side
        of the cutoff is the treatment.
    params : DiscontinuityParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        With tables `jumps` (conventional, bias-corrected and robust), `bandwidth`, `covariate_jumps`, `density` and
        `curve` (binned means with the local fit). Refused without a cutoff, without rows near it, or if the treatment
        does not change there.

    Raises
    ------
    CatalogError
        If `trim` is given.
    CqoxError
        `no_observations_near_cutoff`, `no_jump`: the runner turns these into refusals.

    Notes
    -----
    The right limit minus the left limit of a local polynomial of order p, its bias estimated by one of order q > p,
    divided by the treatment's own jump in a fuzzy design: the effect at the cutoff, among compliers if fuzzy (Hahn,
    Todd & van der Klaauw 2001, doi:10.1111/1468-0262.00183). Intervals count the noise of the bias (Calonico, Cattaneo
    & Titiunik 2014, doi:10.3982/ECTA11757).

    References
    ----------
    Calonico, Cattaneo & Titiunik (2014); Calonico, Cattaneo & Farrell (2020, doi:10.1093/ectj/utz022).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but regression_discontinuity has no propensity to trim on")
    cluster = study.codes(Role.CLUSTER)
    check_clusters(cluster)
    cutoff, notices = _cutoff(study, params)
    if cutoff is None:
        return SPEC.refuse(
            "missing_cutoff", "no cutoff of the running variable is known",
            "state it in study.yaml: cutoff: <number>, or give the parameter cutoff",
        )  # fmt: skip
    if len(study) and np.ptp(study.column(Role.OUTCOME)) == 0:
        return SPEC.refuse(
            "constant_outcome", f"outcome '{study.name(Role.OUTCOME)}' is the same in every row",
            "map an outcome that varies",
        )  # fmt: skip
    if not study.has(Role.TREATMENT):
        study = _with_side(study, cutoff)
    design = _design(study, params, cutoff, cluster)
    if isinstance(design, Refusal):
        return design
    recipe = _recipe(params, cluster)
    y, t = study.column(Role.OUTCOME), study.column(Role.TREATMENT)
    pair = design.sides(y) if design.sharp else design.sides(y, t)
    h, b, more = _bandwidths(design, pair, y, params, recipe)
    jump, first = estimate_jumps(*pair, h, b, recipe)
    if min(jump.rows) < _FEWEST_ROWS:
        raise FewNearCutoffError(
            f"{min(jump.rows)} rows lie within {h:.4g} of the cutoff on one side, {_FEWEST_ROWS} are needed; "
            "widen h or deliver rows near the cutoff"
        )
    _check_gap(design, h)
    density, covariates = _density(design), _covariate_jumps(study, design, recipe)
    rows = _effects(study, params, jump, design)
    return SPEC.estimate(
        study, [rows[params.report]], inference=_words(params, recipe, cluster),
        diagnostics=_diagnostics(study, jump, first, density, covariates), notices=[*notices, *more],
        tables={
            "jumps": _jump_table(rows, first, params.level),
            "bandwidth": pd.DataFrame({"side": ["left", "right"], "cutoff": cutoff, "h": h, "b": b,
                                       "rows": list(jump.rows)}),
            "covariate_jumps": covariates,
            "density": _density_table(density),
            "curve": _curve(design.sides(y), cutoff, h, params, recipe.noise),
        },
    )  # fmt: skip


def _cutoff(study: Study, params: DiscontinuityParams) -> tuple[float | None, list[str]]:
    """Return the stated cutoff, else the roundest number between the arms if the running variable parts them.

    Without a treatment a running variable that spans zero is taken as centred at its cutoff, and that is said.
    """
    stated = params.cutoff if params.cutoff is not None else study.declaration.cutoff
    if stated is not None:
        return stated, []
    x = study.column(Role.RUNNING_VARIABLE)
    if not study.has(Role.TREATMENT) and x.min() < 0 < x.max():
        name = study.name(Role.RUNNING_VARIABLE)
        return 0.0, [f"No cutoff is stated; '{name}' spans zero, so 0 is taken. State it in study.yaml: cutoff."]
    if study.treatment_kind is not TreatmentKind.BINARY:
        return None, []
    t = study.column(Role.TREATMENT)
    one, zero = x[t == 1], x[t == 0]
    low, high = (zero, one) if zero.max() < one.min() else (one, zero)
    if low.max() >= high.min():
        return None, []
    found = cutoff_between(float(low.max()), float(high.min()))
    name = study.name(Role.RUNNING_VARIABLE)
    return found, [f"The cutoff {found:g} is where '{name}' parts the arms; study.yaml may state it (cutoff)."]


def _with_side(study: Study, cutoff: float) -> Study:
    """Return the study with the side of the cutoff as its treatment."""
    above = study.column(Role.RUNNING_VARIABLE) >= cutoff
    return replace(
        study.with_column("side of the cutoff", above.astype(float), Role.TREATMENT),
        arms=(f"below {cutoff:g}", f"{cutoff:g} or above"),
    )


def _design(
    study: Study, params: DiscontinuityParams, cutoff: float, cluster: np.ndarray | None
) -> "_Design | Refusal":
    x, t = study.column(Role.RUNNING_VARIABLE) - cutoff, study.column(Role.TREATMENT)
    binary = study.treatment_kind is TreatmentKind.BINARY
    above, sign, sharp = x >= 0, 1.0, False
    for side in (x >= 0, x > 0) if binary else ():
        if np.array_equal(side, t == 1) or np.array_equal(side, t == 0):
            above, sign, sharp = side, 1.0 if np.array_equal(side, t == 1) else -1.0, True
            break
    if not 0 < above.sum() < len(x):
        return SPEC.refuse(
            "no_observations_near_cutoff", f"all rows lie on one side of the cutoff {cutoff:g}",
            "check the cutoff in study.yaml, or deliver rows on both sides",
        )  # fmt: skip
    if params.design == "sharp" and not sharp:
        return SPEC.refuse(
            "not_sharp", "the side of the cutoff does not decide the treatment of every row",
            "use design: fuzzy, or correct the cutoff or the treatment",
        )  # fmt: skip
    return _Design(x, above, cutoff, sharp and params.design != "fuzzy", sign, cluster)


def _check_gap(design: _Design, h: float) -> None:
    """Refuse where the nearest rows of a side are so far from the cutoff that the limit would be extrapolated."""
    for side, word in ((design.above, "at or above"), (~design.above, "below")):
        nearest = float(np.abs(design.x[side]).min())
        if nearest > _WIDEST_GAP * h:
            raise FewNearCutoffError(
                f"the nearest row {word} the cutoff {design.cutoff:g} is {nearest:.4g} away, with a bandwidth of "
                f"{h:.4g}; correct the cutoff, or deliver rows near it"
            )


def _recipe(params: DiscontinuityParams, cluster: np.ndarray | None) -> Recipe:
    noise = params.noise
    if noise == "nn" and cluster is not None:
        raise CatalogError(
            "parameter 'noise' is 'nn', but the neighbours of a row may be of its own cluster, whose shock they share; "
            "use 'hc3' with clusters"
        )
    if noise == "auto":
        noise = "nn" if cluster is None else "hc3"
    return Recipe(
        params.order, params.bias_order, params.kernel, Residuals(noise, params.neighbours), params.mass_points,
        params.regularisation, params.standardise,
    )  # fmt: skip


def _bandwidths(
    design: _Design, pair: tuple[Side, Side], y: np.ndarray, params: DiscontinuityParams, recipe: Recipe
) -> tuple[float, float, list[str]]:
    if params.h is not None:
        return params.h, params.b if params.b is not None else params.h, []
    fixed = pair[0].responses.shape[1] == 2 and any(np.ptp(side.responses[:, 1]) == 0 for side in pair)
    if params.sharp_bandwidth or fixed:
        why = ["The treatment is constant on one side; the bandwidth is that of the outcome's jump."] if fixed else []
        return *bandwidths_of(*design.sides(y), recipe), why
    return *bandwidths_of(*pair, recipe), []


def _effects(study: Study, params: DiscontinuityParams, jump: Jump, design: _Design) -> dict[str, Effect]:
    """Return one effect per way of reporting."""
    binary = study.treatment_kind is TreatmentKind.BINARY
    sign = design.sign if design.sharp else 1.0
    facts = {
        "estimand": SPEC.estimand(params),
        "contrast": f"{study.arms[1]} - {study.arms[0]}" if binary else f"one unit of {study.name(Role.TREATMENT)}",
        "level": params.level,
        "df": None if design.cluster is None else float(max(jump.clusters - 2, 1)),
    }
    chosen = {
        "conventional": (jump.conventional, jump.conventional_se),
        "bias_corrected": (jump.corrected, jump.conventional_se),
        "robust": (jump.corrected, jump.robust_se),
    }
    return {name: wald(sign * value, error, **facts) for name, (value, error) in chosen.items()}  # type: ignore[arg-type]


def _words(params: DiscontinuityParams, recipe: Recipe, cluster: np.ndarray | None) -> str:
    kind = {"nn": f"{params.neighbours} nearest neighbours"}.get(recipe.noise.kind, f"residuals ({recipe.noise.kind})")
    grouped = "" if cluster is None else f", cluster-robust ({int(cluster.max()) + 1} clusters)"
    return f"local polynomial of order {params.order}, {params.report.replace('_', '-')}, variance from {kind}{grouped}"


def _density(design: _Design) -> DensityTest | str:
    try:
        return density_test(np.where(design.above, np.abs(design.x), np.minimum(design.x, -1e-300)))
    except FewNearCutoffError as error:
        return error.message.partition(";")[0]


def _covariate_jumps(study: Study, design: _Design, recipe: Recipe) -> pd.DataFrame:
    """Return the robust jump of each covariate with its own bandwidth; one that cannot be fitted is left out."""
    rows, covariates = [], study.matrix()
    for position, name in enumerate(study.names(Role.COVARIATES)):
        values = covariates[:, position]
        if np.ptp(values) == 0:
            continue
        pair = design.sides(values)
        try:
            found, _ = estimate_jumps(*pair, *bandwidths_of(*pair, recipe), recipe)
        except FewNearCutoffError:
            continue
        tiny = 1e-9 * float(np.ptp(values))
        if found.robust_se > tiny:
            effect = wald(found.corrected, found.robust_se, estimand=Estimand.LATE, contrast=name)
            rows.append((study.label(name), found.corrected, found.robust_se, effect.p_value))
        else:
            rows.append((study.label(name), found.corrected, 0.0, 0.0 if abs(found.corrected) > tiny else 1.0))
    return pd.DataFrame(rows, columns=["covariate", "jump", "std_error", "p_value"]).astype(
        {"covariate": "str", "jump": "float64", "std_error": "float64", "p_value": "float64"}
    )


def _diagnostics(
    study: Study, jump: Jump, first: Jump | None, density: DensityTest | str, covariates: pd.DataFrame
) -> list[Diagnostic]:
    near = SPEC.judge(study, "rows_near_cutoff", float(min(jump.rows)), f"{jump.rows[0]} left and {jump.rows[1]} right")
    if isinstance(density, str):
        dense = SPEC.judge(study, "density_p", None, density)
    else:
        words = f"density is {density.left:.4g} left and {density.right:.4g} right of the cutoff"
        dense = SPEC.judge(study, "density_p", density.p_value, words)
    if covariates.empty:
        smooth = SPEC.judge(study, "covariate_continuity_p", None, "there are no covariates that can be compared")
        smooth = replace(smooth, applies=study.has(Role.COVARIATES))
    else:
        worst = covariates.iloc[int(covariates["p_value"].to_numpy().argmin())]
        words = f"the smallest p-value is that of {worst['covariate']}, which jumps by {worst['jump']:.4g}"
        smooth = SPEC.judge(study, "covariate_continuity_p", min(1.0, worst["p_value"] * len(covariates)), words)
    if first is None:
        strength = SPEC.judge(study, "treatment_jump_f", None, "the side of the cutoff decides the treatment")
        return [near, dense, smooth, replace(strength, applies=False)]
    ratio = (first.conventional / first.conventional_se) ** 2 if first.conventional_se > 0 else float("inf")
    words = f"the treatment jumps by {first.conventional:.4g}"
    return [near, dense, smooth, SPEC.judge(study, "treatment_jump_f", ratio, words)]


def _jump_table(rows: dict[str, Effect], first: Jump | None, level: float) -> pd.DataFrame:
    """Return one row per way of reporting, and the treatment's own jump in a fuzzy design."""
    listed = dict(rows)
    if first is not None:
        facts = {"estimand": Estimand.LATE, "contrast": "treatment", "level": level}
        listed["treatment"] = wald(first.conventional, first.conventional_se, **facts)  # type: ignore[arg-type]
    return pd.DataFrame(
        {
            "jump": list(listed),
            "estimate": [effect.estimate for effect in listed.values()],
            "std_error": [effect.std_error or 0.0 for effect in listed.values()],
            "low": [effect.interval.low if effect.interval else effect.estimate for effect in listed.values()],
            "high": [effect.interval.high if effect.interval else effect.estimate for effect in listed.values()],
        }
    )


def _density_table(density: DensityTest | str) -> pd.DataFrame:
    names = ["statistic", "p_value", "left", "right", "h_left", "h_right", "left_error", "right_error"]
    rows = [] if isinstance(density, str) else [[getattr(density, name) for name in names]]
    return pd.DataFrame(rows, columns=names, dtype=float)


def _curve(
    sides: tuple[Side, Side], cutoff: float, h: float, params: DiscontinuityParams, how: Residuals
) -> pd.DataFrame:
    """Return binned means within three bandwidths with their errors, and the local polynomial with its own.

    The polynomial's error is pointwise and without its bias, as that of the conventional jump.
    """
    parts = []
    for name, side in zip(("left", "right"), sides, strict=True):
        near = np.abs(side.x) <= 3 * h
        x, y = side.x[near], side.responses[near, 0]
        place = np.floor(x / (h / 10))
        bins = np.cumsum(np.append(False, place[1:] != place[:-1]))
        count = np.bincount(bins)
        middle, mean = np.bincount(bins, weights=x) / count, np.bincount(bins, weights=y) / count
        scatter = np.bincount(bins, weights=(y - mean[bins]) ** 2)
        fit = fit_local(side, h, params.order, params.kernel)
        powers = powers_of(middle, params.order)
        scores = (fit.design * fit.weights[:, None]) @ fit.bread @ powers.T * noise(side, fit, how)[:, :1]
        parts.append(
            pd.DataFrame(
                {
                    "side": name,
                    "running": cutoff + middle,
                    "rows": count,
                    "mean": mean,
                    "mean_error": np.where(count > 1, np.sqrt(scatter / np.maximum(count - 1, 1) / count), np.nan),
                    "fit": powers @ fit.coef[:, 0],
                    "fit_error": [math.sqrt(spread(side, fit.rows, psi, params.order + 1)) for psi in scores.T],
                    "inside": np.abs(middle) <= h,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _applicable(study: Study) -> tuple[bool, str, float]:
    if not study.has(Role.RUNNING_VARIABLE):
        return False, "map the running variable in study.yaml: roles: {running_variable: <column>}", 0.0
    stated = study.declaration.params.get("regression_discontinuity", {}).get("cutoff", study.declaration.cutoff)
    probe = DiscontinuityParams(cutoff=None if stated is None else float(stated))
    if _cutoff(study, probe)[0] is None:
        return False, "state the cutoff of the running variable in study.yaml: cutoff: <number>", 0.0
    return True, "a cutoff decides who is treated, so units just beside it are comparable", 1.0


SPEC = EstimatorSpec(
    name="regression_discontinuity",
    title="Regression discontinuity",
    family="cutoff",
    estimands=(Estimand.LATE,),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.RUNNING_VARIABLE}),
    accepts=frozenset({Role.TREATMENT, Role.COVARIATES, Role.CLUSTER}),
    treatment=(TreatmentKind.BINARY, TreatmentKind.CONTINUOUS),
    aliases=("RD", "RDD", "rd_sharp", "rd_fuzzy"),
    invariances=("row_order", "affine_outcome", "relabelled_arms"),
    assumptions=("continuity", "no_manipulation", "no_interference", "consistency"),
    references=(
        "Hahn, Todd & van der Klaauw 2001, doi:10.1111/1468-0262.00183",
        "Calonico, Cattaneo & Titiunik 2014, doi:10.3982/ECTA11757",
        "Calonico, Cattaneo & Farrell 2020, doi:10.1093/ectj/utz022",
        "Cattaneo, Jansson & Ma 2020, doi:10.1080/01621459.2019.1635480",
    ),
    diagnostics=("rows_near_cutoff", "density_p", "covariate_continuity_p", "treatment_jump_f"),
    tables=("jumps", "bandwidth", "covariate_jumps", "density", "curve"),
    truths=("sharp_cutoff", "fuzzy_cutoff", "clustered_cutoff", "null_cutoff"),
    breaks=("manipulated_cutoff", "sorted_cutoff"),
    oracle=("rd_sharp", "rd_fuzzy", "rd_density_test"),
    applicable=_applicable,
    params=DiscontinuityParams,
    question="What does the treatment do to those who are right at the cutoff that decides it?",
    formula=r"\hat\tau = \lim_{r \downarrow c} \hat m(r) - \lim_{r \uparrow c} \hat m(r),\quad"
    r" \hat m \text{ local linear in } h_{\mathrm{MSE}},\qquad \hat\tau_{\mathrm{fuzzy}} = \hat\tau_y / \hat\tau_d",
    reading="The effect is that at the cutoff and nowhere else. Read density_p (did units choose their side?) and "
    "covariate_continuity_p before the effect. The interval is the robust, bias-corrected one: it is not centred on "
    "the estimate.",
    coverage_rows=2000,
    example=Example(
        data="data/finance/2025-01/loans.csv",
        roles={"outcome": "result_eur", "treatment": "lower_rate", "running_variable": "credit_score"},
        params={"cutoff": 650.0},
    ),
)
