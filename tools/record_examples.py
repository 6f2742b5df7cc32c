"""Run the example of every estimator and record its answer in docs/evidence/examples.json."""

import json
import sys
from pathlib import Path
from typing import Any

import cqox_assets as cqox
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import EstimatorSpec

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "evidence" / "examples.json"


def answer(spec: EstimatorSpec) -> EffectEstimate:
    """Run one example.

    Raises
    ------
    SystemExit
        If the entry has no example, or it is refused.
    """
    example = spec.example
    if example is None:
        raise SystemExit(f"{spec.name} has no example")
    frame = cqox.read_table(ROOT / example.data).frame
    tables = {"edges": cqox.read_table(ROOT / example.edges).frame} if example.edges else None
    found = cqox.estimate(spec.name, frame, example.roles, tables=tables, **example.params)
    if not isinstance(found, EffectEstimate):
        raise SystemExit(f"the example of {spec.name} is refused: {found.reason}; {found.remedy}")
    return found


def record(found: EffectEstimate) -> dict[str, Any]:
    """Return what the entry's page says of an answer; the number itself for the test that it still holds."""
    head = found.headline
    words = f"{head.estimand} of {head.contrast}: {head.estimate:.4g}"
    if head.interval is not None:
        words += f" ({head.interval.level:.0%} interval {head.interval.low:.4g} to {head.interval.high:.4g})"
    return {
        "effect": words,
        "estimate": float(f"{head.estimate:.6g}"),
        "inference": found.inference[:1].upper() + found.inference[1:],
        "rows": found.sample.used,
        "diagnostics": [f"{item.status}: `{item.name}` {_number(item.value)}" for item in found.diagnostics],
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"is {value:.3g}" if abs(value) < 1e300 else "is beyond all bounds"


def main() -> int:
    """Record all examples, or those named on the command line."""
    chosen = set(sys.argv[1:])
    kept = json.loads(TARGET.read_text(encoding="utf-8")) if chosen and TARGET.is_file() else {}
    for name, spec in cqox.estimators().items():
        if not chosen or name in chosen:
            kept[name] = record(answer(spec))
            print(f"{name}: {kept[name]['effect']}", flush=True)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: kept[name] for name in sorted(kept)}, ensure_ascii=False, indent=1) + "\n"
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
