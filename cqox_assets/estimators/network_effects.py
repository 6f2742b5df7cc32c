"""Network effects: what the own treatment does, and what that of neighbours does, in a randomised network."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import balance_table, worst_difference
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic
from cqox_assets.nuisance.models import unused_propensity
from cqox_assets.numerics.exposure import CONDITIONS, conservative_variance
from cqox_assets.numerics.exposure_contrasts import Contrast, contrast, design_p
from cqox_assets.numerics.exposure_design import Assignment, Exposed, assignment_of, exposed_by_cluster, exposed_by_ties
from cqox_assets.numerics.exposure_ties import read_ties
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.sample import check_clusters
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study, TreatmentKind

_FEWEST = 2
# Estimand: (compared, reference) condition; None is the mixture of conditions as it was assigned.
_COMPARED: dict[str, tuple[int | None, int]] = {
    Estimand.DIRECT: (2, 0),
    Estimand.INDIRECT: (1, 0),
    Estimand.TOTAL: (3, 0),
    Estimand.OVERALL: (None, 0),
}
_AMONG_EXPOSED = (3, 1)
_PAIRS = ((3, 0), (3, 1), (3, 2), (2, 0), (2, 1), (1, 0))


@dataclass(frozen=True)
class NetworkEffectsParams(CommonParams):
    """Parameters of the network effects.

    Parameters
    ----------
    normalise : str
        `hajek`: each condition's mean is weighted by inverse exposure probabilities that are made to sum to one.
        `horvitz_thompson`: they are divided by the number of units; unbiased, with a much larger spread.
        `unweighted`: plain means, biased where units with many ties differ from those with few.
    units : str
        `comparable`: a contrast is about the units that can have both of its conditions. `all`: every condition's mean
        is over all units that have it (Horvitz-Thompson: a sum over the number of all units), so units without
        neighbours count in d10 and d00 although they can never be exposed.
    exposure : str
        A unit is exposed by `any_treated_neighbour`, or by a share of treated neighbours of at least `threshold`
        (`share_treated`; weights of the edges count in it).
    threshold : float
        Share of treated neighbours, above 0 and at most 1.
    probability : float, optional
        Known probability that a unit (or whole cluster) was treated; else that of the role `propensity`, else the
        observed share.
    saturation : float, optional
        Without edges the cluster is the neighbourhood: known share treated within clusters that were drawn to be
        treated; the observed share by default, 1 where whole clusters are treated.
    directed : bool
        Whether treatment reaches along an edge only from `source` to `target`.
    unknown_nodes : str
        `refuse` or `drop` edges of units that the study does not have.
    estimand : str, optional
        `direct` (d10 - d00), `indirect` (d01 - d00), `total` (d11 - d00) or `overall` (everybody as assigned - d00)
        as headline; the others follow. By default the first that the design allows.
    """

    normalise: Literal["hajek", "horvitz_thompson", "unweighted"] = "hajek"
    units: Literal["comparable", "all"] = "comparable"
    exposure: Literal["any_treated_neighbour", "share_treated"] = "any_treated_neighbour"
    threshold: float = 0.5
    probability: float | None = None
    saturation: float | None = None
    directed: bool = False
    unknown_nodes: Literal["refuse", "drop"] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "probability", "saturation"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1 - (name == "probability") * 1e-12:
                raise CatalogError(f"parameter '{name}' is {value}; it must be above 0 and at most 1")


def run(study: Study, params: NetworkEffectsParams, context: Context) -> EffectEstimate | Refusal:
    """Compare exposure conditions by their exact assignment probabilities.

    Parameters
    ----------
    study : Study
        Outcome, two arms, the side table `edges` (source, target, optional weight) whose ends are values of the role
        `unit`, or row numbers from 0 without that role. With a `cluster` whole clusters are treated; with a cluster and
        no edges the cluster is the neighbourhood (saturation design). `propensity`: known probability of each unit.
    params : NetworkEffectsParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Effects direct, indirect, total and overall. Tables `exposure` (per unit: condition, its probability and weight,
        neighbours, treated neighbours), `conditions` (units and probabilities of each), `condition_means`,
        `contrasts` (every pair of conditions that can be told), `balance`.
        Refused: `bad_edges`, `uneven_weights`, `unknown_nodes`, `duplicated_units`, `mixed_clusters`,
        `disconnected_network`, `empty_exposure`, `bad_propensity`, `network_too_dense`, `resampled_network`.

    Raises
    ------
    CatalogError
        If `trim` is given.

    Notes
    -----
    Condition d_ab: own treatment a, exposed b. With p_i(k) the probability of condition k under the design, the Hajek
    mean is sum I_i(k) y_i / p_i(k) over sum I_i(k) / p_i(k). Units that can never have a compared condition (isolates)
    are left out of that contrast and counted, unless `units` is `all`. The variance is Aronow & Samii's conservative
    one, with residuals in place of outcomes for Hajek; under the saturation design it is the cluster-robust one.

    References
    ----------
    Aronow & Samii (2017, doi:10.1214/16-AOAS1005); Hudgens & Halloran (2008, doi:10.1198/016214508000000292).
    """
    if params.trim is not None:
        raise CatalogError("parameter 'trim' is given, but network_effects has no propensity to trim on")
    if params.inference != "analytic":
        return SPEC.refuse(
            "resampled_network", f"{params.inference} draws rows again, and a network does not survive that",
            "use the analytic inference, which rests on the assignment alone",
        )  # fmt: skip
    found = _expose(study, params)
    if isinstance(found, Refusal):
        return found
    exposed, assignment, notices = found
    if params.probability is not None:
        notices = [*notices, *unused_propensity(study, "stated", "no parameter probability, which was taken for it")]
    chosen = _choose(exposed, params)
    if isinstance(chosen, Refusal):
        return chosen
    effects, found_tables, compared, more = _effects(study, params, exposed, chosen)
    balance = balance_table(study)
    diagnostics = _diagnostics(study, exposed, assignment, chosen, compared, balance)
    left_out = len(study) - compared.units
    tables = {"exposure": _unit_table(study, exposed), "conditions": _condition_table(exposed),
              **found_tables, "balance": balance}  # fmt: skip
    how = "Aronow-Samii conservative variance" if exposed.reach is not None else "cluster-robust variance of the design"
    return SPEC.estimate(
        study, effects, inference=f"{how}, {assignment.words}", diagnostics=diagnostics, tables=tables,
        notices=[*notices, *_isolates(params, exposed), *_bias(params), *more], used=compared.units,
        dropped={"cannot have every compared exposure": left_out} if left_out else None,
    )  # fmt: skip


def _expose(study: Study, params: NetworkEffectsParams) -> tuple[Exposed, Assignment, list[str]] | Refusal:
    """Read the ties and return every unit's condition and probabilities."""
    treated, cluster = study.column(Role.TREATMENT), study.codes(Role.CLUSTER)
    check_clusters(cluster)
    edges = study.tables.get("edges")
    known = study.column(Role.PROPENSITY) if study.has(Role.PROPENSITY) and params.probability is None else None
    if edges is None:
        assert cluster is not None
        exposed, assignment = exposed_by_cluster(treated, cluster, params.probability, params.saturation, known)
        return exposed, assignment, list(assignment.notices)
    if not study.has(Role.UNIT) and study.dropped:
        return SPEC.refuse(
            "missing_role", "no column plays the role 'unit', and as rows were left out, row numbers name no units",
            "map it in study.yaml: roles: {unit: <column>}",
        )  # fmt: skip
    units = study.frame[study.name(Role.UNIT)].to_numpy() if study.has(Role.UNIT) else np.arange(len(study))
    ties = read_ties(units, edges, directed=params.directed, unknown=params.unknown_nodes)
    notices = list(ties.notices)
    if not study.has(Role.UNIT):
        notices.append("no column plays the role unit, so edges name rows by their number, counted from 0")
    if len(ties.source) == 0:
        return SPEC.refuse(
            "disconnected_network", f"none of the {len(study)} units has a neighbour, so nobody can be exposed",
            "check that source and target of the edges are values of the unit column",
        )  # fmt: skip
    name = study.name(Role.CLUSTER) if cluster is not None else ""
    assignment = assignment_of(treated, cluster, params.probability, known, name)
    threshold = params.threshold if params.exposure == "share_treated" else None
    exposed = exposed_by_ties(ties, treated, assignment, threshold)
    return exposed, assignment, [*notices, *assignment.notices]


