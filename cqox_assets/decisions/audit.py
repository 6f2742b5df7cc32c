"""The audit record: a chain of entries, each with the hash of the one before, so that none can be changed unseen."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

GENESIS = "0" * 64


def append(entries: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chain with one more entry.

    Parameters
    ----------
    entries : sequence of mapping
        The chain so far, oldest first.
    facts : mapping
        What the new entry says; plain values.
    """
    before = str(entries[-1]["hash"]) if entries else GENESIS
    body = {**facts, "previous": before}
    return [*map(dict, entries), {**body, "hash": _digest(body)}]


def broken_at(entries: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the position of the first entry that does not follow from the one before, or None."""
    before = GENESIS
    for position, entry in enumerate(entries):
        body = {name: value for name, value in entry.items() if name != "hash"}
        if body.get("previous") != before or entry.get("hash") != _digest(body):
            return position
        before = str(entry["hash"])
    return None


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
