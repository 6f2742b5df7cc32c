"""Bias, coverage and size of every estimator by simulation: a small version always, a large one on demand.

What an estimator is held to follows from its catalogue entry: the designs from `truths` and `breaks`, the limits from
`interval_claim`, `claim_bias`, `claim_coverage` and `coverage_rows`.
"""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cqox_assets.catalog import load_estimators
from cqox_assets.coverage import runs, simulation
from cqox_assets.coverage.__main__ import main
from cqox_assets.coverage.claims import Alarm, Performance, alarms, claimed, measure, misses, performances
from cqox_assets.coverage.runs import Journal, merged, run_blocks
from cqox_assets.coverage.simulation import Block, Record, blocks, run_block

SPECS = load_estimators()
FAST_ROWS = 600
# Its model is chosen by a test; with fewer rows that takes neighbours' outcomes for their noise now and then.
FAST_ROWS_OF = {"geographic": 1600}
SLOW_DRAWS, BROKEN_DRAWS = 1000, 200
SIGMAS = 3.5
UNFINISHED = Path(__file__).resolve().parents[1] / "artifacts"


def _null(name: str) -> str:
    return next(design for design in SPECS[name].truths if design.startswith("null_"))


def _small() -> dict[tuple[str, int], list[str]]:
    """Each estimator on its first design and on the one without effect, by (design, rows)."""
    found: dict[tuple[str, int], list[str]] = {}
    for name, spec in SPECS.items():
        for design in dict.fromkeys([spec.truths[0], _null(name)]):
            found.setdefault((design, min(FAST_ROWS_OF.get(name, FAST_ROWS), spec.coverage_rows)), []).append(name)
    return found


SMALL = [pytest.param(name, design, id=f"{name}-{design}") for (design, _), names in _small().items() for name in names]
LARGE = [pytest.param(name, design, id=f"{name}-{design}") for name, spec in SPECS.items() for design in spec.truths]
BROKEN = [pytest.param(name, design, id=f"{name}-{design}") for name, spec in SPECS.items() for design in spec.breaks]


def _draws(name: str) -> int:
    """All entries together stay below a minute: what is slow to fit is drawn less often."""
    spec = SPECS[name]
    return 20 if spec.cost == "heavy" else 40 if spec.shares_nuisance else 60


@pytest.fixture(scope="module")
def small() -> list[Performance]:
    work: list[Block] = []
    for draws in sorted({_draws(name) for name in SPECS}):
        chosen = {key: [name for name in names if _draws(name) == draws] for key, names in _small().items()}
        work += blocks({key: names for key, names in chosen.items() if names}, 0, draws)
    return list(performances(run_blocks(work, Journal())))


@pytest.fixture(scope="module")
def large() -> list[Performance]:
    unfinished = UNFINISHED / "coverage.held.jsonl"
    records = measure(claimed(), SLOW_DRAWS, Journal(unfinished), workers=2)
    unfinished.unlink(missing_ok=True)
    return list(performances(records))


@pytest.fixture(scope="module")
def broken() -> list[Alarm]:
    unfinished = UNFINISHED / "coverage.broken.jsonl"
    records = run_blocks(blocks(claimed(broken=True), 0, BROKEN_DRAWS), Journal(unfinished), workers=2)
    unfinished.unlink(missing_ok=True)
    return list(alarms(records))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "design"), SMALL)
def test_small_simulation_finds_nothing_wrong(small, name, design):
    found = [item for item in small if (item.estimator, item.design) == (name, design)]
    assert found
    for item in found:
        assert misses(item, SPECS[name], SIGMAS) == [], item
        if item.mean_std_error is not None:
            widest = 1.4 if SPECS[name].interval_claim == "nominal" else 2.5
            assert 0.7 < item.mean_std_error / item.spread < widest, item


@pytest.mark.slow
@pytest.mark.timeout(8 * 3600)
@pytest.mark.parametrize(("name", "design"), LARGE)
def test_large_simulation_meets_what_is_claimed(large, name, design):
    measured = SPECS[name].headline_of or name  # the contract tests hold the two headlines equal
    found = [item for item in large if (item.estimator, item.design) == (measured, design)]
    assert found
    assert {item.effect: misses(item, SPECS[name]) for item in found} == {item.effect: [] for item in found}


@pytest.mark.slow
@pytest.mark.timeout(8 * 3600)
@pytest.mark.parametrize(("name", "design"), BROKEN)
def test_broken_assumptions_are_noticed(broken, name, design):
    found = [item for item in broken if (item.estimator, item.design) == (name, design)]
    assert len(found) == 1
    assert found[0].held, found


def test_a_shared_headline_is_measured_on_every_design_of_its_entry():
    assert [name for name, spec in SPECS.items() if spec.headline_of]
    for spec in SPECS.values():
        if spec.headline_of:
            other = SPECS[spec.headline_of]
            assert set(spec.truths) <= set(other.truths)
            assert spec.coverage_rows == other.coverage_rows


