"""Effect on the treated from units with the same history of treatment that were not treated then."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CatalogError, CqoxError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.group_time import joint_p_value, simultaneous_quantile
from cqox_assets.numerics.matched_sets import (
    Contributions,
    MatchedSets,
    choose_window,
    form_sets,
    onset_rows,
    weighted_changes,
)
from cqox_assets.numerics.panel import PanelError
from cqox_assets.numerics.panel_effects import band_table, covariance_table
from cqox_assets.numerics.sample import TooFewRowsError
from cqox_assets.numerics.set_effects import SetInference, balance_of_sets, set_sizes, sets_table
from cqox_assets.numerics.set_refinement import (
    complete_in_window,
    filled,
    fit_propensity,
    keep_nearest,
    weigh_by_propensity,
)
from cqox_assets.numerics.unit_history import History, read_history
from cqox_assets.result import EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind


@dataclass(frozen=True)
class PanelMatchingParams(CommonParams):
    """Parameters of panel matching.

    Parameters
    ----------
    lag : int, optional
        Periods before treatment over which the history of treatment must be the same; by default as many as 80% of
        the treated observations can be followed over, at most 4.
    leads : tuple of int
        Periods since the start of treatment, 0 the first treated one; by default from 0 on, chosen like `lag`.
    leads_required : tuple of int
        Periods in which an outcome must be there for an observation to be used; the leads by default.
    refinement : str
        `none`, `mahalanobis` or `ps_matching` (the `size` nearest controls), `ps_weighting` (odds of being treated);
        `auto` is `ps_weighting` with covariates and `none` without.
    size : int
        Controls per treated observation of the matching refinements, ties at the edge included.
    mahalanobis_covariance : str
        `full` covariance of a set's controls, or `diagonal`: their variances only.
    covariate_lags : tuple of int
        Periods before the start whose covariates are used; 1 to `lag` by default.
    outcome_lags : tuple of int
        Periods before the start whose outcomes are used like covariates; none by default.
    missing_covariates : str
        `match_missing` (an indicator beside 0), `complete` (observations with missing values are left out), or
        `listwise` (those with a missing value in any period from `lag` before to the last lead are).
    forbid_reversal : bool, optional
        Whether the treated must stay treated and their controls untreated through the last lead; by default where
        treatment never ends in the data.
    headline : str
        `average` over the leads, or the `first` of them.
    se : str
        `influence` in closed form, where weights sum to one within a set and the propensity is estimated; with the
        weights held as known: `bootstrap` of units (clusters, where mapped), `unconditional` or `conditional` on the
        number of treated observations.
    """

    lag: int | None = None
    leads: tuple[int, ...] = ()
    leads_required: tuple[int, ...] = ()
    refinement: Literal["auto", "none", "mahalanobis", "ps_weighting", "ps_matching"] = "auto"
    size: int = 5
    mahalanobis_covariance: Literal["full", "diagonal"] = "full"
    covariate_lags: tuple[int, ...] = ()
    outcome_lags: tuple[int, ...] = ()
    missing_covariates: Literal["match_missing", "complete", "listwise"] = "match_missing"
    forbid_reversal: bool | None = None
    headline: Literal["average", "first"] = "average"
    se: Literal["influence", "bootstrap", "unconditional", "conditional"] = "influence"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("leads", "leads_required", "covariate_lags", "outcome_lags"):
            values = getattr(self, name)
            low = 1 if name == "outcome_lags" else 0
            if any(value != int(value) or value < low for value in values):
                raise CatalogError(f"parameter '{name}' is {values}; it must hold whole numbers of at least {low}")
            object.__setattr__(self, name, tuple(dict.fromkeys(int(value) for value in values)))
        for name in ("lag", "size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise CatalogError(f"parameter '{name}' is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class _Plan:
    """What the parameters come to on this panel."""

    lag: int
    leads: tuple[int, ...]
    required: tuple[int, ...]
    forbid: bool
    refinement: str
    notices: tuple[str, ...]


def run(study: Study, params: PanelMatchingParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the effect on the treated by lead, from matched sets of the same treatment history.

    Parameters
    ----------
    study : Study
        Outcome, unit, time and a treatment that may end again (or a cohort); optional covariates, weight, cluster.
    params : PanelMatchingParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        The average over leads, then one effect per lead. Tables: `event_study` (leads and, before treatment,
        placebo leads, with a band that covers all rows), its covariance,
        `matched_sets` (controls of each treated observation),
        `set_sizes`, `balance` (per covariate and lag, before and after). Refused if no treated observation has a
        control with its history.

    Raises
    ------
    CatalogError
        If `trim` is given, or a refinement without covariates.
    CqoxError
        What the panel lacks: the runner turns it into a refusal.

    Notes
    -----
    ATT(F) = sum_it D_it [(Y_i,t+F - Y_i,t-1) - sum_j w_it^j (Y_j,t+F - Y_j,t-1)] / sum_it D_it, D_it = 1 if unit i is
    untreated in t-1, treated in t and has a control; j are the units untreated in t with the same history of treatment
    over `lag` periods. The bootstrap holds the matches: finding them again in every draw is not valid (Abadie & Imbens
    2008, doi:10.3982/ECTA6474).

    References
    ----------
    Imai, Kim & Wang (2023, doi:10.1111/ajps.12685).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but panel_matching trims no propensities")
    history = read_history(study)
    _check_treated(history)
    plan = _plan(history, study, params)
    sets = form_sets(
        history, plan.lag, plan.required, forbid_reversal=plan.forbid,
        match_missing=params.missing_covariates == "match_missing" and plan.refinement != "none",
    )  # fmt: skip
    _check_matched(sets, plan)
    sets, treated, control, names = _refined(history, sets, plan, params)
    _check_matched(sets, plan)
    return _report(study, history, sets, plan, params, balance_of_sets(history, sets, treated, control, names))


def _plan(history: History, study: Study, params: PanelMatchingParams) -> _Plan:
    lag, lead = choose_window(history)
    notices = list(history.panel.notices)
    if params.lag is None:
        notices.append(f"histories of treatment are compared over {lag} periods")
    leads = params.leads or tuple(range(lead + 1))
    ends = (history.status == 0) & (history.status_at(np.arange(len(history.status)), -1) == 1)
    forbid = params.forbid_reversal
    if forbid is None:
        forbid = not ends.any()
        words = "never ends, so controls stay untreated through the last lead" if forbid else (
            "ends again for some units, so what happens to treated and controls after the start is left open; "
            "forbid_reversal: true compares stays")  # fmt: skip
        notices.append(f"treatment {words}")
    some = bool(history.names) or bool(params.outcome_lags)
    refinement = params.refinement
    if refinement == "auto":
        refinement = "ps_weighting" if some else "none"
    elif refinement != "none" and not some:
        raise CatalogError(f"refinement '{refinement}' needs covariates; map some, or set outcome_lags")
    required = tuple(sorted({*leads, *params.leads_required}))
    return _Plan(params.lag or lag, leads, required, forbid, refinement, tuple(notices))


def _check_treated(history: History) -> None:
    """Refuse onsets that lie in one cluster: its own changes cannot be told from an effect."""
    rows = onset_rows(history)
    if len(rows) == 0:
        raise PanelError(
            "no unit is seen untreated in one period and treated in the next; deliver earlier periods, or units whose "
            "treatment starts in the window",
            code="no_treated_units",
        )
    clusters = history.panel.cluster[history.unit[rows]]
    if len(np.unique(clusters)) < 2 or history.panel.cluster.max() < 1:
        what = "cluster" if history.panel.clustered else "unit"
        raise PanelError(
            f"all units that become treated lie in one {what}, so its own changes cannot be told from an effect; "
            "use synthetic_control for one treated unit, or deliver more",
            code="too_few_clusters",
        )


def _check_matched(sets: MatchedSets, plan: _Plan) -> None:
    if len(sets.treated) == 0:
        raise PanelError(
            f"none of the {sets.onsets} treated observations has a control with the same history over {plan.lag} "
            f"periods and outcomes through lead {max(plan.required)}; set a shorter lag or fewer leads, or deliver "
            "untreated units",
            code="no_matches",
        )


def _refined(
    history: History, sets: MatchedSets, plan: _Plan, params: PanelMatchingParams
) -> tuple[MatchedSets, np.ndarray, np.ndarray, list[str]]:
    """Return the refined sets, the covariates of their treated and control observations and the columns' names."""
    columns = np.column_stack([history.covariates, history.outcome])
    lags = params.covariate_lags or tuple(range(1, plan.lag + 1))
    names = [f"{name}, lag {back}" for name in history.names for back in lags]
    names += [f"outcome, lag {back}" for back in params.outcome_lags]

    def values(rows: np.ndarray) -> np.ndarray:
        past = [history.lagged(rows, columns[:, :-1], lags), history.lagged(rows, columns[:, -1:], params.outcome_lags)]
        return np.concatenate(past, axis=1)

    if params.missing_covariates == "listwise" and plan.refinement != "none":
        used = columns if params.outcome_lags else columns[:, :-1]
        window = range(-plan.lag, max(plan.required) + 1)
        every = tuple(dict.fromkeys((*lags, *params.outcome_lags)))
        whole = [complete_in_window(history, rows, used, every, window) for rows in (sets.treated, sets.control)]
        sets = sets.keep(*whole)
    treated, control = values(sets.treated), values(sets.control)
    if params.missing_covariates != "match_missing" and plan.refinement != "none":
        sets, fine = _complete(sets, treated, control)
        treated, control = treated[fine[0]], control[fine[1]]
    full = filled(np.concatenate([treated, control]))
    one, zero = full[: len(treated)], full[len(treated) :]
    if len(sets.treated) == 0 or plan.refinement == "none":
        return sets, treated, control, names
    weight = history.weight[history.unit[np.concatenate([sets.treated, sets.control])]]
    if plan.refinement == "ps_weighting":
        _check_rows(full)
        return weigh_by_propensity(sets, one, zero, weight), treated, control, names
    metric: str = params.mahalanobis_covariance
    if plan.refinement == "ps_matching":
        _check_rows(full)
        score = fit_propensity(one, zero, weight).probability[:, None]
        one, zero, metric = score[: len(one)], score[len(one) :], "plain"
    return keep_nearest(sets, one, zero, params.size, metric), treated, control, names


