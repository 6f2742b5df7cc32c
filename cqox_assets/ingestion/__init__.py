"""Ingestion: from a file of any common kind to one typed table."""

from importlib import import_module
from typing import Any

_HOMES = {"Limits": "sources", "Table": "table", "read_partition": "reader", "read_table": "reader"}

__all__ = ["Limits", "Table", "read_partition", "read_table"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"cqox_assets.ingestion.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cqox_assets.ingestion' has no attribute '{name}'")
