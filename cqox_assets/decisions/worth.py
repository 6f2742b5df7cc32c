"""Policy and money as a section of the card: the sentences, then a small table per contrast."""

from collections.abc import Mapping
from typing import Any

from cqox_assets.decisions import document as doc
from cqox_assets.decisions.document import Block, Section, Speaker, number
from cqox_assets.decisions.language import entry, joined, known, listing, say, term
from cqox_assets.wording import money, share, short, with_unit

_ADVICE = {"treat": "pass", "do not treat": "fail", "test further": "warn", "too few rows": "not_run"}


def policy_section(card: Mapping[str, Any], speak: Speaker) -> Section | None:
    """Return what treating everybody, the best share and each segment is worth.

    Parameters
    ----------
    card : mapping
        Its `policy` is the content of `synthesis/policy_value`; None where that has another form.
    """
    found = card.get("policy")
    if not isinstance(found, Mapping) or not _is_policy(found):
        return None
    page = _Policy(found, str(card["study"].get("unit") or ""), speak)
    blocks: list[Block] = [doc.text(page.sentence(row)) for row in found["contrasts"]]
    if found.get("missing"):
        names = listing([term("setting", name) for name in found["missing"]])
        blocks.append(doc.text(speak("not_stated", names=names), quiet=True))
    for row in found["contrasts"]:
        if len(found["contrasts"]) > 1:
            blocks.append(doc.heading(row["contrast"]))
        blocks += page.choices(row) + page.limits(row)
        blocks += page.segments([item for item in found.get("policy_matrix") or () if _same(item, row)])
        blocks += page.fairness(row.get("fairness") or {})
    rules = [item for item in found.get("rules") or () if item.get("treat_where")]
    blocks += doc.fold(speak("tree_rules"), page.rules(rules))
    blocks += [doc.notice(speak.said(known(text))) for text in found.get("notices") or ()]
    if found.get("method"):
        method = speak.said(entry("formulas", "policy", f"{found['method']}."))
        blocks += doc.fold(speak("how_computed"), [doc.text(method, quiet=True)])
    return Section("policy", speak("policy"), blocks)


def _is_policy(found: Mapping[str, Any]) -> bool:
    rows = found.get("contrasts")
    needed = ("contrast", "rows", "treat_all", "optimal", "break_even", "sentence")
    if not isinstance(rows, list) or not rows or not isinstance(found.get("settings"), Mapping):
        return False
    return "measure" in found and all(isinstance(row, Mapping) and all(key in row for key in needed) for row in rows)


