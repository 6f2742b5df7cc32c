"""Write the tables of docs/catalogue.md from the catalogue: ``python tools/write_docs.py [--check]``."""

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from cqox_assets.catalog import load_estimators, load_figures, load_sensitivities
from cqox_assets.measures import MEASURES
from cqox_assets.spec import CommonParams

PAGE = Path(__file__).resolve().parent.parent / "docs" / "catalogue.md"


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """Return a markdown table as lines; a pipe in a cell is escaped."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |")
    return [*lines, ""]


def words(items: Iterable[Any]) -> str:
    """Return the items as one phrase."""
    return ", ".join(str(item) for item in items)


def parameters(kind: type[CommonParams]) -> list[tuple[str, str, str]]:
    """Return name, type and default of each parameter that the class adds to or changes in the common ones."""
    common = {item.name: item.default for item in fields(CommonParams)}
    found = []
    for item in fields(kind):
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        if kind is CommonParams or common.get(item.name, MISSING) != default:
            # A class has its bare name in a table; a Literal or a union prints itself.
            kind_name = (
                item.type.__name__
                if isinstance(item.type, type)
                else str(item.type).replace("typing.", "").replace("collections.abc.", "")
            )
            found.append((item.name, f"`{kind_name}`", f"`{default!r}`"))
    return found


def render() -> str:
    """Return the whole page."""
    estimators = load_estimators()
    lines = ["# Catalogue", "", "Written by `make docs` from the catalogue; change the entry, not this page.", ""]
    lines += ["## Estimators", ""]
    lines += table(
        ("name", "title", "also known as", "estimands", "required roles", "gates", "references"),
        (
            (f"`{item.name}`", item.title, words(item.aliases), words(item.estimands), words(sorted(item.requires)),
             words(item.diagnostics), words(item.references))
            for item in estimators.values()
        ),
    )  # fmt: skip
    lines += ["## Sensitivity questions", ""]
    lines += table(
        ("name", "question", "reference"),
        ((f"`{item.name}`", item.question, item.reference) for item in load_sensitivities().values()),
    )
    lines += ["## Figures", ""]
    lines += table(
        ("name", "question", "needs", "reference"),
        ((f"`{item.name}`", item.question, words(item.needs), item.reference) for item in load_figures().values()),
    )
    lines += ["## Gates and measures", ""]
    lines += table(
        ("name", "definition", "passes if", "severity", "reference"),
        (
            (f"`{item.name}`", item.definition, _passes(item), item.severity, item.reference)
            for item in MEASURES.values()
        ),
    )
    lines += ["## Parameters", "", "Of every estimator:", ""]
    lines += table(("name", "type", "default"), parameters(CommonParams))
    for item in estimators.values():
        own = parameters(item.params) if item.params is not CommonParams else []
        if own:
            lines += [f"`{item.name}` adds or changes:", "", *table(("name", "type", "default"), own)]
    return "\n".join(lines).rstrip() + "\n"


def _passes(item: Any) -> str:
    return f"{item.direction} {item.limit:g}" if math.isfinite(item.limit) else "reported only"


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    parser = argparse.ArgumentParser(prog="python tools/write_docs.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    check, page = parser.parse_args().check, render()
    if check:
        fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page
        print("docs/catalogue.md is up to date" if fresh else "docs/catalogue.md is out of date; run make docs")
        return 0 if fresh else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
