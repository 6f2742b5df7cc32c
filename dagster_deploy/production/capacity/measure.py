"""Measure what runs take of processor, memory, database and object store, on servers that are named.

Every run is a process of its own with Dagster's storage in the named Postgres and all results in the named
object store, as in production. The database is read before and after, so nothing else may use it meanwhile; it must
load `pg_stat_statements` for the number of statements.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster_deploy.measure import KEY, write_study

ROOT = Path(__file__).resolve().parents[3]
_TABLES = """
select relname, n_tup_ins, n_tup_upd, n_tup_del, pg_total_relation_size(relid), pg_indexes_size(relid)
from pg_stat_user_tables where schemaname = 'public'
"""
_STATEMENTS = "select coalesce(sum(calls), 0) from pg_stat_statements where query !~ 'pg_stat|pg_database'"
_TRANSACTIONS = "select xact_commit + xact_rollback from pg_stat_database where datname = %s"
_DAGSTER_YAML = """
telemetry: {{enabled: false}}
storage:
  postgres:
    postgres_url: "{url}"
concurrency:
  runs: {{max_concurrent_runs: 2}}
run_monitoring: {{enabled: true}}
"""


@dataclass(frozen=True)
class Servers:
    """Where to measure.

    Parameters
    ----------
    postgres : str
        URL of an empty database that nothing else uses, `postgresql+psycopg2://...`.
    warehouse : str
        URL of a folder of an object store.
    environment : mapping of str to str
        What processes need to reach them, such as AWS_ENDPOINT_URL.
    """

    postgres: str
    warehouse: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        import psycopg2

        connection = psycopg2.connect(self.postgres.replace("+psycopg2", ""))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()


class Home:
    """A home of its own for one series of runs, deleted afterwards."""

    def __init__(self, servers: Servers) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="cqox-capacity-"))
        (self.path / "dagster").mkdir()
        (self.path / "dagster" / "dagster.yaml").write_text(_DAGSTER_YAML.format(url=servers.postgres), "utf-8")
        place = f"{servers.warehouse.rstrip('/')}/{uuid.uuid4().hex[:8]}"
        self.environment = {
            **os.environ, **servers.environment, "CQOX_HOME": str(self.path),
            "DAGSTER_HOME": str(self.path / "dagster"), "CQOX_WAREHOUSE": f"{place}/warehouse",
            "CQOX_REPORTS": f"{place}/reports", "GX_ANALYTICS_ENABLED": "false", "DAGSTER_DISABLE_TELEMETRY": "yes",
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def __enter__(self) -> "Home":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def work(self, *arguments: str) -> dict[str, Any]:
        """Run the worker and return its figures."""
        command = [sys.executable, "-m", "dagster_deploy.production.capacity.worker", *arguments]
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=said, check=False
            )
            size = said.tell()
            if done.returncode:
                said.seek(max(0, size - 2000))
                raise RuntimeError(f"{' '.join(arguments)} failed: {said.read().decode(errors='replace')}")
        return {**json.loads(done.stdout.splitlines()[-1]), "log_bytes": size}


def look(servers: Servers) -> dict[str, Any]:
    """Return the counters of the database."""
    name = servers.query("select current_database()")[0][0]
    names = ("inserted", "updated", "deleted", "bytes", "index_bytes")
    tables = {str(row[0]): dict(zip(names, map(int, row[1:]), strict=True)) for row in servers.query(_TABLES)}
    return {
        "tables": tables,
        "transactions": int(servers.query(_TRANSACTIONS, name)[0][0]),
        "statements": int(servers.query(_STATEMENTS)[0][0]),
    }


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changed between two looks; tables that did not change are left out."""
    nothing: dict[str, int] = {}
    tables = {
        name: {key: value - before["tables"].get(name, nothing).get(key, 0) for key, value in row.items()}
        for name, row in after["tables"].items()
    }
    return {
        "tables": {name: row for name, row in sorted(tables.items()) if any(row.values())},
        "transactions": after["transactions"] - before["transactions"],
        "statements": after["statements"] - before["statements"],
    }