def _complete(
    sets: MatchedSets, treated: np.ndarray, control: np.ndarray
) -> tuple[MatchedSets, tuple[np.ndarray, np.ndarray]]:
    """Return the sets of the observations without missing values, and which observations those are."""
    fine = [~np.isnan(values).any(axis=1) for values in (treated, control)]
    kept = sets.keep(*fine)
    return kept, (np.isin(sets.treated, kept.treated), np.isin(sets.control, kept.control))


def _check_rows(design: np.ndarray) -> None:
    if len(design) <= design.shape[1] + 1:
        raise TooFewRowsError(
            f"{len(design)} observations for {design.shape[1] + 1} columns of the propensity model; "
            "map fewer covariates, set fewer covariate_lags or deliver more units"
        )


def _report(
    study: Study, history: History, sets: MatchedSets, plan: _Plan, params: PanelMatchingParams, balance: pd.DataFrame
) -> EffectEstimate | Refusal:
    cluster, inference = history.panel.cluster, SetInference(history, _contrast(study), params, params.se)
    parts, there = weighted_changes(history, sets, plan.leads, cluster, held=inference.held)
    leads = [lead for lead, found in zip(plan.leads, there, strict=True) if found]
    shared = Contributions(
        np.column_stack([parts.numerator.mean(axis=1), parts.numerator]),
        np.column_stack([parts.denominator[:, 0], parts.denominator]),
    )
    effects = inference.effects(shared, [dict[str, object](), *({"lead": lead} for lead in leads)])
    if params.headline == "first" or len(leads) == 1:
        effects = [replace(effects[1], at={"lead": leads[0]} if len(leads) > 1 else {}), *effects[2:]]
    placebo, seen = weighted_changes(history, sets, range(-plan.lag, -1), cluster, held=inference.held)
    before = [lead for lead, found in zip(range(-plan.lag, -1), seen, strict=True) if found]
    events, covariance = _events(inference, parts, leads, placebo, before)
    matched = sets_table(history, sets)
    outcome = SPEC.estimate(
        _sample(study, sets), effects, inference=inference.words(history),
        diagnostics=_diagnostics(study, history, sets, balance, placebo),
        tables={"event_study": events, "event_study_covariance": covariance, "matched_sets": matched,
                "set_sizes": set_sizes(matched), "balance": balance},
        notices=[*plan.notices, _refinement_words(plan, params)], dropped=history.panel.dropped,
    )  # fmt: skip
    # Clusters without a matched observation are resampled, too, so all of them count.
    return replace(outcome, sample=replace(outcome.sample, clusters=int(cluster.max()) + 1))


