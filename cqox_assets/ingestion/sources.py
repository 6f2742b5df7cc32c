"""Bytes of a file, unpacked on the fly from gz and zip, never beyond the limits."""

import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from cqox_assets.errors import IngestionError

CHUNK = 1 << 20
HEAD = 1 << 16


@dataclass(frozen=True)
class Limits:
    """How large a delivery may be.

    Parameters
    ----------
    max_file_bytes : int
        Size of the delivered file.
    max_unpacked_bytes : int
        Size of what an archive unpacks to.
    max_ratio : float
        Unpacked over packed bytes; judged once `ratio_floor` bytes are unpacked, because small repetitive
        tables pack very well.
    ratio_floor : int
        Unpacked bytes below which the ratio does not matter.
    max_members : int
        Files in one archive.
    max_depth : int
        Archives inside archives.
    max_document_bytes : int
        Excel workbooks (unpacked) and JSON arrays, which have to be read as a whole.
    """

    max_file_bytes: int = 50_000_000_000
    max_unpacked_bytes: int = 50_000_000_000
    max_ratio: float = 250.0
    ratio_floor: int = 32_000_000
    max_members: int = 1000
    max_depth: int = 3
    max_document_bytes: int = 500_000_000


DEFAULT_LIMITS = Limits()


def amount(size: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class Meter:
    """Counts unpacked bytes and refuses an archive that grows beyond the limits."""

    def __init__(self, name: str, packed: Callable[[], int], limits: Limits) -> None:
        self.name, self.packed, self.limits, self.total = name, packed, limits, 0

    def add(self, count: int) -> None:
        """Count `count` more unpacked bytes."""
        self.total += count
        check_growth(self.name, self.packed(), self.total, self.limits)


def check_growth(name: str, packed: int, unpacked: int, limits: Limits) -> None:
    """Refuse sizes that only an archive bomb has."""
    if unpacked > limits.max_unpacked_bytes:
        raise IngestionError(
            f"{name} unpacks to more than {amount(limits.max_unpacked_bytes)}, the limit for archives; "
            "split the table into smaller files",
            code="archive_bomb",
        )
    if unpacked > limits.ratio_floor and unpacked > limits.max_ratio * max(packed, 1):
        raise IngestionError(
            f"{name} grows more than {limits.max_ratio:.0f} times when unpacked, as only an archive bomb does; "
            "deliver the table unpacked if it is genuine",
            code="archive_bomb",
        )


class GzipStream(io.RawIOBase):
    """Unpacked bytes of a gz stream of one or several members, in bounded memory."""

    def __init__(self, raw: BinaryIO, source: "Source", packed: int | None) -> None:
        super().__init__()
        self._raw, self._name, self._read_bytes = raw, source.name, 0
        self._meter = Meter(source.name, lambda: self._read_bytes if packed is None else packed, source.limits)
        self._unpacker = zlib.decompressobj(31)
        self._packed = b""
        self._done = False

    def readable(self) -> bool:
        """Return True: bytes can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with unpacked bytes."""
        while not self._done:
            if not self._packed:
                self._packed = self._raw.read(CHUNK // 4)
                self._read_bytes += len(self._packed)
                if not self._packed:
                    raise IngestionError(
                        f"{self._name} is a truncated gz file: it ends in the middle of its data; deliver it again",
                        code="truncated_gzip",
                    )
            try:
                data = self._unpacker.decompress(self._packed, len(buffer))
            except zlib.error as error:
                raise IngestionError(
                    f"{self._name} is a damaged gz file ({error}); deliver it again", code="damaged_archive"
                ) from error
            self._packed = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                self._next_member()
            if data:
                self._meter.add(len(data))
                buffer[: len(data)] = data
                return len(data)
        return 0

    def _next_member(self) -> None:
        """Go on with the next gz member; zeros and other padding after the last one are ignored."""
        rest = self._unpacker.unused_data or self._raw.read(CHUNK // 4)
        if rest[:2] == b"\x1f\x8b":
            self._unpacker, self._packed = zlib.decompressobj(31), rest
        else:
            self._done = True

    def close(self) -> None:
        """Close the packed file."""
        if not self.closed:
            self._raw.close()
        super().close()


class ZipStream(io.RawIOBase):
    """Unpacked bytes of one member of a zip file."""

    def __init__(self, raw: BinaryIO, member: str, source: "Source", packed: int | None) -> None:
        super().__init__()
        self._name, self._raw = source.name, raw
        try:
            self._archive = zipfile.ZipFile(raw)
            size = self._archive.getinfo(member).compress_size if packed is None else packed
            self._member = self._archive.open(member)
        except Exception as error:  # zipfile raises many kinds on damaged files
            raw.close()
            raise _damaged_zip(source.name, error) from error
        self._meter = Meter(source.name, lambda: size, source.limits)

    def readable(self) -> bool:
        """Return True: bytes can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with unpacked bytes."""
        try:
            data = self._member.read(len(buffer))
        except Exception as error:  # zipfile raises many kinds on damaged files: BadZipFile, zlib.error, EOFError, ...
            raise _damaged_zip(self._name, error) from error
        self._meter.add(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close member, archive and file."""
        if not self.closed:
            self._member.close()
            self._archive.close()
            self._raw.close()
        super().close()


def _damaged_zip(name: str, error: Exception) -> IngestionError:
    return IngestionError(f"{name} is a damaged zip file ({error}); deliver it again", code="damaged_archive")


@dataclass(frozen=True)
class Source:
    """A table's bytes: a file on disk and the layers (gz, a zip member) around the table.

    `name` is what messages call it; `layers` are `("gz", "")` or `("zip", member)`, outermost first; `delivered`
    is the size of the delivered file and `depth` the number of archives gone through so far.
    """

    path: Path
    name: str
    limits: Limits
    delivered: int
    layers: tuple[tuple[str, str], ...] = ()
    depth: int = 0

    def open(self) -> BinaryIO:
        """Open a fresh stream over the unpacked bytes."""
        stream: BinaryIO = self.path.open("rb")
        first = self.depth - len(self.layers) + 1
        for depth, (kind, member) in enumerate(self.layers, start=first):
            packed = self.delivered if depth > 1 else None
            if kind == "gz":
                stream = io.BufferedReader(GzipStream(stream, self, packed), CHUNK)
            else:
                stream = io.BufferedReader(ZipStream(stream, member, self, packed), CHUNK)
        return stream

    def head(self, size: int = HEAD) -> bytes:
        """Return the first bytes."""
        with self.open() as stream:
            return stream.read(size)

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """Yield all bytes piece by piece."""
        with self.open() as stream:
            while data := stream.read(size):
                yield data

    def inside(self, kind: str, member: str = "") -> "Source":
        """Return the source one layer further in."""
        if self.depth >= self.limits.max_depth:
            raise IngestionError(
                f"{self.name} holds archives inside archives, more than {self.limits.max_depth} deep; "
                "deliver the table in one archive or unpacked",
                code="archive_bomb",
            )
        return replace(self, layers=(*self.layers, (kind, member)), depth=self.depth + 1)

    def on_disk(self, folder: Path) -> "Source":
        """Return a plain file with the unpacked bytes; archives are unpacked into `folder`, within the limits."""
        if not self.layers:
            if str(self.path).isprintable():
                return self
            link = Path(tempfile.mkdtemp(dir=folder)) / "file"  # Arrow opens no path that is not UTF-8
            link.symlink_to(self.path.absolute())
            return replace(self, path=link)
        handle, target = tempfile.mkstemp(prefix="unpacked-", dir=folder)
        with os.fdopen(handle, "wb") as sink:
            for data in self.chunks():
                sink.write(data)
        return replace(self, path=Path(target), layers=())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def zip_member(source: Source) -> str:
    """Return the one member of a zip file that can be a table.

    Raises
    ------
    IngestionError
        If the archive is damaged, encrypted, empty, too large, or holds several tables.
    """
    name, limits = source.name, source.limits
    try:
        with zipfile.ZipFile(source.path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
        raise _damaged_zip(name, error) from error
    if len(members) > limits.max_members:
        raise IngestionError(
            f"{name} holds {len(members)} files, more than {limits.max_members}; deliver one table per archive",
            code="archive_bomb",
        )
    tables = [item for item in members if not item.is_dir() and not _hidden(item.filename)]
    if not tables:
        raise IngestionError(f"{name} is a zip file without a table in it; deliver one table in it", code="no_table")
    if len(tables) > 1:
        listed = ", ".join(item.filename for item in tables[:10]) + (", ..." if len(tables) > 10 else "")
        raise IngestionError(
            f"{name} holds {len(tables)} files ({listed}); deliver one table per archive", code="several_tables"
        )
    table = tables[0]
    if table.flag_bits & 1:
        raise IngestionError(f"{name} is encrypted; deliver it without a password", code="encrypted")
    check_growth(name, table.compress_size, table.file_size, limits)
    return table.filename


def _hidden(member: str) -> bool:
    parts = member.replace("\\", "/").split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith(".") or parts[-1].lower() in ("thumbs.db", "desktop.ini")
