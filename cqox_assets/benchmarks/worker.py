"""The process in which things are measured: reads one task per line, answers with one line of JSON each.

`python -m cqox_assets.benchmarks.worker` is started by the benchmark; what libraries print goes to standard error.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, TypeVar

from cqox_assets.benchmarks.cases import COMMON, against, design_for, truth_of
from cqox_assets.benchmarks.meter import Cost, cpu_seconds, largest_mb, measured, memory_method, resident_mb
from cqox_assets.benchmarks.peers import PEERS, finite
from cqox_assets.catalog import load_estimators
from cqox_assets.nuisance.shared import shared_nuisance
from cqox_assets.result import EffectEstimate, Nuisance, Outcome, Refusal
from cqox_assets.runner import run_guarded, runner_for
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import Context
from cqox_assets.study import Study

WARM_UP_ROWS = 1000
Task = Mapping[str, Any]
Row = dict[str, Any]
Known = tuple[Study, Mapping[str, float]]
T = TypeVar("T")


class Bench:
    """Runs tasks; keeps the common study and its nuisance models, and the study before it no longer than needed."""

    def __init__(self) -> None:
        self._studies: dict[tuple[str, int, int], Known] = {}
        self._nuisance: Nuisance | None = None
        self._of: tuple[int, int] | None = None
        self.largest_mb = 0.0

    def study(self, design: str, rows: int, seed: int) -> Known:
        """Return a simulated study and its truth."""
        return self._held((design, rows, seed), lambda: DESIGNS[design](rows, seed))

    def _held(self, key: tuple[str, int, int], make: Callable[[], Known]) -> Known:
        """Make a study unless it is there; its fingerprint is taken here, as the estimators of one study share it."""
        if key not in self._studies:
            for old in [held for held in self._studies if held[0] != COMMON or key[0] == COMMON]:
                del self._studies[old]
            made = make()
            _ = made[0].fingerprint
            self._studies[key] = made
        return self._studies[key]

    def estimator(self, task: Task) -> Row:
        """Measure one estimator: a first call on few rows, then `repeats` calls on all of them."""
        spec = load_estimators()[task["name"]]
        design, rows, seed = design_for(spec), task["rows"], task["seed"]
        if design is None:
            return {"status": "no_design", "detail": "it declares no simulated design with an effect"}
        with measured() as first:
            run_guarded(spec, DESIGNS[design](min(rows, WARM_UP_ROWS), seed + 1)[0], {}, runner_for())
        study, truth = self.study(design, rows, seed)
        shares = spec.shares_nuisance and design == COMMON
        context = runner_for(Context(nuisance=self.nuisance(rows, seed) if shares else None))
        row, answer = self._repeat(lambda: run_guarded(spec, study, {}, context), task["repeats"])
        row |= {"design": design, "rows": len(study), "first_cpu_s": first.cpu_s, **_said(answer, truth)}
        if shares and task["repeats"] and row["status"] == "ok":
            alone, _ = self._repeat(lambda: run_guarded(spec, study, {}, runner_for()), 1)
            row["standalone_cpu_s"] = alone["cpu_s"]
        return row

    def first_call(self, task: Task) -> Row:
        """Measure the first call of an estimator, or of the nuisance models, on few rows."""
        rows, seed = min(task["rows"], WARM_UP_ROWS), task["seed"] + 1
        spec = load_estimators().get(task.get("name", ""))
        design = COMMON if spec is None else design_for(spec)
        if design is None:
            return {"status": "no_design", "detail": "it declares no simulated design with an effect"}
        study, _ = DESIGNS[design](rows, seed)
        with measured() as first:
            shared_nuisance(study) if spec is None else run_guarded(spec, study, {}, runner_for())
        return {"status": "ok", "first_cpu_s": first.cpu_s}

    def nuisance_models(self, task: Task) -> Row:
        """Measure the shared nuisance models of the common study."""
        rows, seed = task["rows"], task["seed"]
        small, _ = DESIGNS[COMMON](min(rows, WARM_UP_ROWS), seed + 1)
        with measured() as first:
            shared_nuisance(small)
        study, _ = self.study(COMMON, rows, seed)
        row, held = self._repeat(lambda: shared_nuisance(study), task["repeats"])
        if isinstance(held, Nuisance):
            self._nuisance, self._of = held, (rows, seed)
        said = {"status": "ok"} if isinstance(held, Nuisance) else _said(held, {})
        return {**row, "design": COMMON, "rows": len(study), "first_cpu_s": first.cpu_s, **said}

    def nuisance(self, rows: int, seed: int) -> Nuisance | None:
        """Return the shared models, fitted again in a process that was started anew."""
        if self._of != (rows, seed):
            held = shared_nuisance(self.study(COMMON, rows, seed)[0])
            self._nuisance, self._of = (held if isinstance(held, Nuisance) else None), (rows, seed)
        return self._nuisance

    def prepare(self, task: Task) -> Row:
        """Measure how the common study's table becomes a study."""
        from cqox_assets.mapping.prepare import prepare

        study, _ = DESIGNS[COMMON](task["rows"], task["seed"])
        roles = {str(role): list(names) for role, names in study.roles.items()}
        prepare(study.frame.head(min(task["rows"], WARM_UP_ROWS)), roles)
        row, _ = self._repeat(lambda: prepare(study.frame, roles).fingerprint, task["repeats"])
        return {**row, "status": "ok", "design": COMMON, "rows": len(study)}

    def ours(self, task: Task) -> Row:
        """Measure our estimator as one peer's definition asks for it, its own nuisance models included."""
        peer = PEERS[task["name"]]
        spec, rows, seed = load_estimators()[peer.estimator], task["rows"], task["seed"]
        with measured() as first:
            run_guarded(spec, peer.study(min(rows, WARM_UP_ROWS), seed + 1)[0], peer.params, runner_for())
        study, truth = self._held((peer.key, rows, seed), lambda: peer.study(rows, seed))
        row, answer = self._repeat(lambda: run_guarded(spec, study, peer.params, runner_for()), task["repeats"])
        return {**row, "rows": len(study), "first_cpu_s": first.cpu_s, **_said(answer, truth)}

    def peer(self, task: Task) -> Row:
        """Measure a peer on the very study that ours is measured on."""
        peer = PEERS[task["name"]]
        rows, seed = task["rows"], task["seed"]
        with measured() as first:
            peer.fit(peer.study(min(rows, WARM_UP_ROWS), seed + 1)[0])
        study, truth = self._held((peer.key, rows, seed), lambda: peer.study(rows, seed))
        row, found = self._repeat(lambda: finite(peer.fit(study)), task["repeats"])
        return {**row, "status": "ok", "rows": len(study), "first_cpu_s": first.cpu_s, "estimand": peer.estimand,
                **against(*found, truth.get(peer.estimand))}  # fmt: skip

    def _repeat(self, call: Callable[[], T], repeats: int) -> tuple[Row, T]:
        costs: list[Cost] = []
        for _ in range(repeats):
            with measured() as cost:
                answer = call()
            self.largest_mb = max(self.largest_mb, largest_mb())
            costs.append(cost)
        cpu = sorted(cost.cpu_s for cost in costs)
        row = {name: median(getattr(cost, name) for cost in costs) for name in ("cpu_s", "wall_s")}
        return {**row, "peak_mb": max(cost.peak_mb for cost in costs), "cpu_range_s": [cpu[0], cpu[-1]],
                "repeats": repeats}, answer  # fmt: skip


