"""CQOx: causal inference as an asset graph.

Importing this package imports neither the orchestrator nor any heavy numerical dependency; the public
functions of :mod:`cqox_assets.api` are resolved on first use.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = [
    "estimate",
    "estimate_all",
    "estimators",
    "figures",
    "infer_roles",
    "plan",
    "read_table",
    "sensitivities",
    "sensitivity",
]

__version__ = "0.1.0"


class _CallablePackage(ModuleType):
    """A subpackage that shares its name with a public function: called, it is the function."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(import_module("cqox_assets.api"), self.__name__.rpartition(".")[2])(*arguments, **named)


class _Package(ModuleType):
    """The package itself; `estimators`, `figures` and `sensitivity` stay callable once their subpackages are loaded."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("cqox_assets.api"), name)
    raise AttributeError(f"module 'cqox_assets' has no attribute '{name}'")
