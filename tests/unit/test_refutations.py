"""Questions that estimate again on changed data: each holds for a sound estimate and warns about a broken one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cqox_assets as cqox
from cqox_assets.measures import Status
from cqox_assets.numerics.perturb import permutations, subsets
from cqox_assets.result import EffectEstimate, Interval, Refusal, SensitivityResult
from cqox_assets.sensitivity._refit import refit
from cqox_assets.spec import Context
from cqox_assets.study import Role

ROLES = {"outcome": "y", "treatment": "d", "covariates": ["x", "z"]}
REFITS = (
    "data_subset",
    "dummy_outcome",
    "leave_one_out",
    "null_certification",
    "placebo_treatment",
    "random_common_cause",
)


def frame(n: int = 400, effect: float = 1.0, seed: int = 11) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    x, z, noise = generator.standard_normal((3, n))
    d = (generator.random(n) < 1 / (1 + np.exp(-x))) * 1
    return pd.DataFrame(
        {"x": x, "z": z, "d": d, "y": effect * d + x + noise, "before": x + generator.standard_normal(n)}
    )


def estimated(table: pd.DataFrame, name: str = "ols", roles: dict[str, Any] = ROLES) -> EffectEstimate:
    found = cqox.estimate(name, table, roles)
    assert isinstance(found, EffectEstimate)
    return found


def ask(
    question: str, table: pd.DataFrame, estimate: EffectEstimate, roles: dict[str, Any] = ROLES, **params: Any
) -> Any:
    return cqox.sensitivity(question, table, roles, estimate, **params)


@pytest.mark.parametrize("question", REFITS)
def test_a_sound_estimate_holds(question: str) -> None:
    table = frame()
    # Without the confounder x among what may be left out; leaving that out must change the answer, see below.
    found = ask(question, table, estimated(table), refits=12) if question != "leave_one_out" else None
    if found is None:
        trial = table.assign(d=np.random.default_rng(1).integers(0, 2, len(table)))
        trial["y"] += trial["d"]
        found = ask(question, trial, estimated(trial))
    assert isinstance(found, SensitivityResult)
    assert found.status is Status.PASS, found.meaning
    assert found.meaning.endswith(".")
    assert found.advice
    assert len(found.table) >= 2
    assert np.isfinite(found.table["estimate"]).all()


def test_the_same_seed_gives_the_same_answer() -> None:
    table = frame()
    estimate = estimated(table)
    first, second = (ask("placebo_treatment", table, estimate, refits=6) for _ in range(2))
    assert first.table["estimate"].tolist() == second.table["estimate"].tolist()
    other = ask("placebo_treatment", table, estimate, refits=6, seed=5)
    assert other.table["estimate"].tolist() != first.table["estimate"].tolist()


def test_leaving_out_the_confounder_is_noticed() -> None:
    table = frame(n=1500)
    found = ask("leave_one_out", table, estimated(table))
    assert found.status is Status.WARN
    assert "'x'" in found.meaning
    assert found.table.set_index("left_out").loc["z", "change"] == pytest.approx(0, abs=0.5)


def test_clusters_are_left_out_whole() -> None:
    table = frame().assign(site=lambda rows: np.arange(len(rows)) % 4)
    roles = ROLES | {"cluster": "site"}
    found = ask("leave_one_out", table, estimated(table, roles=roles), roles)
    assert set(found.table.loc[found.table["kind"] == "cluster", "left_out"]) == {"0", "1", "2", "3"}


@pytest.mark.parametrize(("column", "status"), [("noise", Status.PASS), ("before", Status.WARN)])
def test_an_outcome_from_before_the_treatment(column: str, status: Status) -> None:
    table = frame(n=1500).assign(noise=np.random.default_rng(3).standard_normal(1500))
    roles = {**ROLES, "covariates": ["z"], "pre_outcome": column}  # x, which confounds, is not mapped
    found = ask("placebo_outcome", table, estimated(table, roles=roles), roles)
    assert found.status is status, found.meaning
    assert found.table["outcome"].tolist() == [column]


def test_without_an_outcome_from_before_the_question_is_refused() -> None:
    table = frame()
    found = ask("placebo_outcome", table, estimated(table))
    assert isinstance(found, Refusal)
    assert "pre_outcome" in found.remedy


def _broken(change: Callable[[EffectEstimate], EffectEstimate]) -> Context:
    """A runner whose answers are spoiled on purpose."""
    from cqox_assets.runner import runner_for

    sound = runner_for().runner
    assert sound is not None
    return Context(runner=lambda name, study, values: change(sound(name, study, values)))  # type: ignore[arg-type]


def _shift(answer: EffectEstimate) -> EffectEstimate:
    head = answer.headline
    interval = Interval(head.estimate + 0.9, head.estimate + 1.1)
    return replace(answer, effects=(replace(head, estimate=head.estimate + 1, interval=interval, p_value=None),))


@pytest.mark.parametrize(
    "question", ["placebo_treatment", "dummy_outcome", "null_certification", "random_common_cause"]
)
def test_an_estimator_that_finds_effects_everywhere_is_noticed(question: str) -> None:
    from cqox_assets.mapping.prepare import prepare

    table = frame()
    spec = cqox.sensitivities()[question]
    found = spec.run(prepare(table, ROLES), estimated(table), replace(spec.params(), refits=12), _broken(_shift))
    assert isinstance(found, SensitivityResult)
    assert found.status is Status.WARN, found.meaning


def test_a_few_rows_that_move_the_answer_are_noticed() -> None:
    table = frame()
    table.loc[:1, ["d", "y"]] = [[1, 900.0], [1, -700.0]]
    estimate = estimated(table)
    optimistic = replace(
        estimate,
        effects=(replace(estimate.headline, std_error=1.0, interval=Interval(-1.0, 3.0), p_value=None),),
    )
    assert ask("data_subset", table, optimistic, refits=12).status is Status.WARN


def test_the_time_budget_ends_the_refits_and_is_reported() -> None:
    from cqox_assets.mapping.prepare import prepare
    from cqox_assets.runner import runner_for

    table = frame()
    study, estimate = prepare(table, ROLES), estimated(table)
    found = refit(estimate, (study for _ in range(50)), runner_for(Context(budget_seconds=0.0)))
    assert (found.asked, found.complete) == (3, False)
    assert "as many as the time budget allowed" in found.words


def test_an_estimate_of_another_kind_is_refused() -> None:
    table = frame().assign(instrument=lambda rows: (rows["x"] > 0) * 1)
    roles = ROLES | {"instruments": ["instrument"]}
    found = ask("placebo_treatment", table, estimated(table, "iv", roles), roles)
    assert isinstance(found, Refusal)
    assert found.code == "not_applicable"


def test_confounding_takes_the_effect_away_little_by_little() -> None:
    table = frame(n=1500)
    estimate = estimated(table)
    found = ask("confounding_strength", table, estimate)
    left = found.table.set_index("strength")["residual_effect"]
    assert left.loc[0.0] == pytest.approx(estimate.estimate)
    assert left.is_monotonic_decreasing
    crossing = left[left > 0].index.max()
    assert crossing >= found.value - 0.05
    assert found.status is Status.PASS


def test_whole_clusters_are_permuted_and_kept_together() -> None:
    cluster = np.repeat(np.arange(6), 5)
    values = np.repeat([0, 1, 0, 1, 0, 1], 5)
    for rows in permutations(30, 5, 0, cluster):
        assert (pd.Series(values[rows]).groupby(cluster).nunique() == 1).all()
    for rows in subsets(30, 0.5, 5, 0, cluster):
        assert sorted(np.bincount(cluster[rows], minlength=6)) == [0, 0, 0, 5, 5, 5]


def test_changed_data_are_fitted_once_for_all_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two estimators on the same permutations share the fits, and get the numbers that each would get alone."""
    from cqox_assets.mapping.prepare import prepare
    from cqox_assets.nuisance import models
    from cqox_assets.runner import runner_for

    table = frame(n=300)
    study = prepare(table, ROLES)
    changed = [
        study.with_column("d", table["d"].to_numpy(float)[rows], Role.TREATMENT) for rows in permutations(300, 3, 0)
    ]
    real, made = models.predict_nuisances, []
    monkeypatch.setattr(models, "predict_nuisances", lambda *given: made.append(1) or real(*given))
    fits = models.Fits()
    for name in ("aipw", "double_ml"):
        estimate = estimated(table, name)
        made.clear()
        alone = refit(estimate, changed, runner_for())
        assert len(made) >= 3
        shared = refit(estimate, changed, runner_for(Context(fits=fits)))
        assert alone.estimates.tolist() == shared.estimates.tolist()
    made.clear()
    refit(estimate, changed, runner_for(Context(fits=fits)))
    assert not made
    refit(
        estimate, [study.with_column("y", table["y"].to_numpy() + 1e-9, Role.OUTCOME)], runner_for(Context(fits=fits))
    )
    assert made  # the smallest change is another content


