"""What a card rests on, section by section: gates, sensitivity, figures, data and origin."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cqox_assets.catalog import load_sensitivities
from cqox_assets.decisions import document as doc
from cqox_assets.decisions.document import Block, Section, Speaker, number
from cqox_assets.decisions.language import entry, known, term

_RANK = {"pass": 0, "not_run": 1, "warn": 2, "fail": 3}
_MARKS = {"pass": "✓", "warn": "▲", "fail": "✗", "not_run": "○"}


def status_cell(status: str, speak: Speaker) -> dict[str, str]:
    """Return a status as a coloured label that also reads without colour."""
    words = speak.said(term("status", status))
    return {"text": f"{_MARKS[status]} {words}" if status in _MARKS else words, "status": status}


def gate_section(card: Mapping[str, Any], speak: Speaker) -> Section:
    """Return the gates: those that need attention open, those that pass folded; sensitivity has its own section."""
    judged = [gate for gate in card["gates"] if not str(gate["name"]).startswith("sensitivity:")]
    attention = [gate for gate in judged if gate["status"] in ("fail", "warn", "not_run")]
    passed = [gate for gate in judged if gate["status"] == "pass"]
    counts = {"passed": len(passed), "all": len(judged), "attention": len(attention)}
    key = "gates_none" if not judged else "gates_attention" if attention else "gates_pass"
    blocks = [doc.text(speak(key, **counts)), *_gate_table(attention, speak)]
    blocks += doc.fold(speak("gates_that_pass", count=len(passed)), _gate_table(passed, speak))
    return Section("gates", speak("gates"), blocks)


def _gate_table(gates: Sequence[Mapping[str, Any]], speak: Speaker) -> list[Block]:
    head = [speak(key) for key in ("status", "gate", "value", "wanted", "meaning_and_remedy")]
    rows = [
        (
            status_cell(gate["status"], speak),
            {"text": _measure(gate, "title", speak), "note": _source(gate, speak)},
            number(gate["value"], 3),
            _limit(gate, speak),
            _gate_words(gate, speak),
        )
        for gate in gates
    ]
    return doc.grid(head, rows, right=(2,))


def _source(gate: Mapping[str, Any], speak: Speaker) -> str:
    name = str(gate.get("estimator") or "")
    return speak.said(entry("estimators", name, name.replace("_", " "))) if name else ""


def _measure(gate: Mapping[str, Any], part: str, speak: Speaker) -> str:
    return speak.said(entry("measures", str(gate.get("measure") or gate["name"]), str(gate[part]), part))


def _limit(gate: Mapping[str, Any], speak: Speaker) -> str:
    for key in ("below", "above"):
        if gate["limit"].startswith(f"{key} "):
            return speak(key, limit=gate["limit"].removeprefix(f"{key} "))
    return speak("no_limit") if gate["limit"] == "no limit" else str(gate["limit"])


def _gate_words(gate: Mapping[str, Any], speak: Speaker) -> dict[str, str]:
    detail = str(gate.get("detail") or "")
    if gate["status"] == "pass":
        return {"text": "", "note": detail}
    if gate["status"] == "not_run":  # what a failure would mean was not found out
        return {"text": speak("gate_not_run", detail=known(detail.rstrip(".") or speak("no_reason")))}
    words = [_measure(gate, part, speak) for part in ("meaning", "remedy")]
    return {"text": ("" if speak.language == "ja" else " ").join(part for part in words if part)}


def sensitivity_section(card: Mapping[str, Any], speak: Speaker) -> Section:
    """Return what would overturn the answer, and the assumptions that it rests on."""
    head = [speak(key) for key in ("status", "question", "value", "answer")]
    asked = list(dict.fromkeys(row["name"] for row in card["sensitivity"]))
    rows = [_question_row([row for row in card["sensitivity"] if row["name"] == name], speak) for name in asked]
    blocks = doc.grid(head, rows, right=(2,)) or [doc.text(speak("no_sensitivity"))]
    if len(card["sensitivity"]) > len(rows):
        every = [_sensitivity_row(row, speak) for row in card["sensitivity"]]
        blocks += doc.fold(speak("all_answers", count=len(every)), doc.grid(head, every, right=(2,)))
    ledger = [
        (
            {"text": speak.said(term("state", row["state"])), "status": row["state"]},
            {
                "text": speak.said(entry("assumptions", row["name"], row["statement"])),
                "note": speak.listed(
                    [entry("estimators", name, name.replace("_", " ")) for name in row["estimators"]], 4
                ),
            },
            speak.said(known(row["evidence"])),
        )
        for row in card["synthesis"]["ledger"]
    ]
    if ledger:
        head = [speak(key) for key in ("state", "assumption", "evidence")]
        blocks += [doc.heading(speak("rests_on")), *doc.grid(head, ledger)]
    return Section("sensitivity", speak("sensitivity"), blocks)


def _question_row(rows: list[Mapping[str, Any]], speak: Speaker) -> list[Any]:
    """Return the answer that the rule weighs, the upper median of all that were asked, and how the others came out."""
    answers = [row for row in rows if row["kind"] == "sensitivity"] or rows
    ranked = sorted(answers, key=lambda row: _RANK.get(row["status"], 1))
    shown = _sensitivity_row(ranked[len(ranked) // 2], speak)
    if len(answers) > 1:
        counts = Counter(row["status"] for row in answers)
        said = [f"{speak.said(term('status', status))} {counts[status]}" for status in _RANK if counts[status]]
        shown[1] = {**shown[1], "note": f"{shown[1]['note']}; {', '.join(said)}"}
    return shown


def _sensitivity_row(row: Mapping[str, Any], speak: Speaker) -> list[Any]:
    spec = load_sensitivities().get(row["name"])
    english = (spec.title, spec.question) if spec is not None else (str(row["name"]).replace("_", " "),) * 2
    title, question = (
        speak.said(entry("questions", row["name"], text, part))
        for part, text in zip(("title", "question"), english, strict=True)
    )
    target = str(row["key"].partition(": ")[2] or row.get("estimator"))
    estimator = speak.said(entry("estimators", target, target.replace("_", " ")))
    named = {"text": question, "note": estimator if question == title else f"{title}: {estimator}"}
    status = status_cell(row["status"], speak)
    if row["kind"] == "sensitivity":
        parts = [speak.said(known(row[key])) for key in ("meaning", "implies", "advice") if row.get(key)]
        joint = "" if speak.language == "ja" else " "
        said = {"text": joint.join(parts), "note": speak.said(known(row["unit"]))}
        return [status, named, number(row["value"], 3), said]
    if row["kind"] == "refusal":
        return [status, named, "–", _two(speak.said(known(row["reason"])), speak.said(known(row["remedy"])), speak)]
    return [status, named, "–", {"code": row["exception"]}]


def _two(reason: str, remedy: str, speak: Speaker) -> str:
    return f"{reason}。{remedy}" if speak.language == "ja" else f"{reason}; {remedy}"


def figure_section(card: Mapping[str, Any], speak: Speaker) -> Section:
    """Return every figure that was drawn, and why the others were not."""
    blocks: list[Block] = []
    left: list[Block] = []
    for name, item in card["figure_details"].items():
        title = speak.said(entry("figures", name, item["title"] or name))
        if name in card["figures"]:
            question = speak.said(entry("figures", name, item["question"], "question"))
            blocks.append(
                {
                    **{"kind": "figure", "name": name, "title": title, "question": question},
                    **{"file": card["figures"][name], "link": item["files"].get("svg", card["figures"][name])},
                    **{"alt": item["alt"], "caption": item["caption"]},
                }
            )
        else:
            reason = known(str(item["reason"]).rstrip("."))
            left.append(doc.text(speak("not_drawn", title=title, reason=reason), quiet=True))
    blocks += doc.fold(speak("figures_left", count=len(left)), left)
    return Section("figures", speak("figures"), blocks)


def data_section(card: Mapping[str, Any], speak: Speaker) -> Section:
    """Return arms, rows left out, roles and what was noticed while reading the data."""
    study = card["study"]
    found = [
        (speak("reference", arm=arm) if place == 0 else arm, speak("rows_count", value=rows))
        for place, (arm, rows) in enumerate(study["per_arm"].items())
    ]
    found += [
        (speak("left_out", reason=known(reason.replace("_", " "))), speak("rows_count", value=rows))
        for reason, rows in study["dropped"].items()
    ]
    if study["unit_of_outcome"]:
        found.append((speak("unit_of_outcome"), study["unit_of_outcome"]))
    found.append((speak("domain"), study["domain"]))
    rows = [
        (
            speak.said(term("role", role)),
            speak.listed([study["labels"].get(column, column) for column in columns]),
            f"{study['confidence'][role]:.0%}" if role in study["confidence"] else "–",
        )
        for role, columns in study["roles"].items()
        if columns
    ]
    head = [speak(key) for key in ("role", "columns", "sureness")]
    blocks = [
        *doc.facts(found),
        *doc.grid(head, rows, right=(2,)),
        *(doc.notice(speak.said(known(item))) for item in study["notices"]),
    ]
    return Section("data", speak("the_data"), blocks)


def origin_section(card: Mapping[str, Any], speak: Speaker) -> Section:
    """Return the declaration, what was not computed, and where the numbers come from."""
    declared = [(speak.said(term("fact", key)), plain(value)) for key, value in card["declaration"].items()]
    blocks: list[Block] = []
    if declared:
        blocks += [doc.heading(speak("declared")), *doc.grid((), declared)]
    else:
        blocks.append(doc.text(speak("not_declared")))
    names = {key: speak(key) if key in ("counterfactual", "critique") else key for key in card["not_computed"]}
    for key, reason in card["not_computed"].items():
        blocks.append(doc.text(speak("not_computed", name=names[key], reason=known(reason)), quiet=True))
    estimand = term("estimand", card["plan"]["estimand"])
    reason = known(card["plan"]["estimand_reason"])
    blocks.append(doc.text(speak("plan_rests", estimand=estimand, reason=reason), quiet=True))
    told = [(speak.said(term("fact", key)), plain(value)) for key, value in card["provenance"].items() if value]
    blocks += doc.grid((), [(speak("fingerprint"), {"code": card["study"]["fingerprint"]}), *told])
    if speak("english_parts"):
        blocks.append(doc.text(speak("english_parts"), quiet=True))
    return Section("origin", speak("provenance"), blocks)


def plain(value: Any) -> str:
    """Return a declared value as people write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    return json.dumps(value, ensure_ascii=False)
