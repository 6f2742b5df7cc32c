"""Whatever the rows look like: an estimate that holds together, or a refusal; never NaN, never another exception."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqox_assets.result import EffectEstimate, Refusal, to_text
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role, Study
from tests.contract.helpers import SPECS, name_of, run

_PLAIN = {Role.OUTCOME, Role.TREATMENT, Role.COVARIATES}
TABULAR = [spec for spec in SPECS if spec.requires <= _PLAIN and not spec.one_of]


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Small studies with ties, constants, tiny arms, collinear columns, zero weights and few clusters."""
    n, k = draw(st.integers(2, 40)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-6, 1e7]))
    x = generator.standard_normal((n, k)) * scale
    shape = draw(st.sampled_from(["smooth", "tied", "constant", "collinear", "separating"]))
    arms = (generator.random(n) < draw(st.sampled_from([0.05, 0.5, 0.9]))).astype(float)
    if shape == "tied":
        x = np.round(x / scale)
    elif shape == "constant":
        x[:, 0] = scale
    elif shape == "collinear":
        x[:, -1] = x[:, 0] * 3
    elif shape == "separating":
        x[:, 0] = arms + 0.1 * generator.random(n)
    y = draw(st.sampled_from([generator.standard_normal(n) * scale, generator.integers(0, 2, n) * 1.0, arms * 2.0]))
    names = [f"x{j}" for j in range(k)]
    frame = pd.DataFrame(x, columns=names).assign(y=y, d=arms)
    roles = {Role.OUTCOME: ("y",), Role.TREATMENT: ("d",), Role.COVARIATES: tuple(names)}
    extra = draw(st.sampled_from(["nothing", "weight", "cluster"]))
    if extra == "weight":
        frame["w"] = generator.integers(0, 3, n) * 1.0
        frame.loc[0, "w"] = 1.0
        roles[Role.WEIGHT] = ("w",)
    elif extra == "cluster":
        frame["c"] = generator.integers(0, 4, n)
        roles[Role.CLUSTER] = ("c",)
    return Study(frame=frame, roles=roles, arms=("no", "yes"))


@pytest.mark.parametrize("spec", TABULAR, ids=name_of)
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(study=studies())
def test_an_answer_or_a_refusal(spec: EstimatorSpec, study: Study) -> None:
    outcome = run(spec, study, nuisance="linear")
    if isinstance(outcome, Refusal):
        assert outcome.code
        assert outcome.reason
        assert outcome.remedy
        return
    assert isinstance(outcome, EffectEstimate)
    assert np.isfinite([effect.estimate for effect in outcome.effects]).all()
    assert "NaN" not in to_text(outcome.to_json())
