"""Effect of a treatment on a place and on its neighbours, where outcomes or noise depend on what is near."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.inference import draws_effect, wald
from cqox_assets.numerics.panel_effects import columns_of
from cqox_assets.numerics.spatial_design import Design, read_design
from cqox_assets.numerics.spatial_impacts import KINDS, Multiplier, Refit, multiplier_of
from cqox_assets.numerics.spatial_models import (
    SpatialFit,
    check_fit,
    fit_error_gm,
    fit_error_ml,
    fit_lag_ml,
    fit_lag_two_stage,
    fit_slx,
)
from cqox_assets.numerics.spatial_tests import SpatialTest, hausman, least_squares_tests, moran, remaining_dependence
from cqox_assets.numerics.spatial_weights import NeighbourRule, Neighbours, find_neighbours
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_ML_UP_TO = 20_000
_TESTED_UP_TO = 100_000
_CLEAR = 0.05


@dataclass(frozen=True)
class GeographicParams(CommonParams):
    """Parameters of the spatial regression.

    Parameters
    ----------
    model : str
        `lag`: outcomes depend on neighbours' outcomes; `error`: what is not observed does; `slx`: outcomes depend on
        neighbours' treatment and covariates; `durbin`: on neighbours' outcomes, treatment and covariates. `auto` is lag
        or error, whichever the robust Lagrange multiplier tests of least squares speak for.
    form : str
        `ml` maximum likelihood, `2sls` (lag, durbin: neighbours' regressors are the instruments), `gm` (error: method
        of moments); `auto` is `ml` up to 20,000 rows, then `2sls` or `gm`.
    neighbours : str
        `edges` (the side table), `nearest` or `band` (by latitude and longitude); `auto` is edges where there are any,
        then `band` if one is given, then `nearest`.
    nearest : int
        Neighbours of each unit, of `nearest`.
    band : float, optional
        Largest distance of neighbours in kilometres, or in units of planar coordinates.
    planar : bool
        Whether latitude and longitude are y and x of a map and no degrees.
    directed : bool
        Whether an edge makes its target a neighbour of its source only.
    islands : str
        Units without neighbours: `refuse`, `keep` (nothing spills over to them) or `drop`.
    """

    model: Literal["auto", "lag", "error", "slx", "durbin"] = "auto"
    form: Literal["auto", "ml", "2sls", "gm"] = "auto"
    neighbours: Literal["auto", "edges", "nearest", "band"] = "auto"
    nearest: int = 8
    band: float | None = None
    planar: bool = False
    directed: bool = False
    islands: Literal["refuse", "keep", "drop"] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nearest < 1:
            raise CatalogError(f"parameter 'nearest' is {self.nearest}; it must be at least 1")
        if self.band is not None and not self.band > 0:
            raise CatalogError(f"parameter 'band' is {self.band}; it must be above 0")
        offered = {"error": ("auto", "ml", "gm"), "slx": ("auto",), "auto": ("auto", "ml")}
        if self.form not in offered.get(self.model, ("auto", "ml", "2sls")):
            raise CatalogError(f"parameter 'form' is '{self.form}', which model '{self.model}' does not have")

    @property
    def rule(self) -> NeighbourRule:
        """How neighbours are found."""
        return NeighbourRule(self.neighbours, self.nearest, self.band, self.planar, self.directed, self.islands)


def run(study: Study, params: GeographicParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate direct, indirect and total impact of a treatment on places that are neighbours.

    Parameters
    ----------
    study : Study
        Outcome and a treatment of arms or continuous, one row per place; neighbours from the side table `edges` (which
        names the role `unit`, or rows by position) or from latitude and longitude; optional covariates.
    params : GeographicParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Direct, indirect and total impact, the asked-for estimand first; an error model has no indirect impact. Tables:
        `coefficients` (rho or lambda included), `impacts` of every regressor, `tests` (Moran's I and Lagrange
        multipliers of least squares, and what the model leaves over), `fit`.

    Raises
    ------
    CatalogError
        If `trim` is given.
    CqoxError
        What the study lacks: the runner turns it into a refusal.

    Notes
    -----
    With S = (I - rho W)^-1 (b I + g W), the direct impact is the mean diagonal of S, the total the mean row sum, the
    indirect impact their difference (LeSage & Pace 2009); standard errors by the delta method.

    References
    ----------
    LeSage & Pace (2009, doi:10.1201/9781420064254); Anselin (1988, doi:10.1007/978-94-015-7799-1).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but geographic has no propensity to trim on")
    if params.inference == "cluster_bootstrap":
        return SPEC.refuse(
            "inference_not_supported", "places are linked across any clusters, so clusters cannot be drawn",
            "set inference: bootstrap, which draws what the spatial model leaves over",
        )  # fmt: skip
    found = find_neighbours(study, params.rule)
    study = study if len(found.kept) == len(study) else study.take(found.kept)
    plain = read_design(study, found.matrix, durbin=False)
    scale = float(study.column(Role.OUTCOME).std()) or 1.0
    outcome = study.column(Role.OUTCOME) / scale
    check_fit(outcome, outcome - plain.x @ np.linalg.lstsq(plain.x, outcome, rcond=None)[0])
    tests = least_squares_tests(outcome, plain.x, found.matrix)
    model, why = _model(params, tests)
    design = read_design(study, found.matrix, durbin=True) if model in ("durbin", "slx") else plain
    fit = _fit(outcome, design, found.matrix, model, params.form)
    check_fit(outcome, fit.innovations)
    return _report(study, found, params, _Answer(model, scale, outcome, design, fit, tests, why))


@dataclass(frozen=True)
class _Answer:
    model: str
    scale: float
    outcome: np.ndarray
    design: Design
    fit: SpatialFit
    tests: dict[str, SpatialTest]
    why: list[str]


def _model(params: GeographicParams, tests: dict[str, SpatialTest]) -> tuple[str, list[str]]:
    """Return the model and why it was chosen, by the decision rule of Anselin & Florax (1995)."""
    if params.model != "auto":
        return params.model, []
    lag, error = tests["lm_lag"], tests["lm_error"]
    shown = f"p = {lag.p_value:.3g} for a lag and {error.p_value:.3g} for an error"
    if min(lag.p_value, error.p_value) >= _CLEAR:
        words = f"Lagrange multiplier tests find no clear dependence ({shown}); the lag model leaves room for it"
        return "lag", [words]
    if "robust_lm_lag" in tests and max(lag.p_value, error.p_value) < _CLEAR:
        lag, error = tests["robust_lm_lag"], tests["robust_lm_error"]
        shown = f"robust tests, p = {lag.p_value:.3g} for a lag and {error.p_value:.3g} for an error"
    chosen = "lag" if lag.statistic >= error.statistic else "error"
    other = "error" if chosen == "lag" else "lag"
    why = f"the {chosen} model was chosen by Lagrange multipliers ({shown}); model: {other} gives the other one"
    return chosen, [why]


def _fit(outcome: np.ndarray, design: Design, matrix: "csr_matrix", model: str, form: str) -> SpatialFit:
    check_fit(outcome, outcome - design.x @ np.linalg.lstsq(design.x, outcome, rcond=None)[0])
    large = len(outcome) > _ML_UP_TO
    if model == "slx":
        return fit_slx(outcome, design.x)
    if model == "error":
        if form == "gm" or (form == "auto" and large):
            return fit_error_gm(outcome, design.x, matrix)
        return fit_error_ml(outcome, design.x, matrix)
    if form == "2sls" or (form == "auto" and large):
        return fit_lag_two_stage(outcome, design.x, matrix, design.instruments)
    return fit_lag_ml(outcome, design.x, matrix)


def _report(study: Study, found: Neighbours, params: GeographicParams, answer: _Answer) -> EffectEstimate | Refusal:
    fit, design, matrix = answer.fit, answer.design, found.matrix
    multiplier = multiplier_of(fit, matrix)
    drawn: dict[str, np.ndarray] | None = None
    if params.inference == "bootstrap":
        refit = Refit(answer.outcome, design.x, matrix, design.instruments, fit, answer.scale * design.turn)
        draws = refit.resampled(list(design.pairs.values()), params.draws, params.seed)
        if len(draws) < 0.9 * params.draws:
            return SPEC.refuse(
                "bootstrap_failed", f"{params.draws - len(draws)} of {params.draws} draws could not be fitted",
                "use the analytic inference",
            )  # fmt: skip
        drawn = {name: draws[:, k] for k, name in enumerate(design.pairs)}
    if fit.model == "error" and params.estimand == Estimand.INDIRECT:
        return SPEC.refuse(
            "no_indirect_effect", "in an error model nothing spills over, so there is no indirect impact",
            "set model: lag or durbin, or ask for the direct impact",
        )  # fmt: skip
    impacts = {name: _impacts(name, study, answer, params, multiplier, drawn) for name in design.pairs}
    last = (remaining_dependence(fit, matrix) if fit.model != "error"
            else hausman(answer.outcome, design.x, fit, matrix))  # fmt: skip
    tests = {**answer.tests, last.name: last}
    effects = [effect for arm, name in design.treated for effect in _ordered(impacts[name], study, params, arm)]
    words = {
        "lag": "spatial lag",
        "error": "spatial error",
        "slx": "neighbours' regressors",
        "durbin": "spatial Durbin",
    }
    how = {"ml": "maximum likelihood", "2sls": "two-stage least squares", "gm": "generalised moments",
           "ols": "least squares, HC1"}  # fmt: skip
    se = f"{len(next(iter(drawn.values())))} draws of innovations" if drawn is not None else "delta method"
    notices = [*answer.why, f"W: {found.words}", *found.notices, *design.notices]
    if fit.model == "error":
        notices.append(
            "in an error model nothing spills over: there is no indirect impact, the total is the direct one"
        )
    return SPEC.estimate(
        study, effects, inference=f"{words[answer.model]} model by {how[fit.form]}, {se}",
        diagnostics=_diagnostics(study, answer, last),
        tables={
            "coefficients": _coefficients(answer, params.level),
            "impacts": _impact_table(impacts),
            "tests": _test_table(tests),
            "fit": _fit_table(answer, found),
        },
        notices=notices,
    )  # fmt: skip


def _raw(answer: _Answer) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients and covariance (rate last) in the units of the columns and the outcome."""
    turn = np.eye(len(answer.design.names) + 1)
    turn[:-1, :-1] = answer.scale * answer.design.turn
    return (answer.scale * answer.design.turn) @ answer.fit.coef, turn @ answer.fit.covariance @ turn.T


