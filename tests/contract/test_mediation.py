"""What the mediation analysis promises beyond the general contract."""

from dataclasses import replace

import numpy as np
import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.discovery.plan import plan_methods
from cqox_assets.errors import CatalogError
from cqox_assets.measures import Status
from cqox_assets.numerics.probit import fit_probit
from cqox_assets.result import EffectEstimate, Refusal
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.study import Role, Study
from tests.contract.helpers import SEED, answer, replaced, run, small

SPEC = load_estimators()["mediation"]


def by_place(outcome: EffectEstimate) -> dict[str, float]:
    return {
        f"{e.estimand}[{','.join(e.at.values())}]" if e.at else str(e.estimand): e.estimate for e in outcome.effects
    }


def probit_study(n: int, seed: int = SEED) -> Study:
    study = DESIGNS["mediated_unevenly"](n, seed)[0]
    return replaced(study, Role.OUTCOME, (study.column(Role.OUTCOME) > 0.5).astype(float))


def test_product_and_difference_of_coefficients_agree() -> None:
    study = small("mediated_trial")
    found = by_place(answer(SPEC, study))
    plain = load_estimators()["ols"]
    assert found["ACME"] + found["ADE"] == pytest.approx(found["total"])
    assert found["total"] == pytest.approx(answer(plain, study).estimate)
    row = answer(SPEC, study).tables["mediators"].iloc[0]
    assert row["a"] * row["b"] == pytest.approx(found["ACME"])


def test_interaction_recovers_both_arms() -> None:
    study, truth = DESIGNS["mediated_unevenly"](6000, SEED)
    outcome = answer(SPEC, study, interaction=True)
    for effect in outcome.effects:
        place = f"{effect.estimand}[{next(iter(effect.at.values()))}]" if effect.at else str(effect.estimand)
        assert abs(effect.estimate - truth[place]) < 4 * effect.std_error  # type: ignore[operator]
    found = by_place(outcome)
    assert found["ACME[control]"] + found["ADE[treated]"] == pytest.approx(found["total"])
    assert found["ACME[treated]"] + found["ADE[control]"] == pytest.approx(found["total"])
    for arm in ("control", "treated"):
        assert answer(SPEC, study, interaction=True, at_treatment=arm).estimate == pytest.approx(found[f"ACME[{arm}]"])


@pytest.mark.parametrize("model", ["ols", "probit"])
@pytest.mark.parametrize("interaction", [False, True])
def test_delta_simulation_and_bootstrap_agree(model: str, interaction: bool) -> None:
    study = probit_study(1500)
    values = {"outcome_model": model, "interaction": interaction}
    delta = answer(SPEC, study, **values)
    drawn = answer(SPEC, study, uncertainty="quasi_bayesian", draws=1500, **values)
    resampled = answer(SPEC, study, inference="bootstrap", draws=150, **values)
    for one, two, three in zip(delta.effects, drawn.effects, resampled.effects, strict=True):
        assert two.estimate == pytest.approx(one.estimate)
        assert two.std_error == pytest.approx(one.std_error, rel=0.12)
        assert three.std_error == pytest.approx(one.std_error, rel=0.3)
    assert "quasi-Bayesian" in drawn.inference


def test_probit_effects_are_those_of_the_potential_outcomes() -> None:
    study = probit_study(40_000)
    outcome = answer(SPEC, study, outcome_model="probit", interaction=True)
    found = by_place(outcome)
    generator = np.random.default_rng(1)
    x, noise = generator.standard_normal((400_000, 3)), generator.standard_normal((400_000, 2))

    def mean(t: float, s: float) -> float:
        m = 0.8 * s + 0.5 * x[:, 0] + noise[:, 0]
        return float((x[:, 0] + 0.5 * x[:, 1] + 0.6 * t + (0.2 + 0.6 * t) * m + noise[:, 1] > 0.5).mean())

    assert found["ACME[control]"] == pytest.approx(mean(0, 1) - mean(0, 0), abs=0.015)
    assert found["ACME[treated]"] == pytest.approx(mean(1, 1) - mean(1, 0), abs=0.015)
    assert found["total"] == pytest.approx(mean(1, 1) - mean(0, 0), abs=0.02)


