"""A backup is what comes back: dumps, and files with the log behind them, of a database with Dagster's tables."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from upath import UPath

from dagster_deploy.production.backup import dumps, log
from dagster_deploy.production.backup.expire import expire
from dagster_deploy.production.backup.keep import is_alive, once
from dagster_deploy.production.backup.places import BackupError, Places
from tests.production.manifests import PRODUCTION
from tests.production.servers import Postgres, wait_for

SCRIPT = PRODUCTION / "kubernetes" / "postgres" / "archive_wal.sh"


@dg.asset
def kept() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 7})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path("/tmp") / f"cqox-archive-{os.getpid()}-{tmp_path_factory.mktemp('a').name}"
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    return folder


@pytest.fixture(scope="module")
def server(archive: Path) -> Iterator[Postgres]:
    script = archive.parent / f"{archive.name}.sh"  # the server's user may not read the repository
    shutil.copy(SCRIPT, script)
    script.chmod(0o755)
    command = f"WAL_ARCHIVE={archive} sh {script} %p %f"
    found = Postgres(
        {"archive_mode": "on", "archive_command": command, "wal_level": "replica", "archive_timeout": "60"}
    )
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(archive, ignore_errors=True)
        script.unlink()


@pytest.fixture(autouse=True)
def _store(object_store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.items():
        monkeypatch.setenv(name, value)


def instance_of(url: str, folder: Path) -> dg.DagsterInstance:
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"storage": {"postgres": {"postgres_url": url}}, "telemetry": {"enabled": False}})
    (folder / "dagster.yaml").write_text(text)
    return dg.DagsterInstance.from_config(str(folder))


def materialize(server: Postgres, folder: Path, times: int) -> list[str]:
    with instance_of(server.url, folder) as instance:
        return [dg.materialize([kept], instance=instance, tags={"n": str(n)}).run_id for n in range(times)]


def history(url: str, folder: Path) -> dict[str, tuple[str, int]]:
    """Every run with its status and the number of its events, and the last materialisation's metadata."""
    with instance_of(url, folder) as instance:
        event = instance.get_latest_materialization_event(kept.key)
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["rows"].value == 7
        return {run.run_id: (run.status.value, len(instance.all_logs(run.run_id))) for run in instance.get_runs()}


