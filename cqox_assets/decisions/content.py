"""What a card says, section by section, in one language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cqox_assets.decisions import document as doc
from cqox_assets.decisions.appraisal import (
    counterfactual_section,
    critique_section,
    quality_section,
    refused_section,
)
from cqox_assets.decisions.document import Block, Section, Speaker, number
from cqox_assets.decisions.generic import section_of
from cqox_assets.decisions.grounds import (
    data_section,
    figure_section,
    gate_section,
    origin_section,
    sensitivity_section,
)
from cqox_assets.decisions.language import between, entry, known, listing, say, term
from cqox_assets.decisions.worth import policy_section
from cqox_assets.wording import short, with_unit

# Results of other stages that a card may hold; one of another form is shown by its parts.
FURTHER = {
    "policy": policy_section,
    "quality_score": quality_section,
    "critique": critique_section,
    "counterfactual": counterfactual_section,
}


@dataclass(frozen=True)
class Document:
    """A card in one language: what stands on top, then the sections."""

    language: str
    title: str
    eyebrow: str
    verdict: str
    verdict_words: str
    recommendation: str
    facts: list[Block]
    sections: list[Section]


def document_of(card: Mapping[str, Any], language: str = "en") -> Document:
    """Return a card as a document.

    Parameters
    ----------
    card : mapping
        From `build_card`; a card of an earlier version may lack what was added since.
    language : str
        `en` or `ja`. What only exists in English stays English, and the last section says so.
    """
    speak = Speaker(language)
    told = _told(card, speak.language)
    partition = (card.get("provenance") or {}).get("partition")
    sections = [
        _why(told, speak),
        _estimates(card, speak),
        *(_further(key, card, speak) for key in FURTHER),
        _guardrails(card, speak),
        gate_section(card, speak),
        sensitivity_section(card, speak),
        figure_section(card, speak),
        data_section(card, speak),
        origin_section(card, speak),
    ]
    return Document(
        language=speak.language,
        title=told["question"],
        eyebrow=speak("decision_card") + (f" · {partition}" if partition else ""),
        verdict=card["verdict"],
        verdict_words=speak.said(term("verdict", card["verdict"])),
        recommendation=told["recommendation"],
        facts=_head_facts(card, speak),
        sections=[section for section in sections if section is not None and section.blocks],
    )


def _further(key: str, card: Mapping[str, Any], speak: Speaker) -> Section | None:
    found = card.get(key)
    return refused_section(key, found, speak) or FURTHER[key](card, speak) or section_of(key, found, speak)


def _told(card: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return the card with its own sentences in a language."""
    said = dict((card.get("translations") or {}).get(language, {}))
    pairs = zip(card["reasons"], said.pop("reasons", card["reasons"]), strict=True)
    return {**card, **said, "reasons": [{**reason, **words} for reason, words in pairs]}


def _unit(card: Mapping[str, Any], scale: str) -> str:
    return str(card["study"]["unit"]) if scale == "difference" else ""


def _head_facts(card: Mapping[str, Any], speak: Speaker) -> list[Block]:
    found: list[tuple[str, str, str]] = []
    for group in card["synthesis"]["groups"]:
        if group["preferred"]:
            unit, open_ends = _unit(card, group["scale"]), group["low"] is None and group["high"] is None
            ends = speak("no_interval") if open_ends else speak.said(between(group["low"], group["high"], unit))
            found.append((question_label(group, speak), with_unit(group["consensus"], unit), ends))
    found.append((speak("confidence"), speak.said(term("confidence", card["confidence_level"])), ""))
    score = _score(card.get("quality_score"))
    if score is not None:
        found.append((speak("quality_score"), speak("of_100", value=score), ""))
    found.append((speak("rows"), number(card["study"]["rows"]), ""))
    found.append((speak("design"), speak.said(term("design", card["study"]["design"])), ""))
    return doc.facts(found)


def _score(found: Any) -> float | None:
    values = [found.get(key) for key in ("score", "overall")] if isinstance(found, Mapping) else []
    return next((value for value in values if isinstance(value, (int, float))), None)


def question_label(group: Mapping[str, Any], speak: Speaker) -> str:
    """Return a group's estimand, contrast, scale and place in words."""
    if speak.language == "en":
        return str(group["label"])
    scale = "" if group["scale"] == "difference" else f"（{speak.said(term('scale', group['scale']))}）"
    place = "、".join(f"{key} {value}" for key, value in group["at"].items())
    return f"「{group['contrast']}」の{speak.said(term('estimand', group['estimand']))}{scale}" + (
        f"（{place}）" if place else ""
    )


def _why(told: Mapping[str, Any], speak: Speaker) -> Section:
    reasons = [
        {
            "kind": speak.said(term("kind", reason["kind"])),
            "allows": reason["allows"],
            "sentence": reason["sentence"],
            "flips": speak("changes_if", flips=reason["flips_if"]) if reason["flips_if"] else "",
        }
        for reason in told["reasons"]
    ]
    blocks: list[Block] = _override(told, speak)
    blocks.append({"kind": "reasons", "items": reasons})
    if len(told["by_contrast"]) > 1:
        blocks.append(doc.heading(speak("by_arm")))
        blocks += doc.bullets({"lead": arm, "text": own} for arm, own in told["by_contrast"].items())
    blocks.append(doc.heading(speak("findings")))
    blocks += doc.bullets(told["key_findings"])
    blocks += [doc.notice(item) for item in told["notices"]]
    return Section("why", speak("why", verdict=told["verdict"]), blocks)