def _impacts(
    name: str, study: Study, answer: _Answer, params: GeographicParams, multiplier: Multiplier,
    drawn: dict[str, np.ndarray] | None,
) -> dict[str, Effect]:  # fmt: skip
    """Return the impacts of one regressor by kind; an error model has no indirect one."""
    coef, covariance = _raw(answer)
    values, slopes = multiplier.impacts(*answer.design.pairs[name], coef)
    found = {}
    for k, kind in enumerate(KINDS):
        if kind == "indirect" and answer.fit.model == "error":
            continue
        facts = {"estimand": Estimand(kind), "contrast": f"one unit of {study.label(name)}", "level": params.level}
        if drawn is not None:
            found[kind] = draws_effect(float(values[k]), drawn[name][:, k], **facts)  # type: ignore[arg-type]
        else:
            error = float(np.sqrt(max(slopes[k] @ covariance @ slopes[k], 0.0)))
            found[kind] = wald(float(values[k]), error, **facts)  # type: ignore[arg-type]
    return found


def _ordered(impacts: dict[str, Effect], study: Study, params: GeographicParams, arm: str) -> list[Effect]:
    """Return the impacts of a treatment, the asked-for estimand first; the total where an error model has it not."""
    chosen = str(SPEC.estimand(params))
    kinds = [kind for kind in (chosen, *KINDS) if kind in impacts]
    several = len(study.arms) > 2
    effects = []
    for kind in dict.fromkeys(kinds):
        effect = impacts[kind]
        if arm:
            effect = replace(effect, contrast=f"{arm} - {study.arms[0]}", at={"arm": arm} if several else {})
        effects.append(effect)
    return effects


