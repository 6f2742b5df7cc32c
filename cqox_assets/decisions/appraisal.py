"""Quality score, critique and counterfactual systems as sections of the card."""

from collections.abc import Mapping, Sequence
from typing import Any

from cqox_assets.decisions import document as doc
from cqox_assets.decisions.document import Block, Section, Speaker, number
from cqox_assets.decisions.grounds import status_cell
from cqox_assets.decisions.language import between, entry, joined, known, listing, say, term
from cqox_assets.wording import short, with_unit

_VERDICT = {"APPROVE": "pass", "ITERATE": "warn", "REJECT": "fail"}
_SEVERITY = {"note": "not_run", "concern": "warn", "fatal": "fail"}
_TEN = 10.0


def quality_section(card: Mapping[str, Any], speak: Speaker) -> Section | None:
    """Return the score, its axes as bars and what changed since an earlier period; None for another form."""
    found = card.get("quality_score")
    if not isinstance(found, Mapping) or not all(isinstance(found.get(key), Mapping) for key in ("axes", "zones")):
        return None
    compared = found.get("comparison") or {}
    value = "–" if found.get("score") is None else number(found["score"], 3)
    blocks: list[Block] = [
        doc.standing(value, speak("out_of_100"), status_cell(str(found.get("zone") or "not_run"), speak))
    ]
    blocks += [doc.bars([_axis(name, found, compared, speak) for name in found["axes"]])]
    if compared:
        blocks += _compared(compared, speak)
    blocks += doc.fold(speak("score_evidence"), _evidence(found, speak))
    return Section("quality_score", speak("quality_score"), blocks)


def _axis(name: str, found: Mapping[str, Any], compared: Mapping[str, Any], speak: Speaker) -> dict[str, Any]:
    value, zone = found["axes"][name], str(found["zones"].get(name, "not_run"))
    row = (compared.get("axes") or {}).get(name) or {}
    note = speak("before", value=row["before"]) if row.get("before") is not None else ""
    return {
        "label": _title(name, speak),
        "share": 0.0 if value is None else max(0.0, min(100.0, 100 * value / _TEN)),
        "shown": "–" if value is None else f"{value:.1f}",
        "note": note,
        **{key: text for key, text in status_cell(zone, speak).items() if key == "status"},
        "zone": status_cell(zone, speak)["text"],
    }


def _title(name: str, speak: Speaker) -> str:
    words = speak.said(term("axis", name))
    return words[:1].upper() + words[1:]


def _compared(found: Mapping[str, Any], speak: Speaker) -> list[Block]:
    first, second = found["scenarios"]
    facts = {"english": found["sentence"], "first": first, "second": second}
    key = "score_unmoved" if found["score"].get("change") is None else "score_moved"
    ends = {part: number(found["score"].get(part), 3) for part in ("before", "after")}
    blocks = [doc.heading(speak("since_before")), doc.text(speak.said(say(key, **facts, **ends)))]
    head = [speak("contrast"), speak("estimand"), str(first), str(second), speak("moved_by"), speak("std_error")]
    rows = [
        [row["contrast"], speak.said(term("estimand", row["estimand"])),
         *(number(row[key]) for key in ("before", "after", "change", "std_error"))]
        for row in found.get("effects") or ()
    ]  # fmt: skip
    return blocks + doc.grid(head, rows, right=(2, 3, 4, 5), wide=True)


def _evidence(found: Mapping[str, Any], speak: Speaker) -> list[Block]:
    formula = found.get("formula") or {}
    blocks = doc.bullets(
        {"lead": _title(name, speak), "text": speak.said(entry("formulas", name, text))}
        for name, text in formula.items()
    )
    for name, rows in (found.get("evidence") or {}).items():
        head = [speak("evidence"), speak("value"), speak("points")]
        table = doc.grid(head, [_counted(row, speak) for row in rows], right=(1, 2))
        blocks += doc.fold(f"{_title(name, speak)} ({len(rows)})", table)
    return blocks


def _counted(row: Mapping[str, Any], speak: Speaker) -> list[str]:
    value = row.get("value")
    if isinstance(value, bool):
        shown = speak("yes" if value else "no")
    else:
        shown = value if isinstance(value, str) else number(value, 3)
    return [speak.said(known(str(row["name"]))), shown, number(row.get("points"), 3)]


def critique_section(card: Mapping[str, Any], speak: Speaker) -> Section | None:
    """Return the reviewer's verdict, its rounds and its objections; None for another form."""
    found = card.get("critique")
    rounds = found.get("rounds") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(rounds, Sequence) or not _are_rounds(rounds):
        return None
    pill = _verdict(found["verdict"], speak)
    blocks: list[Block] = [doc.standing("", _review_sentence(found, speak), pill)]
    head = [speak(key) for key in ("round", "verdict", "rows", "covariates", "remedy", "change")]
    table = [
        [number(row["number"]), _verdict(row["verdict"], speak), number(row["rows"]), number(row["covariates"]),
         speak.said(term("remedy", row["remedy"])) if row["remedy"] else "–",
         speak.said(term("remedy_does", row["remedy"])) if row["change"] else speak("as_declared")]
        for row in rounds
    ]  # fmt: skip
    blocks += doc.grid(head, table, right=(2, 3), wide=True)
    rests = int(found.get("headline_round") or 0)
    for row in sorted(rounds, key=lambda item: item["number"] != rests):
        own = doc.bullets(_objection(item, speak) for item in row["objections"])
        title = speak("objections", number=row["number"]) if len(rounds) > 1 else speak("objections_only")
        blocks += [doc.heading(title), *own] if own and row["number"] == rests else doc.fold(title, own)
    told = speak.said(entry("formulas", "review", str(found.get("rules") or "")))
    rules = [doc.text(told, quiet=True)] if found.get("rules") else []
    blocks += doc.fold(speak("review_rules"), rules)
    return Section("critique", speak("critique"), blocks)


