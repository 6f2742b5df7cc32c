"""What an effect is worth and what a treatment costs, as far as the study says so; nothing is assumed in its place."""

from dataclasses import dataclass

import numpy as np

from cqox_assets.nuisance.models import importance
from cqox_assets.numerics.systems import potential_means
from cqox_assets.study import Role, Study
from cqox_assets.synthesis.contrasts import ScoredContrast
from cqox_assets.wording import money, short, with_unit


@dataclass(frozen=True)
class Prices:
    """The money settings of a study.

    Parameters
    ----------
    sign : float
        1 where a higher outcome is better, -1 where a lower one is.
    value : float, optional
        Worth of one unit of the outcome, positive.
    cost : float, optional
        Declared cost of treating one unit.
    columns : tuple of str
        Columns of role `cost`, which say what was spent on each row; they beat the declared cost.
    budget : float, optional
    currency : str
    outcome_unit : str
    missing, notices : tuple of str
        Settings that would say more; what was assumed or left out.
    """

    sign: float
    value: float | None
    cost: float | None
    columns: tuple[str, ...]
    budget: float | None
    currency: str
    outcome_unit: str
    missing: tuple[str, ...]
    notices: tuple[str, ...]

    @classmethod
    def of(cls, study: Study) -> "Prices":
        """Read the settings of a study: its declaration, which the domain profile has filled, and the role `cost`."""
        declared, stated = study.declaration, study.declaration.money
        columns, notices = study.names(Role.COST), []
        if columns and not np.isfinite(study.matrix(Role.COST)).all():
            notices.append(f"cost column '{', '.join(columns)}' has missing values and is left out; fill or unmap it")
            columns = ()
        value = None if stated.value_per_unit is None else abs(stated.value_per_unit)
        if value == 0:
            notices.append("the declared value of one unit of the outcome is 0, so no effect is worth anything")
            value = None
        if stated.value_per_unit is not None and stated.value_per_unit < 0:
            notices.append(
                "the declared value of one unit of the outcome is negative: its size is what a unit is worth, and the "
                "declared direction says which way is better"
            )
        known = stated.cost_per_treatment is not None or bool(columns)
        missing = [
            name
            for name, lacks in (
                ("money: value_per_unit", value is None),
                ("money: cost_per_treatment (or the role cost)", not known),
                ("money: currency", value is not None and not stated.currency),
            )
            if lacks
        ]
        if declared.direction is None:
            notices.append("no direction was declared; a higher outcome is taken to be better")
        if stated.budget is not None and not known:
            notices.append("a budget is declared but no cost of a treatment, so the budget cannot be used")
        return cls(
            -1.0 if declared.direction == "lower_is_better" else 1.0, value, stated.cost_per_treatment, tuple(columns),
            stated.budget if known else None, stated.currency or "", declared.unit_of_outcome or "", tuple(missing),
            tuple(notices),
        )  # fmt: skip

    @property
    def measure(self) -> str:
        """`net_benefit` (money less costs), `gross_benefit` (costs unknown) or `outcome` (value unknown)."""
        if self.value is None:
            return "outcome"
        return "net_benefit" if self.costs_known else "gross_benefit"

    @property
    def costs_known(self) -> bool:
        """Whether the cost of a treatment is declared or mapped."""
        return self.cost is not None or bool(self.columns)

    @property
    def scale(self) -> float:
        """What turns an effect into a benefit: the value with the sign of the good direction; just that without one."""
        return self.sign * (1.0 if self.value is None else self.value)

    def unit_costs(self, item: ScoredContrast) -> tuple[np.ndarray, np.ndarray]:
        """Return what treating each unit costs: predicted, and as a doubly robust score, shape (n,) each.

        The role `cost` holds what was spent on a row, whatever its arm: the cost of a treatment is how much more that
        is with it. Both are 0 where no cost is known.
        """
        n = len(item.study)
        if self.columns:
            data, spent = item.data, item.study.matrix(Role.COST).sum(axis=1)
            score = importance(data.x, spent, data.d)
            _, c0, c1 = next(iter(potential_means(data.folded(item.fold), spent, data.d, score)))
            return c1 - c0, item.scores_with(c0, c1, spent)
        constant = np.full(n, self.cost or 0.0)
        return constant, constant

    def amount(self, value: float) -> str:
        """Return a benefit in words: money, or units of the outcome."""
        if self.measure == "outcome":
            return with_unit(value, self.outcome_unit if len(self.outcome_unit) <= 12 else "")
        return money(value, self.currency)

    def between(self, low: float, high: float) -> str:
        """Return an interval of benefits in words."""
        return f"{self.amount(low)} to {self.amount(high)}"

    def settings(self) -> dict[str, object]:
        """Return the settings that were used."""
        return {
            "value_per_unit": self.value,
            "cost_per_treatment": None if self.columns else self.cost,
            "cost_column": ", ".join(self.columns) or None,
            "budget": self.budget,
            "currency": self.currency or None,
        }

    def effect(self, value: float) -> str:
        """Return an effect in units of the outcome."""
        return with_unit(value, self.outcome_unit) if len(self.outcome_unit) <= 12 else short(value)
