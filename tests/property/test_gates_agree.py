"""Great Expectations and `judge` give the same status for any value, limit and severity."""

import math

import numpy as np
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cqox_assets.gates.data import DATA_MEASURES, diagnose
from cqox_assets.gates.suite import validate_diagnostics, validate_table
from cqox_assets.measures import MEASURES, Status, judge
from cqox_assets.result import to_text
from cqox_assets.study import Role, Study

# Values and limits come from one small set as well, so that values on a limit are common.
EDGES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0, 9.0, 10.0, 20.0, 49.0, 100.0])
NUMBERS = EDGES | st.floats(allow_nan=False, allow_infinity=True)
VALUES = NUMBERS | st.none() | st.just(math.nan)
REPEATED = ("rows", "arms", "outcome_levels", "duplicated_unit_periods")
LIMIT_NAMES = st.sampled_from([*MEASURES, *(f"{name}_fail" for name in MEASURES)])


@settings(max_examples=40, deadline=None)
@given(
    values=st.fixed_dictionaries({name: VALUES for name in MEASURES}),
    thresholds=st.dictionaries(LIMIT_NAMES, NUMBERS | st.just(math.nan), max_size=12),
    severities=st.dictionaries(st.sampled_from(list(MEASURES)), st.sampled_from(["warn", "block"])),
)
def test_statuses_agree(values, thresholds, severities):
    judged = [judge(name, value, thresholds=thresholds, severities=severities) for name, value in values.items()]
    report = validate_diagnostics(judged)
    assert {gate.name: gate.status for gate in report.gates} == {item.name: item.status for item in judged}
    for gate in report.gates:
        missing = values[gate.name] is None or math.isnan(values[gate.name])
        assert (gate.status is Status.NOT_RUN) == missing


@example(60, 2, 2, 0.5, 80, {name: 0.0 for name in REPEATED}, {}, 1)
@example(0, 2, 2, 0.5, 80, {name: 0.0 for name in REPEATED}, {}, 1)
@example(60, 2, 2, 0.5, 5, {name: math.nan for name in REPEATED}, {}, 1)
@example(60, 2, 2, 0.5, 5, {name: math.inf for name in REPEATED}, {}, 1)
@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 70),
    levels=st.integers(1, 3),
    arms=st.integers(1, 3),
    share=st.floats(0, 1),
    units=st.integers(1, 80),
    limits=st.dictionaries(st.sampled_from(REPEATED), EDGES),
    severities=st.dictionaries(st.sampled_from(["rows", "arms", "outcome_levels"]), st.just("warn")),
    seed=st.integers(0, 1000),
)
def test_table_and_diagnostics_tell_one_story(rows, levels, arms, share, units, limits, severities, seed):
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "y": generator.integers(0, levels, rows).astype(float),
            "d": np.minimum((generator.random(rows) < share) * generator.integers(1, 3, rows), arms - 1).astype(float),
            "x": generator.integers(0, 2, rows).astype(float),
            "z": 1.0,
            "u": generator.integers(0, units, rows),
            "t": generator.integers(0, 2, rows),
        }
    )
    roles = {
        Role.OUTCOME: ("y",),
        Role.TREATMENT: ("d",),
        Role.COVARIATES: ("x", "z"),
        Role.UNIT: ("u",),
        Role.TIME: ("t",),
    }
    study = Study(frame, roles, ("a", "b", "c")[:arms], thresholds=limits, severities=severities)
    found = diagnose(study)
    assert tuple(item.name for item in found.diagnostics) == DATA_MEASURES
    assert "NaN" not in to_text(found.to_json())
    table = validate_table(study)
    for name in REPEATED:
        assert table.gate(name).status is found.diagnostic(name).status, name
        assert table.gate(name).value == found.diagnostic(name).value, name
