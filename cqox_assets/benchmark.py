"""What every estimator costs on a simulated study, and how far its answer is from the known truth.

`python -m cqox_assets.benchmark --rows 10000 [--peers] [--json FILE] [--out PAGE]` prints the table and writes it.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from cqox_assets.benchmarks.page import add
from cqox_assets.benchmarks.peers import PEERS, Peer
from cqox_assets.benchmarks.process import Worker
from cqox_assets.benchmarks.report import text_report
from cqox_assets.catalog import load_estimators
from cqox_assets.numerics.threads import ONE_THREAD_BELOW
from cqox_assets.result import to_text

SEED = 71_993  # not a seed that anything was tuned on
_ROUNDS = 5
_TIMEOUT = 900.0
_LIBRARIES = ("numpy", "scipy", "pandas", "numba", "scikit-learn", "lightgbm", "econml")


def run_benchmark(
    rows: int,
    *,
    threads: int | None = None,
    repeats: int | None = None,
    only: Sequence[str] = (),
    peers: bool = False,
    rounds: int = _ROUNDS,
    cold: bool = True,
    timeout: float = _TIMEOUT,
    seed: int = SEED,
) -> dict[str, Any]:
    """Measure every estimator of the catalogue in a fresh process.

    Parameters
    ----------
    rows : int
        Of every simulated study; a panel of so many rows has as many units as fill them.
    threads : int, optional
        One below 20,000 rows, else all CPUs.
    repeats : int, optional
        Warm calls of which the median counts: 5 up to 20,000 rows, 3 up to 200,000, else 1.
    only : sequence of str, optional
        Estimators; all by default.
    peers : bool
        Also measure the libraries a user would pick.
    rounds : int
        Fresh processes per side of a comparison with peers.
    cold : bool
        Also measure first calls with an empty cache of compiled kernels.
    timeout : float
        Seconds that one measurement may take.
    seed : int

    Returns
    -------
    dict
        `rows`, `threads`, `cpu_s`, `wall_s` (shared nuisance models and all estimators), `peak_mb` (largest resident
        memory of the process, simulated studies included), `shared`, `estimators` and `peers`; a refusal, a failure
        or a timeout is a row whose `status` says so.
    """
    threads = threads or (1 if rows < ONE_THREAD_BELOW else os.cpu_count() or 1)
    repeats = repeats or (5 if rows <= 20_000 else 3 if rows <= 200_000 else 1)
    names = [name for name in load_estimators() if not only or name in only]
    details = {"rows": rows, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        cache = folder if cold else None
        cold_s = _first_calls(names, Worker(threads, timeout, cache), details) if cold else None
        with Worker(threads, timeout, cache) as worker:
            worker.start()
            shared = {
                "prepare": worker.ask("prepare", repeats=repeats, **details),
                "nuisance_models": worker.ask("nuisance_models", repeats=repeats, **details),
            }
            found = {name: worker.ask("estimator", name=name, repeats=repeats, **details) for name in names}
            hello = worker.hello
    counted = [shared["nuisance_models"], *found.values()]
    return {
        "rows": rows,
        "threads": threads,
        "cpu_s": _sum(counted, "cpu_s"),
        "wall_s": _sum(counted, "wall_s"),
        "peak_mb": max((row.get("process_peak_mb", 0.0) for row in counted), default=0.0),
        "seed": seed,
        "repeats": repeats,
        "imports": {"cpu_s": hello["import_cpu_s"], "resident_mb": hello["import_mb"]},
        "first_cpu_s": _sum(counted, "first_cpu_s"),
        "cold_cpu_s": cold_s,
        "shared": shared,
        "estimators": found,
        "peers": compare_with_peers(names, rows, rounds, threads=threads, timeout=timeout, seed=seed) if peers else {},
        "environment": _environment(hello),
    }


def compare_with_peers(
    names: Sequence[str], rows: int, rounds: int, *, threads: int, timeout: float, seed: int
) -> dict[str, Any]:
    """Measure ours and each peer in turn, in processes that are started anew every round.

    A ratio of median CPU seconds is given only where estimand and definition are the same and both sides answered.
    """
    chosen = [peer for peer in PEERS.values() if peer.estimator in names]
    held: dict[str, dict[str, list[dict[str, Any]]]] = {peer.key: {"ours": [], "peer": []} for peer in chosen}
    for turn in range(rounds):
        sides = ("ours", "peer") if turn % 2 == 0 else ("peer", "ours")
        with Worker(threads, timeout) as ours, Worker(threads, timeout) as theirs:
            workers = {"ours": ours, "peer": theirs}
            for peer in chosen:
                for side in sides:
                    rows_of = held[peer.key][side]
                    if rows_of and rows_of[-1]["status"] in ("not_installed", "timed_out", "died"):
                        continue  # it would be the same again
                    rows_of.append(_measure(peer, side, workers[side], {"rows": rows, "seed": seed}))
    compared = [_compared(peer, held[peer.key]) for peer in chosen]
    together = [row for row in compared if row["ratio"] is not None]
    ours_s, peers_s = (sum(row[side]["cpu_s"] for row in together) for side in ("ours", "peer"))
    return {
        "rows": compared,
        "rounds": rounds,
        "compared": len(together),
        "ours_cpu_s": ours_s,
        "peers_cpu_s": peers_s,
        "ratio": peers_s / ours_s if ours_s > 0 else None,
        "without": sorted(set(names) - {peer.estimator for peer in chosen}),
    }


def _measure(peer: Peer, side: str, worker: Worker, details: Mapping[str, Any]) -> dict[str, Any]:
    if side == "peer" and (missing := peer.missing()) is not None:
        return {"status": "not_installed", "detail": missing}
    return worker.ask(side, name=peer.key, repeats=1, **details)


def _compared(peer: Peer, held: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    sides = {side: _median(rows) for side, rows in held.items()}
    same = not peer.differs and all(row["status"] == "ok" for row in sides.values())
    ratio = sides["peer"]["cpu_s"] / sides["ours"]["cpu_s"] if same and sides["ours"]["cpu_s"] > 0 else None
    return {
        "estimator": peer.estimator,
        "library": peer.library,
        "version": peer.version,
        "call": f"{peer.library} {peer.call}",
        "params": dict(peer.params),
        "design": peer.design,
        "differs": peer.differs,
        "ratio": ratio,
        **sides,
    }


def _median(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row for several rounds: the first that is not an answer, else the medians with the range."""
    broken = next((row for row in rows if row["status"] != "ok"), None)
    if broken is not None:
        return dict(broken)
    cpu = [row["cpu_s"] for row in rows]
    middle = {name: median(row[name] for row in rows) for name in ("cpu_s", "wall_s", "first_cpu_s")}
    peak = max(row["peak_mb"] for row in rows)
    return {**rows[0], **middle, "peak_mb": peak, "cpu_range_s": [min(cpu), max(cpu)], "repeats": len(rows)}


