"""What differs between two decision cards, and what of it changed the verdict.

``python -m cqox_assets.decisions.diff A.json B.json`` prints it as markdown; ``--json`` as JSON.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cqox_assets.decisions.basis import changed
from cqox_assets.wording import listed, short, span

SEVERITY: Mapping[str, int] = {"GO": 0, "CANARY": 1, "HOLD": 2}
WORDS: Mapping[str, str] = {
    "data": "other data",
    "declaration": "another declaration (roles, design, methods or parameters)",
    "thresholds": "other thresholds or money",
    "code": "another version of the code",
    "override": "another override by a person",
}


@dataclass(frozen=True)
class CardDiff:
    """Two cards beside each other.

    Parameters
    ----------
    before, after : mapping
        `partition`, `verdict`, `rule_verdict`, `rows`, `created` of each card.
    changed : sequence of str
        What the verdict depends on and what differs: data, declaration, thresholds, code, override.
    lost, gained : sequence of str
        Sentences that only the first or only the second card gives for a verdict below GO.
    effects : sequence of mapping
        Question by question: both consensus values with their intervals, and the change. A question that only one
        card answers has None on the other side.
    gates : sequence of mapping
        Gates whose status or limit differs.
    estimators : sequence of mapping
        Estimators that answered in one card only.
    sentence : str
        What happened to the verdict, and why.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    changed: Sequence[str]
    lost: Sequence[str]
    gained: Sequence[str]
    effects: Sequence[Mapping[str, Any]]
    gates: Sequence[Mapping[str, Any]]
    estimators: Sequence[Mapping[str, Any]]
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def diff_cards(before: Mapping[str, Any], after: Mapping[str, Any]) -> CardDiff:
    """Compare two cards: of two months, or of one month before and after a change.

    Only questions of equal outcome, treatment, estimand, contrast and scale are set against each other.
    """
    parts = changed(before.get("basis") or {}, after.get("basis") or {})
    lost, gained = _reasons(before, after), _reasons(after, before)
    return CardDiff(
        before=_facts(before),
        after=_facts(after),
        changed=parts,
        lost=lost,
        gained=gained,
        effects=_effects(before, after),
        gates=_gates(before, after),
        estimators=_estimators(before, after),
        sentence=verdict_sentence(before, after, parts),
    )


def verdict_sentence(before: Mapping[str, Any], after: Mapping[str, Any], parts: Sequence[str]) -> str:
    """Say in one sentence whether the verdict changed, what differs between the two, and what decides now."""
    one, other = before["verdict"], after["verdict"]
    if not (before.get("basis") and after.get("basis")):
        why = "what it depends on was not recorded for both"
    elif parts:
        why = listed([WORDS[part] for part in parts])
    else:
        why = "nothing that it depends on differs"
    if one == other or not {one, other} <= set(SEVERITY):
        return f"The verdict stays {one} ({why})."
    decides = _deciding(after) if SEVERITY[other] > SEVERITY[one] else _deciding(before)
    now = "Now decides" if SEVERITY[other] > SEVERITY[one] else "No longer decides"
    return f"The verdict changes from {one} to {other} ({why}). {now}: {decides}"


def _deciding(card: Mapping[str, Any]) -> str:
    found = next((reason for reason in card["reasons"] if reason["allows"] == card["verdict"]), None)
    return str(found["sentence"]) if found else "every reason together."


def _facts(card: Mapping[str, Any]) -> dict[str, Any]:
    told = card.get("provenance") or {}
    return {
        "partition": told.get("partition", ""),
        "verdict": card["verdict"],
        "rule_verdict": card.get("rule_verdict", card["verdict"]),
        "rows": card["study"].get("rows"),
        "created": told.get("created", ""),
        "code": (card.get("basis") or {}).get("code", told.get("code_version", "")),
    }