def _isolates(params: NetworkEffectsParams, exposed: Exposed) -> list[str]:
    """Return the notice of what becomes of units without neighbours."""
    alone = int((exposed.neighbours == 0).sum()) if exposed.reach is not None else 0
    if not alone:
        return []
    words = f"{alone} units have no neighbour and can never be exposed"
    if params.units == "all":
        words += (
            "; they count in the means of d10 and d00 and in the number of units, so contrasts with d11 or d01 compare "
            "different sets of units"
        )
    return [words]


def _able(exposed: Exposed, pair: tuple[int | None, int], units: str = "comparable") -> np.ndarray:
    """Return which units the design lets have both conditions, or all where each has its own units, shape (n,)."""
    possible = exposed.probability[:, [end for end in pair if end is not None]] > 0
    if units == "all":
        return np.full(len(possible), bool(possible.any(axis=0).all()))
    return np.asarray(np.all(possible, axis=1))


def _obstacle(exposed: Exposed, pair: tuple[int | None, int], units: str) -> str | None:
    """Return why two conditions cannot be compared, or None."""
    able = _able(exposed, pair, units)
    for end in pair:
        if end is None:
            continue
        name = f"{CONDITIONS[end]} ({exposed.meaning(end)})"
        if not (exposed.probability[:, end] > 0).any():
            return f"by design no unit can be {name}"
        count = int((able & (exposed.condition == end)).sum())
        if count < _FEWEST:
            who = "unit that can have both conditions" if units == "comparable" else "unit"
            return f"{'only one' if count else 'no'} {who} is {name}"
    return None


