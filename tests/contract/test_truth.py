"""Every entry recovers the effects that it declares, and reports no effect where there is none."""

import numpy as np
import pandas as pd
import pytest

from cqox_assets.measures import Status
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import EstimatorSpec
from cqox_assets.study import Role, Study
from tests.contract.helpers import SEED, SPECS, answer, name_of, run

CASES = [pytest.param(spec, truth, id=f"{spec.name}-{truth}") for spec in SPECS for truth in spec.truths]
BREAKS = [pytest.param(spec, broken, id=f"{spec.name}-{broken}") for spec in SPECS for broken in spec.breaks]
NULLS = [
    pytest.param(spec, design, id=f"{spec.name}-{design}")
    for spec in SPECS
    for design in spec.truths
    if design.startswith("null_")
]
