"""The benchmark as a page: one table over all sizes that were measured, and one beside the peers."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from cqox_assets.benchmarks.report import said
from cqox_assets.result import to_text

_HEAD = """# What every estimator costs

Made by `python -m cqox_assets.benchmark --rows N [--peers] --out docs/benchmark.md`, one call for each size. CPU
seconds of warm calls in a fresh process, the median of several; imports and first calls are apart. Estimators that
adjust for covariates share one study of twelve covariates and its nuisance models, which are fitted once. The error is
the distance from the known truth of the simulated study in standard errors.
"""


def add(content: Mapping[str, Any], page: Path) -> None:
    """Put one size into the JSON file beside the page, in the place of an earlier one, and write the page anew.

    Parameters
    ----------
    content : mapping
        As `run_benchmark` returns it.
    page : Path
        Markdown file.
    """
    store = page.with_suffix(".json")
    sizes = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    before = sizes.get(str(content["rows"]), {})
    kept = {**content, "date": date.today().isoformat()}
    if not content["peers"] and before.get("peers"):
        kept |= {"peers": before["peers"]}
    sizes[str(content["rows"])] = kept
    sizes = dict(sorted(sizes.items(), key=lambda item: int(item[0])))
    page.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(to_text(sizes) + "\n", encoding="utf-8")
    page.write_text(markdown(list(sizes.values())), encoding="utf-8")


def markdown(sizes: Sequence[Mapping[str, Any]]) -> str:
    """Return the page."""
    parts = [_HEAD, *_totals(sizes), "", "## By estimator", "", *_estimators(sizes)]
    for content in sizes:
        if content["peers"]:
            parts += ["", f"## Beside other libraries, {content['rows']:,} rows", "", *_peers(content["peers"])]
    return "\n".join(parts) + "\n"


def _totals(sizes: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for content in sizes:
        ok = sum(row["status"] == "ok" for row in content["estimators"].values())
        machine = content["environment"]
        place = f"{machine['processor']}, {machine['cpus']} CPUs, Python {machine['python']}"
        rows.append((
            f"{content['rows']:,}", content["threads"], f"{content['cpu_s']:.2f}", f"{content['wall_s']:.2f}",
            f"{content['peak_mb']:,.0f}", f"{ok} of {len(content['estimators'])}", place, content["date"],
        ))  # fmt: skip
    head = ("rows", "threads", "CPU s, all together", "wall s", "largest process, MB", "estimates", "machine", "date")
    return _table(head, rows)


def _estimators(sizes: Sequence[Mapping[str, Any]]) -> list[str]:
    shared = "nuisance models, shared"
    names = {shared: None} | dict.fromkeys(name for content in sizes for name in content["estimators"])
    head = ["estimator", "study"]
    for content in sizes:
        head += [f"CPU s, {content['rows']:,}", "error / SE"]
    rows = []
    for name in names:
        found = [
            content["shared"]["nuisance_models"] if name == shared else content["estimators"].get(name, {"status": ""})
            for content in sizes
        ]
        cells = [name if name == shared else f"`{name}`", next(row["design"] for row in found if "design" in row)]
        for row in found:
            cells += [f"{row['cpu_s']:.3f}" if row["status"] == "ok" else said(row), _error(row)]
        rows.append(cells)
    return _table(head, rows)


def _error(row: Mapping[str, Any]) -> str:
    value = row.get("error_in_se")
    return "" if value is None else f"{value:+.2f}"


def _peers(peers: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{peers['rounds']} rounds in fresh processes, ours and the peer in turn; medians. Ours fits every model anew."
    ]
    if peers["ratio"] is not None:
        lines.append(
            f"The {peers['compared']} comparable rows together: ours {peers['ours_cpu_s']:.2f} CPU s, peers "
            f"{peers['peers_cpu_s']:.2f}: **{peers['ratio']:.1f} times**."
        )
    head = ("estimator", "peer", "version", "ours CPU s", "peer CPU s", "ratio", "ours", "peer's", "note")
    return ["\n".join(lines), "", *_table(head, [_peer(row) for row in peers["rows"]])]


def _peer(row: Mapping[str, Any]) -> tuple[str, ...]:
    sides = (row["ours"], row["peer"])
    note = row["differs"] or next((said(side) for side in reversed(sides) if side["status"] != "ok"), "")
    costs = tuple("" if "cpu_s" not in side else f"{side['cpu_s']:.3f}" for side in sides)
    values = tuple("" if side.get("estimate") is None else f"{side['estimate']:.4f}" for side in sides)
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
    return (f"`{row['estimator']}`", row["call"], row["version"] or "", *costs, ratio, *values, note)


def _table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
