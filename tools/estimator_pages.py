"""One page per estimator, from its SPEC, its docstrings and the recorded evidence in docs/evidence/."""

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cqox_assets.measures import MEASURES
from cqox_assets.spec import ASSUMPTIONS, EstimatorSpec

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = ROOT / "docs" / "evidence"
REFERENCES = ROOT / "tests" / "oracle" / "references"
_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_CLAIMS = {
    "nominal": "bias below 0.1 standard errors, coverage of 95% intervals between 93% and 97%, size 3.5% to 6.5%",
    "conservative": "coverage of 95% intervals of at least 93%; they are too wide by construction",
    "biased": "a bias of the order of the standard error is known, see the note",
    "other": "its interval is not built from a standard error, see the note",
}


def link(reference: str) -> str:
    """Return a reference with its DOI as a link."""
    return re.sub(r"doi:(\S+[^\s.,;)])", r"[doi:\1](https://doi.org/\1)", reference)


def sections(docstring: str | None) -> dict[str, str]:
    """Return the sections of a numpy docstring by title; what stands before the first is `summary`."""
    parts = _SECTION.split(inspect.cleandoc(docstring or ""))
    return {"summary": parts[0].strip()} | {
        title: body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


@cache
def recorded(name: str) -> Any:
    """Return the recorded evidence of that name; empty when nothing was recorded yet."""
    path = EVIDENCE / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@cache
def _references() -> tuple[Mapping[str, Any], ...]:
    entries: list[Mapping[str, Any]] = []
    for path in sorted(REFERENCES.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        entries += content["entries"] if isinstance(content, dict) else content
    return tuple(entries)


def page(spec: EstimatorSpec, parameter_rows: Iterable[tuple[str, str, str, str]], table: Any) -> str:
    """Return the page of one estimator.

    Parameters
    ----------
    spec : EstimatorSpec
    parameter_rows : iterable of (name, type, default, meaning)
    table : callable
        (head, rows) -> lines of a markdown table.
    """
    module = inspect.getmodule(spec.run)
    said = sections(inspect.getdoc(module))["summary"]
    run = sections(spec.run.__doc__)
    lines = [f"# {spec.title}", "", f"`{spec.name}`" + _also(spec), "", f"**{spec.question}**", "", said, ""]
    lines += ["Estimates " + ", ".join(map(str, spec.estimands)) + ".", ""]
    lines += ["## Formula", "", "$$", spec.formula, "$$", ""]
    if "Notes" in run:
        lines += [" ".join(run["Notes"].split()), ""]
    lines += ["## Assumptions, and how each is checked", ""]
    lines += table(
        ("assumption", "what must hold", "checked by"), (_assumption(spec, name) for name in spec.assumptions)
    )
    lines += ["## Reading the answer", "", spec.reading, ""]
    lines += ["## What it needs", "", *_needs(spec), ""]
    lines += ["## Diagnostics and tables", ""]
    lines += table(("diagnostic", "definition", "passes if"), (_measure(name) for name in spec.diagnostics))
    lines += ["Tables: " + (", ".join(f"`{name}`" for name in spec.tables) or "none") + ".", ""]
    lines += ["## Example", "", *_example(spec), ""]
    lines += ["## Parameters", "", "Beside the [common ones](../catalogue.md#parameters):", ""]
    lines += table(("name", "type", "default", "meaning"), parameter_rows)
    lines += ["## Pinned numbers", "", *_oracle(spec, table)]
    lines += ["## Coverage of its intervals", "", *_coverage(spec, table)]
    lines += ["## References", "", *(f"- {link(item)}" for item in spec.references), ""]
    return "\n".join(lines).rstrip() + "\n"


def _also(spec: EstimatorSpec) -> str:
    return ", also known as " + ", ".join(spec.aliases) if spec.aliases else ""


def _assumption(spec: EstimatorSpec, name: str) -> tuple[str, str, str]:
    """Return an assumption and how this estimator checks it: other diagnostics that speak to it are not its own."""
    item = ASSUMPTIONS[name]
    checks = ", ".join(f"`{check}`" for check in item.diagnostics if check in spec.diagnostics)
    untold = "not checked by this estimator" if item.diagnostics else "cannot be tested with the data; argue for it"
    return name.replace("_", " "), item.statement, checks or untold


def _measure(name: str) -> tuple[str, str, str]:
    item = MEASURES[name]
    return (
        f"`{name}`",
        item.definition,
        "reported" if item.direction == "reported" else f"{item.direction} {item.limit:g}",
    )


def _needs(spec: EstimatorSpec) -> list[str]:
    optional = sorted(spec.accepts - spec.requires)
    return [
        "- roles: " + ", ".join(f"`{role}`" for role in sorted(spec.requires)),
        "- uses if mapped: " + (", ".join(f"`{role}`" for role in optional) or "nothing else"),
        "- treatment: " + ", ".join(spec.treatment),
    ]


def _example(spec: EstimatorSpec) -> list[str]:
    if spec.example is None:
        return ["none"]
    example, answer = spec.example, recorded("examples").get(spec.name, {})
    reads = [f'frame = cqox.read_table("{example.data}").frame']
    tables = []
    if example.edges:
        reads.append(f'edges = cqox.read_table("{example.edges}").frame')
        tables = ['    tables={"edges": edges},']
    roles = [f"        {_code(role)}: {_code(names)}," for role, names in example.roles.items()]
    params = [f"    {key}={_code(value)}," for key, value in example.params.items()]
    call = ["cqox.estimate(", f'    "{spec.name}",', "    frame,", "    {", *roles, "    },", *tables, *params, ")"]
    lines = ["```python", "import cqox_assets as cqox", "", *reads, *call, "```", ""]
    if answer:
        lines += [f"{answer['effect']}. {answer['inference']}; {answer['rows']} rows.", ""]
        lines += [f"- {item}" for item in answer["diagnostics"]]
    return lines


def _code(value: Any) -> str:
    """Return a value as source code with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_code(key)}: {_code(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_code, value)) + "]"
    return repr(value)


def _oracle(spec: EstimatorSpec, table: Any) -> list[str]:
    record = recorded("oracle")
    rows = []
    for method in spec.oracle:
        found = [entry for entry in _references() if entry["spec"]["method"] == method]
        done = record.get("methods", {}).get(method)
        if not found or done is None:
            continue
        tolerances = [entry["tolerance"].get("value_rtol") for entry in found if entry["kind"] == "exact"]
        loosest = max((value for value in tolerances if value), default=None)
        sources = Counter(_package(entry) for entry in found)
        rows.append(
            (f"`{method}`", f"{done['met']} of {done['met'] + done['missed']}",
             "as stated" if loosest is None else f"{loosest:g}", "; ".join(name for name, _ in sources.most_common(4)))
        )  # fmt: skip
    if not rows:
        return ["No reference implementation is pinned; it is held by the simulations below.", ""]
    lines = table(("method", "numbers met", "loosest relative tolerance", "reference"), rows)
    return [*lines, f"Last run {record['date']} with version {record['version']}: `python -m tests.oracle`.", ""]


def _package(entry: Mapping[str, Any]) -> str:
    """Return what the number was computed with: the independent programs named by the entry."""
    words = entry.get("verified_by") or entry["source"]
    text = words if isinstance(words, str) else "; ".join(map(str, words))
    return text.split("(")[0].split(":")[0].strip().rstrip(";,")[:70]


def _coverage(spec: EstimatorSpec, table: Any) -> list[str]:
    lines = [f"Held to: {_CLAIMS[spec.interval_claim]}." + (f" {spec.claim_note}" if spec.claim_note else ""), ""]
    path = ROOT / "docs" / "coverage.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"coverage": []}
    rows = [row for row in content["coverage"] if row["estimator"] == (spec.headline_of or spec.name)]
    if rows:
        if spec.headline_of:
            lines += [
                f"The headline is that of [`{spec.headline_of}`]({spec.headline_of}.md), whose rows these are.",
                "",
            ]
        head = ("design", "effect", "n", "draws", "bias / SD", "coverage", "size", "held")
        lines += table(head, (_performance(row) for row in rows))
        lines += [f"Measured {rows[0]['date']}; the whole table is in [coverage](../coverage.md).", ""]
    return lines


def _performance(row: Mapping[str, Any]) -> tuple[Any, ...]:
    size = "" if row.get("size") is None else f"{row['size']:.3f}"
    relative = f"{row['bias'] / row['spread']:+.2f}" if row["spread"] else ""
    return (
        row["design"], row["effect"], row["n"], row["answered"], relative, f"{row['coverage']:.3f}", size,
        "yes" if row["held"] else "**no**",
    )  # fmt: skip
