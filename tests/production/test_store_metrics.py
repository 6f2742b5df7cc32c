"""Totals from the store of runs: counted once, the same from every process, also after a restart and after deletion."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import DagsterRun
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dagster_deploy.observability.collectors import StoreCollector, memory
from dagster_deploy.observability.identity import is_traced, run_in, trace_id
from dagster_deploy.observability.settings import Observing, SettingError
from dagster_deploy.observability.store import StoreReader
from dagster_deploy.observability.totals import EndedRun, Totals
from tests.production.servers import Postgres

PARTITION = "policy|2025-01"


@dg.asset(
    key=["estimates", "iv"],
    check_specs=[dg.AssetCheckSpec("first_stage_f", asset=dg.AssetKey(["estimates", "iv"]))],
)
def refused() -> dg.MaterializeResult:
    weak = dg.AssetCheckResult(
        passed=False,
        check_name="first_stage_f",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"status": "fail"},
    )
    return dg.MaterializeResult(metadata={"status": "refused", "code": "missing_role"}, check_results=[weak])


@dg.asset(key=["estimates", "ols"])
def estimated() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"status": "estimated", "seconds": 0.3})


@dg.asset(key=["decisions", "decision_card"], deps=[refused, estimated])
def card() -> None:
    """Stand in for the card."""


def analyse(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> str:
    job = dg.Definitions(
        assets=[refused, estimated, card],
        jobs=[dg.define_asset_job("analyse_partition", executor_def=dg.in_process_executor)],
    ).resolve_job_def("analyse_partition")
    done = job.execute_in_process(instance=instance, tags={"dagster/partition": PARTITION, **(tags or {})})
    return done.run_id


def add(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, key: str = PARTITION) -> str:
    """Put a run into the store that has no events."""
    place = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("127.0.0.1", port=1, location_name="none"), "none")
    run = DagsterRun(
        "analyse_partition",
        str(uuid.uuid4()),
        status=status,
        tags={"dagster/partition": key},
        remote_job_origin=RemoteJobOrigin(place, "analyse_partition"),
    )
    instance.run_storage.add_run(run)
    return run.run_id


@pytest.fixture(params=["sqlite", "postgres"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    lines = "telemetry: {enabled: false}\n"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        server.sql("drop schema public cascade; create schema public")
        lines += f"storage: {{postgres: {{postgres_url: '{server.url}'}}}}\n"
    (tmp_path / "dagster.yaml").write_text(lines, "utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        yield found


def values(reader: StoreReader, late: float = 7200) -> dict[tuple[str, ...], float]:
    """Every sample as (name, label values...) -> value."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(reader, late))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def counters(found: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in found.items() if key[0].endswith(("_total", "_bucket", "_sum", "_count"))}


def reader_of(instance: dg.DagsterInstance, **options: float) -> StoreReader:
    return StoreReader(instance, **{"fresh_seconds": 0, "budget_seconds": float("inf"), **options})


def test_a_run_is_told(instance):
    reader = reader_of(instance)
    before = values(reader)
    assert before["cqox_runs_total", "analyse_partition", "success"] == 0
    assert before["cqox_estimates_total", "iv", "failed"] == 0
    analyse(instance)
    found = values(reader)
    assert found["cqox_runs_total", "analyse_partition", "success"] == 1
    assert found["cqox_estimates_total", "iv", "refused"] == 1
    assert found["cqox_estimates_total", "ols", "estimated"] == 1
    assert found["cqox_refusals_total", "missing_role"] == 1
    assert found["cqox_gates_total", "first_stage_f", "fail"] == 1
    assert found["cqox_steps_total", "estimates", "success"] == 2
    assert found["cqox_estimator_seconds_count", "ols"] == 1
    assert found["cqox_estimator_seconds_bucket", "ols", "0.1"] == 0
    assert found["cqox_estimator_seconds_bucket", "ols", "0.5"] == 1
    assert found["cqox_run_seconds_count", "analyse_partition"] == 1
    assert found["cqox_partitions", "policy", "fresh"] == 1
    assert time.time() - found["cqox_domain_last_success_timestamp_seconds", "policy"] < 600
    assert found["cqox_store_up",] == 1


