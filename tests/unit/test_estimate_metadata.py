"""What an estimate shows in the UI: plain texts, tables, and numbers that plot over the months."""

import math

from cqox_assets.catalog import load_estimators
from cqox_assets.estimators.assets import summary
from cqox_assets.result import EffectEstimate
from cqox_assets.runner import run_guarded
from cqox_assets.simulate.designs import DESIGNS


def shown(name: str, design: str, **params: object) -> tuple[EffectEstimate, dict[str, object]]:
    study, _ = DESIGNS[design](400, 2)
    outcome = run_guarded(load_estimators()[name], study, params)
    assert isinstance(outcome, EffectEstimate), outcome
    return outcome, dict(summary(outcome, study.fingerprint))


def test_numbers_have_stable_names_and_are_those_of_the_estimate():
    outcome, metadata = shown("ols", "randomised_trial")
    assert metadata["estimate"] == outcome.estimate
    assert metadata["std_error"] == outcome.std_error
    assert (metadata["interval_low"], metadata["interval_high"]) == (outcome.interval.low, outcome.interval.high)
    assert metadata["p_value"] == outcome.p_value
    assert metadata["n"] == outcome.sample.used
    assert metadata["estimand"] == "ATE"
    assert "unbounded" not in metadata
    for name in ("effects", "diagnostics", "notices", "sample"):
        assert name in metadata


def test_an_infinite_end_is_said_and_not_plotted():
    outcome, metadata = shown("iv", "weak_instrument", interval="anderson_rubin")
    assert (outcome.interval.low, outcome.interval.high) == (-math.inf, math.inf)
    assert metadata["unbounded"] == "both"
    assert all(math.isfinite(value) for value in metadata.values() if isinstance(value, float))
