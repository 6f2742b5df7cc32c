"""A full disk, an object store that fails or is slow, results of another version: the old ones or the new ones."""

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from cqox_assets.results import Results
from cqox_assets.stored import CODECS
from cqox_resources import store
from cqox_resources.reports import ReportStore
from cqox_resources.settings import Settings
from cqox_resources.store import DamagedResultError, Parts, UnreachableStoreError, explaining
from tests.graph.helpers import deliver, errors, run
from tests.production.faults import record
from tests.production.flaky import Flaky, flaky
from tests.production.servers import object_store

EARLIER = Path(__file__).parent / "earlier_results"
LARGE = 3 << 20
BY_KIND = {codec.kind: codec for codec in CODECS}


@pytest.fixture(name="small_disk")
def a_small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; a limit on the size of files where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        yield place
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def resource_limited() -> bool:
    """Whether the small file system is only a limit on the size of files."""
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def value(number: int, size: int = 0) -> Parts:
    """Return a result of about so many bytes that do not pack."""
    rows = [os.urandom(32).hex() for _ in range(size // 64)] or ["x"]
    return Parts("probe", {"n": number}, {"rows": pd.DataFrame({"n": number, "text": rows})}, {"n": number})


def stored(folder: UPath) -> tuple[int, int, int]:
    """Return the number that a result holds in its facts, its document and its rows, which must be one."""
    manifest = json.loads((folder / store.MANIFEST).read_bytes())
    frames = store.LazyFrames(folder, manifest["frames"])
    document = json.loads((folder / manifest["document"]).read_bytes())
    return manifest["facts"]["n"], document["n"], int(frames["rows"]["n"].iloc[0])


def test_disk_full_while_a_result_is_written(small_disk):
    folder = UPath(small_disk / "warehouse" / "probe")
    store.save(folder, value(1))
    names = {path.name for path in folder.iterdir()}
    lost = []
    for attempt in range(3):
        large = value(2 + attempt, 2 * LARGE)
        with pytest.raises(UnreachableStoreError, match=r"no room to write .*warehouse.*free"), explaining(folder):
            store.save(folder, large)
        lost += [] if stored(folder) == (1, 1, 1) else [f"attempt {attempt}: {stored(folder)}"]
        lost += [f"{path.name} is left behind" for path in folder.iterdir() if path.suffix == ".tmp"]
    begun = time.monotonic()
    store.save(folder, value(9))
    lost += [] if stored(folder) == (9, 9, 9) else ["the next result is not stored"]
    assert names <= {path.name for path in folder.iterdir()}, "parts of the old result stay for its readers"
    record("disk_full", "a result, 3 attempts", lost, time.monotonic() - begun)


def test_disk_full_while_reports_are_written(small_disk):
    reports = ReportStore(UPath(small_disk / "reports"))
    reports.write("policy/2025-01/decision_card.json", b"old")
    reports.append("policy/2025-01/audit.jsonl", b'{"entry": 1}\n')
    line = b'{"entry": "' + os.urandom(LARGE).hex().encode() + b'"}\n'
    begun, lost = time.monotonic(), []
    for write in (reports.write, reports.append):
        for name in ("decision_card.json", "audit.jsonl"):
            with pytest.raises(UnreachableStoreError, match="no room to write"):
                write(f"policy/2025-01/{name}", line)
    lost += [] if reports.read("policy/2025-01/decision_card.json") == b"old" else ["the old card"]
    lost += [] if reports.read("policy/2025-01/audit.jsonl") == b'{"entry": 1}\n' else ["lines of the record"]
    left = sorted(path.name for path in (small_disk / "reports" / "policy" / "2025-01").iterdir())
    lost += [] if left == ["audit.jsonl", "decision_card.json"] else [f"left behind: {left}"]
    reports.append("policy/2025-01/audit.jsonl", b'{"entry": 2}\n')
    lines = (reports.read("policy/2025-01/audit.jsonl") or b"").splitlines()
    lost += [] if [json.loads(text)["entry"] for text in lines] == [1, 2] else ["the record cannot be read"]
    record("disk_full", "reports and a record that grows", lost, time.monotonic() - begun)


def test_disk_full_while_a_delivery_is_read(home, small_disk, monkeypatch):
    key = "policy|2025-01"
    deliver(home, key)
    run(key, selection=["ingestion/raw_table"])
    delivered = {path.name: path.read_bytes() for path in (home / "inbox" / "policy" / "2025-01").iterdir()}
    before = stored_rows(key)
    big = home / "inbox" / "policy" / "2025-01" / "lalonde_nsw.csv"
    head, *rows = big.read_text("utf-8").splitlines()
    noise = [f"{row.rsplit(',', 1)[0]},{int.from_bytes(os.urandom(6))}" for row in rows * 400]
    big.write_text("\n".join([head, *noise]) + "\n", "utf-8")
    shutil.rmtree(home / "scratch")
    (small_disk / "scratch").mkdir()
    (small_disk / "filled").write_bytes(bytes(900_000 if resource_limited() else 3_500_000))
    (home / "scratch").symlink_to(small_disk / "scratch")
    failed = run(key, selection=["ingestion/raw_table"])
    assert not failed.success
    said = errors(failed)
    lost = [] if "no room to write" in said and "free some space" in said else [f"a clear message; it says {said}"]
    lost += [] if stored_rows(key) == before else ["the old table"]
    lost += [] if not list((home / "quarantine").rglob("*.csv")) else ["the good file, which went to quarantine"]
    lost += [f"left behind: {path.name}" for path in (small_disk / "scratch").iterdir()]
    begun = time.monotonic()
    big.write_bytes(delivered["lalonde_nsw.csv"])
    assert run(key, selection=["ingestion/raw_table"]).success
    record("disk_full", "a delivery that is read", lost, time.monotonic() - begun)


def stored_rows(key: str) -> int:
    """Return the rows of a partition's stored table."""
    return len(Results(Settings.from_env().warehouse).load("ingestion/raw_table", key).table.frame)


@pytest.fixture(scope="module", name="proxy")
def object_store_behind_a_proxy() -> Iterator[Flaky]:
    """An object store whose answers a test can spoil."""
    with (
        object_store() as environment,
        flaky(environment["AWS_ENDPOINT_URL"]) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, content in environment.items():
            patch.setenv(name, content)
        yield made


def place(proxy: Flaky, name: str) -> UPath:
    """Return a folder of the bucket as the product reaches it, through the proxy."""
    return UPath(f"s3://cqox/warehouse/{name}", key="test", secret="test", endpoint_url=proxy.url)


@pytest.mark.parametrize(
    ("name", "fails", "delay"),
    [("object_store_errors", lambda number: number % 3 == 0, 0.0), ("object_store_slow", lambda _: False, 0.25)],
)
def test_object_store_fails_or_is_slow(proxy, name, fails, delay, monkeypatch, tmp_path):
    folder = place(proxy, name)
    store.save(folder, value(0))
    monkeypatch.setattr(proxy, "fails", fails)
    monkeypatch.setattr(proxy, "delay", delay)
    proxy.asked = proxy.failed = 0
    large = tmp_path / "large.parquet"
    value(3, LARGE).frames["rows"].to_parquet(large)
    begun, lost = time.monotonic(), []
    for number in (1, 2):
        store.save(folder, value(number))
        lost += [] if stored(folder) == (number,) * 3 else [f"result {number}: {stored(folder)}"]
    store.save(folder, Parts("probe", {"n": 3}, {"rows": large}, {"n": 3}))
    lost += [] if stored(folder) == (3, 3, 3) else ["a large part"]
    seconds = time.monotonic() - begun
    assert proxy.failed > 3 or delay
    size = f"{proxy.asked} requests" + (f", {proxy.failed} of them failed" if proxy.failed else "")
    record(name, size, lost, seconds)


def test_object_store_is_down(proxy, monkeypatch):
    folder = place(proxy, "down")
    store.save(folder, value(1))
    monkeypatch.setattr(proxy, "fails", lambda _: True)
    begun = time.monotonic()
    said = r"does not answer for .*warehouse/down.*run the partition again"
    with pytest.raises(UnreachableStoreError, match=said), explaining(folder):
        store.save(folder, value(2))
    seconds = time.monotonic() - begun
    monkeypatch.setattr(proxy, "fails", lambda _: False)
    lost = [] if stored(folder) == (1, 1, 1) else [f"the old result: {stored(folder)}"]
    store.save(folder, value(3))
    lost += [] if stored(folder) == (3, 3, 3) else ["the next result"]
    record("object_store_down", "1 result", lost, seconds)


def test_a_source_that_breaks_leaves_no_beginning_of_a_part(proxy, monkeypatch, tmp_path):
    folder, source = place(proxy, "broken"), tmp_path / "large.parquet"
    value(1, 4 * LARGE).frames["rows"].to_parquet(source)
    before = proxy.asked
    monkeypatch.setattr(proxy, "fails", lambda number: number > before + 3)
    with pytest.raises(OSError, match="It broke"):
        store.save(folder, Parts("probe", {"n": 1}, {"rows": source}, {"n": 1}))
    monkeypatch.setattr(proxy, "fails", lambda _: False)
    store.save(folder, Parts("probe", {"n": 1}, {"rows": source}, {"n": 1}))
    assert stored(folder) == (1, 1, 1)


def earlier_folders() -> list[Path]:
    return sorted(path.parent for path in EARLIER.rglob(store.MANIFEST))


def test_results_of_an_earlier_version_are_read():
    begun, lost, kinds = time.monotonic(), [], set()
    told = json.loads((EARLIER / "told.json").read_text("utf-8"))
    for folder in earlier_folders():
        name = folder.relative_to(EARLIER).as_posix()
        kinds.add(json.loads((folder / store.MANIFEST).read_text("utf-8"))["kind"])
        try:
            found = store.load(UPath(folder), BY_KIND)
        except Exception as error:
            lost.append(f"{name}: {error!r}")
            continue
        if name.startswith("estimates/") and hasattr(found, "estimate"):
            lost += [] if found.estimate == told[name] else [f"{name}: {found.estimate}, was {told[name]}"]
    assert {"delivery", "study", "outcome", "answers", "figure", "document"} <= kinds, kinds
    record("earlier_results", f"{len(earlier_folders())} results of {len(kinds)} kinds", lost, time.monotonic() - begun)


def test_a_format_of_a_later_version_is_refused_in_words(tmp_path):
    folder = UPath(tmp_path / "later")
    store.save(folder, value(1))
    manifest = json.loads((folder / store.MANIFEST).read_bytes())
    (folder / store.MANIFEST).write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(DamagedResultError, match=r"format 2, which this version cannot read.*upgrade"):
        store.load(folder, {"probe": BY_KIND["document"]})
