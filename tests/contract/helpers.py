"""Studies and shorthands of the contract tests."""

from dataclasses import replace
from functools import cache

import numpy as np

from cqox_assets.catalog import load_estimators
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.runner import run_estimator, runner_for
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import EstimatorSpec, build_params
from cqox_assets.study import Role, Study, TreatmentKind
from cqox_assets.suitability import missing_choice

SPECS = list(load_estimators().values())
SEED = 20240117
_TRAIT = {"weighted_sample": (Role.WEIGHT,), "clustered_trial": (Role.CLUSTER,)}


def name_of(spec: EstimatorSpec) -> str:
    return spec.name


def with_invariance(name: str) -> list[EstimatorSpec]:
    return [spec for spec in SPECS if name in spec.invariances]


@cache
def small(design: str, n: int = 500, seed: int = SEED) -> Study:
    """A small study of a design, shared by tests: studies are never changed."""
    return DESIGNS[design](n, seed)[0]


def base(spec: EstimatorSpec) -> Study:
    """A study that the entry can run on: its first truth."""
    return small(spec.truths[0])


def like(spec: EstimatorSpec, design: str, n: int = 500) -> Study:
    """The common design if the entry can run on it, else a truth of the entry that has the same role or arms.

    An entry that works on side tables, such as the edges of a network, needs a design that has them.
    """
    common = small(design, n)
    takes = common.treatment_kind in spec.treatment and has_what_it_needs(spec, common)
    if not follows_units(spec) and not spec.side_tables and takes:
        return common
    for truth in spec.truths:
        own = small(truth, n)
        enough = len(own.arms) >= min(len(common.arms), 2) or not compares_two(spec)
        if all(own.has(role) for role in _TRAIT[design]) and enough:
            return own
    own = small(spec.truths[0], n)
    if follows_units(spec):
        for role in _TRAIT[design]:
            own = own.with_column(str(role), 1.0 + np.arange(len(own)) % 7, role)
        return own
    extra = {role: np.resize(common.frame[str(role)].to_numpy(), len(own)) for role in _TRAIT[design]}
    roles = {**own.roles, **{role: (str(role),) for role in extra}}
    return replace(own, frame=own.frame.assign(**{str(role): values for role, values in extra.items()}), roles=roles)


def has_what_it_needs(spec: EstimatorSpec, study: Study) -> bool:
    """Whether the study has the roles and side tables without which the entry refuses."""
    return all(study.has(role) for role in spec.requires) and missing_choice(spec, study) is None


def compares_two(spec: EstimatorSpec) -> bool:
    """Whether the entry takes a treatment of two arms; an entry for doses alone does not."""
    return TreatmentKind.BINARY in spec.treatment


def follows_units(spec: EstimatorSpec) -> bool:
    """Whether the entry compares units over time, so that rows of one unit belong together."""
    return bool({Role.UNIT, Role.TIME} & spec.requires)


def design_of_arms(spec: EstimatorSpec) -> str:
    """A design of the arms none, low and high that has what the entry needs."""
    return next((name for name in spec.truths if len(small(name, 100).arms) > 2), "three_arms")


def run(spec: EstimatorSpec, study: Study, **values: object) -> EffectEstimate | Refusal:
    return run_estimator(spec, study, build_params(spec.params, values), runner_for())


def answer(spec: EstimatorSpec, study: Study, **values: object) -> EffectEstimate:
    outcome = run(spec, study, **values)
    assert isinstance(outcome, EffectEstimate), outcome
    return outcome


def numbers(outcome: EffectEstimate, *, mirrored: bool = False) -> np.ndarray:
    """Every estimate and standard error, in order; groups ranked by effect change ends if effects change signs."""
    effects = list(outcome.effects)
    ranked = [place for place, effect in enumerate(effects) if "group" in effect.at and effect.estimand == "CATE"]
    if mirrored:
        for place, effect in zip(ranked, [effects[place] for place in reversed(ranked)], strict=True):
            effects[place] = effect
    return np.array([[effect.estimate, effect.std_error or 0.0] for effect in effects])


def factors(outcome: EffectEstimate, slope: float) -> np.ndarray:
    """What estimate and standard error are multiplied by when the outcome is; a proportion stays."""
    return np.array([[1, 1] if e.scale == "proportion" else [slope, abs(slope)] for e in outcome.effects])


def without(study: Study, role: Role) -> Study:
    return replace(study, roles={key: names for key, names in study.roles.items() if key != role})


def plus_covariate(study: Study, name: str, values: np.ndarray) -> Study:
    frame = study.frame.assign(**{name: values})
    return replace(study, frame=frame, roles={**study.roles, Role.COVARIATES: (*study.names(Role.COVARIATES), name)})


def replaced(study: Study, role: Role, values: np.ndarray) -> Study:
    return replace(study, frame=study.frame.assign(**{study.name(role): values}))
