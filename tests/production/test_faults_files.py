"""Files that arrive twice, in any order, all at once, or under a clock that is not ours."""

import json
import os
import time
from pathlib import Path

import pandas as pd
import pytest

from cqox_assets.ingestion import watch
from cqox_assets.ingestion.watch import SETTLED_SECONDS, Tick, scan
from cqox_assets.ledger.history import build_history
from cqox_assets.partitions import DOMAINS, PERIODS
from cqox_assets.results import Results
from cqox_resources.settings import Settings
from tests.graph.helpers import errors, run
from tests.production.faults import record

PERIOD_KEYS = PERIODS.get_partition_keys()


def put(home: Path, key: str, name: str, rows: int, start: int = 0, stamp: float | None = None) -> Path:
    """Deliver a small table whose file carries a time of modification, a minute ago by default."""
    folder = home / "inbox" / key.replace("|", "/")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("unit,treated,outcome\n" + "".join(f"{i},{i % 2},{i % 7}\n" for i in range(start, start + rows)))
    stamp = time.time() - 60 if stamp is None else stamp
    os.utime(path, (stamp, stamp))
    return path


def look(cursor: str | None = None) -> Tick:
    return scan(Settings.from_env(), cursor, DOMAINS, PERIOD_KEYS)


def read(key: str) -> pd.DataFrame:
    """Run the partition's first step and return what it has stored."""
    result = run(key, selection=["ingestion/raw_table"])
    assert result.success, errors(result)
    return Results(Settings.from_env().warehouse).load("ingestion/raw_table", key).table.frame


def card(partition: str, value: float) -> dict[str, object]:
    """Return what the history reads of a decision card."""
    group = {"estimand": "ATE", "contrast": "b - a", "scale": "difference", "at": {}, "null": 0.0, "level": 0.95,
             "consensus": value, "std_error": 0.2, "low": value - 0.4, "high": value + 0.4}  # fmt: skip
    roles = {"outcome": ["outcome"], "treatment": ["treated"], "covariates": []}
    return {"partition": partition, "study": {"fingerprint": partition, "rows": 60, "roles": roles}, "estimates": [],
            "verdict": "GO", "summary": {"groups": [group]}}  # fmt: skip


def test_duplicates(home):
    key, begun = "policy|2020-01", time.monotonic()
    first = put(home, key, "a.csv", 500)
    tick = look()
    assert list(tick.requests) == [key]
    frame = read(key)
    put(home, key, "a.csv", 500)
    again = look(tick.cursor)
    copied = put(home, key, "a (1).csv", 500)
    with_copy = look(again.cursor)
    held = read(key)
    lost = [] if again.requests == tick.requests else ["the same bytes under the same name ask for another run"]
    lost += [] if with_copy.requests != tick.requests else ["a new file is not seen"]
    lost += [] if len(frame) == len(held) == 500 else [f"{len(held)} rows of 500"]
    notices = Results(Settings.from_env().warehouse).load("ingestion/raw_table", key).table.notices
    assert "same bytes" in " ".join(notices)
    assert first.exists()
    assert copied.exists()
    record("duplicates", "3 deliveries of 500 rows", lost, time.monotonic() - begun)


def test_out_of_order(home):
    begun = time.monotonic()
    seen, cursor = [], None
    arrivals = ("2020-03", "2020-01", "2020-04", "2020-02")
    for period in arrivals:
        put(home, f"policy|{period}", "a.csv", 60, int(period[-1]) * 1000)
        tick = look(cursor)
        cursor = tick.cursor
        seen.append({key: request for key, request in tick.requests.items() if key.endswith(period)})
    last = look(cursor).requests
    lost = [f"{period} is not asked for" for period, asked in zip(arrivals, seen, strict=True) if not asked]
    lost += [f"{key} is asked for again" for asked in seen for key, request in asked.items() if last[key] != request]
    history = build_history([card(f"policy|{period}", 0.1 * number) for number, period in enumerate(arrivals)])
    ordered = list(dict.fromkeys(history["period"]))
    lost += [] if ordered == sorted(arrivals) else [f"the history reads {ordered}"]
    record("out_of_order", f"{len(arrivals)} periods", lost, time.monotonic() - begun)


@pytest.mark.parametrize("skew", [-600.0, 600.0, 86_400.0 * 3])
def test_clock_skew(home, monkeypatch, skew):
    """The file system stamps files by another clock; a file grows between two looks, and one is still."""
    begun = time.monotonic()
    key, still = "policy|2020-01", "policy|2020-02"
    put(home, still, "a.csv", 60)
    real = Path.stat

    def stat(path: Path, **options):
        found = real(path, **options)
        if "inbox" not in path.parts:
            return found
        changed = [*found]
        changed[8] += int(skew)
        times = {"st_mtime": found.st_mtime + skew, "st_mtime_ns": found.st_mtime_ns + int(skew * 1e9)}
        return os.stat_result(changed, {**times, "st_atime": found.st_atime, "st_ctime": found.st_ctime})

    monkeypatch.setattr(watch.Path, "stat", stat)
    growing = put(home, key, "b.csv", 60, stamp=time.time())
    tick, early = look(), []
    for rows in (120, 180, 240):
        early += [f"taken with {rows - 60} of 240 rows"] if key in tick.requests else []
        growing = put(home, key, growing.name, rows, stamp=time.time())
        tick = look(tick.cursor)
    early += ["taken while it grew"] if key in tick.requests else []
    settled = look(tick.cursor)
    lost = early + [f"{name} is never taken" for name in (key, still) if name not in settled.requests]
    assert abs(skew) > SETTLED_SECONDS
    record("clock_skew", f"{skew:+,.0f} s", lost, time.monotonic() - begun)


def test_a_thousand_files_of_one_partition(home):
    key, begun = "policy|2020-01", time.monotonic()
    for number in range(1000):
        put(home, key, f"part-{number:04}.csv", 3, 3 * number)
    tick = look()
    frame = read(key)
    missing = set(range(3000)) - set(frame["unit"].tolist())
    lost = [f"{len(missing)} of 3,000 rows"] if missing or len(frame) != 3000 else []
    lost += [] if list(tick.requests) == [key] else [f"{len(tick.requests)} requests"]
    lost += [] if look(tick.cursor).requests == tick.requests else ["asked for again"]
    record("many_files", "1,000 files of one partition", lost, time.monotonic() - begun)


def test_a_thousand_partitions_are_seen_in_one_look(home):
    keys = [f"{domain}|{period}" for domain in DOMAINS for period in PERIOD_KEYS[:120]][:1000]
    assert len(keys) == 1000
    for key in keys:
        put(home, key, "a.csv", 2)
    begun = time.monotonic()
    tick = look()
    seconds = time.monotonic() - begun
    again = look(tick.cursor)
    lost = [f"{len(set(keys) - set(tick.requests))} partitions"] if set(keys) - set(tick.requests) else []
    lost += [] if again.requests == tick.requests else ["asked for again"]
    assert len(json.loads(tick.cursor)["files"]) == 1000
    record("many_files", "1,000 files of 1,000 partitions, seen in one look", lost, seconds)
