"""Effect on one treated unit, compared with the weighted average of untreated units that resembled it before."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.inference import wald
from cqox_assets.numerics.panel import Panel, PanelError, complete_units, without_always_treated
from cqox_assets.numerics.panel_timing import read_panel
from cqox_assets.numerics.simplex import (
    drawn_donors,
    movable_weight,
    nested_importance,
    simplex_weights,
    synthetic_did,
)
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_PERFECT = 1e-9  # misfit, in standard deviations of the outcomes, that is only rounding


@dataclass(frozen=True)
class SyntheticControlParams(CommonParams):
    """Parameters of the synthetic control.

    Parameters
    ----------
    method : str
        `synthetic_control`, or `synthetic_did`, which weighs periods as well and allows for a constant difference.
    treated_unit : str, optional
        Label of the treated unit; study.yaml may state it, else the treatment or cohort says it.
    treatment_time : float, optional
        First treated period; study.yaml may state it as intervention_time.
    predictors : tuple of (str, tuple of float)
        Column and the periods over which it is averaged, scaled by the SD over units; the outcome of every earlier
        period, unscaled, if empty.
    v : str
        Importance of the predictors: `identity`, `given` (in `importance`) or `nested` (fits the outcome best).
    importance : tuple of float
        Of `given`, in the order of the predictors.
    fit_times : tuple of float, optional
        Of `nested`: first and last period whose outcome is fitted; all earlier ones by default.
    evaluations : int
        Of `nested`: most evaluations per start of the search.
    time_ridge : float
        Of `synthetic_did`: ridge factor of the weights of periods.
    placebos : int
        Most donors that play the treated unit; of more donors so many are drawn with `seed`.
    """

    method: Literal["synthetic_control", "synthetic_did"] = "synthetic_control"
    treated_unit: str | None = None
    treatment_time: float | None = None
    predictors: tuple[tuple[str, tuple[float, ...]], ...] = ()
    v: Literal["identity", "given", "nested"] = "identity"
    importance: tuple[float, ...] = ()
    fit_times: tuple[float, float] | None = None
    evaluations: int = 300
    time_ridge: float = 1e-6
    placebos: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.placebos < 2:
            raise CatalogError(f"parameter 'placebos' is {self.placebos}; it must be at least 2")


@dataclass(frozen=True)
class _Fit:
    """Donor weights of one unit and the gap to its synthetic control in every period."""

    weights: np.ndarray
    gap: np.ndarray
    effect: float
    before: float
    after: float
    root: np.ndarray | None = None

    def ratio(self, perfect: float) -> float:
        """Return the RMSPE after over that before; NaN where the fit before leaves no more than `perfect`."""
        return self.after / self.before if self.before > perfect else np.nan


def run(study: Study, params: SyntheticControlParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the mean effect on one treated unit after treatment starts.

    Parameters
    ----------
    study : Study
        Outcome, unit and time; the treated unit by treatment, cohort or parameters; optional covariates.
    params : SyntheticControlParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Mean gap after treatment. The standard error is the spread of the effects found for the donors, the p-value
        the rank of the treated unit's ratio of root mean squared errors after and before. Tables: `gaps`,
        `donor_weights`, `placebos`, `placebo_gaps`. Refused if several units or none are treated, or fewer than two
        donors are there.

    Notes
    -----
    W minimises (X1 - X0 W)' V (X1 - X0 W) over W >= 0, sum W = 1, solved exactly. Placebos: every donor plays the
    treated unit, with the other donors as its pool.

    References
    ----------
    Abadie, Diamond & Hainmueller (2010, doi:10.1198/jasa.2009.ap08746); Arkhangelsky et al. (2021,
    doi:10.1257/aer.20190159).
    """
    if params.v == "given" and len(params.importance) != len(params.predictors):
        raise CatalogError(f"parameter 'importance' has {len(params.importance)} values for "
                           f"{len(params.predictors)} predictors")  # fmt: skip
    panel = _panel(study, params)
    outcome = panel.wide(panel.outcome)
    treated = int(np.flatnonzero(np.isfinite(panel.cohort))[0])
    before = int(np.searchsorted(panel.periods, panel.cohort[treated]))
    if before < 2 and params.method == "synthetic_did":
        return SPEC.refuse("too_few_rows", "one period before treatment", "deliver at least two earlier periods")
    predictors = _predictors(study, panel, params, before)
    donors = np.delete(np.arange(len(outcome)), treated)
    pool = _Pool(outcome[donors], predictors[:, donors], before, panel.periods, params)
    own = pool.fit(outcome[treated], predictors[:, treated])
    chosen = drawn_donors(len(donors), params.placebos, params.seed)
    placebos = [pool.fit(pool.outcome[place], pool.predictors[:, place], int(place)) for place in chosen]
    notices = list(panel.notices)
    if len(chosen) < len(donors):
        notices.append(f"{len(chosen)} of {len(donors)} donors were drawn to play the treated unit (placebos)")
    perfect = _PERFECT * float(outcome[:, :before].std())
    ratio, ratios = own.ratio(perfect), np.array([item.ratio(perfect) for item in placebos])
    p_value = None
    if np.isfinite(ratio):  # a placebo that fits without error before treatment counts as more extreme
        p_value = float((1 + (~(ratios < ratio * (1 - 1e-9))).sum()) / (1 + len(ratios)))
    else:
        notices.append(
            "the donors reproduce the treated unit before treatment without error, so the ratio of misfit "
            "after and before, and its p-value, are not defined"
        )
    if before == 1:
        notices.append(
            "there is one period before treatment: that donors resemble the unit in one number says "
            "little about how they would have moved"
        )
    spread = float(np.std([item.effect for item in placebos], ddof=0))
    contrast = f"{panel.labels[treated]} - synthetic {panel.labels[treated]}"
    effect = wald(own.effect, spread, estimand=Estimand.ATT, contrast=contrast, level=params.level)
    source = "" if p_value is None else "placebo rank of the RMSPE ratio"
    effect = replace(effect, p_value=p_value, p_source=source, at={})
    typical = float(np.median([item.before for item in placebos]))
    relative = own.before / typical if typical > 0 else None
    return SPEC.estimate(
        Study(frame=pd.DataFrame(index=range(len(panel.outcome))), roles={}, dropped=study.dropped), [effect],
        inference=f"standard error from {len(placebos)} placebo effects on donors, "
        f"{'no p-value' if p_value is None else 'p-value from their rank'}",
        diagnostics=[
            SPEC.judge(study, "relative_pre_fit", relative, f"RMSPE before treatment {own.before:.4g}"),
            _uniqueness(study, own, predictors[:, treated], pool, before),
        ],
        tables={
            "gaps": pd.DataFrame({"time": panel.periods, "observed": outcome[treated],
                                  "synthetic": outcome[treated] - own.gap, "gap": own.gap,
                                  "after": np.arange(len(panel.periods)) >= before}),
            "donor_weights": pd.DataFrame({"unit": panel.labels[donors].astype(str), "weight": own.weights}),
            "placebos": _placebos(panel, [treated, *donors[chosen]], [own, *placebos], perfect),
            "placebo_gaps": _placebo_gaps(panel, [treated, *donors[chosen]], [own, *placebos]),
        },
        notices=notices, dropped=panel.dropped,
    )  # fmt: skip


