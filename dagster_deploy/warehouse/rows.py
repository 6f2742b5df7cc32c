"""The rows that a decision card, or a stored effect history, gives for the tables of the star.

A row may hold more than its table has columns; what is not a column is left out.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

Row = dict[str, Any]


def place_of(at: Mapping[str, Any] | None) -> str:
    """Return an effect's `at` as one text, empty when there is none."""
    return json.dumps(at, sort_keys=True, ensure_ascii=False, default=str) if at else ""


def first_day(period: str) -> date:
    """Return the first day of a period."""
    return date.fromisoformat(f"{period}-01")


def partition_of(card: Mapping[str, Any]) -> dict[str, str]:
    """Return a card's domain and period."""
    key = str(card.get("partition") or card["provenance"]["partition"])
    domain, _, period = key.partition("|")
    return {"domain": domain, "period": period}


def interval_of(interval: Mapping[str, Any] | None) -> Row:
    """Return the four columns of an interval."""
    return {name: (interval or {}).get(name) for name in ("low", "high", "level", "unbounded")}


def unbounded_of(low: float | None, high: float | None, level: float | None) -> str | None:
    """Say which end of an interval is infinite, where one end is known or the method always gives an interval."""
    if level is None or (low is not None and high is not None):
        return None
    return "both" if low is None and high is None else ("low" if low is None else "high")


def _names(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")


def study(card: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the row of `studies`."""
    held, origin, score = card["study"], card["provenance"], card.get("quality_score") or {}
    roles, part = held.get("roles") or {}, partition_of(card)
    yield {
        **part,
        "period_start": first_day(part["period"]),
        "question": card["question"],
        "design": held.get("design"),
        "outcome": _names(roles.get("outcome")),
        "treatment": _names(roles.get("treatment")),
        "row_count": held["rows"],
        "rows_per_arm": held.get("per_arm") or {},
        "roles": roles,
        "unit_of_outcome": held.get("unit_of_outcome") or None,
        "currency": held.get("currency") or None,
        "preferred_estimand": (card.get("synthesis") or {}).get("preferred"),
        "quality_score": score.get("score"),
        "quality_zone": score.get("zone"),
        "fingerprint": held["fingerprint"],
        "run_id": origin.get("run_id"),
        "created_at": datetime.fromisoformat(origin["created"]) if origin.get("created") else None,
        "code_version": origin.get("code_version"),
        "revision": origin.get("revision") or None,
        "document": card.get("_document"),
    }


def estimates(card: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of `estimates`."""
    for answer in card["estimates"]:
        shared = {
            "estimator": answer["estimator"],
            "version": answer["version"],
            "inference": answer["inference"],
            "rows_used": answer["sample"].get("used"),
            "seconds": answer["provenance"].get("seconds"),
        }
        for place, effect in enumerate(answer["effects"]):
            yield {
                **partition_of(card),
                **shared,
                **effect,
                "place": place_of(effect["at"]),
                **interval_of(effect["interval"]),
                "region": (effect["interval"] or {}).get("region"),
                "null_value": effect["null"],
                "headline": place == 0,
                "position": place + 1,
                "interval_source": effect.get("interval_source"),
                "p_source": effect.get("p_source"),
            }


def consensus(card: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of `consensus`."""
    for group in card["synthesis"]["groups"]:
        low, high = group["low"], group["high"]
        known = low is not None or high is not None
        yield {
            **partition_of(card),
            **group,
            "place": place_of(group.get("at")),
            "low": low,
            "high": high,
            "level": group["level"] if known else None,
            "unbounded": unbounded_of(low, high, group["level"]) if known else None,
            "null_value": group.get("null"),
            "preferred": bool(group.get("preferred")),
            "agreement": group["agreement"],
            "estimators": list(group["estimators"]),
            "sentence": group.get("sentence"),
        }


def copied(key: str) -> Callable[[Mapping[str, Any]], Iterator[Row]]:
    """Return a function that takes the items of a list in the card as they are."""

    def _rows(card: Mapping[str, Any]) -> Iterator[Row]:
        for item in card.get(key) or ():
            yield {**partition_of(card), **item}

    return _rows


def gates(card: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of `gates`."""
    for gate in card["gates"]:
        yield {
            **partition_of(card),
            **gate,
            "gate": gate["name"],
            "limit_words": gate.get("limit"),
            "estimator": gate.get("estimator") or None,
        }


def sensitivity(card: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of `sensitivity`."""
    for item in card["sensitivity"]:
        question, _, about = str(item["key"]).partition(": ")
        yield {
            **partition_of(card),
            **item,
            "question": item.get("name") or question,
            "answer": item["key"],
            "estimator": item.get("estimator") or about or None,
        }


def verdicts(card: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of `verdicts`."""
    told = card.get("override") or {}
    whole = {
        "verdict": card["verdict"],
        "rule_verdict": card.get("rule_verdict"),
        "overridden_by": told.get("by"),
        "override_reason": told.get("reason"),
        "confidence": card["confidence_level"],
        "recommendation": card["recommendation"],
    }
    yield {**partition_of(card), "contrast": "", **whole}
    for contrast, verdict in (card.get("by_contrast") or {}).items():
        yield {**partition_of(card), "contrast": contrast, "verdict": verdict}


def reasons(card: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of `reasons`."""
    for place, reason in enumerate(card["reasons"], start=1):
        yield {
            **partition_of(card),
            "position": place,
            **{name: reason.get(name) for name in ("kind", "allows", "sentence", "flips_if")},
        }


def history_rows(records: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Return the rows of `effect_history` for the records of a stored history."""
    for record in records:
        row: dict[str, Any] = {name: (None if value != value else value) for name, value in record.items()}
        ends = (row["low"], row["high"], row["level"])
        # A consensus without a standard error has a level but no interval; an estimate with a level has one.
        none = row["kind"] == "consensus" and ends[:2] == (None, None)
        yield {
            **row,
            "period_start": first_day(row["period"]),
            "place": row["at"],
            "null_value": row["null"],
            "row_count": None if row["rows"] is None else int(row["rows"]),
            "level": None if none else row["level"],
            "unbounded": None if none else unbounded_of(*ends),
            **{name: row[name] or None for name in ("previous_verdict", "verdict_change", "previous_period")},
        }