def test_what_is_kept_is_bounded() -> None:
    from cqox_assets.mapping.prepare import prepare
    from cqox_assets.nuisance.models import Data, Fits

    data = Data.of(prepare(frame(n=200), ROLES))
    fold = data.content_folds(5, 0)
    fits = Fits(most_bytes=2 * 200 * 6 * 8)
    for seed in range(5):
        fits.predicted(data, fold, "linear", seed)
    assert len(fits._held) == 2
    nothing = Fits(0)
    nothing.predicted(data, fold, "linear", 0)
    assert not nothing._held


def panel(units: int = 60, seed: int = 4) -> pd.DataFrame:
    """Every other unit is treated from period 4, 5 or 6 on; each unit has a level of its own."""
    generator = np.random.default_rng(seed)
    unit, time = np.repeat(np.arange(units), 8), np.tile(np.arange(1, 9), units)
    start = np.where(unit % 2 == 0, 0, np.array([4, 5, 6])[unit % 3])
    treated = ((start > 0) & (time >= start)) * 1
    level = np.repeat(3 * generator.standard_normal(units), 8)
    outcome = level + 0.3 * time + 1.5 * treated + generator.standard_normal(len(unit))
    return pd.DataFrame({"unit": unit, "time": time, "start": start, "d": treated, "y": outcome})


