"""Numbers and lists in the words that people read; shared by summaries, figures and cards."""

import math
from collections.abc import Sequence

from cqox_assets.declaration import Declaration

_BEFORE = {"$", "US$", "€", "£", "¥", "A$", "C$"}
_SYMBOLS = {"USD": "US$", "EUR": "€", "GBP": "£", "JPY": "¥"}
_MONEY_WORDS = {
    "USD": ("dollar", "$"), "EUR": ("euro", "€"), "GBP": ("pound", "sterling", "£"), "JPY": ("yen", "円", "¥"),
}  # fmt: skip
_BOUNDLESS = 1e300  # JSON holds no infinity, so diagnostics store 1e308
_AFTER = {"円", "%", "％", "元", "원"}


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names as people list them: `a, b and c`; beyond `most`, how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def short(value: float, figures: int = 4) -> str:
    """Return a number with the digits that a sentence can carry: four significant ones, thousands set apart."""
    if value == 0 or not abs(value) < _BOUNDLESS:
        return "0" if value == 0 else ("infinity" if value > 0 else "-infinity")
    size = abs(value)
    if size >= 1e15 or size < 1e-4:
        return f"{value:.3g}"
    digits = max(0, figures - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{min(digits, 7)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def with_unit(value: float, unit: str = "") -> str:
    """Return a number with its unit where people put it: `-US$1,794`, `1,794円`, `3.2 mmHg`."""
    unit = _SYMBOLS.get(unit.upper(), unit).strip()
    if not unit or not math.isfinite(value):
        return short(value)
    if unit in _BEFORE:
        return f"{'-' if value < 0 else ''}{unit}{short(abs(value))}"
    return f"{short(value)}{unit}" if unit in _AFTER else f"{short(value)} {unit}"


_NO_DECIMALS = {"JPY", "KRW", "VND", "CLP", "ISK", "XAF", "XOF", "PYG", "UGX", "円", "¥", "원"}
_WHOLE_FROM = 1000


def money(value: float, currency: str = "") -> str:
    """Return an amount as people write it: `¥1,235`, `-US$12.50`, `€12,346`; no cents of yen, nor of thousands."""
    code = currency.strip().upper()
    whole = code in _NO_DECIMALS or abs(value) >= _WHOLE_FROM
    text = f"{abs(value):,.0f}" if whole else f"{abs(value):,.2f}"
    sign = "-" if value < 0 and any(mark in "123456789" for mark in text) else ""
    unit = _SYMBOLS.get(code, currency.strip())
    if unit in _BEFORE:
        return f"{sign}{unit}{text}"
    return f"{sign}{text}{'' if unit in _AFTER or not unit else ' '}{unit}"


def share(value: float) -> str:
    """Return a share as people write it; near none and near all it keeps the digits that tell it from them."""
    if value in (0, 1) or 0.01 <= value <= 0.99:
        return f"{value:.0%}"
    if 0.001 <= value <= 0.999:
        return f"{value:.1%}"
    return "<0.1%" if value < 0.5 else ">99.9%"


def span(low: float | None, high: float | None, unit: str = "") -> str:
    """Return an interval in words; an end that is None or infinite is open."""
    below = "-∞" if low is None or math.isinf(low) else with_unit(low, unit)
    above = "∞" if high is None or math.isinf(high) else with_unit(high, unit)
    return f"{below} to {above}"


def short_unit(declared: Declaration) -> str:
    """Return a unit that can follow every number: the currency where the outcome is money, or a unit of few letters."""
    money, unit = declared.money, declared.unit_of_outcome or ""
    if money.currency and money.value_per_unit == 1 and (not unit or _names(money.currency, unit)):
        return money.currency
    return unit if len(unit) <= 12 else ""


def _names(currency: str, unit: str) -> bool:
    """Whether a unit of the outcome is a currency, rather than something that is worth one unit of it."""
    code = currency.strip().upper()
    return any(word.casefold() in unit.casefold() for word in (code, currency.strip(), *_MONEY_WORDS.get(code, ())))
