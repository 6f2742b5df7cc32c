"""Effect on the treated from how treated and untreated units change over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.measures import Diagnostic
from cqox_assets.numerics.group_time import (
    aggregate,
    cluster_sums,
    group_time_effects,
    joint_p_value,
    simultaneous_quantile,
    unit_covariance,
)
from cqox_assets.numerics.panel import (
    Panel,
    check_groups,
    complete_units,
    unit_weights,
    without_always_treated,
)
from cqox_assets.numerics.panel_effects import PanelEffects, band_table, columns_of, covariance_table
from cqox_assets.numerics.panel_timing import read_panel
from cqox_assets.numerics.sample import words_of
from cqox_assets.numerics.two_way import (
    PanelFit,
    event_dummies,
    fit_first_difference,
    fit_two_by_two,
    fit_two_way,
    placebo_spread,
)
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_TWO_BY_TWO = ("interaction_ols", "first_difference", "cell_means")


@dataclass(frozen=True)
class DifferenceInDifferencesParams(CommonParams):
    """Parameters of the comparison over time.

    Parameters
    ----------
    method : str
        `auto` is `interaction_ols` with two periods, one starting time and no covariates, and `callaway_santanna`
        otherwise. `interaction_ols`, `first_difference` and `cell_means` compare two groups before and after;
        `twfe` is one coefficient beside unit and period effects, `event_study` one per time since treatment.
    est_method : str
        Of `callaway_santanna`: `dr` (doubly robust), `ipw` or `reg`.
    control_group : str
        `nevertreated` or `notyettreated`; `auto` is `nevertreated` where such units exist.
    base_period : str
        `varying` compares a period before treatment with the one before it, `universal` with the last untreated one.
    aggregation : str
        The headline of `callaway_santanna`: `simple`, `group`, `calendar` or `dynamic`.
    anticipation : int
        Periods before treatment in which units may already react.
    intervention_time : float, optional
        First treated period where the treatment marks a group and not a time; study.yaml may state it instead.
    always_treated : str
        `drop` units that are treated in the first period, or `keep` them (regressions only).
    se : str
        `auto` is CR1 by cluster (unit, unless one is mapped); HC2 and HC3 of the 2x2 forms only. Of
        `callaway_santanna`: influence functions by cluster, enlarged for the few clusters of a cohort by `auto`, as
        they are by `influence`.
    dof : str
        Of `twfe` and `event_study`: `time_effects_only` or `all_effects` count against the degrees of freedom.
    interval_form : str
        `normal`, or `t` with clusters - 1; `auto` is t for regressions and for mapped clusters, normal otherwise.
    reference_event_time : float
        Of `event_study`: the time since treatment that the others are compared with.
    bins : tuple of float, optional
        Of `event_study`: earliest and latest time since treatment, beyond which times are pooled.
    """

    method: Literal[
        "auto", "interaction_ols", "first_difference", "cell_means", "twfe", "event_study", "callaway_santanna"
    ] = "auto"
    est_method: Literal["dr", "ipw", "reg"] = "dr"
    control_group: Literal["auto", "nevertreated", "notyettreated"] = "auto"
    base_period: Literal["varying", "universal"] = "varying"
    aggregation: Literal["simple", "group", "calendar", "dynamic"] = "simple"
    anticipation: int = 0
    intervention_time: float | None = None
    always_treated: Literal["drop", "keep"] = "drop"
    se: Literal["auto", "classical", "HC0", "HC1", "HC2", "HC3", "CR0", "CR1", "influence"] = "auto"
    dof: Literal["time_effects_only", "all_effects"] = "time_effects_only"
    interval_form: Literal["auto", "normal", "t"] = "auto"
    reference_event_time: float = -1
    bins: tuple[float, float] | None = None


def run(study: Study, params: DifferenceInDifferencesParams, context: Context) -> EffectEstimate | Refusal:
    """Estimate the effect on the treated from changes over time.

    Parameters
    ----------
    study : Study
        Outcome, unit, time and a cohort (first treated period) or a treatment; optional covariates, weight, cluster.
    params : DifferenceInDifferencesParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        The headline, then one effect per cohort, period or time since treatment. Tables: `att_gt`, `aggregations`,
        `event_study` (with a band that covers all its rows at once) and its covariance, or `coefficients`.
        Refused if the rows are no panel, nobody or everybody is treated, or all treated units lie in one cluster.

    Notes
    -----
    ATT(g, t) = E[Y_t - Y_b | G = g] - E[Y_t - Y_b | comparison], b the last period before g, adjusted for covariates
    of the earlier period. With staggered treatment and effects that change, `twfe` weighs some of them negatively
    (Goodman-Bacon 2021, doi:10.1016/j.jeconom.2021.03.014); `callaway_santanna` does not.

    References
    ----------
    Callaway & Sant'Anna (2021, doi:10.1016/j.jeconom.2020.12.001); Sant'Anna & Zhao (2020,
    doi:10.1016/j.jeconom.2020.06.003); Bertrand, Duflo & Mullainathan (2004, doi:10.1162/003355304772839588).
    """
    panel = read_panel(study, starts=params.intervention_time, reversible=params.method == "twfe")
    if params.always_treated == "drop" or params.method in ("auto", "callaway_santanna"):
        panel = without_always_treated(panel)
    method = _method(panel, params)
    if method != "cell_means":
        check_groups(panel)
    if method == "callaway_santanna":
        return _group_time(study, complete_units(panel), params)
    if method in _TWO_BY_TWO:
        return _two_by_two(study, panel, params, method)
    return _two_way(study, panel, params, method)


def _method(panel: Panel, params: DifferenceInDifferencesParams) -> str:
    if params.method != "auto":
        return params.method
    simple = len(panel.periods) == 2 and panel.covariates.shape[1] == 0
    return "interaction_ols" if simple else "callaway_santanna"


def _group_time(study: Study, panel: Panel, params: DifferenceInDifferencesParams) -> EffectEstimate | Refusal:
    never = np.isinf(panel.cohort).any()
    control = params.control_group if params.control_group != "auto" else "nevertreated" if never else "notyettreated"
    if control == "nevertreated" and not never:
        return SPEC.refuse(
            "no_never_treated", "every unit is treated sooner or later", "set control_group: notyettreated"
        )
    cells = group_time_effects(
        panel, method=params.est_method, control=control, base=params.base_period, anticipation=params.anticipation,
        small_sample=params.se == "auto",
    )  # fmt: skip
    report = PanelEffects(
        _contrast(study), params.level, _df(panel, params, "influence"), panel.cluster if panel.clustered else None
    )
    kinds = {kind: aggregate(cells, kind) for kind in ("simple", "group", "calendar", "dynamic")}
    headline, dynamic = kinds[params.aggregation], kinds["dynamic"]
    detail = report.parts(dynamic if params.aggregation == "simple" else headline)
    effects = [report.effect(headline.overall, headline.overall_influence)]
    effects += [part for at, part in detail if params.aggregation in ("group", "calendar") or at >= 0]
    before = ~cells.treated & (cells.time < cells.group - params.anticipation)
    covariance = unit_covariance(cells.influence[:, before], report.cluster)
    sums = cluster_sums(dynamic.influence, panel.cluster)
    quantile = simultaneous_quantile(sums, params.level, params.draws, params.seed)
    notices = [*panel.notices]
    if cells.skipped:
        notices.append(f"{cells.skipped} cells of cohort and period have nobody to compare with and were left out")
    words = {"dr": "doubly robust", "ipw": "inverse probability weighted", "reg": "outcome regression"}
    compared = "never treated" if control == "nevertreated" else "not yet treated"
    return SPEC.estimate(
        _by_cluster(study, panel), effects,
        inference=f"influence functions, clustered by {_cluster_name(study)}; {words[params.est_method]}, "
        f"compared with the {compared}, {params.aggregation} average",
        diagnostics=_diagnostics(study, panel, joint_p_value(cells.estimate[before], covariance)),
        tables={
            "att_gt": report.cells(cells),
            "aggregations": report.aggregations(list(kinds.values())),
            "event_study": band_table(report.parts(dynamic), quantile),
            "event_study_covariance": covariance_table(
                dynamic.at, unit_covariance(dynamic.influence, report.cluster)
            ),
        },
        notices=notices, used=len(panel.outcome), dropped=panel.dropped,
    )  # fmt: skip


def _clusters(panel: Panel) -> np.ndarray | None:
    return panel.cluster if panel.clustered else None


def _two_by_two(
    study: Study, panel: Panel, params: DifferenceInDifferencesParams, method: str
) -> EffectEstimate | Refusal:
    starts = np.unique(panel.cohort[np.isfinite(panel.cohort)])
    if len(starts) > 1 or np.isfinite(panel.cohort).all():
        return SPEC.refuse(
            "staggered_adoption",
            f"treatment starts in {len(starts)} different periods, so there is no one before and after",
            "use method callaway_santanna",
        )
    names = ["treatment", "post", *map(str, study.names(Role.COVARIATES))]
    lone = len(np.unique(panel.cluster[np.isfinite(panel.cohort)])) < 2
    if method == "first_difference":
        found = fit_first_difference(panel, [names[0], *names[2:]], float(starts[0]), unit_weights(panel))
        term = "treatment"
    else:
        group = np.isfinite(panel.cohort[panel.unit]) * 1.0
        post = (panel.periods[panel.period] >= starts[0]) * 1.0
        found, term = fit_two_by_two(panel, names, group=group, post=post), "treatment:post"
    kind: str = "CR1" if params.se == "auto" else params.se
    notices = [*panel.notices]
    if lone:
        kind, covariance = "placebo", np.zeros((len(found.names),) * 2)
        place = found.names.index(term)
        covariance[place, place] = placebo_spread(panel, float(starts[0])) ** 2
        notices.append("one cluster is treated, so the standard error is the spread of placebo effects on the others")
    else:
        covariance = found.covariance(kind)
    return _regression(study, panel, params, found, covariance, kind, notices, headline=[term])


def _two_way(
    study: Study, panel: Panel, params: DifferenceInDifferencesParams, method: str
) -> EffectEstimate | Refusal:
    notices = [*panel.notices]
    kind: str = "CR1" if params.se == "auto" else params.se
    if method == "twfe":
        found = fit_two_way(panel, panel.status[:, None], ["treatment"], params.dof)
        headline = ["treatment"]
        if len(np.unique(panel.cohort[np.isfinite(panel.cohort)])) > 1:
            notices.append("treatment starts at different times, so this coefficient may weigh some effects negatively")
    else:
        times, dummies = event_dummies(panel, params.reference_event_time, params.bins)
        labels = [f"event_time={value:g}" for value in times]
        found = fit_two_way(panel, dummies, labels, params.dof)
        headline = [label for label, value in zip(labels, times, strict=True) if value >= 0 and label in found.names]
        lost = [label for label in labels if label not in found.names]
        if lost:
            notices.append(f"left out as combinations of unit and period effects: {', '.join(lost)}")
    if not headline or any(name not in found.names for name in headline):
        return SPEC.refuse(
            "collinear_treatment",
            "treatment is a combination of unit effects, period effects and covariates",
            "leave out covariates that restate it, or deliver units that are treated at other times or never",
        )
    covariance = found.covariance(kind)
    return _regression(study, panel, params, found, covariance, kind, notices, headline=headline)


def _regression(
    study: Study, panel: Panel, params: DifferenceInDifferencesParams, found: PanelFit, covariance: np.ndarray,
    kind: str, notices: list[str], headline: Sequence[str],
) -> EffectEstimate:  # fmt: skip
    """Assemble the answer of a regression: mean of the `headline` terms, and each of them if there are several."""
    report = PanelEffects(_contrast(study), params.level, _df(panel, params, kind), None)

    def effect(weights: np.ndarray, at: dict[str, float] | None = None) -> Effect:
        variance = float(weights @ covariance @ weights)
        return report.known(float(weights @ found.coef), float(np.sqrt(max(variance, 0.0))), at)

    place = {name: k for k, name in enumerate(found.names)}
    units = np.eye(len(found.names))
    effects = [effect(units[[place[name] for name in headline]].mean(axis=0))]
    rows = [{"term": name, **columns_of(effect(units[k]))} for name, k in place.items()]
    tables = {"coefficients": pd.DataFrame(rows)}
    events = [(float(name.split("=")[1]), k) for name, k in place.items() if name.startswith("event_time=")]
    if events:
        parts = [(at, effect(units[k], {"event_time": at})) for at, k in events]
        effects += [part for at, part in parts if at >= 0]
        influence = found.fit.influence()[:, found.positions[[k for _, k in events]]]
        sums = cluster_sums(influence, found.cluster)
        tables["event_study"] = band_table(parts, simultaneous_quantile(sums, params.level, params.draws, params.seed))
        places = [k for _, k in events]
        tables["event_study_covariance"] = covariance_table(
            [at for at, _ in events], covariance[np.ix_(places, places)]
        )
    words = "placebo effects on untreated units" if kind == "placebo" else words_of(kind, found.cluster)
    if kind.startswith("CR"):
        words += f", clustered by {_cluster_name(study)}"
    return SPEC.estimate(
        _by_cluster(study, panel), effects, inference=words,
        diagnostics=_diagnostics(study, panel, _pretrend(panel, params)), tables=tables, notices=notices,
        used=len(panel.outcome), dropped=panel.dropped,
    )  # fmt: skip


def _pretrend(panel: Panel, params: DifferenceInDifferencesParams) -> tuple[float, float] | None:
    """Return the joint test of all leads below the reference in an event study; None where there are none."""
    times, dummies = event_dummies(panel, params.reference_event_time, params.bins)
    early = times < params.reference_event_time
    if not early.any():
        return None
    found = fit_two_way(panel, dummies, [f"{value:g}" for value in times], params.dof)
    leads = [k for k, name in enumerate(found.names) if float(name) < params.reference_event_time]
    kind = params.se if params.se != "auto" else "CR1"
    return joint_p_value(found.coef[leads], found.covariance(kind)[np.ix_(leads, leads)])


def _diagnostics(study: Study, panel: Panel, test: tuple[float, float] | None) -> list[Diagnostic]:
    treated = len(np.unique(panel.cluster[np.isfinite(panel.cohort)]))
    if test is None:
        pretrend = SPEC.judge(study, "pretrend_p", None, "there are no earlier periods that could be tested")
    else:
        pretrend = SPEC.judge(study, "pretrend_p", test[1], f"chi-squared {test[0]:.2f}, p = {test[1]:.3g}")
    return [pretrend, SPEC.judge(study, "treated_clusters", float(treated))]


def _df(panel: Panel, params: DifferenceInDifferencesParams, kind: str) -> float | None:
    """Return clusters - 1 where intervals are Student's; a regression's clusters or mapped ones ask for that."""
    auto = kind.startswith("CR") or (kind == "influence" and panel.clustered)
    if params.interval_form == "normal" or (params.interval_form == "auto" and not auto):
        return None
    return float(panel.cluster.max())


def _contrast(study: Study) -> str:
    return f"{study.arms[1]} - {study.arms[0]}" if len(study.arms) == 2 else "treated - untreated"


def _cluster_name(study: Study) -> str:
    return study.name(Role.CLUSTER if study.has(Role.CLUSTER) else Role.UNIT)


def _by_cluster(study: Study, panel: Panel) -> Study:
    """Return a study whose clusters are those of the panel, for the count in the sample."""
    frame = pd.DataFrame({"cluster": panel.row_cluster})
    roles = {Role.CLUSTER: ("cluster",)}
    if study.has(Role.TREATMENT) and len(study.arms) == 2:
        frame["treated"], roles[Role.TREATMENT] = panel.status, ("treated",)
    return Study(frame=frame, roles=roles, arms=study.arms if len(frame.columns) > 1 else (), dropped=study.dropped)


def _applicable(study: Study) -> tuple[bool, str, float]:
    try:
        panel = without_always_treated(read_panel(study))
        check_groups(panel)
    except CqoxError as error:
        return False, error.message, 0.0
    starts = len(np.unique(panel.cohort[np.isfinite(panel.cohort)]))
    when = "in one period" if starts == 1 else f"in {starts} different periods"
    return True, f"units are followed over {len(panel.periods)} periods and treatment starts {when}", 1.0


SPEC = EstimatorSpec(
    name="difference_in_differences",
    title="Difference in differences",
    family="panel",
    estimands=(Estimand.ATT,),
    run=run,
    requires=frozenset({Role.OUTCOME, Role.UNIT, Role.TIME}),
    accepts=frozenset({Role.TREATMENT, Role.COHORT, Role.COVARIATES, Role.WEIGHT, Role.CLUSTER}),
    treatment=(TreatmentKind.BINARY,),
    aliases=("DiD", "DID", "callaway_santanna", "event_study"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("parallel_trends", "no_anticipation", "no_interference", "consistency"),
    references=(
        "Callaway & Sant'Anna 2021, doi:10.1016/j.jeconom.2020.12.001",
        "Sant'Anna & Zhao 2020, doi:10.1016/j.jeconom.2020.06.003",
        "Goodman-Bacon 2021, doi:10.1016/j.jeconom.2021.03.014",
    ),
    diagnostics=("pretrend_p", "treated_clusters"),
    tables=("att_gt", "aggregations", "event_study", "event_study_covariance"),
    truths=("staggered_panel", "clustered_panel", "weighted_panel", "null_panel"),
    breaks=("diverging_trends",),
    oracle=("did_2x2", "did_twfe", "event_study_twfe", "callaway_santanna"),
    applicable=_applicable,
    params=DifferenceInDifferencesParams,
    question="How much more did the outcome change among the treated than among those not (yet) treated?",
    formula=r"\mathrm{ATT}(g, t) = E[y_t - y_{g-1} \mid G = g] - E[y_t - y_{g-1} \mid \text{comparison}],\qquad"
    r" \hat\theta = \sum_{g \le t} w_{g}\, \widehat{\mathrm{ATT}}(g, t)",
    reading="It rests on parallel trends: without treatment both would have changed alike. The event study shows the "
    "leads, and pretrend_p tests them; a large p does not prove the assumption. With staggered starts prefer "
    "callaway_santanna to twfe, which may weigh effects negatively. Fewer than about ten treated clusters are few.",
    coverage_rows=2000,
    example=Example(
        data="tests/oracle/data/mpdta.csv",
        roles={
            "outcome": "lemp",
            "unit": "countyreal",
            "time": "year",
            "cohort": "first_treat",
            "covariates": ["lpop"],
        },
    ),
)