def command(url: str, store: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CQOX_POSTGRES_URL": url, "CQOX_BACKUPS": store}
    return subprocess.run(
        [sys.executable, "-m", "dagster_deploy.production.backup", *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_a_dump_brings_every_run_and_event_back(server: Postgres, tmp_path: Path) -> None:
    materialize(server, tmp_path / "home", 3)
    before, store = history(server.url, tmp_path / "home"), "s3://cqox/dumped"
    made = command(server.url, store, "dump")
    assert made.returncode == 0, made.stderr
    materialize(server, tmp_path / "home", 1)  # after the dump, so not in it
    url = database(server, "restored")
    done = command(url, store, "restore")
    assert done.returncode == 0, done.stderr
    assert "all that were dumped" in done.stdout
    assert history(url, tmp_path / "restored") == before
    again = command(url, store, "restore")
    assert again.returncode == 1
    assert "tables already" in again.stderr


def test_a_damaged_dump_is_not_restored(server: Postgres, tmp_path: Path) -> None:
    places = Places(server.url, UPath(tmp_path / "store"))
    name = dumps.dump(places)
    path = tmp_path / "store" / "dumps" / f"{name}.dump"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    empty = Places(database(server, "damaged"), places.store)
    with pytest.raises(BackupError, match="damaged"):
        dumps.restore(empty)
    assert dumps.count(empty) == {}


def test_an_interrupted_dump_is_no_dump(server: Postgres, tmp_path: Path) -> None:
    places = Places(server.url, UPath(tmp_path / "store"))
    whole = dumps.dump(places)
    (tmp_path / "store" / "dumps" / "20990101T000000000Z.dump").write_bytes(b"half")
    empty = Places(database(server, "interrupted"), places.store)
    assert dumps.restore(empty) == dumps.count(places)
    with pytest.raises(BackupError, match=whole):
        dumps.restore(Places(server.url, places.store), "20990101T000000000Z")


def test_the_log_brings_back_what_was_dropped_and_nothing_after(
    server: Postgres, archive: Path, tmp_path: Path
) -> None:
    """The whole way: base, more runs, a moment, a table dropped by mistake, the disk lost, and back to the moment."""
    places, alive = Places(server.url, UPath("s3://cqox/logged")), tmp_path / "alive"
    materialize(server, tmp_path / "home", 1)
    once(places, archive, alive, datetime.now(UTC))
    assert is_alive(alive)
    materialize(server, tmp_path / "home", 2)
    rows, runs = dumps.count(places), history(server.url, tmp_path / "home")
    ((then,),) = server.sql("select clock_timestamp()")
    server.sql("drop table event_logs cascade; delete from runs; create table after_the_moment (x int)")
    archived(server, archive)
    server.stop("immediate")
    (server.data / "global" / "pg_control").unlink()
    done = command(server.url, "s3://cqox/logged", "recover", "--into", str(server.data), "--archive", str(archive),
                   "--stopped", "--until", then.isoformat())  # type: ignore[attr-defined]  # fmt: skip
    assert done.returncode == 0, done.stderr
    give_to_postgres(server.root)
    server.start()
    wait_for(lambda: server.sql("select pg_is_in_recovery()") == [(False,)], 60)
    assert dumps.count(places) == rows
    assert history(server.url, tmp_path / "home") == runs
    assert list(server.root.glob("data.before-*")), "what was there is moved aside, not removed"
    # The database that came back takes runs, and ships its log on a timeline of its own.
    materialize(server, tmp_path / "home", 1)
    ship_everything(server, places, archive)
    assert {path.name[:8] for path in (places.store / "wal").iterdir()} >= {"00000001", "00000002"}


def test_recovery_says_what_it_lacks(server: Postgres, archive: Path, tmp_path: Path) -> None:
    places = Places(server.url, UPath(tmp_path / "store"))
    with pytest.raises(BackupError, match="there is none"):
        log.recover(places.store, tmp_path / "data")
    base = log.take_base(places)
    with pytest.raises(BackupError, match="the oldest moment is"):
        log.recover(places.store, tmp_path / "data", base.usable_from - timedelta(seconds=1))
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / "postmaster.pid").touch()
    with pytest.raises(BackupError, match="stop that server first"):
        log.recover(places.store, tmp_path / "running")
    for number in (0, 1, 3):
        segment = f"{base.start[:16]}{int(base.start[16:], 16) + number:08X}"
        (places.store / "wal").mkdir(exist_ok=True)
        (places.store / "wal" / f"{segment}.gz").write_bytes(b"")
    with pytest.raises(BackupError, match="1 segments of the log are missing"):
        log.recover(places.store, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_two_servers_cannot_ship_to_one_place(tmp_path: Path) -> None:
    store, name = UPath(tmp_path / "store"), "0" * 23 + "1"
    for content in (b"one", b"one"):
        (tmp_path / name).write_bytes(content)
        assert log.ship(store, tmp_path) == [name]
    (tmp_path / name).write_bytes(b"other")
    with pytest.raises(BackupError, match="two servers"):
        log.ship(store, tmp_path)
    assert (tmp_path / name).read_bytes() == b"other"


def test_the_archive_script_keeps_what_is_there(tmp_path: Path) -> None:
    def run() -> int:
        environment = {**os.environ, "WAL_ARCHIVE": str(tmp_path)}
        return subprocess.run(
            ["sh", str(SCRIPT), str(tmp_path / "segment"), "A"], env=environment, check=False
        ).returncode

    (tmp_path / "segment").write_bytes(b"one")
    assert run() == 0
    assert run() == 0, "the same bytes again are no error: the server asks twice after a crash"
    (tmp_path / "segment").write_bytes(b"other")
    assert run() != 0
    assert (tmp_path / "A").read_bytes() == b"one"


def test_old_backups_go_and_the_last_ones_stay(tmp_path: Path) -> None:
    store = UPath(tmp_path)
    for folder in ("dumps", "base", "wal"):
        (tmp_path / folder).mkdir()
    for day in (1, 20):
        name, segment = f"202601{day:02}T000000000Z", f"{'0' * 16}{day:08X}"
        (tmp_path / "dumps" / f"{name}.dump").touch()
        (tmp_path / "dumps" / f"{name}.json").touch()
        (tmp_path / "base" / f"{name}.tar.gz").touch()
        text = f'{{"name": "{name}", "start": "{segment}", "finished": "2026-01-{day:02}T00:10:00+00:00"}}'
        (tmp_path / "base" / f"{name}.json").write_text(text)
        (tmp_path / "wal" / f"{segment}.gz").touch()
    places = Places("postgresql+psycopg2://nobody@nowhere/none", store)
    assert expire(places, datetime(2026, 1, 21, tzinfo=UTC), dry_run=True) == [
        "base/20260101T000000000Z.json", "base/20260101T000000000Z.tar.gz", f"wal/{'0' * 16}00000001.gz",
    ]  # fmt: skip
    expire(places, datetime(2027, 1, 1, tzinfo=UTC))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    newest = "20260120T000000000Z"
    assert left == [f"base/{newest}.json", f"base/{newest}.tar.gz", f"dumps/{newest}.dump", f"dumps/{newest}.json",
                    f"wal/{'0' * 16}00000014.gz"]  # fmt: skip


@pytest.mark.parametrize(("url", "store", "said"), [
    ("", "/tmp/x", "CQOX_POSTGRES_URL: found ''"),
    ("postgresql://u:secret@h/d", "/tmp/x", "expected postgresql+psycopg2://"),
    ("postgresql+psycopg2://u@h/d", "", "CQOX_BACKUPS: found ''"),
])  # fmt: skip
def test_wrong_settings_are_one_message(url: str, store: str, said: str) -> None:
    done = command(url, store, "dump")
    assert done.returncode == 2
    assert said in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def database(server: Postgres, name: str) -> str:
    """Create a database and return its URL."""
    server.program("createdb", "-h", "127.0.0.1", "-p", str(server.port), "-U", server.user, name)
    return server.url.removesuffix(server.database) + name


def archived(server: Postgres, archive: Path) -> str:
    """Finish the segment that is being written and wait until the server has archived it."""
    ((segment,),) = server.sql("select pg_walfile_name(pg_switch_wal())")
    wait_for(lambda: (archive / str(segment)).exists(), 60, lambda: str(server.sql("select * from pg_stat_archiver")))
    return str(segment)


def ship_everything(server: Postgres, places: Places, archive: Path) -> None:
    segment = archived(server, archive)
    assert segment in log.ship(places.store, archive)


def give_to_postgres(folder: Path) -> None:
    """Make the server's user the owner of what root laid out."""
    for path in [folder, *folder.rglob("*")] if os.geteuid() == 0 else []:
        shutil.chown(path, "postgres")
