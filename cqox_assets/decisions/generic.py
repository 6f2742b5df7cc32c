"""Shows a result of another stage whose parts the card does not know: sentences, facts, tables, in that order."""

from collections.abc import Mapping, Sequence
from typing import Any

from cqox_assets.decisions import document as doc
from cqox_assets.decisions.document import Block, Section, Speaker, number
from cqox_assets.decisions.language import term

_SENTENCES = ("sentence", "summary", "meaning", "advice", "recommendation", "reason", "headline", "conclusion")
_LISTS = ("sentences", "notices", "reasons", "findings", "advice")
_STATUS = {"pass", "warn", "fail", "not_run"}


def section_of(key: str, found: Any, speak: Speaker) -> Section | None:
    """Return a section for whatever a stage has put under `key`, or None if there is nothing to show.

    Parameters
    ----------
    found : Any
        JSON. Texts called sentence, summary, meaning, advice and so on are paragraphs; single values are facts; a list
        of mappings is a table; a mapping of mappings is a table with its names in front. What lies deeper is left to
        the JSON card: a structure in a cell is for programs, not for readers.
    """
    blocks = _blocks(found, speak)
    return Section(key, speak(key), blocks) if blocks else None


def _blocks(found: Any, speak: Speaker) -> list[Block]:
    if isinstance(found, Mapping):
        return _mapping_blocks(found, speak)
    if _nested(found):
        return _list_blocks(found, speak)
    return [] if found is None or found == "" else [doc.text(_value(found, speak))]


def _mapping_blocks(found: Mapping[str, Any], speak: Speaker) -> list[Block]:
    told = {key: value for key, value in found.items() if value is not None and value != [] and value != {}}
    told.pop("title", None)
    blocks: list[Block] = []
    for key in _SENTENCES:
        if isinstance(told.get(key), str):
            blocks.append(doc.text(str(told.pop(key))))
    single = {key: value for key, value in told.items() if not _nested(value)}
    long = {key: value for key, value in single.items() if isinstance(value, str) and len(value) > 60}
    blocks += doc.facts((_name(key, speak), _value(value, speak)) for key, value in single.items() if key not in long)
    for key, value in told.items():
        if key not in single:
            blocks += _part(key, value, speak)
    return blocks + [doc.text(f"{_name(key, speak)}: {value}", quiet=True) for key, value in long.items()]


def _part(key: str, value: Any, speak: Speaker) -> list[Block]:
    if key in _LISTS and not isinstance(value, Mapping) and all(isinstance(item, str) for item in value):
        return doc.bullets(value)
    if not isinstance(value, Mapping):
        inner = _list_blocks(value, speak)
    elif all(isinstance(item, Mapping) for item in value.values()):
        inner = _table([{"": _name(name, speak, "axis"), **item} for name, item in value.items()], speak)
    else:
        flat = {name: item for name, item in value.items() if not _nested(item)}
        inner = doc.facts((_name(name, speak, "axis"), _value(item, speak)) for name, item in flat.items())
    return [doc.heading(_name(key, speak)), *inner] if inner else []


def _list_blocks(found: Sequence[Any], speak: Speaker) -> list[Block]:
    if found and all(isinstance(item, Mapping) for item in found):
        return _table(list(found), speak)
    return doc.bullets(_value(item, speak) for item in found if not _nested(item))


def _nested(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _table(rows: list[Mapping[str, Any]], speak: Speaker) -> list[Block]:
    columns = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if not any(_nested(row.get(name)) for row in rows)
    ]
    if not columns:
        return []
    shown = [[_cell(row.get(name), speak) for name in columns] for row in rows[: doc.MOST_ROWS]]
    right = [
        place
        for place, name in enumerate(columns)
        if all(
            isinstance(row.get(name), (int, float, type(None))) and not isinstance(row.get(name), bool) for row in rows
        )
    ]
    blocks = doc.grid([_name(name, speak) if name else "" for name in columns], shown, right, wide=True)
    if len(rows) > doc.MOST_ROWS:
        blocks.append(doc.text(speak("more_rows", count=len(rows) - doc.MOST_ROWS), quiet=True))
    return blocks


def _cell(value: Any, speak: Speaker) -> Any:
    if isinstance(value, str) and value in _STATUS:
        return {"text": speak.said(term("status", value)), "status": value}
    return _value(value, speak)


def _value(value: Any, speak: Speaker) -> str:
    if isinstance(value, bool):
        return speak("yes") if value else speak("no")
    if value is None or isinstance(value, (int, float)):
        return number(value)
    return str(value)


def _name(key: str, speak: Speaker, group: str = "fact") -> str:
    return speak.said(term(group, key))