def _panel(study: Study, params: SyntheticControlParams) -> Panel:
    """Return the balanced panel of the treated unit and its donors."""
    declared = study.declaration
    unit = params.treated_unit if params.treated_unit is not None else declared.treated_unit
    time = params.treatment_time if params.treatment_time is not None else declared.intervention_time
    if unit is not None and time is not None:
        labels = study.frame[study.name(Role.UNIT)].astype(str).to_numpy()
        if str(unit) not in labels:
            raise PanelError(f"no unit is called '{unit}'; state treated_unit as it is in the table", code="no_unit")
        periods = study.column(Role.TIME)
        later = periods[periods >= float(time)]
        starts = float(later.min()) if len(later) else float(time)
        roles: dict[Role, tuple[str, ...]] = dict(study.roles)
        roles.pop(Role.TREATMENT, None)
        study = replace(study, roles=roles, arms=()).with_column(
            "first treated period", np.where(labels == str(unit), starts, 0.0), Role.COHORT
        )
    panel = without_always_treated(read_panel(study, starts=params.treatment_time))
    count = int(np.isfinite(panel.cohort).sum())
    if count != 1:
        raise PanelError(
            f"{count} units are treated, a synthetic control is built for one; state treated_unit, or use "
            "difference_in_differences",
            code="several_treated_units",
        )
    panel = complete_units(panel)
    if len(panel.labels) < 3:
        raise PanelError(
            f"{len(panel.labels) - 1} units could be donors, at least 2 are needed; deliver untreated units",
            code="no_donors",
        )
    return panel