def _choose(exposed: Exposed, params: NetworkEffectsParams) -> dict[str, tuple[int | None, int]] | Refusal:
    """Return the estimands that can be compared, headline first, or why the headline cannot."""
    pairs = dict(_COMPARED)
    if not (exposed.probability[:, 2] > 0).any():  # treated units always have treated neighbours, by design
        pairs[Estimand.DIRECT] = _AMONG_EXPOSED
    obstacles = {name: _obstacle(exposed, pair, params.units) for name, pair in pairs.items()}
    answered = [name for name, obstacle in obstacles.items() if obstacle is None]
    default = next((name for name, pair in pairs.items() if _able(exposed, pair, params.units).any()), Estimand.DIRECT)
    asked = SPEC.estimand(params) if params.estimand else str(default)
    why = obstacles[asked]
    if why is None and not params.estimand and not {Estimand.INDIRECT, Estimand.TOTAL} & set(answered):
        asked, why = str(Estimand.INDIRECT), obstacles[Estimand.INDIRECT]  # nothing to say about spillovers
    if why is not None:
        listed = " or ".join(name for name in answered if name != Estimand.OVERALL)
        remedy = f"ask for estimand {listed}, which can be told; or " if listed else ""
        return SPEC.refuse(
            "empty_exposure", f"the {asked} effect cannot be told: {why}",
            f"{remedy}choose an exposure that some units have and others do not, such as exposure: share_treated with "
            "another threshold",
        )  # fmt: skip
    return {name: pairs[name] for name in sorted(answered, key=lambda name: name != asked)}


def _effects(
    study: Study, params: NetworkEffectsParams, exposed: Exposed, chosen: dict[str, tuple[int | None, int]]
) -> tuple[list[Effect], dict[str, pd.DataFrame], Contrast, list[str]]:
    """Estimate every contrast and condition mean; the headline's own contrast comes back as well."""
    rows: list[tuple[str, tuple[int | None, int], dict[str, Any]]] = [(name, pair, {}) for name, pair in chosen.items()]
    if chosen.get(Estimand.DIRECT, _AMONG_EXPOSED) != _AMONG_EXPOSED and (
        _obstacle(exposed, _AMONG_EXPOSED, params.units) is None
    ):
        rows.append((Estimand.DIRECT.value, _AMONG_EXPOSED, {"exposure": "d11 - d01"}))
    outcome, condition = study.column(Role.OUTCOME), exposed.condition
    codes = [code for code in range(4) if (condition == code).any()]
    known = [pair for _, pair, _ in rows]
    told = [pair for pair in _PAIRS if pair in known or _obstacle(exposed, pair, params.units) is None]
    pairs: list[tuple[int | None, int | None]] = [
        *known, *((code, None) for code in codes), *(pair for pair in told if pair not in known),
    ]  # fmt: skip
    found = [
        contrast(outcome, condition, exposed.probability, *pair, params.normalise, everybody=params.units == "all")
        for pair in pairs
    ]
    errors = _std_errors(exposed, found)
    effects = [
        wald(
            item.estimate, error, estimand=name, level=params.level, at=place, df=exposed.df,
            contrast=f"{exposed.label(pair[0], study.arms)} - {exposed.label(pair[1], study.arms)}",
        )
        for (name, pair, place), item, error in zip(rows, found, errors, strict=False)
    ]  # fmt: skip
    means = pd.DataFrame(
        {
            "condition": [CONDITIONS[code] for code in codes],
            "mean": [item.estimate for item in found[len(rows) : len(rows) + len(codes)]],
            "std_error": errors[len(rows) : len(rows) + len(codes)],
            "units": [int((condition == code).sum()) for code in codes],
        }
    )
    place = {pair: found_at for found_at, pair in reversed(list(enumerate(pairs)))}
    parts = [(pair, found[place[pair]], errors[place[pair]]) for pair in told]
    tables = {"condition_means": means, "contrasts": _contrast_table(parts, exposed.df, params.level)}
    return effects, tables, found[0], _unsaid(params, exposed, chosen, errors[0])