def _refinement_words(plan: _Plan, params: PanelMatchingParams) -> str:
    words = {
        "none": "every control of a set counts alike",
        "mahalanobis": f"the {params.size} controls nearest by Mahalanobis distance count alike",
        "ps_weighting": "controls are weighted by their odds of being treated, given the covariates",
        "ps_matching": f"the {params.size} controls nearest by propensity count alike",
    }
    return words[plan.refinement]


def _events(
    inference: SetInference, parts: Contributions, leads: list[int], placebo: Contributions, before: list[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    both = Contributions(
        np.column_stack([placebo.numerator, parts.numerator]), np.column_stack([placebo.denominator, parts.denominator])
    )
    effects = inference.effects(both, [{"lead": lead} for lead in (*before, *leads)])
    params = inference.params
    quantile = simultaneous_quantile(both.influence(), params.level, params.draws, params.seed)
    times = [float(lead) for lead in (*before, *leads)]
    table = band_table(list(zip(times, effects, strict=True)), quantile)
    return table, covariance_table(times, inference.covariance(both))


def _sample(study: Study, sets: MatchedSets) -> Study:
    """Return a study of the matched observations, for the counts in the sample."""
    frame = pd.DataFrame({"treated": np.repeat([1.0, 0.0], [len(sets.treated), len(sets.control)])})
    arms = study.arms if len(study.arms) == 2 else ("untreated", "treated")
    return Study(frame=frame, roles={Role.TREATMENT: ("treated",)}, arms=arms, dropped=study.dropped)


def _diagnostics(
    study: Study, history: History, sets: MatchedSets, balance: pd.DataFrame, placebo: Contributions
) -> list[Diagnostic]:
    psi = placebo.influence()
    test = joint_p_value(placebo.estimate, psi.T @ psi) if psi.shape[1] else None
    if test is None:
        words = "the lag leaves no earlier period that could be tested; set a longer lag"
        pretrend = SPEC.judge(study, "pretrend_p", None, words)
    else:
        words = f"changes before treatment: chi-squared {test[0]:.2f}, p = {test[1]:.3g}"
        pretrend = SPEC.judge(study, "pretrend_p", test[1], words)
    share = len(sets.treated) / sets.onsets
    found = f"{len(sets.treated)} of {sets.onsets} treated observations have a control"
    largest = None if balance.empty else balance.iloc[int(balance["after"].to_numpy().argmax())]
    imbalance = SPEC.judge(
        study, "adjusted_smd", None if largest is None else float(largest["after"]),
        "there are no covariates to compare" if largest is None
        else f"the largest is {largest['covariate']} at {largest['after']:.3f}",
    )  # fmt: skip
    clusters = len(np.unique(history.panel.cluster[history.unit[sets.treated]]))
    return [
        pretrend,
        SPEC.judge(study, "matched_share", share, found),
        imbalance if largest is not None else replace(imbalance, applies=False),
        SPEC.judge(study, "treated_clusters", float(clusters)),
    ]


def _contrast(study: Study) -> str:
    return f"{study.arms[1]} - {study.arms[0]}" if len(study.arms) == 2 else "treated - untreated"


def _applicable(study: Study) -> tuple[bool, str, float]:
    try:
        history = read_history(study)
        _check_treated(history)
    except CqoxError as error:
        return False, error.message, 0.0
    count = len(onset_rows(history))
    ends = (history.status == 0) & (history.status_at(np.arange(len(history.status)), -1) == 1)
    if ends.any():
        return True, f"treatment starts {count} times and ends again, which matching on its history allows for", 1.0
    return True, f"treatment starts {count} times and stays, so units can be matched on when it starts", 0.8


SPEC = EstimatorSpec(
    name="panel_matching",
    title="Panel matching",
    family="panel",
    estimands=(Estimand.ATT,),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.UNIT, Role.TIME}),
    accepts=frozenset({Role.TREATMENT, Role.COHORT, Role.COVARIATES, Role.WEIGHT, Role.CLUSTER}),
    treatment=(TreatmentKind.BINARY,),
    aliases=("PanelMatch", "imai_kim_wang"),
    invariances=("row_order", "affine_outcome"),
    resamples=True,
    assumptions=("parallel_trends", "no_anticipation", "shared_history", "no_interference", "consistency"),
    references=(
        "Imai, Kim & Wang 2023, doi:10.1111/ajps.12685",
        "Abadie & Imbens 2008, doi:10.3982/ECTA6474",
    ),
    diagnostics=("pretrend_p", "matched_share", "adjusted_smd", "treated_clusters"),
    tables=("event_study", "event_study_covariance", "matched_sets", "set_sizes", "balance"),
    truths=("returning_treatment", "staggered_panel", "clustered_panel", "weighted_panel", "null_returning"),
    breaks=("diverging_trends", "all_at_once"),
    oracle=("panel_matching",),
    applicable=_applicable,
    params=PanelMatchingParams,
    question="What does a treatment that may start at different times, and end again, do in the periods after it "
    "starts?",
    formula=r"\widehat{ATT}(F) = \frac{\sum_{i,t} D_{it} \left\{ (Y_{i,t+F} - Y_{i,t-1}) - \sum_{j \in M_{it}} "
    r"w_{it}^{j} (Y_{j,t+F} - Y_{j,t-1}) \right\}}{\sum_{i,t} D_{it}}",
    reading="The effect at a lead is the mean change of units that start treatment, since the last period before it, "
    "beyond that of units with the same history that did not start then. Where treatment ends again, later leads "
    "include what became of both groups. Do not trust it where the placebo leads before treatment differ from zero, "
    "or few treated observations have a control.",
    example=Example(
        data="tests/oracle/data/democracy_growth.csv",
        roles={"outcome": "log_gdppc", "treatment": "dem", "covariates": ["trade"], "unit": "country", "time": "year"},
        params={"lag": 4, "leads": [0, 1, 2, 3, 4]},
    ),
    claim_note="Nearest-neighbour refinements have a bias of their own; the claim is for the default weighting.",
    coverage_rows=4000,
)
