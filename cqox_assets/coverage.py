"""How honest intervals are: bias, coverage and size of every estimator on the designs that it claims.

`python -m cqox_assets.coverage --draws 1000 --out docs/coverage.md` writes the table.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from cqox_assets.catalog import load_estimators
from cqox_assets.result import EffectEstimate
from cqox_assets.runner import run_estimator
from cqox_assets.simulate.designs import DESIGNS
from cqox_assets.spec import EstimatorSpec, build_params

_SEED = 20_240_117
_LEVEL = 0.95


@dataclass(frozen=True)
class Case:
    """One estimator and estimand on one design.

    `null` marks a design without effect, where the share of rejections is the size of the test.
    """

    spec: EstimatorSpec
    design: str
    estimand: str

    @property
    def null(self) -> bool:
        """Whether the design has no effect."""
        return self.design.startswith("null_") and DESIGNS[self.design](10, 0)[1][self.estimand] == 0

    @property
    def label(self) -> str:
        """Name for tables and tests."""
        return f"{self.spec.name}-{self.design}-{self.estimand}"


@dataclass(frozen=True)
class Performance:
    """What the draws of one case show.

    Parameters
    ----------
    case : Case
    n, draws, answered : int
        Rows per draw, draws, and draws that were not refused.
    truth : float
    bias, rmse, spread, length : float
        Mean error, its root mean square, standard deviation of the estimates, mean length of the intervals.
    mean_std_error : float
    coverage : float
        Share of 95% intervals that contain the truth.
    size : float or None
        Share of draws whose p-value is below 0.05 although there is no effect.
    seconds : float
        CPU seconds per fit, nuisance models included.
    """

    case: Case
    n: int
    draws: int
    answered: int
    truth: float
    bias: float
    rmse: float
    spread: float
    mean_std_error: float
    coverage: float
    length: float
    size: float | None
    seconds: float


def cases(names: Sequence[str] = (), designs: Sequence[str] = ()) -> Iterator[Case]:
    """Yield every estimator on every design among its `truths`, by estimand, and on a design without effect.

    Where nothing is confounded by claim, the design without effect is the trial; else it is confounded, too.
    """
    for name, spec in load_estimators().items():
        if names and name not in names:
            continue
        claimed = [design for design in spec.truths if design in DESIGNS]
        if not any(design.startswith("null_") for design in claimed):
            claimed.append("null_effect" if "confounded_linear" in claimed else "null_trial")
        for design in claimed:
            if designs and design not in designs:
                continue
            known = DESIGNS[design](10, 0)[1]
            for estimand in spec.estimands:
                if estimand in known:
                    yield Case(spec, design, str(estimand))


def measure(case: Case, n: int, draws: int, seed: int = _SEED) -> Performance:
    """Run one case on `draws` simulated studies of `n` rows."""
    params = build_params(case.spec.params, {"estimand": case.estimand})
    rows, seconds, truth = [], 0.0, math.nan
    for draw in range(draws):
        study, known = DESIGNS[case.design](n, seed + draw)
        truth = known[case.estimand]
        started = time.process_time()
        answer = run_estimator(case.spec, study, params)
        seconds += time.process_time() - started
        if not isinstance(answer, EffectEstimate) or answer.interval is None or answer.p_value is None:
            continue
        interval = answer.interval
        rows.append(
            (answer.estimate, answer.std_error or math.nan, interval.low, interval.high, answer.p_value < 1 - _LEVEL)
        )
    if not rows:
        raise RuntimeError(f"{case.label}: no draw was answered")
    estimate, std_error, low, high, rejected = np.array(rows, dtype=float).T
    return Performance(
        case=case,
        n=n,
        draws=draws,
        answered=len(rows),
        truth=truth,
        bias=float(estimate.mean() - truth),
        rmse=float(np.sqrt(np.mean((estimate - truth) ** 2))),
        spread=float(estimate.std(ddof=1)) if len(rows) > 1 else math.nan,
        mean_std_error=float(std_error.mean()),
        coverage=float(np.mean((low <= truth) & (truth <= high))),
        length=float(np.mean(high - low)),
        size=float(rejected.mean()) if case.null else None,
        seconds=seconds / draws,
    )


def table(results: Sequence[Performance]) -> str:
    """Return a markdown page of the results."""
    try:
        release = version("cqox")
    except PackageNotFoundError:
        release = "source tree"
    today = datetime.now(UTC).date().isoformat()
    lines = [
        "# Coverage of the intervals",
        "",
        f"Made by `python -m cqox_assets.coverage` on {today}, version {release}. Intervals are 95%; size is",
        "the share of tests that reject at 5% where there is no effect. Designs are those of",
        "`cqox_assets/simulate/designs.py`. With D draws a coverage of 95% is known to within",
        "+-1.96 sqrt(0.0475 / D): 3 points at 200 draws, 1.4 points at 1,000.",
        "",
        "| estimator | design | estimand | n | draws | truth | bias | RMSE | SD | mean SE | coverage | length | size "
        "| CPU s per fit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for item in results:
        size = "" if item.size is None else f"{item.size:.3f}"
        lines.append(
            f"| `{item.case.spec.name}` | {item.case.design} | {item.case.estimand} | {item.n} | {item.answered} "
            f"| {item.truth:.3f} | {item.bias:+.4f} | {item.rmse:.4f} | {item.spread:.4f} | {item.mean_std_error:.4f} "
            f"| {item.coverage:.3f} | {item.length:.3f} | {size} | {item.seconds:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, write the table."""
    parser = argparse.ArgumentParser(description="bias, coverage and size by simulation")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--only", nargs="*", default=(), help="estimators; all by default")
    parser.add_argument("--designs", nargs="*", default=(), help="designs; all that are claimed by default")
    parser.add_argument("--out", type=Path, default=None, help="markdown file; printed when absent")
    options = parser.parse_args(arguments)
    results = []
    for case in cases(options.only, options.designs):
        results.append(measure(case, options.n, options.draws, options.seed))
        print(table(results).splitlines()[-1], flush=True)
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(table(results), encoding="utf-8")
    if options.out is None:
        print(table(results))


if __name__ == "__main__":
    main()
