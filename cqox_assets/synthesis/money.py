"""Money as a study states it: what a unit of the outcome is worth, what a treatment costs, and how amounts are read."""

import math
from dataclasses import dataclass

from cqox_assets.study import Role, Study

# Codes whose smallest unit is not a hundredth (ISO 4217).
_DECIMALS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0, "UGX": 0, "XAF": 0, "XOF": 0, "XPF": 0, "PYG": 0,
             "RWF": 0, "KWD": 3, "BHD": 3, "OMR": 3, "JOD": 3, "TND": 3, "IQD": 3}  # fmt: skip
_CODES = {"$": "USD", "US$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "￥": "JPY", "円": "JPY", "YEN": "JPY",
          "A$": "AUD", "C$": "CAD", "元": "CNY", "원": "KRW", "₩": "KRW"}  # fmt: skip
_SYMBOLS = {"USD": "US$", "EUR": "€", "GBP": "£", "JPY": "¥", "KRW": "₩"}

_WHOLE = 10_000


def currency_code(text: str | None) -> str:
    """Return the code of a currency, from its code or symbol in any writing; empty where none is stated."""
    plain = (text or "").strip().upper()
    return _CODES.get(plain, plain)


def amount(value: float, currency: str) -> str:
    """Return an amount as the currency is written: `¥1,794`, `-€1,234.50`, `CHF 12.00`; from 10,000 on without cents.

    Parameters
    ----------
    value : float
    currency : str
        From :func:`currency_code`; empty is a bare number with two decimals.
    """
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    digits = _DECIMALS.get(currency, 2) if abs(value) < _WHOLE else 0
    rounded = round(value, digits)
    sign, body = "-" if rounded < 0 else "", f"{abs(rounded):,.{digits}f}"
    symbol = _SYMBOLS.get(currency)
    if symbol is not None:
        return f"{sign}{symbol}{body}"
    return f"{currency} {sign}{body}" if currency else f"{sign}{body}"


@dataclass(frozen=True)
class Prices:
    """What a study says about money.

    Parameters
    ----------
    value : float or None
        What one unit of the outcome in the good direction is worth, at least 0; None where nobody said so.
    cost : float or None
        What one treatment costs more than the reference; None where it is not stated or `cost_columns` say it.
    cost_columns : tuple of str
        Columns that hold what was spent on each row.
    budget : float or None
        What may be spent on the study's rows in all.
    currency : str
        Its code; may be empty.
    sign : float
        1, or -1 where a lower outcome is better.
    unit : str
        Unit of the outcome in words.
    """

    value: float | None
    cost: float | None
    cost_columns: tuple[str, ...]
    budget: float | None
    currency: str
    sign: float
    unit: str

    @classmethod
    def of(cls, study: Study) -> "Prices":
        """Read the declaration, into which the domain profile has put what it says of money."""
        declared, columns = study.declaration, study.names(Role.COST)
        money = declared.money
        return cls(
            value=None if money.value_per_unit is None else abs(float(money.value_per_unit)),
            cost=None if columns else money.cost_per_treatment,
            cost_columns=columns,
            budget=money.budget,
            currency=currency_code(money.currency),
            sign=-1.0 if declared.direction == "lower_is_better" else 1.0,
            unit=declared.unit_of_outcome or "units of the outcome",
        )

    @property
    def costs_known(self) -> bool:
        """Whether something says what a treatment costs."""
        return self.cost is not None or bool(self.cost_columns)

    @property
    def kind(self) -> str:
        """What a net benefit is: `net` (money less costs), `gross` (money, costs unknown) or `outcome` (no value)."""
        if self.value is None:
            return "outcome"
        return "net" if self.costs_known else "gross"

    @property
    def benefit_unit(self) -> str:
        """Unit of a benefit."""
        return self.unit if self.value is None else (self.currency or "money")

    def benefit(self, value: float) -> str:
        """Return a benefit in words: an amount of money, or a number of outcome units."""
        if self.value is not None:
            return amount(value, self.currency)
        from cqox_assets.wording import short

        return f"{short(value)} {self.unit}"

    def missing(self) -> tuple[str, ...]:
        """Return a sentence for each setting that is not there, with what it would add."""
        said = []
        if self.value is None:
            said.append(
                "money: value_per_unit is not set in study.yaml or the domain profile, so benefits are in "
                f"{self.unit} and not in money"
            )
        if not self.costs_known:
            said.append(
                "money: cost_per_treatment is not set and no column plays the role 'cost', so "
                + ("benefits are before costs" if self.value is not None else "nothing is said of spending")
                + ", and there is no break-even effect"
            )
        elif self.budget is None:
            said.append("money: budget is not set, so nothing limits how many are treated")
        if not self.currency and (self.value is not None or self.costs_known):
            said.append("money: currency is not set, so amounts have no currency")
        return tuple(said)
