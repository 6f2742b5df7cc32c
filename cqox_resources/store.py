"""Stores a result as a folder: parts under their content hash, then one small manifest, replaced last.

A reader follows the manifest, so a writer that is killed, or finds no room, leaves the old result or the new one, never
a mixture.
Parts of the previous manifest are kept, so that a reader who has just read it still finds them.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pandas as pd
from upath import UPath

MANIFEST = "manifest.json"
_SMALL_BYTES = 1 << 20
_KEPT_BYTES = 1 << 26
FORMAT = 1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AWAY = getattr(errno, "EREMOTEIO", errno.EIO)  # what s3fs makes of answers with 500


@dataclass(frozen=True)
class Parts:
    """What is stored of one object: a kind, a JSON document, frames, and facts for people who list results."""

    kind: str
    document: Mapping[str, Any]
    frames: Mapping[str, "pd.DataFrame | Path"] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Codec(Protocol):
    """Turns objects of one kind into parts and back."""

    @property
    def kind(self) -> str:
        """Name of the kind, as manifests have it."""
        ...

    def accepts(self, value: Any) -> bool:
        """Whether this codec stores the value."""
        ...

    def encode(self, value: Any) -> Parts:
        """Return the parts of a value."""
        ...

    def decode(self, document: Mapping[str, Any], frames: "LazyFrames") -> Any:
        """Return the value of its parts."""
        ...


class DamagedResultError(Exception):
    """A stored result is missing a part or was written by something else."""


class UnreachableStoreError(OSError):
    """The file system is full or the object store does not answer; what was stored before is as it was."""


@contextlib.contextmanager
def explaining(place: "UPath | Path") -> Iterator[None]:
    """Name place and remedy where a file system is full or an object store away; the plain error has neither."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            said = f"no room to write {place} ({error.strerror}); free some space"
        elif error.errno == _AWAY:
            said = f"the object store does not answer for {place} ({error.strerror}); see that it does"
        else:
            raise
        raise UnreachableStoreError(
            error.errno, f"{said} and run the partition again: what was stored before is as it was"
        ) from None


class LazyFrames(Mapping[str, pd.DataFrame]):
    """Frames by name, read when they are asked for."""

    def __init__(self, folder: UPath, files: Mapping[str, str]) -> None:
        self._folder = folder
        self._files = dict(files)
        self._read: dict[str, pd.DataFrame] = {}
        self._copies: tempfile.TemporaryDirectory[str] | None = None

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return the whole frame."""
        if name not in self._read:
            self._read[name] = self.columns(name, None)
        return self._read[name]

    def columns(self, name: str, columns: list[str] | None) -> pd.DataFrame:
        """Return some columns of a frame; all of them for None."""
        path = self._folder / self._files[name]
        try:
            if _is_local(path):
                return pd.read_parquet(str(path), columns=columns)
            return pd.read_parquet(io.BytesIO(_read_part(path)), columns=columns)
        except FileNotFoundError as error:
            raise DamagedResultError(
                f"part '{name}' of {self._folder} is missing; materialize the asset again"
            ) from error

    def local(self, name: str) -> Path:
        """Return a local path of the frame's Parquet file; a remote one is copied, and kept as long as this object."""
        place = self._folder / self._files[name]
        if _is_local(place):
            return Path(str(place))
        if self._copies is None:
            self._copies = tempfile.TemporaryDirectory(prefix="cqox-")
        target = Path(self._copies.name) / self._files[name]
        with place.open("rb") as source, target.open("wb") as sink:
            _copy(source, sink)
        return target

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def save(folder: UPath, parts: Parts) -> dict[str, Any]:
    """Write the parts, then replace the manifest; return the manifest.

    Parameters
    ----------
    folder : UPath
        Any fsspec location.
    parts : Parts
        A frame may be a DataFrame or the path of a Parquet file, which is copied.
    """
    if _is_local(folder):  # an object store has no folders
        folder.mkdir(parents=True, exist_ok=True)
    before = manifest(folder)
    text = json.dumps(parts.document, ensure_ascii=False, allow_nan=False)
    document = _put(folder, text.encode(), "json")
    frames = {name: _put_frame(folder, frame) for name, frame in parts.frames.items()}
    mine = {document, *frames.values()}
    earlier = set(_files(before)) if before else set()
    described = {
        "format": FORMAT,
        "kind": parts.kind,
        "document": document,
        "frames": frames,
        "facts": dict(parts.facts),
        "previous": sorted(earlier - mine),
    }
    _replace(folder / MANIFEST, json.dumps(described, ensure_ascii=False, indent=1).encode())
    for stale in set((before or {}).get("previous", [])) - mine - earlier:
        (folder / stale).unlink(missing_ok=True)
    _sweep(folder)
    return described


