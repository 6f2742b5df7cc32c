"""Effect history: what one domain's decision cards said over its periods, joined only where the question is equal."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from cqox_assets.decisions.basis import changed
from cqox_assets.decisions.diff import verdict_sentence
from cqox_assets.study import Role

if TYPE_CHECKING:
    from cqox_assets.study import Study
    from cqox_assets.synthesis.effect_summary import EffectSummary

# Two rows of a history answer the same question only if they agree on all of these.
QUESTION = ("series", "kind", "estimator", "contrast", "scale", "at")

HISTORY_COLUMNS: Mapping[str, str] = {
    "series": "str",
    "domain": "str",
    "period": "str",
    "kind": "str",
    "estimator": "str",
    "outcome": "str",
    "treatment": "str",
    "estimand": "str",
    "contrast": "str",
    "scale": "str",
    "at": "str",
    "estimate": "float64",
    "std_error": "float64",
    "low": "float64",
    "high": "float64",
    "level": "float64",
    "p_value": "float64",
    "null": "float64",
    "rows": "float64",
    "decides": "str",
    "verdict": "str",
    "fingerprint": "str",
    "previous_verdict": "str",
    "verdict_change": "str",
    "previous_period": "str",
    "change": "float64",
    "change_std_error": "float64",
    "change_p_value": "float64",
}

POOLED_COLUMNS: Mapping[str, str] = {
    **{name: "str" for name in (*QUESTION, "first_period", "last_period")},
    "periods": "int64",
    **{
        f"{model}{part}": "float64"
        for model in ("fixed", "random")
        for part in ("", "_std_error", "_low", "_high", "_p_value")
    },
    **{name: "float64" for name in ("null", "q", "q_p_value", "tau2", "i2")},
}


def build_history(cards: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per period, estimator and effect of one domain.

    Parameters
    ----------
    cards : iterable of mapping
        Decision cards: `partition` (`domain|period`), `study` (fingerprint, rows, roles), `estimates`, `summary`,
        `verdict`. Of two cards of one partition the later one counts. Estimates without a number are passed over.

    Returns
    -------
    DataFrame
        Columns of `HISTORY_COLUMNS`, sorted by question and period. `kind` is `estimate`, or `consensus` for the
        card's own summary; `decides` is `yes` where the verdict rests on it. `change` is the estimate less that of the
        previous period which answers the same question. `previous_verdict` is that of the domain's period before, and
        `verdict_change` says whether and why it changed.

    Notes
    -----
    The standard error of a change is the root of the sum of both variances: periods hold different rows, and where
    the same units come back with positive correlation it is too large rather than too small. Where both periods
    hold the very same study it is missing, because nothing new was measured.
    """
    by_partition = {_partition(card): card for card in cards}
    verdicts = {row["period"]: row for row in verdict_changes(by_partition.values()).to_dict("records")}
    rows = [
        {**row, **{name: verdicts[row["period"]][name] for name in ("previous_verdict", "verdict_change")}}
        for card in by_partition.values()
        for row in _card_rows(card)
    ]
    history = _typed(rows, HISTORY_COLUMNS)
    history = history.sort_values([*QUESTION, "period"], kind="stable", ignore_index=True)
    return _with_changes(history)


def own_history(
    cards: Iterable[Mapping[str, Any]], study: "Study", summary: "EffectSummary", period: str
) -> pd.DataFrame:
    """Return the summarised effects of a study and of the earlier periods that asked the same question.

    Parameters
    ----------
    cards : iterable of mapping
        Decision cards of earlier periods of the same domain.
    study, summary : Study, EffectSummary
        Of the period itself.
    period : str

    Returns
    -------
    DataFrame
        period, contrast, estimand, scale, estimate, std_error, low, high (NaN where not known), rows; by contrast and
        period.
    """
    names = ("contrast", "estimand", "scale", "estimate", "std_error", "low", "high", "rows")
    earlier = build_history(cards)
    asked = {role: _names([str(name) for name in study.names(Role(role))]) for role in ("outcome", "treatment")}
    for role, wanted in asked.items():
        earlier = earlier[earlier[role] == wanted]
    earlier = earlier[(earlier["kind"] == "consensus") & (earlier["at"] == "")]
    rows: list[dict[str, Any]] = []
    for group in summary.targets():
        same = (earlier["contrast"] == group.contrast) & (earlier["estimand"] == str(group.estimand))
        held = earlier[same & (earlier["scale"] == group.scale)][["period", *names]]
        rows += [{str(name): value for name, value in row.items()} for row in held.to_dict("records")]
        now = [
            group.contrast,
            str(group.estimand),
            group.scale,
            group.consensus,
            group.std_error,
            group.low,
            group.high,
        ]
        rows.append(dict(zip(("period", *names), [period, *now, len(study)], strict=True)))
    kinds = {name: "str" if name in ("period", "contrast", "estimand", "scale") else "float64" for name in names}
    return _typed(rows, {"period": "str", **kinds})


