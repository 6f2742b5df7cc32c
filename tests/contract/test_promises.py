"""What every entry does with the roles, rows and columns that it is given."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cqox_assets.errors import ContractError
from cqox_assets.mapping.prepare import prepare
from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Failure, Refusal, outcome_from_json, to_text
from cqox_assets.runner import run_guarded
from cqox_assets.spec import CommonParams, Context, EstimatorSpec
from cqox_assets.study import Role, Study, TreatmentKind
from tests.contract.helpers import (
    SPECS,
    answer,
    base,
    compares_two,
    design_of_arms,
    factors,
    follows_units,
    has_what_it_needs,
    like,
    name_of,
    numbers,
    plus_covariate,
    replaced,
    run,
    small,
    with_invariance,
    without,
)

ACROSS = [spec for spec in SPECS if not follows_units(spec)]
across = pytest.mark.parametrize("spec", ACROSS, ids=name_of)
each = pytest.mark.parametrize("spec", SPECS, ids=name_of)
armed = pytest.mark.parametrize("spec", [spec for spec in SPECS if compares_two(spec)], ids=name_of)
ROLES = [pytest.param(spec, role, id=f"{spec.name}-{role}") for spec in SPECS for role in sorted(spec.requires)]
CATEGORICAL = [spec for spec in SPECS if TreatmentKind.CATEGORICAL in spec.treatment]


def equal_under(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", with_invariance(name), ids=name_of)


@each
def test_declares_what_readers_need(spec: EstimatorSpec) -> None:
    assert spec.title
    assert spec.references
    assert spec.assumptions
    assert spec.estimands
    assert spec.run.__doc__
    assert issubclass(spec.params, CommonParams)
    outcome = answer(spec, base(spec))
    assert set(spec.tables) <= set(outcome.tables)
    assert set(spec.diagnostics) <= {item.name for item in outcome.diagnostics}
    assert outcome.sample.used > 0
    assert outcome.inference


@pytest.mark.parametrize(("spec", "role"), ROLES)
def test_missing_role_is_refused_by_name(spec: EstimatorSpec, role: Role) -> None:
    outcome = run(spec, without(base(spec), role))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "missing_role"
    assert str(role) in outcome.reason
    assert str(role) in outcome.remedy


@each
def test_same_seed_same_numbers_and_input_unchanged(spec: EstimatorSpec) -> None:
    study = base(spec)
    before = study.frame.copy(deep=True)
    first, second = answer(spec, study), answer(spec, study)
    assert [effect.to_json() for effect in first.effects] == [effect.to_json() for effect in second.effects]
    assert first.diagnostics == second.diagnostics
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, second.tables[name])
    pd.testing.assert_frame_equal(study.frame, before)


@each
def test_index_and_extra_columns_do_not_matter(spec: EstimatorSpec) -> None:
    study = base(spec)
    frame = study.frame.assign(comment="text", other=np.nan)
    frame.index = pd.Index(np.arange(len(frame))[::-1] * 7, name="id")
    frame = frame[frame.columns[::-1]]
    assert np.array_equal(numbers(answer(spec, study)), numbers(answer(spec, replace(study, frame=frame))))


@each
def test_stored_result_reads_back_equal(spec: EstimatorSpec) -> None:
    outcome = answer(spec, base(spec))
    tables = {name: _through_parquet(table) for name, table in outcome.tables.items()}
    back = outcome_from_json(json.loads(to_text(outcome.to_json())), tables)
    assert isinstance(back, EffectEstimate)
    assert back.effects == outcome.effects
    assert back.diagnostics == outcome.diagnostics
    assert to_text(back.to_json()) == to_text(outcome.to_json())
    for name, table in outcome.tables.items():
        pd.testing.assert_frame_equal(back.tables[name], table)


def _through_parquet(table: pd.DataFrame) -> pd.DataFrame:
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return pd.read_parquet(buffer)


@pytest.mark.parametrize("spec", CATEGORICAL, ids=name_of)
def test_three_arms_stay_three(spec: EstimatorSpec) -> None:
    study = small(design_of_arms(spec), 900)
    outcome = answer(spec, study)
    assert {effect.at["arm"] for effect in outcome.effects} == {"low", "high"}
    assert set(outcome.sample.per_arm) == {"none", "low", "high"}
    if spec.joint_arms:  # each arm is about all rows, not about those of its arm and the reference arm
        assert len({effect.estimate for effect in outcome.effects}) == len(outcome.effects)
        assert outcome.sample.used == len(study)
        return
    assert any("reference arm 'none' only: an average effect is over these" in notice for notice in outcome.notices)
    alone = {arm: answer(spec, part) for arm, part in study.contrasts()}
    found = {arm: [e.estimate for e in outcome.effects if e.at["arm"] == arm] for arm in alone}
    for arm, part in alone.items():
        assert found[arm] == pytest.approx([effect.estimate for effect in part.effects], rel=1e-9)


@each
def test_weights_are_honoured_or_refused_by_name(spec: EstimatorSpec) -> None:
    study = like(spec, "weighted_sample")
    outcome = run(spec, study)
    if Role.WEIGHT not in spec.accepts | spec.requires:
        assert isinstance(outcome, Refusal)
        assert outcome.code == "weight_not_supported"
        assert "'weight'" in outcome.reason
        return
    assert isinstance(outcome, EffectEstimate)
    plain = answer(spec, without(study, Role.WEIGHT))
    assert abs(outcome.estimate - plain.estimate) > 1e-6
    constant = answer(spec, replaced(study, Role.WEIGHT, np.full(len(study), 3.0)))
    assert numbers(constant) == pytest.approx(numbers(plain), rel=1e-6)


@each
def test_clusters_are_honoured_or_refused_by_name(spec: EstimatorSpec) -> None:
    study = like(spec, "clustered_trial", 1000)
    outcome = run(spec, study)
    if Role.CLUSTER not in spec.accepts | spec.requires:
        assert isinstance(outcome, Refusal)
        assert outcome.code == "cluster_not_supported"
        assert "'cluster'" in outcome.reason
        return
    assert isinstance(outcome, EffectEstimate)
    plain = answer(spec, without(study, Role.CLUSTER))
    assert outcome.std_error is not None
    assert plain.std_error is not None
    assert outcome.std_error > 1.3 * plain.std_error
    assert outcome.sample.clusters == study.frame[study.name(Role.CLUSTER)].nunique()
    assert "cluster" in outcome.inference
    one = run(spec, replaced(study, Role.CLUSTER, np.zeros(len(study))))
    assert isinstance(one, Refusal)
    assert "cluster" in one.reason


@across
def test_units_with_several_rows_are_clusters_or_refused(spec: EstimatorSpec) -> None:
    study = like(spec, "clustered_trial", 1000)
    panel = replace(without(study, Role.CLUSTER), roles={**without(study, Role.CLUSTER).roles, Role.UNIT: ("cluster",)})
    outcome = run(spec, panel)
    if Role.CLUSTER not in spec.accepts | spec.requires:
        assert isinstance(outcome, Refusal)
        assert outcome.code == "unit_not_supported"
        return
    if spec.side_tables:  # its units are named by the side table, each of them once
        assert isinstance(outcome, Refusal)
        assert outcome.code == "duplicated_units"
        return
    assert isinstance(outcome, EffectEstimate)
    assert numbers(outcome) == pytest.approx(numbers(answer(spec, study)))


@armed
def test_an_arm_within_one_cluster_is_refused(spec: EstimatorSpec) -> None:
    study = base(spec)
    group = np.where(study.column(Role.TREATMENT) == 1, 3, np.arange(len(study)) % 3)
    frame = study.frame.assign(group=group)
    outcome = run(spec, replace(study, frame=frame, roles={**study.roles, Role.CLUSTER: ("group",)}))
    assert isinstance(outcome, Refusal)
    assert outcome.code in ("too_few_clusters", "cluster_not_supported", "cluster_splits_units")


@each
def test_rows_of_the_target_population_are_left_out(spec: EstimatorSpec) -> None:
    study = base(spec)
    inside = (study.codes(Role.UNIT) if study.has(Role.UNIT) else np.arange(len(study))) % 3 > 0
    frame = study.frame.assign(studied=inside * 1.0)
    frame.loc[~inside, [study.name(Role.OUTCOME), study.name(Role.TREATMENT)]] = np.nan
    mixed = replace(study, frame=frame, roles={**study.roles, Role.POPULATION: ("studied",)})
    if Role.POPULATION not in spec.accepts | spec.requires:
        assert numbers(answer(spec, mixed)) == pytest.approx(numbers(answer(spec, study.take(inside))))


@armed
def test_an_arm_without_weight_is_refused(spec: EstimatorSpec) -> None:
    study = like(spec, "weighted_sample")
    outcome = run(spec, replaced(study, Role.WEIGHT, study.column(Role.TREATMENT)))
    assert isinstance(outcome, Refusal)
    assert outcome.code in ("one_arm_only", "weight_not_supported")


@pytest.mark.parametrize(
    ("spec", "role"),
    [
        pytest.param(spec, role, id=f"{spec.name}-{role}")
        for spec in SPECS
        for role in (Role.EVENT, Role.OFFSET, Role.PAIR)
        if role not in spec.accepts | spec.requires
    ],
)
def test_a_role_that_does_not_enter_is_named(spec: EstimatorSpec, role: Role) -> None:
    study = base(spec)
    frame = study.frame.assign(extra=np.arange(len(study)) % 2 + 1.0)
    outcome = answer(spec, replace(study, frame=frame, roles={**study.roles, role: ("extra",)}))
    assert any(f"{role} 'extra' does not enter" in notice for notice in outcome.notices)


@each
def test_a_trial_with_unequal_strata_has_no_effect_where_there_is_none(spec: EstimatorSpec) -> None:
    generator = np.random.default_rng(4)
    site = generator.integers(1, 4, 1500)
    d = generator.random(1500) < np.array([0.2, 0.5, 0.8])[site - 1]
    y = np.array([0.0, 3.0, 0.0])[site - 1] + 2 * (site == 3) + generator.standard_normal(1500)
    study = prepare(pd.DataFrame({"y": y, "d": d, "s": site}), {"outcome": "y", "treatment": "d", "stratum": "s"})
    outcome = run(spec, study)
    if not has_what_it_needs(spec, study):
        assert isinstance(outcome, Refusal)
        assert outcome.code == "missing_role"
    elif not compares_two(spec):
        assert isinstance(outcome, Refusal)
        assert outcome.code == "treatment_kind"
    elif "random_assignment" in spec.assumptions:
        assert isinstance(outcome, Refusal)
        assert outcome.code == "unequal_strata"
    else:
        assert isinstance(outcome, EffectEstimate), outcome
        assert outcome.std_error is not None
        assert abs(outcome.estimate) < 4 * outcome.std_error


def test_a_broken_contract_is_a_failure_and_no_refusal() -> None:
    def broken(study: Study, params: CommonParams, context: Context) -> EffectEstimate:
        raise ContractError("the estimate is NaN")

    spec = replace(SPECS[0], run=broken)
    assert isinstance(run_guarded(spec, base(spec)), Failure)


def test_row_bootstrap_of_clustered_data_says_so() -> None:
    spec = next(item for item in SPECS if item.name == "ols")
    outcome = answer(spec, small("clustered_trial", 400), inference="bootstrap", draws=20)
    assert "clusters do not enter" in " ".join(outcome.notices)


@equal_under("row_order")
def test_row_order(spec: EstimatorSpec) -> None:
    study = base(spec)
    order = np.random.default_rng(1).permutation(len(study))
    assert numbers(answer(spec, study.take(order))) == pytest.approx(numbers(answer(spec, study)), rel=1e-6)


@equal_under("affine_outcome")
def test_affine_outcome(spec: EstimatorSpec) -> None:
    study = base(spec)
    changed = answer(spec, replaced(study, Role.OUTCOME, 10 - 3 * study.column(Role.OUTCOME)))
    plain = answer(spec, study)
    assert numbers(changed) == pytest.approx(numbers(plain, mirrored=True) * factors(plain, -3), rel=1e-6)


@equal_under("relabelled_arms")
def test_relabelled_arms(spec: EstimatorSpec) -> None:
    study = base(spec)
    swapped = replace(replaced(study, Role.TREATMENT, 1 - study.column(Role.TREATMENT)), arms=study.arms[::-1])
    plain = answer(spec, study)
    assert numbers(answer(spec, swapped)) == pytest.approx(numbers(plain, mirrored=True) * factors(plain, -1), rel=1e-6)


@equal_under("duplicated_rows")
def test_duplicated_rows_with_halved_weights(spec: EstimatorSpec) -> None:
    study = like(spec, "weighted_sample")
    halved = replaced(study, Role.WEIGHT, study.column(Role.WEIGHT) / 2)
    doubled = halved.take(np.repeat(np.arange(len(study)), 2))
    assert answer(spec, doubled).estimate == pytest.approx(answer(spec, study).estimate, rel=1e-6)


@each
def test_one_arm_is_refused(spec: EstimatorSpec) -> None:
    study = base(spec)
    outcome = run(spec, replaced(study, Role.TREATMENT, np.ones(len(study))))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "one_arm_only"
    assert (study.arms[1] if study.arms else ": 1") in outcome.reason


@each
def test_constant_outcome_is_refused(spec: EstimatorSpec) -> None:
    study = base(spec)
    outcome = run(spec, replaced(study, Role.OUTCOME, np.full(len(study), 4.0)))
    assert isinstance(outcome, Refusal)
    assert outcome.code == "constant_outcome"
    assert study.name(Role.OUTCOME) in outcome.reason


@across
def test_covariate_that_restates_the_treatment(spec: EstimatorSpec) -> None:
    study = base(spec)
    outcome = run(spec, plus_covariate(study, "restated", 2 * study.column(Role.TREATMENT) + 1))
    if "random_assignment" in spec.assumptions:
        assert isinstance(outcome, EffectEstimate)  # its covariates only describe balance
        assert next(item for item in outcome.diagnostics if item.name == "raw_smd").value == pytest.approx(1e308)
    elif isinstance(outcome, Refusal):
        assert outcome.code in ("collinear_treatment", "perfect_separation", "no_variation", "no_overlap")
    elif "continuity" in spec.assumptions:  # its covariates only show whether something else jumps at the cutoff
        assert next(item for item in outcome.diagnostics if item.name == "covariate_continuity_p").value == 0
    else:  # flexible learners stop short of certainty; then the overlap says that the answer cannot be relied on
        overlap = next(item for item in outcome.diagnostics if item.name in ("overlap", "dose_overlap"))
        assert overlap.status is Status.FAIL


@each
def test_collinear_covariate_changes_nothing(spec: EstimatorSpec) -> None:
    study = base(spec)
    first = study.names(Role.COVARIATES)[0]
    outcome = run(spec, plus_covariate(study, "copied", 2 * study.frame[first].to_numpy() + 1))
    assert isinstance(outcome, EffectEstimate), outcome
    plain = answer(spec, study)
    assert plain.std_error is not None
    assert abs(outcome.estimate - plain.estimate) < plain.std_error


@each
def test_more_columns_than_rows(spec: EstimatorSpec) -> None:
    study = base(spec).take(np.arange(30))
    generator = np.random.default_rng(2)
    for k in range(40):
        study = plus_covariate(study, f"wide{k}", generator.standard_normal(30))
    outcome = run(spec, study, nuisance="linear")
    if isinstance(outcome, Refusal):
        assert outcome.remedy
    else:
        assert "random_assignment" in spec.assumptions