def _reasons(card: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the first card's cautions of a subject that the other card has no caution about."""
    known = {_subject(reason) for reason in other["reasons"] if reason["allows"] != "GO"}
    return [
        reason["sentence"] for reason in card["reasons"] if reason["allows"] != "GO" and _subject(reason) not in known
    ]


def _subject(reason: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what a reason is about, without its numbers."""
    words = "".join(mark for mark in reason["sentence"] if not mark.isdigit())
    return reason["kind"], reason["allows"], words.partition(":")[0].partition(" (")[0]


def _questions(card: Mapping[str, Any]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    roles = card["study"]["roles"]
    asked = (" + ".join(roles.get("outcome", ())), " + ".join(roles.get("treatment", ())))
    return {
        (*asked, group["estimand"], group["contrast"], group["scale"], json.dumps(group["at"], sort_keys=True)): group
        for group in card["synthesis"]["groups"]
        if group["consensus"] is not None
    }


def _effects(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    one, other = _questions(before), _questions(after)
    rows = []
    for key in dict.fromkeys([*one, *other]):
        first, second = one.get(key), other.get(key)
        label = (first or second or {}).get("label", key[2])
        row: dict[str, Any] = {"question": f"{label} ({key[1]} on {key[0]})"}
        for side, group in (("before", first), ("after", second)):
            row[side] = None if group is None else {name: group[name] for name in ("consensus", "low", "high")}
        row["change"] = None if first is None or second is None else second["consensus"] - first["consensus"]
        rows.append(row)
    return rows


def _gates(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    one, other = ({gate["name"]: gate for gate in card["gates"]} for card in (before, after))
    rows = []
    for name in dict.fromkeys([*one, *other]):
        first, second = one.get(name, {}), other.get(name, {})
        if any(first.get(key) != second.get(key) for key in ("status", "threshold")):
            title = (second or first).get("title", name)
            sides = ({key: gate.get(key) for key in ("status", "value", "threshold")} for gate in (first, second))
            rows.append({"gate": f"{title} ({name})", **dict(zip(("before", "after"), sides, strict=True))})
    return rows


def _estimators(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    one, other = (_answers(card) for card in (before, after))
    names = dict.fromkeys([*one, *other])
    return [
        {"estimator": name, "before": one.get(name, "not run"), "after": other.get(name, "not run")}
        for name in names
        if (one.get(name) == "estimated") != (other.get(name) == "estimated")
    ]


def _answers(card: Mapping[str, Any]) -> dict[str, str]:
    found = {row["estimator"]: "estimated" for row in card["estimates"]}
    found |= {row["estimator"]: f"refused: {row['reason']}" for row in card["refusals"]}
    return found | {row["estimator"]: f"failed: {row['exception']}" for row in card["failures"]}


def to_markdown(found: CardDiff) -> str:
    """Return a comparison as markdown."""
    one, other = found.before, found.after
    lines = [f"# {one['partition'] or 'first card'} and {other['partition'] or 'second card'}", "", found.sentence, ""]
    lines += ["| | first | second |", "|---|---|---|"]
    for name in ("verdict", "rule_verdict", "rows", "created", "code"):
        lines.append(f"| {name.replace('_', ' ')} | {_cell(one[name])} | {_cell(other[name])} |")
    lines += _table("Effects", ("question", "first", "second", "change"), [
        (row["question"], _consensus(row["before"]), _consensus(row["after"]), _number(row["change"]))
        for row in found.effects
    ])  # fmt: skip
    lines += _table("Gates that differ", ("gate", "first", "second"), [
        (row["gate"], _gate(row["before"]), _gate(row["after"])) for row in found.gates
    ])  # fmt: skip
    lines += _table("Estimators that answered once", ("estimator", "first", "second"), [
        (row["estimator"], row["before"], row["after"]) for row in found.estimators
    ])  # fmt: skip
    for title, sentences in (("Reasons of the first only", found.lost), ("Reasons of the second only", found.gained)):
        if sentences:
            lines += ["", f"## {title}", "", *(f"- {_cell(sentence)}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    if not rows:
        return []
    body = ["| " + " | ".join(_cell(item) for item in row) + " |" for row in rows]
    return ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace(">", "&gt;")


def _number(value: Any) -> str:
    return "" if value is None else short(value)


def _consensus(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "not answered"
    ends = "no interval" if side["low"] is None and side["high"] is None else span(side["low"], side["high"])
    return f"{short(side['consensus'])} ({ends})"


def _gate(side: Mapping[str, Any]) -> str:
    if side["status"] is None:
        return "not judged"
    limit = "" if side["threshold"] is None else f", limit {short(side['threshold'])}"
    return f"{side['status'].replace('_', ' ')}: {_number(side['value']) or 'no value'}{limit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two cards; return 0 if the verdicts are equal, 1 if they differ, 2 if a file is no card."""
    parser = argparse.ArgumentParser(prog="python -m cqox_assets.decisions.diff", description=__doc__)
    parser.add_argument("first", type=Path, metavar="A.json")
    parser.add_argument("second", type=Path, metavar="B.json")
    parser.add_argument("--json", action="store_true", help="print JSON instead of markdown")
    options = parser.parse_args(arguments)
    cards = []
    for path in (options.first, options.second):
        try:
            card = json.loads(path.read_text("utf-8"))
            cards.append(card)
            missing = [key for key in ("verdict", "reasons", "study", "gates", "synthesis") if key not in card]
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        if missing:
            print(f"{path} is no decision card: it lacks {', '.join(missing)}", file=sys.stderr)
            return 2
    found = diff_cards(cards[0], cards[1])
    print(json.dumps(found.to_json(), ensure_ascii=False, indent=1) if options.json else to_markdown(found), end="")
    return int(found.before["verdict"] != found.after["verdict"])


if __name__ == "__main__":
    sys.exit(main())
