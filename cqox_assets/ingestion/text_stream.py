"""A text in any encoding as a stream of UTF-8 bytes."""

import codecs
import io
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

from cqox_assets.ingestion.sources import CHUNK, Source

Edit = Callable[[bytes], bytes]


def _edited(pieces: Generator[bytes, None, None], edit: Edit) -> Generator[bytes, None, None]:
    """Apply an edit of whole lines to a text that arrives in pieces."""
    held = b""
    with closing(pieces):
        for piece in pieces:
            held += piece
            cut = held.rfind(b"\n") + 1
            if cut:
                yield edit(held[:cut])
                held = held[cut:]
    yield edit(held)


class Utf8Stream(io.RawIOBase):
    """A text as UTF-8 without a byte order mark, piece by piece; counts its quotation marks and may edit its lines."""

    def __init__(self, source: Source, encoding: str, skip: int = 0, edit: Edit | None = None) -> None:
        super().__init__()
        self._pieces = utf8_chunks(source, encoding)
        if edit is not None:
            self._pieces = _edited(self._pieces, edit)
        self._rest = memoryview(b"")
        self._skip = skip
        self.quotes = 0

    def readable(self) -> bool:
        """Return True: bytes can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with UTF-8 bytes."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            drop = min(self._skip, len(piece))
            self._skip -= drop
            self._rest = memoryview(piece)[drop:]
            self.quotes += piece.count(b'"', drop)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Close the underlying file."""
        if not self.closed:
            self._pieces.close()
        super().close()


def utf8_chunks(source: Source, encoding: str) -> Generator[bytes, None, None]:
    """Yield the text as UTF-8 bytes, piece by piece."""
    if encoding == "utf-8":
        return _plain(source)
    return _transcoded(source, encoding)


def _plain(source: Source) -> Generator[bytes, None, None]:
    with source.open() as stream:
        while data := stream.read(CHUNK):
            yield data


def _transcoded(source: Source, encoding: str) -> Generator[bytes, None, None]:
    decoder = codecs.getincrementaldecoder(encoding)()
    first = True
    with source.open() as stream:
        while data := stream.read(CHUNK):
            text = decoder.decode(data)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            if text:
                yield text.encode()
        if rest := decoder.decode(b"", True):
            yield rest.encode()
