"""Reads study.yaml as it lies in the inbox, and checks the names in it against the catalogue."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.declaration import Declaration, parse_declaration
from cqox_assets.errors import CatalogError, DeclarationError
from cqox_assets.result import Estimand
from cqox_assets.spec import build_params

_ENCODINGS = ("utf-8-sig", "utf-16", "cp932", "latin-1")


def read_declaration(path: Path) -> Declaration:
    """Read a declaration.

    Raises
    ------
    DeclarationError
        If it is not understood, or names an estimator, estimand or parameter that does not exist.
    """
    declared = parse_declaration(_text(path.read_bytes()), path.name)
    entries: dict[str, Any] = {**load_estimators(), **load_sensitivities()}
    for name in declared.methods:
        _known(name, load_estimators(), f"{path.name}: methods")
    if declared.estimand is not None:
        _known(declared.estimand, [str(item) for item in Estimand], f"{path.name}: estimand")
    for name, values in declared.params.items():
        _known(name, entries, f"{path.name}: params")
        _check_params(entries[name].params, values, f"{path.name}: params.{name}")
    return declared


def _text(content: bytes) -> str:
    for encoding in _ENCODINGS:
        if encoding == "utf-16" and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            continue
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("every text can be read as latin-1")


def _known(name: str, known: Iterable[str], where: str) -> None:
    names = list(known)
    if name in names:
        return
    aliases = {alias.lower(): entry for entry in load_estimators() for alias in load_estimators()[entry].aliases}
    near = aliases.get(name.lower()) or next(iter(difflib.get_close_matches(name.lower(), names, n=1)), None)
    hint = f"did you mean '{near}'?" if near in names else f"known are {', '.join(names)}"
    raise DeclarationError(f"{where} names '{name}', which does not exist; {hint}")


def _check_params(kind: Any, values: Mapping[str, Any], where: str) -> None:
    try:
        build_params(kind, values)
    except CatalogError as error:
        raise DeclarationError(f"{where}: {error.message}") from error