def _same(item: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return bool(item["contrast"] == row["contrast"])


def _beyond(row: Mapping[str, Any]) -> bool:
    """Whether the budget does not cover treating everybody."""
    return bool(row.get("budget")) and row["budget"]["affordable_coverage"] < 1


class _Policy:
    """Says the numbers of a policy in its own unit: money, or units of the outcome where no value is declared."""

    def __init__(self, found: Mapping[str, Any], unit: str, speak: Speaker) -> None:
        self.measure, self.speak, self.outcome_unit = str(found["measure"]), speak, unit
        self.unit, self.currency = str(found.get("unit") or ""), str(found["settings"].get("currency") or "")
        self.what = term("worth", self.measure)

    def amount(self, value: float | None) -> str:
        """Return a benefit."""
        if value is None:
            return "–"
        if self.measure == "outcome":
            return with_unit(value, self.unit if len(self.unit) <= 12 else "")
        return money(value, self.currency)

    def cash(self, value: float | None) -> str:
        """Return a cost, which is money whatever the benefit is."""
        return "–" if value is None else money(value, self.currency)

    def ends(self, low: float, high: float) -> str:
        """Return an interval of benefits."""
        return self.speak("from_to", low=self.amount(low), high=self.amount(high))

    def sentence(self, row: Mapping[str, Any]) -> str:
        """Return the sentence of a contrast: the stage's own in English, the same facts elsewhere."""
        best, everybody, budget = row["optimal"], row["treat_all"], row.get("budget") or {}
        facts = {"what": self.what, "rows": f"{row['rows']:,}"}
        some = say("policy_none") if best["coverage"] == 0 else say(
            "policy_best", share=share(best["coverage"]), amount=self.amount(best["net_benefit"]),
            ends=self.ends(best["low"], best["high"]), **facts)  # fmt: skip
        if _beyond(row):
            reach, pays = share(budget["affordable_coverage"]), self.cash(budget["amount"])
            if budget["affordable_coverage"] == 0 < budget["coverage_without_budget"]:
                some, whole = say("policy_unpaid", budget=pays), ""
            else:
                whole = say("policy_beyond", budget=pays, share=reach)
        else:
            ends = self.ends(everybody["low"], everybody["high"])
            whole = say("policy_all", amount=self.amount(everybody["net_benefit"]), ends=ends, **facts)
        needed, pays = row["break_even"].get("effect"), row["break_even"].get("pays")
        even = say("policy_even", effect=self.effect(needed), pays=term("pays", pays)) if needed is not None else ""
        said = say("policy_said", english=row["sentence"], contrast=row["contrast"], some=joined(some, whole, even))
        return self.speak.said(said)

    def effect(self, value: float) -> str:
        """Return an effect in units of the outcome."""
        return with_unit(value, self.outcome_unit)

    def choices(self, row: Mapping[str, Any]) -> list[Block]:
        """Return treating everybody and treating the best share as two rows."""
        named = (("treat_everybody", row["treat_all"]), ("treat_best", row["optimal"]))
        spent = any(item.get("spend") is not None for _, item in named)
        head = ["", *(self.speak(key) for key in ("coverage", "units_treated", *(("spend",) if spent else ())))]
        head += [self.speak.said(self.what), self.speak("interval")]
        notes = {"treat_everybody": self.speak("beyond_budget")} if _beyond(row) else {}
        rows = [
            [
                {"text": self.speak(key), "note": notes.get(key, "")},
                share(item["coverage"]),
                number(round(item["treated"])),
                *((self.cash(item["spend"]),) if spent else ()),
                self.amount(item["net_benefit"]),
                self.ends(item["low"], item["high"]),
            ]
            for key, item in named
        ]
        return doc.grid(head, rows, right=range(1, len(head)), wide=True)

    def limits(self, row: Mapping[str, Any]) -> list[Block]:
        """Return where treating breaks even, and what the budget allows."""
        even, budget, speak = row["break_even"], row.get("budget"), self.speak
        found: list[tuple[str, str, str]] = []
        if even.get("effect") is not None:
            pays = speak.said(term("pays", even["pays"])) if even.get("pays") else ""
            found.append((speak("even_effect"), self.effect(even["effect"]), pays))
        if even.get("cost_per_treatment") is not None:
            found.append((speak("even_cost"), self.cash(even["cost_per_treatment"]), speak("per_unit")))
        if even.get("value_per_unit") is not None:
            found.append((speak("even_value"), self.cash(even["value_per_unit"]), speak("per_outcome")))
        if budget:
            covers = speak("budget_covers", share=share(budget["affordable_coverage"]))
            found.append((speak("budget"), self.cash(budget["amount"]), covers))
            if budget.get("binding") and budget.get("shadow_price") is not None:
                found.append((speak("shadow_price"), short(budget["shadow_price"], 3), speak("per_money")))
        return doc.facts(found)

    def segments(self, rows: list[Mapping[str, Any]]) -> list[Block]:
        """Return the policy matrix."""
        speak = self.speak
        head = [speak(key) for key in ("segment", "rows", "effect")]
        head += [speak("per_head", what=self.what), speak("interval"), speak("what_to_do")]
        table = []
        for row in rows:
            own = row["kind"] == "predicted benefit"
            name = speak.said(term("segment", row["segment"])) if own else f"{row['kind']}: {row['segment']}"
            advice = str(row["recommendation"])
            judged = row.get("net_benefit") is not None
            table.append(
                [name, number(row["rows"]), self.effect(row["effect"]) if judged else "–",
                 self.amount(row["net_benefit"]) if judged else "–",
                 self.ends(row["net_benefit_low"], row["net_benefit_high"]) if judged else "–",
                 {"text": speak.said(term("advice", advice)), "status": _ADVICE.get(advice, "not_run")}]
            )  # fmt: skip
        found = doc.grid(head, table, right=(1, 2, 3, 4), wide=True)
        return [doc.heading(speak("segments")), *found] if found else []

    def fairness(self, found: Mapping[str, Any]) -> list[Block]:
        """Return the largest gaps between groups under the best share."""
        if found.get("status") != "computed":
            return []
        speak = self.speak
        head = [speak(key) for key in ("gap", "difference", "interval", "most", "least")]
        ends = self.ends(found["benefit_gap_low"], found["benefit_gap_high"])
        rows = [
            [speak("share_treated"), share(found["treated_share_gap"]), "–", found["most_treated"],
             found["least_treated"]],
            [speak("per_head", what=self.what), self.amount(found["benefit_gap"]), ends, found["most_benefit"],
             found["least_benefit"]],
        ]  # fmt: skip
        title = doc.heading(speak("fairness", column=found["column"]))
        return [title, *doc.grid(head, rows, right=(1, 2), wide=True)]

    def rules(self, rows: list[Mapping[str, Any]]) -> list[Block]:
        """Return whom a small tree would treat, as a list."""
        return doc.bullets(
            {"lead": f"{row['contrast']}, {share(row['share_treated'])}",
             "text": self.speak("or_else").join(row["treat_where"]),
             "note": f"{self.speak.said(self.what)} {self.amount(row['net_benefit'])} "
                     f"({self.ends(row['low'], row['high'])})"}
            for row in rows
        )  # fmt: skip