def measured(servers: Servers, home: Home, job: str, key: str) -> dict[str, Any]:
    """Run one job and return what it took everywhere."""
    before = look(servers)
    found = home.work(job, key)
    time.sleep(1.0)  # a backend reports its last counts when it has gone
    return {"job": job, **found, "database": difference(before, look(servers))}


def prepare(servers: Servers) -> None:
    """Create Dagster's tables and the extension that counts statements."""
    servers.query("create extension if not exists pg_stat_statements")
    with Home(servers) as home:
        code = "from dagster import DagsterInstance as D\nwith D.get() as i: i.get_run_records(limit=1)"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=home.environment, check=True, capture_output=True)


def measure_run(servers: Servers, rows: int, run: int) -> list[dict[str, Any]]:
    """Return an analysis and its roll-up, in a home and a warehouse of their own; `run` is also the study's seed."""
    found = []
    with Home(servers) as home:
        write_study(home.path, rows, seed=run)
        for job, key in (("analyse_partition", KEY), ("roll_up", KEY.partition("|")[0])):
            found.append({"rows": rows, "run": run, **measured(servers, home, job, key)})
            if found[-1]["failed"]:
                raise RuntimeError(f"{job} at {rows} rows failed in {', '.join(found[-1]['failed'])}")
    return found


def measure_idle(servers: Servers, seconds: int) -> dict[str, Any]:
    """Return what the daemon asks of the database while nothing is to be done."""
    with Home(servers) as home:
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "dagster_deploy.definitions"]
        daemon = subprocess.Popen(
            command, cwd=ROOT, env=home.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 300
            while not servers.query("select 1 from job_ticks limit 1") and time.monotonic() < deadline:
                time.sleep(1)
            time.sleep(20)  # the first evaluation of every sensor is over
            before, begun = look(servers), time.monotonic()
            time.sleep(seconds)
            after, passed = look(servers), time.monotonic() - begun
        finally:
            os.killpg(daemon.pid, signal.SIGTERM)
            daemon.wait(60)
    return {"seconds": passed, **difference(before, after)}


def measure_domains(servers: Servers, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return what loading the definitions and one roll-up take with this many domains."""
    found = []
    for count in counts:
        with Home(servers) as home:
            folder = home.path / "domains"
            folder.mkdir()
            for number in range(count):
                (folder / f"unit_{number:05d}.yaml").write_text("extends: healthcare\ntitle: Unit\n", "utf-8")
            row = {"domains": count, **home.work("domains")}
            rolled = home.work("roll_up", "unit_00000")
            found.append({**row, "roll_up_requests": sum(rolled["objects"]["requests"].values()),
                          "roll_up_cpu_s": rolled["cpu_s"]})  # fmt: skip
    return found


def measure_inbox(servers: Servers, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return CPU seconds of a tick of the inbox sensor with this many partitions delivered, a file in each."""
    found = []
    for count in counts:
        with Home(servers) as home:
            (home.path / "domains").mkdir()
            for number in range(count):
                domain = f"unit_{number // 12:05d}"
                (home.path / "domains" / f"{domain}.yaml").write_text("extends: healthcare\ntitle: Unit\n", "utf-8")
                place = home.path / "inbox" / domain / f"2025-{number % 12 + 1:02d}"
                place.mkdir(parents=True)
                (place / "rows.csv").write_text("outcome,treatment\n1,0\n", "utf-8")
            found.append({"partitions": count, **home.work("inbox")})
    return found


def machine(servers: Servers) -> dict[str, Any]:
    """Return what was measured on."""
    import dagster

    return {
        "cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version(),
        "dagster": dagster.__version__, "postgres": servers.query("show server_version")[0][0].split()[0],
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
