"""The inbox: nothing is lost and nothing runs twice, whatever is delivered and however."""

import json
import os
import time
from pathlib import Path

import dagster as dg
import pytest

from cqox_assets.ingestion.watch import Tick, scan
from cqox_assets.partitions import DOMAINS, PERIODS
from cqox_resources.settings import Settings

PERIOD_KEYS = PERIODS.get_partition_keys()


def settle(path: Path) -> None:
    old = time.time() - 60
    os.utime(path, (old, old))


def put(home: Path, place: str, name: str, content: bytes = b"a,b\n1,2\n", *, old: bool = True) -> Path:
    folder = home / "inbox" / place
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    if old:
        settle(path)
    return path


def look(home: Path, cursor: str | None = None) -> Tick:
    return scan(Settings.from_env(), cursor, DOMAINS, PERIOD_KEYS)


def test_a_settled_file_is_requested_once_with_a_stable_key(home):
    put(home, "policy/2025-01", "a.csv")
    first = look(home)
    second = look(home, first.cursor)
    assert list(first.requests) == ["policy|2025-01"]
    assert first.requests == second.requests


def test_a_fresh_file_waits_for_a_second_look(home):
    put(home, "policy/2025-01", "a.csv", old=False)
    first = look(home)
    assert not first.requests
    assert "still arriving" in first.waiting[0]
    assert list(look(home, first.cursor).requests) == ["policy|2025-01"]


def test_a_file_that_grows_between_looks_waits(home):
    path = put(home, "policy/2025-01", "a.csv", old=False)
    first = look(home)
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    assert not look(home, first.cursor).requests


def test_the_same_bytes_again_do_not_run_again(home):
    path = put(home, "policy/2025-01", "a.csv")
    before = look(home)
    path.write_bytes(b"a,b\n1,2\n")
    settle(path)
    assert look(home, before.cursor).requests == before.requests


@pytest.mark.parametrize("name", ["a.csv", "study.yaml"])
def test_new_bytes_of_data_or_declaration_run_again_for_an_old_partition(home, name):
    put(home, "policy/2016-03", "a.csv")
    put(home, "policy/2016-03", "study.yaml", b"design: trial\n")
    before = look(home)
    put(home, "policy/2016-03", name, b"design: observational\n" if name == "study.yaml" else b"a,b\n9,9\n")
    after = look(home, before.cursor)
    assert before.requests.keys() == after.requests.keys() == {"policy|2016-03"}
    assert before.requests != after.requests


def test_going_back_to_an_earlier_file_runs_again_because_results_are_of_the_later_one(home):
    keys, tick = [], None
    for content in (b"a,b\n1,2\n", b"a,b\n3,4\n", b"a,b\n1,2\n", b"a,b\n1,2\n"):
        put(home, "policy/2025-01", "a.csv", content)
        tick = look(home, tick.cursor if tick else None)
        keys.append(tick.requests["policy|2025-01"])
    assert len(set(keys)) == 3
    assert keys[2] == keys[3] != keys[0]


@pytest.mark.parametrize("cursor", ["no json", "[]", '{"/old/path": [1, 2, null]}', "null"])
def test_a_cursor_of_another_version_is_forgotten(home, cursor):
    put(home, "policy/2025-01", "a.csv")
    assert look(home, cursor).requests == look(home).requests


def test_ten_files_make_one_request(home):
    for number in range(10):
        put(home, "retail/2025-02", f"part-{number}.csv")
    assert list(look(home).requests) == ["retail|2025-02"]


@pytest.mark.parametrize("name", [".hidden.csv", "big.csv.part", "big.csv.tmp", "~$book.xlsx"])
def test_half_written_files_are_left_alone(home, name):
    path = put(home, "policy/2025-01", name)
    tick = look(home)
    assert not tick.requests
    assert not tick.moved
    assert path.exists()


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("nonsense/2025-01", "no domain"),
        ("policy/2199-01", "no period"),
        ("policy/january", "no period"),
        ("policy/2025-13", "no period"),
        ("policy/2001-01", "no period"),
        ("policy", "inbox/<domain>/<YYYY-MM>"),
        ("", "inbox/<domain>/<YYYY-MM>"),
        ("policy/2025-01/deeper", "folders inside a period"),
    ],
)
def test_what_is_out_of_place_moves_to_quarantine_with_a_reason(home, place, word):
    path = put(home, place, "a.csv")
    tick = look(home)
    assert not tick.requests
    assert not path.exists()
    notes = list((home / "quarantine").rglob("*.reason.json"))
    assert len(notes) == 1
    record = json.loads(notes[0].read_text("utf-8"))
    assert word in record["reason"]
    assert notes[0].with_name("a.csv").read_bytes() == b"a,b\n1,2\n"


def test_quarantine_never_overwrites(home):
    put(home, "nonsense/2025-01", "a.csv", b"first")
    look(home)
    put(home, "nonsense/2025-01", "a.csv", b"second")
    look(home)
    kept = {path.read_bytes() for path in (home / "quarantine").rglob("*a.csv")}
    assert kept == {b"first", b"second"}


