"""From a reference entry to a table and roles, as the references' README defines them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

# Keys of a spec that the harness itself follows; an adapter names the others that it follows.
COMMON_KEYS = frozenset(
    {"method", "report", "target", "file", "filter", "join", "derive", "dropna", "dummies"}
    | {"rows", "roles", "params", "se", "ci", "estimand", "compare"}
)


class UncoveredError(Exception):
    """The entry asks for something that this harness, the product or this machine does not have."""


@dataclass(frozen=True)
class Case:
    """One reference entry, ready to be answered.

    Parameters
    ----------
    spec : mapping
        The machine-readable definition; adapters read nothing else of the entry.
    frame : DataFrame or None
        Rows after filter, join, derivation and dropping; None if the spec has no file.
    roles : mapping of str to list of str
        Role to columns; dummies are among the covariates.
    edges : DataFrame or None
    """

    spec: Mapping[str, Any]
    frame: pd.DataFrame | None
    roles: Mapping[str, list[str]]
    edges: pd.DataFrame | None = None

    @property
    def params(self) -> Mapping[str, Any]:
        """The spec's numbers."""
        return self.spec.get("params") or {}

    def choose(self, key: str, known: Mapping[Any, Any]) -> Any:
        """Translate the spec's value of a key; a value that is not in `known` leaves the entry uncovered."""
        value = self.spec.get(key)
        if isinstance(value, (list, dict)) or value not in known:
            raise UncoveredError(f"{key} = {value!r} is not offered")
        return known[value]


def read_entries(folder: Path) -> list[Any]:
    """Return every entry of every JSON file of a folder; a file that is no list of entries is one odd entry itself."""
    entries: list[Any] = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            entries.append({"id": path.name, "unreadable": str(error)})
            continue
        listed = content.get("entries") if isinstance(content, dict) else content
        entries += listed if isinstance(listed, list) else [{"id": path.name}]
    return entries


def build_case(spec: Mapping[str, Any], folders: Sequence[Path]) -> Case:
    """Read and shape the data of a spec, in the order that the references' README gives."""
    roles = {role: _listed(names) for role, names in (spec.get("roles") or {}).items() if names not in (None, [])}
    frame = _frame(spec, folders)
    if frame is None:
        return Case(spec, None, roles)
    if spec.get("rows") is not None and len(frame) != spec["rows"]:
        raise AssertionError(f"the data have {len(frame)} rows, the reference {spec['rows']}")
    frame, added = with_dummies(frame, spec.get("dummies") or {})
    roles["covariates"] = [*roles.get("covariates", []), *added]
    missing = sorted({name for names in roles.values() for name in names} - set(frame.columns))
    if missing:
        raise UncoveredError(f"the data have no column '{missing[0]}'")
    edges = spec.get("edges")
    return Case(spec, frame, roles, None if edges is None else _read(edges["file"], tuple(folders)))


def _listed(names: Any) -> list[str]:
    """Return the columns of a role, those of a list per period one after another."""
    return [names] if isinstance(names, str) else [name for part in names for name in _listed(part)]


def _frame(spec: Mapping[str, Any], folders: Sequence[Path]) -> pd.DataFrame | None:
    if not spec.get("file"):
        return None
    frame = _read(spec["file"], tuple(folders))
    if spec.get("filter"):
        frame = frame.query(spec["filter"], engine="python")
    if spec.get("join"):
        join = spec["join"]
        frame = frame.merge(_read(join["file"], tuple(folders)), on=join["on"], how=join["how"])
    frame = frame.copy()
    for name, expression in (spec.get("derive") or {}).items():
        frame[name] = frame.eval(expression, engine="python").astype(float)
    if spec.get("dropna"):
        frame = frame.dropna(subset=spec["dropna"])
    return frame.reset_index(drop=True)


@lru_cache(maxsize=8)
def _read(name: str, folders: tuple[Path, ...]) -> pd.DataFrame:
    for folder in folders:
        path = folder / name
        if path.is_file():
            return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    raise UncoveredError(f"data file {name} is not there")


def with_dummies(frame: pd.DataFrame, dummies: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows with one 0/1 column `column=level` per level except the reference, and the new columns."""
    columns: dict[str, pd.Series] = {}
    for column, reference in dummies.items():
        levels = sorted(frame[column].dropna().unique().tolist())
        first = levels[0] if reference is None else reference
        if first not in levels:
            raise UncoveredError(f"column '{column}' has no level {reference!r}")
        for level in levels:
            if level != first:
                columns[f"{column}={level}"] = (frame[column] == level).astype(float)
    if not columns:
        return frame, []
    return pd.concat([frame, pd.DataFrame(columns)], axis=1), list(columns)