def _contrast_table(
    parts: list[tuple[tuple[int, int], Contrast, float]], df: float | None, level: float
) -> pd.DataFrame:
    """Return every difference of two conditions with its interval."""
    rows = []
    for pair, item, error in parts:
        names = [CONDITIONS[end] for end in pair]
        effect = wald(item.estimate, error, estimand="", contrast=" - ".join(names), level=level, df=df)
        interval = effect.interval
        rows.append(
            {
                "compared": names[0],
                "reference": names[1],
                "estimate": effect.estimate,
                "std_error": effect.std_error,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "units": item.units,
            }
        )
    return pd.DataFrame(rows)


def _unsaid(
    params: NetworkEffectsParams, exposed: Exposed, chosen: dict[str, tuple[int | None, int]], error: float
) -> list[str]:
    """Return notices of what cannot be told, and why."""
    notices = [
        f"the {name} effect cannot be told: {why}"
        for name, pair in _COMPARED.items()
        if name not in chosen and (why := _obstacle(exposed, pair, params.units)) is not None
    ]
    if chosen.get(Estimand.DIRECT) == _AMONG_EXPOSED:
        notices.append("by design no treated unit is unexposed, so the direct effect compares exposed units")
    if error == 0:
        notices.append("the conservative variance of the headline is not positive here, so it has no interval")
    return notices


def _std_errors(exposed: Exposed, contrasts: list[Contrast]) -> list[float]:
    value = np.column_stack([item.value for item in contrasts])
    units = np.array([item.units for item in contrasts], dtype=float)
    own = exposed.own
    if exposed.reach is None:
        n = len(own)
        return [influence_std_error(value[:, c] / own * n / units[c], exposed.cluster) for c in range(len(contrasts))]
    variance = conservative_variance(
        exposed.reach, exposed.condition, exposed.probability, value, np.array([item.involved for item in contrasts]),
        np.column_stack([item.included for item in contrasts]),
    )  # fmt: skip
    return [float(found) for found in np.sqrt(np.maximum(variance, 0.0)) / units]


def _bias(params: NetworkEffectsParams) -> list[str]:
    if params.normalise != "unweighted":
        return []
    return [
        "plain means are biased where the exposure probability goes with the outcome, as it does when units with many "
        "ties differ from others; normalise hajek removes that"
    ]


def _diagnostics(
    study: Study, exposed: Exposed, assignment: Assignment, chosen: dict[str, tuple[int | None, int]], found: Contrast,
    balance: pd.DataFrame,
) -> list[Diagnostic]:  # fmt: skip
    ends = [end for end in next(iter(chosen.values())) if end is not None]
    able = _able(exposed, next(iter(chosen.values())))
    possible = exposed.probability[able if able.any() else exposed.own > 0][:, ends]
    weights = [1 / exposed.own[found.included & (exposed.condition == end)] for end in ends]
    largest = max(float(weight.max() / weight.mean()) for weight in weights)
    smallest, reach = float(possible.min()), exposed.reach
    raw, worst = worst_difference(balance, "before")
    if reach is None:
        p, words = None, "the clusters' own shares are taken as the assignment"
        tested = replace(SPEC.judge(study, "design_p", p, words), applies=False)
    else:
        p, words = design_p(reach, study.column(Role.TREATMENT), known=assignment.known)
        tested = SPEC.judge(study, "design_p", p, words)
    names = " and ".join(CONDITIONS[end] for end in ends)
    share = float(able.mean())
    return [
        SPEC.judge(study, "exposure_probability", smallest, f"of {names}, {smallest:.3g} at least"),
        SPEC.judge(study, "exposure_share", share, f"{int(able.sum())} of {len(study)} units can have {names}"),
        SPEC.judge(study, "weight_range", largest, "largest weight over the mean weight of its condition"),
        tested,
        SPEC.judge(study, "raw_smd", raw, worst),
    ]


