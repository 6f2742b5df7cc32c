"""What treating part of the population is worth, what a budget allows and whom to treat."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.targeting import Judge, Order
from cqox_assets.result import EffectEstimate, Failure, Findings, Nuisance, Outcome, Refusal
from cqox_assets.study import Study
from cqox_assets.synthesis.contrasts import NotComputedError, ScoredContrast, not_computed, scored_contrasts
from cqox_assets.synthesis.policy_trees import tree_rows
from cqox_assets.synthesis.prices import Prices
from cqox_assets.synthesis.segments import fairness, segment_rows
from cqox_assets.wording import money, share, short

LEVEL = 0.95
METHOD = (
    "units are ranked within their fold by predicted gain, per unit of cost where costs differ, from models that never "
    "saw them; the value of treating a share is the mean of doubly robust scores over those treated, so the ranking "
    "does not judge itself; its variance adds to that of the scores once more that of what the ranking adds, because "
    "the folds learn from one another; optimal coverage = share whose predicted gain exceeds its cost, within the "
    "budget; totals are for as many units as the study has rows of the contrast"
)
_STEPS = 20
_STEP = 0.01
_WINDOW = 0.05


def policy_value(
    study: Study,
    nuisance: Nuisance | Refusal | Failure | None = None,
    estimates: Mapping[str, Outcome] | None = None,
    order: tuple[str, ...] = (),
) -> Findings:
    """Value treating a share of the population in order of predicted effect, for every contrast.

    Parameters
    ----------
    study : Study
        Its declaration's `money` (value per outcome unit, cost per treatment, budget, currency) and the role `cost` say
        what an effect is worth; without them the answer is in units of the outcome and names what is missing.
    nuisance : Nuisance, Refusal or Failure, optional
        Shared predictions; doubly robust scores are made of them.
    estimates : mapping of str to EffectEstimate, Refusal or Failure, optional
        The first in `order` that carries cross-fitted `unit_effects` ranks the units; the shared predictions otherwise.
    order : tuple of str
        Estimators in the order of the method plan.

    Returns
    -------
    Findings
        `contrasts` with `treat_all`, `optimal`, `budget`, `break_even`, `fairness` and a sentence. Tables: `curve`,
        `grid` (coverage x budget), `trees`, `tree_leaves`, `segments`, `fairness` and `units`. Where the study does not
        allow it, `status` is `not_computed` with `reason` and `remedy`.
    """
    try:
        contrasts, said = scored_contrasts(study, nuisance)
        if not contrasts:
            raise NotComputedError("the study has one arm; deliver rows of a second arm")
        prices = Prices.of(study)
        found = [_Policy(item, prices, *_unit_effects(item, estimates or {}, order)) for item in contrasts]
    except CqoxError as error:
        return not_computed(error)
    tables: dict[str, pd.DataFrame] = {}
    for name in ("curve", "grid", "trees", "tree_leaves", "segments", "fairness", "units"):
        tables[name] = pd.concat([item.table(name) for item in found], ignore_index=True)
    rows = [item.row for item in found]
    missing = f"Not stated: {', '.join(prices.missing)}." if prices.missing else ""
    content = {
        "status": "computed",
        "sentences": [*(row["sentence"] for row in rows), *([missing] if missing else [])],
        "measure": prices.measure,
        "unit": prices.outcome_unit if prices.measure == "outcome" else prices.currency,
        "level": LEVEL,
        "settings": prices.settings(),
        "missing": list(prices.missing),
        "policies": [found for row in rows for found in _side_by_side(row)],
        "policy_matrix": [{"contrast": item.item.contrast, **row} for item in found for row in item.matrix],
        "rules": [{"contrast": item.item.contrast, **row} for item in found for row in item.rules],
        "contrasts": rows,
        "method": METHOD,
        "notices": [*said, *prices.notices],
    }
    return Findings(content, tables)


def _side_by_side(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return treating everybody and treating the best share as two rows."""
    keys = ("coverage", "treated", "spend", "net_benefit", "low", "high")
    named = (("everybody", row["treat_all"]), ("best share", row["optimal"]))
    return [{"contrast": row["contrast"], "policy": name, **{key: found[key] for key in keys}} for name, found in named]


def _unit_effects(
    item: ScoredContrast, estimates: Mapping[str, Outcome], order: tuple[str, ...]
) -> tuple[np.ndarray, str]:
    """Return predicted effects that did not see their own row, shape (n,), and where they come from."""
    ranked = {name: place for place, name in enumerate(order)}
    for name in sorted(estimates, key=lambda name: (ranked.get(name, len(ranked)), name)):
        answer = estimates[name]
        if not isinstance(answer, EffectEstimate) or "unit_effects" not in answer.tables:
            continue
        if answer.provenance.get("params", {}).get("cross_fit") is False:
            continue
        units = answer.tables["unit_effects"]
        if "arm" in units.columns:
            units = units[units["arm"] == item.arm]
        # Only those with a score beside each effect are predicted out of fold.
        if "score" in units.columns and len(units) == len(item.study):
            return units["effect"].to_numpy(dtype=float), name
    held = item.held
    return (held["best_compared"] - held["best_reference"]).to_numpy(), "nuisance_models"


