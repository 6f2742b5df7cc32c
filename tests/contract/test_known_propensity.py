"""A known propensity that is mapped but not asked for is named, never ignored in silence."""

import numpy as np
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.study import Role
from tests.contract.helpers import answer, small


@pytest.mark.parametrize("name", ["ipw", "aipw"])
def test_a_mapped_propensity_is_named_unless_it_is_used(name):
    study = small("randomised_trial")
    study = study.with_column("assigned", np.full(len(study), 0.5), Role.PROPENSITY)
    spec = load_estimators()[name]
    assert any("'assigned'" in notice for notice in answer(spec, study).notices)
    known = answer(spec, study, propensity="known", **({"cross_fit": False} if name == "aipw" else {}))
    assert not any("'assigned'" in notice for notice in known.notices)


def test_g_computation_names_a_propensity_that_it_does_not_use():
    study = small("randomised_trial")
    study = study.with_column("assigned", np.full(len(study), 0.5), Role.PROPENSITY)
    spec = load_estimators()["g_computation"]
    for form in ("point", "g_estimation"):
        said = "the known propensity in 'assigned' was not used"
        assert any(said in notice for notice in answer(spec, study, form=form).notices)
    known = answer(spec, study, form="g_estimation", propensity="known")
    assert not any("'assigned'" in notice for notice in known.notices)


def test_network_effects_name_a_propensity_that_a_stated_probability_replaces():
    spec = load_estimators()["network_effects"]
    study = small(spec.truths[0])
    study = study.with_column("assigned", np.full(len(study), 0.5), Role.PROPENSITY)
    told = answer(spec, study, probability=0.5)
    assert any("the known propensity in 'assigned' was not used" in notice for notice in told.notices)
    assert not any("was not used" in notice for notice in answer(spec, study).notices)
