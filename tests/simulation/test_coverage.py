"""Bias, coverage and size of every estimator by simulation: a small version always, a large one on demand.

What an estimator is held to follows from its catalogue entry (`truths`). The exceptions below are properties of a
method, not of its code, and each says why.
"""

import math

import pytest

from cqox_assets.coverage import Case, Performance, cases, main, measure

FAST_ROWS, FAST_DRAWS = 600, 60
SLOW_ROWS, SLOW_DRAWS = 2000, 1000

# Five strata leave about a tenth of the confounding (Cochran 1968) and compare means within strata, so that the
# standard error takes what covariates explain of the outcome for noise: its intervals are too wide, never too narrow.
CONSERVATIVE = {"stratification"}
# The bias of matching on one neighbour vanishes no faster than its standard error (Abadie & Imbens 2006).
FIRST_ORDER_BIAS = {"propensity_matching", "stratification"}
# Smooth and stepped truths are hard to learn: what is left of the nuisances' error fades only as rows grow.
HARD = {"confounded_smooth", "confounded_step"}


def _headlines() -> list[Case]:
    """Each estimator's first claimed design and its design without effect, by its default estimand."""
    chosen = {}
    for case in cases():
        if case.estimand == case.spec.estimands[0]:
            chosen.setdefault((case.spec.name, case.null), case)
    return list(chosen.values())


def _interval_is_honest(found: Performance, least: float, most: float, sigmas: float) -> None:
    noise = sigmas * math.sqrt(0.05 * 0.95 / found.answered)
    top = 1.0 if found.case.spec.name in CONSERVATIVE else most + noise
    assert least - noise <= found.coverage <= top, found
    if found.size is not None:
        assert (0 if found.case.spec.name in CONSERVATIVE else 1 - most - noise) <= found.size <= 1 - least + noise, (
            found
        )


@pytest.mark.parametrize("case", _headlines(), ids=lambda case: case.label)
def test_small_simulation_finds_nothing_wrong(case):
    found = measure(case, FAST_ROWS, FAST_DRAWS)
    assert found.answered == FAST_DRAWS
    allowed = 0.3 if case.spec.name in FIRST_ORDER_BIAS else 0.1
    assert abs(found.bias) < (allowed + 3.5 / math.sqrt(FAST_DRAWS)) * found.spread, found
    _interval_is_honest(found, 0.95, 0.95, sigmas=3.5)
    ratio = found.mean_std_error / found.spread
    assert 0.7 < ratio < (2.5 if case.spec.name in CONSERVATIVE else 1.4), found


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.label)
def test_large_simulation_meets_what_is_claimed(case):
    found = measure(case, SLOW_ROWS, SLOW_DRAWS)
    assert found.answered == SLOW_DRAWS
    if case.design in HARD:
        assert abs(found.bias) < 1.2 * found.mean_std_error, found
        assert found.coverage > 0.75, found
        return
    allowed = 0.4 if case.spec.name in FIRST_ORDER_BIAS else 0.1
    assert abs(found.bias) < (allowed + 2 / math.sqrt(SLOW_DRAWS)) * found.mean_std_error, found
    _interval_is_honest(found, 0.93, 0.97, sigmas=0.0)


def test_every_estimator_takes_part():
    from cqox_assets.catalog import load_estimators

    assert {case.spec.name for case in _headlines()} == set(load_estimators())
    assert all(any(case.null for case in _headlines() if case.spec.name == name) for name in load_estimators())


def test_a_dishonest_interval_is_noticed():
    """The judgement itself can fail: a coverage of 80% must not pass."""
    found = measure(_headlines()[0], 200, 20)
    wrong = Performance(**{**found.__dict__, "coverage": 0.7, "size": None, "answered": 60})
    with pytest.raises(AssertionError):
        _interval_is_honest(wrong, 0.95, 0.95, sigmas=3.5)


def test_command_writes_a_table(tmp_path, capsys):
    target = tmp_path / "docs" / "coverage.md"
    main(["--draws", "5", "--n", "200", "--only", "difference_in_means", "--out", str(target)])
    lines = [line for line in target.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(lines) == len(list(cases(["difference_in_means"])))
    assert "null_trial" in target.read_text(encoding="utf-8")
    assert capsys.readouterr().out.count("difference_in_means") == len(lines)