def _override(told: Mapping[str, Any], speak: Speaker) -> list[Block]:
    found = told.get("override")
    if not found:
        return []
    agrees = found["verdict"] == found["rule"]
    said = say("override_agrees" if agrees else "overridden", **{key: found[key] for key in _OVERRIDE})
    return [doc.heading(speak("override_title")), doc.notice(speak.said(said))]


_OVERRIDE = ("by", "verdict", "rule", "reason")


def _estimates(card: Mapping[str, Any], speak: Speaker) -> Section:
    blocks = [doc.text(speak("estimates_note"), quiet=True)] if card["synthesis"]["groups"] else []
    found = doc.forest_blocks(
        card,
        speak,
        lambda group: question_label(group, speak),
        lambda name: title_of(name, speak),
        lambda group: _group_sentence(group, speak),
    )
    blocks += found or [doc.text(speak("no_estimate"))]
    if card["estimates"]:
        formula = speak.said(entry("formulas", "consensus", f"{card['synthesis']['formula']}."))
        blocks += doc.fold(speak("consensus_formula"), [doc.text(formula, quiet=True)])
        blocks += doc.fold(speak("all_numbers"), _numbers(card, speak))
        blocks += doc.fold(speak("notices"), _notices(card, speak))
    blocks += _refused(card, speak)
    return Section("estimates", speak("estimates"), blocks)


def title_of(name: str, speak: Speaker) -> str:
    """Return an estimator's name in words: its catalogue name in English, its title elsewhere."""
    return speak.said(entry("estimators", name, str(name).replace("_", " ")))


def _group_sentence(group: Mapping[str, Any], speak: Speaker) -> str:
    aside = say("group_aside", names=listing([title_of(name, speak) for name in group["set_aside"]]))
    facts: dict[str, Any] = {"english": group["sentence"], "aside": aside if group["set_aside"] else ""}
    if group["consensus"] is None:
        return speak.said(say("group_none", **facts))
    if len(group["estimators"]) == 1:
        return speak.said(say("group_single", name=title_of(group["estimators"][0], speak), **facts))
    sampling = say("group_sampling", sampling=short(group["sampling"])) if group["sampling"] is not None else ""
    return speak.said(
        say(
            "group_several",
            count=len(group["estimators"]),
            agreement=term("agreement", group["agreement"]),
            low=short(group["smallest"]),
            high=short(group["largest"]),
            same=f"{group['same_sign']:.0%}",
            spread=short(group["spread"]),
            sampling=sampling,
            i2=f"{group['heterogeneity']:.0%}",
            **facts,
        )
    )


def _numbers(card: Mapping[str, Any], speak: Speaker) -> list[Block]:
    head = [speak(key) for key in ("estimator", "effect", "estimate", "std_error", "p_value", "inference")]
    rows: list[list[Any]] = []
    for row in card["estimates"]:
        name = title_of(row["estimator"], speak)
        for effect in row["effects"][: doc.MOST_ROWS]:
            value = with_unit(effect["estimate"], _unit(card, effect["scale"]))
            said = [number(effect["std_error"]), number(effect["p_value"]), row["inference"]]
            rows.append([name, effect_label(effect, speak), value, *said])
        left = len(row["effects"]) - doc.MOST_ROWS
        if left > 0:
            rows.append([name, speak("more_effects", count=left, estimator=name), "", "", "", ""])
    return doc.grid(head, rows, right=(2, 3, 4))


def effect_label(effect: Mapping[str, Any], speak: Speaker) -> str:
    """Return an effect's estimand, contrast and place in words; the arm is in the contrast already."""
    place = [f"{key} {value}" for key, value in effect["at"].items() if key != "arm"]
    estimand = speak.said(term("estimand", effect["estimand"]))
    named = f"「{effect['contrast']}」の{estimand}" if speak.language == "ja" else f"{estimand} of {effect['contrast']}"
    return ", ".join([named, *place])


def _notices(card: Mapping[str, Any], speak: Speaker) -> list[Block]:
    about_data = set(card["study"]["notices"])  # every estimate carries them; the section on the data says them once
    return doc.bullets(
        {"lead": title_of(row["estimator"], speak), "text": said}
        for row in card["estimates"]
        for said in row["notices"]
        if said not in about_data
    )


def _refused(card: Mapping[str, Any], speak: Speaker) -> list[Block]:
    blocks: list[Block] = []
    if card["refusals"]:
        head = [speak("estimator"), speak("why_refused"), speak("what_to_do")]
        rows = [
            (title_of(row["estimator"], speak), *(speak.said(known(row[key])) for key in ("reason", "remedy")))
            for row in card["refusals"]
        ]
        blocks += [doc.heading(speak("refused", count=len(rows))), *doc.grid(head, rows)]
    if card["failures"]:
        blocks.append(doc.heading(speak("failed", count=len(card["failures"]))))
        blocks += doc.bullets(
            {
                "lead": title_of(row["estimator"], speak),
                "code": row["exception"],
                "note": f"{speak('run')} {row['run_id']}" if row["run_id"] else "",
            }
            for row in card["failures"]
        )
    return blocks


def _guardrails(card: Mapping[str, Any], speak: Speaker) -> Section | None:
    head = [speak(key) for key in ("guardrail", "effect", "interval", "allowed", "estimator")]
    rows = [
        (
            {"text": rail["name"], "note": rail["contrast"]},
            rail["reason"] if rail["estimate"] is None else number(rail["estimate"]),
            "" if rail["estimate"] is None else speak.said(between(rail["low"], rail["high"])),
            number(rail["margin"]),
            title_of(rail["estimator"], speak) if rail["estimator"] else "",
        )
        for rail in card.get("guardrails") or ()
    ]
    return Section("guardrails", speak("guardrails"), doc.grid(head, rows, right=(1, 3))) if rows else None
