"""The audit record: a chain of entries, each sealed by the hash of the one before; the declaration comes first."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cqox_assets.result import to_text

_START = "0" * 64


def audit_record(card: Mapping[str, Any], sources: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return the entries that tell how a card came about, in order.

    Parameters
    ----------
    card : mapping
        From `card.build_card`.
    sources : sequence of mapping
        Name, sha256 and time of each delivered file; `study.yaml` among them proves when it was declared.

    Returns
    -------
    list of dict
        `step`, `content`, `previous` (hash of the entry before) and `hash` of this entry.
    """
    study, provenance = card["study"], card["provenance"]
    declared = [source for source in sources if str(source.get("name", "")).endswith("study.yaml")]
    delivered = [source for source in sources if source not in declared]
    steps: list[tuple[str, Any]] = [
        ("declaration", {"files": declared, "content": card["declaration"]}),
        ("data", {"files": delivered, "rows": study["rows"], "fingerprint": study["fingerprint"]}),
        ("mapping", {key: study[key] for key in ("roles", "arms", "confidence", "dropped")}),
        ("gates", [{key: row.get(key) for key in ("name", "value", "threshold", "status")} for row in card["gates"]]),
        ("estimates", [_facts(row) for row in card["estimates"]]),
        ("refusals", card["refusals"]),
        ("failures", card["failures"]),
        ("verdict", {key: card[key] for key in ("verdict", "reasons", "flips_if", "recommendation")}),
        ("provenance", provenance),
    ]
    entries: list[dict[str, Any]] = []
    previous = _START
    for step, content in steps:
        entry = {"step": step, "content": json.loads(to_text(content)), "previous": previous}
        previous = _seal(entry)
        entries.append({**entry, "hash": previous})
    return entries


def broken_at(entries: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the position of the first entry that was changed, removed or moved, or None when the chain holds."""
    previous = _START
    for place, entry in enumerate(entries):
        sealed = _seal({key: value for key, value in entry.items() if key != "hash"})
        if entry.get("previous") != previous or entry.get("hash") != sealed:
            return place
        previous = sealed
    return None


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("estimator", "version", "estimand", "estimate", "std_error", "provenance")}


def _seal(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
