"""What the synthetic control promises beyond the general contract."""

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.numerics.simplex import movable_weight, simplex_weights
from cqox_assets.result import Refusal
from cqox_assets.study import Role, Study
from tests.contract.helpers import answer, numbers, replaced, run, small, without

SCM = load_estimators()["synthetic_control"]


def _study(n: int = 500) -> Study:
    return small("one_treated_unit", n)


def _refused(study: Study, **values: object) -> Refusal:
    outcome = run(SCM, study, **values)
    assert isinstance(outcome, Refusal), outcome
    assert outcome.remedy
    return outcome


@pytest.mark.parametrize(("rows", "donors", "ridge"), [(15, 8, 0.0), (6, 12, 0.5), (4, 3, 0.0), (10, 40, 2.0)])
def test_weights_are_optimal(rows: int, donors: int, ridge: float) -> None:
    generator = np.random.default_rng(rows)
    target, pool = generator.standard_normal(rows), generator.standard_normal((rows, donors)) + 0.5
    weights = simplex_weights(target, pool, ridge)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    slope = pool.T @ (pool @ weights - target) + ridge * weights
    # First-order conditions on the simplex: the slope is least, and equal, where a donor has weight.
    assert slope[weights > 0] == pytest.approx(np.full((weights > 0).sum(), slope.min()), abs=1e-9)


def test_a_known_average_of_donors_is_found() -> None:
    pool = np.random.default_rng(1).standard_normal((30, 6))
    wanted = np.array([0.5, 0.0, 0.3, 0.0, 0.2, 0.0])
    assert simplex_weights(pool @ wanted, pool) == pytest.approx(wanted, abs=1e-9)


def test_tables_add_up() -> None:
    outcome = answer(SCM, _study())
    gaps, weights = outcome.tables["gaps"], outcome.tables["donor_weights"]
    assert outcome.estimate == pytest.approx(gaps.loc[gaps["time"] >= 16, "gap"].mean())
    wide = _study().frame.pivot(index="time", columns="unit", values="y")
    made = wide[weights["unit"].astype(int)].to_numpy() @ weights["weight"].to_numpy()
    assert gaps["synthetic"].to_numpy() == pytest.approx(made)
    placebos = outcome.tables["placebos"]
    rank = (placebos["ratio"] >= placebos["ratio"].iloc[0]).mean()
    assert outcome.p_value == pytest.approx(rank)
    assert outcome.headline.p_source != outcome.headline.interval_source


def test_unit_and_time_replace_the_treatment() -> None:
    study = _study()
    bare = without(study, Role.TREATMENT)
    assert _refused(bare).code == "missing_role"
    wanted = numbers(answer(SCM, study))
    assert numbers(answer(SCM, bare, treated_unit="1", treatment_time=16)) == pytest.approx(wanted)
    assert _refused(bare, treated_unit="nobody", treatment_time=16).code == "no_unit"
    assert _refused(bare, treated_unit="1", treatment_time=1).code == "nobody_left"


def test_several_treated_units_and_missing_donors_are_refused() -> None:
    study = _study()
    two = 1.0 * (study.frame["unit"].isin([1, 2]) & (study.frame["time"] > 10))
    assert _refused(replaced(study, Role.TREATMENT, two.to_numpy())).code == "several_treated_units"
    assert _refused(study.take(study.frame["unit"].isin([1, 2]).to_numpy())).code == "no_donors"
    assert SCM.name in plan_methods(small("staggered_panel")).refused
    assert SCM.name in plan_methods(small("randomised_trial")).refused


def test_one_treated_unit_is_planned_first() -> None:
    assert plan_methods(_study()).ranked[0][0] == SCM.name


