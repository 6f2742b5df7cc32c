"""CQOx: causal inference as an asset graph.

Importing this package imports neither the orchestrator nor any heavy numerical dependency; the public
functions of :mod:`cqox_assets.api` are resolved on first use.
"""

from importlib import import_module
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


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("cqox_assets.api"), name)
    raise AttributeError(f"module 'cqox_assets' has no attribute '{name}'")