def test_a_file_that_cannot_be_stated_does_not_stop_the_tick(home):
    put(home, "policy/2025-01", "a.csv")
    (home / "inbox" / "policy" / "2025-02").mkdir()
    (home / "inbox" / "policy" / "2025-02" / "gone.csv").symlink_to(home / "nowhere.csv")
    assert list(look(home).requests) == ["policy|2025-01"]


def test_a_new_domain_profile_asks_for_a_reload_and_moves_nothing(home):
    (home / "domains" / "brand_new.yaml").write_text("extends: retail\n")
    path = put(home, "brand_new/2025-01", "a.csv")
    tick = look(home)
    assert path.exists()
    assert "reload" in tick.waiting[0]


def test_a_name_that_is_not_utf8_is_a_name_like_any_other(home):
    folder = home / "inbox" / "policy" / "2025-01"
    folder.mkdir(parents=True)
    path = os.fsencode(folder) + "/売上.csv".encode("cp932")
    Path(os.fsdecode(path)).write_bytes(b"a,b\n1,2\n")
    settle(Path(os.fsdecode(path)))
    first = look(home)
    assert list(first.requests) == ["policy|2025-01"]
    assert look(home, first.cursor).requests == first.requests
    (home / "inbox" / "nonsense").mkdir()
    folder.rename(home / "inbox" / "nonsense" / "2025-01")
    assert "売上.csv moved" in look(home).moved[0]
    (note,) = (home / "quarantine").rglob("*.reason.json")
    assert json.loads(note.read_text("utf-8"))["file"] == "売上.csv"


@pytest.mark.parametrize("content", ["", '{"file": "a', "[]", "{}"])
def test_a_broken_note_in_quarantine_does_not_stop_the_tick(home, content):
    put(home, "policy/2025-01", "a.csv")
    before = look(home).requests
    folder = home / "quarantine" / "policy" / "2025-01"
    folder.mkdir(parents=True)
    (folder / "b.csv.reason.json").write_text(content)
    assert look(home).requests == before


def test_a_folder_inside_a_period_does_not_start_the_same_bytes_again(home):
    put(home, "policy/2025-01", "a.csv")
    before = look(home).requests
    put(home, "policy/2025-01/deeper", "b.csv")
    after = look(home)
    assert len(after.moved) == 1
    assert after.requests == before


@pytest.mark.parametrize("place", ["nonsense/2025-01", "policy", ""])
def test_a_file_that_cannot_be_moved_does_not_stop_the_tick(home, monkeypatch, place):
    put(home, place, "stuck.csv")
    put(home, "retail/2025-01", "a.csv")

    def refuse(*_):
        raise PermissionError("no right to move it")

    monkeypatch.setattr("cqox_assets.ingestion.watch.quarantine", refuse)
    tick = look(home)
    assert list(tick.requests) == ["retail|2025-01"]
    assert "no right" in tick.waiting[0]


@pytest.mark.parametrize("name", ["study.yaml", "Study.yml", "edges.csv", "Edges.csv.gz"])
def test_a_declaration_or_side_table_alone_waits_for_the_data(home, name):
    put(home, "policy/2025-01", name)
    tick = look(home)
    assert not tick.requests
    assert f"only {name} so far" in tick.waiting[0]


def test_sensor_requests_one_run_per_partition(home):
    from dagster_deploy.definitions import defs

    put(home, "policy/2025-01", "a.csv")
    put(home, "retail/2025-02", "b.csv")
    put(home, "nonsense/2025-01", "c.csv")
    context = dg.build_sensor_context(resources={"settings": Settings.from_env()}, definitions=defs)
    result = defs.get_sensor_def("inbox_sensor").evaluate_tick(context)
    keys = sorted(request.partition_key for request in result.run_requests)
    assert keys == ["policy|2025-01", "retail|2025-02"]
    assert all(request.run_key.startswith(request.partition_key) for request in result.run_requests)


def test_sensor_says_why_there_is_nothing_to_do(home):
    from dagster_deploy.definitions import defs

    context = dg.build_sensor_context(resources={"settings": Settings.from_env()}, definitions=defs)
    assert "nothing new" in defs.get_sensor_def("inbox_sensor").evaluate_tick(context).skip_message


def test_monthly_schedule_runs_the_latest_period(home):
    from datetime import UTC, datetime

    from dagster_deploy.definitions import defs

    for period in ("2024-11", "2025-03", "2025-02"):
        put(home, f"healthcare/{period}", "a.csv")
    schedule = defs.get_schedule_def("monthly_healthcare")
    context = dg.build_schedule_context(
        resources={"settings": Settings.from_env()},
        scheduled_execution_time=datetime(2025, 5, 1, 6, tzinfo=UTC),
        repository_def=defs.get_repository_def(),
    )
    requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == ["healthcare|2025-03"]


def test_monthly_schedule_of_an_empty_domain_says_so(home):
    from datetime import UTC, datetime

    from dagster_deploy.definitions import defs

    context = dg.build_schedule_context(
        resources={"settings": Settings.from_env()},
        scheduled_execution_time=datetime(2025, 5, 1, 6, tzinfo=UTC),
        repository_def=defs.get_repository_def(),
    )
    data = defs.get_schedule_def("monthly_retail").evaluate_tick(context)
    assert not data.run_requests
    assert "no files of retail" in data.skip_message
