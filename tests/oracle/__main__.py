"""`python -m tests.oracle --references DIR --data DIR [--json F]`: how many reference numbers are met."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.oracle.cases import read_entries
from tests.oracle.harness import Verdict, load_adapters, run_entry

HERE = Path(__file__).resolve().parent
REFERENCES = HERE / "references"
DATA = (HERE / "data", HERE.parent.parent / "data")


def data_folders(given: list[Path]) -> list[Path]:
    """Return the folders to look for data in: those given and all below them (sample studies have one each)."""
    return [place for folder in given for place in (folder, *sorted(p for p in folder.rglob("*") if p.is_dir()))]


def run_all(references: Path, data: list[Path]) -> list[Verdict]:
    """Run every entry of every JSON file of a folder."""
    adapters, folders = load_adapters(), data_folders(data)
    return [run_entry(entry, folders, adapters) for entry in read_entries(references)]


def table(verdicts: list[Verdict], every: bool) -> str:
    """Return counts per method, and every entry that is missed or uncovered with the reason."""
    lines = [f"{'method':28s} {'met':>5s} {'missed':>7s} {'uncovered':>10s} {'reported':>9s}"]
    for method in sorted({item.method for item in verdicts}):
        count = Counter(item.status for item in verdicts if item.method == method)
        cells = (count["met"], count["missed"], count["uncovered"], count["reported"])
        lines.append(f"{method:28s} {cells[0]:5d} {cells[1]:7d} {cells[2]:10d} {cells[3]:9d}")
    shown = [item for item in verdicts if every or item.status in ("missed", "uncovered")]
    for item in shown:
        lines.append(f"{item.status:9s} {item.kind:11s} {item.entry}: {item.own} ({item.value}) {item.detail}")
    why = Counter(item.detail for item in verdicts if item.status == "uncovered")
    lines += [f"uncovered {number:4d}: {reason}" for reason, number in why.most_common()]
    return "\n".join(lines)


def summary(verdicts: list[Verdict]) -> dict[str, object]:
    """Return date, version and counts per method: what the estimators' pages say of their pinned numbers."""
    methods: dict[str, dict[str, int]] = {}
    for item in sorted(verdicts, key=lambda item: item.method):
        counts = methods.setdefault(item.method, {"met": 0, "missed": 0, "uncovered": 0, "reported": 0})
        counts[item.status] += 1
    return {"date": datetime.now(UTC).date().isoformat(), "version": version("cqox"), "methods": methods}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 if an exact entry is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--references", type=Path, default=REFERENCES, help="folder of JSON files")
    parser.add_argument("--data", type=Path, action="append", help="folder of data files (may be repeated)")
    parser.add_argument("--json", type=Path, help="write counts and entries to this file")
    parser.add_argument("--record", type=Path, help="write date, version and counts per method to this file")
    parser.add_argument("--all", action="store_true", help="list every entry, not only the missed ones")
    given = parser.parse_args(arguments)
    for folder in (given.references, *(given.data or ())):
        if not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    verdicts = run_all(given.references, given.data or list(DATA))
    count = Counter(item.status for item in verdicts)
    print(table(verdicts, given.all))
    print(f"met {count['met']}, missed {count['missed']}, uncovered {count['uncovered']}, reported {count['reported']}")
    if given.record:
        given.record.write_text(json.dumps(summary(verdicts), indent=1) + "\n", encoding="utf-8")
    if given.json:
        content = {
            **{status: count[status] for status in ("met", "missed", "uncovered", "reported")},
            "entries": [asdict(item) for item in verdicts],
        }
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return int(any(item.status == "missed" and item.kind == "exact" for item in verdicts))


if __name__ == "__main__":
    sys.exit(main())