def _first_calls(names: Sequence[str], worker: Worker, details: Mapping[str, Any]) -> float:
    """CPU seconds of every estimator's first call with an empty cache of kernels, which this fills."""
    with worker:
        rows = [worker.ask("first_call", name=name, **details) for name in ("", *names)]
    return _sum(rows, "first_cpu_s")


def _sum(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(row.get(name) or 0.0 for row in rows))


def _environment(hello: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {library: _version(library) for library in _LIBRARIES},
        "memory": hello["memory"],
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m cqox_assets.benchmark", description=__doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000, help="rows of every study")
    parser.add_argument("--peers", action="store_true", help="also measure the libraries a user would pick")
    parser.add_argument("--json", type=Path, default=None, help="file that the figures are written to")
    parser.add_argument("--out", type=Path, default=None, help="markdown page of all sizes, with a JSON file beside it")
    parser.add_argument("--only", nargs="*", default=(), help="estimators; all by default")
    parser.add_argument("--threads", type=int, default=None, help="1 below 20,000 rows, else all CPUs, by default")
    parser.add_argument("--repeats", type=int, default=None, help="warm calls; the median counts")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="fresh processes per side with --peers")
    parser.add_argument("--timeout", type=float, default=_TIMEOUT, help="seconds that one measurement may take")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--no-cold", action="store_true", help="leave out first calls with an empty kernel cache")
    chosen = parser.parse_args(arguments)
    content = run_benchmark(
        chosen.rows, threads=chosen.threads, repeats=chosen.repeats, only=chosen.only, peers=chosen.peers,
        rounds=chosen.rounds, cold=not chosen.no_cold, timeout=chosen.timeout, seed=chosen.seed,
    )  # fmt: skip
    print(text_report(content))
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(to_text(content) + "\n", encoding="utf-8")
    if chosen.out is not None:
        add(content, chosen.out)


if __name__ == "__main__":
    main()
