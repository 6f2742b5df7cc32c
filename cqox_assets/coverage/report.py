"""The numbers of the coverage table as JSON, and the page that people read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cqox_assets.catalog import load_estimators
from cqox_assets.coverage.claims import CONFIRM, alarms, misses, performances
from cqox_assets.coverage.runs import Records
from cqox_assets.result import to_text
from cqox_assets.spec import EstimatorSpec

_HEAD = (
    "| estimator | design | effect | n | draws | truth | bias | bias / SD | RMSE | SD | mean SE | coverage "
    "| length | size | s per fit | claim | held | date | version |"
)
_BROKEN_HEAD = "| estimator | broken design | n | draws | what warned, in what share | bias / SD | coverage | noticed |"

Page = dict[str, list[dict[str, Any]]]


def page_of(held: Records, broken: Records) -> Page:
    """Return the rows of both tables as plain values, each with date, release and the entry's version."""
    specs = load_estimators()
    facts = {"date": datetime.now(UTC).date().isoformat(), "release": _release()}
    coverage = []
    for found in performances(held):
        spec = specs[found.estimator]
        wrong = misses(found, spec)
        coverage.append(
            {**asdict(found), "claim": spec.interval_claim, "held": not wrong, "missed": wrong,
             "version": spec.version, **facts}
        )  # fmt: skip
    warned = [{**asdict(item), "held": item.held, **facts} for item in alarms(broken)]
    return {"coverage": coverage, "breaks": warned}


def updated(old: Mapping[str, Sequence[Mapping[str, Any]]], new: Page) -> Page:
    """Return the rows of `old`, where `new` has none of that estimator and design; entries that are gone are left out.

    The rows are in the order of the catalogue.
    """
    known = {name: k for k, name in enumerate(load_estimators())}
    found: Page = {}
    for part, rows in new.items():
        fresh = {(row["estimator"], row["design"]) for row in rows}
        kept = [dict(row) for row in old.get(part, ()) if (row["estimator"], row["design"]) not in fresh]
        found[part] = sorted(
            (row for row in [*kept, *rows] if row["estimator"] in known), key=lambda row: known[row["estimator"]]
        )
    return found


def read_page(path: Path) -> Page:
    """Return the rows of a JSON file that `write_page` wrote; none if it is not there."""
    if not path.is_file():
        return {"coverage": [], "breaks": []}
    content: Page = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_page(page: Page, out: Path) -> None:
    """Write the markdown page, and the same rows beside it as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(to_text(page) + "\n", encoding="utf-8")
    out.write_text(markdown(page), encoding="utf-8")


def markdown(page: Page) -> str:
    """Return the page."""
    specs = load_estimators()
    rows = page["coverage"]
    lines = [
        "# Coverage of the intervals",
        "",
        "Made by `python -m cqox_assets.coverage --out docs/coverage.md`. Intervals are 95% by default parameters;",
        "size is the share of tests that reject at 5% where there is no effect; bias is also in standard deviations",
        "of the estimates (SD). Seconds are CPU seconds per fit without the nuisance models, which estimators share.",
        "Designs are the functions of `cqox_assets/simulate/`. With D draws a coverage of 95% is known to within",
        f"+-1.96 sqrt(0.0475 / D), 1.4 points at 1,000. A case that misses its claim is drawn {CONFIRM} times as often",
        "before it is judged.",
        "",
        "`nominal` claims a bias below 0.1 SD (plus twice the noise of the simulation), coverage of 93 to 97% and a",
        "size of 3.5 to 6.5%; `conservative` coverage of at least 93%. What other claims are held to:",
        "",
        *[_claim(spec) for spec in specs.values() if spec.claim_note],
        "",
        *_same_headlines(specs.values()),
        f"{sum(row['held'] for row in rows)} of {len(rows)} cases hold their claim.",
        "",
        _HEAD,
        "|" + "---|" * (_HEAD.count("|") - 1),
        *[_row(row) for row in rows],
        "",
        *[f"- `{row['estimator']}`, {row['design']}, {row['effect']}: {'; '.join(row['missed'])}"
          for row in rows if row["missed"]],
        "",
        "## Where assumptions fail",
        "",
        "Noticed: a diagnostic that the entry declares warned, or the study was refused, in at least 80% of the draws.",
        "Bias and coverage are what a reader gets who ignores it.",
        "",
        _BROKEN_HEAD,
        "|" + "---|" * (_BROKEN_HEAD.count("|") - 1),
        *[_broken_row(row) for row in page["breaks"]],
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _same_headlines(specs: Iterable[EstimatorSpec]) -> list[str]:
    """Say whose rows are another's, because they report the same headline to the last digit."""
    named = [f"that of `{spec.name}` is the one of `{spec.headline_of}`" for spec in specs if spec.headline_of]
    return [f"Headlines that are another's to the last digit have its rows: {', '.join(named)}.", ""] if named else []


def _claim(spec: EstimatorSpec) -> str:
    least, most = spec.coverage_limits
    limits = f"bias below {spec.claim_bias:g} SD, coverage {least:.0%} to {most:.0%}"
    for design, (bias, lower) in spec.claim_designs.items():
        limits += f"; {design}: bias below {bias:g} SD, coverage at least {lower:.0%}"
    return f"- `{spec.name}` ({spec.interval_claim}; {limits}): {spec.claim_note}"


def _row(row: Mapping[str, Any]) -> str:
    cells = (
        f"`{row['estimator']}`", row["design"], row["effect"], row["n"], row["answered"], f"{row['truth']:.3f}",
        f"{row['bias']:+.4f}", _number(row["bias"] / row["spread"] if row["spread"] else None, "+.2f"),
        f"{row['rmse']:.4f}", _number(row["spread"], ".4f"), _number(row["mean_std_error"], ".4f"),
        f"{row['coverage']:.3f}", _number(row["length"], ".3f"), _number(row["size"], ".3f"), f"{row['seconds']:.3f}",
        row["claim"], "yes" if row["held"] else "**no**", row["date"], f"{row['release']}/{row['version']}",
    )  # fmt: skip
    return _line(cells)


def _broken_row(row: Mapping[str, Any]) -> str:
    shares = [f"{name} {share:.0%}" for name, share in row["warned"].items()]
    shares += [f"refused ({code}) {share:.0%}" for code, share in row["refused"].items()]
    return _line(
        (f"`{row['estimator']}`", row["design"], row["n"], row["draws"], ", ".join(shares) or "nothing",
         _number(row["bias"], "+.2f"), _number(row["coverage"], ".3f"), "yes" if row["held"] else "**no**")
    )  # fmt: skip


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _release() -> str:
    try:
        return version("cqox")
    except PackageNotFoundError:
        return "source tree"
