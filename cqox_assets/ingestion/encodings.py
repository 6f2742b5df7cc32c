"""Which encoding a text is in, decided by strict decoding of the whole of it and by how plausible the result reads."""

import codecs
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from cqox_assets.errors import IngestionError
from cqox_assets.ingestion.sources import CHUNK, Source

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY = ("cp932", "euc_jp", "euc_jis_2004", "cp1252", "latin-1")
_CONTROLS = bytes(set(range(32)) - set(b"\x01\t\n\r\f\v\x1a\x1b")) + b"\x7f"
_FOREIGN = re.compile("[\x00-\x7f]?[^\x00-\x7f]+[\x00-\x7f]?")
_UNDEFINED = bytes(range(0x80, 0xA0))  # letters and signs in cp1252, nothing in Latin-1
_SAMPLE = 400_000  # characters that are scored; every byte is decoded
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


@dataclass
class _Candidate:
    """One encoding that still decodes everything seen so far, and the score of what it decodes."""

    name: str
    decoder: Any
    score: float = 0.0
    weight: float = 0.0
    scored: int = 0

    def feed(self, data: bytes, final: bool = False) -> bool:
        try:
            text = self.decoder.decode(data, final)
        except UnicodeDecodeError:
            return False
        if self.scored < _SAMPLE and text and not text.isascii():
            score, weight = _score("\n".join(_FOREIGN.findall(text)), self.name)
            self.score, self.weight, self.scored = self.score + score, self.weight + weight, self.scored + int(weight)
        return True

    @property
    def plausibility(self) -> float:
        return self.score / self.weight if self.weight else 0.0


@dataclass
class _Facts:
    """What the first pass over all bytes found."""

    size: int = 0
    controls: int = 0
    nul_at: int = -1
    quotes: bool = False
    escapes: bool = False
    blank: bool = True
    utf8: bool = True


def _score(text: str, encoding: str) -> tuple[float, float]:
    """Return the plausibility of the non-ASCII characters of a text and the bytes that they took."""
    code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    high = code > 127
    before, after = np.roll(code, 1), np.roll(code, -1)
    before[0] = after[-1] = 32
    if encoding in ("cp1252", "latin-1"):
        value = _western(code, before, after)
        bytes_each = np.ones(len(code))
    else:
        value, bytes_each = _japanese(code, before, after)
    return float((value * bytes_each)[high].sum()), float(bytes_each[high].sum())


