"""The warehouse as SQL tables: DuckDB over a folder and over an object store, and Postgres, say what the cards say."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from cqox_assets.errors import StorageError
from cqox_resources import store
from dagster_deploy.warehouse.__main__ import describe, main
from dagster_deploy.warehouse.duck import Tables
from dagster_deploy.warehouse.postgres import Publisher
from dagster_deploy.warehouse.schema import migrate
from dagster_deploy.warehouse.star import TABLES
from dagster_deploy.warehouse.stored import Warehouse
from tests.conftest import DATA, ROOT
from tests.graph.helpers import card, deliver, errors, run
from tests.production.servers import Postgres, wait_for

DOMAIN, FIRST, SECOND = "healthcare", "2025-01", "2025-02"
# What a card needs, and little more: the whole graph would say the same of storage.
CHOSEN = [
    "ingestion/raw_table", "mapping/column_profile", "mapping/domain_match", "mapping/column_roles", "mapping/study",
    "gates/data_diagnostics", "gates/gated_study", "discovery/method_plan", "estimates/difference_in_means",
    "estimates/ols", "estimates/iv", "estimates/difference_in_differences", "sensitivity/e_value",
    "synthesis/effect_summary", "synthesis/design_gates", "synthesis/guardrail_effects", "decisions/decision_card",
]  # fmt: skip


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which two periods of one domain were analysed and rolled up."""
    home = tmp_path_factory.mktemp("warehouse") / "home"
    (home / "domains").mkdir(parents=True)
    for profile in (DATA / "domains").glob("*.yaml"):
        shutil.copy(profile, home / "domains")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CQOX_HOME", str(home))
        for period in (FIRST, SECOND):
            deliver(home, f"{DOMAIN}|{period}")
            result = run(f"{DOMAIN}|{period}", selection=CHOSEN)
            assert result.success, errors(result)
        assert rolled_up().success
        yield home


def rolled_up() -> Any:
    """Roll the domain up: its history and the tables of BI tools."""
    import dagster as dg

    from dagster_deploy.definitions import defs

    return defs.resolve_job_def("roll_up").execute_in_process(
        partition_key=DOMAIN,
        instance=dg.DagsterInstance.ephemeral(),
        asset_selection=[dg.AssetKey(["ledger", name]) for name in ("effect_history", "bi_tables")],
    )


@pytest.fixture
def warehouse(analysed: Path, tmp_path: Path) -> UPath:
    """A copy of the warehouse that a test may change."""
    shutil.copytree(analysed / "warehouse", tmp_path / "warehouse")
    return UPath(tmp_path / "warehouse")


@pytest.fixture
def database(postgres: Postgres) -> Postgres:
    """The server without what an earlier test published."""
    postgres.sql("drop schema if exists cqox cascade")
    return postgres


def publish(database: Postgres, warehouse: UPath, **options: Any) -> Any:
    with Publisher(database.url) as publisher:
        return publisher.publish(Warehouse(warehouse), DOMAIN, **options)


def with_card(warehouse: UPath, period: str, change: Any) -> None:
    """Store a changed card, as a run would."""
    folder = warehouse / "decisions" / "decision_card" / DOMAIN / period
    found = Warehouse(warehouse).card(DOMAIN, FIRST)
    assert found is not None
    content = json.loads(json.dumps({**found, "partition": f"{DOMAIN}|{period}"}))
    content.pop("_document")
    change(content)
    store.save(folder, store.Parts("document", content, {}, {"fingerprint": content["study"]["fingerprint"]}))


def versions(database: Postgres) -> list[tuple[object, ...]]:
    """Every row with the transaction that wrote it."""
    text = " union all ".join(
        f"select '{table.name}', xmin::text, ctid::text, md5(t::text) from cqox.{table.name} t" for table in TABLES
    )
    return sorted(database.sql(text), key=str)