VERDICT_COLUMNS: Mapping[str, str] = {
    name: "str" for name in ("period", "verdict", "rule_verdict", "previous_period", "previous_verdict", "changed_by",
                             "verdict_change")
}  # fmt: skip


def verdict_changes(cards: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per period of one domain: its verdict, that of the period before, and what differs between them.

    Parameters
    ----------
    cards : iterable of mapping
        Decision cards of one domain, one per period.

    Returns
    -------
    DataFrame
        Columns of `VERDICT_COLUMNS`, by period. `changed_by` lists what a verdict depends on and what differs: data,
        declaration, thresholds, code, override; `verdict_change` is a sentence.
    """
    ordered = sorted(cards, key=_partition)
    rows = []
    for place, card in enumerate(ordered):
        before = ordered[place - 1] if place else None
        domain, _, period = _partition(card).partition("|")
        row = {"period": period, "verdict": _verdict(card.get("verdict")), "rule_verdict": _rule_verdict(card)}
        if before is None:
            row["verdict_change"] = f"{period} is the first period of {domain}, so there is nothing to compare with."
        else:
            parts = changed(before.get("basis") or {}, card.get("basis") or {})
            row |= {
                "previous_period": _partition(before).partition("|")[2],
                "previous_verdict": _verdict(before.get("verdict")),
                "changed_by": ", ".join(parts),
                "verdict_change": verdict_sentence(_judged(before), _judged(card), parts),
            }
        rows.append(row)
    return _typed(rows, VERDICT_COLUMNS)


def _judged(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the sentence about a verdict reads; a card of an earlier version may have no reasons."""
    return {**card, "verdict": _verdict(card.get("verdict")), "reasons": card.get("reasons") or ()}


def _rule_verdict(card: Mapping[str, Any]) -> str:
    return str(card.get("rule_verdict") or _verdict(card.get("verdict")))


def pool(history: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Pool the periods of each question, with fixed and with random effects.

    Parameters
    ----------
    history : DataFrame
        Of `build_history`. Effects without a standard error cannot be weighted and are left out; a study that was
        delivered again unchanged counts once.
    level : float
        Confidence level, between 0 and 1.

    Returns
    -------
    DataFrame
        One row per question with at least one weighted period. With one period there is no heterogeneity to
        estimate, so the random-effects columns and Q are missing.

    Notes
    -----
    Fixed: inverse-variance weights. Random: DerSimonian & Laird (1986, doi:10.1016/0197-2456(86)90046-2),
    tau2 = max(0, (Q - (k - 1)) / (sum w - sum w^2 / sum w)); I2 = max(0, (Q - (k - 1)) / Q)
    (Higgins & Thompson 2002, doi:10.1002/sim.1186).
    """
    usable = history[history["std_error"].gt(0) & history["estimate"].notna()]
    rows = []
    for _, group in usable.groupby(list(QUESTION), sort=True):
        ordered = group.sort_values("period", kind="stable")
        once = ordered[~ordered.duplicated("fingerprint") | ordered["fingerprint"].eq("")]
        first = once.iloc[0]
        rows.append(
            {
                **{name: first[name] for name in QUESTION},
                "first_period": first["period"],
                "last_period": once["period"].iloc[-1],
                "periods": len(once),
                "null": float(first["null"]),
                **_meta_analysis(once["estimate"].to_list(), once["std_error"].to_list(), level, float(first["null"])),
            }
        )
    return _typed(rows, POOLED_COLUMNS)


def _meta_analysis(
    estimates: list[float], std_errors: list[float], level: float, null: float
) -> dict[str, float | None]:
    from scipy.special import chdtrc

    weights = [1 / error**2 for error in std_errors]
    total, count = sum(weights), len(estimates)
    fixed = sum(w * y for w, y in zip(weights, estimates, strict=True)) / total
    found = _normal("fixed", fixed, math.sqrt(1 / total), level, null)
    if count < 2:
        return found
    q = sum(w * (y - fixed) ** 2 for w, y in zip(weights, estimates, strict=True))
    tau2 = max(0.0, (q - (count - 1)) / (total - sum(w * w for w in weights) / total))
    spread = [1 / (error**2 + tau2) for error in std_errors]
    mean = sum(w * y for w, y in zip(spread, estimates, strict=True)) / sum(spread)
    found |= _normal("random", mean, math.sqrt(1 / sum(spread)), level, null)
    i2 = max(0.0, (q - (count - 1)) / q) if q > 0 else 0.0
    return {**found, "q": q, "q_p_value": float(chdtrc(count - 1, q)), "tau2": tau2, "i2": i2}


def _normal(name: str, estimate: float, std_error: float, level: float, null: float) -> dict[str, float | None]:
    from scipy.special import ndtr, ndtri

    reach = float(ndtri(0.5 + level / 2)) * std_error
    return {
        name: estimate,
        f"{name}_std_error": std_error,
        f"{name}_low": estimate - reach,
        f"{name}_high": estimate + reach,
        f"{name}_p_value": float(2 * ndtr(-abs(estimate - null) / std_error)),
    }


def _with_changes(history: pd.DataFrame) -> pd.DataFrame:
    from scipy.special import ndtr

    if history.empty:
        return history
    groups = history.groupby(list(QUESTION), sort=False)
    before = {name: groups[name].shift() for name in ("period", "estimate", "std_error", "fingerprint")}
    change = history["estimate"] - before["estimate"]
    error = (history["std_error"] ** 2 + before["std_error"] ** 2) ** 0.5
    unchanged = history["fingerprint"].ne("") & before["fingerprint"].eq(history["fingerprint"])
    error = error.where(~unchanged & error.gt(0))
    return history.assign(
        previous_period=before["period"].fillna("").astype("str"),
        change=change,
        change_std_error=error,
        change_p_value=2 * ndtr(-(change.abs() / error)),
    )


def _partition(card: Mapping[str, Any]) -> str:
    return str(card.get("partition") or (card.get("provenance") or {}).get("partition") or "")


def _card_rows(card: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    domain, _, period = _partition(card).partition("|")
    study = card.get("study") or {}
    roles = study.get("roles") or {}
    shared = {
        "domain": domain,
        "period": period,
        "outcome": _names(roles.get("outcome")),
        "treatment": _names(roles.get("treatment")),
        "rows": study.get("rows"),
        "verdict": _verdict(card.get("verdict")),
        "fingerprint": str(study.get("fingerprint") or ""),
    }
    effects = [
        ({"kind": "estimate", "estimator": str(answer.get("estimator", ""))}, effect)
        for answer in card.get("estimates") or ()
        for effect in answer.get("effects") or [answer]
    ]
    effects += [
        (
            {"kind": "consensus", "estimator": "consensus", "decides": "yes" if group.get("preferred") else ""},
            {**group, "estimate": group.get("consensus")},
        )
        for group in _groups(card.get("synthesis") or card.get("summary"))
    ]
    for source, effect in effects:
        if _number(effect.get("estimate")) is not None:
            row = {**shared, **source, **_effect_row(effect)}
            yield {**row, "series": f"{row['estimand']} of {row['treatment']} on {row['outcome']}"}


def _groups(summary: Any) -> list[Mapping[str, Any]]:
    """Return the summary's groups, whether they stand under `groups`, in a list or under their estimands."""
    if isinstance(summary, Mapping) and "groups" in summary:
        summary = summary["groups"]
    elif isinstance(summary, Mapping):
        summary = [{"estimand": name, **group} for name, group in summary.items() if isinstance(group, Mapping)]
    return [group for group in summary or () if isinstance(group, Mapping) and "consensus" in group]


def _effect_row(effect: Mapping[str, Any]) -> dict[str, Any]:
    interval = effect.get("interval")
    if isinstance(interval, Mapping):
        low, high, level = interval.get("low"), interval.get("high"), interval.get("level")
    elif isinstance(interval, (list, tuple)) and len(interval) >= 2:
        low, high, level = interval[0], interval[1], interval[2] if len(interval) > 2 else effect.get("level")
    else:
        low, high, level = effect.get("low"), effect.get("high"), effect.get("level")
    at = effect.get("at") or {}
    return {
        "estimand": str(effect.get("estimand") or ""),
        "contrast": str(effect.get("contrast") or ""),
        "scale": str(effect.get("scale") or "difference"),
        "at": json.dumps(at, sort_keys=True, ensure_ascii=False, default=str) if at else "",
        "estimate": _number(effect.get("estimate")),
        "std_error": _number(effect.get("std_error")),
        "low": _number(low),
        "high": _number(high),
        "level": _number(level),
        "p_value": _number(effect.get("p_value")),
        "null": _number(effect.get("null")) or 0.0,
    }


def _number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _names(value: Any) -> str:
    return " + ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")


def _verdict(value: Any) -> str:
    return str(value.get("verdict", "")) if isinstance(value, Mapping) else str(value or "")


def _typed(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return a frame with exactly these columns and types, also when there are no rows."""
    empty = {"str": "", "float64": math.nan}
    filled = [
        {name: empty.get(kind) if row.get(name) is None else row[name] for name, kind in columns.items()}
        for row in rows
    ]
    return pd.DataFrame(filled, columns=list(columns)).astype(dict(columns))
