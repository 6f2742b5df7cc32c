"""Finds catalogue entries by walking the packages; knows no entry by name."""

import pkgutil
from functools import cache
from importlib import import_module
from typing import Any

from cqox_assets.errors import CatalogError
from cqox_assets.spec import EstimatorSpec, FigureSpec, SensitivitySpec


def _walk(package: str, kind: type) -> dict[str, Any]:
    found = {}
    for module in pkgutil.iter_modules(import_module(package).__path__):
        if module.name.startswith("_") or module.name == "assets":
            continue
        entry = getattr(import_module(f"{package}.{module.name}"), "SPEC", None)
        if not isinstance(entry, kind):
            raise CatalogError(f"{package}.{module.name} must define SPEC as a {kind.__name__}")
        if entry.name != module.name:  # type: ignore[attr-defined]
            raise CatalogError(f"{package}.{module.name} is called '{entry.name}'; name and file must agree")  # type: ignore[attr-defined]
        found[module.name] = entry
    return dict(sorted(found.items()))


@cache
def load_estimators() -> dict[str, EstimatorSpec]:
    """Return every estimator by name."""
    return _walk("cqox_assets.estimators", EstimatorSpec)


@cache
def load_sensitivities() -> dict[str, SensitivitySpec]:
    """Return every sensitivity question by name."""
    return _walk("cqox_assets.sensitivity", SensitivitySpec)


@cache
def load_figures() -> dict[str, FigureSpec]:
    """Return every figure by name."""
    return _walk("cqox_assets.figures", FigureSpec)


@cache
def study_figures() -> dict[str, FigureSpec]:
    """Return every figure about one study by name; the others are about all domains together."""
    return {name: spec for name, spec in load_figures().items() if spec.scope == "study"}


def entry_named(entries: dict[str, Any], name: str) -> Any:
    """Return the entry of that name or alias.

    Raises
    ------
    CatalogError
        If there is none; the message lists what there is.
    """
    if name in entries:
        return entries[name]
    for entry in entries.values():
        if name.lower() in {alias.lower() for alias in getattr(entry, "aliases", ())}:
            return entry
    raise CatalogError(f"'{name}' is not in the catalogue; known are {', '.join(entries)}")