def test_tables_say_what_the_cards_say(database, analysed):
    publish(database, UPath(analysed / "warehouse"))
    for period in (FIRST, SECOND):
        found, where = card(analysed, f"{DOMAIN}|{period}"), f"where domain = '{DOMAIN}' and period = '{period}'"
        expected = sorted(
            (
                row["estimator"], effect["estimand"], effect["contrast"], effect["scale"],
                json.dumps(effect["at"], sort_keys=True) if effect["at"] else "", effect["estimate"],
                effect["std_error"], *((effect["interval"] or {}).get(name) for name in ("low", "high", "level")),
                effect["p_value"], effect["null"],
            )
            for row in found["estimates"] for effect in row["effects"]
        )  # fmt: skip
        assert len(expected) >= 3
        assert expected == sorted(database.sql(
            "select estimator, estimand, contrast, scale, place, estimate, std_error, low, high, level, p_value, "
            f"null_value from cqox.estimates {where}"
        ))  # fmt: skip
        gates = {(row["name"], row["status"], row["value"], row["threshold"]) for row in found["gates"]}
        assert gates == set(database.sql(f"select gate, status, value, threshold from cqox.gates {where}"))
        refused = {(row["estimator"], row["code"], row["remedy"]) for row in found["refusals"]}
        assert refused
        assert refused == set(database.sql(f"select estimator, code, remedy from cqox.refusals {where}"))
        answers = {(row["key"], row["status"], row.get("value")) for row in found["sensitivity"]}
        assert answers == set(database.sql(f"select answer, status, value from cqox.sensitivity {where}"))
        whole = database.sql(f"select verdict, confidence from cqox.verdicts {where} and contrast = ''")
        assert whole == [(found["verdict"], found["confidence_level"])]
        reasons = database.sql(f"select sentence from cqox.reasons {where} order by position")
        assert [row[0] for row in reasons] == [row["sentence"] for row in found["reasons"]]
        study = database.sql(f"select question, row_count, fingerprint, outcome, run_id from cqox.studies {where}")
        assert study == [
            (found["question"], found["study"]["rows"], found["study"]["fingerprint"],
             found["study"]["roles"]["outcome"][0], found["provenance"]["run_id"])
        ]  # fmt: skip
        assets = dict(database.sql(f"select stage || '/' || asset, is_current from cqox.assets {where}"))
        assert set(assets) == set(CHOSEN)
        assert assets["ingestion/raw_table"] is None
        assert assets["estimates/ols"] is True
    history = database.sql("select period, estimate from cqox.effect_history where estimator = 'ols' order by 1")
    assert history == database.sql("select period, estimate from cqox.estimates where estimator = 'ols' order by 1")


def test_every_table_and_column_says_what_it_means(database, analysed):
    publish(database, UPath(analysed / "warehouse"))
    silent = database.sql(
        "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 "
        "where c.relnamespace = 'cqox'::regnamespace and c.relkind = 'r' and c.relname <> 'schema_version' "
        "and (col_description(c.oid, a.attnum) is null or obj_description(c.oid) is null)"
    )
    assert silent == []
    page = (ROOT / "docs" / "warehouse.md").read_text("utf-8")
    assert describe().strip() in page, "docs/warehouse.md is out of date: python -m dagster_deploy.warehouse describe"


def test_publishing_again_changes_nothing(database, analysed):
    place = UPath(analysed / "warehouse")
    first = publish(database, place)
    assert first.periods == [FIRST, SECOND]
    before = versions(database)
    again = publish(database, place)
    assert (again.periods, again.unchanged) == ([], [FIRST, SECOND])
    everything = publish(database, place, everything=True)
    assert (everything.inserted, everything.updated, everything.removed) == (0, 0, 0)
    assert versions(database) == before


def test_a_new_period_adds_and_a_changed_one_replaces_its_own_rows_only(database, warehouse):
    publish(database, warehouse)
    kept = "select xmin::text, md5(t::text) from cqox.estimates t where period = '2025-01'"
    before, count = database.sql(kept), len(database.sql("select 1 from cqox.estimates"))
    with_card(warehouse, "2025-03", lambda _: None)
    done = publish(database, warehouse)
    assert (done.periods, done.unchanged) == (["2025-03"], [FIRST, SECOND])
    assert database.sql(kept) == before
    assert len(database.sql("select 1 from cqox.estimates")) == count + len(before)

    def _drop_and_change(content: dict[str, Any]) -> None:
        content["estimates"] = [row for row in content["estimates"] if row["estimator"] != "ols"]
        content["estimates"][0]["effects"][0]["estimate"] += 1

    with_card(warehouse, "2025-03", _drop_and_change)
    done = publish(database, warehouse)
    assert done.removed >= 1
    assert database.sql("select 1 from cqox.estimates where period = '2025-03' and estimator = 'ols'") == []
    assert database.sql(kept) == before


