"""Ids of traces: every process of a run derives the same ones from the run's id, so nothing is handed on."""

import hashlib
import re

_HEX = re.compile(r"[0-9a-f]{32}")
_RUN = re.compile(r"\brun (?:with id )?'?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b")
_RANDOM_BITS = 56


def trace_id(run_id: str) -> str:
    """Return the trace of a run: its id without dashes, so that either is found with the other."""
    plain = run_id.replace("-", "").lower()
    return plain if _HEX.fullmatch(plain) and int(plain, 16) else hashlib.sha256(run_id.encode()).hexdigest()[:32]


def run_span_id(run_id: str) -> int:
    """Return the id of the span of the whole run, which the spans of all its ops have as their parent."""
    return int.from_bytes(hashlib.sha256(f"run {run_id}".encode()).digest()[:8], "big") or 1


def is_traced(run_id: str, ratio: float) -> bool:
    """Whether a run belongs to the traced share; every process of the run, and every collector, agrees.

    Only the last 56 bits are looked at, which W3C Trace Context reserves for this: others of a UUID are not random.
    """
    return int(trace_id(run_id), 16) % (1 << _RANDOM_BITS) < ratio * (1 << _RANDOM_BITS)


def run_in(message: str) -> str | None:
    """Return the id of the run that a line of a server's log is about."""
    found = _RUN.search(message)
    return found[1] if found else None
