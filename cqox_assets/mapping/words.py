"""Reads column names: cuts them into words (English, German compounds, Japanese) and finds what they stand for."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

_FOLD = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff々ー]+")
_PIECES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff々ー]+|[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])")
_LINK = ("s", "n", "en", "es", "")
_PREPOSITIONS = frozenset({"of", "at", "since", "until", "per", "from", "by", "in", "bei", "von", "seit", "pro"})
_SPANS = frozenset({"days", "time", "months", "years", "weeks", "hours", "distance", "tage"})
_SCALES = frozenset({*"dwmqyh", "yr", "yrs", "mo", "wk"})
_SCORES = frozenset({"score", "index", "scale", "points", "punkte"})
_KEYED = frozenset({"unit", "cluster", "pair", "stratum"})
WHOLE, BARE, HEAD, COMPOUND, PART, INSIDE = 1.0, 0.95, 0.85, 0.8, 0.45, 0.35


@cache
def tokens(name: str) -> tuple[str, ...]:
    """Cut a name into lower-case words: `re78` is (re, 78), `testScore` is (test, score), `顧客ID` is (顧客, id)."""
    text = _CAMEL.sub(" ", unicodedata.normalize("NFKC", name))
    pieces: list[str] = []
    for piece in _PIECES.findall(text):
        start = 0
        for block in _CJK.finditer(piece):
            pieces += [piece[start : block.start()], block.group()]
            start = block.end()
        pieces.append(piece[start:])
    return tuple(piece.casefold().translate(_FOLD) for piece in pieces if piece)


@dataclass(frozen=True)
class Match:
    """How strongly a name stands for a group of words, 0 to 1, and the word that it was found by."""

    strength: float
    word: str


class Lexicon:
    """Words by group, ready to be looked up in names.

    Parameters
    ----------
    groups : mapping of str to iterable of str
        Group (a role or a helper group) to its words; a leading `=` asks for the whole name.
    """

    def __init__(self, groups: Mapping[str, Iterable[str]]) -> None:
        self._phrases: dict[tuple[str, ...], dict[str, str]] = {}
        self._whole: dict[tuple[str, ...], dict[str, str]] = {}
        self._longest = 1
        for group, words in groups.items():
            for word in words:
                key = tokens(word)
                if not key:
                    continue
                (self._whole if word.startswith("=") else self._phrases).setdefault(key, {})[group] = word.lstrip("=")
                self._longest = max(self._longest, len(key))
        singles = {key[0]: found for key, found in self._phrases.items() if len(key) == 1}
        self._singles = singles
        self._signs = {word: found for word, found in singles.items() if _CJK.search(word) and len(word) > 1}
        self._compounds = {word: found for word, found in singles.items() if len(word) > 4 and not _CJK.search(word)}
        self._marks = {word for word, found in singles.items() if {"before", "after"} & set(found)}
        self._neutral = {word for word, found in singles.items() if "neutral" in found}
        self._identifiers = {word for word, found in singles.items() if "identifier" in found}

    def read(self, name: str) -> dict[str, Match]:
        """Return the best match of every group that the name stands for.

        The last word of a name is what it is about, in all three languages (`treatment_cost` is a cost), except
        before a preposition (`age_at_treatment` is an age); a word elsewhere counts for less.
        """
        key, found = tokens(name), {}
        for group, word in {**self._phrases.get(key, {}), **self._whole.get(key, {})}.items():
            found[group] = Match(WHOLE, word)
        head, rest = _split(key)
        core = self._core(head)
        for group, word in self._phrases.get(core, {}).items():
            _keep(found, group, BARE, word)
        self._read_part(core, found)
        if core != head:  # what was stripped may still say before or after
            whole: dict[str, Match] = {}
            self._read_part(head, whole)
            for group in {"before", "after"} & set(whole):
                _keep(found, group, whole[group].strength, whole[group].word)
        self._read_phrases(rest, found, INSIDE, INSIDE)
        if len(core) > 1 and core[-1] in self._identifiers:  # a store's id stands for the store
            named: dict[str, Match] = {}
            self._read_part(core[:-1], named)
            found.update({group: match for group, match in named.items() if group.split(":")[-1] in _KEYED})
        if len(core) > 1 and core[-1] in _SCORES:  # a recovery score measures recovery
            named = {}
            self._read_part(core[:-1], named)
            for group, match in named.items():
                if group.split(":")[-1] == "outcome":
                    _keep(found, group, match.strength, match.word)
        return found

    def _read_part(self, core: tuple[str, ...], found: dict[str, Match]) -> None:
        self._read_phrases(core, found, HEAD, PART)
        for position, token in enumerate(core):
            self._read_token(token, position == len(core) - 1, found)

    def root(self, name: str) -> frozenset[str]:
        """Return what a name measures: its words without marks of before and after, empty endings and numbers."""
        marks = [word for word, groups in self._singles.items() if {"before", "after"} & set(groups)]
        left, key = set(), tokens(name)
        for position, token in enumerate(key):
            for mark in marks:
                if token == mark or (len(mark) > 1 and _CJK.search(mark)):
                    token = token.replace(mark, "")
                elif len(mark) > 4 and token.startswith(mark):
                    token = token[len(mark) :].removeprefix("es").removeprefix("s")
            if _CJK.search(token):
                token = self._strip_signs(token)
            scale = token in _SCALES and position > 0 and key[position - 1].isdigit()
            if token and not self._idle(token) and not scale:
                left.add(token[:-1] if len(token) > 3 and token.endswith("s") else token)
        return frozenset(left)

    def _core(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """Strip what says nothing about what is measured: flag, amount, has, 30d, before, after."""
        while len(key) > 1 and (self._idle(key[-1]) or (len(key) > 2 and key[-1] in _SCALES and key[-2].isdigit())):
            key = key[:-1]
        while len(key) > 1 and (key[0] in self._neutral or key[0] in self._marks):
            key = key[1:]
        return key

    def _idle(self, token: str) -> bool:
        return token in self._neutral or token in self._marks or token.isdigit()

    def _read_phrases(self, key: tuple[str, ...], found: dict[str, Match], at_end: float, elsewhere: float) -> None:
        for size in range(min(self._longest, len(key)), 0, -1):
            for start in range(len(key) - size + 1):
                part = key[start : start + size]
                ends = start + size == len(key)
                for group, word in self._lookup(part).items():
                    _keep(found, group, at_end if ends else elsewhere, word)

    def _lookup(self, part: tuple[str, ...]) -> dict[str, str]:
        hit = self._phrases.get(part)
        if hit is None and len(part) == 1 and len(part[0]) > 3 and part[0].endswith("s"):
            hit = self._phrases.get((part[0][:-1],))
        return hit or {}

    def _read_token(self, token: str, last: bool, found: dict[str, Match]) -> None:
        if _CJK.search(token):
            self._read_signs(token, last, found)
        elif len(token) > 6:
            for word, groups in self._compounds.items():
                if len(word) >= len(token) or word not in token:
                    continue
                strength = self._compound_strength(token, word, last)
                for group, spelled in groups.items():
                    if strength:
                        _keep(found, group, strength, spelled)
                mark = self._singles.get(token[: -len(word)], {}) if token.endswith(word) else {}
                if "before" in mark:
                    _keep(found, "before", PART, mark["before"])

    def _compound_strength(self, token: str, word: str, last: bool) -> float:
        if token.endswith(word):
            return COMPOUND if last else PART
        if token.startswith(word):
            tail = token[len(word) :]
            idle = any(tail.removeprefix(link) in self._neutral for link in _LINK)
            return COMPOUND if idle and last else INSIDE
        return 0.0

    def _read_signs(self, token: str, last: bool, found: dict[str, Match]) -> None:
        for word, groups in self._signs.items():
            at = token.rfind(word)
            if at < 0:
                continue
            tail = self._strip_signs(token[at + len(word) :])
            for group, spelled in groups.items():
                ends = last and (not tail or (tail in self._identifiers and group.split(":")[-1] in _KEYED))
                _keep(found, group, BARE if token == word and last else HEAD if ends else PART, spelled)

    def _strip_signs(self, tail: str) -> str:
        while tail:
            ending = max((word for word in self._neutral if tail.endswith(word)), key=len, default="")
            if not ending:
                return tail
            tail = tail[: -len(ending)]
        return tail


def _split(key: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for position, token in enumerate(key[1:], start=1):
        if token in _PREPOSITIONS or (token == "to" and key[position - 1] in _SPANS):
            return key[:position], key[position + 1 :]
    return key, ()


def _keep(found: dict[str, Match], group: str, strength: float, word: str) -> None:
    held = found.get(group)
    if held is None or strength > held.strength or (strength == held.strength and len(word) > len(held.word)):
        found[group] = Match(strength, word)


def stem(name: str) -> tuple[tuple[str, ...], int | None]:
    """Return a name's words without their final number, and that number: `re78` gives ((re,), 78)."""
    key = tokens(name)
    if len(key) > 1 and key[-1].isdigit() and len(key[-1]) <= 6:
        return key[:-1], int(key[-1])
    return key, None
