"""The table of faults: ``python -m tests.production.faults --out docs/faults.md`` runs every fault and writes it down.

Each test of a fault says what was lost, which must be nothing, and how long it took until everything was done; under
that command these become the records beside the page. Without it they are only checked.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ("processes", "database", "storage", "files")
_VARIABLE = "CQOX_FAULT_RECORDS"


@dataclass(frozen=True)
class Fault:
    """One fault: what is done, what counts as lost, and until when the time to recover runs."""

    name: str
    title: str
    done: str
    counted: str
    until: str


FAULTS = (
    Fault(
        "worker_killed",
        "Run worker killed",
        "SIGKILL to the process of a run in the middle of its steps",
        "file, results, rows, the run",
        "the retry has ended well",
    ),
    Fault(
        "code_server_killed",
        "Code server killed",
        "SIGKILL to its process group while a run is in the middle; a file arrives meanwhile",
        "the run in the middle (no retry), the file that arrived",
        "the new file's run has ended well",
    ),
    Fault(
        "daemon_killed",
        "Daemon killed",
        "SIGKILL to the daemon and to one of two workers, as a container ends; a file arrives meanwhile",
        "both runs, the file that arrived, runs started twice",
        "all three partitions are done",
    ),
    Fault(
        "web_server_killed",
        "Web server killed",
        "SIGKILL to its process group while a run is in the middle",
        "the run, what the UI shows of it",
        "the UI answers again",
    ),
    Fault(
        "machine_off",
        "Everything killed",
        "SIGKILL to every process at once while a run is in the middle",
        "file, results, the run",
        "the retry has ended well",
    ),
    Fault(
        "poisoned",
        "Poisoned partition",
        "a partition whose worker dies every time, among others",
        "the other partitions; attempts beyond the retries; the alert",
        "the others are done and the poisoned one has been given up",
    ),
    Fault(
        "two_daemons",
        "Two daemons",
        "a second daemon is started; the first is killed while runs are queued",
        "files, runs, runs started twice",
        "the queue is empty",
    ),
    Fault(
        "queue",
        "Many queued runs",
        "files of many partitions arrive in one moment",
        "files, runs, runs started twice",
        "the queue is empty",
    ),
    Fault(
        "many_files",
        "1,000 files at once",
        "1,000 files arrive in one moment",
        "rows, files, runs started twice",
        "every row is stored",
    ),
    Fault(
        "postgres_restart",
        "Postgres crashes and restarts",
        "immediate stop while a run writes its events, start a moment later; a file arrives",
        "writes that were acknowledged, events, the run, the file",
        "both partitions are done",
    ),
    Fault(
        "postgres_away",
        "Postgres away for longer than any retry",
        "immediate stop while a run writes its events, start after half a minute",
        "writes that were acknowledged, the run",
        "the partition is done",
    ),
    Fault(
        "postgres_failover",
        "Postgres fails over",
        "the primary is stopped, its synchronous standby promoted, while a run is in the middle",
        "writes that were acknowledged, the run, a file that arrives meanwhile",
        "both partitions are done",
    ),
    Fault(
        "schema_migration",
        "Schema of the previous release",
        "Dagster's tables as an earlier release had them, with runs, and `dagster instance migrate`",
        "runs, events, materialisations",
        "the migration has ended",
    ),
    Fault(
        "earlier_results",
        "Results of an earlier version",
        "a warehouse that an earlier version has written is read",
        "results, numbers",
        "every result is read",
    ),
    Fault(
        "disk_full",
        "Disk full",
        "the file system of warehouse and reports is full in the middle of writing",
        "the old results, a mixture of old and new, bytes left behind",
        "the same write succeeds once there is room",
    ),
    Fault(
        "object_store_errors",
        "Object store answers 500",
        "every third request is answered with 500",
        "results, parts",
        "every result is stored and read back",
    ),
    Fault(
        "object_store_slow",
        "Object store is slow",
        "every request waits a quarter of a second",
        "results, parts",
        "every result is stored and read back",
    ),
    Fault(
        "object_store_down",
        "Object store down",
        "every request is answered with 500, for minutes",
        "the old result",
        "the write has given up with a message; the next one succeeds",
    ),
    Fault(
        "duplicates",
        "Duplicate files",
        "the same file again under its name and under another name, after its run",
        "rows, rows counted twice, runs started twice",
        "the rows are stored once",
    ),
    Fault(
        "out_of_order",
        "Files out of order",
        "later periods before earlier ones, the study after its declaration",
        "periods, their order in the history",
        "every period is requested once",
    ),
    Fault(
        "clock_skew",
        "Clocks disagree",
        "the file server's clock is ten minutes behind or ahead while a file grows",
        "rows of a file that was still arriving, files that are never taken",
        "the whole file is taken",
    ),
)
BY_NAME = {fault.name: fault for fault in FAULTS}


def record(name: str, size: str, lost: Sequence[str], seconds: float) -> None:
    """Check that nothing was lost and note it.

    Parameters
    ----------
    name : str
        Of the fault.
    size : str
        How much of it the test did: `12 runs`.
    lost : sequence of str
        A sentence for everything that was lost.
    seconds : float
        Time to recover.
    """
    if name not in BY_NAME:
        raise KeyError(f"'{name}' is no fault of the table")
    place = os.environ.get(_VARIABLE)
    if place:
        test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
        item = {"fault": name, "size": size, "lost": list(lost), "seconds": round(seconds, 1), "test": test}
        with Path(place).open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(item) + "\n")
    assert not lost, "; ".join(lost)


def render(records: Sequence[dict[str, Any]]) -> str:
    """Return the page of these records."""
    lines = [
        "# Faults", "",
        "Each row is a test that makes the fault happen to real processes, servers and file systems, counts what is",
        "lost and takes the time until everything is done. Written by",
        "`python -m tests.production.faults --out docs/faults.md`, which runs them all, the long ones too; the seconds",
        "are those of a shared two-core machine and include the time to start processes again.", "",
        "| fault | what was done | counted | size | lost | s | recovered when |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for fault in FAULTS:
        for item in (item for item in records if item["fault"] == fault.name):
            lost = "; ".join(item["lost"]) or "nothing"
            cells = (fault.title, fault.done, fault.counted, item["size"], lost, item["seconds"], fault.until)
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run every fault and write page and records; the exit code is that of the tests."""
    parser = argparse.ArgumentParser(prog="python -m tests.production.faults", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the page; its records get the same name and .json")
    parser.add_argument("--only", action="append", choices=TESTS, help="run these, keep other records")
    parser.add_argument("--small", action="store_true", help="leave the long ones out and keep their records")
    options = parser.parse_args()
    chosen = ["-m", "not slow"] if options.small else []
    tests = [str(ROOT / "tests" / "production" / f"test_faults_{name}.py") for name in options.only or TESTS]
    place = options.out.with_suffix(".json")
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "records"
        environment = {**os.environ, _VARIABLE: str(found)}
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *chosen, *tests], cwd=ROOT, env=environment, check=False
        ).returncode
        fresh = [json.loads(line) for line in found.read_text("utf-8").splitlines()] if found.exists() else []
    made = {item["test"] for item in fresh}
    before = json.loads(place.read_text("utf-8")) if place.exists() and (options.only or options.small) else []
    kept = [item for item in before if item["test"] not in made]
    records = sorted([*kept, *fresh], key=lambda item: (list(BY_NAME).index(item["fault"]), item["test"]))
    place.write_text(json.dumps(records, indent=1) + "\n", "utf-8")
    options.out.write_text(render(records), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