class _Policy:
    """One contrast: the order, what judges it, and the rows of every table."""

    def __init__(self, item: ScoredContrast, prices: Prices, effect: np.ndarray, source: str) -> None:
        self.item, self.prices, self.effect = item, prices, effect
        self.size, data = len(item.study), item.data
        self.cost, self.cost_score = prices.unit_costs(item)
        counted = prices.measure == "net_benefit"
        gain = prices.scale * effect
        # Without a value, gains and costs cannot be compared, but a budget still asks for the most gain per cost.
        priced = counted or prices.budget is not None
        self.ranking = Order(gain, self.cost if priced else np.zeros(self.size), data.sampling, item.fold)
        self.net = prices.scale * item.scores - (self.cost_score if counted else 0.0)
        self.judge = Judge(data.sampling, data.cluster)
        self.affordable = 1.0 if prices.budget is None else self.ranking.affordable(prices.budget / self.size)
        self.best = self.ranking.worthwhile() if counted else float(np.average(gain > 0, weights=data.sampling))
        self.coverage = min(self.best, self.affordable)
        self.row = self._row(source)

    def treat(self, share: float) -> dict[str, Any]:
        """Return what treating a share brings: totals for the population, with an interval."""
        treated = self.ranking.treated(share)
        value, error = self.judge.policy(self.net, treated, share)
        half = self.judge.reach(LEVEL) * error
        spend = self.judge.mean(treated * self.cost_score)[0] if self.prices.costs_known else None
        return {
            "coverage": share,
            "treated": share * self.size,
            "spend": None if spend is None else spend * self.size,
            "net_benefit": value * self.size,
            "low": (value - half) * self.size,
            "high": (value + half) * self.size,
            "std_error": error * self.size,
            "predicted": self.ranking.net(share) * self.size if self.prices.measure == "net_benefit" else None,
        }

    def _row(self, source: str) -> dict[str, Any]:
        everybody, best = self.treat(1.0), self.treat(self.coverage)
        row = {
            "arm": self.item.arm,
            "contrast": self.item.contrast,
            "rows": self.size,
            "effects_from": source,
            "treat_all": everybody,
            "optimal": best,
            "budget": self._budget(),
            "break_even": self._break_even(),
            "fairness": fairness(self.item, self.judge, self.ranking.treated(self.coverage), self.net)[0],
        }
        return row | {"sentence": self._sentence(row)}

    def _budget(self) -> dict[str, Any] | None:
        """Return what the budget allows and what one more unit of money would bring; None without a budget."""
        amount = self.prices.budget
        if amount is None:
            return None
        order, binding = self.ranking, self.affordable < self.best
        row: dict[str, Any] = {"amount": amount, "affordable_coverage": self.affordable}
        row |= {"coverage_without_budget": self.best, "binding": binding}
        row |= {"shadow_price": 0.0, "shadow_price_estimate": None, "low": None, "high": None}
        if not binding:
            return row
        step = _STEP * order.spend(1.0)
        row["shadow_price"] = (
            order.shadow_price(amount / self.size, step) if self.prices.measure == "net_benefit" else None
        )
        ends = max(self.affordable - _WINDOW, 0.0), min(self.affordable + _WINDOW, 1.0)
        extra = order.treated(ends[1]) - order.treated(ends[0])
        found = self.judge.ratio(extra * self.net, extra * self.cost_score)
        if found is not None:
            half = self.judge.reach(LEVEL) * found[1]
            row |= {"shadow_price_estimate": found[0], "low": found[0] - half, "high": found[0] + half}
        return row

    def _break_even(self) -> dict[str, Any]:
        """Return the effect, value and cost at which treating everybody neither gains nor loses."""
        prices, judge = self.prices, self.judge
        effect, error = judge.mean(prices.sign * self.item.scores)
        half = judge.reach(LEVEL) * error
        row: dict[str, Any] = {"benefit": effect, "low": effect - half, "high": effect + half}
        row |= {"effect": None, "value_per_unit": None, "cost_per_treatment": None, "pays": None, "share_above": None}
        cost = judge.mean(self.cost_score)[0] if prices.costs_known else None
        row["mean_cost"] = cost
        if cost is not None and effect > 0:
            row["value_per_unit"] = cost / effect
        if prices.value is not None and effect > 0:
            row["cost_per_treatment"] = effect * prices.value
        if cost is not None and prices.value is not None:
            needed = cost / prices.value
            row |= {"effect": prices.sign * needed, "share_above": self.best}
            row["pays"] = "yes" if effect - half > needed else "no" if effect + half < needed else "undecided"
        return row

    def _sentence(self, row: Mapping[str, Any]) -> str:
        prices, best, everybody = self.prices, row["optimal"], row["treat_all"]
        what = {"net_benefit": "net benefit", "gross_benefit": "benefit before costs"}.get(prices.measure, "total gain")
        whole = self._everybody(everybody)
        text = (
            f"{row['contrast']}: treating the {share(best['coverage'])} of {self.size:,} units with the highest "
            f"predicted gain brings a {what} of {prices.amount(best['net_benefit'])} "
            f"({prices.between(best['low'], best['high'])}); {whole}."
        )
        if self.best == 0:
            text = f"{row['contrast']}: no unit is predicted to gain from treatment; {whole}."
        elif self.affordable == 0:
            text = f"{row['contrast']}: the budget of {money(prices.budget or 0.0, prices.currency)} pays for nobody."
        even = row["break_even"]
        if even["effect"] is not None:
            pays = {
                "yes": "which the average exceeds",
                "no": "which the average misses",
                "undecided": "within its interval",
            }
            text += f" A treatment pays from an effect of {prices.effect(even['effect'])} on, {pays[even['pays']]}."
        budget = row["budget"]
        if budget is not None and budget["binding"]:
            price = budget["shadow_price"]
            text += f" The budget stops at {share(budget['affordable_coverage'])}."
            text += f" One more unit of money would bring {short(price, 3)} net." if price is not None else ""
        return text

    def _everybody(self, found: Mapping[str, Any]) -> str:
        """Say what treating everybody brings, or that the budget does not cover it."""
        prices = self.prices
        if prices.budget is not None and self.affordable < 1:
            return f"the budget of {money(prices.budget, prices.currency)} does not cover treating everybody"
        return (
            f"treating everybody brings {prices.amount(found['net_benefit'])} "
            f"({prices.between(found['low'], found['high'])})"
        )

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the tables, with the compared arm in front."""
        rows = getattr(self, f"_{name}")()
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        frame.insert(0, "arm", self.item.arm)
        return frame

    def _curve(self) -> list[dict[str, Any]]:
        return [{"share": part, **self.treat(float(part))} for part in np.arange(101) / 100]

    def _grid(self) -> list[dict[str, Any]]:
        """Return the value of treating a share within a budget, for 21 shares and 21 budgets and the declared one."""
        if self.prices.measure != "net_benefit":
            return []
        most = self.ranking.spend(1.0) * self.size
        if not most > 0:
            return []
        declared = [] if self.prices.budget is None else [self.prices.budget]
        budgets = sorted({*(most * np.arange(_STEPS + 1) / _STEPS).tolist(), *declared})
        found: dict[float, dict[str, Any]] = {}
        rows = []
        for budget in budgets:
            reach = self.ranking.affordable(budget / self.size)
            for coverage in (np.arange(_STEPS + 1) / _STEPS).tolist():
                share = min(coverage, reach)
                if share not in found:
                    found[share] = self.treat(share)
                row = found[share]
                rows.append(
                    {"coverage": coverage, "budget": budget, "net_benefit": row["net_benefit"], "low": row["low"],
                     "high": row["high"], "reached": share, "spend": row["spend"], "binding": reach < coverage,
                     "declared": budget in declared}
                )  # fmt: skip
        return rows

    def _trees(self) -> pd.DataFrame:
        return self._grown[0]

    def _tree_leaves(self) -> pd.DataFrame:
        return self._grown[1]

    @cached_property
    def _grown(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return tree_rows(self.item, self.net, self.judge, LEVEL)

    @property
    def rules(self) -> list[dict[str, Any]]:
        """Return the trees with their leaves that treat, in words; values are for the rows that did not choose them."""
        leaves = self._grown[1]
        return [
            {**row, "treat_where": leaves.loc[(leaves["depth"] == row["depth"]) & leaves["treat"], "where"].tolist()}
            for row in ({str(key): value for key, value in row.items()} for row in self._grown[0].to_dict("records"))
        ]

    def _segments(self) -> list[dict[str, Any]]:
        return self.matrix

    @cached_property
    def matrix(self) -> list[dict[str, Any]]:
        """Return the policy matrix."""
        return segment_rows(self.item, self.prices.sign * self.effect, (self.item.scores, self.net), self.judge, LEVEL)

    def _fairness(self) -> list[dict[str, Any]]:
        return fairness(self.item, self.judge, self.ranking.treated(self.coverage), self.net)[1]

    def _units(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "row": self.item.rows,
                "effect": self.effect,
                "cost": self.cost if self.prices.costs_known else np.nan,
                "treat": self.ranking.treated(self.coverage),
            }
        )