def _are_rounds(rounds: Sequence[Any]) -> bool:
    needed = ("number", "verdict", "rows", "covariates", "remedy", "change", "objections")
    return bool(rounds) and all(isinstance(row, Mapping) and all(key in row for key in needed) for row in rounds)


def _verdict(verdict: str, speak: Speaker) -> dict[str, str]:
    return {"text": speak.said(term("review", verdict)), "status": _VERDICT.get(verdict, "not_run")}


def _objection(item: Mapping[str, Any], speak: Speaker) -> dict[str, str]:
    severity = str(item["severity"])
    return {
        "text": speak.said(term("severity", severity)),
        "status": _SEVERITY.get(severity, "not_run"),
        "lead_after": speak.said(term("topic", item["topic"])),
        "after": speak.said(known(item["sentence"])),
    }


def _review_sentence(found: Mapping[str, Any], speak: Speaker) -> str:
    rounds, english = found["rounds"], str(found["sentence"])
    english = english[:1].upper() + english[1:]
    first, tried = rounds[0], len(rounds) - 1
    if found["verdict"] == "APPROVE":
        concerns = sum(item["severity"] == "concern" for item in first["objections"])
        return speak.said(say("review_approves", english=english, count=concerns))
    if found["verdict"] == "ITERATE" and not tried:
        return speak.said(say("review_stuck", english=english))
    if found["verdict"] == "ITERATE":
        done = listing([term("remedy", row["remedy"]) for row in rounds[1:]])
        cured = term("cured", "yes" if rounds[-1]["verdict"] == "APPROVE" else "no")
        rests = found.get("headline_round") or 0
        return speak.said(say("review_iterates", english=english, done=done, cured=cured, number=rests))
    worst = next((item for item in rounds[-1]["objections"] if item["failing"] or item["severity"] == "fatal"), None)
    why = known(worst["sentence"]) if worst else ""
    return speak.said(say("review_rejects", english=english, tried=tried, why=why))


def counterfactual_section(card: Mapping[str, Any], speak: Speaker) -> Section | None:
    """Return one table of the systems per contrast and how far they differ; None for another form."""
    found = card.get("counterfactual")
    if not isinstance(found, Mapping) or not _are_systems(found.get("contrasts")):
        return None
    unit, blocks = str(card["study"].get("unit") or ""), list[Block]()
    for row in found["contrasts"]:
        if len(found["contrasts"]) > 1:
            blocks.append(doc.heading(row["contrast"]))
        blocks.append(doc.text(_systems_sentence(row, unit, speak)))
        head = [speak(key) for key in ("system", "ate_predicted", "ate_corrected", "interval")]
        head += ["R²", "RMSE", speak("calibration")]
        table = [_system(item, unit, speak) for item in row["systems"]]
        blocks += doc.grid(head, table, right=range(1, 7), wide=True)
    told = speak.said(entry("formulas", "systems", f"{found.get('method')}."))
    method = [doc.text(told, quiet=True)] if found.get("method") else []
    method += doc.bullets(speak.said(known(text)) for text in found.get("notices") or ())
    return Section("counterfactual", speak("counterfactual"), blocks + doc.fold(speak("how_computed"), method))


def _are_systems(rows: Any) -> bool:
    needed = ("contrast", "systems", "consensus", "spread", "range", "range_in_sd", "robustness")
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, Mapping) and all(key in row for key in needed) for row in rows)
    )


def _systems_sentence(row: Mapping[str, Any], unit: str, speak: Speaker) -> str:
    said = say(
        "systems_agree",
        contrast=row["contrast"],
        estimate=with_unit(row["consensus"]["estimate"], unit),
        ends=between(row["consensus"]["low"], row["consensus"]["high"], unit),
        spread=with_unit(row["spread"], unit),
        range=with_unit(row["range"], unit),
        sd=short(row["range_in_sd"], 2),
        robustness=term("robust", row["robustness"]),
    )
    return speak.said(said)


def _system(item: Mapping[str, Any], unit: str, speak: Speaker) -> list[str]:
    fit = item.get("fit") or {}
    return [
        speak.said(term("system", item["system"])),
        with_unit(item["plug_in"], unit),
        with_unit(item["estimate"], unit),
        speak.said(between(item["low"], item["high"], unit)),
        *(number(fit.get(key), 3) for key in ("r2", "rmse", "calibration_slope")),
    ]


def refused_section(key: str, found: Any, speak: Speaker) -> Section | None:
    """Return why a stage could not answer, and what to do; None where it did."""
    if not isinstance(found, Mapping) or found.get("status") != "not_computed" or not found.get("reason"):
        return None
    reason = speak("not_computed", name=speak(key), reason=known(str(found["reason"])))
    remedy = joined(known(str(found.get("remedy") or "")))
    advice = [doc.text(speak("remedy_is", remedy=remedy), quiet=True)] if remedy else []
    return Section(key, speak(key), [doc.text(reason), *advice])