def _predictors(study: Study, panel: Panel, params: SyntheticControlParams, before: int) -> np.ndarray:
    """Return predictors of every unit, shape (k, N)."""
    if not params.predictors:
        return panel.wide(panel.outcome)[:, :before].T
    frame = study.frame
    rows = []
    for column, times in params.predictors:
        if column not in frame.columns:
            raise CatalogError(f"parameter 'predictors' names '{column}', which is no column that plays a role")
        inside = frame[study.name(Role.TIME)].isin(times).to_numpy()
        if f"{column} (missing)" in frame.columns:  # a value that preparation imputed is none
            inside = inside & (frame[f"{column} (missing)"] == 0).to_numpy()
        values = frame.loc[inside].groupby(study.name(Role.UNIT))[column].mean().reindex(panel.labels)
        if values.isna().any():
            raise PanelError(
                f"predictor '{column}' has no value for unit '{values.index[values.isna()][0]}' in the periods asked "
                "for; choose periods in which every unit has one",
                code="missing_predictor",
            )
        spread = float(values.std(ddof=1))
        if spread == 0:
            raise PanelError(f"predictor '{column}' is the same for all units; leave it out", code="constant_predictor")
        rows.append(values.to_numpy(dtype=float) / spread)
    return np.vstack(rows)


@dataclass(frozen=True)
class _Pool:
    """The donors: outcomes of shape (J, T) and predictors of shape (k, J), from which any unit is put together."""

    outcome: np.ndarray
    predictors: np.ndarray
    before: int
    periods: np.ndarray
    params: SyntheticControlParams

    def fit(self, target: np.ndarray, own: np.ndarray, barred: int | None = None) -> _Fit:
        """Fit a unit's outcomes and predictors; a donor that plays the treated unit is barred from its own pool."""
        before = self.before
        if self.params.method == "synthetic_did":
            pool = self.outcome if barred is None else np.delete(self.outcome, barred, axis=0)
            found = synthetic_did(target, pool, before, self.params.time_ridge)
            gap = target - found.units @ pool
            gap = gap - found.times @ gap[:before]
            return _Fit(found.units, gap, found.effect, _rms(gap[:before]), _rms(gap[before:]))
        root = np.sqrt(self._importance(target, own, barred))
        weights = simplex_weights(own * root, self.predictors * root[:, None], barred=barred)
        gap = target - self._synthetic(weights)
        return _Fit(weights, gap, float(gap[before:].mean()), _rms(gap[:before]), _rms(gap[before:]), root)

    def _importance(self, target: np.ndarray, own: np.ndarray, barred: int | None) -> np.ndarray:
        params = self.params
        if params.v == "given":
            return np.asarray(params.importance, dtype=float)
        if params.v == "identity":
            return np.ones(len(own))
        first, last = params.fit_times or (self.periods[0], self.periods[self.before - 1])
        window = (self.periods >= first) & (self.periods <= last)

        def misfit(weights: np.ndarray) -> float:
            return float(np.mean((target - self._synthetic(weights))[window] ** 2))

        return nested_importance(own, self.predictors, misfit, params.evaluations, barred)

    def _synthetic(self, weights: np.ndarray) -> np.ndarray:
        used = np.flatnonzero(weights)
        return np.asarray(weights[used] @ self.outcome[used])


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _uniqueness(study: Study, own: _Fit, target: np.ndarray, pool: "_Pool", before: int) -> Diagnostic:
    """Judge whether other donor weights fit the treated unit as well."""
    if own.root is None:
        return SPEC.judge(study, "movable_weight", None, "the ridge of synthetic_did makes its weights unique")
    share = movable_weight(target * own.root, pool.predictors * own.root[:, None], own.weights)
    detail = f"{len(own.weights)} donors for {before} periods before treatment; {share:.0%} of the weights can move"
    return SPEC.judge(study, "movable_weight", share, detail)