OVER_TIME = {"outcome": "y", "treatment": "d", "unit": "unit", "time": "time", "cohort": "start"}


def test_over_time_whole_histories_are_dealt_out() -> None:
    from cqox_assets.mapping.prepare import prepare
    from cqox_assets.sensitivity._refit import reassigned

    table = panel()
    study = prepare(table.sample(frac=1, random_state=1).reset_index(drop=True), OVER_TIME)
    before = study.frame.pivot(index="unit", columns="time", values=study.name(Role.TREATMENT))
    for made in reassigned(study, 3, 0):
        name, start = made.name(Role.TREATMENT), made.name(Role.COHORT)
        after = made.frame.pivot(index="unit", columns="time", values=name)
        assert not after.equals(before)
        assert sorted(map(tuple, after.to_numpy())) == sorted(map(tuple, before.to_numpy()))
        began = made.frame[made.frame[name] == 1].groupby("unit")["time"].min()
        assert (made.frame.groupby("unit")[start].first().loc[began.index] == began).all()


@pytest.mark.parametrize("estimator", ["difference_in_differences", "panel_matching"])
@pytest.mark.parametrize("question", ["placebo_treatment", "null_certification", "data_subset"])
def test_an_answer_over_time_is_put_to_the_question_by_whole_units(estimator: str, question: str) -> None:
    table = panel()
    estimate = estimated(table, estimator, OVER_TIME)
    found = ask(question, table, estimate, OVER_TIME, refits=20)
    assert isinstance(found, SensitivityResult), found
    assert found.status is Status.PASS, found.meaning
    assert len(found.table) == 20
    if question == "data_subset":
        assert 0.5 < found.value < 1.6  # single rows instead of units scatter more than twice as much as they should