def _sweep(folder: UPath) -> None:
    """Remove scratch files that a killed writer left more than an hour ago."""
    if not _is_local(folder):
        return
    # The file system's own clock: that of a file server may be hours away from ours.
    limit = (Path(str(folder)) / MANIFEST).stat().st_mtime - 3600
    for path in Path(str(folder)).glob(".*.tmp"):
        if path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)


def load(folder: UPath, codecs: Mapping[str, Codec], found: Mapping[str, Any] | None = None) -> Any:
    """Return the object that the folder's manifest describes.

    Parameters
    ----------
    folder : UPath
        Any fsspec location.
    codecs : mapping of str to Codec
        By kind.
    found : mapping, optional
        The folder's manifest, where the caller has read it already.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    DamagedResultError
        If a part is missing or the kind is unknown.
    """
    described = manifest(folder) if found is None else found
    if described is None:
        raise FileNotFoundError(f"nothing is stored in {folder}; materialize the asset first")
    codec = codecs.get(described["kind"])
    if codec is None or described.get("format", FORMAT) > FORMAT:
        raise DamagedResultError(
            f"{folder} holds a '{described['kind']}' in format {described.get('format', FORMAT)}, which this version "
            f"cannot read: it reads format {FORMAT}; upgrade it, or materialize the asset again"
        )
    try:
        document = json.loads(_read_part(folder / described["document"]))
    except FileNotFoundError as error:
        raise DamagedResultError(f"the document of {folder} is missing; materialize the asset again") from error
    return codec.decode(document, LazyFrames(folder, described["frames"]))


def facts(folder: UPath) -> dict[str, Any] | None:
    """Return the facts of what is stored in the folder, or None when nothing is."""
    described = manifest(folder)
    return None if described is None else dict(described["facts"])


def manifest(folder: UPath) -> dict[str, Any] | None:
    """Return the manifest of what is stored in the folder, or None when nothing is."""
    try:
        return dict(json.loads(_read(folder / MANIFEST)))
    except FileNotFoundError:
        return None


def _files(manifest: Mapping[str, Any]) -> list[str]:
    return [manifest["document"], *manifest["frames"].values()]


def _read(path: UPath) -> bytes:
    """Return a file's content; of an object store it is asked for once, without looking first whether it is there."""
    if _is_local(path):
        return path.read_bytes()
    # s3fs asks for the size first, to read in pieces side by side; what is stored here is mostly small.
    once = {"max_concurrency": 1} if path.protocol in ("s3", "s3a") else {}
    return bytes(path.fs.cat_file(path.path, **once))


class _Recent:
    """Parts of an object store that this process read last: many steps read the same, and none ever changes."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, part: UPath) -> bytes:
        """Return a part's content; its name is the hash of it."""
        key = str(part)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        content = _read(part)
        with self._lock:
            if key not in self._held and len(content) < _SMALL_BYTES:
                self._held[key] = content
                self._bytes += len(content)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return content


_RECENT = _Recent()


def _read_part(part: UPath) -> bytes:
    return _read(part) if _is_local(part) else _RECENT.read(part)


def _put(folder: UPath, content: bytes, suffix: str) -> str:
    name = f"{hashlib.sha256(content).hexdigest()[:32]}.{suffix}"
    # Looking costs an object store as much as writing what is small, and the same name has the same content.
    if (not _is_local(folder) and len(content) < _SMALL_BYTES) or not (folder / name).exists():
        _replace(folder / name, content)
    return name


def _put_frame(folder: UPath, frame: "pd.DataFrame | Path") -> str:
    if isinstance(frame, pd.DataFrame):
        buffer = io.BytesIO()
        frame.to_parquet(buffer, compression="snappy", index=False)
        return _put(folder, buffer.getvalue(), "parquet")
    digest = hashlib.sha256()
    with frame.open("rb") as source:
        while block := source.read(1 << 22):
            digest.update(block)
    name = f"{digest.hexdigest()[:32]}.parquet"
    target = folder / name
    if not target.exists():
        _replace(target, frame)
    return name


def _replace(target: UPath, content: "bytes | Path") -> None:
    """Put the content in place in one step; object stores do that by themselves, local files by renaming."""
    if not _is_local(target):
        # Never as a stream: one that breaks would be closed, and its beginning be stored under the name of the whole.
        if isinstance(content, bytes):
            target.fs.pipe_file(target.path, content)
        else:
            target.fs.put_file(str(content), target.path)
        return
    handle, name = tempfile.mkstemp(dir=str(target.parent), prefix=f".{uuid.uuid4().hex[:8]}", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as sink:
            if isinstance(content, bytes):
                sink.write(content)
            else:
                with content.open("rb") as source:
                    _copy(source, sink)
            sink.flush()
            os.fsync(sink.fileno())
        Path(name).replace(str(target))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _copy(source: BinaryIO, sink: Any) -> None:
    while block := source.read(1 << 22):
        sink.write(block)


def _is_local(path: UPath) -> bool:
    return path.protocol in ("", "file", "local")