def _said(answer: Outcome, truth: Mapping[str, float]) -> Row:
    """Return the status of an outcome and what it says."""
    if isinstance(answer, EffectEstimate):
        known = truth_of(answer.headline, truth)
        return {"status": "ok", "estimand": str(answer.estimand), **against(answer.estimate, answer.std_error, known)}
    if isinstance(answer, Refusal):
        return {"status": "refused", "code": answer.code, "detail": f"{answer.reason}; {answer.remedy}"}
    return {"status": "failed", "detail": answer.exception, "traceback": answer.traceback}


def answer(bench: Bench, task: Task) -> Row:
    """Carry out one task; whatever it raises becomes a row that says so."""
    try:
        row: Row = getattr(bench, task["task"])(task)
    except Exception as error:  # one measurement that breaks must not end the others
        row = {"status": "failed", "detail": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return {**row, "process_peak_mb": max(bench.largest_mb, resident_mb())}


def main() -> None:
    """Serve tasks until standard input ends."""
    with os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8") as replies:
        os.dup2(2, 1)  # a library that prints must not garble the replies
        load_estimators()
        hello = {"import_cpu_s": cpu_seconds(), "import_mb": resident_mb(), "memory": memory_method()}
        replies.write(json.dumps(hello) + "\n")
        bench = Bench()
        for line in sys.stdin:
            replies.write(json.dumps(answer(bench, json.loads(line)), default=str) + "\n")


if __name__ == "__main__":
    main()