def test_units_that_were_not_seen_together_do_not_exchange() -> None:
    from cqox_assets.numerics.perturb import histories

    group, time = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 0, 1, 0, 0])
    seen = {tuple(rows) for rows in histories(group, time, 50, 0)}
    assert all(set(rows[:4]) == {0, 1, 2, 3} and set(rows[4:]) == {4, 5} for rows in seen)
    assert len(seen) == 4


@pytest.mark.parametrize("question", ["e_value", "partial_r2", "confounding_strength"])
def test_what_does_not_rest_on_unconfounded_treatment_is_not_asked_about_confounding(question: str) -> None:
    table = panel()
    found = ask(question, table, estimated(table, "difference_in_differences", OVER_TIME), OVER_TIME)
    assert isinstance(found, Refusal)
    assert "does not rest on unconfounded treatment" in found.reason


@pytest.mark.parametrize("question", ["data_subset", "dummy_outcome", "placebo_outcome"])
@pytest.mark.parametrize("estimator", ["iv", "regression_discontinuity"])
def test_answers_by_instrument_or_cutoff_are_asked_too(estimator: str, question: str) -> None:
    generator = np.random.default_rng(6)
    run, hidden, z, noise, before = generator.standard_normal((5, 1500))
    by_cutoff = estimator == "regression_discontinuity"
    d = (run >= 0) * 1 if by_cutoff else (z + hidden > 0) * 1
    table = pd.DataFrame({"run": run, "z": (z > 0) * 1, "d": d, "y": d + hidden + noise, "before": before})
    roles = {"outcome": "y", "treatment": "d", "pre_outcome": "before"}
    roles |= {"running_variable": "run"} if by_cutoff else {"instruments": "z"}
    declared = {"cutoff": 0.0} if by_cutoff else {}
    estimate = cqox.estimate(estimator, table, roles, declaration=declared)
    assert isinstance(estimate, EffectEstimate)
    found = cqox.sensitivity(question, table, roles, estimate, declaration=declared)
    assert isinstance(found, SensitivityResult), found
    assert found.status is Status.PASS, found.meaning


def test_covariates_that_an_estimator_does_not_use_are_not_left_out() -> None:
    table = frame()
    found = ask("leave_one_out", table, estimated(table, "difference_in_means"))
    assert isinstance(found, Refusal)
    assert "uses none of the covariates" in found.reason


def test_a_few_refits_certify_nothing() -> None:
    table = frame()
    few = ask("null_certification", table, estimated(table), refits=5)
    assert few.status is Status.PASS
    assert "still open" in few.implies
    assert "too few to certify" in few.advice
    assert (
        "as rarely by mistake as it promises" in ask("null_certification", table, estimated(table), refits=60).implies
    )


def test_groups_that_differed_before_by_as_much_as_the_effect_fail() -> None:
    """Nothing but what was there before the treatment makes this effect."""
    generator = np.random.default_rng(9)
    x, u, first, second = generator.standard_normal((4, 1200))
    d = (generator.random(1200) < 1 / (1 + np.exp(-x - 2 * u))) * 1
    table = pd.DataFrame({"x": x, "d": d, "before": x + 2 * u + first, "y": x + 2 * u + second})
    roles = {"outcome": "y", "treatment": "d", "covariates": ["x"], "pre_outcome": "before"}
    found = ask("placebo_outcome", table, estimated(table, roles=roles), roles)
    assert found.status is Status.FAIL
    assert "of the effect itself" in found.meaning
    table["y"] += 10 * d
    smaller = ask("placebo_outcome", table, estimated(table, roles=roles), roles)
    assert smaller.status is Status.WARN
