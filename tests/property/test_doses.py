"""Whatever the doses look like: an estimate that holds together, or a refusal; never NaN, never another exception."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqox_assets.mapping.prepare import prepare
from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role, Study, TreatmentKind
from tests.contract.helpers import SPECS, name_of, run

_PLAIN = {Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}
CONTINUOUS = [
    spec for spec in SPECS if TreatmentKind.CONTINUOUS in spec.treatment and spec.requires <= _PLAIN and not spec.one_of
]


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Small studies with ties, constants, masses, collinear columns, zero weights, few clusters and odd scales."""
    n, k = draw(st.integers(2, 60)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    x = generator.standard_normal((n, k))
    shape = draw(st.sampled_from(["smooth", "positive", "tied", "heaped", "constant", "determined", "one_far"]))
    d = generator.standard_normal(n)
    if shape == "positive":
        d = np.exp(2 * d)
    elif shape == "tied":
        d = np.round(d * 2)
    elif shape == "heaped":
        d = np.where(generator.random(n) < 0.6, 0.0, np.exp(d))
    elif shape == "constant":
        d = np.ones(n)
    elif shape == "determined":
        d = 3 * x[:, 0] + 1
    elif shape == "one_far":
        d[0] = 1e6
    if draw(st.booleans()):
        x[:, -1] = draw(st.sampled_from([x[:, 0] * 3, np.ones(n), np.round(x[:, 0])]))
    y = draw(st.sampled_from([generator.standard_normal(n), generator.integers(0, 2, n) * 1.0, d * 2, np.ones(n)]))
    names = [f"x{j}" for j in range(k)]
    frame = pd.DataFrame(x * draw(st.sampled_from([1.0, scale])), columns=names).assign(y=y / scale, d=d * scale)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: tuple(names)}
    extra = draw(st.sampled_from(["nothing", "weight", "cluster", "panel"]))
    if extra == "weight":
        frame["w"] = generator.integers(0, 3, n) * 1.0
        frame.loc[0, "w"] = 1.0
        roles[Role.WEIGHT] = ("w",)
    elif extra == "cluster":
        frame["c"] = generator.integers(0, 4, n)
        roles[Role.CLUSTER] = ("c",)
    elif extra == "panel":
        frame["u"], frame["t"] = np.arange(n) // 3, np.arange(n) % 3 * 1.0
        roles |= {Role.UNIT: ("u",), Role.TIME: ("t",)}
    return Study(frame=frame.iloc[generator.permutation(n)].reset_index(drop=True), roles=roles)


def _holds_together(outcome: EffectEstimate | Refusal) -> None:
    if isinstance(outcome, Refusal):
        assert outcome.code
        assert outcome.reason
        assert outcome.remedy
        return
    assert np.isfinite([effect.estimate for effect in outcome.effects]).all()
    assert "NaN" not in to_text(outcome.to_json())
    for name, table in outcome.tables.items():
        assert np.isfinite(table.select_dtypes("number").fillna(0.0)).all().all(), name


_SETTINGS = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("spec", CONTINUOUS, ids=name_of)
@_SETTINGS
@given(study=studies(), nuisance=st.sampled_from(["linear", "spline"]))
def test_an_answer_or_a_refusal(spec: EstimatorSpec, study: Study, nuisance: str) -> None:
    _holds_together(run(spec, study, nuisance=nuisance))


@_SETTINGS
@given(study=studies())
def test_the_generalised_propensity_score(study: Study) -> None:
    spec = next(item for item in SPECS if item.name == "dose_response")
    _holds_together(run(spec, study, method="gps", points=7))


@pytest.mark.parametrize("spec", CONTINUOUS, ids=name_of)
def test_words_missing_and_infinite_doses(spec: EstimatorSpec) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.standard_normal(80), "d": generator.gamma(2.0, size=80)})
    frame["y"] = frame["x"] + frame["d"] + generator.standard_normal(80)
    frame.loc[[3, 5], "d"] = [np.nan, np.inf]
    text = frame.assign(d=frame["d"].map(lambda value: f"{value:.6f}" if np.isfinite(value) else None))
    roles = {"outcome": "y", "dose": "d", "covariates": ["x"]}
    for table in (frame, text):
        outcome = run(spec, prepare(table, roles), nuisance="linear")
        assert isinstance(outcome, EffectEstimate), outcome
        assert outcome.sample.used == 78
