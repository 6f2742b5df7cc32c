"""What the synthetic control promises beyond the general contract."""

import numpy as np
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.numerics.simplex import simplex_weights
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
