"""Print CPU and wall time of one whole partition, by stage: ``python -m dagster_deploy.measure --rows 10000``.

The partition is a seeded study with known truth, in a home of its own that is deleted afterwards; everything runs in
this process, as the default executor does. Definitions and imports are shown apart from the stages.
"""

import argparse
import contextlib
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY = "finance|2025-01"


@dataclass
class Clock:
    """CPU and wall seconds that have passed since it was last read."""

    cpu: float = field(default_factory=time.process_time)
    wall: float = field(default_factory=time.perf_counter)

    def lap(self) -> tuple[float, float]:
        """Return (CPU, wall) seconds since the last lap."""
        cpu, wall = time.process_time(), time.perf_counter()
        passed = (cpu - self.cpu, wall - self.wall)
        self.cpu, self.wall = cpu, wall
        return passed


def write_study(home: Path, rows: int, seed: int) -> None:
    """Put a simulated study with a declared mapping into the inbox."""
    from cqox_assets.simulate.designs import DESIGNS

    study, _ = DESIGNS["confounded_smooth"](rows, seed)
    folder = home / "inbox" / KEY.replace("|", "/")
    folder.mkdir(parents=True)
    study.frame.to_csv(folder / "loans.csv", index=False)
    roles = {str(role): list(names) if len(names) > 1 else names[0] for role, names in study.roles.items()}
    (folder / "study.yaml").write_text(json.dumps({"roles": roles, "question": "Does it work?"}), "utf-8")


def run_events(job_name: str = "analyse_partition", key: str = KEY, instance: Any = None) -> Iterator[Any]:
    """Run a job for a partition and yield its events as they happen; without an instance they are kept nowhere."""
    import dagster as dg
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run_iterator

    from dagster_deploy.definitions import defs

    job = defs.resolve_job_def(job_name)
    with dg.DagsterInstance.ephemeral() if instance is None else contextlib.nullcontext(instance) as place:
        run = place.create_run_for_job(job, tags={"dagster/partition": key})
        yield from execute_run_iterator(InMemoryJob(job), run, place)


def measure(rows: int, seed: int) -> dict[str, Any]:
    """Return CPU and wall seconds by stage, and for the whole partition."""
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="cqox-measure-") as folder, contextlib.redirect_stderr(None):
        home = Path(folder)
        os.environ.update(CQOX_HOME=folder, GX_ANALYTICS_ENABLED="false", DAGSTER_DISABLE_TELEMETRY="yes")
        for name in ("CQOX_WAREHOUSE", "CQOX_REPORTS"):
            os.environ.pop(name, None)
        write_study(home, rows, seed)
        clock.lap()
        import dagster_deploy.definitions  # noqa: F401

        stages: dict[str, tuple[float, float]] = {"definitions": clock.lap()}
        failed = []
        for event in run_events():
            if event.is_step_success or event.is_step_failure:
                stage = "figures" if event.step_key.startswith("figures_") else event.step_key.partition("__")[0]
                cpu, wall = clock.lap()
                before = stages.get(stage, (0.0, 0.0))
                stages[stage] = (before[0] + cpu, before[1] + wall)
            if event.is_step_failure:
                failed.append(event.step_key)
    total = [sum(values[k] for values in stages.values()) for k in (0, 1)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": rows, "stages": stages, "cpu_s": total[0], "wall_s": total[1], "peak_mb": peak, "failed": failed}


def main() -> None:
    """Measure once and print a table."""
    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.measure", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    found = measure(options.rows, options.seed)
    print(f"{'stage':<14}{'CPU s':>9}{'wall s':>9}")
    for stage, (cpu, wall) in found["stages"].items():
        print(f"{stage:<14}{cpu:>9.2f}{wall:>9.2f}")
    print(
        f"{'whole':<14}{found['cpu_s']:>9.2f}{found['wall_s']:>9.2f}   {options.rows} rows, {found['peak_mb']:.0f} MB"
    )
    if found["failed"]:
        raise SystemExit(f"failed: {', '.join(found['failed'])}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