@pytest.mark.parametrize("runs", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_scrape_reads_each_run_once(instance, monkeypatch, runs):
    """What ended before is read in one go; after that a scrape reads no events at all, but those of new runs."""
    for _ in range(runs):
        add(instance, dg.DagsterRunStatus.SUCCESS)
    read: list[str] = []
    all_logs = type(instance).all_logs
    monkeypatch.setattr(
        type(instance), "all_logs", lambda self, run_id, **rest: read.append(run_id) or all_logs(self, run_id, **rest)
    )
    reader = reader_of(instance)
    assert values(reader)["cqox_runs_total", "analyse_partition", "success"] == runs
    assert len(read) == len(set(read)) == runs
    values(reader)
    assert len(read) == runs
    newest = analyse(instance)
    assert values(reader)["cqox_runs_total", "analyse_partition", "success"] == runs + 1
    assert read[runs:] == [newest]


def test_processes_agree_and_a_new_one_goes_on(instance, monkeypatch):
    mine, other = reader_of(instance), reader_of(instance)
    analyse(instance)
    assert counters(values(mine)) == counters(values(other))
    first = analyse(instance)
    monkeypatch.setattr("dagster_deploy.observability.store._SAVE_SECONDS", 0)
    told = counters(values(mine))
    assert told["cqox_runs_total", "analyse_partition", "success"] == 2
    assert counters(values(other)) == told
    instance.delete_run(first)  # retention takes nothing away from what was counted
    assert counters(values(reader_of(instance))) == told


def test_a_process_that_is_behind_overwrites_nothing(instance, monkeypatch):
    monkeypatch.setattr("dagster_deploy.observability.store._SAVE_SECONDS", 0)
    ahead, behind = reader_of(instance), reader_of(instance, budget_seconds=0)
    for _ in range(4):
        add(instance, dg.DagsterRunStatus.SUCCESS)
    values(ahead)
    behind._loaded = True  # as one that started before anything was stored
    values(behind)
    assert values(reader_of(instance))["cqox_runs_total", "analyse_partition", "success"] == 4


def test_a_backlog_is_read_in_pieces_and_told_when_it_is_done(instance):
    for _ in range(3):
        add(instance, dg.DagsterRunStatus.SUCCESS)
    reader = reader_of(instance, budget_seconds=0)
    seen = [values(reader) for _ in range(3)]
    assert [found["cqox_store_unread_runs",] for found in seen] == [2, 1, 0]
    key = ("cqox_runs_total", "analyse_partition", "success")
    assert [found.get(key) for found in seen] == [None, None, 3]


def test_only_the_newest_of_a_long_history_are_read(instance, monkeypatch):
    monkeypatch.setattr("dagster_deploy.observability.store._HISTORY", 2)
    for _ in range(5):
        add(instance, dg.DagsterRunStatus.FAILURE)
    read: list[str] = []
    monkeypatch.setattr(type(instance), "all_logs", lambda _, run_id, **__: read.append(run_id) or [])
    assert values(reader_of(instance))["cqox_runs_total", "analyse_partition", "failure"] == 5
    assert len(read) == 2


def test_the_queue_and_what_it_becomes(instance):
    reader = reader_of(instance)
    waiting = add(instance, dg.DagsterRunStatus.QUEUED)
    for _ in range(2):
        add(instance, dg.DagsterRunStatus.STARTED, "finance|2025-01")
    found = values(reader)
    assert found["cqox_queue_length",] == 1
    assert found["cqox_queue_oldest_seconds",] >= 0
    assert found["cqox_runs_in_progress", "analyse_partition", "started"] == 2
    assert found["cqox_partitions", "policy", "waiting"] == 1
    assert values(reader, late=1e-9)["cqox_partitions", "policy", "late"] == 1
    instance.report_run_canceled(instance.get_run_by_id(waiting))
    found = values(reader)
    assert found["cqox_queue_length",] == 0
    assert found["cqox_runs_total", "analyse_partition", "canceled"] == 1
    assert found["cqox_partitions", "policy", "waiting"] == 1, "nobody has answered yet"
    analyse(instance)
    assert values(reader)["cqox_partitions", "policy", "fresh"] == 1


def test_a_run_that_ends_long_after_others_is_counted(instance, monkeypatch):
    monkeypatch.setattr("dagster_deploy.observability.store._OVERLAP", 1)
    reader = reader_of(instance)
    slow = add(instance, dg.DagsterRunStatus.STARTED)
    values(reader)
    for _ in range(5):
        add(instance, dg.DagsterRunStatus.SUCCESS)
    values(reader)
    instance.report_run_failed(instance.get_run_by_id(slow))
    found = values(reader)
    assert found["cqox_runs_total", "analyse_partition", "failure"] == 1
    assert found["cqox_runs_total", "analyse_partition", "success"] == 5


def test_a_store_that_is_away_is_told(instance, monkeypatch):
    reader = reader_of(instance)
    analyse(instance)
    values(reader)

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(type(instance.run_storage), "connect", away)
    found = values(reader)
    assert found["cqox_store_up",] == 0
    assert found["cqox_runs_total", "analyse_partition", "success"] == 1, "counters stay, or they would seem to restart"
    assert not any(key[0] == "cqox_queue_length" for key in found)


def test_a_failed_analysis_leaves_its_partition_without_an_answer():
    totals = Totals.fresh()
    totals.count_run(EndedRun(1, "a", "analyse_partition", "FAILURE", PARTITION, 100.0, 101.0, 110.0), [])
    assert totals.partitions(200.0, 50.0)["policy", "late"] == 1
    assert totals.partitions(120.0, 50.0)["policy", "waiting"] == 1
    made = SimpleNamespace(
        event_type_value="ASSET_MATERIALIZATION", asset_key=dg.AssetKey(["decisions", "decision_card"])
    )
    good = EndedRun(2, "b", "analyse_partition", "SUCCESS", PARTITION, 150.0, 151.0, 160.0)
    totals.count_run(good, [SimpleNamespace(dagster_event=made)])
    assert totals.partitions(1e9, 50.0)["policy", "fresh"] == 1
    again = Totals.from_json(totals.to_json())
    assert again == totals


def test_memory_is_that_of_the_container(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300\n")
    assert memory(tmp_path) == (600.0, 1000.0)
    (tmp_path / "memory.max").write_text("max\n")
    used, limit = memory(tmp_path)
    assert 0 < used < limit


def test_the_trace_is_the_run():
    run = "4e2ee297-2184-40eb-9125-37f9f225323c"
    assert trace_id(run) == run.replace("-", "")
    assert run_in(f"Completed launch of run {run} for inbox_sensor") == run
    assert run_in("nothing of a run") is None
    ids = [str(uuid.uuid4()) for _ in range(4000)]
    share = sum(is_traced(one, 0.25) for one in ids) / len(ids)
    assert 0.2 < share < 0.3
    assert not any(is_traced(one, 0) for one in ids)
    assert all(is_traced(one, 1) for one in ids)


def test_wrong_settings_are_all_named():
    wrong = {
        "CQOX_LOG_FORMAT": "xml", "CQOX_TRACE_RATIO": "2", "CQOX_METRICS_PORT": "no", "CQOX_LATE_SECONDS": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318",
    }  # fmt: skip
    with pytest.raises(SettingError) as caught:
        Observing.from_env(wrong)
    for name, found in wrong.items():
        assert f"{name}: found '{found}'; expected" in str(caught.value)
    off = Observing.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"})
    assert off.endpoint is None
