"""What treating people is worth: whom, how many and with how much money, valued on data that did not choose them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.result import Failure, Nuisance, Outcome, Refusal
from cqox_assets.study import Study
from cqox_assets.synthesis.findings import Findings, not_computed
from cqox_assets.synthesis.money import Prices, amount
from cqox_assets.synthesis.policy_groups import fairness_tables, mean_over, segment_table
from cqox_assets.synthesis.policy_tables import Case, curve_table, grid_table, policy_table
from cqox_assets.synthesis.unit_gains import contrasts_of, design_notices, gains_of, refusal_of
from cqox_assets.wording import short, with_unit

NAME = "policy_value"
METHOD = (
    "Units are ranked by predicted benefit per unit of cost (by predicted benefit where costs are equal or unknown), "
    "from models that have not seen their fold, and treated in that order until nobody further is predicted to bring "
    "more than they cost or the budget is spent. Benefits are means of doubly robust scores, not of the predictions "
    "that chose; intervals are 95%. Amounts are for the rows of the contrast in all, counted with sampling weights of "
    "mean one."
)


def policy_value(
    study: Study, estimates: Mapping[str, Outcome], nuisance: Nuisance | Refusal | Failure | None
) -> Findings:
    """Value treating a share of the population, by rank, under a budget and the declared prices.

    Parameters
    ----------
    study : Study
        Money from its declaration (into which the domain profile has gone) and from the role `cost`; direction,
        weights, clusters and subgroups are honoured; several arms are contrasts, each with the whole budget.
    estimates : mapping of str to EffectEstimate, Refusal or Failure
        In the order of the method plan; the first with unit effects ranks the units.
    nuisance : Nuisance, Refusal, Failure or None
        The study's shared models.

    Returns
    -------
    Findings
        Tables `curve`, `grid`, `policies`, `tree_leaves`, `segments`, `fairness`, `fairness_gaps`. Without prices
        benefits are in units of the outcome, and `missing` says which settings would change that.
    """
    refused = refusal_of(study, nuisance)
    if refused is not None or not isinstance(nuisance, Nuisance):
        return not_computed(NAME, *(refused or ("no nuisance models exist", "make them")), study.fingerprint)
    prices = Prices.of(study)
    try:
        cases = [Case.of(gains_of(contrast, estimates, prices), prices) for contrast in contrasts_of(study, nuisance)]
    except CqoxError as error:
        reason, _, remedy = error.message.partition("; ")
        return not_computed(NAME, reason, remedy or "see the data diagnostics", study.fingerprint)
    return _told(study, prices, cases)


def _told(study: Study, prices: Prices, cases: list[Case]) -> Findings:
    tables = {name: _joined([make(case) for case in cases]) for name, make in _single(study).items()}
    for names, make in _double(study):
        found = [make(case) for case in cases]
        tables |= {name: _joined([pair[place] for pair in found]) for place, name in enumerate(names)}
    contrasts = [_contrast(case, tables["policies"]) for case in cases]
    best = max(contrasts, key=lambda item: item["net_benefit"])
    notices = [*prices.missing(), *design_notices(study), *dict.fromkeys(_notices(cases))]
    gaps = tables["fairness_gaps"]
    content = {
        "sentence": " ".join(item["sentence"] for item in contrasts) + _gap_sentence(gaps, prices),
        "kind": prices.kind,
        "unit": prices.benefit_unit,
        "currency": prices.currency or None,
        "value_per_unit": prices.value,
        "cost_per_treatment": prices.cost,
        "budget": prices.budget,
        "best_contrast": best["contrast"] if len(contrasts) > 1 else None,
        "contrasts": [{key: value for key, value in item.items() if key != "sentence"} for item in contrasts],
        "policies": _records(tables["policies"]),
        "segments": _records(tables["segments"]),
        "fairness": _records(tables["fairness"]),
        "fairness_gaps": _records(gaps),
        "tree": _records(tables["tree_leaves"]),
        "missing": list(prices.missing()),
        "method": METHOD,
        "notices": notices,
    }
    return Findings(NAME, "computed", content=content, tables=tables, provenance={"fingerprint": study.fingerprint})


_Pair = tuple[pd.DataFrame, pd.DataFrame]


def _single(study: Study) -> Mapping[str, Callable[[Case], pd.DataFrame]]:
    return {"curve": curve_table, "grid": grid_table, "segments": lambda case: segment_table(case, study)}


def _double(study: Study) -> list[tuple[tuple[str, str], Callable[[Case], _Pair]]]:
    return [
        (("policies", "tree_leaves"), policy_table),
        (("fairness", "fairness_gaps"), lambda case: fairness_tables(case, study)),
    ]


def _contrast(case: Case, policies: pd.DataFrame) -> dict[str, Any]:
    """Return the recommended policy of one contrast, what it brings, and what would have to be true for it to pay."""
    ranking, prices = case.evaluation.ranking, case.prices
    chosen = case.totals(case.evaluation.of(case.chosen))
    own = policies[policies["contrast"] == case.label].set_index("policy")
    effect = _everybody(case)
    cost = None if ranking.cost is None else float((ranking.weight * ranking.cost).mean())
    break_even = prices.sign * cost / prices.value if cost is not None and prices.value else None
    price = ranking.shadow_price(case.chosen) if ranking.cost is not None else None
    row = {
        "contrast": case.label,
        "ranked_by": case.gains.source,
        "coverage": chosen["share"],
        "treated": chosen["treated"],
        "stopped_by": {"best": "benefit", "all": "everybody"}.get(case.chosen.binds, case.chosen.binds),
        "spend": chosen["spend"],
        "net_benefit": chosen["net_benefit"],
        "low": chosen["low"],
        "high": chosen["high"],
        "std_error": chosen["std_error"],
        "per_unit": chosen["per_unit"],
        "shadow_price": price,
        "everybody": own.loc["everybody", "net_benefit"],
        "everybody_low": own.loc["everybody", "low"],
        "everybody_high": own.loc["everybody", "high"],
        "average_effect": effect[0],
        "effect_low": effect[1],
        "effect_high": effect[2],
        "mean_cost": cost,
        "break_even_effect": break_even,
        "break_even_cost": prices.sign * effect[0] * prices.value if prices.value is not None else None,
        "kind": prices.kind,
    }
    row = {key: float(value) if hasattr(value, "dtype") else value for key, value in row.items()}
    return {**row, "sentence": _sentence(case, row)}


def _everybody(case: Case) -> tuple[float, float, float]:
    """Return the average effect of treating everybody, in units of the outcome, with its interval."""
    value, error = mean_over(case, case.gains.score)
    return value, *case.interval(value, error)


def _sentence(case: Case, row: Mapping[str, Any]) -> str:
    prices = case.prices
    if row["coverage"] <= 0:
        reason = "the budget pays for nobody" if row["stopped_by"] == "budget" else "nobody is predicted to gain"
        if row["stopped_by"] != "budget" and prices.kind == "net":
            reason = "nobody is predicted to bring more than they cost"
        text = f"{row['contrast']}: treat nobody, because {reason}"
    else:
        who = (
            "everybody" if row["coverage"] >= 1 - 1e-9 else f"the {row['coverage']:.0%} who are predicted to gain most"
        )
        spend = "" if row["spend"] is None else f" for {amount(row['spend'], prices.currency)}"
        word = {"net": "a net benefit", "gross": "a benefit before costs", "outcome": "a gain"}[prices.kind]
        text = (
            f"{row['contrast']}: treating {who}{spend} brings {word} of {prices.benefit(row['net_benefit'])} "
            f"({prices.benefit(row['low'])} to {prices.benefit(row['high'])})"
        )
    parts = [text]
    if row["stopped_by"] == "budget" and row["shadow_price"]:
        brought = with_unit(row["shadow_price"], prices.benefit_unit)
        parts.append(f"one more {prices.currency or 'unit of money'} of budget would bring {brought}")
    if row["coverage"] < 1 - 1e-9:
        parts.append(f"treating everybody would bring {prices.benefit(row['everybody'])}")
    if row["break_even_effect"] is not None:
        parts.append(
            f"an effect of {short(row['break_even_effect'])} {prices.unit} pays for itself, the average one is "
            f"{short(row['average_effect'])}"
        )
    return "; ".join(parts) + "."


def _gap_sentence(gaps: pd.DataFrame, prices: Prices) -> str:
    """Say the largest gap in the share treated, over contrasts and columns."""
    shares = gaps[gaps["measure"] == "treated share"] if len(gaps) else gaps
    if not len(shares):
        return ""
    row = shares.iloc[int(np.argmax(shares["gap"]))]
    benefit = gaps[(gaps["measure"] == "benefit") & (gaps["by"] == row["by"]) & (gaps["contrast"] == row["contrast"])]
    other = benefit.iloc[0]
    return (
        f" By {row['by']}, the share treated differs by {row['gap']:.0%} between {row['most']} and {row['least']}, the "
        f"benefit per person by {prices.benefit(float(other['gap']))} between {other['most']} and {other['least']}."
    )


def _notices(cases: list[Case]) -> list[str]:
    found = [notice for case in cases for notice in case.gains.notices]
    if len(cases) > 1:
        found.append(
            "each contrast is valued alone, with the whole budget; the budget does not pay for all of them at once"
        )
    for case in cases:
        if case.prices.cost == 0:
            found.append("a treatment costs nothing by study.yaml, so no budget binds and every gain pays")
        if case.prices.value == 0:
            found.append("a unit of the outcome is worth 0 by study.yaml, so no effect can pay for a treatment")
    return found


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values, None where a number does not exist."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]
