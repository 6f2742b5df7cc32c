"""The page of the capacity plan is what its figures say, and the arithmetic is right."""

import json
from dataclasses import replace

import pytest

from dagster_deploy.production.capacity.__main__ import FIGURES, PAGE, main
from dagster_deploy.production.capacity.measure import difference
from dagster_deploy.production.capacity.page import render, short
from dagster_deploy.production.capacity.plan import Assumptions, Demand, Measured, Run, plan

RUN = Run(cpu_s=30, peak_mb=500, event_rows=1000, database_rows=1500, database_bytes=2e6, transactions=900,
          statements=800, reads=4000, writes=1000, bytes_sent=1e7, bytes_received=1e8, log_bytes=1e5)  # fmt: skip
ROLL = replace(RUN, cpu_s=3, transactions=100, reads=10, writes=10, database_bytes=0, bytes_sent=0, database_rows=20)
MEASURED = Measured({1_000: RUN, 100_000: replace(RUN, cpu_s=3000, peak_mb=2000)}, ROLL, per_domain_s=0.01,
                    per_domain_reads=2, idle_transactions=5, tick_s_per_partition=0.001)  # fmt: skip


def test_the_page_is_what_its_figures_say():
    figures = json.loads(FIGURES.read_text("utf-8"))
    assert PAGE.read_text("utf-8") == render(figures), "python -m dagster_deploy.production.capacity page"
    assert {row["rows"] for row in figures["runs"]} == {1_000, 10_000, 100_000}
    assert not any(row["failed"] for row in figures["runs"])


def test_figures_between_measured_sizes_follow_a_power_law_and_go_on_beyond():
    assert MEASURED.analysis(10_000).cpu_s == pytest.approx(300)
    assert MEASURED.analysis(100_000).cpu_s == pytest.approx(3000)
    assert MEASURED.analysis(1_000_000).cpu_s == pytest.approx(30_000)
    assert MEASURED.analysis(10).cpu_s == 30
    assert MEASURED.analysis(10_000).reads == pytest.approx(4000)


def test_the_arithmetic():
    given = Assumptions(vcpu_hour=0.05, memory_gb_hour=0.01, database_gb_month=0.2, object_gb_month=0.03, pod_vcpus=1,
                        pod_memory_gb=2, start_seconds=8, reads_per_1000=0.001, writes_per_1000=0.01,
                        retention_days=15)  # fmt: skip
    found = plan(MEASURED, Demand(8_640, 1_000, peak=2, domains=100), given)
    assert found.seconds_per_partition == pytest.approx(30 + 3 + 100 * 0.01 + 2 * 8)
    assert found.partitions_per_pod_hour == pytest.approx(3600 / 50)
    assert found.pods == pytest.approx(8_640 * 50 / 86_400)
    assert found.pods_at_peak == pytest.approx(10)
    assert found.transactions_per_second == pytest.approx(1000 * 0.1 * 2 + 5)
    assert found.database_rows_per_day == pytest.approx(8_640 * 1520)
    assert found.database_gb_kept == pytest.approx(8_640 * 15 * 2e6 / 1e9)
    assert found.requests_per_day == pytest.approx(8_640 * (4000 + 10 + 200 + 1010))
    assert found.rows_per_month == pytest.approx(8_640 * 30 * 1_000)
    assert found.cost == pytest.approx({
        "pods": 50 / 3600 * (0.05 + 0.02), "requests": 4.210 * 0.001 + 1.010 * 0.01, "database": 0.002 * 0.5 * 0.2,
        "objects for a month": 0.01 * 0.03,
    })  # fmt: skip
    assert found.cost_per_analysis == pytest.approx(sum(found.cost.values()))


def test_what_breaks_first_is_named_first():
    small = plan(MEASURED, Demand(10, 1_000))
    assert all(limit.share < 1 for limit in small.limits)
    large = plan(MEASURED, Demand(10_000, 1_000))
    shares = [limit.share for limit in large.limits]
    assert shares == sorted(shares, reverse=True)
    rolled = next(limit for limit in large.limits if limit.name == "roll-up over all domains")
    assert rolled.used == pytest.approx(3 + 10_000 * 0.01)
    assert rolled.share == pytest.approx(103 / 30)
    roomy = plan(MEASURED, Demand(10_000, 1_000), Assumptions(concurrent_runs=1e9))
    assert next(limit.share for limit in roomy.limits if limit.name == "runs at once") < 0.01


def test_what_a_run_added_is_the_difference_of_two_looks():
    row = {"inserted": 1, "updated": 0, "deleted": 0, "bytes": 8192, "index_bytes": 0}
    before = {"tables": {"runs": row, "kvs": row}, "transactions": 10, "statements": 7}
    after = {"tables": {"runs": {**row, "inserted": 3, "bytes": 16384}, "kvs": row, "snapshots": row},
             "transactions": 14, "statements": 9}  # fmt: skip
    found = difference(before, after)
    assert found == {
        "tables": {"runs": {**row, "inserted": 2}, "snapshots": row}, "transactions": 4, "statements": 2,
    }  # fmt: skip


def test_a_plan_is_printed_and_missing_figures_are_named(tmp_path, capsys):
    demand = ["--partitions-per-day", "10000", "--rows", "3334"]
    assert main(["plan", *demand]) == 0
    assert "1,000,000,000 rows a month" in capsys.readouterr().out
    assert main(["plan", *demand, "--assume", "vcpu_hour=dear"]) == 2
    assert "--assume is 'vcpu_hour=dear'; expected NAME=NUMBER" in capsys.readouterr().err
    assert main(["plan", *demand, "--figures", str(tmp_path / "none.json")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert short(1234.5) == "1,230"
    assert short(0.012345) == "0.0123"
