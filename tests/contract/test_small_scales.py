"""Nothing depends on the unit in which a column is measured: 1e-13 of a covariate adjusts as well as one."""

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.diagnostics.balance import standardised_differences
from cqox_assets.numerics.quantile_effects import _density
from cqox_assets.numerics.spline import SplineBasis
from cqox_assets.result import EffectEstimate

TINY = 1e-13


def confounded(scale: float, name: str) -> EffectEstimate:
    """The effect is 0.5 per unit of dose, or 1 of the treatment; without x it is far off."""
    generator = np.random.default_rng(3)
    x, other, noise = (generator.standard_normal(2000) for _ in range(3))
    if name == "dose_response":
        d = np.exp(0.5 * x + 0.5 * generator.standard_normal(2000))
    else:
        d = (generator.random(2000) < 1 / (1 + np.exp(-x))).astype(float)
    y = (0.5 if name == "dose_response" else 1.0) * d + 2 * x + noise
    frame = pd.DataFrame({"y": y, "d": d, "x": x * scale, "other": other})
    outcome = cqox.estimate(name, frame, {"outcome": "y", "treatment": "d", "covariates": ["x", "other"]})
    assert isinstance(outcome, EffectEstimate), outcome
    return outcome


@pytest.mark.parametrize("name", ["dose_response", "double_ml", "aipw", "causal_forest"])
def test_a_covariate_of_small_units_is_adjusted_for(name):
    plain, tiny = confounded(1.0, name), confounded(TINY, name)  # folds differ, so the figures do a little
    assert tiny.estimate == pytest.approx(plain.estimate, abs=plain.std_error)


def test_a_basis_of_small_units_is_the_same_basis():
    x = np.random.default_rng(1).standard_normal((200, 2))
    assert SplineBasis.fit(x * TINY).columns(x * TINY) == pytest.approx(SplineBasis.fit(x).columns(x), abs=1e-8)


def test_a_density_of_small_units_is_the_same_density():
    y, share = np.random.default_rng(2).standard_normal(500), np.full(500, 1 / 500)
    at = np.array([-1.0, 0.0, 1.0])
    assert _density(y * TINY, share, at * TINY) * TINY == pytest.approx(_density(y, share, at), rel=1e-6)


def test_a_constant_gap_in_small_units_is_infinite():
    treated = np.repeat([0.0, 1.0], 5)
    assert np.isinf(standardised_differences(treated[:, None] * TINY, treated)).all()
