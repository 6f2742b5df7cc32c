"""The page of an estimator says how it checks its assumptions itself: by its own diagnostics and no others."""

import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.spec import ASSUMPTIONS
from tools.estimator_pages import _assumption

SPECS = load_estimators()


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_only_own_diagnostics_check_an_assumption(spec):
    for name in spec.assumptions:
        checked = _assumption(spec, name)[2]
        for other in set(ASSUMPTIONS[name].diagnostics) - set(spec.diagnostics):
            assert f"`{other}`" not in checked
        for own in set(ASSUMPTIONS[name].diagnostics) & set(spec.diagnostics):
            assert f"`{own}`" in checked


def test_what_is_not_checked_is_said():
    assert _assumption(SPECS["synthetic_control"], "no_anticipation")[2] == "not checked by this estimator"
    assert "argue for it" in _assumption(SPECS["synthetic_control"], "consistency")[2]
