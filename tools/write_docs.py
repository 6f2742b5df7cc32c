"""Write the pages in docs/ and the tables of README from the catalogues: ``python tools/write_docs.py [--check]``."""

import argparse
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from cqox_assets.catalog import load_estimators, load_figures, load_sensitivities
from cqox_assets.decisions.rule import decide
from cqox_assets.decisions.schema import SCHEMA
from cqox_assets.measures import MEASURES
from cqox_assets.spec import CommonParams
from cqox_assets.synthesis import counterfactual, policy
from cqox_assets.synthesis.critique import RULES
from cqox_assets.synthesis.effect_summary import FORMULA
from cqox_assets.synthesis.quality_score import FORMULAS
from cqox_assets.synthesis.remedies import MOST_ROUNDS, REMEDIES

sys.path.insert(0, str(Path(__file__).resolve().parent))
from estimator_pages import page

ROOT = Path(__file__).resolve().parent.parent
_ENTRY = re.compile(r"^    (\w+) : [^\n]*\n((?:        [^\n]*\n?)+)", re.MULTILINE)


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


def meanings(kind: type) -> dict[str, str]:
    """Return what the docstrings of a parameter class and its bases say of each parameter."""
    found = {}
    for cls in reversed(kind.__mro__):
        for name, text in _ENTRY.findall(f"{cls.__doc__ or ''}\n"):
            found[name] = " ".join(text.split())
    return found


def parameters(kind: type[CommonParams]) -> list[tuple[str, str, str, str]]:
    """Return name, type, default and meaning of each parameter that the class adds to or changes in the common ones."""
    said = meanings(kind)
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
            found.append((item.name, f"`{kind_name}`", f"`{default!r}`", said.get(item.name, "")))
    return found


def render() -> str:
    """Return the whole page."""
    estimators = load_estimators()
    lines = ["# Catalogue", "", "Written by `make docs` from the catalogue; change the entry, not this page.", ""]
    lines += ["## Estimators", ""]
    lines += table(
        ("name", "title", "also known as", "estimands", "required roles", "gates", "references"),
        (
            (f"[`{item.name}`](estimators/{item.name}.md)", item.title, words(item.aliases), words(item.estimands),
             words(sorted(item.requires)), words(item.diagnostics), words(item.references))
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
    lines += table(("name", "type", "default", "meaning"), parameters(CommonParams))
    for item in estimators.values():
        own = parameters(item.params) if item.params is not CommonParams else []
        if own:
            lines += [f"`{item.name}` adds or changes:", "", *table(("name", "type", "default", "meaning"), own)]
    return "\n".join(lines).rstrip() + "\n"


def decision_page() -> str:
    """Return the page that says by which formulas a decision is made; the card holds them too."""
    notes = (decide.__doc__ or "").partition("-----")[2]
    asked = load_sensitivities().values()
    lines = [
        "# How a decision is made",
        "",
        "Written by `make docs` from the code; change the code, not this page.",
        "",
    ]
    lines += ["## The rule", "", " ".join(notes.split()), ""]
    lines += ["## Consensus of the estimators", "", f"{FORMULA}.", ""]
    lines += ["## Quality score", ""]
    lines += table(("axis or part", "computed as"), ((f"`{name}`", text) for name, text in FORMULAS.items()))
    lines += ["## Review", "", RULES, "", f"Remedies, fixed beforehand, at most {MOST_ROUNDS} in turn:", ""]
    lines += table(
        ("remedy", "what it does", "answers to"),
        ((f"`{item.name}`", item.title, words(sorted(item.answers))) for item in REMEDIES),
    )
    lines += ["## Sensitivity", "", "CPU seconds are those that a question may take for all estimates together.", ""]
    lines += table(
        ("question", "where it passes", "where it does not", "estimates", "CPU s"),
        (
            (f"`{item.name}`", item.holds, item.breaks, item.most or "all", item.budget_seconds or "no limit")
            for item in asked
        ),
    )
    lines += ["## Counterfactual systems", "", f"{counterfactual.METHOD}.", ""]
    lines += ["## Policy and money", "", f"{policy.METHOD}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def short_tables() -> dict[str, list[str]]:
    """Return the tables that README shows, by the name of their place."""
    rows = [
        (f"[`{item.name}`](docs/estimators/{item.name}.md)", item.title, words(item.estimands), words(item.diagnostics))
        for item in load_estimators().values()
    ]
    return {
        "estimators": table(("estimator", "what it is", "estimands", "gates"), rows),
        "sensitivities": table(
            ("question", "what it asks"), ((f"`{item.name}`", item.question) for item in load_sensitivities().values())
        ),
        "figures": table(
            ("figure", "the question it answers"),
            ((f"`{item.name}`", item.question) for item in load_figures().values()),
        ),
        "measures": table(
            ("measure", "definition", "passes if", "severity"),
            ((f"`{item.name}`", item.definition, _passes(item), item.severity) for item in MEASURES.values()),
        ),
    }


def fill(text: str) -> str:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->` by the table of that name."""
    for name, lines in short_tables().items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"README.md has no place {start} ... {end}")
        body = "\n".join(lines).rstrip()
        text = f"{before}{start}\n\n{body}\n\n{end}{after}"
    return text


def pages() -> dict[Path, str]:
    """Return every generated page with its text."""
    readme, folder = ROOT / "README.md", ROOT / "docs" / "estimators"
    found = {ROOT / "docs" / "catalogue.md": render(), readme: fill(readme.read_text(encoding="utf-8"))}
    found[ROOT / "docs" / "decisions.md"] = decision_page()
    found[ROOT / "docs" / SCHEMA.name] = SCHEMA.read_text(encoding="utf-8")
    for name, item in load_estimators().items():
        own = parameters(item.params) if item.params is not CommonParams else []
        found[folder / f"{name}.md"] = page(item, own, table)
    return found


def _passes(item: Any) -> str:
    return f"{item.direction} {item.limit:g}" if math.isfinite(item.limit) else "reported only"


def main() -> int:
    """Write the pages, or with --check say which are out of date."""
    parser = argparse.ArgumentParser(prog="python tools/write_docs.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    check = parser.parse_args().check
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    names = words(path.relative_to(ROOT) for path in stale)
    if not stale:
        print("every generated page is up to date")
        return 0
    if check:
        print(f"out of date: {names}; run make docs")
        return 1
    for path in stale:
        text = pages()[path]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"written: {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
