"""The accuracy command measures errors against known effects, and compares in pairs."""

import json

import numpy as np
import pandas as pd
import pytest

from cqox_assets import accuracy


@pytest.fixture(scope="module")
def first() -> list[accuracy.Replication]:
    return list(accuracy.replications(accuracy.DATA, 1))


def test_both_benchmarks_have_known_effects(first):
    assert [(case.benchmark, case.number) for case in first] == [("IHDP", 1), ("ACIC 2016", 1)]
    assert [len(case.x) for case in first] == [747, 4802]
    for case in first:
        assert case.x.notna().all().all()
        assert set(np.unique(case.treated)) == {0.0, 1.0}
        assert len(case.effect) == len(case.outcome) == len(case.x)


def test_errors_are_those_of_the_known_effect(first):
    case = first[0]
    row = accuracy.measure(case, "shifted", lambda case: (case.effect.mean() + 0.5, case.effect + 2.0))
    assert row["ate_error"] == pytest.approx(0.5)
    assert row["pehe"] == pytest.approx(2.0)
    assert accuracy.measure(case, "average", lambda case: (0.0, None))["pehe"] is None


def test_our_unit_effects_beat_a_constant(first):
    row = accuracy.measure(first[0], "CQOx t_learner", lambda case: accuracy.own("t_learner", case))
    assert row["pehe"] < first[0].effect.std()
    assert row["ate_error"] < 0.3


def table(ours: list[float], theirs: list[float]) -> pd.DataFrame:
    rows = [("CQOx t_learner", k, value) for k, value in enumerate(ours)]
    rows += [("econml TLearner", k, value) for k, value in enumerate(theirs)]
    return pd.DataFrame(rows, columns=["method", "replication", "pehe"]).assign(
        benchmark="IHDP", ate_error=1.0, cpu_s=0.1
    )


def test_ratios_are_paired():
    found = accuracy.compare(table([1.0, 2.0, 4.0], [1.1, 2.2, 4.4]), "pehe").set_index("method")
    ratio = found.loc["CQOx t_learner", "counterpart"]
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1 / 1.1,) * 3)
    assert ratio.held == "yes"
    assert found.loc["econml TLearner", "counterpart"] is None


def test_what_is_above_the_target_is_listed_with_the_replication_that_makes_it_so():
    page = accuracy.render(table([1.0, 1.0, 7.0], [1.0, 1.0, 1.0]))
    assert "| IHDP | CQOx t_learner | 3.000 | 1.000 | 0.10 | 3.00 (1.00 to 7.00), econml TLearner | within" in page
    assert "3.00 (1.00 to 7.00) times econml TLearner (within noise); 1.00 without replication 2." in page
    assert "No method is." in accuracy.render(table([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]))
    wide = table([2.0, 4.0, 8.0], [1.0, 2.0, 4.0]).pivot_table(index="replication", columns="method", values="pehe")
    assert accuracy.ratio_to(wide, "CQOx t_learner", "econml TLearner").held == "no"


def test_the_command_keeps_what_it_has(tmp_path, capsys):
    kept = tmp_path / "kept.json"
    arguments = [
        "--replications",
        "1",
        "--only",
        "CQOx t_learner",
        "--json",
        str(kept),
        "--out",
        str(tmp_path / "p.md"),
    ]
    accuracy.main(arguments)
    first = json.loads(kept.read_text("utf-8"))
    assert {row["benchmark"] for row in first} == {"IHDP", "ACIC 2016"}
    first[0]["pehe"] = 123.456
    kept.write_text(json.dumps(first), encoding="utf-8")
    accuracy.main(arguments)
    assert "123.456" in capsys.readouterr().out.rpartition("# Accuracy")[2]
    assert "123.456" in (tmp_path / "p.md").read_text("utf-8")
