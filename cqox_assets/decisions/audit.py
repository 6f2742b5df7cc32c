"""The audit record: an append-only chain of JSON lines, each with the hash of the one before.

``python -m cqox_assets.decisions.audit verify PATH ...`` checks records; a path is an `audit.jsonl` or a folder of
reports. The count and the last hash that the warehouse keeps of each record are compared too, so that lines taken off
its end are noticed, and so is a record that is no longer there. The card beside a record must be the one that was
recorded last.
"""

import argparse
import getpass
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENESIS = "0" * 64
FILE = "audit.jsonl"


@dataclass(frozen=True)
class Break:
    """Where a record stops being what was written: the line, counted from 1, and what is wrong with it."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def link(facts: Mapping[str, Any], before: str) -> dict[str, Any]:
    """Return an entry that follows the one with the hash `before`."""
    body = {**facts, "previous": before}
    return {**body, "hash": _digest(body)}


def to_lines(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """Return entries as JSON lines."""
    return "".join(f"{json.dumps(entry, ensure_ascii=False, allow_nan=False)}\n" for entry in entries).encode()


def verify(content: bytes, head: Mapping[str, Any] | None = None) -> Break | None:
    """Return the first break of a record, or None if every line follows from the one before.

    Parameters
    ----------
    content : bytes
        The JSON lines.
    head : mapping, optional
        `count` and `head`: how many entries there were and the last one's hash when the store last saw the record.
        A record may be longer, because a run may have been killed between the two; it may not be shorter or another.
    """
    before, hashes = GENESIS, []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            return Break(number, "it is no JSON; the line was cut or changed")
        wrong = _why_broken(entry, before) if isinstance(entry, dict) else "it is no entry of an audit record"
        if wrong is not None:
            return Break(number, wrong)
        before = str(entry["hash"])
        hashes.append(before)
    if head is None or not head.get("count"):
        return None
    count = int(head["count"])
    if len(hashes) < count:
        return Break(len(hashes) + 1, f"{count - len(hashes)} of {count} entries are missing at the end")
    if hashes[count - 1] != head["head"]:
        return Break(count, "it is another entry than the one whose hash the store keeps")
    return None


def follow(content: bytes, head: Mapping[str, Any] | None) -> str:
    """Return the hash that a new entry follows.

    Of a record that was tampered with it is the hash that the store keeps, so that the break can be seen for ever.
    """
    lines = content.splitlines()
    if verify(content, head) is None:
        return str(json.loads(lines[-1])["hash"]) if lines else GENESIS
    if head is not None and head.get("head"):
        return str(head["head"])
    return _last_hash(lines)


def _last_hash(lines: Sequence[bytes]) -> str:
    for line in reversed(lines):
        try:
            return str(json.loads(line)["hash"])
        except (ValueError, KeyError, TypeError):
            continue
    return GENESIS


def who(tags: Mapping[str, str]) -> dict[str, str]:
    """Return who started a run: the tag `cqox/user`, `user` or `dagster/user`, or the user of the operating system."""
    for tag in ("cqox/user", "user", "dagster/user"):
        if tags.get(tag):
            return {"who": tags[tag], "who_from": f"run tag {tag}"}
    try:
        return {"who": getpass.getuser(), "who_from": "operating system"}
    except (OSError, KeyError):  # a container may run under a number that no user has
        return {"who": "unknown", "who_from": "the operating system names no user"}


def _why_broken(entry: Mapping[str, Any], before: str) -> str | None:
    body = {name: value for name, value in entry.items() if name != "hash"}
    if entry.get("hash") != _digest(body):
        return "its content is not what its hash says; it was changed after it was written"
    if body.get("previous") != before:
        return "it does not follow from the line before; a line was taken out, put in or moved"
    return None


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def stored_head(warehouse: Path, partition: str) -> dict[str, Any] | None:
    """Return the count and last hash that a warehouse keeps of a partition's record, or None if it keeps none."""
    from upath import UPath

    from cqox_assets.results import Results

    try:
        return head_of(Results(UPath(warehouse)).load("decisions/audit_record", partition))
    except FileNotFoundError:
        return None


def head_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return `count` and `head` of what the store keeps; a store of an earlier version keeps the entries themselves."""
    entries = stored.get("entries")
    if entries is not None:
        return {"count": len(entries), "head": entries[-1]["hash"] if entries else GENESIS}
    return {"count": int(stored["count"]), "head": str(stored["head"])}


def _records(paths: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        found += sorted(path.rglob(FILE)) if path.is_dir() else [path]
    return found


def _kept(folder: Path, warehouse: Path | None) -> dict[str, Any] | None:
    """Return what the store keeps of the record in a report folder, `<reports>/<domain>/<period>`."""
    place = warehouse or folder.parents[2] / "warehouse"
    return stored_head(place, f"{folder.parent.name}|{folder.name}") if place.is_dir() else None


def _gone(path: Path, warehouse: Path | None) -> list[Path]:
    """Return the records below a folder of reports that the warehouse knows and that are not there."""
    for root in (path, path.parent, path.parent.parent):
        kept = sorted(((warehouse or root.parent / "warehouse") / "decisions" / "audit_record").glob("*/*"))
        known = [root / folder.parent.name / folder.name for folder in kept if folder.is_dir()]
        inside = [folder for folder in known if folder == path or path in folder.parents]
        # Of a folder of one domain or period, the root is further up.
        if inside and (root != path or any(folder.parent.is_dir() for folder in inside)):
            return [folder / FILE for folder in inside if not (folder / FILE).exists()]
    return []


def other_card(content: bytes, card: Path) -> Break | None:
    """Return a break if the card beside a record is not the one that was recorded last."""
    lines = content.splitlines()
    recorded = json.loads(lines[-1]).get("card_sha256") if lines else None
    if not recorded or not card.exists() or hashlib.sha256(card.read_bytes()).hexdigest() == recorded:
        return None
    return Break(
        len(lines), f"{card.name} is not the card that was recorded; it was changed, or made again and not recorded"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify records; return 0 if all hold, 1 if one is broken, 2 if none is found or one cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m cqox_assets.decisions.audit")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("verify", help="check that no entry was changed, removed, moved or put in")
    checking.add_argument("paths", nargs="+", metavar="PATH", help="an audit.jsonl, or a folder that holds some")
    checking.add_argument(
        "--warehouse",
        type=Path,
        help="the warehouse, whose counts show lines missing at the end; by default the folder beside the reports",
    )
    options = parser.parse_args(arguments)
    records, worst = _records(options.paths), 0
    gone = [file for name in options.paths for file in _gone(Path(name).absolute(), options.warehouse)]
    for file in gone:
        print(f"{file}: the record is not there, though the warehouse knows it")
        worst = 1
    if not records and not gone:
        print(f"no {FILE} below {', '.join(options.paths)}", file=sys.stderr)
        return 2
    for path in records:
        try:
            content = path.read_bytes()
        except OSError as error:
            print(f"{path}: cannot be read ({error.strerror})", file=sys.stderr)
            worst = 2
            continue
        found = verify(content, _kept(path.absolute().parent, options.warehouse))
        found = found or other_card(content, path.with_name("decision_card.json"))
        entries = len(content.splitlines())
        print(f"{path}: {f'broken at {found}' if found else f'unbroken, {entries} entries'}")
        worst = max(worst, 1 if found else 0)
    return worst


if __name__ == "__main__":
    sys.exit(main())
