"""Shows a result of another stage whose parts the card does not know: sentences, facts, tables, in that order."""

from collections.abc import Mapping, Sequence
from typing import Any

from cqox_assets.decisions import document as doc
from cqox_assets.decisions.document import Block, Section, Speaker, number
from cqox_assets.decisions.language import term

_SENTENCES = ("sentence", "summary", "meaning", "advice", "recommendation", "reason", "headline", "conclusion")
_LISTS = ("sentences", "notices", "reasons", "findings", "advice")
_STATUS = {"pass", "warn", "fail", "not_run"}
_DEEPEST = 2


def section_of(key: str, found: Any, speak: Speaker) -> Section | None:
    """Return a section for whatever a stage has put under `key`, or None if there is nothing.

    Parameters
    ----------
    found : Any
        JSON. A mapping's `title` is its heading; texts called sentence, summary, meaning, advice and so on are
        paragraphs; single values are facts; a list of mappings is a table; a mapping of mappings is a table with
        its names in front.
    """
    if found is None or found == {} or found == []:
        return None
    blocks = _blocks(found, speak, 0)
    return Section(key, speak(key), blocks) if blocks else None


def _blocks(found: Any, speak: Speaker, depth: int) -> list[Block]:
    if isinstance(found, Mapping):
        return _mapping_blocks(found, speak, depth)
    if isinstance(found, Sequence) and not isinstance(found, str):
        return _list_blocks(found, speak)
    return [doc.text(_value(found, speak))]


def _mapping_blocks(found: Mapping[str, Any], speak: Speaker, depth: int) -> list[Block]:
    told = {key: value for key, value in found.items() if value is not None and value != [] and value != {}}
    title = told.pop("title", None)
    blocks: list[Block] = [doc.heading(str(title))] if title and depth else []
    for key in _SENTENCES:
        if isinstance(told.get(key), str):
            blocks.append(doc.text(str(told.pop(key))))
    single = {key: value for key, value in told.items() if not isinstance(value, (Mapping, list, tuple))}
    long = {key: value for key, value in single.items() if isinstance(value, str) and len(value) > 60}
    short = [(_name(key, speak), _value(value, speak)) for key, value in single.items() if key not in long]
    blocks += doc.facts(short)
    for key, value in told.items():
        if key not in single:
            blocks += _part(key, value, speak, depth)
    blocks += [doc.text(f"{_name(key, speak)}: {value}", quiet=True) for key, value in long.items()]
    return blocks


def _part(key: str, value: Any, speak: Speaker, depth: int) -> list[Block]:
    if key in _LISTS and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return doc.bullets(value)
    if isinstance(value, Mapping) and all(not isinstance(item, (Mapping, list, tuple)) for item in value.values()):
        inner = doc.facts((_name(name, speak, "axis"), _value(item, speak)) for name, item in value.items())
    elif isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        inner = _table([{"": _name(name, speak, "axis"), **item} for name, item in value.items()], speak)
    elif depth < _DEEPEST:
        inner = _blocks(value, speak, depth + 1)
    else:
        inner = [doc.text(_value(value, speak))]
    return [doc.heading(_name(key, speak)), *inner] if inner else []


def _list_blocks(found: Sequence[Any], speak: Speaker) -> list[Block]:
    if found and all(isinstance(item, Mapping) for item in found):
        return _table(list(found), speak)
    return doc.bullets(_value(item, speak) for item in found)


def _table(rows: list[Mapping[str, Any]], speak: Speaker) -> list[Block]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [[_cell(row.get(name), speak) for name in columns] for row in rows[: doc.MOST_ROWS]]
    right = [
        place
        for place, name in enumerate(columns)
        if all(
            isinstance(row.get(name), (int, float, type(None))) and not isinstance(row.get(name), bool) for row in rows
        )
    ]
    blocks = doc.grid([_name(name, speak) if name else "" for name in columns], shown, right)
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
    if isinstance(value, Mapping):
        return "; ".join(f"{_name(key, speak)} {_value(item, speak)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item, speak) for item in value)
    return str(value)


def _name(key: str, speak: Speaker, group: str = "fact") -> str:
    return speak.said(term(group, key))