def test_an_infinite_end_is_null_and_named(database, warehouse):
    def _unbound(content: dict[str, Any]) -> None:
        ends = [{"low": None, "high": 2.0, "level": 0.95, "unbounded": "low"},
                {"low": None, "high": None, "level": 0.9, "unbounded": "both", "region": [[None, -1.0], [3.0, None]]},
                None]  # fmt: skip
        for row, interval in zip(content["estimates"], ends, strict=False):
            row["effects"] = [{**row["effects"][0], "interval": interval, "p_value": None}]

    with_card(warehouse, "2025-03", _unbound)
    publish(database, warehouse)
    query = "select low, high, level, unbounded, region from cqox.estimates where period = '2025-03' and headline"
    found = database.sql(f"{query} order by level nulls last")
    assert found == [(None, None, 0.9, "both", [[None, -1.0], [3.0, None]]), (None, 2.0, 0.95, "low", None),
                     (None, None, None, None, None)]  # fmt: skip


def test_a_publisher_that_is_killed_leaves_the_old_rows(database, warehouse):
    publish(database, warehouse)
    before = versions(database)
    with_card(warehouse, FIRST, lambda content: content["estimates"].pop())
    with_card(warehouse, "2025-03", lambda _: None)
    import psycopg2

    holder = psycopg2.connect(database.url.replace("+psycopg2", ""))
    holder.cursor().execute("lock table cqox.verdicts in access exclusive mode")
    command = [sys.executable, "-m", "dagster_deploy.warehouse", "publish"]
    environment = {**os.environ, "CQOX_WAREHOUSE": str(warehouse), "CQOX_BI_POSTGRES_URL": database.url,
                   "PYTHONPATH": str(ROOT)}  # fmt: skip
    publisher = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    waiting = "select 1 from pg_stat_activity where application_name = 'cqox-publish' and wait_event_type = 'Lock'"
    wait_for(lambda: bool(database.sql(waiting)), 120)
    publisher.send_signal(signal.SIGKILL)
    publisher.wait()
    holder.close()
    gone = "select 1 from pg_stat_activity where application_name = 'cqox-publish'"
    wait_for(lambda: not database.sql(gone), 60)
    assert versions(database) == before
    assert publish(database, warehouse).periods == [FIRST, "2025-03"]


def test_a_roll_up_publishes_where_the_setting_names_a_database(database, analysed, monkeypatch):
    result = rolled_up()
    events = {event.asset_key.path[-1]: event for event in result.get_asset_materialization_events()}
    said = events["bi_tables"].materialization.metadata["said"].value
    assert said == "not published: CQOX_BI_POSTGRES_URL is not set"
    monkeypatch.setenv("CQOX_BI_POSTGRES_URL", database.url)
    assert rolled_up().success
    assert database.sql("select period from cqox.studies order by 1") == [(FIRST,), (SECOND,)]
    assert database.sql("select 1 from cqox.effect_history")


def test_an_older_schema_is_brought_up_and_filled_and_a_newer_one_is_left_alone(
    database, analysed, capsys, monkeypatch
):
    place = UPath(analysed / "warehouse")
    publish(database, place)
    gates = database.sql("select count(*) from cqox.gates")[0][0]
    database.sql("alter table cqox.studies drop column currency; alter table cqox.gates drop constraint gates_pkey; "
                 "alter table cqox.gates add primary key (domain, period, gate, status); "
                 "update cqox.schema_version set version = 0")  # fmt: skip
    with Publisher(database.url) as publisher:
        assert publisher.migrated == ['added cqox."studies".currency',
                                      'made cqox."gates" anew: its key or a type changed']  # fmt: skip
        assert publisher.publish(Warehouse(place), DOMAIN).periods == [FIRST, SECOND]
    query = "select currency, (select count(*) from cqox.gates) from cqox.studies limit 1"
    assert database.sql(query) == [("EUR", gates)]
    database.sql("update cqox.schema_version set version = 99")
    monkeypatch.setenv("CQOX_HOME", str(analysed))
    assert main(["publish", "--postgres", database.url]) == 2
    assert "version 99" in capsys.readouterr().err


