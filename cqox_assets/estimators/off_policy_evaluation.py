"""Off-policy evaluation: what outcomes a treatment policy would bring, from data that another policy made.

The cross-fitted interactive model gives the average effect of every arm; given policies (everybody, nobody, a column, a
rule, what was done) are valued by weighting, self-normalised weighting and doubly robust scores, and a learned policy
tree is valued on rows that it never saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.overlap import effective_size
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Diagnostic, Status
from cqox_assets.nuisance.models import CLIP, Data, judge_weights, shared_or_own
from cqox_assets.numerics.inference import influence_std_error, wald
from cqox_assets.numerics.policy import METHODS, Logged, PolicyValue, policy_value
from cqox_assets.numerics.policy_input import given_policy, known_propensities, one_hot
from cqox_assets.numerics.policy_tree import Tree, learn_trees
from cqox_assets.numerics.sample import check_arms, check_clusters
from cqox_assets.result import Effect, EffectEstimate, Estimand, Refusal
from cqox_assets.spec import CommonParams, Context, EstimatorSpec, Example
from cqox_assets.study import Role, Study

_LEARNED, _OBSERVED = "learned", "observed"
_SEVERITY = (Status.PASS, Status.NOT_RUN, Status.WARN, Status.FAIL)


@dataclass(frozen=True)
class PolicyParams(CommonParams):
    """Parameters of the off-policy evaluation.

    Parameters
    ----------
    policies : mapping of str to str
        Name to a rule such as `x0 > 0` (the first compared arm where it holds, else the reference arm; or `high if
        x0 > 0 else low`) or to a column with an arm, its code or, for two arms, a probability for every row. Everybody,
        nobody, what was done and the learned policy are valued in any case.
    depth : int
        Questions in a row that the learned policy may ask: 2, 1, or 0 for none to be learned.
    policy, method : str
        What `estimand: policy_value` reports: a policy by name, valued by `DR`, `IPS` or `SNIPS`.
    propensity : str
        `auto`: the columns of role `propensity` where mapped (P(compared arm); of several arms one column per compared
        arm, or per arm, in their order), else `model`: the learner named by `nuisance`. `known` insists on the columns.
    clip : float, optional
        Propensities are moved to at least `clip` (of two arms also to at most 1 - clip); by default 0.01 for a model,
        none where known.
    trim : float, optional
        Rows with an arm whose propensity is below `trim` are left out, and the answer is about the others.
    """

    policies: Mapping[str, str] = field(default_factory=dict)
    depth: int = 2
    policy: str = _LEARNED
    method: Literal["DR", "IPS", "SNIPS"] = "DR"
    propensity: Literal["auto", "model", "known"] = "auto"
    clip: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in (0, 1, 2):
            raise CatalogError(f"parameter 'depth' is {self.depth}; allowed are 0, 1 and 2")


def run(study: Study, params: PolicyParams, context: Context) -> EffectEstimate | Refusal:
    """Fit or fetch the nuisances, value every policy, learn one and value it honestly.

    Parameters
    ----------
    study : Study
        Outcome, arms, covariates; optional weight, cluster, propensity (known), cost (spent on the row, in the units of
        the outcome or of `money: value_per_unit`).
    params : PolicyParams
    context : Context

    Returns
    -------
    EffectEstimate or Refusal
        Effects: ATE of each compared arm over all rows, or the value asked for by `estimand: policy_value`. Tables
        `policy_values`, `policy_assignment` (arm codes, or P(compared arm) of a random policy) and `policy_tree`.

    Notes
    -----
    Score of arm a: m_a(x) + [arm = a] (y - m_a(x)) / e_a(x); the value of a policy is the mean of the scores of its
    arms, its standard error that of this mean. The learned policy maximises the mean score (minimises where lower is
    better; net of cost where one is mapped) over trees. Its value is honest: the trees of folds 1..k are valued on fold
    k + 1 (Luedtke & van der Laan 2016), so the first fold only teaches; `policy_tree` and `policy_assignment` show the
    tree of all rows.
    """
    estimand = SPEC.estimand(params)
    data = Data.of(study)
    check_clusters(data.cluster)
    found = _nuisances(study, data, params, context)
    if isinstance(found, Refusal):
        return found
    stays = np.asarray((found.propensity >= (params.trim or 0.0)).all(axis=1))
    if not stays.all():
        study, data, found = study.take(stays), data.rows(np.flatnonzero(stays)), found.rows(stays)
        if min(np.bincount(found.arm, minlength=len(study.arms))) < 2:
            return SPEC.refuse(
                "nobody_left", f"after trimming at {params.trim} an arm has fewer than 2 rows", "choose a smaller trim"
            )
        cluster = None if data.cluster is None else np.unique(data.cluster, return_inverse=True)[1]
        data = replace(data, cluster=cluster)
        check_clusters(data.cluster)
    return _answer(study, data, params, estimand, found, int((~stays).sum()))


@dataclass(frozen=True)
class _Inference:
    """Clusters and level: from a value and its influence function to an effect."""

    cluster: np.ndarray | None
    level: float

    def rows(self, chosen: np.ndarray) -> "_Inference":
        cluster = None if self.cluster is None else np.unique(self.cluster[chosen], return_inverse=True)[1]
        return replace(self, cluster=cluster)

    def effect(self, value: float, influence: np.ndarray, estimand: str, contrast: str, **facts: Any) -> Effect:
        return wald(
            value, influence_std_error(influence, self.cluster), estimand=estimand, contrast=contrast,
            level=self.level, df=None if self.cluster is None else float(self.cluster.max()), **facts,
        )  # fmt: skip


@dataclass(frozen=True)
class _Policy:
    """Probabilities of the arms for every row, shape (n, A), and the rows that value them: all but for a learned one.

    `shown` is what is assigned where it differs from what was valued.
    """

    chance: np.ndarray
    valued: np.ndarray | None = None
    shown: np.ndarray | None = None


@dataclass(frozen=True)
class _Nuisances:
    """Arms, propensities and predictions per arm, shape (n, A), folds, and rows whose propensity was moved."""

    arm: np.ndarray
    raw: np.ndarray
    propensity: np.ndarray
    mean: np.ndarray
    fold: np.ndarray
    known: bool
    clipped: np.ndarray
    net: np.ndarray | None = None

    def rows(self, stays: np.ndarray) -> "_Nuisances":
        net = None if self.net is None else self.net[stays]
        return _Nuisances(
            self.arm[stays], self.raw[stays], self.propensity[stays], self.mean[stays], self.fold[stays], self.known,
            self.clipped[stays], net,
        )  # fmt: skip


def _nuisances(study: Study, data: Data, params: PolicyParams, context: Context) -> _Nuisances | Refusal:
    if params.propensity == "known":
        refusal = SPEC.refuse_known_propensity(study, "propensity: known", "propensity: model")
        if refusal is not None:
            return refusal
    use_known = params.propensity != "model" and study.has(Role.PROPENSITY)
    known = known_propensities(study) if use_known else None
    arms, arm = len(study.arms), data.d.astype(int)
    for code in range(1, arms):
        check_arms((arm == code).astype(float)[(arm == code) | (arm == 0)])
    clip = params.clip if params.clip is not None else (0.0 if known is not None else CLIP)
    raw, folded = known, None
    if arms == 2:
        held = shared_or_own(study, params, context, clip=0.0 if params.clip is not None else CLIP)
        own, folds = held["propensity"].to_numpy(), held["fold"].to_numpy()
        raw = np.column_stack([1 - own, own]) if known is None else known
        mean = held[["outcome_reference", "outcome_compared"]].to_numpy()
    else:
        folds = data.content_folds(params.folds, params.seed)
        folded = data.folded(folds, params.seed)
        mean = np.column_stack([folded.mean(data.y, arm == code, params.nuisance) for code in range(arms)])
        if raw is None:
            shares = [folded.probability((arm == code).astype(float), params.nuisance) for code in range(arms)]
            raw = np.clip(np.column_stack(shares), 1e-6, 1.0)
            raw = raw / raw.sum(axis=1, keepdims=True)
    assert raw is not None
    low = np.clip(raw, clip, 1 - clip if arms == 2 else 1.0)
    if low.min() <= 0 or (arms == 2 and low.max() >= 1):
        return SPEC.refuse(
            "no_overlap",
            "some propensities are 0, so a policy that gives that arm cannot be valued",
            "set clip or trim, or leave out the covariate that decides the treatment",
        )
    net = None
    if study.has(Role.COST):
        target, folded = _worth(study, data.y), folded or data.folded(folds, params.seed)
        net = np.column_stack([folded.mean(target, arm == code, params.nuisance) for code in range(arms)])
    moved = np.asarray((np.isclose(low, clip) | (low != raw)).any(axis=1) & (clip > 0))
    return _Nuisances(arm, raw, low, mean, folds, known is not None, moved, net)


def _sign(study: Study) -> float:
    return -1.0 if study.declaration.direction == "lower_is_better" else 1.0


def _worth(study: Study, outcome: np.ndarray) -> np.ndarray:
    """Return what a row is worth: its outcome in money, lower counted as better where declared, less its cost."""
    value = study.declaration.money.value_per_unit
    scale = 1.0 if value is None else abs(value)
    return np.asarray(_sign(study) * scale * outcome - study.matrix(Role.COST).sum(axis=1))


def _answer(
    study: Study, data: Data, params: PolicyParams, estimand: str, found: _Nuisances, trimmed: int
) -> EffectEstimate | Refusal:
    logged = Logged(data.y, found.arm, found.propensity, found.mean, data.sampling)
    objective, worth = _sign(study) * logged.scores(), None
    if found.net is not None:
        worth = replace(logged, y=_worth(study, data.y), mean=found.net)
        objective = worth.scores()
    policies, tree = _policies(study, params, found, objective * data.sampling[:, None])
    inference = _Inference(data.cluster, params.level)
    values = _values(policies, {"outcome": logged, "net": worth}, inference)
    if estimand == Estimand.POLICY_VALUE:
        effects = _value_asked(policies, logged, params, inference)
    else:
        effects = _effects(study, logged, inference)
    if isinstance(effects, Refusal):
        return effects
    tables = {"policy_values": values, "policy_assignment": _assignment(policies)}
    if tree is not None:
        tables["policy_tree"] = pd.DataFrame(
            tree.rows([study.label(n) for n in study.names(Role.COVARIATES)], study.arms)
        )
    words = "influence function of the cross-fitted doubly robust scores"
    return SPEC.estimate(
        study, effects, inference=words + (", clustered" if data.cluster is not None else ""),
        diagnostics=_diagnostics(study, data, found), tables=tables, notices=_notices(study, params, found, trimmed),
        dropped={"trimmed": trimmed} if trimmed else None, effective_size=effective_size(data.sampling / logged.taken),
    )  # fmt: skip


def _effects(study: Study, logged: Logged, inference: _Inference) -> list[Effect]:
    """Return the average effect of each compared arm over all rows."""
    scores, sampling = logged.scores(), logged.sampling
    effects = []
    for code, arm in enumerate(study.arms[1:], start=1):
        gain = scores[:, code] - scores[:, 0]
        value = float(np.mean(sampling * gain))
        at = {"arm": arm} if len(study.arms) > 2 else {}
        contrast = f"{arm} - {study.arms[0]}"
        effects.append(inference.effect(value, sampling * (gain - value), Estimand.ATE, contrast, at=at))
    return effects


def _value_asked(
    policies: Mapping[str, _Policy], logged: Logged, params: PolicyParams, inference: _Inference
) -> list[Effect] | Refusal:
    if params.policy not in policies:
        raise CatalogError(f"parameter 'policy' is '{params.policy}'; known are {', '.join(policies)}")
    policy = policies[params.policy]
    chance = policy.chance
    if policy.valued is not None:
        logged, inference, chance = logged.rows(policy.valued), inference.rows(policy.valued), chance[policy.valued]
    found = policy_value(logged, chance, params.method)
    if not np.isfinite(found.value):
        return SPEC.refuse(
            "nobody_left", f"no row was treated as '{params.policy}' would treat it", "value another policy, or use DR"
        )
    return [inference.effect(found.value, found.influence, Estimand.POLICY_VALUE, params.policy, scale="mean")]


def _policies(
    study: Study, params: PolicyParams, found: _Nuisances, objective: np.ndarray
) -> tuple[dict[str, _Policy], Tree | None]:
    """Return the policies to value and the tree learned on all rows."""
    n, arms = found.propensity.shape
    policies = {_OBSERVED: _Policy(found.propensity, shown=found.arm)}
    for code, arm in enumerate(study.arms):
        named = ("treat none", "treat all")[code] if arms == 2 else f"all {arm}"
        policies[named] = _Policy(one_hot(np.full(n, code), arms))
    for name, text in params.policies.items():
        if name in policies or name == _LEARNED:
            raise CatalogError(f"parameter 'policies' names '{name}', which has a meaning of its own; rename it")
        policies[name] = _Policy(given_policy(study, name, text))
    folds = np.unique(found.fold, return_inverse=True)[1]
    if params.depth == 0 or folds.max() < 1:
        return policies, None
    x = study.matrix()
    honest, tree = learn_trees(x, objective[:, 1:] - objective[:, :1], folds, params.depth)
    chosen = np.zeros(n, dtype=int)
    for k, own in enumerate(honest, start=1):
        chosen[folds == k] = own.assign(x[folds == k])
    policies[_LEARNED] = _Policy(one_hot(chosen, arms), folds > 0, tree.assign(x))
    return policies, tree


def _values(
    policies: Mapping[str, _Policy], measures: Mapping[str, Logged | None], inference: _Inference
) -> pd.DataFrame:
    """Return one row per policy, measure and method, with the gain over what was observed in the same rows."""
    rows = []
    for measure, logged in measures.items():
        if logged is None:
            continue
        for name, policy in policies.items():
            part, own, chance = logged, inference, policy.chance
            if policy.valued is not None:
                part, own, chance = logged.rows(policy.valued), inference.rows(policy.valued), chance[policy.valued]
            mean = float(np.mean(part.sampling * part.y))
            observed = PolicyValue(mean, part.sampling * (part.y - mean), part.sampling)
            treated = part.arm > 0 if name == _OBSERVED else 1 - chance[:, 0]
            share, scores = float(np.mean(part.sampling * treated)), part.scores()
            for method in ("mean",) if name == _OBSERVED else METHODS:
                found = observed if method == "mean" else policy_value(part, chance, method, scores)
                row = {"policy": name, "method": method, "measure": measure, "share_treated": share}
                rows.append(row | {"rows": len(part.y)} | _value_row(found, observed, own))
    return pd.DataFrame(rows)


def _value_row(found: PolicyValue, observed: PolicyValue, inference: _Inference) -> dict[str, float]:
    """Return value and gain with their intervals; NaN where nobody was treated as the policy would treat them."""
    counted = found.weights[found.weights > 0]
    row = {"effective_size": effective_size(counted) if len(counted) else 0.0}
    row["largest_weight"] = float(counted.max() / counted.mean()) if len(counted) else np.nan
    for name, value, influence in (
        ("value", found.value, found.influence),
        ("gain", found.value - observed.value, found.influence - observed.influence),
    ):
        prefix = "" if name == "value" else "gain_"
        if not np.isfinite(value):
            row |= dict.fromkeys((name, f"{prefix}std_error", f"{prefix}low", f"{prefix}high"), np.nan)
            continue
        effect = inference.effect(value, influence, Estimand.POLICY_VALUE, name)
        ends = (effect.interval.low, effect.interval.high) if effect.interval else (value, value)
        row |= {name: value, f"{prefix}std_error": effect.std_error or 0.0, f"{prefix}low": ends[0]}
        row[f"{prefix}high"] = ends[1]
    return row


def _assignment(policies: Mapping[str, _Policy]) -> pd.DataFrame:
    """Return what each policy gives to each row: arm codes, or P(compared arm) where it is random."""
    columns: dict[str, np.ndarray] = {"row": np.arange(len(policies[_OBSERVED].chance))}
    for name, policy in policies.items():
        if policy.shown is not None:
            columns[name] = policy.shown.astype(np.int64)
            continue
        sure = bool(np.isin(policy.chance, (0.0, 1.0)).all())
        columns[name] = policy.chance.argmax(axis=1).astype(np.int64) if sure else policy.chance[:, 1]
    return pd.DataFrame(columns)


def _diagnostics(study: Study, data: Data, found: _Nuisances) -> list[Diagnostic]:
    """Judge overlap and weights: each arm against the others, the worst of each measure."""
    judged = []
    taken = np.take_along_axis(found.propensity, found.arm[:, None], axis=1)[:, 0]
    for code, arm in enumerate(study.arms[1:], start=1):
        prefix = f"arm '{arm}': " if len(study.arms) > 2 else ""
        treated = (found.arm == code).astype(float)
        judged.append(judge_weights(study, treated, found.raw[:, code], data.sampling / taken, prefix=prefix))
    return [max(items, key=lambda item: _SEVERITY.index(item.status)) for items in zip(*judged, strict=True)]


def _notices(study: Study, params: PolicyParams, found: _Nuisances, trimmed: int) -> list[str]:
    notices = []
    if found.known:
        notices.append("the known propensity was used")
    if trimmed:
        notices.append(f"{trimmed} rows with an arm of propensity below {params.trim:g} were left out")
    if found.clipped.any():
        notices.append(f"the propensity of {int(found.clipped.sum())} rows was moved to the clipping bound")
    if params.depth > 0 and study.declaration.direction is None:
        notices.append("the learned policy takes higher outcomes as better; study.yaml may state direction")
    if study.has(Role.COST):
        value = study.declaration.money.value_per_unit
        unit = "in units of the outcome" if value is None else f"with {abs(value):g} per unit of the outcome"
        notices.append(f"policies are learned net of '{', '.join(study.names(Role.COST))}', {unit}; rows 'net' say so")
    return notices


SPEC = EstimatorSpec(
    name="off_policy_evaluation",
    title="Off-policy evaluation",
    family="machine_learning",
    estimands=(Estimand.ATE, Estimand.POLICY_VALUE),
    shares_nuisance=True,
    joint_arms=True,
    run=run,
    requires=frozenset({Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}),
    accepts=frozenset({Role.WEIGHT, Role.CLUSTER, Role.UNIT, Role.PROPENSITY, Role.COST, Role.SUBGROUP}),
    aliases=("OPE", "IRM", "policy_learning", "policy_value"),
    invariances=("row_order", "affine_outcome"),
    assumptions=("unconfoundedness", "positivity", "consistency", "no_interference"),
    references=(
        "Dudik, Erhan, Langford & Li 2014, doi:10.1214/14-STS500",
        "Athey & Wager 2021, doi:10.3982/ECTA15732",
        "Luedtke & van der Laan 2016, doi:10.1214/15-AOS1384",
        "Chernozhukov et al. 2018, doi:10.1111/ectj.12097",
    ),
    diagnostics=("overlap", "effective_sample_size", "weight_range"),
    tables=("policy_values", "policy_assignment", "policy_tree"),
    truths=(
        "randomised_trial",
        "confounded_linear",
        "weighted_sample",
        "clustered_trial",
        "three_arms",
        "null_effect",
        "targeted_benefit",
    ),
    breaks=("no_overlap",),
    applicable=lambda study: (
        study.has(Role.COVARIATES),
        "values treating everybody, nobody or a targeted part" if study.has(Role.COVARIATES) else "needs covariates",
        0.7,
    ),
    params=PolicyParams,
    question="What would outcomes be if everybody, nobody, or those whom a rule picks were treated, and whom should "
    "one treat?",
    formula=r"\hat V(\pi) = \frac{1}{n}\sum_i \sum_a \pi_a(x_i)\left[\hat m_a(x_i) + "
    r"\frac{1\{d_i = a\}}{\hat e_a(x_i)}\,(y_i - \hat m_a(x_i))\right]",
    reading="Compare policies by the rows DR and their gain over what was observed; IPS and SNIPS show how much the "
    "models matter. The learned policy's value is honest: each row was valued by a tree that never saw it. A policy "
    "with a small effective_size rests on few rows. A gain whose interval covers 0 is no reason to change the rule.",
    example=Example(
        "data/policy/2025-01/lalonde_nsw.csv",
        {
            "outcome": "re78",
            "treatment": "treat",
            "covariates": ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"],
        },
    ),
)
