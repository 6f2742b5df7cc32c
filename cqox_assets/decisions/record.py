"""What an analysis adds to the audit record: what was declared, when that is new, and what was decided."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cqox_assets.decisions.audit import Break, follow, head_of, link, to_lines, verify, who
from cqox_assets.stored import Delivery


@dataclass(frozen=True)
class RunFacts:
    """The run that writes: its id, its tags and the bytes of the card as they were put in place."""

    run_id: str
    tags: Mapping[str, str]
    card: bytes | None = None


@dataclass(frozen=True)
class Extension:
    """What is appended, and the record as it is then; `broken` is what was wrong before."""

    new_lines: bytes
    count: int
    head: str
    who: str
    broken: Break | None


def extend(
    content: bytes | None, stored: Mapping[str, Any] | None, card: Mapping[str, Any], delivery: Delivery, run: RunFacts
) -> Extension:
    """Return the lines that this analysis adds to its partition's record.

    Parameters
    ----------
    content : bytes, optional
        The record's file as it is; None if there is none.
    stored : mapping, optional
        What the store keeps of the record: `count` and `head` or, of an earlier version that kept the entries in
        `audit.json`, those `entries`, which then become the first lines.
    """
    head = head_of(stored) if stored is not None else None
    carried = list((stored or {}).get("entries") or []) if content is None else []
    before = to_lines(carried) if carried else content or b""
    broken = verify(before, head)
    glue = b"" if before.endswith(b"\n") or not before else b"\n"
    entries: list[dict[str, Any]] = []
    last = follow(before, head)
    for facts in (*_declared(_entries(before), delivery, run), _decided(card, delivery, run)):
        entries.append(link(facts, last))
        last = str(entries[-1]["hash"])
    known = max(len(before.splitlines()), head["count"] if head is not None else 0)
    new = (before if carried else b"") + glue + to_lines(entries)
    return Extension(new, known + len(entries), last, who(run.tags)["who"], broken)


def _entries(content: bytes) -> list[dict[str, Any]]:
    """Return what can be read of a record."""
    found = []
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found += [entry] if isinstance(entry, dict) else []
    return found


def _declared(entries: Sequence[Mapping[str, Any]], delivery: Delivery, run: RunFacts) -> list[dict[str, Any]]:
    """Return the declaration if it is not the one that was recorded last."""
    known = [entry for entry in entries if entry.get("event") == "declared"]
    if known and known[-1].get("sha256") == delivery.declaration_sha256:
        return []
    return [
        {
            "event": "declared",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": run.run_id,
            **who(run.tags),
            "sha256": delivery.declaration_sha256,
            "declaration": delivery.declaration.model_dump(mode="json", exclude_defaults=True),
        }
    ]


def _decided(card: Mapping[str, Any], delivery: Delivery, run: RunFacts) -> dict[str, Any]:
    told = {"override": card["override"]} if card.get("override") else {}
    digest = {} if run.card is None else {"card_sha256": hashlib.sha256(run.card).hexdigest()}
    return {
        "event": "decided",
        "at": card["provenance"]["created"],
        "run_id": card["provenance"]["run_id"],
        **who(run.tags),
        "partition": card["provenance"]["partition"],
        "code_version": card["provenance"]["code_version"],
        "revision": card["provenance"].get("revision", ""),
        "data": [[str(source["name"]), str(source["sha256"])] for source in delivery.table.sources],
        "study": card["study"]["fingerprint"],
        "basis": card.get("basis", {}),
        "verdict": card["verdict"],
        "rule_verdict": card.get("rule_verdict", card["verdict"]),
        **told,
        **digest,
    }
