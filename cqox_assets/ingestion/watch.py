"""What the inbox sensor sees at one tick: which partitions are new, which are still arriving, what is out of place."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cqox_assets.ingestion.inbox import (
    OUT_OF_PLACE,
    data_files,
    delivered,
    file_sha256,
    is_finished,
    quarantine,
    quarantined,
    readable_name,
)
from cqox_resources.settings import Settings

SETTLED_SECONDS = 30.0
BUDGET_SECONDS = 40.0
_CONTENTS_KEPT = 100
_UNPLACED = "a file must lie in inbox/<domain>/<YYYY-MM>/"


@dataclass
class Tick:
    """The result of one look at the inbox.

    `requests` maps partition keys to run keys; `waiting` and `moved` are sentences; `cursor` is what the next look
    needs to know: size, mtime and hash of every file.
    """

    requests: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    cursor: str = "{}"


@dataclass
class _Memory:
    """Size, mtime and hash (once it was computed) of the files of the last look; contents of partitions so far."""

    before: dict[str, list[object]]
    contents: dict[str, list[str]] = field(default_factory=dict)
    after: dict[str, list[object]] = field(default_factory=dict)
    deadline: float = 0.0

    @classmethod
    def of(cls, cursor: str | None, deadline: float) -> "_Memory":
        """Read a cursor; one of an older version is forgotten, run keys keep its files from running twice."""
        try:
            held = dict(json.loads(cursor or "{}"))
            return cls(dict(held["files"]), {key: list(value) for key, value in held["contents"].items()}, {}, deadline)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls({}, deadline=deadline)

    def cursor(self) -> str:
        """Return what the next look needs to know."""
        return json.dumps({"files": self.after, "contents": self.contents})

    def run_key(self, partition: str, digest: str) -> str:
        """Return the run key of a partition's content: its hash, and a count where it comes back after another one.

        Results are those of the content that ran last, so going back to an earlier file has to run again.
        """
        seen = self.contents.setdefault(partition, [])
        if not seen or seen[-1] != digest:
            seen.append(digest)
            del seen[:-_CONTENTS_KEPT]
        times = seen.count(digest)
        return f"{partition}:{digest}" + (f":{times}" if times > 1 else "")

    def settled(self, path: Path, now: float) -> bool:
        """Whether the file has not changed since the last look, or not for a while."""
        stat = path.stat()
        seen = self.before.get(str(path))
        same = seen is not None and seen[:2] == [stat.st_size, stat.st_mtime_ns]
        self.after[str(path)] = list(seen) if same and seen else [stat.st_size, stat.st_mtime_ns, None]
        return same or now - stat.st_mtime >= SETTLED_SECONDS

    def sha256(self, path: Path) -> str | None:
        """Return the file's hash, from memory if it has not changed; None when this look has no time left."""
        entry = self.after[str(path)]
        if entry[2] is None:
            if time.monotonic() > self.deadline:
                return None
            entry[2] = file_sha256(path)
        return str(entry[2])


def scan(settings: Settings, cursor: str | None, domains: Sequence[str], periods: Iterable[str]) -> Tick:
    """Look at the inbox once.

    Parameters
    ----------
    cursor : str, optional
        `Tick.cursor` of the look before.
    domains, periods : sequence of str
        Partition keys that exist.

    Notes
    -----
    One request per partition, with the hash of the sorted names and hashes of everything in its folder as run key,
    files in quarantine included: so ten files make one run, the same bytes delivered again never run twice, new bytes
    always do, and moving a bad file away does not start another run. Going back to an earlier content is a change.
    """
    tick = Tick()
    memory = _Memory.of(cursor, time.monotonic() + BUDGET_SECONDS)
    known, now = set(periods), _now(settings.inbox)
    for domain in _entries(settings.inbox):
        for place in [domain] if domain.is_file() else _entries(domain):
            try:
                if place.is_file():
                    _move(settings, tick, memory, place, now, "" if place is domain else domain.name, _UNPLACED)
                else:
                    _look(settings, tick, memory, place, now, domains, known)
            except OSError as error:  # a file that vanished or cannot be read must not stop the others
                tick.waiting.append(f"{domain.name}/{place.name}: {error}")
    tick.cursor = memory.cursor()
    return tick


def _now(inbox: Path) -> float:
    """Return the time by the clock that stamps the files: a file server's may be minutes away from ours."""
    stamp = inbox / ".clock"
    try:
        stamp.write_bytes(b"")
        return stamp.stat().st_mtime
    except OSError:  # an inbox that may only be read, or a full one
        return time.time()


def _look(
    settings: Settings, tick: Tick, memory: _Memory, place: Path, now: float, domains: Sequence[str], known: set[str]
) -> None:
    domain, period = place.parent.name, place.name
    wrong = _out_of_place(domain, period, domains, known, settings)
    for nested in (path for path in _entries(place) if path.is_dir()):
        for path in sorted(item for item in nested.rglob("*") if item.is_file() and is_finished(item)):
            _move(settings, tick, memory, path, now, f"{domain}/{period}", "folders inside a period are not read")
    files = delivered(place)
    if wrong is not None:
        if wrong.startswith("reload"):
            tick.waiting.append(f"{domain}/{period}: {wrong}")
            return
        for path in files:
            _move(settings, tick, memory, path, now, f"{domain}/{period}", wrong)
        return
    settled = [memory.settled(path, now) for path in files]
    if not data_files(place):
        if files:
            tick.waiting.append(f"{domain}/{period}: only {', '.join(map(readable_name, files))} so far")
        return
    if not all(settled):
        tick.waiting.append(f"{domain}/{period}: files are still arriving")
        return
    hashes = [(readable_name(path), memory.sha256(path)) for path in files]
    if any(digest is None for _, digest in hashes):
        tick.waiting.append(f"{domain}/{period}: still hashing")
        return
    content = sorted([*hashes, *quarantined(settings, f"{domain}/{period}")])
    digest = hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:32]
    tick.requests[f"{domain}|{period}"] = memory.run_key(f"{domain}|{period}", digest)


def _out_of_place(domain: str, period: str, domains: Sequence[str], known: set[str], settings: Settings) -> str | None:
    if domain not in domains:
        if (settings.domains / f"{domain}.yaml").exists():
            return "reload the code location, the domain's profile is new"
        return f"'{domain}' is no domain; known are {', '.join(domains)}; put a profile into domains/{domain}.yaml"
    if period not in known:
        return f"'{period}' is no period between {min(known)} and {max(known)}; name the folder YYYY-MM"
    return None


def _move(settings: Settings, tick: Tick, memory: _Memory, path: Path, now: float, place: str, reason: str) -> None:
    if not is_finished(path):
        return
    if not memory.settled(path, now):
        tick.waiting.append(f"{readable_name(path)}: still arriving")
        return
    quarantine(settings, path, place or "unplaced", OUT_OF_PLACE, reason)
    memory.after.pop(str(path), None)
    tick.moved.append(f"{readable_name(path)} moved to quarantine/{place or 'unplaced'}: {reason}")


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
