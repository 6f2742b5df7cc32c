"""What is too old goes, what is history stays, and what was replaced in the object store can be had again."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from upath import UPath

from dagster_deploy.production import objects
from dagster_deploy.production.retention import purge_captured_output, purge_log_lines, purge_notebooks
from tests.production.manifests import PRODUCTION
from tests.production.servers import Postgres

_AGED = "update event_logs set timestamp = timestamp - interval '{} days' where run_id = '{}'"


@dg.asset
def talkative(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    for number in range(5):
        context.log.info("line %d", number)
    return dg.MaterializeResult(metadata={"rows": 7})


@pytest.fixture(scope="module")
def instance(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> dg.DagsterInstance:
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{postgres.url}'}}}}\n")
    return dg.DagsterInstance.from_config(str(home))


def lines(instance: dg.DagsterInstance, run: str) -> int:
    return sum(not entry.is_dagster_event for entry in instance.all_logs(run))


def test_log_lines_go_after_thirty_days_and_the_history_stays(instance: dg.DagsterInstance, postgres: Postgres) -> None:
    old, young = (dg.materialize([talkative], instance=instance).run_id for _ in range(2))
    postgres.sql(_AGED.format(31, old))
    postgres.sql(_AGED.format(29, young))
    before, limit = lines(instance, young), datetime.now(UTC) - timedelta(days=30)
    assert lines(instance, old) >= 5
    would = purge_log_lines(postgres.url, limit, dry_run=True)
    assert lines(instance, old) >= 5, "a dry run removes nothing"
    assert purge_log_lines(postgres.url, limit) == would > 5
    assert lines(instance, old) == 0
    assert lines(instance, young) == before >= 5
    types = {entry.dagster_event_type for entry in instance.all_logs(old)}
    kept = dg.DagsterEventType
    assert {kept.RUN_START, kept.STEP_START, kept.STEP_SUCCESS, kept.ASSET_MATERIALIZATION, kept.RUN_SUCCESS} <= types
    assert kept.ENGINE_EVENT not in types
    assert instance.get_run_stats(old).steps_succeeded == 1
    found = instance.fetch_materializations(talkative.key, limit=10).records
    assert {record.run_id for record in found} == {old, young}


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_notebooks_go_after_ninety_days_and_cards_stay(
    place: str, object_store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.items():
        monkeypatch.setenv(name, value)
    root = UPath(tmp_path / "reports") if place == "disk" else UPath("s3://cqox/reports-of-retention")
    for name in ("analysis.ipynb", "decision_card.json"):
        for period in ("2025-01", "2025-02"):
            (root / "policy" / period).mkdir(parents=True, exist_ok=True)
            (root / "policy" / period / name).write_bytes(b"{}")
    now = datetime.now(UTC)
    assert purge_notebooks(root, now - timedelta(days=90)) == 0
    if place == "disk":
        aged = time.time() - 91 * 86400
        for name in ("analysis.ipynb", "decision_card.json"):
            os.utime(str(root / "policy" / "2025-01" / name), (aged, aged))
        moment, expected = now - timedelta(days=90), 1
    else:  # a store dates its objects itself, so the clock is moved instead
        moment, expected = now + timedelta(hours=1), 2
    assert purge_notebooks(root, moment, dry_run=True) == expected
    assert purge_notebooks(root, moment) == expected
    assert not (root / "policy" / "2025-01" / "analysis.ipynb").exists()
    assert len(list(root.glob("*/*/decision_card.json"))) == 2


def test_captured_output_goes_after_thirty_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CQOX_HOME", str(tmp_path))
    inbox = tmp_path / "inbox" / "old.csv"
    for path, days in (
        (tmp_path / "compute_logs" / "a.err", 31),
        (tmp_path / "compute_logs" / "b.err", 1),
        (inbox, 99),
    ):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (time.time() - days * 86400,) * 2)
    assert purge_captured_output(datetime.now(UTC)) == 1
    assert inbox.exists()
    assert [path.name for path in (tmp_path / "compute_logs").iterdir()] == ["b.err"]


def test_the_command_does_all_of_it(instance: dg.DagsterInstance, postgres: Postgres, tmp_path: Path) -> None:
    run = dg.materialize([talkative], instance=instance).run_id
    postgres.sql(_AGED.format(40, run))
    notebook = tmp_path / "reports" / "policy" / "2025-01" / "analysis.ipynb"
    notebook.parent.mkdir(parents=True)
    notebook.touch()
    os.utime(notebook, (time.time() - 100 * 86400,) * 2)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text((PRODUCTION / "compose" / "dagster.yaml").read_text())
    environment = {
        **os.environ, "CQOX_POSTGRES_URL": postgres.url, "CQOX_HOME": str(tmp_path), "DAGSTER_HOME": str(home),
        "CQOX_REPORTS": str(tmp_path / "reports"), "CQOX_WAREHOUSE": str(tmp_path / "warehouse"),
        "CQOX_BACKUPS": str(tmp_path / "backups"),
    }  # fmt: skip
    command = [sys.executable, "-m", "dagster_deploy.production.retention"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 notebooks older than 90 days" in done.stdout
    assert not notebook.exists()
    assert lines(instance, run) == 0
    environment["CQOX_WAREHOUSE"] = ""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "CQOX_WAREHOUSE" in done.stderr


def test_objects_go_back_to_a_moment(object_store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.items():
        monkeypatch.setenv(name, value)
    store = objects.client()
    store.create_bucket(Bucket="versions")
    objects.protect(store, {"versions"})
    rules = store.get_bucket_lifecycle_configuration(Bucket="versions")["Rules"]
    assert rules[0]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30

    def put(key: str, body: bytes) -> datetime:
        store.put_object(Bucket="versions", Key=key, Body=body)
        moment: datetime = store.head_object(Bucket="versions", Key=key)["LastModified"]
        return moment

    def tick(after: datetime) -> None:
        """Wait until the store's clock, which counts seconds, has moved on."""
        while put("other/clock", b"") <= after:
            time.sleep(0.1)

    for key in ("warehouse/changed", "warehouse/removed", "warehouse/same"):
        moment = put(key, b"before")
    tick(moment)
    put("warehouse/changed", b"damaged")
    put("warehouse/added", b"later")
    store.delete_object(Bucket="versions", Key="warehouse/removed")
    put("other/untouched", b"later")
    assert objects.restore(store, "s3://versions/warehouse", moment) == (2, 1)
    names = [found["Key"] for found in store.list_objects_v2(Bucket="versions", Prefix="warehouse/")["Contents"]]
    assert names == ["warehouse/changed", "warehouse/removed", "warehouse/same"]
    assert {store.get_object(Bucket="versions", Key=name)["Body"].read() for name in names} == {b"before"}
    assert store.get_object(Bucket="versions", Key="other/untouched")["Body"].read() == b"later"
    tick(put("other/clock", b""))
    assert objects.restore(store, "s3://versions/warehouse", datetime.now(UTC)) == (0, 0), "nothing more to put back"
