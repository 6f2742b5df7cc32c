"""Numbers in words."""

import math

import pytest

from cqox_assets.declaration import Declaration, Money
from cqox_assets.wording import share, short, short_unit, with_unit


@pytest.mark.parametrize("value", [math.inf, 1e308])
def test_what_has_no_bound_is_said_in_words(value):
    assert short(value) == "infinity"
    assert short(-value) == "-infinity"


def test_large_numbers_stay_numbers():
    assert short(2.5e20) == "2.5e+20"
    assert with_unit(-1794.3, "USD") == "-US$1,794"


@pytest.mark.parametrize(
    ("unit", "currency", "shown"),
    [
        ("US dollars of 1978 earnings", "USD", "USD"),
        ("EUR per loan over 24 months", "EUR", "EUR"),
        ("円", "JPY", "JPY"),
        (None, "EUR", "EUR"),
        ("visits per customer", "USD", ""),  # worth a dollar each, and still no dollars
        ("visits", "USD", "visits"),
    ],
)
def test_an_outcome_is_money_only_where_its_unit_is(unit, currency, shown):
    declared = Declaration(unit_of_outcome=unit, money=Money(value_per_unit=1.0, currency=currency))
    assert short_unit(declared) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0%"), (1, "100%"), (0.334, "33%"), (0.9985, "99.9%"), (0.0014, "0.1%"), (0.99999, ">99.9%"), (4e-5, "<0.1%")],
)
def test_a_share_near_the_ends_keeps_its_digits(value, text):
    assert share(value) == text