def test_two_publishers_at_once_make_one_schema(database):
    import psycopg2

    connections = [psycopg2.connect(database.url.replace("+psycopg2", "")) for _ in range(2)]
    migrate(connections[0].cursor())
    second = connections[1].cursor()
    second.execute("set lock_timeout = '200ms'")
    with pytest.raises(psycopg2.errors.LockNotAvailable):  # it waits for the first instead of creating as well
        migrate(second)
    connections[0].commit()
    connections[1].rollback()
    assert migrate(connections[1].cursor()) == []
    for connection in connections:
        connection.close()


def test_without_timescale_the_history_is_a_plain_table_and_says_so(database):
    with Publisher(database.url) as publisher:
        assert publisher.timescale == (
            "cqox.effect_history is a plain table: the extension timescaledb is not on this server"
        )
    with pytest.raises(StorageError, match="cannot be a hypertable: the extension timescaledb is not on this server"):
        Publisher(database.url, "require")


def test_with_timescale_the_history_becomes_a_hypertable_once(database):
    """The extension itself is not at hand: a stand-in with its catalogue and its function takes the real statements."""
    database.program("createdb", "-h", "127.0.0.1", "-p", str(database.port), "-U", database.user, "stand_in")
    url = database.url.rpartition("/")[0] + "/stand_in"
    import psycopg2

    def ask(text: str) -> list[tuple[object, ...]]:
        connection = psycopg2.connect(url.replace("+psycopg2", ""))
        with connection, connection.cursor() as cursor:
            cursor.execute(text)
            rows = list(cursor.fetchall()) if cursor.description else []
        connection.close()
        return rows

    ask("""
        set allow_system_table_mods = on;
        insert into pg_extension select 99999, 'timescaledb', 10, 'public'::regnamespace, false, '2.17.0', null, null;
        create schema timescaledb_information;
        create table timescaledb_information.hypertables (hypertable_schema name, hypertable_name name);
        create function create_hypertable(relation regclass, time_column_name name, chunk_time_interval interval,
                                          migrate_data boolean) returns void language sql as
        $$ insert into timescaledb_information.hypertables
           select relnamespace::regnamespace::text, relname from pg_class where oid = relation $$;
    """)
    for _ in range(2):
        with Publisher(url, "require") as publisher:
            assert publisher.timescale == "cqox.effect_history is a hypertable by period_start, a chunk per year"
    assert ask("select * from timescaledb_information.hypertables") == [("cqox", "effect_history")]
    unique = ask("select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'cqox.effect_history'::regclass")
    assert all("period_start" in str(row[0]) for row in unique), "every unique index of a hypertable holds its time"


def test_duckdb_and_postgres_hold_the_same_rows(database, analysed):
    publish(database, UPath(analysed / "warehouse"))
    with Tables(Warehouse(UPath(analysed / "warehouse"))) as tables:
        for table in TABLES:
            plain = [column for column in table.columns if column.type not in ("jsonb", "timestamptz")]
            columns = ", ".join(column.name for column in plain)
            mine = sorted(tables.query(f"select {columns} from {table.name}"), key=str)
            assert mine == sorted(database.sql(f"select {columns} from cqox.{table.name}"), key=str), table.name