def _coefficients(answer: _Answer, level: float) -> pd.DataFrame:
    """Return one row per coefficient, rho or lambda last."""
    coef, covariance = _raw(answer)
    names = list(answer.design.names)
    values = [float(value) for value in coef]
    if answer.fit.model != "slx":
        names.append("lambda" if answer.fit.model == "error" else "rho")
        values.append(answer.fit.rate)
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    effects = [wald(v, float(e), estimand=Estimand.SLOPE, contrast=name, level=level)
               for name, v, e in zip(names, values, errors, strict=False)]  # fmt: skip
    return pd.DataFrame([{"term": effect.contrast, **columns_of(effect)} for effect in effects])


def _impact_table(impacts: dict[str, dict[str, Effect]]) -> pd.DataFrame:
    rows = [{"term": name, "impact": kind, **columns_of(effect)}
            for name, kinds in impacts.items() for kind, effect in kinds.items()]  # fmt: skip
    return pd.DataFrame(rows)


def _test_table(tests: dict[str, SpatialTest]) -> pd.DataFrame:
    rows = [{"test": item.name, "statistic": item.statistic, "df": item.df, "p_value": item.p_value}
            for item in tests.values()]  # fmt: skip
    return pd.DataFrame(rows)


def _fit_table(answer: _Answer, found: Neighbours) -> pd.DataFrame:
    fit, n = answer.fit, len(answer.outcome)
    values = {"rows": float(n), "neighbours_per_unit": found.matrix.nnz / n, "sigma2": fit.sigma2 * answer.scale**2}
    if fit.log_likelihood is not None:
        likelihood = fit.log_likelihood - n * np.log(answer.scale)
        values |= {"log_likelihood": likelihood, "aic": 2 * (len(fit.coef) + 2) - 2 * likelihood}
    if fit.strength is not None:
        values["first_stage_F"] = fit.strength
    return pd.DataFrame({"quantity": list(values), "value": list(values.values())})