def test_every_estimator_takes_part():
    assert {case.values[0] for case in SMALL} == {case.values[0] for case in LARGE} == set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_a_claim_other_than_the_usual_says_what_and_why(name):
    spec = SPECS[name]
    usual = spec.interval_claim == "nominal"
    assert (usual and not spec.claim_designs) or spec.claim_note
    assert set(spec.claim_designs) < set(spec.truths)
    assert all(bias > spec.claim_bias and lower >= 0.9 for bias, lower in spec.claim_designs.values())
    assert not usual or (spec.claim_bias == 0.1 and spec.claim_coverage is None)
    if spec.interval_claim == "biased":
        assert spec.claim_bias > 0.1
    if spec.interval_claim in ("biased", "other"):
        assert spec.claim_coverage is not None
    least, most = spec.coverage_limits
    assert 0.5 <= least < most <= 1


def _found(**changes: object) -> Performance:
    usual = Performance(
        "ols", "null_effect", "ATE", n=1000, draws=1000, answered=1000, truth=0.0, bias=0.0, rmse=1.0, spread=1.0,
        mean_std_error=1.0, coverage=0.95, length=3.9, size=0.05, seconds=0.01,
    )  # fmt: skip
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"coverage": 0.925}, "coverage"),
        ({"coverage": 0.975}, "coverage"),
        ({"size": 0.07}, "size"),
        ({"size": 0.03}, "size"),
        ({"bias": 0.17}, "bias"),
        ({"bias": -0.17}, "bias"),
        ({"answered": 999}, "no interval"),
    ],
)
def test_what_is_not_as_claimed_is_noticed(changes, word):
    """The judgement itself can fail; more draws are needed to say so of a little than of much."""
    ols = SPECS["ols"]
    assert misses(_found(), ols) == []
    assert [word in line for line in misses(_found(**changes), ols)] == [True]
    few = _found(**{**changes, "draws": 60, "answered": 60})
    assert misses(few, ols, SIGMAS) == []
    assert misses(_found(draws=60, answered=60, coverage=0.7), ols, SIGMAS) != []
    assert misses(_found(draws=60, answered=60, bias=0.7), ols, SIGMAS) != []


def test_refusals_of_a_few_draws_are_held_only_where_the_entry_says_so():
    stated = [spec for spec in SPECS.values() if spec.claim_unanswered]
    assert [spec.name for spec in stated] == ["geographic"]
    assert all(spec.claim_note and spec.claim_unanswered <= 0.01 for spec in stated)
    assert misses(_found(answered=995), stated[0]) == []
    assert misses(_found(answered=989), stated[0]) != []


def test_other_claims_have_limits_of_their_own():
    nominal = SPECS["ols"]
    wide = replace(nominal, interval_claim="conservative", claim_note="wide")
    assert misses(_found(coverage=1.0, size=0.0), wide) == []
    assert misses(_found(coverage=0.92, size=0.08), wide) != []
    biased = replace(nominal, interval_claim="biased", claim_note="why", claim_bias=0.5, claim_coverage=(0.88, 0.97))
    assert misses(_found(bias=0.4, coverage=0.89, size=0.11), biased) == []
    assert misses(_found(bias=0.7, coverage=0.85, size=0.15), biased) != []


def test_a_hard_design_has_limits_of_its_own_and_no_other_has():
    hard = replace(SPECS["ols"], claim_note="why", claim_designs={"confounded_step": (0.4, 0.92)})
    bad = {"bias": 0.35, "coverage": 0.925}
    assert misses(_found(design="confounded_step", **bad), hard) == []
    assert len(misses(_found(**bad), hard)) == 2
    assert len(misses(_found(design="confounded_step", bias=0.6, coverage=0.9), hard)) == 2


def test_a_study_is_drawn_once_and_its_nuisance_models_are_fitted_once(monkeypatch):
    drawn, fitted = [], []
    design, fit = simulation.DESIGNS["null_effect"], simulation.shared_nuisance
    monkeypatch.setitem(simulation.DESIGNS, "null_effect", lambda n, seed: drawn.append(seed) or design(n, seed))
    monkeypatch.setattr(simulation, "shared_nuisance", lambda study: fitted.append(study) or fit(study))
    records = run_block(Block("null_effect", 200, ("aipw", "double_ml", "ols"), 0, 2))
    assert len(drawn) == len(set(drawn)) == len(fitted) == 2
    assert {name: record.draws for name, record in records.items()} == {"aipw": 2, "double_ml": 2, "ols": 2}
    assert set(records["aipw"].effects) == {"ATE", "ATT"}
    assert records["ols"].fits == 2


def test_effects_of_several_arms_and_estimands_each_have_a_case():
    record = run_block(Block("three_arms", 300, ("ols",), 0, 1))["ols"]
    assert set(record.effects) == {"ATE[low]", "ATE[high]"}
    series = run_block(Block("null_series", 100, ("interrupted_time_series",), 0, 1))["interrupted_time_series"]
    assert set(series.effects) == {"level_change", "slope_change"}
    assert series.fits == 1