def test_probit_solves_its_scores() -> None:
    generator = np.random.default_rng(3)
    x = np.column_stack([np.ones(800), generator.standard_normal((800, 2)) * [1.0, 1e6]])
    y = (x @ [0.2, 1.0, -1e-6] + generator.standard_normal(800) > 0).astype(float)
    fit = fit_probit(x, y, np.tile([0.5, 1.5], 400))
    assert np.abs(fit.design.T @ (fit.weights * fit.residuals) / [1, 1, 1e6]).max() < 1e-7


def test_several_mediators_add_up() -> None:
    found = by_place(answer(SPEC, small("mediated_two_ways", 2000)))
    assert found["ACME[m1]"] + found["ACME[m2]"] == pytest.approx(found["ACME"])
    assert found["proportion_mediated[m1]"] == pytest.approx(found["ACME[m1]"] / found["total"])
    assert list(answer(SPEC, small("mediated_two_ways")).tables["mediators"]["mediator"]) == ["m1", "m2"]


def test_each_estimand_can_be_the_headline() -> None:
    study = small("mediated_trial")
    for estimand in SPEC.estimands:
        assert answer(SPEC, study, estimand=estimand).estimand == estimand


@pytest.mark.parametrize(("design", "name"), [("mediated_unevenly", "mediator_interaction_p"),
                                              ("mediated_weakly", "mediator_confounding")])  # fmt: skip
def test_the_right_diagnostic_warns(design: str, name: str) -> None:
    study = DESIGNS[design](3000, SEED)[0]
    assert answer(SPEC, study).diagnostic(name).status is Status.WARN  # type: ignore[union-attr]
    assert answer(SPEC, small("mediated_trial", 3000)).diagnostic(name).status is Status.PASS  # type: ignore[union-attr]


def test_the_confounding_curve_is_right() -> None:
    study, _ = DESIGNS["mediated_trial"](3000, SEED)
    outcome = answer(SPEC, study)
    curve = outcome.tables["confounding"]
    assert curve.loc[curve["rho"] == 0, "acme"].item() == pytest.approx(outcome.estimate)
    zero = outcome.diagnostic("mediator_confounding").value  # type: ignore[union-attr]
    assert np.interp(zero, curve["rho"], curve["acme"]) == pytest.approx(0, abs=0.02)


def test_a_mediator_that_restates_the_treatment_is_refused() -> None:
    study = small("mediated_trial")
    for values in (study.column(Role.TREATMENT) * 3, study.frame["x0"].to_numpy() - 1, np.ones(len(study))):
        outcome = run(SPEC, replaced(study, Role.MEDIATOR, values))
        assert isinstance(outcome, Refusal)
        assert outcome.code == "collinear_mediator"
        assert outcome.remedy


def test_probit_refusals_have_codes() -> None:
    study = small("mediated_trial")
    assert run(SPEC, study, outcome_model="probit").code == "outcome_not_binary"  # type: ignore[union-attr]
    split = replaced(study, Role.OUTCOME, (study.column(Role.MEDIATOR) > 0).astype(float))
    assert run(SPEC, split, outcome_model="probit").code == "perfect_separation"  # type: ignore[union-attr]
    with pytest.raises(CatalogError, match="HC3"):
        run(SPEC, study, outcome_model="probit", se="HC3")
    with pytest.raises(CatalogError, match="trim"):
        run(SPEC, study, trim=0.1)


def test_the_plan_asks_for_a_mediator() -> None:
    plain = small("confounded_linear", 200)
    assert "mediator" in plan_methods(plain).refused["mediation"]
    ranked = plan_methods(small("mediated_trial", 200)).names
    assert ranked.index("mediation") < ranked.index("ols")
    assert replace(plain).arms
