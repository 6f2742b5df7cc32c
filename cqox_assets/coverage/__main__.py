"""The command `python -m cqox_assets.coverage`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cqox_assets.coverage.claims import claimed, measure
from cqox_assets.coverage.report import markdown, page_of, read_page, updated, write_page
from cqox_assets.coverage.runs import Journal, run_blocks
from cqox_assets.coverage.simulation import blocks

_BROKEN_DRAWS = 200


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, write or print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m cqox_assets.coverage", description="bias, coverage and size of every estimator by simulation"
    )
    parser.add_argument("--draws", type=int, default=1000, help="studies per design where assumptions hold")
    parser.add_argument("--broken-draws", type=int, default=_BROKEN_DRAWS, help="studies where they fail")
    parser.add_argument("--rows", type=int, default=None, help="rows of a study; by default what each entry claims")
    parser.add_argument("--only", nargs="*", default=(), help="estimators; all by default")
    parser.add_argument("--designs", nargs="*", default=(), help="designs; all that are claimed by default")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=None, help="markdown page, with a JSON file beside it")
    options = parser.parse_args(arguments)
    unfinished = options.out.with_suffix(".partial.jsonl") if options.out else None
    journal = Journal(unfinished)
    claims = claimed(options.only, options.designs, options.rows)
    held = measure(claims, options.draws, journal, options.workers, _tell)
    wrong = claimed(options.only, options.designs, options.rows, broken=True)
    broken = run_blocks(blocks(wrong, 0, options.broken_draws), journal, options.workers, _tell)
    page = page_of(held, broken)
    if options.out is None or unfinished is None:
        print(markdown(page))
        return
    write_page(updated(read_page(options.out.with_suffix(".json")), page), options.out)
    unfinished.unlink(missing_ok=True)
    print(f"{sum(row['held'] for row in page['coverage'])} of {len(page['coverage'])} cases hold: {options.out}")


if __name__ == "__main__":
    main()
