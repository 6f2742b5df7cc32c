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