def test_sums_do_not_depend_on_how_the_draws_are_cut():
    whole = run_block(Block("null_trial", 100, ("ols", "difference_in_means"), 0, 4))["difference_in_means"]
    parts = [run_block(Block("null_trial", 100, ("difference_in_means",), first, 2)) for first in (0, 2)]
    joined = parts[0]["difference_in_means"].plus(parts[1]["difference_in_means"])
    for name in ("error", "square", "std_error", "length", "covered", "rejected", "tests"):
        assert getattr(joined.effects["ATE"], name) == pytest.approx(getattr(whole.effects["ATE"], name))
    assert joined.draws == whole.draws == 4


def test_sums_agree_with_the_answers_themselves():
    import numpy as np

    import cqox_assets.runner as runner

    block = Block("null_trial", 100, ("ols",), 0, 12)
    answers = []
    for draw in range(12):
        study, _ = simulation.DESIGNS["null_trial"](100, simulation.seed_of(block, draw))
        answers.append(runner.run_estimator(SPECS["ols"], study))
    key = ("ols", "null_trial", 100)
    found = next(performances({key: run_block(block)["ols"]}))
    estimates = np.array([item.estimate for item in answers])
    assert found.bias == pytest.approx(estimates.mean())
    assert found.spread == pytest.approx(estimates.std(ddof=1))
    assert found.rmse == pytest.approx(math.sqrt((estimates**2).mean()))
    assert found.coverage == np.mean([item.interval.covers(0) for item in answers])
    assert found.size == np.mean([item.p_value < 0.05 for item in answers])


def test_an_interrupted_run_continues_where_it_was(tmp_path, monkeypatch):
    path = tmp_path / "unfinished.jsonl"
    claims = {("null_trial", 100): ["difference_in_means", "ols"]}
    first = run_blocks(blocks({("null_trial", 100): ["ols"]}, 0, 25), Journal(path))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"code": "half a li')
    asked = []
    run = runs.run_block
    monkeypatch.setattr(runs, "run_block", lambda block: asked.append(block) or run(block))
    second = run_blocks(blocks(claims, 0, 25), Journal(path))
    assert {name for block in asked for name in block.names} == {"difference_in_means"}
    key = ("ols", "null_trial", 100)
    assert second[key].to_json() == first[key].to_json()
    assert second["difference_in_means", "null_trial", 100].draws == 25
    monkeypatch.setattr(runs, "code_digest", lambda: "other code")
    assert Journal(path).known(Block("null_trial", 100, ("ols",), 0, 20)) == {}


def test_a_miss_is_drawn_more_often_before_it_is_judged(monkeypatch):
    spec = replace(SPECS["ols"], claim_coverage=(0.99999, 1.0))
    monkeypatch.setitem(load_estimators(), "ols", spec)
    loose = replace(SPECS["difference_in_means"], claim_bias=9.0, claim_coverage=(0.001, 1.0))
    monkeypatch.setitem(load_estimators(), "difference_in_means", loose)
    records = measure({("null_trial", 100): ["ols", "difference_in_means"]}, 20)
    assert records["ols", "null_trial", 100].draws == 80
    assert records["difference_in_means", "null_trial", 100].draws == 20


def test_two_processes_find_what_one_finds():
    work = list(blocks({("null_trial", 100): ["ols"]}, 0, 40))
    one, two = run_blocks(work, Journal()), run_blocks(work, Journal(), workers=2)
    key = ("ols", "null_trial", 100)
    assert two[key].effects["ATE"].covered == one[key].effects["ATE"].covered
    assert two[key].effects["ATE"].error == pytest.approx(one[key].effects["ATE"].error)
    assert merged(one, two)[key].draws == 80


def test_alarms_count_what_warned():
    record = Record(draws=4, warned=Counter(raw_smd=4, overlap=1), refused=Counter(no_overlap=2))
    record = record.plus(Record())
    found = next(alarms({("aipw", "no_overlap", 100): record}))
    assert found.noticed == 0.75
    assert not found.held
    assert found.bias is None


def test_command_writes_tables_and_keeps_what_it_did_not_draw(tmp_path, capsys):
    target = tmp_path / "docs" / "coverage.md"
    usual = ["--draws", "5", "--broken-draws", "2", "--rows", "200", "--workers", "1", "--out", str(target)]
    main([*usual, "--only", "difference_in_means"])
    main([*usual, "--only", "ols", "--designs", "null_effect", "confounded_smooth"])
    text = target.read_text(encoding="utf-8")
    rows = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in target.parent.iterdir()) == ["coverage.json", "coverage.md"]
    drawn = {(row["estimator"], row["design"]) for row in rows["coverage"]}
    wanted = {("difference_in_means", design) for design in SPECS["difference_in_means"].truths}
    assert drawn == wanted | {("ols", "null_effect")}
    assert {row["estimator"] for row in rows["breaks"]} == {"difference_in_means", "ols"}
    for word in ("null_trial", "`ols`", "assignment_p", "confounded_linear", "bias / SD", "conservative"):
        assert word in text
    assert all(row["date"] and row["version"] and isinstance(row["held"], bool) for row in rows["coverage"])
    assert "cases hold" in capsys.readouterr().out
    main(["--draws", "2", "--broken-draws", "1", "--rows", "200", "--workers", "1", "--only", "difference_in_means"])
    assert "# Coverage of the intervals" in capsys.readouterr().out
