"""Measure what partitions cost, plan for many of them, and write docs/capacity.md from what was measured.

``python -m dagster_deploy.production.capacity measure --postgres URL --warehouse s3://... --json F`` measures on
servers that nothing else uses; ``plan --partitions-per-day N --rows R`` prints what a demand needs; ``page`` writes
the page.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cqox_assets.errors import CqoxError

if TYPE_CHECKING:
    from dagster_deploy.production.capacity.plan import Assumptions

ROOT = Path(__file__).resolve().parents[3]
FIGURES = ROOT / "docs" / "capacity.json"
PAGE = ROOT / "docs" / "capacity.md"
BAD_SETTING = 2


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    whole = argparse.ArgumentParser(prog="python -m dagster_deploy.production.capacity", description=__doc__,
                                    formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    measure = commands.add_parser("measure", help="run partitions and write what they took")
    measure.add_argument("--postgres", required=True, help="an empty database that nothing else uses")
    measure.add_argument("--warehouse", required=True, help="a folder of an object store, such as s3://bucket/capacity")
    measure.add_argument("--json", type=Path, required=True, help="file of the figures; one that is there is added to")
    measure.add_argument("--rows", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    measure.add_argument("--runs", type=int, default=2, help="runs per size")
    measure.add_argument("--idle-seconds", type=int, default=60, help="0 leaves the daemon out")
    measure.add_argument("--domains", type=int, nargs="*", default=[10, 100, 1_000])
    measure.add_argument("--inbox", type=int, nargs="*", default=[100, 1_000, 10_000])
    plan = commands.add_parser("plan", help="print what a demand needs")
    plan.add_argument("--partitions-per-day", type=float, required=True)
    plan.add_argument("--rows", type=float, required=True, help="rows of a partition")
    plan.add_argument("--peak", type=float, default=3.0, help="busiest hour over the average one")
    plan.add_argument("--domains", type=float, help="as many as partitions a day when not given")
    plan.add_argument("--assume", action="append", default=[], metavar="NAME=VALUE", help="a price or limit of yours")
    page = commands.add_parser("page", help="write docs/capacity.md")
    page.add_argument("--out", type=Path, default=PAGE)
    for command in (plan, page):
        command.add_argument("--figures", type=Path, default=FIGURES, help="file that `measure` wrote")
    return whole


def run_measure(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Measure; what is known is written after every step, so that a run that is stopped leaves it."""
    from dagster_deploy.production.capacity import measure

    servers = measure.Servers(options.postgres, options.warehouse, environment)
    measure.prepare(servers)
    found: dict[str, Any] = {"runs": []}
    if options.json.is_file():
        found.update(json.loads(options.json.read_text("utf-8")))
    found["machine"] = measure.machine(servers)

    def _keep(**more: Any) -> None:
        found.update(more)
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")

    for rows in options.rows:
        for run in range(1, options.runs + 1):
            others = [row for row in found["runs"] if (row["rows"], row["run"]) != (rows, run)]
            _keep(
                runs=sorted(others + measure.measure_run(servers, rows, run), key=lambda row: (row["rows"], row["run"]))
            )
    if options.domains:
        _keep(domains=measure.measure_domains(servers, tuple(options.domains)))
    if options.inbox:
        _keep(inbox=measure.measure_inbox(servers, tuple(options.inbox)))
    if options.idle_seconds:
        _keep(idle=measure.measure_idle(servers, options.idle_seconds))


def assumed(pairs: Sequence[str]) -> "Assumptions":
    """Return the assumptions with some replaced.

    Raises
    ------
    CqoxError
        If one is unknown or no number.
    """
    from dagster_deploy.production.capacity.plan import Assumptions

    known, given = vars(Assumptions()), {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            if name not in known:
                raise ValueError(name)
            given[name] = float(value)
        except ValueError as error:
            raise CqoxError(f"--assume is '{pair}'; expected NAME=NUMBER with one of {', '.join(known)}") from error
    return Assumptions(**given)


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run a command; return 2 where a setting is no good."""
    options = parser().parse_args(arguments)
    if options.command == "measure":
        run_measure(options, environment or {})
        return 0
    from dagster_deploy.production.capacity.page import render, sentence
    from dagster_deploy.production.capacity.plan import Demand, Measured, plan

    if not options.figures.is_file():
        print(f"--figures is '{options.figures}', and there is no such file; `measure` writes it", file=sys.stderr)
        return BAD_SETTING
    figures = json.loads(options.figures.read_text("utf-8"))
    if options.command == "page":
        options.out.write_text(render(figures), "utf-8")
    else:
        demand = Demand(options.partitions_per_day, options.rows, options.peak, options.domains)
        try:
            print(sentence(plan(Measured.of(figures), demand, assumed(options.assume))))
        except CqoxError as error:
            print(error.message, file=sys.stderr)
            return BAD_SETTING
    return 0


if __name__ == "__main__":
    sys.exit(main())