def _unit_table(study: Study, exposed: Exposed) -> pd.DataFrame:
    names = np.array(CONDITIONS)
    return pd.DataFrame(
        {
            "unit": study.frame[study.name(Role.UNIT)].to_numpy() if study.has(Role.UNIT) else np.arange(len(study)),
            "condition": names[exposed.condition],
            "probability": exposed.own,
            "neighbours": exposed.neighbours,
            "treated_neighbours": exposed.treated_neighbours,
            "weight": 1 / exposed.own,
        }
    )


def _condition_table(exposed: Exposed) -> pd.DataFrame:
    """Every condition with its units and probabilities over all units, zeros included."""
    rows = []
    for code, name in enumerate(CONDITIONS):
        column = exposed.probability[:, code]
        rows.append(
            {
                "condition": name,
                "meaning": exposed.meaning(code),
                "units": int((exposed.condition == code).sum()),
                "mean_probability": float(column.mean()),
                "smallest_probability": float(column.min()),
                "units_that_can": int((column > 0).sum()),
            }
        )
    return pd.DataFrame(rows)


def _applicable(study: Study) -> tuple[bool, str, float]:
    clustered = study.has(Role.CLUSTER)
    if "edges" not in study.tables and not clustered:
        return False, "deliver edges.csv (source, target) beside the data, or map a cluster as neighbourhood", 0.0
    if "edges" not in study.tables:
        return True, "units of a cluster may reach one another; only with treated and untreated ones within it", 0.2
    if study.declaration.design == "trial" or study.has(Role.PROPENSITY):
        return True, "treatment was randomised in a network, so that of neighbours can be told from the own", 1.0
    return True, "the study has ties between units; it takes treatment as randomised with one probability", 0.85


SPEC = EstimatorSpec(
    name="network_effects",
    title="Network effects",
    family="network",
    estimands=(Estimand.DIRECT, Estimand.INDIRECT, Estimand.TOTAL, Estimand.OVERALL),
    run=run,
    accepts=frozenset({Role.COVARIATES, Role.CLUSTER, Role.UNIT, Role.PROPENSITY}),
    treatment=(TreatmentKind.BINARY,),
    aliases=("spillovers", "interference", "network_exposure", "network_exposure_ht", "network_exposure_hajek"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("random_assignment", "known_assignment", "exposure_mapping", "exposure_positivity", "consistency"),
    references=(
        "Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
        "Hudgens & Halloran 2008, doi:10.1198/016214508000000292",
        "Ugander, Karrer, Backstrom & Kleinberg 2013, doi:10.1145/2487575.2487695",
    ),
    diagnostics=("exposure_probability", "exposure_share", "weight_range", "design_p", "raw_smd"),
    tables=("exposure", "conditions", "condition_means", "contrasts", "balance"),
    side_tables=("edges",),
    one_of=(("edges",), ("cluster",)),
    truths=("network_trial", "network_of_clusters", "null_network"),
    breaks=("contagious_treatment",),
    oracle=("network_exposure",),
    applicable=_applicable,
    params=NetworkEffectsParams,
    question="What does being treated do to a unit, and what does the treatment of its neighbours do to it?",
    formula=r"\hat\mu_k = \frac{\sum_i I_i(k)\, y_i / \pi_i(k)}{\sum_i I_i(k) / \pi_i(k)}, \qquad "
    r"\hat\tau_{kl} = \hat\mu_k - \hat\mu_l, \qquad "
    r"\pi_i(d_{ab}) = P(D_i = a,\ 1[\textstyle\sum_{j \in N_i} D_j \ge h_i] = b)",
    reading="Direct is the own treatment among units without treated neighbours, indirect what treated neighbours do "
    "to the untreated, total both together, overall everybody as assigned against nobody treated. Do not trust it when "
    "treatment was not randomised as stated (design_p), when outcomes travel further than direct ties, or when few "
    "units can have every exposure.",
    interval_claim="conservative",
    claim_note="Two outcomes of one unit, and conditions of tied units that exclude one another, are never seen "
    "together; their covariance is replaced by an upper bound, so intervals cover at least as often as stated.",
    example=Example(
        "tests/oracle/data/network_sim.csv",
        {"outcome": "y", "treatment": "treated", "unit": "id", "covariates": ["x"]},
        {"probability": 0.3},
        edges="tests/oracle/data/network_sim_edges.csv",
    ),
    coverage_rows=2000,
)
