"""Every entry recovers the effects that it declares, and reports no effect where there is none."""

import numpy as np
import pandas as pd
import pytest

from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role, Study
from tests.contract.helpers import SEED, SPECS, answer, compares_two, name_of, run

CASES = [pytest.param(spec, truth, id=f"{spec.name}-{truth}") for spec in SPECS for truth in spec.truths]
BREAKS = [pytest.param(spec, broken, id=f"{spec.name}-{broken}") for spec in SPECS for broken in spec.breaks]
NULLS = [
    pytest.param(spec, design, id=f"{spec.name}-{design}")
    for spec in SPECS
    for design in spec.truths
    if design.startswith("null_")
]


def test_every_entry_declares_a_truth_and_a_null() -> None:
    assert all(spec.truths for spec in SPECS)
    assert {case.values[0].name for case in NULLS} == {spec.name for spec in SPECS}


@pytest.mark.parametrize(("spec", "design"), CASES)
def test_recovers_the_known_effect(spec: EstimatorSpec, design: str) -> None:
    study, truth = DESIGNS[design](4000, SEED)
    outcome = answer(spec, study)
    for effect in outcome.effects:
        if effect.estimand == "CATE" and "CATE" not in truth:  # who is in a group depends on what was predicted
            continue
        place = f"{effect.estimand}[{', '.join(map(str, effect.at.values()))}]"
        assert "arm" not in effect.at or place in truth
        wanted = truth[place] if place in truth else truth[str(effect.estimand)]
        assert effect.std_error is not None
        assert 0 < effect.std_error < 0.5
        assert abs(effect.estimate - wanted) < 4 * effect.std_error


@pytest.mark.parametrize(("spec", "design"), BREAKS)
def test_says_where_its_assumptions_fail(spec: EstimatorSpec, design: str) -> None:
    outcome = run(spec, DESIGNS[design](3000, SEED)[0])
    if isinstance(outcome, Refusal):
        assert outcome.code in ("empty_stratum", "perfect_separation", "no_overlap", "no_matches")
    else:
        bad = {item.name for item in outcome.diagnostics if item.status in (Status.WARN, Status.FAIL)}
        assert bad & set(spec.diagnostics) - {"raw_smd"}


@pytest.mark.parametrize(("spec", "design"), NULLS)
def test_null_is_reported_as_null(spec: EstimatorSpec, design: str) -> None:
    rejected = 0
    for seed in range(SEED, SEED + 4):
        outcome = answer(spec, DESIGNS[design](1200, seed)[0])
        assert isinstance(outcome, EffectEstimate)
        assert outcome.interval is not None
        rejected += not outcome.interval.covers(0.0)
    assert rejected <= 1


ADJUSTING = [spec for spec in SPECS if "unconfoundedness" in spec.assumptions and compares_two(spec)]


@pytest.mark.parametrize("spec", ADJUSTING, ids=name_of)
def test_recovers_the_effect_in_cells_of_a_discrete_covariate(spec: EstimatorSpec) -> None:
    generator = np.random.default_rng(SEED)
    level = generator.integers(0, 5, 2000)
    d = generator.random(2000) < 0.2 + 0.15 * level
    frame = pd.DataFrame({f"r{k}": (level == k) * 1.0 for k in range(1, 5)}).assign(d=d * 1.0)
    frame["y"] = (generator.random(2000) < 0.1 + 0.15 * level + 0.1 * d) * 1.0
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: ("r1", "r2", "r3", "r4")}
    outcome = answer(spec, Study(frame=frame, roles=roles, arms=("no", "yes")))
    assert outcome.std_error is not None
    assert abs(outcome.estimate - 0.1) < 3 * outcome.std_error
