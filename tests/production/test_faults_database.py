"""Postgres crashes, stays away, fails over, or has the tables of an earlier release: no acknowledged write is lost."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest
import sqlalchemy

from tests.conftest import ROOT
from tests.production.faults import record
from tests.production.installation import Installation, installation
from tests.production.servers import Postgres, postgres
from tests.production.standby import Standby, url_of
from tests.production.test_faults_processes import ROWS, begin, twice

# Before pools had default limits, which Dagster has had since January 2025.
EARLIER_REVISION = "6b7fb194ff9c"


class Writer:
    """Writes numbers one by one as fast as the database acknowledges them, and knows which it did."""

    def __init__(self, url: str) -> None:
        self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
        with self._engine.connect() as session:
            session.exec_driver_sql("create table if not exists written (x bigint)")
        self.acknowledged: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        number = time.time_ns()
        while not self._stopping.is_set():
            try:
                with self._engine.connect() as session:
                    for _ in range(1000):
                        number += 1
                        session.exec_driver_sql("insert into written values (%s)", (number,))
                        self.acknowledged.append(number)
                        if self._stopping.wait(0.02):
                            return
            except sqlalchemy.exc.DBAPIError:
                self._stopping.wait(0.2)

    def lost(self) -> list[str]:
        """Stop writing; return a sentence if acknowledged numbers are not there."""
        self._stopping.set()
        self._thread.join()
        with self._engine.connect() as session:
            there = {row[0] for row in session.exec_driver_sql("select x from written")}
        assert len(self.acknowledged) > 20, "the writer was at work"
        missing = [number for number in self.acknowledged if number not in there]
        return [f"{len(missing)} of {len(self.acknowledged)} acknowledged writes are gone"] if missing else []


@pytest.fixture(scope="module", name="pair")
def primary_and_standby() -> Iterator[tuple[Postgres, Standby]]:
    """A primary and its synchronous standby."""
    with postgres() as primary:
        standby = Standby(primary)
        try:
            yield primary, standby
        finally:
            standby.close()


@pytest.fixture(scope="module", name="plant")
def one_installation(pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose database has two hosts."""
    with installation(tmp_path_factory.mktemp("plant"), url_of(*pair)) as made:
        yield made


def events(plant: Installation, key: str) -> set[int]:
    """Return the numbers of the events of a partition's runs."""
    return {
        record.storage_id
        for run in plant.runs(key)
        for record in plant.instance.get_records_for_run(run.run_id).records
    }


def test_postgres_restarts(pair, plant):
    held, fresh = "policy|2016-01", "policy|2016-02"
    writer = Writer(url_of(*pair))
    begin(plant, held)
    before = events(plant, held)
    begun = time.monotonic()
    pair[0].stop("immediate")
    plant.release(held)
    plant.deliver(fresh, ROWS)
    pair[0].start()
    plant.wait_for_end(held, fresh)
    seconds = time.monotonic() - begun
    lost = plant.lost(held, fresh) + twice(plant, held, fresh) + writer.lost()
    lost += ["events are gone"] if before - events(plant, held) else []
    record("postgres_restart", f"2 runs, {len(writer.acknowledged)} writes", lost, seconds)


@pytest.mark.slow
def test_postgres_stays_away_for_longer_than_any_retry(pair, plant):
    held = "policy|2016-03"
    writer = Writer(url_of(*pair))
    begin(plant, held)
    begun = time.monotonic()
    pair[0].stop("immediate")
    plant.release(held)
    plant.wait(lambda: time.monotonic() - begun > 30, 60)
    pair[0].start()
    plant.wait_for_end(held, seconds=240)
    seconds = time.monotonic() - begun
    record("postgres_away", "1 run, 30 s away", plant.lost(held) + twice(plant, held) + writer.lost(), seconds)


def test_postgres_fails_over(pair, plant):
    held, fresh = "policy|2016-04", "policy|2016-05"
    primary, standby = pair
    writer = Writer(url_of(*pair))
    begin(plant, held)
    before = events(plant, held)
    begun = time.monotonic()
    primary.stop("immediate")
    plant.release(held)
    plant.deliver(fresh, ROWS)
    standby.promote()
    plant.wait_for_end(held, fresh)
    seconds = time.monotonic() - begun
    lost = plant.lost(held, fresh) + twice(plant, held, fresh) + writer.lost()
    lost += ["events are gone"] if before - events(plant, held) else []
    record("postgres_failover", f"2 runs, {len(writer.acknowledged)} writes", lost, seconds)


def test_schema_of_an_earlier_release(postgres, tmp_path):
    made = Installation(tmp_path / "plant", postgres.url)
    try:
        before = _some_history(made.instance)
        _downgrade(postgres.url, EARLIER_REVISION)
        assert not _has_column(postgres)
        made.instance.dispose()
        begun = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "dagster", "instance", "migrate"], cwd=ROOT, env=made.environment,
                              capture_output=True, text=True, check=False)  # fmt: skip
        seconds = time.monotonic() - begun
        assert done.returncode == 0, done.stderr[-2000:]
        assert _has_column(postgres)
        with dg.DagsterInstance.from_config(str(made.dagster_home)) as instance:
            after = _history(instance)
            lost = [
                f"{name}: {before[name]} before, {after[name]} after" for name in before if before[name] != after[name]
            ]
            _some_history(instance)
            assert _history(instance)["runs"] == 2 * before["runs"], "the migrated database takes new runs"
    finally:
        made.close()
    record("schema_migration", f"{before['runs']} runs, {before['events']} events", lost, seconds)


def _some_history(instance: dg.DagsterInstance) -> dict[str, int]:
    @dg.asset
    def kept() -> int:
        return 1

    for _ in range(3):
        assert dg.materialize([kept], instance=instance, resources={"io_manager": dg.mem_io_manager}).success
    return _history(instance)


def _history(instance: dg.DagsterInstance) -> dict[str, int]:
    runs = instance.get_runs()
    return {
        "runs": len(runs),
        "events": sum(len(instance.get_records_for_run(run.run_id).records) for run in runs),
        "materialisations": len(instance.fetch_materializations(dg.AssetKey("kept"), limit=100).records),
    }


def _downgrade(url: str, revision: str) -> None:
    from alembic.command import downgrade
    from dagster_postgres.run_storage import run_storage
    from dagster_postgres.utils import pg_alembic_config

    config = pg_alembic_config(run_storage.__file__)
    with sqlalchemy.create_engine(url).connect() as connection:
        config.attributes["connection"] = connection
        downgrade(config, revision)
        connection.commit()


def _has_column(server: Postgres) -> bool:
    return bool(server.sql("select 1 from information_schema.columns where column_name = 'using_default_limit'"))