def test_predictors_choose_the_donors() -> None:
    study = _study()
    listed = (("y", (1.0, 2.0, 3.0)), ("y", (13.0, 14.0, 15.0)), ("x", (1.0, 2.0)))
    equal = answer(SCM, study, predictors=listed)
    given = answer(SCM, study, predictors=listed, v="given", importance=(1.0, 1.0, 1.0))
    assert numbers(given) == pytest.approx(numbers(equal))
    nested = answer(SCM, study.take(study.frame["unit"].to_numpy() < 8), predictors=listed, v="nested", evaluations=40)
    plain = answer(SCM, study.take(study.frame["unit"].to_numpy() < 8), predictors=listed)
    fits = [item.tables["placebos"]["pre_rmspe"] for item in (nested, plain)]
    assert (fits[0] <= fits[1] + 1e-9).all()
    with pytest.raises(CatalogError, match="importance"):
        run(SCM, study, predictors=listed, v="given", importance=(1.0,))
    with pytest.raises(CatalogError, match="'moon'"):
        run(SCM, study, predictors=(("moon", (1.0,)),))
    assert _refused(study, predictors=(("x", (99.0,)),)).code == "missing_predictor"


def test_synthetic_did_is_indifferent_to_a_constant() -> None:
    study = _study()
    shifted = replaced(study, Role.OUTCOME, study.column(Role.OUTCOME) + 50.0 * (study.frame["unit"] == 1).to_numpy())
    found = [answer(SCM, item, method="synthetic_did") for item in (study, shifted)]
    assert found[0].estimate == pytest.approx(found[1].estimate)
    assert abs(found[0].estimate - 1) < 4 * found[0].std_error  # type: ignore[operator]
    assert answer(SCM, shifted).estimate > 10


def _short(units: int, periods: int, seed: int = 5) -> pd.DataFrame:
    """As many units and periods; the first unit is treated in the second half."""
    unit, time = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
    y = np.random.default_rng(seed).standard_normal(units * periods)
    y[:periods] /= 4  # within the donors' hull
    return pd.DataFrame({"u": unit, "t": time, "y": y, "d": ((unit == 0) & (time >= periods // 2)).astype(int)})


ROLES = {"outcome": "y", "unit": "u", "time": "t", "treatment": "d"}


def test_weights_that_are_not_unique_are_said_and_no_ratio_is_made_up() -> None:
    outcome = cqox.estimate("synthetic_control", _short(31, 8), ROLES)
    found = {item.name: item for item in outcome.diagnostics}["movable_weight"]
    assert found.status == "warn"
    assert found.value > 0.1
    assert "30 donors for 4 periods" in found.detail
    assert outcome.p_value is None
    assert any("without error" in notice for notice in outcome.notices)
    ratios = outcome.tables["placebos"]["ratio"]
    assert np.isnan(ratios.iloc[0])
    assert not ratios.max() > 1e6


def test_unique_weights_pass() -> None:
    outcome = answer(SCM, _study())
    found = {item.name: item for item in outcome.diagnostics}["movable_weight"]
    assert (found.status, found.value) == ("pass", pytest.approx(0, abs=1e-6))
    ridge = answer(SCM, _study(), method="synthetic_did")
    assert {item.name: item.status for item in ridge.diagnostics}["movable_weight"] == "not_run"


def test_the_share_that_can_move_is_found() -> None:
    pool = np.random.default_rng(2).standard_normal((40, 4))
    twins = np.column_stack([pool, pool[:, 0]])
    target = pool @ np.array([0.6, 0.4, 0.0, 0.0])
    assert movable_weight(target, twins, np.array([0.6, 0.4, 0, 0, 0])) == pytest.approx(0.6, abs=1e-6)
    assert movable_weight(target, twins, np.array([0.3, 0.4, 0, 0, 0.3])) == pytest.approx(0.3, abs=1e-6)
    assert movable_weight(target, pool, np.array([0.6, 0.4, 0, 0])) == pytest.approx(0, abs=1e-6)
    assert movable_weight(pool[:, 2], pool, np.array([0, 0, 1.0, 0])) == pytest.approx(0, abs=1e-6)


def test_one_period_before_treatment_is_said() -> None:
    frame = _short(12, 6).query("t >= 2")
    outcome = cqox.estimate("synthetic_control", frame, ROLES)
    assert any("one period before treatment" in notice for notice in outcome.notices)