def _placebos(panel: Panel, units: list[int], fits: list[_Fit], perfect: float) -> pd.DataFrame:
    """Return one row per unit, the treated one first: effect, RMSPE before and after, and their ratio.

    The ratio is missing where the fit before treatment is without error.
    """
    return pd.DataFrame(
        {
            "unit": panel.labels[units].astype(str),
            "treated": [True] + [False] * (len(units) - 1),
            "effect": [item.effect for item in fits],
            "pre_rmspe": [item.before for item in fits],
            "post_rmspe": [item.after for item in fits],
            "ratio": [item.ratio(perfect) for item in fits],
        }
    )


def _placebo_gaps(panel: Panel, units: list[int], fits: list[_Fit]) -> pd.DataFrame:
    """Return one row per unit and period, the treated unit first: the gap to the unit's own synthetic control."""
    periods = len(panel.periods)
    return pd.DataFrame(
        {
            "unit": np.repeat(panel.labels[units].astype(str), periods),
            "treated": np.arange(len(units) * periods) < periods,
            "time": np.tile(panel.periods, len(units)),
            "gap": np.concatenate([item.gap for item in fits]),
        }
    )


def _applicable(study: Study) -> tuple[bool, str, float]:
    try:
        panel = _panel(study, SyntheticControlParams())
    except CqoxError as error:
        return False, error.message, 0.0
    return True, f"one unit is treated and {len(panel.labels) - 1} others could make up its comparison", 1.0


SPEC = EstimatorSpec(
    name="synthetic_control",
    title="Synthetic control",
    family="panel",
    estimands=(Estimand.ATT,),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.UNIT, Role.TIME}),
    accepts=frozenset({Role.TREATMENT, Role.COHORT, Role.COVARIATES}),
    treatment=(TreatmentKind.BINARY,),
    aliases=("SCM", "synthetic_did"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("donor_pool", "no_anticipation", "no_interference", "consistency"),
    references=(
        "Abadie, Diamond & Hainmueller 2010, doi:10.1198/jasa.2009.ap08746",
        "Arkhangelsky et al. 2021, doi:10.1257/aer.20190159",
    ),
    diagnostics=("relative_pre_fit", "movable_weight"),
    tables=("gaps", "donor_weights", "placebos", "placebo_gaps"),
    truths=("one_treated_unit", "null_unit"),
    breaks=("outlying_unit",),
    oracle=("synthetic_control", "synthetic_did"),
    applicable=_applicable,
    params=SyntheticControlParams,
    question="What would the one treated unit have done without treatment, judged by a mix of others that moved like "
    "it?",
    formula=r"\hat\tau_t = y_{1t} - \sum_j \hat w_j y_{jt},\qquad \hat w = \arg\min_{w \ge 0,\, \sum_j w_j = 1}"
    r" (x_1 - X_0 w)' V (x_1 - X_0 w)",
    reading="Look at the gaps before treatment: without a close fit there, the gap afterwards says nothing. The "
    "p-value is the rank of the treated unit among placebo units, so it cannot be smaller than one over their "
    "number. A few donors with weight are normal and should make sense.",
    interval_claim="other",
    claim_note="The standard error is the spread of placebo effects on the donors, and the p-value their rank: both "
    "hold where the treated unit could have been any of the units, and the p-value is at least one over their "
    "number.",
    claim_coverage=(0.92, 0.98),
    example=Example(
        data="tests/oracle/data/prop99.csv",
        roles={"outcome": "cigsale", "unit": "state", "time": "year"},
        params={"treated_unit": "California", "treatment_time": 1989.0},
    ),
)