def _diagnostics(study: Study, answer: _Answer, last: SpatialTest) -> list[Diagnostic]:
    index = answer.tests["moran_i"]
    words = {
        "remaining_error": "what the model leaves over is still correlated between neighbours by",
        "hausman": "an error model and least squares should agree on the slopes; they differ by",
    }
    found = [
        SPEC.judge(
            study, "spatial_dependence_p", index.p_value,
            f"Moran's I of least-squares residuals is {index.statistic:.3f}, p = {index.p_value:.3g}",
        ),
        SPEC.judge(
            study, "spatial_model_p", last.p_value,
            f"{words[last.name]} chi-squared {last.statistic:.2f}, p = {last.p_value:.3g}",
        ),
    ]  # fmt: skip
    if answer.fit.strength is not None:
        found.append(SPEC.judge(study, "first_stage_f", answer.fit.strength, "of neighbours' regressors"))
    return found


def _applicable(study: Study) -> tuple[bool, str, float]:
    try:
        found = find_neighbours(study, NeighbourRule())
        if len(study) > _TESTED_UP_TO:
            return True, "neighbours are known, so dependence between them can be modelled", 0.8
        design = read_design(study, found.matrix, durbin=False)
        outcome = study.column(Role.OUTCOME)
        outcome = outcome / (outcome.std() or 1.0)
        left = outcome - design.x @ np.linalg.lstsq(design.x, outcome, rcond=None)[0]
        check_fit(outcome, left)
        test = moran(left, design.x, found.matrix)
    except CqoxError as error:
        return False, error.message, 0.0
    shown = f"Moran's I of the residuals is {test.statistic:.2f}, p = {test.p_value:.3g}"
    if test.p_value < _CLEAR:
        return True, f"neighbours' outcomes are alike beyond what the covariates explain ({shown})", 1.0
    return True, f"neighbours are known, but their outcomes are not alike beyond the covariates ({shown})", 0.4


SPEC = EstimatorSpec(
    name="geographic",
    title="Spatial regression",
    family="spatial",
    estimands=(Estimand.DIRECT, Estimand.INDIRECT, Estimand.TOTAL),
    run=run,
    accepts=frozenset({Role.COVARIATES, Role.UNIT, Role.LATITUDE, Role.LONGITUDE}),
    one_of=(("edges",), ("latitude", "longitude")),
    treatment=(TreatmentKind.BINARY, TreatmentKind.CATEGORICAL, TreatmentKind.CONTINUOUS),
    joint_arms=True,
    aliases=("spatial", "spatial_lag", "spatial_error"),
    invariances=("row_order", "affine_outcome", "relabelled_arms"),
    resamples=True,
    assumptions=("spatial_exogeneity", "spatial_model", "linearity", "consistency"),
    references=(
        "LeSage & Pace 2009, doi:10.1201/9781420064254",
        "Ord 1975, doi:10.1080/01621459.1975.10480272",
        "Kelejian & Prucha 1998, doi:10.1023/A:1007707430416",
        "Kelejian & Prucha 1999, doi:10.1111/1468-2354.00027",
        "Anselin, Bera, Florax & Yoon 1996, doi:10.1016/0166-0462(95)02111-6",
    ),
    diagnostics=("spatial_dependence_p", "spatial_model_p"),
    tables=("coefficients", "impacts", "tests", "fit"),
    truths=("lattice_lag", "lattice_error", "scattered_lag", "lattice_dose", "lattice_arms", "null_lattice"),
    breaks=("lattice_lag_and_error",),
    oracle=("spatial_lag", "spatial_error", "lm_test", "moran_test"),
    applicable=_applicable,
    params=GeographicParams,
    question="What does a treatment do where it is given, and what does it do next door?",
    formula=r"y = \rho W y + X\beta + \varepsilon, \quad S = (I - \rho W)^{-1}\beta_d, \quad "
    r"\text{direct} = \tfrac{1}{n}\operatorname{tr} S, \; \text{total} = \tfrac{1}{n} 1'S1, \; "
    r"\text{indirect} = \text{total} - \text{direct}",
    reading="The direct impact is what a unit's own treatment does to its outcome, feedback through its neighbours "
    "included; the total is what treating every unit does to each; the indirect impact is the part that comes from "
    "others. Do not trust it where the neighbours are a guess: another W gives another indirect impact.",
    example=Example(
        data="tests/oracle/data/columbus.csv",
        roles={"outcome": "crime", "treatment": "inc", "covariates": ["hoval"], "unit": "polyid"},
        edges="tests/oracle/data/columbus_edges.csv",
    ),
    claim_note=(
        "The claim is for the model that the data follow; choosing it by tests is part of what is simulated. In about "
        "one of 500 draws the tests choose an error model, where nothing spills over: an indirect impact is refused."
    ),
    claim_unanswered=0.01,
    coverage_rows=1600,
)
