"""The languages of a card: one table of words and sentences, and text that knows itself in every language."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cqox_assets.errors import CatalogError
from cqox_assets.measures import MEASURES
from cqox_assets.spec import ASSUMPTIONS
from cqox_assets.wording import listed, span

DEFAULT = "en"
LANGUAGES: Mapping[str, str] = {"en": "English", "ja": "日本語"}
TABLE = Path(__file__).with_name("words.yaml")
PHRASES = Path(__file__).with_name("phrases.yaml")


class Said(str):
    """An English text that also knows itself in other languages; everywhere else it is an ordinary string.

    A plain string, such as a column's name or a sentence that only exists in English, stands for itself in every
    language.
    """

    other: Mapping[str, str]

    def __new__(cls, english: str, other: Mapping[str, str]) -> "Said":
        """Return the text with its translations by language."""
        made = super().__new__(cls, english)
        made.other = dict(other)
        return made

    def __getnewargs__(self) -> tuple[str, Mapping[str, str]]:  # type: ignore[override]
        return str(self), self.other

    def __deepcopy__(self, memo: dict[int, Any]) -> "Said":
        return self


@cache
def table() -> Mapping[str, Any]:
    """Return the table of words: `fixed`, `sentences` and `terms` in every language; the rest in all but English."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    words, phrases = (yaml.load(path.read_text("utf-8"), loader) for path in (TABLE, PHRASES))
    return {**words, "patterns": [*phrases["patterns"], *words["patterns"]]}


def in_language(text: str, language: str) -> str:
    """Return a text in a language; what has no translation stays as it is."""
    return text.other.get(language, str(text)) if isinstance(text, Said) else text


def say(key: str, **facts: Any) -> Said:
    """Return a sentence of the table, with its places filled by values that are said in the same language.

    Raises
    ------
    CatalogError
        If the table has no such sentence.
    """
    forms = table()["sentences"].get(key)
    if forms is None:
        raise CatalogError(f"words.yaml has no sentence '{key}'; add it under sentences in every language")
    filled = {
        language: forms[language].format_map({name: in_language(fact, language) for name, fact in facts.items()})
        for language in LANGUAGES
    }
    return Said(filled[DEFAULT], filled)


def word(key: str, language: str) -> str:
    """Return a fixed word, such as a heading.

    Raises
    ------
    CatalogError
        If the table has no such word.
    """
    try:
        return str(table()["fixed"][key][language])
    except KeyError as error:
        raise CatalogError(f"words.yaml has no word '{key}' in '{language}'; add it under fixed") from error


def term(group: str, name: str) -> Said:
    """Return a term of a closed list (verdict, status, estimand, role, ...); an unknown one is its own name."""
    plain = str(name).replace("_", " ")
    forms = table()["terms"].get(group, {}).get(str(name), {})
    return Said(forms.get(DEFAULT, plain), {language: forms.get(language, plain) for language in LANGUAGES})


def entry(kind: str, name: str, english: str, part: str = "title") -> Said:
    """Return the words of a catalogue entry or measure, whose English stands in the catalogue itself.

    Parameters
    ----------
    kind : str
        `estimators`, `questions`, `figures`, `assumptions` or `measures`.
    part : str
        `title`, or what else the table holds of that kind, such as `meaning` and `remedy` of a measure.
    """
    found = table()["catalogue"].get(kind, {}).get(str(name), {})
    forms = found.get(part, {}) if isinstance(found, Mapping) else {}
    return Said(english, {language: forms.get(language, english) for language in LANGUAGES if language != DEFAULT})


def known(text: str) -> Said:
    """Return an English sentence of another stage, with its translation where the table knows its shape."""
    for shape, forms in _shapes():
        if (found := shape.fullmatch(text)) is not None:
            parts = {name: _part(name, value or "") for name, value in found.groupdict().items()}
            said = {name: {key: in_language(part, name) for key, part in parts.items()} for name in forms}
            return Said(text, {language: form.format_map(said[language]) for language, form in forms.items()})
    return Said(text, {})


@cache
def _shapes() -> tuple[tuple[re.Pattern[str], Mapping[str, str]], ...]:
    return tuple(
        (re.compile(row[DEFAULT]), {language: row[language] for language in LANGUAGES if language != DEFAULT})
        for row in table()["patterns"]
    )


def _part(name: str, value: str) -> str:
    """Return a part of a sentence: what is no name of the user's is said in the same language."""
    if name.startswith("said"):
        return known(value)
    if name.startswith("role"):
        return term("role", value)
    if name.startswith("kind"):
        return term("treatment_kind", value)
    if name in ("estimand", "size_word", "design"):
        return term(name.removesuffix("_word"), value)
    if name.startswith("estimator"):
        return entry("estimators", value, value)
    if name.startswith("measure"):
        measure = next((key for key, item in MEASURES.items() if item.title == value), value)
        return entry("measures", measure, value)
    if name == "meaning":
        measure = next((key for key, item in MEASURES.items() if item.meaning == value), "")
        return entry("measures", measure, value, "meaning")
    if name == "names":
        return listing([entry("estimators", part, part) for part in re.split(", | and ", value)])
    if name == "statement":
        assumption = next((key for key, item in ASSUMPTIONS.items() if item.statement == value), "")
        return entry("assumptions", assumption, value)
    return value


def lowered(text: str) -> Said:
    """Return a text as the continuation of a sentence: without its capital and its full stop."""
    plain = str(text)
    english = f"{plain[:1].lower()}{plain[1:]}".rstrip(".")
    known = text.other if isinstance(text, Said) else {}
    return Said(english, {language: form.rstrip("。.") for language, form in known.items() if language != DEFAULT})


def listing(names: Sequence[str], most: int = 6) -> Said:
    """Return names as people list them in each language."""
    shown = [in_language(name, "ja") for name in names]
    more = f" ほか{len(shown) - most}件" if len(shown) > most else ""
    return Said(listed([str(name) for name in names], most), {"ja": "、".join(shown[:most]) + more})


def between(low: float | None, high: float | None, unit: str = "") -> Said:
    """Return an interval in words."""
    english = span(low, high, unit)
    return Said(english, {"ja": english.replace(" to ", " ～ ")})


def joined(*parts: str) -> Said:
    """Return parts one after the other, in every language."""
    forms = {language: "".join(in_language(part, language) for part in parts) for language in LANGUAGES}
    return Said(forms[DEFAULT], forms)