def _western(code: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    letter = ((code >= 0xC0) & (code <= 0xFF) & (code != 0xD7) & (code != 0xF7)) | np.isin(
        code, [0x152, 0x153, 0x160, 0x161, 0x178, 0x17D, 0x17E, 0x192]
    )
    symbol = np.isin(code, [0xA0, 0xA3, 0xA5, 0xA7, 0xA9, 0xAB, 0xAE, 0xB0, 0xB1, 0xB2, 0xB3, 0xB5, 0xB7, 0xBA, 0xBB])
    symbol |= np.isin(code, [0xBF, 0xA1, 0xAA, 0xBD, 0xBC, 0xD7]) | ((code >= 0x2010) & (code <= 0x20AC))
    value = np.where(letter, 0.6, np.where(symbol, 0.3, -0.3))
    lower_then_upper = (
        letter & (code < 0xDF) & (((before >= 97) & (before <= 122)) | ((before >= 0xDF) & (before < 256)))
    )
    value = np.where(lower_then_upper, -0.5, value)
    crowd = (before > 127) & (after > 127)  # three high characters in a row hardly occur in western words
    value = np.where(crowd, -1.0, value)
    value = np.where((code >= 0x80) & (code < 0xA0), -2.0, value)
    in_word = letter & ~crowd & (_ascii_letter(before) | _ascii_letter(after))
    return np.asarray(np.where(in_word & ~lower_then_upper, 1.0, value))


def _japanese(code: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kana = ((code >= 0x3041) & (code <= 0x3096)) | ((code >= 0x30A1) & (code <= 0x30FC))
    half = (code >= 0xFF61) & (code <= 0xFF9F)
    kanji = (code >= 0x4E00) & (code <= 0x9FFF)
    wide = ((code >= 0xFF01) & (code <= 0xFF5E)) | ((code >= 0x3000) & (code <= 0x3020)) | (code == 0xFFE5)
    value = np.full(len(code), -0.4)
    value[kana], value[wide] = 1.0, 0.7
    value[kanji] = np.where(_everyday(code[kanji]), 0.9, -0.5)
    neighbour = ((before >= 0xFF61) & (before <= 0xFF9F)) | ((after >= 0xFF61) & (after <= 0xFF9F))
    value[half] = np.where(neighbour[half], 0.45, -0.3)
    value[half & (code <= 0xFF65)] = -0.6
    alone = (code > 127) & (before < 128) & (after < 128) & (_ascii_letter(before) | _ascii_letter(after))
    value[alone & kanji] -= 0.8  # one kanji inside a western word is an accented letter misread
    return value, np.where(half, 1.0, 2.0)


def _ascii_letter(code: np.ndarray) -> np.ndarray:
    return np.asarray(((code >= 65) & (code <= 90)) | ((code >= 97) & (code <= 122)))


_LEVEL_ONE: list[np.ndarray] = []


def _everyday(code: np.ndarray) -> np.ndarray:
    """Whether kanji belong to the first level of JIS X 0208, which holds those of everyday texts."""
    if not _LEVEL_ONE:
        rows = bytes(byte for row in range(0xB0, 0xD0) for cell in range(0xA1, 0xFF) for byte in (row, cell))
        level = np.zeros(0x10000, dtype=bool)
        level[[ord(char) for char in rows.decode("euc_jp", "ignore")]] = True
        _LEVEL_ONE.append(level)
    return np.asarray(_LEVEL_ONE[0][np.minimum(code, 0xFFFF)])


def _without_bom(head: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 without a mark by where their NUL bytes stand and by the lines that they make."""
    guess = _by_nul_bytes(head)
    if guess is None:
        return None
    try:
        text = codecs.getincrementaldecoder(guess)().decode(head)
    except UnicodeDecodeError:
        return None
    return guess if re.search("[\r\n]", text) and "\0" not in text else None


def _by_nul_bytes(head: bytes) -> str | None:
    codes = np.frombuffer(head[: len(head) // 4 * 4], dtype=np.uint8)
    if len(codes) < 4 or not (codes == 0).any():
        return None
    nul = (codes.reshape(-1, 4) == 0).mean(axis=0)
    if nul[3] > 0.9 and nul[2] > 0.9 and nul[0] < 0.3:
        return "utf-32-le"
    if nul[0] > 0.9 and nul[1] > 0.9 and nul[3] < 0.3:
        return "utf-32-be"
    even, odd = (nul[0] + nul[2]) / 2, (nul[1] + nul[3]) / 2
    if odd > 0.1 and even <= 0.02 * odd + 0.001:
        return "utf-16-le"
    if even > 0.1 and odd <= 0.02 * even + 0.001:
        return "utf-16-be"
    return None


def detect_encoding(source: Source) -> tuple[str, bool]:
    """Decide the encoding from all bytes of a text.

    Returns
    -------
    tuple
        Python's name of the codec, and whether a quotation mark occurs at all.

    Raises
    ------
    IngestionError
        If the bytes are no text in a supported encoding: NUL bytes, noise, or an unknown encoding.
    """
    head = source.head()
    marked = next((name for mark, name in _BOMS if head.startswith(mark)), None) or _without_bom(head)
    if marked and marked != "utf-8-sig":
        return _check_wide(source, marked), True
    facts = _scan(source)
    if facts.blank:
        raise IngestionError(f"{source.name} is empty; deliver a file with a header and rows", code="empty_file")
    if facts.nul_at >= 0 and (facts.utf8 or facts.controls < 0.02 * facts.size):
        raise IngestionError(
            f"{source.name} has NUL bytes inside its text (the first at byte {facts.nul_at + 1}); "
            "export it again as plain text",
            code="nul_bytes",
        )
    if facts.controls > max(4, 0.001 * facts.size) or facts.nul_at >= 0:
        raise _noise(source)
    if facts.utf8:
        name = "iso2022_jp" if facts.escapes and _decodes(source, "iso2022_jp") else "utf-8"
        return marked or name, facts.quotes
    return _legacy(source, marked), facts.quotes


def _noise(source: Source) -> IngestionError:
    return IngestionError(
        f"{source.name} is binary data of an unknown kind, not a table; deliver CSV, JSON, Excel or Parquet",
        code="binary_noise",
    )


def _scan(source: Source) -> _Facts:
    facts = _Facts()
    decoder = codecs.getincrementaldecoder("utf-8")()
    for data in source.chunks():
        if facts.nul_at < 0 and (at := data.find(0)) >= 0:
            facts.nul_at = facts.size + at
        facts.size += len(data)
        facts.controls += len(data) - len(data.translate(None, _CONTROLS))
        facts.quotes = facts.quotes or b'"' in data
        facts.escapes = facts.escapes or b"\x1b$" in data
        facts.blank = facts.blank and not data.strip(b" \t\r\n\xef\xbb\xbf")
        facts.utf8 = facts.utf8 and _feed(decoder, data)
    facts.utf8 = facts.utf8 and _feed(decoder, b"", True)
    return facts


def _feed(decoder: codecs.IncrementalDecoder, data: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(data, final)
    except UnicodeDecodeError:
        return False
    return True


def _legacy(source: Source, marked: str | None) -> str:
    """Choose among the encodings that decode every byte; refuse when none reads plausibly."""
    alive = [_Candidate(name, codecs.getincrementaldecoder(name)()) for name in _LEGACY]
    sample, windows = b"", False
    for data in source.chunks():
        windows = windows or len(data.translate(None, _UNDEFINED)) < len(data)
        if len(sample) < CHUNK and not data.isascii():
            sample += data
        alive = [item for item in alive if item.feed(data)]
    alive = [item for item in alive if item.feed(b"", True)]
    best = max(alive, key=lambda item: item.plausibility, default=None)
    plausibility = best.plausibility if best else -1.0
    high = len(sample) - len(sample.translate(None, bytes(range(128, 256))))
    in_utf8 = sum(len(found) for found in _MULTIBYTE.findall(sample))
    if marked or (high >= 20 and in_utf8 > 0.9 * high and plausibility < 0.5):
        raise IngestionError(
            f"{source.name} is UTF-8 text with broken characters in it; export it again", code="broken_encoding"
        )
    if best is None or plausibility <= 0:
        raise IngestionError(
            f"the encoding of {source.name} was not recognised (UTF-8, UTF-16, Shift-JIS, EUC-JP and Latin-1 were "
            "tried); save it as UTF-8",
            code="binary_noise" if high > 0.2 * len(sample) else "unknown_encoding",
        )
    return "latin-1" if best.name == "cp1252" and not windows else best.name


def _decodes(source: Source, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    return all(_feed(decoder, data) for data in source.chunks()) and _feed(decoder, b"", True)


def _check_wide(source: Source, encoding: str) -> str:
    decoder = codecs.getincrementaldecoder(encoding)()
    blank = True
    try:
        for data in source.chunks():
            text = decoder.decode(data)
            if "\x00" in text:
                raise IngestionError(
                    f"{source.name} has NUL characters inside its text; export it again as plain text",
                    code="nul_bytes",
                )
            blank = blank and not text.strip("\ufeff \t\r\n")
        decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        raise _noise(source) from error
    if blank:
        raise IngestionError(f"{source.name} is empty; deliver a file with a header and rows", code="empty_file")
    return encoding
