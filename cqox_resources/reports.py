"""The report store: files that people open from the UI, under <domain>/<period>/."""

import os
import tempfile
from io import FileIO
from pathlib import Path

from upath import UPath

from cqox_resources.store import explaining


class ReportStore:
    """Writes report files and knows the links under which the web server shows them.

    Parameters
    ----------
    root : UPath
        Any fsspec location.
    prefix : str
        Prefix of the links, such as `/reports`.
    """

    def __init__(self, root: UPath, prefix: str = "/reports") -> None:
        self._root = root
        self._prefix = prefix.rstrip("/")

    def write(self, path: str, content: bytes) -> UPath:
        """Put a file in place in one step and return where it is."""
        target = self._root / path
        with explaining(target):
            if target.protocol not in ("", "file", "local"):
                target.fs.pipe_file(target.path, content)
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=str(target.parent), prefix=".", suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as sink:
                    sink.write(content)
                Path(name).chmod(0o644)
                Path(name).replace(str(target))
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        return target

    def read(self, path: str) -> bytes | None:
        """Return a file's content, or None when there is no such file."""
        target = self._root / path
        if target.protocol in ("", "file", "local"):
            return target.read_bytes() if target.is_file() else None
        try:
            once = {"max_concurrency": 1} if target.protocol in ("s3", "s3a") else {}  # not the size first
            return bytes(target.fs.cat_file(target.path, **once))
        except FileNotFoundError:
            return None

    def append(self, path: str, content: bytes) -> UPath:
        """Put content at the end of a file; what is there already is never written again.

        An object store cannot append, so there the whole file is put in place anew.
        """
        target = self._root / path
        if target.protocol not in ("", "file", "local"):
            return self.write(path, (self.read(path) or b"") + content)
        with explaining(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with Path(str(target)).open("ab", buffering=0) as sink:
                before = sink.tell()
                try:
                    _write_all(sink, content)
                    os.fsync(sink.fileno())
                except OSError:
                    sink.truncate(before)  # half a line would make every later one unreadable
                    raise
        return target

    def remove(self, folder: str, stem: str, kinds: tuple[str, ...] | None = None) -> None:
        """Remove a folder's files of this stem, and of these kinds if named: what is not true must not be shown."""
        place = self._root / folder
        if place.is_dir():
            for path in place.iterdir():
                if path.stem == stem and (kinds is None or path.suffix[1:] in kinds):
                    path.unlink()

    def clear(self, folder: str) -> None:
        """Remove all files of a folder, if it is there."""
        place = self._root / folder
        for path in place.iterdir() if place.is_dir() else ():
            path.unlink()

    def url(self, path: str) -> str:
        """Return the link to a file."""
        return f"{self._prefix}/{path}"


def _write_all(sink: FileIO, content: bytes) -> None:
    """Write everything: a file system that fills up takes a part of it first."""
    rest = memoryview(content)
    while rest:
        rest = rest[sink.write(rest) :]
