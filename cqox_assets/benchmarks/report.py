"""The benchmark as text tables."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def text_report(content: Row) -> str:
    """Return everything that was measured as text."""
    parts = [_heading(content), *_ours(content)]
    if content["peers"]:
        parts += ["", *_peers(content)]
    return "\n".join(parts)


def _heading(content: Row) -> str:
    machine = content["environment"]
    return (
        f"{content['rows']:,} rows, {content['threads']} thread{'s' if content['threads'] > 1 else ''}, "
        f"seed {content['seed']}; {machine['processor']}, {machine['cpus']} CPUs, Python {machine['python']}\n"
        f"Warm calls in one fresh process, median of {content['repeats']}; imports and first calls apart. "
        f"Memory: {machine['memory']}."
    )


def _ours(content: Row) -> list[str]:
    rows = [("nuisance_models (shared)", content["shared"]["nuisance_models"]), *content["estimators"].items()]
    head = ("estimator", "CPU s", "range", "wall s", "peak MB", "alone CPU s", "first CPU s", "estimate", "truth",
            "error/SE", "on")  # fmt: skip
    lines = [
        (
            name, _number(row, "cpu_s"), _range(row), _number(row, "wall_s"), _number(row, "peak_mb", "{:.1f}"),
            _number(row, "standalone_cpu_s"), _number(row, "first_cpu_s"), _number(row, "estimate"),
            _number(row, "truth"), _number(row, "error_in_se", "{:+.2f}"),
            str(row.get("design", "")) if row["status"] == "ok" else said(row),
        )
        for name, row in rows
    ]  # fmt: skip
    starts, prepared = content["imports"], content["shared"]["prepare"]
    total = (
        f"all together: {content['cpu_s']:.3f} CPU s, {content['wall_s']:.3f} s wall, largest process "
        f"{content['peak_mb']:.0f} MB; {_counts(content)}"
    )
    apart = (
        f"apart: imports {starts['cpu_s']:.2f} CPU s, first calls {content['first_cpu_s']:.2f} (with what they import)"
        + ("" if content["cold_cpu_s"] is None else f", with an empty kernel cache {content['cold_cpu_s']:.2f}")
        + f"; table to study {_number(prepared, 'cpu_s')}"
    )
    return [_table(head, lines), total, apart]


def _counts(content: Row) -> str:
    found: dict[str, int] = {}
    for row in content["estimators"].values():
        found[row["status"]] = found.get(row["status"], 0) + 1
    return ", ".join(f"{count} {status}" for status, count in found.items())


def _peers(content: Row) -> list[str]:
    peers = content["peers"]
    head = ("estimator", "peer", "ours CPU s", "range", "peer CPU s", "range", "ratio", "ours", "peer", "note")
    words = [f"Peers: {peers['rounds']} rounds in fresh processes, ours and the peer in turn; median and range."]
    if peers["ratio"] is not None:
        words.append(
            f"The {peers['compared']} comparable rows together: ours {peers['ours_cpu_s']:.3f} CPU s with every model "
            f"fitted anew, peers {peers['peers_cpu_s']:.3f}: {peers['ratio']:.1f} times."
        )
    if peers["without"]:
        words.append(f"No library is compared with {', '.join(peers['without'])}.")
    return [words[0], _table(head, [_peer(row) for row in peers["rows"]]), *words[1:]]


def _peer(row: Row) -> tuple[str, ...]:
    ours, peer = row["ours"], row["peer"]
    note = row["differs"] or next((said(side) for side in (peer, ours) if side["status"] != "ok"), "")
    return (
        row["estimator"],
        row["call"],
        _number(ours, "cpu_s"),
        _range(ours),
        _number(peer, "cpu_s"),
        _range(peer),
        "" if row["ratio"] is None else f"{row['ratio']:.1f}",
        _number(ours, "estimate"),
        _number(peer, "estimate"),
        note,
    )


def said(row: Row) -> str:
    """Return what a row without numbers says."""
    return " ".join(str(row[key]) for key in ("status", "code", "detail") if row.get(key))


def _number(row: Row, name: str, form: str = "{:.4f}") -> str:
    value = row.get(name)
    return "" if value is None else form.format(value)


def _range(row: Row) -> str:
    ends = row.get("cpu_range_s")
    return "" if ends is None else f"{ends[0]:.4f}-{ends[1]:.4f}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[k]) for line in [head, *lines]) for k in range(len(head))]
    words = {0, len(head) - 1, *(k for k, title in enumerate(head[:2]) if title == "peer")}

    def row(line: Sequence[str]) -> str:
        cells = (text.ljust(widths[k]) if k in words else text.rjust(widths[k]) for k, text in enumerate(line))
        return "  ".join(cells).rstrip()

    return "\n".join(row(line) for line in [head, *lines])
