"""The I/O manager: every asset value is stored by the codec of its kind, under stage/name/domain/period."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
from upath import UPath

from cqox_resources import store
from cqox_resources.store import Codec


class ResultIOManager(dg.UPathIOManager):
    """Stores asset values as folders of content-hashed parts with a manifest.

    Parameters
    ----------
    base_path : UPath
        Any fsspec location.
    codecs : sequence of Codec
        One per kind of value.
    """

    extension = None

    def __init__(self, base_path: UPath, codecs: Sequence[Codec]) -> None:
        super().__init__(base_path=base_path)
        self._codecs = list(codecs)
        self._by_kind: Mapping[str, Codec] = {codec.kind: codec for codec in codecs}

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Store a value; what the run says of it goes into the manifest's facts."""
        codec = next((codec for codec in self._codecs if codec.accepts(obj)), None)
        if codec is None:
            raise TypeError(f"no codec stores a {type(obj).__name__}; add one to the list of codecs")
        parts = codec.encode(obj)
        fingerprint = _text(context.output_metadata.get("fingerprint"))
        known = {"fingerprint": fingerprint} if fingerprint else {}
        with store.explaining(path):
            store.save(path, replace(parts, facts={**parts.facts, **known, "run_id": context.run_id}))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        """Return a stored value."""
        with store.explaining(path):
            return store.load(path, self._by_kind)

    def make_safe_partition_path(self, base_path: UPath, partition: str) -> UPath:
        """Return the folder of a partition; `domain|period` and its slash form are the same one."""
        return super().make_safe_partition_path(base_path, partition.replace("|", "/"))

    def make_directory(self, path: UPath) -> None:
        """Create nothing: a folder is made when its first part is written."""

    def unlink(self, path: UPath) -> None:
        """Delete nothing: a new value replaces the manifest, the old parts stay until then."""


def _text(value: Any) -> str | None:
    inner = getattr(value, "value", value)
    return inner if isinstance(inner, str) else None