def test_a_folder_and_an_object_store_give_the_same_rows(analysed, object_store, monkeypatch):
    import s3fs

    for name, value in object_store.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().put(str(analysed / "warehouse"), "cqox/warehouse", recursive=True)
    local, remote = UPath(analysed / "warehouse"), UPath("s3://cqox/warehouse")
    with Tables(Warehouse(local)) as here, Tables(Warehouse(remote)) as there:
        views = [name for name, _ in here.views()]
        assert views == [name for name, _ in there.views()]
        assert {'raw."healthcare"', 'study."healthcare"', 'estimates."balance"', "estimates"} <= set(views)
        for name in views:
            mine = sorted(here.query(f"select * from {name}"), key=str)
            assert mine == sorted(there.query(f"select * from {name}"), key=str), name
            if name in ("studies", "estimates", "effect_history", 'raw."healthcare"', 'estimates."balance"'):
                assert mine, name
    s3fs.S3FileSystem.clear_instance_cache()


def test_views_show_what_the_current_manifests_name(warehouse):
    import pandas as pd

    folder = warehouse / "estimates" / "ols" / DOMAIN / FIRST
    held = store.manifest(folder)
    assert held is not None
    document = json.loads((folder / held["document"]).read_bytes())
    frames = {"coefficients": pd.DataFrame({"term": ["a"], "estimate": [7.0]})}
    store.save(folder, store.Parts("outcome", document, frames, held["facts"]))
    stale = store.save(folder.parent / SECOND, store.Parts("outcome", document, frames, {"fingerprint": "older"}))
    assert stale["previous"], "the parts of the earlier result are still in the folder"
    with Tables(Warehouse(warehouse)) as tables:
        rows = tables.query("select cqox_period, term, estimate from estimates.coefficients where cqox_asset = 'ols'")
        assert rows == [(FIRST, "a", 7.0)]
        told = tables.query("select period, is_current from assets where asset = 'ols' order by 1")
        assert told == [(FIRST, True), (SECOND, False)]


def test_one_statement_and_a_shell(analysed, monkeypatch, capsys):
    import io

    monkeypatch.setenv("CQOX_HOME", str(analysed))
    question = "select period, verdict from verdicts where contrast = '' order by 1"
    assert main(["sql", question, "--format", "json", "--period", "2025-02"]) == 0
    assert [row["period"] for row in json.loads(capsys.readouterr().out)] == [SECOND]
    assert main(["sql", "select count(*) as n from raw.healthcare", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "n"
    typed = (
        "select count(*) as n\nfrom estimates;\nselect * from nothing;\ncreate table t as select 1 x;\nfrom t;\nexit\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["shell"]) == 0
    said = capsys.readouterr()
    assert "int64" in said.out
    assert "nothing does not exist" in said.err
    assert main(["tables"]) == 0
    assert "effect_history" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("environment", "arguments", "words"),
    [
        ({"CQOX_BI_POSTGRES_URL": ""}, ["publish"], ["CQOX_BI_POSTGRES_URL is not set", "postgresql://"]),
        ({"CQOX_BI_POSTGRES_URL": "mysql://me:secret@host/bi"}, ["publish"], ["'mysql://host/bi'", "postgresql://user"]),
        ({"CQOX_BI_POSTGRES_URL": "postgresql://me:secret@host:port/bi"}, ["publish"], ["expected postgresql://"]),
        ({"CQOX_BI_POSTGRES_URL": "postgresql://me:secret@127.0.0.1:1/bi"}, ["publish"], ["127.0.0.1:1/bi", "refused"]),
        ({"CQOX_WAREHOUSE": "/nowhere/at/all"}, ["sql", "select 1"], ["CQOX_WAREHOUSE is '/nowhere/at/all'"]),
        ({}, ["sql", "selekt 1"], ["syntax error"]),
        ({}, ["sql", "select * from nothing"], ["nothing does not exist"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_once_and_ends_with_2(analysed, monkeypatch, capsys, environment, arguments, words):
    monkeypatch.setenv("CQOX_HOME", str(analysed))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert all(word in said.err for word in words), said.err
    assert "secret" not in said.err
    assert "Traceback" not in said.err


def test_a_file_system_that_nobody_knows_is_named(analysed):
    environment = {**os.environ, "CQOX_HOME": str(analysed), "CQOX_WAREHOUSE": "nosuch://x/y", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "dagster_deploy.warehouse", "tables"], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nosuch" in done.stderr
    assert "fsspec URL" in done.stderr
